/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/html-finding.h"

#include <inttypes.h>
#include <string.h>

#include "formats/registry.h"
#include "report/explain.h"
#include "report/html.h"

enum { PLACES_SHOWN = 12, RANGES_SHOWN = 12 };

/* A number of a place; -1 where it has none. */
static int64_t number_of(const json_t *place, const char *key)
{
    const json_t *value = json_object_get(place, key);

    return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value) : -1;
}

/* ---- places */

/* Offset and length as one text: "0x10000 to 0x1ffff (64 KiB)". */
static void say_range(FILE *f, int64_t offset, int64_t bytes)
{
    char size[VD_TEXT_SIZE_MAX];

    if (bytes > 0 && bytes <= INT64_MAX - offset)
        fprintf(f, "0x%" PRIx64 " to 0x%" PRIx64 " <span class=\"quiet\">%s</span>", offset,
                offset + bytes - 1, vd_text_size(size, (uint64_t)bytes));
    else
        fprintf(f, "0x%" PRIx64, offset);
}

static bool say_where(FILE *f, const json_t *place)
{
    const char *tree = json_string_value(json_object_get(place, "tree"));
    const char *where = json_string_value(json_object_get(place, "where"));

    if (!f)
        return tree || where;
    if (tree) {
        vd_html_text(f, tree);
        fputs(where ? ": " : "", f);
    }
    if (where)
        vd_html_text(f, where);
    return true;
}

static bool say_span(FILE *f, const json_t *place, const char *offset, const char *bytes)
{
    int64_t at = number_of(place, offset);

    if (f && at >= 0)
        say_range(f, at, number_of(place, bytes));
    return at >= 0;
}

static bool say_host(FILE *f, const json_t *place)
{
    return say_span(f, place, "host_offset", "host_bytes");
}

static bool say_guest(FILE *f, const json_t *place)
{
    return say_span(f, place, "guest_offset", "guest_bytes");
}

static bool say_other_guest(FILE *f, const json_t *place)
{
    return say_span(f, place, "other_guest_offset", "guest_bytes");
}

static bool say_other_host(FILE *f, const json_t *place)
{
    return say_span(f, place, "other_host_offset", "");
}

static bool say_word(FILE *f, const json_t *place, const char *key)
{
    const char *text = json_string_value(json_object_get(place, key));

    if (f && text)
        vd_html_text(f, text);
    return text;
}

static bool say_found(FILE *f, const json_t *place)
{
    return say_word(f, place, "found");
}

static bool say_expected(FILE *f, const json_t *place)
{
    return say_word(f, place, "expected");
}

/* A column is there where one of the places has something to say in it; without a file it only tells. */
static const struct {
    const char *head;
    bool (*say)(FILE *f, const json_t *place);
} columns[] = {
    {"Where",             say_where      },
    {"In the file at",    say_host       },
    {"Found",             say_found      },
    {"Expected",          say_expected   },
    {"Guest data",        say_guest      },
    {"Shared with guest", say_other_guest},
    {"Shared with file",  say_other_host },
};

enum { COLUMNS = VD_ARRAY_SIZE(columns) };

static bool has_column(const json_t *places, size_t n, size_t column)
{
    for (size_t i = 0; i < n; i++)
        if (columns[column].say(NULL, json_array_get(places, i)))
            return true;
    return false;
}

static void say_place(FILE *f, const json_t *place, const bool *has)
{
    fputs("<tr>", f);
    for (size_t c = 0; c < COLUMNS; c++) {
        if (!has[c])
            continue;
        fputs("<td>", f);
        columns[c].say(f, place);
        fputs("</td>", f);
    }
    fputs("</tr>\n", f);
}

