/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/node/overlay.h"

enum { COMPARE_PIECE = 1 << 20 };

/* ---- findings */

/* Did the walk before reach this host offset, so that a finding there would have been seen? */
static bool was_reached(const struct vd_check_result *before, uint64_t host)
{
    enum vd_kind kind;

    if (!before->map || host == VD_NOWHERE || !before->cluster_size)
        return false;
    kind = vd_usemap_kind(before->map, host / before->cluster_size, NULL);
    return kind != VD_KIND_FREE && !vd_kind_is_data(kind) && !before->map_is_incomplete;
}

/* A reference that was wrong and is still wrong, be it in another way, is not new. */
static int judge_group(const struct vd_verify_input *in, const struct vd_group *group, struct vd_err *err)
{
    uint64_t fresh = 0;

    if (group->severity == VD_WARNING || group->severity == VD_LEAK || (group->kind->flags & VD_GUARD))
        return 0;
    for (size_t i = 0; i < group->keys.n; i++)
        fresh += !vd_ledger_has_place(in->before->ledger, group->severity, group->keys.v[i]);
    if (!fresh)
        return 0;
    /* New places are only those that nobody could see before. The first places kept stand for all. */
    for (size_t i = 0; i < group->places.n; i++) {
        const struct vd_place *place = &group->places.v[i];

        if (!vd_ledger_has_place(in->before->ledger, group->severity, vd_place_key(place)) &&
            was_reached(in->before, place->host))
            return vd_fail(err, VD_ERR_REFUSED, 0,
                           "the repair would leave a finding that was not there before: %s at 0x%" PRIx64,
                           group->kind->id, place->host);
    }
    return 0;
}

/* Leaks that are new: nothing but what the report names as given up, and a fragment that became a cluster. */
static int judge_leaks(const struct vd_verify_input *in, struct vd_err *err)
{
    struct vd_runs known = {0}, fresh = {0};
    int64_t old_length = bdrv_getlength(in->file, err);
    uint64_t cs = in->after->cluster_size;
    int rc = 0;

    if (old_length < 0)
        return -1;
    if (!in->before->map || in->before->map_is_incomplete || !cs || in->before->cluster_size != cs)
        return 0;
    if (vd_runs_add_all(&known, &in->before->ledger->leaked) < 0 ||
        vd_runs_add_all(&known, in->given_up) < 0 ||
        vd_runs_add(&known, (uint64_t)old_length / cs, (uint64_t)old_length % cs != 0) < 0 ||
        vd_runs_minus(&in->after->ledger->leaked, &known, &fresh) < 0)
        rc = vd_fail_memory(err);
    if (rc == 0 && fresh.n)
        rc = vd_fail(err, VD_ERR_REFUSED, 0,
                     "the repair would leak the cluster at 0x%" PRIx64 ", which was used",
                     fresh.v[0].first * cs);
    vd_runs_done(&known);
    vd_runs_done(&fresh);
    return rc;
}

static int judge_findings(const struct vd_verify_input *in, struct vd_err *err)
{
    for (size_t i = 0; i < in->after->ledger->groups.n; i++)
        if (judge_group(in, in->after->ledger->groups.v[i], err) < 0)
            return -1;
    if (in->after->map_is_incomplete && !in->before->map_is_incomplete)
        return vd_fail(err, VD_ERR_REFUSED, 0,
                       "the repaired image could not be walked whole, as it could before");
    return judge_leaks(in, err);
}

/* ---- guest data */

struct guest {
    const struct vd_verify_input *in;
    struct BlockDriverState *old, *new;
    struct vd_runs ranges; /* guest bytes that may read otherwise */
    uint8_t *old_bytes, *new_bytes;
};

static int add_range(void *opaque, uint64_t guest, uint64_t bytes)
{
    uint64_t end = vd_add_sat(guest, bytes);

    return vd_runs_add(opaque, guest, end - guest);
}

static int ask_ranges(struct guest *g, uint64_t offset, uint64_t bytes, struct vd_err *err)
{
    const struct BlockDriver *drv = g->in->drv;

    if (drv->bdrv_guest_ranges(g->old, (int64_t)offset, (int64_t)bytes, add_range, &g->ranges, NULL) < 0 &&
        g->in->before->map && !g->in->before->map_is_incomplete)
        return vd_fail(err, VD_ERR_REFUSED, 0, "the tables as they are could not be read again");
    return drv->bdrv_guest_ranges(g->new, (int64_t)offset, (int64_t)bytes, add_range, &g->ranges, err);
}

