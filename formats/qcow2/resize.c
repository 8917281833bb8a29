/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Another size of the guest's disk, and an empty disk.
 *
 * Growing:    larger L1 table, flush, header  ->  what would show through is zeroed, flush  ->  size
 * Shrinking:  entries behind the new end are cleared, size in the header  ->  flush  ->  counts lowered
 *
 * The file keeps its length: what is free at its end is space for later writes. An external data file is as
 * long as the disk: it grows before the header says so, and is cut when the header is on the disk.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/qcow2/live.h"

/* ---- growing */

static int copy_l1(struct BlockDriverState *bs, uint64_t off, uint64_t bytes, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    vd_auto_mem uint8_t *table = calloc(1, bytes);

    if (!table)
        return vd_fail_memory(err);
    if (bdrv_pread_padded(bs->file, (int64_t)q->g.l1_off, (int64_t)(8 * q->g.l1_n), table, err) < 0 ||
        bdrv_pwrite(bs->file, (int64_t)off, (int64_t)bytes, table, VD_STAGE_NEW, err) < 0)
        return -1;
    return qcow2_live_flush(bs, err);
}

static int grow_l1(struct BlockDriverState *bs, uint64_t need, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct qcow2_header h = q->header;
    uint64_t cs = q->g.cluster_size, clusters = vd_div_up(8 * need, cs), got, off;
    struct vd_span old = {h.l1_table_offset, vd_div_up(8 * (uint64_t)h.l1_size, cs)};

    if (need <= h.l1_size)
        return 0;
    if (qcow2_allocate(bs, clusters, clusters, &off, &got, err) < 0 ||
        copy_l1(bs, off, clusters * cs, err) < 0)
        return -1;
    h.l1_size = (uint32_t)need;
    h.l1_table_offset = off;
    if (qcow2_write_fields(bs, &h, "l1_size", "l1_table_offset", VD_STAGE_ROOT, err) < 0 ||
        bdrv_flush(bs->file, err) < 0 || qcow2_refresh(bs, err) < 0)
        return -1;
    if (qcow2_drop_clusters(bs, &q->live->metadata, old.off, old.len, err) < 0 ||
        qcow2_add_clusters(bs, &q->live->metadata, off, clusters, err) < 0)
        return -1;
    return old.len ? qcow2_release(bs, old.off, old.len, err) : 0;
}

/* What lies behind the old end of the disk would become visible: the rest of its last cluster, and a longer
 * backing file. */
static int hide_what_is_behind(struct BlockDriverState *bs, uint64_t size, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t old = (uint64_t)bs->total_bytes, cs = q->g.cluster_size, end = vd_align_up_sat(old, cs);

    if (bs->backing) {
        int64_t below = bdrv_getlength(bs->backing, err);

        if (below < 0)
            return -1;
        end = vd_max(end, vd_align_up_sat(vd_min(size, (uint64_t)below), cs));
    }
    return qcow2_zero_range(bs, old, end - old, err);
}

/* The data file gets longer; of one that is a raw disk by itself every cluster has an entry. */
static int grow_data(struct BlockDriverState *bs, uint64_t size, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t guest = vd_align_up_sat((uint64_t)bs->total_bytes, g->cluster_size);
    vd_auto_mem struct qcow2_words *words = NULL;

    if (!bs->data)
        return 0;
    if (bdrv_truncate(bs->data, (int64_t)size, err) < 0)
        return -1;
    words = malloc(g->table_n * sizeof(*words));
    if (!words)
        return vd_fail_memory(err);
    while (qcow2_has_raw_data(q) && guest < size) {
        uint64_t in_slot = (qcow2_slot_bytes(g) - (guest & (qcow2_slot_bytes(g) - 1))) >> g->cluster_bits,
                 n = vd_min(in_slot, vd_div_up(size - guest, g->cluster_size));

        for (uint64_t k = 0; k < n; k++)
            words[k] = (struct qcow2_words){QCOW2_COPIED | (guest + (k << g->cluster_bits)),
                                            g->has_extended_l2 ? QCOW2_ALL_SUBCLUSTERS : 0};
        if (qcow2_publish(bs, guest, n, words, err) < 0)
            return -1;
        guest += n << g->cluster_bits;
    }
    return 0;
}

