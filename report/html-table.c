/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All images as a table, a row each. page.js sorts by data-v, where a cell has one, and filters by the words
 * of a row; without it the table is in the order of hosts and paths.
 */
#include <inttypes.h>

#include "report/html.h"

enum { GROUP = 50 }; /* rows; as in page.js and page.css */

/* What a column is sorted by, in page.js: words, or numbers, the highest first. */
static const struct {
    const char *head, *class, *kind;
} columns[] = {
    {"Status",        "c-status", "number"},
    {"Path",          "c-path",   "words" },
    {"Host",          "c-host",   "words" },
    {"Format",        "c-format", "words" },
    {"Size",          "c-size n", "number"},
    {"Leaked",        "c-size n", "number"},
    {"Findings",      "c-few n",  "number"},
    {"Checked (UTC)", "c-time n", "number"},
    {"Age",           "c-few n",  "number"},
};

static void say_status(FILE *f, const struct vd_farm_image *image)
{
    const char *status = vd_status_name(vd_report_status(image));

    fprintf(f, "<td class=\"word %s\" data-v=\"%d\">%s", status, vd_report_weight(vd_report_status(image)),
            status);
    if (vd_report_is_news(image))
        fputs(" <b class=\"new\">new</b>", f);
    fputs("</td>", f);
}

static void say_path(FILE *f, const struct vd_html *page, size_t i)
{
    fputs("<td>", f);
    if (page->has_part[i])
        fprintf(f, "<a href=\"#i%zu\">", i + 1);
    vd_html_text(f, page->farm->images.v[i].path);
    fputs(page->has_part[i] ? "</a></td>" : "</td>", f);
}

static void say_bytes(FILE *f, int64_t bytes, bool is_none)
{
    char size[VD_TEXT_SIZE_MAX];

    if (bytes < 0 || is_none)
        fprintf(f, "<td class=\"n\" data-v=\"%d\">\xe2\x80\x93</td>", bytes < 0 ? -1 : 0);
    else
        fprintf(f, "<td class=\"n\" data-v=\"%" PRId64 "\">%s</td>", bytes,
                vd_text_size(size, (uint64_t)bytes));
}

static uint64_t findings_of(const struct vd_farm_result *r)
{
    uint64_t n = 0;

    for (size_t i = 0; i < r->findings.n; i++)
        if (r->findings.v[i].count > 0)
            n += (uint64_t)r->findings.v[i].count;
    return n;
}

static void say_row(FILE *f, const struct vd_html *page, size_t i)
{
    const struct vd_farm_image *image = &page->farm->images.v[i];
    const struct vd_farm_result *r = &image->newest;
    char stamp[VD_HTML_TIME_MAX], age[VD_HTML_TIME_MAX];
    int64_t checked_at = r->checked_at < 0 || r->checked_at > page->now ? page->now : r->checked_at;

    fputs("<tr>", f);
    say_status(f, image);
    say_path(f, page, i);
    fputs("<td>", f);
    vd_html_text(f, image->host);
    fputs("</td><td>", f);
    vd_html_text(f, r->format ? r->format : "\xe2\x80\x93");
    fputs("</td>", f);
    say_bytes(f, r->numbers[VD_FARM_FILE_SIZE], false);
    say_bytes(f, r->numbers[VD_FARM_LEAKED_BYTES], r->numbers[VD_FARM_LEAKED_BYTES] == 0);
    fprintf(f, "<td class=\"n\">%" PRIu64 "</td>", findings_of(r));
    fprintf(f, "<td class=\"n\" data-v=\"%" PRId64 "\">%s</td>", r->checked_at,
            vd_html_time(stamp, r->checked_at));
    fprintf(f, "<td class=\"n\" data-v=\"%" PRId64 "\">%s</td></tr>\n", page->now - checked_at,
            vd_html_span(age, page->now - checked_at));
}

/* The boxes of those that occur, the worst first. */
static void say_boxes(FILE *f, const struct vd_farm *farm)
{
    struct vd_report_sums sums = vd_report_sum(farm);

    for (int weight = VD_REPORT_WORST; weight >= 0; weight--)
        for (enum vd_status s = VD_STATUS_CLEAN; s <= VD_STATUS_BUSY; s++)
            if (sums.by_status[s] && vd_report_weight(s) == weight)
                fprintf(f,
                        "<label><input type=\"checkbox\" name=\"status\" value=\"%s\" checked> %s</label>\n",
                        vd_status_name(s), vd_status_name(s));
}

/* Hidden until page.js can act on them. */
static void say_controls(FILE *f, const struct vd_farm *farm)
{
    fputs(
        "<form class=\"controls\" id=\"controls\" hidden><label>Search <input type=\"search\" id=\"search\" "
        "autocomplete=\"off\" spellcheck=\"false\"></label>\n<fieldset><legend>Status</legend>",
        f);
    say_boxes(f, farm);
    fputs("</fieldset>\n<label><input type=\"checkbox\" id=\"only-new\"> new only</label>\n"
          "<output id=\"shown\" role=\"status\" aria-live=\"polite\"></output></form>\n",
          f);
}

void vd_html_table(FILE *f, const struct vd_html *page)
{
    const struct vd_farm *farm = page->farm;

    fputs("<section id=\"images\">\n<h2>All images</h2>\n", f);
    if (!farm->images.n) {
        fputs("<p>None.</p>\n</section>\n", f);
        return;
    }
    say_controls(f, farm);
    fputs("<table id=\"rows\" role=\"table\"><caption>", f);
    vd_html_count(f, farm->images.n, "image", "images");
    fputs(", each as its newest result has it</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">", f);
    for (size_t c = 0; c < VD_ARRAY_SIZE(columns); c++)
        fprintf(f, "<th scope=\"col\" role=\"columnheader\" class=\"%s\" data-by=\"%s\">%s</th>",
                columns[c].class, columns[c].kind, columns[c].head);
    fputs("</tr></thead>\n", f);
    for (size_t i = 0; i < farm->images.n; i++) {
        if (i % GROUP == 0)
            fprintf(f, "%s<tbody role=\"rowgroup\"%s>\n", i ? "</tbody>" : "",
                    farm->images.n - i >= GROUP ? " class=\"full\"" : "");
        say_row(f, page, i);
    }
    fputs("</tbody></table>\n</section>\n", f);
}
