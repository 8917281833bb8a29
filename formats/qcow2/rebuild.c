/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Refcount structures written anew from the claims, where what is stored cannot be patched.
 *
 * A block that is written anew has no memory of what its old counts protected. Where data may have been lost
 * from the tables, clusters that nobody claims get a count of 1, so that no program gives them to somebody
 * else: they are leaks of the report.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

struct rebuild {
    struct vd_check *ck;
    uint64_t known; /* clusters that the walk knows; behind them are only new ones */
    uint64_t end;   /* clusters of the file as it will be */
    bool keep_unclaimed;
};

static uint64_t count_for(const struct rebuild *r, uint64_t cluster, bool *is_used)
{
    const struct qcow2 *q = r->ck->bs->opaque;
    uint64_t count = 0;

    if (cluster < r->known) {
        count = vd_refs_at(r->ck, cluster << q->g.cluster_bits).count;
        if (!count && r->keep_unclaimed) {
            count = 1;
            vd_gave_up(r->ck, (struct vd_span){cluster << q->g.cluster_bits, q->g.cluster_size});
        }
    } else if (cluster < r->end) {
        count = 1;
    }
    *is_used |= count != 0;
    return vd_min(count, q->g.max_count);
}

static bool fill_block(const struct rebuild *r, uint64_t index, uint8_t *block)
{
    const struct qcow2 *q = r->ck->bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t first = index * g->block_n;
    bool is_used = false;

    memset(block, 0, g->cluster_size);
    for (uint64_t i = 0; i < g->block_n && first + i < r->end; i++)
        qcow2_pack_count(g, block, i, count_for(r, first + i, &is_used));
    return is_used;
}

static uint64_t known_clusters(struct vd_check *ck)
{
    const struct qcow2_state *s = ck->driver_data;

    return s->map_clusters;
}

int qcow2_fix_rebuild_block(struct vd_check *ck, uint64_t index, bool keep_unclaimed, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t off = g->file_end, cluster = off >> g->cluster_bits;
    struct rebuild r = {ck, known_clusters(ck), cluster + 1, keep_unclaimed};
    vd_auto_mem uint8_t *block = malloc(g->cluster_size);

    if (!block)
        return vd_fail_memory(err);
    /* Without the new block, is anything of its range used? */
    r.end--;
    if (!fill_block(&r, index, block))
        return qcow2_fix_word(ck, g->reftable_off + 8 * index, 0, VD_STAGE_TABLE, err);
    r.end++;
    fill_block(&r, index, block);
    if (qcow2_fix_extend(ck, off + g->cluster_size, err) < 0 ||
        bdrv_pwrite(ck->bs->file, (int64_t)off, (int64_t)g->cluster_size, block, VD_STAGE_NEW, err) < 0 ||
        qcow2_fix_word(ck, g->reftable_off + 8 * index, off, VD_STAGE_TABLE, err) < 0)
        return -1;
    return cluster / g->block_n == index ? 0 : qcow2_fix_counts(ck, cluster, 1, 1, err);
}

/* ---- all of it */

static int write_blocks(const struct rebuild *r, uint64_t first_off, uint64_t blocks, uint8_t *table,
                        struct vd_err *err)
{
    const struct qcow2 *q = r->ck->bs->opaque;
    vd_auto_mem uint8_t *block = malloc(q->g.cluster_size);

    if (!block)
        return vd_fail_memory(err);
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t off = first_off + (i << q->g.cluster_bits);

        if (vd_budget_go_on(r->ck->budget, err) < 0)
            return -1;
        fill_block(r, i, block);
        if (bdrv_pwrite(r->ck->bs->file, (int64_t)off, (int64_t)q->g.cluster_size, block, VD_STAGE_NEW, err) <
            0)
            return -1;
        vd_put_be64(table + 8 * i, off);
    }
    return 0;
}

int qcow2_fix_rebuild_all(struct vd_check *ck, bool keep_unclaimed, struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header fixed = q->header;
    uint64_t clusters = q->g.file_end >> q->g.cluster_bits, off = q->g.file_end, blocks = 0,
             table_clusters = 0, cs = q->g.cluster_size, before;
    struct rebuild r = {ck, known_clusters(ck), 0, keep_unclaimed};
    vd_auto_mem uint8_t *table = NULL;

    do {
        before = blocks + table_clusters;
        blocks = vd_div_up(clusters + before, q->g.block_n);
        table_clusters = vd_div_up(8 * blocks, cs);
    } while (blocks + table_clusters != before);
    if (table_clusters * cs > QCOW2_MAX_REFTABLE_BYTES || bdrv_is_fixed_length(ck->bs))
        return vd_fail(err, VD_ERR_REFUSED, 0, "%s: there is no room for new refcount blocks",
                       ck->bs->filename);
    table = calloc(table_clusters, cs);
    if (!table)
        return vd_fail_memory(err);
    r.end = clusters + blocks + table_clusters;
    fixed.refcount_table_offset = off + blocks * cs;
    fixed.refcount_table_clusters = (uint32_t)table_clusters;
    if (qcow2_fix_extend(ck, r.end * cs, err) < 0 || write_blocks(&r, off, blocks, table, err) < 0 ||
        bdrv_pwrite(ck->bs->file, (int64_t)fixed.refcount_table_offset, (int64_t)(table_clusters * cs), table,
                    VD_STAGE_TABLE, err) < 0)
        return -1;
    return qcow2_fix_fields(ck, &fixed, "refcount_table_offset", "refcount_table_clusters", VD_STAGE_ROOT,
                            err);
}
