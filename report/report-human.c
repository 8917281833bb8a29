/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=human: a page for a mail. What is new comes first, then all that is not well, then the sums.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "formats/base/text.h"
#include "formats/registry.h"
#include "report/report.h"

enum { SHOWN = 50, FINDINGS_SHOWN = 4 };

static bool is_old_trouble(const struct vd_farm_image *image)
{
    return vd_report_needs_attention(image) && !vd_report_is_news(image);
}

static void say_piece(FILE *f, const char *piece)
{
    fputs(piece, f);
}

static void say_escaped(FILE *f, const char *text)
{
    vd_report_escape(f, text, say_piece);
}

static void say_finding(FILE *f, const struct vd_farm_finding *finding)
{
    const struct vd_finding_kind *row = vd_finding_by_id(finding->id);

    fputs("      ", f);
    say_escaped(f, finding->severity);
    if (finding->count > 1)
        fprintf(f, ", %" PRId64 " times", finding->count);
    fprintf(f, ": %s [", row ? row->message : "a finding that this vdcheck does not know");
    say_escaped(f, finding->id);
    fputs("]\n", f);
}

/* What was repaired, and the way back. */
static int say_repair(FILE *f, const struct vd_farm_image *image, struct vd_err *err)
{
    json_t *repair = NULL, *fixed, *finding;
    char undo[VD_REPORT_COMMAND_MAX];
    int rc = image->newest.has_undo_file ? vd_report_repair(image, &repair, err) : 0;

    fixed = json_object_get(repair, "fixed");
    for (size_t i = 0; i < FINDINGS_SHOWN && (finding = json_array_get(fixed, i)); i++) {
        const char *id = json_string_value(json_object_get(finding, "id"));
        const struct vd_finding_kind *row = id ? vd_finding_by_id(id) : NULL;

        if (row)
            fprintf(f, "      repaired: %s (%" JSON_INTEGER_FORMAT ") [%s]\n", row->message,
                    json_integer_value(json_object_get(finding, "count")), row->id);
    }
    if (repair)
        rc = vd_report_undo(repair, undo, err);
    if (repair && rc == 0)
        fprintf(f, "      undo with: %s\n", undo);
    json_decref(repair);
    return rc;
}

static int say_image(FILE *f, const struct vd_farm *farm, const struct vd_farm_image *image,
                     struct vd_err *err)
{
    const struct vd_farm_result *now = &image->newest;
    size_t told = 0;

    fprintf(f, "  %s  ", vd_status_name(vd_report_status(image)));
    if (vd_report_has_several_hosts(farm)) {
        say_escaped(f, image->host);
        fputs(":", f);
    }
    say_escaped(f, image->path);
    if (image->is_new)
        fputs("  (new)", f);
    else if (image->is_changed && strcmp(image->before.status, now->status) != 0)
        fprintf(f, "  (was %s)", vd_status_name(vd_status_by_name(image->before.status)));
    if (image->overlays && vd_report_needs_attention(image))
        fprintf(f, "  (%" PRIu64 " image%s on it)", image->overlays,
                image->overlays == 1 ? " stands" : "s stand");
    fputc('\n', f);
    if (now->reason) {
        fputs("      ", f);
        say_escaped(f, now->reason);
        fputc('\n', f);
    }
    for (size_t i = 0; i < now->findings.n && told < FINDINGS_SHOWN; i++)
        if (strcmp(now->findings.v[i].severity, "warning") != 0 && ++told)
            say_finding(f, &now->findings.v[i]);
    return say_repair(f, image, err);
}

static int say_list(FILE *f, const struct vd_farm *farm, const char *heading,
                    bool (*belongs)(const struct vd_farm_image *image), size_t *n, struct vd_err *err)
{
    *n = 0;
    for (size_t i = 0; i < farm->images.n; i++) {
        if (!belongs(&farm->images.v[i]))
            continue;
        if ((*n)++ == 0)
            fprintf(f, "%s\n", heading);
        if (*n <= SHOWN && say_image(f, farm, &farm->images.v[i], err) < 0)
            return -1;
    }
    if (*n > SHOWN)
        fprintf(f, "  ... and %zu more\n", *n - SHOWN);
    if (*n)
        fputc('\n', f);
    return 0;
}

static void say_sums(FILE *f, const struct vd_report_sums *sums)
{
    static const enum vd_status order[] = {VD_STATUS_CLEAN, VD_STATUS_REPAIRED, VD_STATUS_DAMAGED,
                                           VD_STATUS_DIRTY, VD_STATUS_LEAKING,  VD_STATUS_UNSUPPORTED,
                                           VD_STATUS_ERROR, VD_STATUS_BUSY};
    char leaked[VD_TEXT_SIZE_MAX];
    const char *between = ": ";

    fprintf(f, "%" PRIu64 " image%s", sums->images, sums->images == 1 ? "" : "s");
    for (size_t i = 0; i < VD_ARRAY_SIZE(order); i++) {
        if (!sums->by_status[order[i]])
            continue;
        fprintf(f, "%s%" PRIu64 " %s", between, sums->by_status[order[i]], vd_status_name(order[i]));
        between = ", ";
    }
    if (sums->raw)
        fprintf(f, "; %" PRIu64 " raw", sums->raw);
    if (sums->leaked_bytes)
        fprintf(f, "; %s leaked", vd_text_size(leaked, (uint64_t)sums->leaked_bytes));
    if (sums->fresh)
        fprintf(f, "; %" PRIu64 " new", sums->fresh);
    fputc('\n', f);
}

static void say_last_run(FILE *f, const struct vd_farm *farm)
{
    const struct vd_farm_run *run = vd_farm_last_run(farm);
    time_t at = run ? (time_t)run->started_at : 0;
    char stamp[32];
    struct tm tm;

    if (!run || !gmtime_r(&at, &tm))
        return;
    strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M", &tm);
    fprintf(f, "Last run: %s UTC on ", stamp);
    say_escaped(f, run->host);
    if (run->unreadable > 0)
        fprintf(f, "; %" PRId64 " path%s could not be looked at", run->unreadable,
                run->unreadable == 1 ? "" : "s");
    fputc('\n', f);
}

/* One command is enough to show the way. */
static void say_next(FILE *f, const struct vd_farm *farm)
{
    struct vd_report_next next;

    for (size_t i = 0; i < farm->images.n; i++) {
        if (!vd_report_needs_attention(&farm->images.v[i]))
            continue;
        vd_report_next(&farm->images.v[i], &next);
        if (!next.is_repair)
            continue;
        fprintf(f, "Next: %s\n", next.command);
        return;
    }
}

int vd_report_human(FILE *f, const struct vd_farm *farm, struct vd_err *err)
{
    struct vd_report_sums sums = vd_report_sum(farm);
    size_t news, old;

    if (say_list(f, farm, "New since the run before", vd_report_is_news, &news, err) < 0 ||
        say_list(f, farm, news ? "As before" : "Not well", is_old_trouble, &old, err) < 0)
        return -1;
    if (!news && !old)
        fputs(!sums.images               ? "No images.\n"
              : vd_report_is_whole(farm) ? "All well.\n"
                                         : "Nothing wrong was seen.\n",
              f);
    for (size_t i = 0; i < farm->notes.n; i++) {
        fputs("Note: ", f);
        say_escaped(f, farm->notes.v[i]);
        fputc('\n', f);
    }
    say_sums(f, &sums);
    say_last_run(f, farm);
    say_next(f, farm);
    return 0;
}
