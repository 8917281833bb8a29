/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=qemu-json: the keys of `qemu-img check --output=json`, for scripts that were written for it.
 */
#include <string.h>

#include "report/render.h"

static void begin(FILE *f, void **state)
{
    (void)f;
    *state = NULL;
}

static void set_unless_zero(json_t *o, const char *key, uint64_t number)
{
    if (number)
        json_object_set_new(o, key, vd_json_number(number));
}

static const char *format_name(const struct vd_image_report *r)
{
    const struct BlockDriver *drv = r->out ? r->out->bs->drv : NULL;

    return drv ? drv->qemu_name ? drv->qemu_name : drv->format_name : "raw";
}

static void image(FILE *f, void *state, const struct vd_image_report *r)
{
    const struct vd_check_result *before = r->out ? &r->out->work.before : NULL;
    struct vd_counts left = vd_status_left(r->out, r->dry_run), all = left;
    json_t *o = json_object();
    bool was_plain;

    (void)state;
    if (before && before->ledger)
        all = vd_ledger_counts(before->ledger);
    if (before && vd_check_knows_end(before))
        set_unless_zero(o, "image-end-offset", before->image_end);
    if (before && before->map)
        set_unless_zero(o, "total-clusters", before->clusters.total);
    json_object_set_new(o, "check-errors",
                        vd_json_number(left.errors + (r->status == VD_STATUS_ERROR && !left.errors)));
    set_unless_zero(o, "corruptions", left.corruptions);
    set_unless_zero(o, "leaks", left.leaks);
    set_unless_zero(o, "corruptions-fixed", all.corruptions - left.corruptions);
    set_unless_zero(o, "leaks-fixed", all.leaks - left.leaks);
    if (before && before->map) {
        set_unless_zero(o, "allocated-clusters", before->clusters.allocated);
        set_unless_zero(o, "fragmented-clusters", before->clusters.fragmented);
        set_unless_zero(o, "compressed-clusters", before->clusters.compressed);
    }
    json_object_set_new(o, "filename", vd_json_text(r->path, strlen(r->path), &was_plain));
    json_object_set_new(o, "format", json_string(format_name(r)));
    if (r->status != VD_STATUS_BUSY && r->out) {
        json_dumpf(o, f, JSON_INDENT(4));
        fputc('\n', f);
    }
    json_decref(o);
}

static void end(FILE *f, void *state)
{
    (void)f;
    (void)state;
}

const struct vd_renderer vd_render_qemu_json = {begin, image, end};
