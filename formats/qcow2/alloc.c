/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Host clusters of an image that is written to: taking free ones, giving up others, and room for more counts.
 *
 *     counts raised, new blocks, data  ->  flush  ->  the entry that names them  ->  flush  ->  counts
 * lowered
 *
 * So a power cut leaves counts that are too high, which is space lost, and none that is too low. Free is what
 * has a count of 0, at any place. The counts of a damaged image can be wrong, so a cluster is taken only
 * where no table lies that is known, and written in place only where all agree on whose it is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/live.h"

/* ---- counts */

/* The bytes of a block that is there; good until the next call. */
static uint8_t *load_block(struct BlockDriverState *bs, uint64_t i, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct qcow2_live *live = q->live;
    struct qcow2_open_block *block = &live->block[live->next_block];

    for (size_t k = 0; k < QCOW2_CACHED_BLOCKS; k++)
        if (live->block[k].bytes && live->block[k].i == i)
            return live->block[k].bytes;
    live->next_block = (live->next_block + 1) % QCOW2_CACHED_BLOCKS;
    block->i = UINT64_MAX;
    if (!block->bytes)
        block->bytes = malloc(q->g.cluster_size);
    if (!block->bytes) {
        vd_fail_memory(err);
        return NULL;
    }
    if (bdrv_pread_padded(bs->file, (int64_t)live->reftable[i], (int64_t)q->g.cluster_size, block->bytes,
                          err) < 0) {
        vd_while(err, "refcount block %" PRIu64, i);
        return NULL;
    }
    block->i = i;
    return block->bytes;
}

/* Whole sectors of a block: those of n counts from k on. */
static int write_counts(struct BlockDriverState *bs, uint64_t i, const uint8_t *block, uint64_t k, uint64_t n,
                        enum vd_stage stage, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    unsigned bits = 1U << q->g.refcount_order;
    uint64_t from = vd_align_down(k * bits / 8, QCOW2_SECTOR),
             to = vd_align_up_sat(vd_div_up((k + n) * bits, 8), QCOW2_SECTOR);

    return bdrv_pwrite(bs->file, (int64_t)(q->live->reftable[i] + from), (int64_t)(to - from), block + from,
                       stage, err);
}

static bool has_block(const struct qcow2_live *live, uint64_t i)
{
    return i < live->reftable_n && live->reftable[i];
}

static uint64_t get_count(const struct qcow2_geometry *g, const uint8_t *block, uint64_t k)
{
    uint64_t count;

    qcow2_unpack_counts(g, block, k, 1, &count);
    return count;
}

/* One less for the clusters of a run that lie in one block; how many those are to *done. */
static int lower(struct BlockDriverState *bs, struct vd_run run, uint64_t *done, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct qcow2_live *live = q->live;
    uint64_t i = run.first / g->block_n, k = run.first % g->block_n;
    uint8_t *block;

    *done = vd_min(run.count, g->block_n - k);
    if (!has_block(live, i))
        return qcow2_contradicts(bs, run.first << g->cluster_bits, "a cluster in use has no count", err);
    block = load_block(bs, i, err);
    if (!block)
        return -1;
    for (uint64_t n = 0; n < *done; n++) {
        uint64_t count = get_count(g, block, k + n);

        if (!count)
            return qcow2_contradicts(bs, (run.first + n) << g->cluster_bits,
                                     "a cluster in use has the count 0", err);
        qcow2_pack_count(g, block, k + n, count - 1);
        if (count == 1)
            live->hint = vd_min(live->hint, run.first + n);
    }
    return write_counts(bs, i, block, k, *done, VD_STAGE_FLAG, err);
}

int qcow2_live_flush(struct BlockDriverState *bs, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct qcow2_run_vec *released = &q->live->released;

    if (bdrv_flush_below(bs, err) < 0)
        return -1;
    for (size_t i = 0; i < released->n; i++) {
        struct vd_run run = released->v[i];

        for (uint64_t done = 0; run.count; run.first += done, run.count -= done)
            if (lower(bs, run, &done, err) < 0)
                return -1;
    }
    released->n = 0;
    return 0;
}

