/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The top of the page: whose images and when, the verdict in a sentence, the sums as tiles, what is missing
 * in the whole, and what is new.
 */
#include <inttypes.h>
#include <string.h>

#include "report/html.h"

enum { HOSTS_SHOWN = 3, NEWS_SHOWN = 30, NOTES_SHOWN = 100 };

/* ---- the heading */

void vd_html_hosts(FILE *f, const struct vd_html *page)
{
    const struct vd_farm *farm = page->farm;
    const struct vd_farm_run *run = vd_farm_last_run(farm);
    uint64_t n = 0;

    for (size_t i = 0; i < farm->images.n; i++) {
        const char *host = farm->images.v[i].host;

        /* They are in the order of hosts. */
        if ((i && strcmp(farm->images.v[i - 1].host, host) == 0) || n++ >= HOSTS_SHOWN)
            continue;
        fputs(n > 1 ? ", " : "", f);
        vd_html_text(f, host);
    }
    if (n > HOSTS_SHOWN) {
        fputs(" and ", f);
        vd_html_count(f, n - HOSTS_SHOWN, "more host", "more hosts");
    }
    if (!n)
        vd_html_text(f, run ? run->host : "no host");
}

static void say_last_run(FILE *f, const struct vd_html *page)
{
    const struct vd_farm_run *run = vd_farm_last_run(page->farm);
    char stamp[VD_HTML_TIME_MAX];

    fputs("<p class=\"sub\">", f);
    if (!run) {
        fputs("No run is in these databases.</p>\n", f);
        return;
    }
    fprintf(f, "Last run %s UTC on ", vd_html_time(stamp, run->started_at));
    vd_html_text(f, run->host);
    fputs(", took ", f);
    vd_html_seconds(f, run->seconds);
    fputs(": ", f);
    vd_html_number(f, run->checked > 0 ? (uint64_t)run->checked : 0);
    fputs(" checked, ", f);
    vd_html_number(f, run->checked >= 0 && run->found > run->checked ? (uint64_t)(run->found - run->checked)
                                                                     : 0);
    fputs(" unchanged", f);
    if (run->unreadable > 0) {
        fputs("; ", f);
        vd_html_count(f, (uint64_t)run->unreadable, "path", "paths");
        fputs(" could not be looked at", f);
    }
    fputs(".</p>\n", f);
}

/* ---- the verdict */

static uint64_t count(const struct vd_farm *farm, bool (*belongs)(const struct vd_farm_image *image))
{
    uint64_t n = 0;

    for (size_t i = 0; i < farm->images.n; i++)
        n += belongs(&farm->images.v[i]);
    return n;
}

static const struct {
    enum vd_status status;
    const char *label, *in_words;
    bool is_always_shown;
} kinds[] = {
    {VD_STATUS_CLEAN,       "Clean",       "clean",                   true },
    {VD_STATUS_REPAIRED,    "Repaired",    "repaired",                false},
    {VD_STATUS_DAMAGED,     "Damaged",     "damaged",                 true },
    {VD_STATUS_DIRTY,       "Dirty",       "not closed cleanly",      true },
    {VD_STATUS_LEAKING,     "Leaking",     "leaking",                 true },
    {VD_STATUS_ERROR,       "Error",       "that cannot be checked",  true },
    {VD_STATUS_UNSUPPORTED, "Unsupported", "not supported",           false},
    {VD_STATUS_BUSY,        "Busy",        "in use, and not checked", true },
};

static uint64_t of_kind(const struct vd_report_sums *sums, size_t i)
{
    uint64_t n = sums->by_status[kinds[i].status];

    return kinds[i].status == VD_STATUS_UNSUPPORTED ? n - sums->raw : n;
}

