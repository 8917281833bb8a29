/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=json: one object over all images. Keys of what is not known are null, never absent.
 */
#include <inttypes.h>
#include <string.h>

#include "formats/base/text.h"
#include "report/render.h"

json_t *vd_json_root(void)
{
    json_t *root = json_object(), *tool = json_object();

    json_object_set_new(tool, "version", json_string(PACKAGE_VERSION));
    json_object_set_new(tool, "schema", json_integer(1));
    json_object_set_new(root, "vdcheck", tool);
    json_object_set_new(root, "images", json_array());
    return root;
}

static void begin(FILE *f, void **state)
{
    (void)f;
    *state = vd_json_root();
}

static json_t *where_text(const struct vd_place *place)
{
    char text[128] = "";
    size_t at = 0;

    for (unsigned i = 0; i < place->depth && at < sizeof(text); i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s[%" PRIu64 "]", i ? "." : "",
                               place->where[i].name, place->where[i].index);
    return json_string(text);
}

static void set_text_or_null(json_t *object, const char *key, const char *text)
{
    if (text[0])
        vd_json_set_text(object, key, text, strlen(text));
    else
        json_object_set_new(object, key, json_null());
}

/* The tables through which a place was reached, where they are not the active ones. */
static void set_tree(json_t *o, const struct vd_place *place)
{
    char tree[VD_TREE_TEXT + 16];
    bool was_plain;

    if (!place->tree[0])
        return;
    snprintf(tree, sizeof(tree), "snapshot %s", place->tree);
    json_object_set_new(o, "tree", vd_json_text(tree, strlen(tree), &was_plain));
}

static json_t *place_json(const struct vd_place *place)
{
    json_t *o = json_object();

    json_object_set_new(o, "host_offset", vd_json_number(place->host));
    json_object_set_new(o, "guest_offset", vd_json_number(place->guest));
    if (place->host_bytes)
        json_object_set_new(o, "host_bytes", vd_json_number(place->host_bytes));
    if (place->guest_bytes)
        json_object_set_new(o, "guest_bytes", vd_json_number(place->guest_bytes));
    if (place->other_guest != VD_NOWHERE)
        json_object_set_new(o, "other_guest_offset", vd_json_number(place->other_guest));
    if (place->other_host != VD_NOWHERE)
        json_object_set_new(o, "other_host_offset", vd_json_number(place->other_host));
    if (place->count > 1)
        json_object_set_new(o, "count", vd_json_number(place->count));
    if (place->depth)
        json_object_set_new(o, "where", where_text(place));
    set_tree(o, place);
    set_text_or_null(o, "found", place->found);
    set_text_or_null(o, "expected", place->expected);
    return o;
}

static json_t *group_json(const struct vd_group *group, bool dry_run)
{
    json_t *o = json_object(), *places = json_array();

    json_object_set_new(o, "id", json_string(group->kind->id));
    json_object_set_new(o, "severity", json_string(vd_severity_name(group->severity)));
    json_object_set_new(o, "count", vd_json_number(group->count));
    for (size_t i = 0; i < group->places.n; i++)
        json_array_append_new(places, place_json(&group->places.v[i]));
    json_object_set_new(o, "places", places);
    json_object_set_new(o, "message", json_string(group->kind->message));
    if (group->note)
        json_object_set_new(o, "note", json_string(group->note));
    json_object_set_new(o, "repair", json_string(group->kind->repair));
    json_object_set_new(o, "level", json_string(vd_level_name(group->level)));
    json_object_set_new(o, "fixed", vd_json_number(dry_run ? 0 : group->fixed));
    if (dry_run)
        json_object_set_new(o, "would_fix", vd_json_number(group->fixed));
    if (group->reason && group->fixed < group->count)
        json_object_set_new(o, "left_because", json_string(group->reason));
    return o;
}

static json_t *counts_json(const struct vd_image_report *r)
{
    struct vd_counts all = {0}, left = vd_status_left(r->out, r->dry_run);
    json_t *o = json_object();

    if (r->out && r->out->work.before.ledger)
        all = vd_ledger_counts(r->out->work.before.ledger);
    json_object_set_new(o, "corruptions", vd_json_number(all.corruptions));
    json_object_set_new(o, "leaks", vd_json_number(all.leaks));
    json_object_set_new(o, "states", vd_json_number(all.states));
    json_object_set_new(o, "warnings", vd_json_number(all.warnings));
    json_object_set_new(o, "errors", vd_json_number(all.errors));
    json_object_set_new(o, "corruptions_fixed", vd_json_number(all.corruptions - left.corruptions));
    json_object_set_new(o, "leaks_fixed", vd_json_number(all.leaks - left.leaks));
    json_object_set_new(o, "states_fixed", vd_json_number(all.states - left.states));
    return o;
}

static json_t *clusters_json(const struct vd_check_result *result)
{
    json_t *o;

    if (!result || !result->map)
        return json_null();
    o = json_object();
    json_object_set_new(o, "total", vd_json_number(result->clusters.total));
    json_object_set_new(o, "allocated", vd_json_number(result->clusters.allocated));
    json_object_set_new(o, "fragmented", vd_json_number(result->clusters.fragmented));
    json_object_set_new(o, "compressed", vd_json_number(result->clusters.compressed));
    json_object_set_new(o, "zero", vd_json_number(result->clusters.zero));
    return o;
}