int qcow2_release(struct BlockDriverState *bs, uint64_t host, uint64_t n, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct qcow2_run_vec *released = &q->live->released;
    struct vd_run run = {host >> q->g.cluster_bits, n};

    if (released->n && released->v[released->n - 1].first + released->v[released->n - 1].count == run.first) {
        released->v[released->n - 1].count += n;
        return 0;
    }
    return qcow2_run_vec_push(released, run) < 0 ? vd_fail_memory(err) : 0;
}

int qcow2_check_owned(struct BlockDriverState *bs, uint64_t host, uint64_t n, bool is_table,
                      struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct qcow2_live *live = q->live;
    uint64_t first = host >> g->cluster_bits;

    if (qcow2_meets(&live->metadata, first, n) || (!is_table && qcow2_meets(&live->tables, first, n)))
        return qcow2_contradicts(bs, host, "an entry names a cluster of another table", err);
    for (uint64_t c = first; c < first + n; c++) {
        uint8_t *block = has_block(live, c / g->block_n) ? load_block(bs, c / g->block_n, err) : NULL;

        if (!block && has_block(live, c / g->block_n))
            return -1;
        if (!block || get_count(g, block, c % g->block_n) != 1)
            return qcow2_contradicts(bs, c << g->cluster_bits,
                                     "a cluster with COPIED has a count that is not 1", err);
    }
    return 0;
}

/* ---- room for more counts */

/* Clusters behind all that have counts, which count themselves:
 *
 *     first: refcount blocks | a larger refcount table, where the old one is full | n clusters for the caller
 */
struct region {
    uint64_t first; /* a multiple of what one block counts */
    uint64_t blocks_n, table_n, n;
};

static uint64_t blocks_for(const struct qcow2_geometry *g, uint64_t others)
{
    uint64_t blocks = 0, before;

    do {
        before = blocks;
        blocks = vd_div_up(before + others, g->block_n);
    } while (blocks != before);
    return blocks;
}

static uint64_t region_end(const struct region *r)
{
    return r->first + r->blocks_n + r->table_n + r->n;
}

/* The table has at least min_entries then. */
static int plan_region(struct BlockDriverState *bs, uint64_t n, uint64_t min_entries, struct region *r,
                       struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    const struct qcow2_live *live = q->live;
    uint64_t words = g->cluster_size / 8, have = live->reftable_n, top = live->reftable_n;

    while (top && !live->reftable[top - 1])
        top--;
    *r = (struct region){.first = top * g->block_n, .n = n};
    for (;;) {
        uint64_t need;

        r->blocks_n = blocks_for(g, r->table_n + n);
        need = vd_max(min_entries, top + r->blocks_n);
        if (need <= have)
            break;
        /* Half as much again, so that growing stays rare. */
        r->table_n =
            vd_max(vd_div_up(need, words), vd_div_up(live->reftable_n + live->reftable_n / 2, words));
        r->table_n =
            vd_min(r->table_n, vd_max(QCOW2_MAX_REFTABLE_BYTES / g->cluster_size, vd_div_up(need, words)));
        have = r->table_n * words;
    }
    if (r->table_n * g->cluster_size > QCOW2_MAX_REFTABLE_BYTES ||
        region_end(r) > (uint64_t)INT64_MAX >> g->cluster_bits ||
        region_end(r) << g->cluster_bits > QCOW2_OFFSET_MASK)
        return vd_fail(err, VD_ERR_LIMIT, ENOSPC, "%s: no more clusters can be counted", bs->filename);
    if (qcow2_meets(&q->live->metadata, r->first, region_end(r) - r->first) ||
        qcow2_meets(&q->live->tables, r->first, region_end(r) - r->first))
        return qcow2_contradicts(bs, r->first << g->cluster_bits, "a table has no count", err);
    return 0;
}