static int grow(struct BlockDriverState *bs, uint64_t size, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct qcow2_header h;

    if (qcow2_prepare_header(bs, true, err) < 0 ||
        grow_l1(bs, vd_div_up(size, qcow2_slot_bytes(&q->g)), err) < 0 ||
        hide_what_is_behind(bs, size, err) < 0 || grow_data(bs, size, err) < 0 ||
        qcow2_live_flush(bs, err) < 0)
        return -1;
    h = q->header;
    h.size = size;
    if (qcow2_write_fields(bs, &h, "size", "size", VD_STAGE_ROOT, err) < 0)
        return -1;
    return bdrv_flush(bs->file, err);
}

/* ---- giving up what tables name */

/* Releases what the entries of one table name, from entry `first` on, and with all of them the table. Without
 * releases they are only looked at, so that a bad one is met before anything is changed. */
static int drop_slot(struct BlockDriverState *bs, uint64_t slot, uint64_t first, bool releases,
                     struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t table_off = 0, index;
    struct qcow2_entry e;

    for (uint64_t i = first; i < q->g.table_n; i++) {
        if (qcow2_lookup_sound(bs, qcow2_guest(&q->g, slot, i), &e, &table_off, &index, err) < 0)
            return -1;
        if (!table_off)
            return 0;
        if (releases && qcow2_release_entry(bs, &e, err) < 0)
            return -1;
    }
    return releases && !first ? qcow2_release(bs, table_off, 1, err) : 0;
}

static int drop_slots(struct BlockDriverState *bs, uint64_t first, bool releases, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    for (uint64_t slot = first; slot < q->g.l1_n; slot++)
        if (drop_slot(bs, slot, 0, releases, err) < 0)
            return -1;
    return 0;
}

/* The last words of the L1 table, from `first` on; any of them may arrive before the others. */
static int clear_l1(struct BlockDriverState *bs, uint64_t first, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    return bdrv_pwrite_zeroes(bs->file, (int64_t)(q->g.l1_off + 8 * first),
                              (int64_t)(8 * (q->g.l1_n - first)), VD_STAGE_ROOT, err);
}

/* ---- shrinking */

/* The table that the new end cuts: its entries behind that. */
static int cut_slot(struct BlockDriverState *bs, uint64_t end, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t slot = end >> g->l1_shift, index = (end & (qcow2_slot_bytes(g) - 1)) >> g->cluster_bits,
             table_off, n = g->table_n - index, k;
    vd_auto_mem struct qcow2_entry *old = NULL;
    vd_auto_mem struct qcow2_words *none = NULL;

    if (!index)
        return 0;
    old = malloc(n * sizeof(*old));
    none = calloc(n, sizeof(*none));
    if (!old || !none)
        return vd_fail_memory(err);
    for (uint64_t i = 0; i < n; i++)
        if (qcow2_lookup_sound(bs, qcow2_guest(g, slot, index + i), &old[i], &table_off, &k, err) < 0)
            return -1;
    if (!table_off)
        return 0;
    if (qcow2_publish(bs, end, n, none, err) < 0)
        return -1;
    for (uint64_t i = 0; i < n; i++)
        if (qcow2_release_entry(bs, &old[i], err) < 0)
            return -1;
    return 0;
}

/* Size and L1 size stand in one sector and change in one write. */
static int write_smaller_size(struct BlockDriverState *bs, uint64_t size, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct qcow2_header h = q->header;
    uint64_t cs = q->g.cluster_size, had = vd_div_up(8 * (uint64_t)h.l1_size, cs), has;

    h.size = size;
    h.l1_size = (uint32_t)vd_min(h.l1_size, vd_max(1, vd_div_up(size, qcow2_slot_bytes(&q->g))));
    has = vd_div_up(8 * (uint64_t)h.l1_size, cs);
    if (qcow2_write_fields(bs, &h, "size", "l1_size", VD_STAGE_ROOT, err) < 0)
        return -1;
    return had > has ? qcow2_release(bs, h.l1_table_offset + has * cs, had - has, err) : 0;
}

