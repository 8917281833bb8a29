/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "leaks": clusters with a count that nobody claims, and what lies behind the last used cluster.
 *
 * Freeing means a count of 0: nothing is punched out of the file. Where a mapping was found wrong, the leaked
 * clusters may be what it led to, and stay below level `all`.
 */
#include "formats/qcow2/qcow2.h"

struct leaks {
    struct vd_check *ck;
    struct qcow2_state *s;
    const struct qcow2_geometry *g;
    uint64_t tail; /* first cluster behind the last one that is claimed or counted by anything but a leak */
    bool keeps_length; /* a device */
    bool was_freed;
};

static int judge_stretch(struct leaks *l, uint64_t first, uint64_t n, bool is_kept, struct vd_err *err)
{
    bool evidence = (l->ck->flags & VD_EVIDENCE) || is_kept;

    if (vd_found(l->ck, first >= l->tail ? QCOW2_TAIL_LEAKED : QCOW2_CLUSTER_LEAKED,
                 .host = first << l->g->cluster_bits, .host_bytes = n << l->g->cluster_bits, .count = n,
                 .level = evidence ? VD_LEVEL_ALL : VD_LEVEL_LEAKS,
                 .note = evidence ? "kept below level all: it may hold data that damage elsewhere lost"
                                  : NULL) == VD_LEAVE)
        return 0;
    l->was_freed = true;
    return qcow2_fix_counts(l->ck, first, n, 0, err);
}

static int judge_runs(struct leaks *l, const struct vd_runs *runs, bool is_kept, struct vd_err *err)
{
    for (size_t i = 0; i < runs->n; i++) {
        uint64_t first = runs->v[i].first, end = first + runs->v[i].count,
                 cut = first < l->tail && l->tail < end ? l->tail : end;

        if (judge_stretch(l, first, cut - first, is_kept, err) < 0 ||
            (cut < end && judge_stretch(l, cut, end - cut, is_kept, err) < 0))
            return -1;
    }
    return 0;
}

/* What an earlier repair kept as evidence, or this one gave up, is not given back by a safe one. */
static int judge_leaked(struct leaks *l, struct vd_err *err)
{
    struct vd_runs kept = {0}, plain = {0}, theirs = {0};
    int rc = 0;

    vd_runs_settle(&l->s->leaked);
    if ((l->ck->kept_leaks && vd_runs_add_all(&theirs, l->ck->kept_leaks) < 0) ||
        (l->ck->given_up && vd_runs_add_all(&theirs, l->ck->given_up) < 0) ||
        vd_runs_minus(&l->s->leaked, &theirs, &plain) < 0 || vd_runs_minus(&l->s->leaked, &plain, &kept) < 0)
        rc = vd_fail_memory(err);
    if (rc == 0)
        rc = judge_runs(l, &plain, false, err);
    if (rc == 0)
        rc = judge_runs(l, &kept, true, err);
    vd_runs_done(&kept);
    vd_runs_done(&plain);
    vd_runs_done(&theirs);
    return rc;
}

/* An L1 table that lies in a hole though there are clusters that something once led to. */
static void judge_sparse_l1(struct leaks *l)
{
    if (l->s->walk.l1_is_hole && !l->s->walk.used_slots && l->s->leaked.n)
        vd_found(l->ck, QCOW2_L1_SPARSE, .host = l->g->l1_off, .host_bytes = 8 * l->g->l1_n);
}

/* Bytes behind the last cluster that is used or counted: free space, which takes room in the file system. */
static int judge_tail(struct leaks *l, struct vd_err *err)
{
    uint64_t end = vd_max(l->tail, 1) << l->g->cluster_bits;

    if (l->keeps_length || l->g->file_size <= end || l->s->leaked.n || l->ck->has_changed ||
        l->s->reftable.is_lost || l->ck->map_is_incomplete)
        return 0;
    if (vd_found(l->ck, QCOW2_TAIL_FREE, .host = end, .host_bytes = l->g->file_size - end) == VD_FIX)
        return qcow2_fix_cut(l->ck, end, err);
    return 0;
}

int qcow2_pass_leaks(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;
    const struct qcow2 *q = ck->bs->opaque;
    struct leaks l = {.ck = ck,
                      .s = s,
                      .g = &q->g,
                      .keeps_length = bdrv_is_fixed_length(ck->bs),
                      .tail = vd_div_up(ck->image_end, q->g.cluster_size)};

    judge_sparse_l1(&l);
    if (judge_leaked(&l, err) < 0)
        return -1;
    return judge_tail(&l, err);
}