static int write_blocks(struct BlockDriverState *bs, const struct region *r, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    vd_auto_mem uint8_t *block = malloc(g->cluster_size);
    uint64_t left = region_end(r) - r->first;

    if (!block)
        return vd_fail_memory(err);
    for (uint64_t i = 0; i < r->blocks_n; i++) {
        uint64_t n = vd_min(left, g->block_n);

        memset(block, 0, g->cluster_size);
        for (uint64_t k = 0; k < n; k++)
            qcow2_pack_count(g, block, k, 1);
        left -= n;
        if (bdrv_pwrite(bs->file, (int64_t)((r->first + i) << g->cluster_bits), (int64_t)g->cluster_size,
                        block, VD_STAGE_NEW, err) < 0)
            return -1;
    }
    return 0;
}

/* Words [first, first + n) of the refcount table as memory has it, to where the table lies. */
static int write_reftable(struct BlockDriverState *bs, uint64_t table_off, uint64_t first, uint64_t n,
                          enum vd_stage stage, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    vd_auto_mem uint8_t *bytes = malloc(8 * n);

    if (!bytes)
        return vd_fail_memory(err);
    for (uint64_t i = 0; i < n; i++)
        vd_put_be64(bytes + 8 * i, q->live->reftable[first + i]);
    return bdrv_pwrite(bs->file, (int64_t)(table_off + 8 * first), (int64_t)(8 * n), bytes, stage, err);
}

static int resize_reftable(struct qcow2_live *live, uint64_t n, struct vd_err *err)
{
    uint64_t *grown = realloc(live->reftable, n * 8);

    if (!grown)
        return vd_fail_memory(err);
    memset(grown + live->reftable_n, 0, (n - live->reftable_n) * 8);
    live->reftable = grown;
    live->reftable_n = n;
    return 0;
}

/* The new table is written; the header turns to it. */
static int switch_reftable(struct BlockDriverState *bs, uint64_t off, uint64_t clusters, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct qcow2_header h = q->header;
    struct vd_span old = {h.refcount_table_offset, h.refcount_table_clusters};

    h.refcount_table_offset = off;
    h.refcount_table_clusters = (uint32_t)clusters;
    if (qcow2_write_fields(bs, &h, "refcount_table_offset", "refcount_table_clusters", VD_STAGE_ROOT, err) <
            0 ||
        bdrv_flush(bs->file, err) < 0 || qcow2_refresh(bs, err) < 0)
        return -1;
    if (qcow2_drop_clusters(bs, &q->live->metadata, old.off, old.len, err) < 0)
        return -1;
    return qcow2_release(bs, old.off, old.len, err);
}

/* Makes the region and takes it into use; where the caller's clusters begin to *host. */
static int make_region(struct BlockDriverState *bs, uint64_t n, uint64_t min_entries, uint64_t *host,
                       struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct qcow2_live *live = q->live;
    uint64_t top, table_off;
    struct region r;

    if (plan_region(bs, n, min_entries, &r, err) < 0 || write_blocks(bs, &r, err) < 0 ||
        (r.table_n && resize_reftable(live, r.table_n * g->cluster_size / 8, err) < 0))
        return -1;
    top = r.first / g->block_n;
    for (uint64_t i = 0; i < r.blocks_n; i++)
        live->reftable[top + i] = (r.first + i) << g->cluster_bits;
    table_off = (r.first + r.blocks_n) << g->cluster_bits;
    *host = table_off + (r.table_n << g->cluster_bits);
    if (qcow2_add_clusters(bs, &live->metadata, r.first << g->cluster_bits, r.blocks_n + r.table_n, err) < 0)
        return -1;
    if (r.table_n)
        return write_reftable(bs, table_off, 0, live->reftable_n, VD_STAGE_NEW, err) < 0 ||
                       bdrv_flush(bs->file, err) < 0 || switch_reftable(bs, table_off, r.table_n, err) < 0
                   ? -1
                   : 0;
    if (bdrv_flush(bs->file, err) < 0)
        return -1;
    return write_reftable(bs, g->reftable_off, top, r.blocks_n, VD_STAGE_TABLE, err);
}