static int shrink(struct BlockDriverState *bs, uint64_t size, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    uint64_t end = vd_align_up_sat(size, q->g.cluster_size), first = vd_div_up(end, qcow2_slot_bytes(&q->g));

    if (drop_slots(bs, first, false, err) < 0 || qcow2_prepare_header(bs, true, err) < 0 ||
        cut_slot(bs, end, err) < 0 || qcow2_live_flush(bs, err) < 0)
        return -1;
    if (drop_slots(bs, first, true, err) < 0 || (first < q->g.l1_n && clear_l1(bs, first, err) < 0) ||
        write_smaller_size(bs, size, err) < 0 || qcow2_live_flush(bs, err) < 0 ||
        (bs->data && bdrv_truncate(bs->data, (int64_t)size, err) < 0))
        return -1;
    qcow2_live_forget(q->live);
    return qcow2_refresh(bs, err);
}

/* ---- callbacks */

static int refuse_size(struct BlockDriverState *bs, uint64_t size, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    bool shrinks = size < (uint64_t)bs->total_bytes;

    if (q->header.nb_snapshots && (shrinks || q->g.version == 2))
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP,
                       "%s: %s disk of an image with snapshots keeps its size", bs->filename,
                       shrinks ? "to a smaller size, the" : "in version 2 of the format, the");
    if (!shrinks && bs->backing_file && !bs->backing)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP,
                       "%s: the disk cannot grow while its backing file is not open", bs->filename);
    if (vd_div_up(size, qcow2_slot_bytes(&q->g)) > QCOW2_MAX_L1_ENTRIES || size > INT64_MAX)
        return vd_fail(err, VD_ERR_UNSUPPORTED, EFBIG,
                       "%s: with these clusters a disk has at most %" PRIu64 " bytes", bs->filename,
                       (uint64_t)QCOW2_MAX_L1_ENTRIES << q->g.l1_shift);
    return 0;
}

int qcow2_co_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    uint64_t bytes = vd_align_up_sat((uint64_t)size, QCOW2_SECTOR);
    int rc;

    if (qcow2_begin_write(bs, err) < 0 || refuse_size(bs, bytes, err) < 0)
        return -1;
    if (bytes == (uint64_t)bs->total_bytes)
        return 0;
    rc = bytes > (uint64_t)bs->total_bytes ? grow(bs, bytes, err) : shrink(bs, bytes, err);
    return rc < 0 ? qcow2_freeze(bs) : 0;
}

/* Every table that the L1 table loses has its counts until the loss is on the disk, so any part of it that a
 * power cut lets through is sound. Tables and clusters that snapshots have too keep their references. */
static int empty(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;

    if (drop_slots(bs, 0, false, err) < 0 || qcow2_prepare_header(bs, true, err) < 0 ||
        qcow2_live_flush(bs, err) < 0 || drop_slots(bs, 0, true, err) < 0 || clear_l1(bs, 0, err) < 0 ||
        qcow2_live_flush(bs, err) < 0)
        return -1;
    qcow2_live_forget(q->live);
    return qcow2_refresh(bs, err);
}

int qcow2_make_empty(struct BlockDriverState *bs, struct vd_err *err)
{
    if (qcow2_begin_write(bs, err) < 0)
        return -1;
    if (qcow2_has_raw_data(bs->opaque))
        return vd_fail(
            err, VD_ERR_UNSUPPORTED, ENOTSUP,
            "%s: the data file is a raw disk of its own, and an image without entries would not show it",
            bs->filename);
    return empty(bs, err) < 0 ? qcow2_freeze(bs) : 0;
}
