/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A part for each image that is not clean, or that has warnings: what it is, its strip, the guest data at
 * risk, each finding with its places and what the catalogue says of it, and what to type next.
 *
 * The worst come first; how many there is room for is a matter of their number and their bytes, and those
 * that are left out are counted.
 */
#include <inttypes.h>
#include <string.h>

#include "report/html-finding.h"
#include "report/html.h"

enum { PARTS_MAX = 500, BYTES_MAX = 3 << 20, OPEN = 3, FINDINGS_SHOWN = 40 };

/* ---- which, and in what order */

struct candidate {
    size_t i; /* of the image */
    int weight;
};

static int by_weight(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;

    if (a->weight != b->weight)
        return a->weight > b->weight ? -1 : 1;
    return a->i < b->i ? -1 : a->i > b->i;
}

static bool deserves_one(const struct vd_farm_image *image)
{
    return !vd_report_is_raw(image) && (vd_report_status(image) != VD_STATUS_CLEAN ||
                                        image->newest.findings.n != 0 || image->newest.has_undo_file);
}

/* ---- an image */

static void say_sums(FILE *f, const struct vd_farm_result *r)
{
    static const struct {
        enum vd_farm_number number;
        const char *one, *many;
    } sums[] = {
        {VD_FARM_CORRUPTIONS, "corruption",                    "corruptions"                   },
        {VD_FARM_ERRORS,      "structure that cannot be read", "structures that cannot be read"},
        {VD_FARM_STATES,      "unclean state",                 "unclean states"                },
        {VD_FARM_LEAKS,       "leaked cluster",                "leaked clusters"               },
        {VD_FARM_WARNINGS,    "warning",                       "warnings"                      },
    };
    const char *between = "";

    fputs("<span class=\"quiet\">", f);
    for (size_t i = 0; i < VD_ARRAY_SIZE(sums); i++) {
        if (r->numbers[sums[i].number] <= 0)
            continue;
        fputs(between, f);
        vd_html_count(f, (uint64_t)r->numbers[sums[i].number], sums[i].one, sums[i].many);
        between = ", ";
    }
    fputs("</span>", f);
}

static void say_size(FILE *f, const char *before, int64_t bytes)
{
    char size[VD_TEXT_SIZE_MAX];

    if (bytes >= 0)
        fprintf(f, ", %s %s", before, vd_text_size(size, (uint64_t)bytes));
}

/* One line of what the image is. */
static void say_facts(FILE *f, const struct vd_html *page, const struct vd_farm_image *image)
{
    const struct vd_farm_result *r = &image->newest;
    char stamp[VD_HTML_TIME_MAX];

    fputs("<p class=\"facts\">", f);
    if (vd_report_has_several_hosts(page->farm)) {
        fputs("On ", f);
        vd_html_text(f, image->host);
        fputs(": ", f);
    }
    vd_html_text(f, r->format ? r->format : "no format that vdcheck knows");
    say_size(f, "disk of", r->numbers[VD_FARM_VIRTUAL_SIZE]);
    say_size(f, "file of", r->numbers[VD_FARM_FILE_SIZE]);
    say_size(f, "clusters of", r->numbers[VD_FARM_CLUSTER_SIZE]);
    if (r->numbers[VD_FARM_TOTAL] > 0 && r->numbers[VD_FARM_ALLOCATED] >= 0) {
        fputs(", ", f);
        vd_html_number(f, (uint64_t)r->numbers[VD_FARM_ALLOCATED]);
        fputs(" of ", f);
        vd_html_number(f, (uint64_t)r->numbers[VD_FARM_TOTAL]);
        fputs(" allocated", f);
    }
    fprintf(f, "; checked %s UTC", vd_html_time(stamp, r->checked_at));
    if (image->is_new)
        fputs("; new", f);
    else if (image->is_changed && strcmp(image->before.status, r->status) != 0)
        fprintf(f, "; was %s", vd_status_name(vd_status_by_name(image->before.status)));
    if (image->overlays) {
        fputs("; ", f);
        vd_html_count(f, image->overlays, "image stands on it", "images stand on it");
    }
    fputs(".</p>\n", f);
}

static void say_backing(FILE *f, const struct vd_farm_image *image)
{
    if (!image->backing_name)
        return;
    fputs("<p class=\"facts\">Stands on <code>", f);
    vd_html_text(f, image->backing_path ? image->backing_path : image->backing_name);
    fputs("</code>", f);
    if (image->backing_state && strcmp(image->backing_state, "found") != 0) {
        fputs(", which is ", f);
        vd_html_text(f, image->backing_state);
    }
    fputs(".</p>\n", f);
}