/* A block for counts that had none, in the first cluster from k on that it counts: so it counts itself. */
static int new_block(struct BlockDriverState *bs, uint64_t i, uint64_t k, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct qcow2_live *live = q->live;
    uint64_t cluster = i * g->block_n + k;
    vd_auto_mem uint8_t *block = calloc(1, g->cluster_size);

    if (!block)
        return vd_fail_memory(err);
    if (cluster >= QCOW2_OFFSET_MASK >> g->cluster_bits)
        return vd_fail(err, VD_ERR_LIMIT, ENOSPC, "%s: no more clusters can be named", bs->filename);
    qcow2_pack_count(g, block, k, 1);
    if (qcow2_add_clusters(bs, &live->metadata, cluster << g->cluster_bits, 1, err) < 0 ||
        bdrv_pwrite(bs->file, (int64_t)(cluster << g->cluster_bits), (int64_t)g->cluster_size, block,
                    VD_STAGE_NEW, err) < 0 ||
        bdrv_flush(bs->file, err) < 0)
        return -1;
    live->reftable[i] = cluster << g->cluster_bits;
    return write_reftable(bs, g->reftable_off, i, 1, VD_STAGE_TABLE, err);
}

/* ---- taking */

/* The first min to max clusters in a row of a block, from k on, whose counts are 0. */
static bool find_free(const struct qcow2_geometry *g, const uint8_t *block, uint64_t k, uint64_t min,
                      uint64_t max, uint64_t *first, uint64_t *n)
{
    for (*n = 0; k < g->block_n && *n < max; k++) {
        if (get_count(g, block, k) == 0) {
            if (!(*n)++)
                *first = k;
        } else {
            if (*n >= min)
                return true;
            *n = 0;
        }
    }
    return *n >= min;
}

static int take(struct BlockDriverState *bs, uint64_t i, uint8_t *block, uint64_t k, uint64_t n,
                struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t first = i * g->block_n + k;

    if (first + n > QCOW2_OFFSET_MASK >> g->cluster_bits ||
        first + n > (uint64_t)INT64_MAX >> g->cluster_bits)
        return vd_fail(err, VD_ERR_LIMIT, ENOSPC, "%s: no more clusters can be named", bs->filename);
    if (qcow2_meets(&q->live->metadata, first, n) || qcow2_meets(&q->live->tables, first, n))
        return qcow2_contradicts(bs, first << g->cluster_bits, "a table in use has the count 0", err);
    for (uint64_t m = k; m < k + n; m++)
        qcow2_pack_count(g, block, m, 1);
    return write_counts(bs, i, block, k, n, VD_STAGE_NEW, err);
}

int qcow2_allocate(struct BlockDriverState *bs, uint64_t min, uint64_t max, uint64_t *host, uint64_t *n,
                   struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct qcow2_live *live = q->live;
    uint64_t first = 0, ignored;

    *n = min;
    if (min >= g->block_n) /* a new block that counts itself leaves less than that in a row */
        return make_region(bs, min, 0, host, err);
    for (uint64_t i = live->hint / g->block_n;; i++) {
        uint64_t k = i == live->hint / g->block_n ? live->hint % g->block_n : 0;
        uint8_t *block;

        if (i >= live->reftable_n && make_region(bs, 0, i + 1, &ignored, err) < 0)
            return -1;
        if (!live->reftable[i] && new_block(bs, i, k, err) < 0)
            return -1;
        block = load_block(bs, i, err);
        if (!block)
            return -1;
        if (!find_free(g, block, k, min, max, &first, n))
            continue;
        if (take(bs, i, block, first, *n, err) < 0)
            return -1;
        *host = (i * g->block_n + first) << g->cluster_bits;
        if (min == 1)
            live->hint = i * g->block_n + first + *n;
        return 0;
    }
}
