/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The strip of an image as a drawing: a rectangle for each stretch of one kind, its letters in it, marks
 * where findings are, and all of it in words for those who do not see it.
 */
#include <inttypes.h>
#include <string.h>

#include "report/html.h"
#include "report/strip.h"

enum { WIDTH = 768, CELL_MAX = 32, MARKS = 9, HEIGHT = 24 };

/* Letters that have a colour in common; page.css has it by the name. */
static const struct {
    const char *letters, *class;
} groups[] = {
    {"H",      "head"  },
    {"12",     "map"   },
    {"Rr",     "count" },
    {"SsBbdE", "extra" },
    {"#",      "data"  },
    {"c",      "packed"},
    {".",      "leaked"},
    {"_-",     "free"  },
    {"!",      "shared"},
};

static const char *class_of(char letter)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(groups); i++)
        if (strchr(groups[i].letters, letter))
            return groups[i].class;
    return "free";
}

struct strip {
    const char *letters; /* as it was kept: a stranger's, but all of them have a meaning */
    size_t n, cell;      /* cells, and how wide each is */
    bool is_marked[VD_STRIP_KEPT];
};

/* false: there is none, or one that no vdcheck wrote. */
static bool read_strip(struct strip *strip, const char *letters)
{
    *strip = (struct strip){.letters = letters, .n = letters ? strlen(letters) : 0};
    if (!strip->n || strip->n > VD_STRIP_KEPT)
        return false;
    strip->cell = vd_min(CELL_MAX, WIDTH / strip->n);
    for (size_t i = 0; i < strip->n; i++)
        if (!vd_strip_meaning(letters[i]))
            return false;
    return true;
}

static int mark(struct strip *strip, const struct vd_farm_result *r, const char *places, struct vd_err *err)
{
    int64_t size = r->numbers[VD_FARM_FILE_SIZE];
    json_t *list, *offset;

    if (vd_farm_json(places, &list, err) < 0)
        return -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        offset = json_object_get(json_array_get(list, i), "host_offset");
        if (json_is_integer(offset) && json_integer_value(offset) >= 0 && json_integer_value(offset) < size)
            strip->is_marked[(size_t)((unsigned __int128)json_integer_value(offset) * strip->n /
                                      (uint64_t)size)] = true;
    }
    json_decref(list);
    return 0;
}

static int mark_all(struct strip *strip, const struct vd_farm_result *r, struct vd_err *err)
{
    for (size_t i = 0; i < r->findings.n; i++)
        if (strcmp(r->findings.v[i].severity, "warning") != 0 &&
            mark(strip, r, r->findings.v[i].places, err) < 0)
            return -1;
    return 0;
}

static size_t count_of(const struct strip *strip, char letter)
{
    size_t n = 0;

    for (size_t i = 0; i < strip->n; i++)
        n += strip->letters[i] == letter;
    return n;
}

static bool is_first_of_its_kind(const struct strip *strip, size_t i)
{
    return !memchr(strip->letters, strip->letters[i], i);
}

/* ---- in words */

static void say_in_words(FILE *f, const struct strip *strip, const struct vd_farm_result *r)
{
    char size[VD_TEXT_SIZE_MAX];
    const char *between = ": ";

    fprintf(f, "The file in %zu part%s", strip->n, strip->n == 1 ? "" : "s");
    if (r->numbers[VD_FARM_FILE_SIZE] > 0)
        fprintf(f, " of about %s", vd_text_size(size, (uint64_t)r->numbers[VD_FARM_FILE_SIZE] / strip->n));
    for (size_t i = 0; i < strip->n; i++) {
        if (!is_first_of_its_kind(strip, i))
            continue;
        fprintf(f, "%s%s %zu", between, vd_strip_meaning(strip->letters[i]),
                count_of(strip, strip->letters[i]));
        between = ", ";
    }
    between = "; findings in part ";
    for (size_t i = 0; i < strip->n; i++) {
        if (!strip->is_marked[i])
            continue;
        fprintf(f, "%s%zu", between, i + 1);
        between = ", ";
    }
    fputs(".", f);
}

/* ---- as a drawing */

static void draw_stretches(FILE *f, const struct strip *strip)
{
    for (size_t i = 0, end; i < strip->n; i = end) {
        for (end = i + 1; end < strip->n && strip->letters[end] == strip->letters[i];)
            end++;
        fprintf(f, "<rect class=\"k-%s\" x=\"%zu\" y=\"%d\" width=\"%zu\" height=\"%d\"/>",
                class_of(strip->letters[i]), i * strip->cell, MARKS, (end - i) * strip->cell, HEIGHT);
    }
}

static void draw_letters(FILE *f, const struct strip *strip)
{
    fprintf(f, "<text y=\"%d\" x=\"", MARKS + HEIGHT - 8);
    for (size_t i = 0; i < strip->n; i++)
        fprintf(f, "%s%zu", i ? " " : "", i * strip->cell + strip->cell / 2);
    fputs("\">", f);
    vd_html_own(f, strip->letters);
    fputs("</text>", f);
}

static void draw_marks(FILE *f, const struct strip *strip)
{
    fputs("<path class=\"mark\" d=\"", f);
    for (size_t i = 0; i < strip->n; i++)
        if (strip->is_marked[i])
            fprintf(f, "M%zu 0h8l-4 7z", i * strip->cell + strip->cell / 2 - 4);
    fputs("\"/>", f);
}

static void say_legend(FILE *f, const struct strip *strip)
{
    fputs("<figcaption>", f);
    for (size_t i = 0; i < strip->n; i++) {
        if (!is_first_of_its_kind(strip, i))
            continue;
        fprintf(f, "<span class=\"key\"><span class=\"k k-%s\">", class_of(strip->letters[i]));
        vd_html_own(f, (char[]){strip->letters[i], '\0'});
        fprintf(f, "</span> %s</span> ", vd_strip_meaning(strip->letters[i]));
    }
    if (memchr(strip->is_marked, true, strip->n))
        fputs("<span class=\"key\"><span class=\"mark\">\xe2\x96\xbc</span> a finding</span>", f);
    fputs("</figcaption>", f);
}

int vd_html_strip(FILE *f, const struct vd_farm_result *r, size_t number, struct vd_err *err)
{
    struct strip strip;

    if (!read_strip(&strip, r->strip)) {
        fputs("<p class=\"quiet\">There is no strip: no walk through the file was possible, or an older "
              "vdcheck checked it.</p>\n",
              f);
        return 0;
    }
    if (mark_all(&strip, r, err) < 0)
        return -1;
    fprintf(f,
            "<figure class=\"strip\"><svg role=\"img\" aria-labelledby=\"s%zu\" width=\"%zu\" height=\"%d\" "
            "viewBox=\"0 0 %zu %d\"><title id=\"s%zu\">",
            number, strip.n * strip.cell, MARKS + HEIGHT, strip.n * strip.cell, MARKS + HEIGHT, number);
    say_in_words(f, &strip, r);
    fputs("</title>", f);
    draw_stretches(f, &strip);
    draw_letters(f, &strip);
    draw_marks(f, &strip);
    fputs("</svg>", f);
    if (r->numbers[VD_FARM_ERRORS] > 0)
        fputs("<p class=\"quiet\">Something could not be read: what looks leaked or unused may be used.</p>",
              f);
    say_legend(f, &strip);
    fputs("</figure>\n", f);
    return 0;
}
