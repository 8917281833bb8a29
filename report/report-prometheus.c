/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=prometheus: a file for node_exporter's textfile collector. Sums only: a series for each image
 * would be the farm's size in the monitoring.
 */
#include <inttypes.h>
#include <string.h>

#include "formats/finding.h"
#include "report/report.h"

static void head(FILE *f, const char *name, const char *help)
{
    fprintf(f, "# HELP vdcheck_%s %s\n# TYPE vdcheck_%s gauge\n", name, help, name);
}

/* A value of a label, in which two of the characters that can still be there are escaped. */
static void say_label(FILE *f, const char *piece)
{
    for (; *piece; piece++)
        fprintf(f, "%s%c", *piece == '"' || *piece == '\\' ? "\\" : "", *piece);
}

static bool is_before(const struct vd_farm *farm, size_t i, const char *format)
{
    for (size_t k = 0; k < i; k++)
        if (farm->images.v[k].newest.format && strcmp(farm->images.v[k].newest.format, format) == 0)
            return true;
    return false;
}

static uint64_t count(const struct vd_farm *farm, const char *format, const char *severity)
{
    uint64_t n = 0;

    for (size_t i = 0; i < farm->images.n; i++) {
        const struct vd_farm_result *r = &farm->images.v[i].newest;

        if (!r->format || strcmp(r->format, format) != 0)
            continue;
        for (size_t k = 0; k < r->findings.n; k++)
            if (strcmp(r->findings.v[k].severity, severity) == 0 && r->findings.v[k].count > 0)
                n += (uint64_t)r->findings.v[k].count;
    }
    return n;
}

static void say_findings(FILE *f, const struct vd_farm *farm)
{
    head(f, "findings", "Findings of the newest results, by format and severity.");
    for (size_t i = 0; i < farm->images.n; i++) {
        const char *format = farm->images.v[i].newest.format;

        if (!format || is_before(farm, i, format))
            continue;
        for (int s = VD_CORRUPTION; s <= VD_ERROR; s++) {
            fputs("vdcheck_findings{format=\"", f);
            vd_report_escape(f, format, say_label);
            fprintf(f, "\",severity=\"%s\"} %" PRIu64 "\n", vd_severity_name((enum vd_severity)s),
                    count(farm, format, vd_severity_name((enum vd_severity)s)));
        }
    }
}

/* The last run, and the last that came to its end. */
static void say_runs(FILE *f, const struct vd_farm *farm)
{
    const struct vd_farm_run *last = vd_farm_last_run(farm), *whole = NULL;

    for (size_t i = 0; i < farm->runs.n; i++)
        if (strcmp(farm->runs.v[i].state, "complete") == 0)
            whole = &farm->runs.v[i];
    head(f, "last_run_timestamp_seconds", "When the last audit began.");
    fprintf(f, "vdcheck_last_run_timestamp_seconds %" PRId64 "\n", last ? last->started_at : 0);
    head(f, "last_success_timestamp_seconds", "When the last audit that came to its end began.");
    fprintf(f, "vdcheck_last_success_timestamp_seconds %" PRId64 "\n", whole ? whole->started_at : 0);
    head(f, "run_duration_seconds", "How long the last audit that came to its end took.");
    fprintf(f, "vdcheck_run_duration_seconds %.3f\n", whole ? whole->seconds : 0.0);
}

int vd_report_prometheus(FILE *f, const struct vd_farm *farm, struct vd_err *err)
{
    struct vd_report_sums sums = vd_report_sum(farm);

    (void)err;
    head(f, "images", "Images by the status of their newest result.");
    for (int i = VD_STATUS_CLEAN; i <= VD_STATUS_BUSY; i++)
        fprintf(f, "vdcheck_images{status=\"%s\"} %" PRIu64 "\n", vd_status_name((enum vd_status)i),
                sums.by_status[i]);
    say_findings(f, farm);
    head(f, "leaked_bytes", "Bytes that leaks in all images take.");
    fprintf(f, "vdcheck_leaked_bytes %" PRId64 "\n", sums.leaked_bytes);
    say_runs(f, farm);
    return 0;
}
