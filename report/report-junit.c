/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=junit: a test suite for each folder, a test case for each image.
 */
#include <inttypes.h>
#include <string.h>

#include "formats/registry.h"
#include "report/report.h"

/* What a status is in the words of JUnit; NULL: the test passed. */
static const char *const elements[] = {
    [VD_STATUS_LEAKING] = "failure",     [VD_STATUS_DIRTY] = "failure", [VD_STATUS_DAMAGED] = "failure",
    [VD_STATUS_UNSUPPORTED] = "skipped", [VD_STATUS_ERROR] = "error",   [VD_STATUS_BUSY] = "skipped",
};

static size_t folder_len(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? (size_t)(slash - path) : 0;
}

static int by_folder(const void *pa, const void *pb)
{
    const struct vd_farm_image *a = *(const struct vd_farm_image *const *)pa;
    const struct vd_farm_image *b = *(const struct vd_farm_image *const *)pb;
    size_t a_len = folder_len(a->path), b_len = folder_len(b->path);
    int order = strcmp(a->host, b->host);

    if (!order)
        order = memcmp(a->path, b->path, a_len < b_len ? a_len : b_len);
    if (!order && a_len != b_len)
        order = a_len < b_len ? -1 : 1;
    return order ? order : strcmp(a->path, b->path);
}

static bool is_beside(const struct vd_farm_image *a, const struct vd_farm_image *b)
{
    size_t len = folder_len(a->path);

    return strcmp(a->host, b->host) == 0 && folder_len(b->path) == len && memcmp(a->path, b->path, len) == 0;
}

static void say_findings(FILE *f, const struct vd_farm_result *r)
{
    for (size_t i = 0; i < r->findings.n; i++) {
        const struct vd_finding_kind *row = vd_finding_by_id(r->findings.v[i].id);

        vd_report_xml(f, r->findings.v[i].severity);
        fputs(": ", f);
        vd_report_xml(f, row ? row->message : "");
        fputs(" [", f);
        vd_report_xml(f, r->findings.v[i].id);
        fprintf(f, "] count %" PRId64 "\n", r->findings.v[i].count);
    }
}

static void say_case(FILE *f, const struct vd_farm_image *image)
{
    const char *element = elements[vd_report_status(image)];
    const struct vd_farm_result *r = &image->newest;
    const char *slash = strrchr(image->path, '/');

    fputs("    <testcase classname=\"", f);
    vd_report_xml_part(f, image->path, folder_len(image->path));
    fputs("\" name=\"", f);
    vd_report_xml(f, slash ? slash + 1 : image->path);
    fprintf(f, "\" time=\"%.3f\"", r->seconds);
    if (!element) {
        fputs("/>\n", f);
        return;
    }
    fprintf(f, ">\n      <%s message=\"", element);
    vd_report_xml(f, r->reason ? r->reason : vd_status_name(vd_report_status(image)));
    if (strcmp(element, "skipped") == 0) {
        fputs("\"/>\n    </testcase>\n", f);
        return;
    }
    fprintf(f, "\" type=\"%s\">", vd_status_name(vd_report_status(image)));
    say_findings(f, r);
    fprintf(f, "</%s>\n    </testcase>\n", element);
}

struct sums {
    size_t tests, failures, errors, skipped;
    double seconds;
};

static void add(struct sums *sums, const struct vd_farm_image *image)
{
    const char *element = elements[vd_report_status(image)];

    sums->tests++;
    sums->failures += element && strcmp(element, "failure") == 0;
    sums->errors += element && strcmp(element, "error") == 0;
    sums->skipped += element && strcmp(element, "skipped") == 0;
    sums->seconds += image->newest.seconds;
}

/* The suite of n images in one folder. */
static void say_suite(FILE *f, const struct vd_farm_image *const *images, size_t n)
{
    struct sums sums = {0};

    for (size_t i = 0; i < n; i++)
        add(&sums, images[i]);
    fputs("  <testsuite name=\"", f);
    vd_report_xml_part(f, images[0]->path, folder_len(images[0]->path));
    fputs("\" hostname=\"", f);
    vd_report_xml(f, images[0]->host);
    fprintf(f, "\" tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" skipped=\"%zu\" time=\"%.3f\">\n",
            sums.tests, sums.failures, sums.errors, sums.skipped, sums.seconds);
    for (size_t i = 0; i < n; i++)
        say_case(f, images[i]);
    fputs("  </testsuite>\n", f);
}

int vd_report_junit(FILE *f, const struct vd_farm *farm, struct vd_err *err)
{
    /* Those of a folder need not follow each other in the order of paths: deeper ones come between. */
    vd_auto_mem const struct vd_farm_image **images = calloc(farm->images.n + 1, sizeof(*images));
    size_t n = farm->images.n;

    if (!images)
        return vd_fail_memory(err);
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"vdcheck\">\n", f);
    for (size_t i = 0; i < n; i++)
        images[i] = &farm->images.v[i];
    if (n)
        qsort(images, n, sizeof(*images), by_folder);
    for (size_t first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && is_beside(images[first], images[end]);)
            end++;
        say_suite(f, images + first, end - first);
    }
    fputs("</testsuites>\n", f);
    return 0;
}