/* "2 damaged, 1 leaking": what needs attention. */
static void say_what_is_wrong(FILE *f, const struct vd_report_sums *sums)
{
    const char *between = ": ";

    for (size_t i = 0; i < VD_ARRAY_SIZE(kinds); i++) {
        enum vd_status status = kinds[i].status;

        if (status == VD_STATUS_CLEAN || status == VD_STATUS_REPAIRED || status == VD_STATUS_BUSY ||
            !of_kind(sums, i))
            continue;
        fputs(between, f);
        vd_html_number(f, of_kind(sums, i));
        fprintf(f, " %s", kinds[i].in_words);
        between = ", ";
    }
}

/* "the last run repaired 2, and could not repair 1" */
static void say_repairs(FILE *f, const struct vd_farm *farm)
{
    uint64_t done = count(farm, vd_report_was_repaired), failed = count(farm, vd_report_was_not_repaired);

    if (!done && !failed)
        return;
    fputs("; the last run ", f);
    if (done) {
        fputs("repaired ", f);
        vd_html_number(f, done);
    }
    if (failed) {
        fputs(done ? ", and could not repair " : "could not repair ", f);
        vd_html_number(f, failed);
    }
}

static void say_verdict(FILE *f, const struct vd_farm *farm, const struct vd_report_sums *sums)
{
    uint64_t wrong = count(farm, vd_report_needs_attention), news = count(farm, vd_report_is_news);
    bool is_whole = vd_report_is_whole(farm);

    fprintf(f, "<p class=\"verdict %s\">",
            sums->by_status[VD_STATUS_DAMAGED] || sums->by_status[VD_STATUS_ERROR] ? "bad"
            : wrong || !is_whole || !sums->images                                  ? "odd"
                                                                                   : "good");
    if (!sums->images)
        fputs("No images", f);
    else if (wrong) {
        vd_html_number(f, wrong);
        fputs(" of ", f);
        vd_html_count(f, sums->images, "image", "images");
        fputs(wrong == 1 ? " needs attention" : " need attention", f);
        say_what_is_wrong(f, sums);
    } else {
        fputs(is_whole ? "All well: nothing is wrong with " : "Nothing wrong was seen in ", f);
        vd_html_count(f, sums->images, "image", "images");
    }
    if (sums->by_status[VD_STATUS_BUSY]) {
        fputs("; ", f);
        vd_html_number(f, sums->by_status[VD_STATUS_BUSY]);
        fputs(sums->by_status[VD_STATUS_BUSY] == 1 ? " was in use and not checked"
                                                   : " were in use and not checked",
              f);
    }
    say_repairs(f, farm);
    if (news) {
        fputs("; ", f);
        vd_html_number(f, news);
        fputs(" new since the run before", f);
    }
    fputs(is_whole || !sums->images ? ".</p>\n" : "; not everything was looked at.</p>\n", f);
}

/* ---- tiles */

static void begin_tile(FILE *f, const char *class, const char *label, bool is_zero)
{
    fprintf(f, "<div class=\"tile %s%s\"><dt>%s</dt><dd>", class, is_zero ? " zero" : "", label);
}

static void say_tile(FILE *f, const char *class, const char *label, uint64_t number)
{
    begin_tile(f, class, label, number == 0);
    vd_html_number(f, number);
    fputs("</dd></div>\n", f);
}

static void say_tiles(FILE *f, const struct vd_farm *farm, const struct vd_report_sums *sums)
{
    uint64_t news = count(farm, vd_report_is_news);
    char size[VD_TEXT_SIZE_MAX];

    fputs("<dl class=\"tiles\">\n", f);
    say_tile(f, "t-images", "Images", sums->images);
    for (size_t i = 0; i < VD_ARRAY_SIZE(kinds); i++)
        if (kinds[i].is_always_shown || of_kind(sums, i))
            say_tile(f, vd_status_name(kinds[i].status), kinds[i].label, of_kind(sums, i));
    if (sums->raw)
        say_tile(f, "unsupported", "Raw", sums->raw);
    begin_tile(f, "leaking", "Leaked", sums->leaked_bytes == 0);
    fprintf(f, "%s</dd></div>\n",
            sums->leaked_bytes ? vd_text_size(size, (uint64_t)sums->leaked_bytes) : "0");
    say_tile(f, "t-news", "New", news);
    fputs("</dl>\n", f);
}