/* Which guest ranges could the changed blocks, and what was cut off, change? */
static int gather_ranges(struct guest *g, struct vd_err *err)
{
    size_t n;
    struct vd_err why = VD_ERR_INIT;
    vd_auto_mem struct vd_overlay_block *block = vd_overlay_list(g->in->overlay, &n, &why);

    if (!block && why.kind) {
        *err = why;
        return -1;
    }
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && block[k].offset == block[k - 1].offset + VD_OVERLAY_BLOCK; k++)
            ;
        if (ask_ranges(g, block[i].offset, (k - i) * (uint64_t)VD_OVERLAY_BLOCK, err) < 0)
            return -1;
    }
    vd_runs_settle(&g->ranges);
    return 0;
}

/* Do both versions name the same bytes of the file, none of them changed? */
static bool is_same_place(struct guest *g, int old_status, int64_t old_map, int new_status, int64_t new_map)
{
    int kept = BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;

    if ((old_status & kept) != (new_status & kept))
        return false;
    (void)g;
    return !(old_status & BDRV_BLOCK_DATA) || old_map == new_map;
}

static int compare_bytes(struct guest *g, int64_t guest, int64_t old_map, int64_t new_map, int64_t bytes,
                         bool *is_equal, struct vd_err *err)
{
    *is_equal = true;
    if (old_map >= 0 && new_map >= 0 && bdrv_is_hole(g->in->file, old_map, bytes) &&
        bdrv_is_hole(g->in->overlay, new_map, bytes))
        return 0;
    for (int64_t done = 0; done < bytes && *is_equal;) {
        int64_t n = (int64_t)vd_min((uint64_t)(bytes - done), COMPARE_PIECE);

        if (bdrv_pread(g->old, guest + done, n, g->old_bytes, NULL) < 0)
            return 0; /* it could not be read before: nothing to keep */
        if (bdrv_pread(g->new, guest + done, n, g->new_bytes, err) < 0)
            return -1;
        *is_equal = memcmp(g->old_bytes, g->new_bytes, (size_t)n) == 0;
        done += n;
    }
    return 0;
}

static bool is_named(const struct vd_verify_input *in, uint64_t guest, uint64_t bytes)
{
    return vd_runs_has_all(in->named, guest, bytes);
}

/* One extent of equal status. 0, or -1 where a readable byte would change that nothing names. */
static int compare_extent(struct guest *g, int64_t guest, int64_t bytes, int64_t *done, struct vd_err *err)
{
    int64_t old_n = 0, new_n = 0, old_map = -1, new_map = -1;
    int old_status = bdrv_block_status(g->old, guest, bytes, &old_n, &old_map, NULL), new_status;
    bool is_equal;

    /* Unreadable before: whatever it reads now is no loss. A cluster is the least that an entry decides. */
    if (old_status < 0) {
        *done =
            (int64_t)vd_min((uint64_t)bytes, g->in->after->cluster_size ? g->in->after->cluster_size : 4096);
        return 0;
    }
    new_status = bdrv_block_status(g->new, guest, bytes, &new_n, &new_map, err);
    *done = (int64_t)vd_min((uint64_t)old_n, (uint64_t)(new_status < 0 ? old_n : new_n));
    if (new_status >= 0 && is_same_place(g, old_status, old_map, new_status, new_map))
        return 0;
    if (is_named(g->in, (uint64_t)guest, (uint64_t)*done))
        return 0;
    if (new_status < 0)
        return vd_while(err, "guest bytes at 0x%" PRIx64 " would not be readable any more", (uint64_t)guest);
    /* From or to the backing file, or from zeroes to data: only the bytes themselves can tell. */
    if (compare_bytes(g, guest, old_status & BDRV_BLOCK_DATA ? old_map : -1,
                      new_status & BDRV_BLOCK_DATA ? new_map : -1, *done, &is_equal, err) < 0)
        return -1;
    if (!is_equal)
        return vd_fail(err, VD_ERR_REFUSED, 0,
                       "the repair would change guest bytes at 0x%" PRIx64 ", which no finding names",
                       (uint64_t)guest);
    return 0;
}