static void say_places(FILE *f, const json_t *places)
{
    size_t all = json_array_size(places), n = all < PLACES_SHOWN ? all : PLACES_SHOWN;
    bool has[COLUMNS], some = false;

    for (size_t c = 0; c < COLUMNS; c++) {
        has[c] = has_column(places, n, c);
        some |= has[c];
    }
    /* What concerns the whole file has no place to tell. */
    if (some) {
        fputs("<div class=\"wide\"><table class=\"places\"><thead><tr>", f);
        for (size_t c = 0; c < COLUMNS; c++)
            if (has[c])
                fprintf(f, "<th scope=\"col\">%s</th>", columns[c].head);
        fputs("</tr></thead>\n<tbody>\n", f);
        for (size_t i = 0; i < n; i++)
            say_place(f, json_array_get(places, i), has);
        fputs("</tbody></table></div>\n", f);
    }
    if (some && n < all)
        fprintf(f, "<p class=\"quiet\">%zu places are shown of the first %zu, which the database has.</p>\n",
                n, all);
}

/* ---- the catalogue */

static void say_explanation(void *opaque, enum vd_explain_part part, const char *label, const char *text)
{
    FILE *f = opaque;

    /* Of these the finding itself has told its own. */
    if (part < VD_EXPLAIN_MEANING)
        return;
    fputs("<p class=\"why\">", f);
    if (label)
        fprintf(f, "<b>%s:</b> ", label);
    vd_html_own(f, text);
    fputs("</p>\n", f);
}

/* A word from outside as a class: only if it is one of ours. */
static const char *class_of(const char *severity)
{
    for (int s = VD_CORRUPTION; s <= VD_ERROR; s++)
        if (strcmp(severity, vd_severity_name((enum vd_severity)s)) == 0)
            return vd_severity_name((enum vd_severity)s);
    return "warning";
}

static void say_level(FILE *f, const struct vd_farm_finding *finding, bool is_fixed)
{
    if (!is_fixed && strcmp(finding->level, "none") == 0) {
        fputs(", not repaired at any level", f);
        return;
    }
    fputs(is_fixed ? ", a repair of level " : ", repaired at level ", f);
    vd_html_text(f, finding->level);
}

static void say_head(FILE *f, const struct vd_farm_finding *finding, const struct vd_finding_kind *row,
                     bool is_fixed)
{
    char size[VD_TEXT_SIZE_MAX];

    fprintf(f, "<h4><span class=\"word %s%s\">", is_fixed ? "repaired" : "v-",
            is_fixed ? "" : class_of(finding->severity));
    vd_html_text(f, is_fixed ? "repaired" : finding->severity);
    fputs("</span> ", f);
    vd_html_own(f, row ? row->message : "a finding that this vdcheck does not know");
    fputs("</h4>\n<p class=\"facts\"><code>", f);
    vd_html_text(f, finding->id);
    fputs("</code>, ", f);
    if (finding->count > 1)
        vd_html_count(f, (uint64_t)finding->count, "time", "times");
    else
        fputs("once", f);
    if (finding->bytes > 0)
        fprintf(f, ", %s", vd_text_size(size, (uint64_t)finding->bytes));
    say_level(f, finding, is_fixed);
    fputs(".</p>\n", f);
}

static void say(FILE *f, const struct vd_farm_finding *finding, const json_t *places, bool is_fixed)
{
    const struct vd_finding_kind *row = vd_finding_by_id(finding->id);

    fputs("<section class=\"finding\">", f);
    say_head(f, finding, row, is_fixed);
    if (finding->note) {
        fputs("<p>", f);
        vd_html_text(f, finding->note);
        fputs("</p>\n", f);
    }
    say_places(f, places);
    if (row)
        vd_explain(row, say_explanation, f);
    fputs("</section>\n", f);
}

int vd_html_finding(FILE *f, const struct vd_farm_finding *finding, struct vd_err *err)
{
    json_t *places;

    if (vd_farm_json(finding->places, &places, err) < 0)
        return -1;
    say(f, finding, places, false);
    json_decref(places);
    return 0;
}

