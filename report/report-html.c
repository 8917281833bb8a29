/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=html: one file that a browser opens from disk, for the morning.
 *
 * It needs nothing but itself: the policy in it forbids everything else, and allows the style sheet and the
 * script by their hashes, so that nothing that slips into the page is ever run. It can be read and printed
 * without the script. The same databases make the same bytes: the time is what the newest run says.
 */
#include <stdlib.h>

#include "report/html.h"

/* page_css, page_js and page_policy: page.css and page.js, and their hashes. */
#include "report/page.inc"

/* The newest moment that is known. */
static int64_t newest_moment(const struct vd_farm *farm)
{
    int64_t now = 0;

    for (size_t i = 0; i < farm->runs.n; i++) {
        now = farm->runs.v[i].started_at > now ? farm->runs.v[i].started_at : now;
        now = farm->runs.v[i].finished_at > now ? farm->runs.v[i].finished_at : now;
    }
    return now;
}

static void say_title(FILE *f, const struct vd_html *page)
{
    const struct vd_farm_run *run = vd_farm_last_run(page->farm);
    char stamp[VD_HTML_TIME_MAX];

    fputs("<title>vdcheck: ", f);
    vd_html_hosts(f, page);
    if (run)
        fprintf(f, ", %s UTC", vd_html_time(stamp, run->started_at));
    fputs("</title>\n", f);
}

static void say_head(FILE *f, const struct vd_html *page)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"",
          f);
    fputs(page_policy, f);
    fputs("\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" "
          "content=\"no-referrer\">\n"
          "<meta name=\"generator\" content=\"vdcheck " PACKAGE_VERSION "\">\n",
          f);
    say_title(f, page);
    fputs("<style>", f);
    fputs(page_css, f);
    fputs("</style>\n</head>\n", f);
}

static int say_body(FILE *f, const struct vd_html *page, const char *parts, struct vd_err *err)
{
    fputs("<body>\n<a class=\"skip\" href=\"#main\">Skip to what is new</a>\n", f);
    vd_html_top(f, page);
    fputs("<nav aria-label=\"On this page\"><a href=\"#news\">New</a> <a href=\"#trends\">Over the runs</a> "
          "<a href=\"#parts\">Image by image</a> <a href=\"#images\">All images</a></nav>\n"
          "<main id=\"main\">\n",
          f);
    vd_html_news(f, page);
    if (vd_html_trends(f, page, err) < 0)
        return -1;
    fputs(parts, f);
    vd_html_table(f, page);
    fputs("</main>\n<footer><p>Made by vdcheck " PACKAGE_VERSION
          ". Times are UTC; ages count from the newest run.</p></footer>\n<script>",
          f);
    fputs(page_js, f);
    fputs("</script>\n</body>\n</html>\n", f);
    return 0;
}

/* The parts as one text of the caller's. */
static int make_parts(struct vd_html *page, char **parts, struct vd_err *err)
{
    size_t len;
    FILE *memory = open_memstream(parts, &len);
    bool was_made = memory && vd_html_parts(memory, page, err) == 0;

    /* A stream that is closed gives its memory's end back, and may lose all of it by that. */
    if (memory && (fclose(memory) == 0) & was_made && *parts)
        return 0;
    return vd_fail_memory(err);
}

int vd_report_html(FILE *f, const struct vd_farm *farm, struct vd_err *err)
{
    vd_auto_mem bool *has_part = calloc(farm->images.n + 1, sizeof(*has_part));
    struct vd_html page = {.farm = farm, .now = newest_moment(farm), .has_part = has_part};
    vd_auto_mem char *parts = NULL;

    if (!has_part)
        return vd_fail_memory(err);
    /* They are made first: what comes above them links to those that are there. */
    if (make_parts(&page, &parts, err) < 0)
        return -1;
    say_head(f, &page);
    return say_body(f, &page, parts, err);
}