static void say_notes(FILE *f, const struct vd_farm *farm)
{
    if (!farm->notes.n)
        return;
    fputs("<ul class=\"notes\">\n", f);
    for (size_t i = 0; i < farm->notes.n && i < NOTES_SHOWN; i++) {
        fputs("<li>Note: ", f);
        vd_html_text(f, farm->notes.v[i]);
        fputs("</li>\n", f);
    }
    if (farm->notes.n > NOTES_SHOWN) {
        fputs("<li>... and ", f);
        vd_html_count(f, farm->notes.n - NOTES_SHOWN, "more note", "more notes");
        fputs("</li>\n", f);
    }
    fputs("</ul>\n", f);
}

void vd_html_top(FILE *f, const struct vd_html *page)
{
    struct vd_report_sums sums = vd_report_sum(page->farm);

    fputs("<header>\n<h1>Disk images of ", f);
    vd_html_hosts(f, page);
    fputs("</h1>\n", f);
    say_last_run(f, page);
    say_verdict(f, page->farm, &sums);
    say_tiles(f, page->farm, &sums);
    say_notes(f, page->farm);
    fputs("</header>\n", f);
}

/* ---- what is new */

static void say_news(FILE *f, const struct vd_html *page, size_t i)
{
    const struct vd_farm_image *image = &page->farm->images.v[i];
    const char *status = vd_status_name(vd_report_status(image));

    fprintf(f, "<li><span class=\"word %s\">%s</span> ", status, status);
    if (page->has_part[i])
        fprintf(f, "<a href=\"#i%zu\">", i + 1);
    if (vd_report_has_several_hosts(page->farm)) {
        vd_html_text(f, image->host);
        fputs(":", f);
    }
    vd_html_text(f, image->path);
    fputs(page->has_part[i] ? "</a>" : "", f);
    if (image->is_new)
        fputs(" <span class=\"quiet\">new</span>", f);
    else if (image->is_changed && strcmp(image->before.status, image->newest.status) != 0)
        fprintf(f, " <span class=\"quiet\">was %s</span>",
                vd_status_name(vd_status_by_name(image->before.status)));
    else if (image->is_changed)
        fputs(" <span class=\"quiet\">other findings than before</span>", f);
    if (vd_report_was_repaired(image) && vd_report_status(image) != VD_STATUS_REPAIRED)
        fputs(" <span class=\"quiet\">repaired in part</span>", f);
    fputs("</li>\n", f);
}

void vd_html_news(FILE *f, const struct vd_html *page)
{
    const struct vd_farm *farm = page->farm;
    uint64_t n = count(farm, vd_report_is_news), told = 0;

    fputs("<section id=\"news\">\n<h2>New since the run before</h2>\n", f);
    if (!n)
        fputs(farm->runs.n < 2 ? "<p>There is no run before.</p>\n" : "<p>Nothing.</p>\n", f);
    else
        fputs("<ul class=\"news\">\n", f);
    for (int weight = VD_REPORT_WORST; weight >= 0 && n; weight--)
        for (size_t i = 0; i < farm->images.n && told < NEWS_SHOWN; i++)
            if (vd_report_is_news(&farm->images.v[i]) &&
                vd_report_weight(vd_report_status(&farm->images.v[i])) == weight) {
                say_news(f, page, i);
                told++;
            }
    if (n)
        fputs("</ul>\n", f);
    if (n > told) {
        fputs("<p>... and ", f);
        vd_html_number(f, n - told);
        fputs(" more, which the table marks.</p>\n", f);
    }
    fputs("</section>\n", f);
}
