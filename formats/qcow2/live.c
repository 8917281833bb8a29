/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an image that is written to keeps in memory: where its tables are. It is read at the first write, and
 * an image whose tables contradict themselves is not written to at all.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "formats/qcow2/live.h"

int qcow2_contradicts(struct BlockDriverState *bs, uint64_t host, const char *what, struct vd_err *err)
{
    return vd_fail(err, VD_ERR_FORMAT, EIO, "%s: %s at 0x%" PRIx64 "; check and repair the image",
                   bs->filename, what, host);
}

bool qcow2_meets(struct vd_runs *runs, uint64_t first, uint64_t n)
{
    size_t i = vd_runs_find(runs, first);

    return i < runs->n && runs->v[i].first < first + n;
}

int qcow2_add_clusters(struct BlockDriverState *bs, struct vd_runs *runs, uint64_t host, uint64_t n,
                       struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct qcow2_live *live = q->live;
    uint64_t first = host >> q->g.cluster_bits;

    if (qcow2_meets(&live->metadata, first, n) || qcow2_meets(&live->tables, first, n))
        return qcow2_contradicts(bs, host, "two tables overlap", err);
    return vd_runs_add(runs, first, n) < 0 ? vd_fail_memory(err) : 0;
}

int qcow2_drop_clusters(struct BlockDriverState *bs, struct vd_runs *runs, uint64_t host, uint64_t n,
                        struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct vd_runs gone = {0}, left = {0};
    int rc = vd_runs_add(&gone, host >> q->g.cluster_bits, n);

    if (rc == 0)
        rc = vd_runs_minus(runs, &gone, &left);
    vd_runs_done(&gone);
    if (rc < 0) {
        vd_runs_done(&left);
        return vd_fail_memory(err);
    }
    vd_runs_done(runs);
    *runs = left;
    return 0;
}

/* The runs of a table as they are read: not compared one by one, for their number is the image's to choose.
 */
static int note_clusters(struct BlockDriverState *bs, struct vd_runs *runs, uint64_t host, uint64_t n,
                         uint64_t *total, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    *total += n;
    return vd_runs_add(runs, host >> q->g.cluster_bits, n) < 0 ? vd_fail_memory(err) : 0;
}

static int load_reftable(struct BlockDriverState *bs, uint64_t *total, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct qcow2_live *live = q->live;
    uint64_t clusters = q->header.refcount_table_clusters, n = clusters * g->cluster_size / 8;

    if (!g->reftable_off || g->reftable_n != n)
        return qcow2_contradicts(bs, g->reftable_off, "the refcount table is not whole", err);
    live->reftable = malloc(n * 8);
    if (!live->reftable)
        return vd_fail_memory(err);
    live->reftable_n = n;
    if (qcow2_read_words(bs, g->reftable_off, 0, n, live->reftable, err) < 0 ||
        note_clusters(bs, &live->metadata, g->reftable_off, clusters, total, err) < 0)
        return -1;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t off = live->reftable[i];

        if (!off)
            continue;
        if (!vd_is_aligned(off, g->cluster_size) || off >= g->file_end)
            return qcow2_contradicts(bs, g->reftable_off + 8 * i, "a word of the refcount table is damaged",
                                     err);
        if (note_clusters(bs, &live->metadata, off, 1, total, err) < 0)
            return -1;
    }
    return 0;
}

static int load_l1(struct BlockDriverState *bs, uint64_t *total, uint64_t *tables_n, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct qcow2_live *live = q->live;
    uint64_t word[512];

    if (g->l1_n != q->header.l1_size)
        return qcow2_contradicts(bs, g->l1_off, "the L1 table is not whole", err);
    if (note_clusters(bs, &live->metadata, g->l1_off, vd_div_up(8 * g->l1_n, g->cluster_size), total, err) <
        0)
        return -1;
    for (uint64_t first = 0; first < g->l1_n; first += VD_ARRAY_SIZE(word)) {
        uint64_t n = vd_min(VD_ARRAY_SIZE(word), g->l1_n - first);

        if (qcow2_read_words(bs, g->l1_off, first, n, word, err) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t off = word[i] & QCOW2_OFFSET_MASK;

            if (qcow2_judge_l1(bs, first + i, word[i], err) < 0)
                return -1;
            if (off && note_clusters(bs, &live->tables, off, 1, tables_n, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* Does each cluster of a table belong to one table? */
static int judge_tables(struct BlockDriverState *bs, uint64_t metadata_n, uint64_t tables_n,
                        struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct qcow2_live *live = q->live;
    struct vd_runs apart = {0};
    int rc = vd_runs_minus(&live->tables, &live->metadata, &apart);
    bool is_sound = vd_runs_total(&live->metadata) == metadata_n && vd_runs_total(&apart) == tables_n;

    vd_runs_done(&apart);
    if (rc < 0)
        return vd_fail_memory(err);
    return is_sound ? 0
                    : vd_fail(err, VD_ERR_FORMAT, EIO, "%s: tables overlap; check and repair the image",
                              bs->filename);
}

int qcow2_live_load(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    uint64_t metadata_n = 0, tables_n = 0;

    if (!q->live)
        q->live = calloc(1, sizeof(*q->live));
    if (!q->live)
        return vd_fail_memory(err);
    if (q->live->is_loaded)
        return 0;
    qcow2_live_forget(q->live);
    if (note_clusters(bs, &q->live->metadata, 0, 1, &metadata_n, err) < 0 ||
        load_reftable(bs, &metadata_n, err) < 0 || load_l1(bs, &metadata_n, &tables_n, err) < 0 ||
        judge_tables(bs, metadata_n, tables_n, err) < 0)
        return -1;
    q->live->is_loaded = true;
    return 0;
}

void qcow2_live_forget(struct qcow2_live *live)
{
    for (size_t i = 0; i < QCOW2_CACHED_BLOCKS; i++) {
        free(live->block[i].bytes);
        live->block[i] = (struct qcow2_open_block){0};
    }
    free(live->reftable);
    live->reftable = NULL;
    live->reftable_n = live->hint = 0;
    vd_runs_done(&live->metadata);
    vd_runs_done(&live->tables);
    live->released.n = 0;
    live->is_loaded = false;
}

void qcow2_live_free(struct qcow2_live *live)
{
    if (!live)
        return;
    qcow2_live_forget(live);
    qcow2_run_vec_done(&live->released);
    free(live);
}