static void say_next(FILE *f, const struct vd_farm_image *image)
{
    struct vd_report_next next;

    vd_report_next(image, &next);
    fputs("<p class=\"next\"><b>Next:</b> ", f);
    if (next.command[0]) {
        fputs("<code>", f);
        vd_html_own(f, next.command);
        fputs("</code> ", f);
    }
    fprintf(f, "<span>%s</span></p>\n", next.why);
}

static int say_findings(FILE *f, const struct vd_farm_result *r, struct vd_err *err)
{
    size_t shown = vd_min(r->findings.n, FINDINGS_SHOWN);

    if (vd_html_risk(f, r, err) < 0)
        return -1;
    for (size_t i = 0; i < shown; i++)
        if (vd_html_finding(f, &r->findings.v[i], err) < 0)
            return -1;
    if (shown < r->findings.n) {
        fputs("<p>... and ", f);
        vd_html_count(f, r->findings.n - shown, "more kind of finding", "more kinds of findings");
        fputs(", which <code>vdcheck --verbose</code> lists.</p>\n", f);
    }
    return 0;
}

/* Of a repair that came to nothing the reason is told with it. */
static void say_reason(FILE *f, const struct vd_farm_result *r)
{
    if (!r->reason || (r->repair && (r->is_refused || !r->has_undo_file)))
        return;
    fputs("<p class=\"reason\">", f);
    vd_html_text(f, r->reason);
    fputs("</p>\n", f);
}

static int say_part(FILE *f, const struct vd_html *page, size_t i, bool is_open, struct vd_err *err)
{
    const struct vd_farm_image *image = &page->farm->images.v[i];
    const char *status = vd_status_name(vd_report_status(image));

    fprintf(f, "<details class=\"part %s\" id=\"i%zu\"%s><summary><h3><span class=\"word %s\">%s</span> ",
            status, i + 1, is_open ? " open" : "", status, status);
    vd_html_text(f, image->path);
    fputs("</h3> ", f);
    say_sums(f, &image->newest);
    fputs("</summary>\n", f);
    say_facts(f, page, image);
    say_backing(f, image);
    say_reason(f, &image->newest);
    if ((image->newest.findings.n && vd_html_strip(f, &image->newest, i + 1, err) < 0) ||
        say_findings(f, &image->newest, err) < 0 || vd_html_repair(f, image, err) < 0)
        return -1;
    say_next(f, image);
    fputs("</details>\n", f);
    return 0;
}

/* ---- all of them */

static struct candidate *choose(const struct vd_html *page, size_t *n)
{
    struct candidate *list = calloc(page->farm->images.n + 1, sizeof(*list));

    *n = 0;
    for (size_t i = 0; list && i < page->farm->images.n; i++)
        if (deserves_one(&page->farm->images.v[i]))
            list[(*n)++] =
                (struct candidate){i, vd_report_weight(vd_report_status(&page->farm->images.v[i]))};
    if (*n)
        qsort(list, *n, sizeof(*list), by_weight);
    return list;
}

int vd_html_parts(FILE *f, struct vd_html *page, struct vd_err *err)
{
    vd_auto_mem struct candidate *list = choose(page, &page->parts_all);
    long start = ftell(f);

    if (!list)
        return vd_fail_memory(err);
    fputs("<section id=\"parts\">\n<h2>Image by image</h2>\n", f);
    if (!page->parts_all)
        fputs("<p>No image has a finding.</p>\n", f);
    for (size_t k = 0; k < page->parts_all && k < PARTS_MAX && ftell(f) - start < BYTES_MAX; k++) {
        if (say_part(f, page, list[k].i, k < OPEN, err) < 0)
            return -1;
        page->has_part[list[k].i] = true;
        page->parts_n++;
    }
    if (page->parts_n < page->parts_all) {
        fputs("<p class=\"left-out\">To keep this page small, the parts of ", f);
        vd_html_count(f, page->parts_all - page->parts_n, "more image", "more images");
        fputs(" with findings are left out; all are in the table. <code>vdcheck report --output=html</code> "
              "with <code>--path</code>, <code>--host</code> or <code>--status</code> makes a page of "
              "some.</p>\n",
              f);
    }
    fputs("</section>\n", f);
    return 0;
}
