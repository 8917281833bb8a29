/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Giving back leaked clusters in the middle of the file: the last data clusters move there, and the file gets
 * shorter.
 *
 * QED has no free list, so a hole is lost until something fills it. Only data moves; tables stay where they
 * are, and so do leaks that may be somebody's data. A cluster that is a hole in the file is moved without
 * copying a byte.
 */
#include "formats/qed/qed.h"

#include <stdlib.h>

#include "formats/base/bytes.h"
#include "formats/node/scan.h"

/* More are moved in the next round. */
enum { MOST_MOVES = 4 << 20 };

struct move {
    uint64_t entry_off; /* host offset of the L2 entry */
    uint64_t from, to;  /* clusters */
};

VD_VEC(move_vec, struct move)

/* The lowest end, new_end or above, for which no more than MOST_MOVES clusters have to be moved. */
static uint64_t bound_moves(const struct vd_runs *leaks, uint64_t new_end, uint64_t end)
{
    uint64_t moves = 0, at = end;

    for (size_t i = leaks->n; at > new_end; i--) {
        uint64_t stop = i ? leaks->v[i - 1].first + leaks->v[i - 1].count : 0;
        uint64_t used = at - vd_min(at, vd_max(stop, new_end));

        if (moves + used > MOST_MOVES)
            return at - (MOST_MOVES - moves);
        moves += used;
        at = i ? vd_min(at, leaks->v[i - 1].first) : new_end;
    }
    return new_end;
}

struct qed_compaction qed_plan_compaction(struct vd_runs *leaks, uint64_t kept_end, uint64_t end)
{
    struct qed_compaction plan = {.new_end = end, .fill_end = 0};
    uint64_t free_total = vd_runs_total(leaks), at_end = 0, to_fill;

    plan.new_end = bound_moves(leaks, vd_max(kept_end, end - free_total), end);
    for (size_t i = 0; i < leaks->n; i++) {
        uint64_t first = vd_max(leaks->v[i].first, plan.new_end),
                 stop = leaks->v[i].first + leaks->v[i].count;

        at_end += stop > first ? stop - first : 0;
    }
    plan.moves = end - plan.new_end - at_end;
    to_fill = plan.moves;
    for (size_t i = 0; to_fill && i < leaks->n; i++) {
        uint64_t n = vd_min(to_fill, leaks->v[i].count);

        plan.fill_end = leaks->v[i].first + n;
        to_fill -= n;
    }
    return plan;
}

struct gather {
    const struct qed_walk *walk;
    uint64_t from;
    struct move_vec moves;
};

static int on_piece(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct gather *gather = opaque;
    const struct qed_geometry *g = &gather->walk->g;

    if (!piece->bytes)
        return piece->why ? vd_fail(err, VD_ERR_IO, 0, "%s", piece->why->story) : 0;
    for (uint32_t i = 0; i < piece->len / 8; i++) {
        uint64_t e = vd_get_le64(piece->bytes + 8 * i);
        struct move move = {piece->table->span.off + piece->at + 8 * i, e >> g->cluster_bits, 0};

        if (e < gather->from || qed_l2_entry_kind(g, e) != QED_ENTRY_GOOD)
            continue;
        if (move_vec_push(&gather->moves, move) < 0)
            return vd_fail_memory(err);
    }
    return 0;
}

static int gather_moves(struct vd_check *ck, struct gather *gather, struct vd_err *err)
{
    const struct qed_walk *walk = gather->walk;
    vd_auto_mem struct vd_scan_table *list = calloc(walk->tables.n + 1, sizeof(*list));

    if (!list)
        return vd_fail_memory(err);
    for (size_t i = 0; i < walk->tables.n; i++)
        list[i] = (struct vd_scan_table){.span = qed_table_span(&walk->g, walk->tables.v[i].off)};
    return vd_scan(ck->bs->file, list, walk->tables.n, ck->budget, on_piece, gather, err);
}

static int by_from(const void *a, const void *b)
{
    const struct move *x = a, *y = b;

    return (x->from > y->from) - (x->from < y->from);
}