/* Whatever a database holds there, it is a text. */
static char *word_of(const json_t *object, const char *key)
{
    const char *word = json_string_value(json_object_get(object, key));

    return (char *)(word ? word : "unknown");
}

void vd_html_fixed(FILE *f, const json_t *fixed)
{
    const struct vd_farm_finding finding = {
        .id = word_of(fixed, "id"),
        .severity = word_of(fixed, "severity"),
        .level = word_of(fixed, "level"),
        .note = (char *)json_string_value(json_object_get(fixed, "note")),
        .count = number_of(fixed, "count"),
    };

    say(f, &finding, json_object_get(fixed, "places"), true);
}

/* ---- guest data at risk */

struct range {
    int64_t from, to; /* to: behind it; equal where the length is not known */
};

VD_VEC(range_vec, struct range)

static int by_offset(const void *pa, const void *pb)
{
    const struct range *a = pa, *b = pb;

    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    return a->to < b->to ? -1 : a->to > b->to;
}

static int add_range(struct range_vec *ranges, const json_t *place, const char *key)
{
    int64_t from = number_of(place, key), bytes = number_of(place, "guest_bytes");

    if (from < 0)
        return 0;
    return range_vec_push(ranges,
                          (struct range){from, bytes > 0 && bytes <= INT64_MAX - from ? from + bytes : from});
}

/* *is_all: every place that was counted is in the database. */
static int gather(const struct vd_farm_result *r, struct range_vec *ranges, bool *is_all, struct vd_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < r->findings.n; i++) {
        const struct vd_farm_finding *finding = &r->findings.v[i];
        json_t *places;

        if (strcmp(finding->severity, "corruption") != 0 && strcmp(finding->severity, "error") != 0)
            continue;
        if (vd_farm_json(finding->places, &places, err) < 0)
            return -1;
        *is_all &= finding->count <= (int64_t)json_array_size(places);
        for (size_t k = 0; k < json_array_size(places); k++) {
            rc |= add_range(ranges, json_array_get(places, k), "guest_offset");
            rc |= add_range(ranges, json_array_get(places, k), "other_guest_offset");
        }
        json_decref(places);
    }
    return rc < 0 ? vd_fail_memory(err) : 0;
}

/* Sorted, and those that touch as one. */
static void merge(struct range_vec *ranges)
{
    size_t kept = 0;

    qsort(ranges->v, ranges->n, sizeof(*ranges->v), by_offset);
    for (size_t i = 0; i < ranges->n; i++) {
        struct range *last = kept ? &ranges->v[kept - 1] : NULL;

        if (!last || ranges->v[i].from > last->to)
            ranges->v[kept++] = ranges->v[i];
        else if (ranges->v[i].to > last->to)
            last->to = ranges->v[i].to;
    }
    ranges->n = kept;
}

static void say_ranges(FILE *f, const struct range_vec *ranges, bool is_all)
{
    fprintf(f, "<p class=\"risk\"><b>Guest data at risk%s:</b> ", is_all ? "" : ", as far as it is known");
    for (size_t i = 0; i < ranges->n && i < RANGES_SHOWN; i++) {
        fputs(i ? "; " : "", f);
        say_range(f, ranges->v[i].from, ranges->v[i].to - ranges->v[i].from);
    }
    if (ranges->n > RANGES_SHOWN) {
        fputs("; and ", f);
        vd_html_count(f, ranges->n - RANGES_SHOWN, "more range", "more ranges");
    }
    fputs(".</p>\n", f);
}

int vd_html_risk(FILE *f, const struct vd_farm_result *r, struct vd_err *err)
{
    struct range_vec ranges = {0};
    bool is_all = true;
    int rc = gather(r, &ranges, &is_all, err);

    if (rc == 0 && ranges.n) {
        merge(&ranges);
        say_ranges(f, &ranges, is_all);
    }
    range_vec_done(&ranges);
    return rc;
}
