/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One small function per repair. Each writes through the check's image (an overlay, in a repair), marks the
 * check as changed, and touches nothing that the finding does not name. New clusters are appended: below the
 * end of the file everything that nobody claims may be the last copy of something.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

enum { COUNTS = 4096 };

static int set_length(struct vd_check *ck, uint64_t length, struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;

    ck->has_changed = true;
    if (bdrv_truncate(ck->bs->file, (int64_t)length, err) < 0)
        return -1;
    q->g = qcow2_derive(&q->header, length);
    return 0;
}

int qcow2_fix_extend(struct vd_check *ck, uint64_t length, struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;

    return length > q->g.file_size ? set_length(ck, length, err) : 0;
}

int qcow2_fix_cut(struct vd_check *ck, uint64_t length, struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;

    return length < q->g.file_size ? set_length(ck, length, err) : 0;
}

int qcow2_fix_fields(struct vd_check *ck, const struct qcow2_header *header, const char *from, const char *to,
                     enum vd_stage stage, struct vd_err *err)
{
    ck->has_changed = true;
    return qcow2_write_fields(ck->bs, header, from, to, stage, err);
}

/* Unknown autoclear bits must be gone before anything else is written. */
static int before_write(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header h = q->header;

    ck->has_changed = true;
    if (!(h.autoclear_features & ~(uint64_t)QCOW2_AUTOCLEAR_KNOWN))
        return 0;
    h.autoclear_features &= QCOW2_AUTOCLEAR_KNOWN;
    return qcow2_write_fields(ck->bs, &h, "autoclear_features", "autoclear_features", VD_STAGE_NEW, err);
}

enum vd_level qcow2_level_inside(struct vd_check *ck, uint64_t off, enum vd_level level)
{
    const struct qcow2 *q = ck->bs->opaque;

    return ck->map_is_incomplete || vd_refs_at(ck, vd_align_down(off, q->g.cluster_size)).is_conflicted
               ? VD_LEVEL_NONE
               : level;
}

int qcow2_fix_word(struct vd_check *ck, uint64_t off, uint64_t word, enum vd_stage stage, struct vd_err *err)
{
    uint8_t bytes[8];

    if (before_write(ck, err) < 0)
        return -1;
    vd_put_be64(bytes, word);
    return bdrv_pwrite(ck->bs->file, (int64_t)off, sizeof(bytes), bytes, stage, err);
}

/* ---- counts */

/* Counts of one block: clusters [first, first + n). */
static int write_counts(struct vd_check *ck, uint64_t block, uint64_t first, uint64_t n, uint64_t count,
                        enum vd_stage stage, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    unsigned bits = 1U << g->refcount_order;
    uint64_t i = first % g->block_n, from = i * bits / 8, to = vd_div_up((i + n) * bits, 8);
    uint8_t bytes[8 * COUNTS + 8];

    if (bdrv_pread_padded(ck->bs->file, (int64_t)(block + from), (int64_t)(to - from), bytes, err) < 0)
        return -1;
    for (uint64_t k = 0; k < n; k++)
        qcow2_pack_count(g, bytes, i + k - from * 8 / bits, count);
    return bdrv_pwrite(ck->bs->file, (int64_t)(block + from), (int64_t)(to - from), bytes, stage, err);
}

static int set_counts(struct vd_check *ck, uint64_t first, uint64_t n, uint64_t count, enum vd_stage stage,
                      struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t block = 0, at = UINT64_MAX;

    if (before_write(ck, err) < 0)
        return -1;
    while (n) {
        uint64_t in_block = q->g.block_n - first % q->g.block_n, k = vd_min(vd_min(n, in_block), COUNTS);

        if (first / q->g.block_n != at && qcow2_block_of(ck->bs, first, &block, err) < 0)
            return -1;
        at = first / q->g.block_n;
        if (!block)
            return vd_fail(err, VD_ERR_REFUSED, 0, "%s: there is no refcount block for a new cluster",
                           ck->bs->filename);
        if (write_counts(ck, block, first, k, count, stage, err) < 0)
            return -1;
        first += k;
        n -= k;
    }
    return 0;
}

int qcow2_fix_counts(struct vd_check *ck, uint64_t first, uint64_t n, uint64_t count, struct vd_err *err)
{
    return set_counts(ck, first, n, count, VD_STAGE_TABLE, err);
}

/* A block that is patched as a whole: many counts of it change. */
struct open_block {
    uint64_t index; /* UINT64_MAX: none */
    uint64_t off;
    uint8_t *bytes; /* one cluster */
};

static int close_block(struct vd_check *ck, struct open_block *b, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;

    if (b->index == UINT64_MAX)
        return 0;
    b->index = UINT64_MAX;
    return bdrv_pwrite(ck->bs->file, (int64_t)b->off, (int64_t)q->g.cluster_size, b->bytes, VD_STAGE_TABLE,
                       err);
}

static int open_block(struct vd_check *ck, struct open_block *b, uint64_t cluster, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t index = cluster / q->g.block_n;

    if (b->index == index)
        return 0;
    if (close_block(ck, b, err) < 0 || qcow2_block_of(ck->bs, cluster, &b->off, err) < 0)
        return -1;
    if (!b->off)
        return vd_fail(err, VD_ERR_REFUSED, 0, "%s: there is no refcount block for cluster 0x%" PRIx64,
                       ck->bs->filename, cluster);
    b->index = index;
    return bdrv_pread_padded(ck->bs->file, (int64_t)b->off, (int64_t)q->g.cluster_size, b->bytes, err);
}