static int by_entry(const void *a, const void *b)
{
    const struct move *x = a, *y = b;

    return (x->entry_off > y->entry_off) - (x->entry_off < y->entry_off);
}

/* The leaks below new_end, lowest first, take the moved clusters. */
static int assign(struct move_vec *moves, struct vd_runs *leaks, uint64_t new_end, struct vd_err *err)
{
    size_t k = 0;

    if (moves->n)
        qsort(moves->v, moves->n, sizeof(*moves->v), by_from);
    for (size_t i = 0; i < leaks->n && k < moves->n; i++)
        for (uint64_t c = 0; c < leaks->v[i].count && leaks->v[i].first + c < new_end && k < moves->n; c++)
            moves->v[k++].to = leaks->v[i].first + c;
    return k < moves->n ? vd_fail(err, VD_ERR_REFUSED, 0, "fewer leaks than clusters to move") : 0;
}

static int copy_cluster(struct vd_check *ck, const struct qed_geometry *g, const struct move *move,
                        uint8_t *buf, struct vd_err *err)
{
    int64_t from = (int64_t)(move->from << g->cluster_bits), to = (int64_t)(move->to << g->cluster_bits);
    int64_t bytes = (int64_t)g->cluster_size;

    if (bdrv_is_hole(ck->bs->file, from, bytes))
        return bdrv_pwrite_zeroes(ck->bs->file, to, bytes, VD_STAGE_NEW, err);
    if (bdrv_pread_padded(ck->bs->file, from, bytes, buf, err) < 0)
        return -1;
    return bdrv_pwrite(ck->bs->file, to, bytes, buf, VD_STAGE_NEW, err);
}

static int copy_all(struct vd_check *ck, const struct qed_geometry *g, const struct move_vec *moves,
                    struct vd_err *err)
{
    vd_auto_mem uint8_t *buf = malloc(g->cluster_size);

    if (!buf)
        return vd_fail_memory(err);
    for (size_t i = 0; i < moves->n; i++) {
        if (i % 1024 == 0) {
            if (vd_budget_go_on(ck->budget, err) < 0)
                return -1;
            vd_budget_progress(ck->budget, "moving clusters", i, moves->n);
        }
        if (copy_cluster(ck, g, &moves->v[i], buf, err) < 0)
            return -1;
    }
    return 0;
}

/* Entries are changed a block of 4 KiB at a time. */
static int retarget_all(struct vd_check *ck, const struct qed_geometry *g, struct move_vec *moves,
                        struct vd_err *err)
{
    enum { BLOCK = 4096 };
    uint8_t block[BLOCK];

    if (moves->n)
        qsort(moves->v, moves->n, sizeof(*moves->v), by_entry);
    for (size_t i = 0; i < moves->n;) {
        uint64_t at = vd_align_down(moves->v[i].entry_off, BLOCK);

        if (bdrv_pread_padded(ck->bs->file, (int64_t)at, BLOCK, block, err) < 0)
            return -1;
        for (; i < moves->n && moves->v[i].entry_off - at < BLOCK; i++)
            vd_put_le64(block + (moves->v[i].entry_off - at), moves->v[i].to << g->cluster_bits);
        if (bdrv_pwrite(ck->bs->file, (int64_t)at, BLOCK, block, VD_STAGE_TABLE, err) < 0)
            return -1;
    }
    return 0;
}

int qed_compact(struct vd_check *ck, const struct qed_walk *walk, struct vd_runs *leaks,
                const struct qed_compaction *plan, struct vd_err *err)
{
    struct gather gather = {.walk = walk, .from = plan->new_end << walk->g.cluster_bits};
    int rc = 0;

    if (plan->moves)
        rc = gather_moves(ck, &gather, err);
    if (rc == 0)
        rc = assign(&gather.moves, leaks, plan->new_end, err);
    if (rc == 0)
        rc = copy_all(ck, &walk->g, &gather.moves, err);
    if (rc == 0)
        rc = retarget_all(ck, &walk->g, &gather.moves, err);
    if (rc == 0)
        rc = qed_fix_cut(ck, plan->new_end << walk->g.cluster_bits, err);
    move_vec_done(&gather.moves);
    return rc;
}