static int compare_ranges(struct guest *g, struct vd_err *err)
{
    uint64_t size = vd_min((uint64_t)g->old->total_bytes, (uint64_t)g->new->total_bytes);
    uint64_t total = vd_runs_total(&g->ranges), compared = 0;

    for (size_t i = 0; i < g->ranges.n; i++) {
        uint64_t at = g->ranges.v[i].first, end = vd_min(at + g->ranges.v[i].count, size);

        while (at < end) {
            int64_t done = 0;

            if (vd_budget_go_on(g->in->budget, err) < 0 ||
                compare_extent(g, (int64_t)at, (int64_t)(end - at), &done, err) < 0)
                return -1;
            at += (uint64_t)done;
            compared += (uint64_t)done;
            vd_budget_progress(g->in->budget, "guest MiB compared", compared >> 20, total >> 20);
        }
    }
    return 0;
}

/* The disk that both nodes show reads the same. */
static int judge_disk(struct guest *g, struct vd_err *err)
{
    int rc = gather_ranges(g, err) < 0 || compare_ranges(g, err) < 0 ? -1 : 0;

    vd_runs_done(&g->ranges);
    return rc;
}

/* The snapshot of that id, shown by a node of its own; NULL where there is none that could be shown. */
static struct BlockDriverState *open_snapshot(const struct vd_verify_input *in, struct BlockDriverState *file,
                                              const char *id, struct vd_err *err)
{
    int rc = 0;

    for (uint64_t i = 0; rc == 0 || rc == 2; i++) {
        vd_auto(BlockDriverState) bs = bdrv_open_node(in->drv, file, BDRV_O_CHECK, err);
        struct vd_snapshot_names seen;

        rc = bs ? in->drv->bdrv_snapshot_load_tmp(bs, i, &seen, err) : -1;
        if (rc == 0 && strcmp(seen.id, id) == 0)
            return vd_take(&bs);
    }
    return NULL;
}

/* Each snapshot that could be shown before reads the same; what a repair at level all gave up is named
 * elsewhere. */
static int judge_snapshots(struct guest *g, struct vd_err *err)
{
    const struct vd_verify_input *in = g->in;
    int rc = in->drv->bdrv_snapshot_load_tmp ? 0 : 1;

    for (uint64_t i = 0; rc == 0 || rc == 2; i++) {
        vd_auto(BlockDriverState) old = bdrv_open_node(in->drv, in->file, BDRV_O_CHECK, err);
        vd_auto(BlockDriverState) new = NULL;
        struct vd_snapshot_names names;
        struct guest view = *g;

        rc = old ? in->drv->bdrv_snapshot_load_tmp(old, i, &names, err) : -1;
        if (rc == 0)
            new = open_snapshot(in, in->overlay, names.id, err);
        if (!new)
            continue;
        view.old = old;
        view.new = new;
        if (judge_disk(&view, err) < 0)
            return vd_while(err, "snapshot %s", names.id);
    }
    return rc < 0 ? -1 : 0;
}

static int judge_guest_data(const struct vd_verify_input *in, struct vd_err *err)
{
    vd_auto(BlockDriverState) old = bdrv_open_node(in->drv, in->file, BDRV_O_CHECK, err);
    vd_auto(BlockDriverState) new = bdrv_open_node(in->drv, in->overlay, BDRV_O_CHECK, err);
    vd_auto_mem uint8_t *old_bytes = malloc(COMPARE_PIECE);
    vd_auto_mem uint8_t *new_bytes = malloc(COMPARE_PIECE);
    struct guest g = {.in = in, .old = old, .new = new, .old_bytes = old_bytes, .new_bytes = new_bytes};

    if (!old || !new)
        return -1;
    if (!old_bytes || !new_bytes)
        return vd_fail_memory(err);
    /* Without a map there was no way to guest data. */
    if (!in->before->map || !in->drv->bdrv_guest_ranges)
        return 0;
    return judge_disk(&g, err) < 0 ? -1 : judge_snapshots(&g, err);
}

int vd_verify(const struct vd_verify_input *in, struct vd_err *err)
{
    if (judge_findings(in, err) < 0)
        return -1;
    return judge_guest_data(in, err);
}