static json_t *wrote_json(const char *level, const char *undo_file, uint64_t writes, uint64_t bytes)
{
    json_t *o = json_object();

    json_object_set_new(o, "level", level ? json_string(level) : json_null());
    json_object_set_new(o, "dry_run", json_false());
    if (undo_file)
        vd_json_set_text(o, "undo_file", undo_file, strlen(undo_file));
    else
        json_object_set_new(o, "undo_file", json_null());
    json_object_set_new(o, "writes", vd_json_number(writes));
    json_object_set_new(o, "bytes_written", vd_json_number(bytes));
    json_object_set_new(o, "verified", json_true());
    return o;
}

static json_t *repair_json(const struct vd_image_report *r)
{
    const struct vd_outcome *out = r->out;
    const struct vd_recovered *recovered = r->recovered;
    json_t *o;

    if (!r->level || !out || (!out->was_repaired && !recovered && r->err->kind != VD_ERR_REFUSED))
        return json_null();
    if (recovered && !out->was_repaired) {
        /* No journal is written before its repair was verified. */
        o = wrote_json(recovered->level, recovered->undo_file, recovered->writes, recovered->bytes_written);
    } else {
        o = wrote_json(vd_level_name(r->level), out->undo_file, out->work.writes, out->work.bytes_written);
        json_object_set_new(o, "dry_run", json_boolean(r->dry_run));
        json_object_set_new(o, "verified", json_boolean(r->is_verified));
    }
    if (r->err->kind == VD_ERR_REFUSED)
        vd_json_set_text(o, "refused", r->err->story, strlen(r->err->story));
    return o;
}

/* Of what is left; a dry run frees nothing. */
static uint64_t leaked_bytes(const struct vd_ledger *ledger, bool dry_run)
{
    uint64_t bytes = 0;

    for (size_t i = 0; ledger && i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->severity == VD_LEAK)
            bytes += dry_run ? ledger->groups.v[i]->bytes : vd_group_bytes_left(ledger->groups.v[i]);
    return bytes;
}

static json_t *io_json(const struct vd_outcome *out)
{
    const struct vd_io_stats none = {0}, *io = out ? out->work.link->io : &none;
    json_t *o = json_object();

    json_object_set_new(o, "reads", vd_json_number(io->reads));
    json_object_set_new(o, "bytes_read", vd_json_number(io->bytes_read));
    json_object_set_new(o, "writes", vd_json_number(io->writes));
    json_object_set_new(o, "bytes_written", vd_json_number(io->bytes_written));
    return o;
}

static void set_sizes(json_t *o, const struct vd_image_report *r)
{
    const struct vd_outcome *out = r->out;
    const struct vd_check_result *before = out ? &out->work.before : NULL;
    bool walked = before && before->map;
    int64_t length = out ? bdrv_getlength(out->bs->file, NULL) : -1;

    json_object_set_new(o, "format", out ? json_string(out->bs->drv->format_name) : json_null());
    json_object_set_new(o, "virtual_size",
                        walked || (out && !out->bs->drv->bdrv_co_check)
                            ? vd_json_number((uint64_t)out->bs->total_bytes)
                            : json_null());
    json_object_set_new(o, "file_size", length >= 0 ? vd_json_number((uint64_t)length) : json_null());
    json_object_set_new(o, "cluster_size", walked ? vd_json_number(before->cluster_size) : json_null());
}

json_t *vd_json_image(const struct vd_image_report *r)
{
    const struct vd_check_result *before = r->out ? &r->out->work.before : NULL;
    const struct vd_ledger *ledger = before ? before->ledger : NULL;
    json_t *o = json_object(), *findings = json_array();

    vd_json_set_text(o, "path", r->path, strlen(r->path));
    set_sizes(o, r);
    json_object_set_new(o, "status", json_string(vd_status_name(r->status)));
    json_object_set_new(o, "counts", counts_json(r));
    json_object_set_new(o, "leaked_bytes", vd_json_number(leaked_bytes(ledger, r->dry_run)));
    json_object_set_new(o, "clusters", clusters_json(before));
    json_object_set_new(o, "image_end_offset",
                        before && vd_check_knows_end(before) ? vd_json_number(before->image_end)
                                                             : json_null());
    for (size_t i = 0; ledger && i < ledger->groups.n; i++)
        json_array_append_new(findings, group_json(ledger->groups.v[i], r->dry_run));
    json_object_set_new(o, "findings", findings);
    json_object_set_new(o, "repair", repair_json(r));
    json_object_set_new(o, "io", io_json(r->out));
    json_object_set_new(o, "seconds", json_real(r->seconds));
    if (r->err->kind)
        vd_json_set_text(o, "error", r->err->story, strlen(r->err->story));
    return o;
}

static void image(FILE *f, void *state, const struct vd_image_report *r)
{
    (void)f;
    json_array_append_new(json_object_get(state, "images"), vd_json_image(r));
}

static void end(FILE *f, void *state)
{
    vd_json_print(f, state);
}

const struct vd_renderer vd_render_json = {begin, image, end};