int qcow2_fix_runs(struct vd_check *ck, struct vd_runs *clusters, uint64_t count, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    vd_auto_mem uint8_t *bytes = malloc(q->g.cluster_size);
    struct open_block b = {.index = UINT64_MAX, .bytes = bytes};

    if (!bytes)
        return vd_fail_memory(err);
    if (before_write(ck, err) < 0)
        return -1;
    vd_runs_settle(clusters);
    for (size_t i = 0; i < clusters->n; i++)
        for (uint64_t k = 0; k < clusters->v[i].count; k++) {
            uint64_t cluster = clusters->v[i].first + k;

            if (open_block(ck, &b, cluster, err) < 0)
                return -1;
            qcow2_pack_count(&q->g, bytes, cluster % q->g.block_n, count);
        }
    return close_block(ck, &b, err);
}

/* ---- new clusters */

/* Clusters that a copy takes at most, with the block that counts it. */
enum { COPY_TAKES = 8 };

bool qcow2_may_grow(struct vd_check *ck, uint64_t clusters)
{
    struct qcow2_state *s = ck->driver_data;
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t named = s->walk.named_behind;

    s->promised = vd_add_sat(s->promised, clusters);
    return !named || s->promised <= (named - vd_min(named, q->g.file_end)) >> q->g.cluster_bits;
}

bool qcow2_can_append(struct vd_check *ck)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t block = 0, end = q->g.file_end >> q->g.cluster_bits;
    struct vd_err err = VD_ERR_INIT;

    if (!qcow2_may_grow(ck, COPY_TAKES) || bdrv_is_fixed_length(ck->bs) ||
        end / q->g.block_n >= q->g.reftable_n)
        return false;
    return qcow2_block_of(ck->bs, end, &block, &err) == 0 && (block || end % q->g.block_n == 0);
}

static int grow(struct vd_check *ck, uint64_t n, uint64_t *off, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;

    if (bdrv_is_fixed_length(ck->bs))
        return vd_fail(err, VD_ERR_REFUSED, 0, "%s: the device has no room that is known to be free",
                       ck->bs->filename);
    *off = q->g.file_end;
    return set_length(ck, *off + (n << q->g.cluster_bits), err);
}

/* A block that covers the clusters behind the end of the file, at their first: it counts itself. */
static int append_block(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t cluster = q->g.file_end >> q->g.cluster_bits, i = cluster / q->g.block_n, off;

    if (i >= q->g.reftable_n)
        return vd_fail(err, VD_ERR_REFUSED, 0, "%s: the refcount table has no room for a new block",
                       ck->bs->filename);
    if (grow(ck, 1, &off, err) < 0 || write_counts(ck, off, cluster, 1, 1, VD_STAGE_NEW, err) < 0)
        return -1;
    return qcow2_fix_word(ck, q->g.reftable_off + 8 * i, off, VD_STAGE_TABLE, err);
}

static int append_one(struct vd_check *ck, uint64_t *off, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t block = 0;

    if (qcow2_block_of(ck->bs, q->g.file_end >> q->g.cluster_bits, &block, err) < 0)
        return -1;
    if (!block && append_block(ck, err) < 0)
        return -1;
    if (grow(ck, 1, off, err) < 0)
        return -1;
    return set_counts(ck, *off >> q->g.cluster_bits, 1, 1, VD_STAGE_NEW, err);
}

int qcow2_append(struct vd_check *ck, uint64_t n, uint64_t *off, struct vd_err *err)
{
    for (uint64_t i = 0, at; i < n; i++) {
        if (append_one(ck, &at, err) < 0)
            return -1;
        if (i == 0)
            *off = at;
    }
    return 0;
}

int qcow2_fix_copy(struct vd_check *ck, struct vd_span from, uint64_t *to, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;

    if (qcow2_append(ck, vd_div_up(from.len, q->g.cluster_size), to, err) < 0)
        return -1;
    return vd_copy_bytes(ck, from.off, *to, from.len, err);
}

int qcow2_fix_clone_cluster(struct vd_check *ck, uint64_t entry_off, uint64_t word, uint64_t weight,
                            struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t copy, flags = word & ~(QCOW2_OFFSET_MASK | QCOW2_COPIED), from = word & QCOW2_OFFSET_MASK;
    int64_t bytes = (int64_t)q->g.cluster_size;
    bool is_hole = bdrv_is_hole(ck->bs->file, (int64_t)from, bytes);
    vd_auto_mem uint8_t *buf = malloc((size_t)bytes);

    if (!buf)
        return vd_fail_memory(err);
    /* Read first: where the guest has a refcount block, to count the copy changes it. */
    if (bdrv_pread_padded(ck->bs->file, (int64_t)from, bytes, buf, err) < 0 ||
        qcow2_append(ck, 1, &copy, err) < 0 ||
        (!is_hole && bdrv_pwrite(ck->bs->file, (int64_t)copy, bytes, buf, VD_STAGE_NEW, err) < 0))
        return -1;
    if (weight > 1 && qcow2_fix_counts(ck, copy >> q->g.cluster_bits, 1, weight, err) < 0)
        return -1;
    return qcow2_fix_word(ck, entry_off, flags | copy | (weight == 1 ? QCOW2_COPIED : 0), VD_STAGE_TABLE,
                          err);
}
