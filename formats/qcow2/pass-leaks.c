/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "leaks": clusters with a count that nobody claims, and what lies behind the last used cluster.
 *
 * Freeing means a count of 0, and a shorter file where the last clusters are free then: nothing is punched
 * out. Where a mapping was found wrong, the leaked clusters may be what it led to, and stay below level
 * `all`.
 */
#include "formats/qcow2/qcow2.h"

struct leaks {
    struct vd_check *ck;
    struct qcow2_state *s;
    const struct qcow2_geometry *g;
    uint64_t tail; /* first cluster behind the last one that is claimed or counted by anything but a leak */
    bool keeps_length;      /* a device */
    struct vd_runs to_free; /* what the sink said FIX to */
};

static int judge_stretch(struct leaks *l, uint64_t first, uint64_t n, bool is_kept, struct vd_err *err)
{
    bool evidence =
        (l->ck->flags & VD_EVIDENCE) || is_kept || (l->s->orphans.was_searched && !l->s->orphans.is_complete);

    if (vd_found(l->ck, first >= l->tail ? QCOW2_TAIL_LEAKED : QCOW2_CLUSTER_LEAKED,
                 .host = first << l->g->cluster_bits, .host_bytes = n << l->g->cluster_bits, .count = n,
                 .level = evidence ? VD_LEVEL_ALL : VD_LEVEL_LEAKS,
                 .note = evidence ? "kept below level all: it may hold data that damage elsewhere lost"
                                  : NULL) == VD_LEAVE)
        return 0;
    return vd_runs_add(&l->to_free, first, n) < 0 ? vd_fail_memory(err) : 0;
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

/* Leaked clusters at the very end of the file are cut off. */
static int cut_tail(struct leaks *l, struct vd_err *err)
{
    uint64_t end = l->g->file_end >> l->g->cluster_bits;

    while (end > l->tail && vd_runs_has(&l->to_free, end - 1))
        end = vd_max(l->tail, l->to_free.v[vd_runs_find(&l->to_free, end - 1)].first);
    return l->keeps_length ? 0 : qcow2_fix_cut(l->ck, end << l->g->cluster_bits, err);
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
    if (rc == 0 && l->to_free.n)
        rc = qcow2_fix_runs(l->ck, &l->to_free, 0, err) < 0 ? -1 : cut_tail(l, err);
    vd_runs_done(&l->to_free);
    vd_runs_done(&kept);
    vd_runs_done(&plain);
    vd_runs_done(&theirs);
    return rc;
}

/* ---- orphaned tables */

/* The one empty slot of the active table that could take the orphan, or -1 in *slot. */
static int only_empty_slot(struct leaks *l, const struct qcow2_orphan *orphan, int64_t *slot,
                           struct vd_err *err)
{
    uint64_t n = vd_min(l->g->l1_n, l->g->l1_need), word[512];
    unsigned empty = 0;

    *slot = -1;
    for (uint64_t first = 0; first < n && empty < 2; first += 512) {
        uint64_t k = vd_min(512, n - first);

        if (qcow2_read_words(l->ck->bs, l->g->l1_off, first, k, word, err) < 0)
            return -1;
        for (uint64_t i = 0; i < k && empty < 2; i++)
            if (!word[i]) {
                *slot = (int64_t)(first + i);
                empty++;
            }
    }
    if (empty != 1 || qcow2_guest(l->g, (uint64_t)*slot, orphan->last) >= l->g->size)
        *slot = -1;
    return 0;
}

/* The slot that the orphan's entries name, where it is empty; or -1. */
static int named_slot(struct leaks *l, const struct qcow2_orphan *orphan, int64_t *slot, struct vd_err *err)
{
    uint64_t word = 1;

    *slot = -1;
    if (qcow2_orphan_of_slot(&l->s->orphans, orphan->slot) != orphan || !l->s->orphans.is_complete ||
        orphan->slot >= vd_min(l->g->l1_n, l->g->l1_need))
        return 0;
    if (qcow2_read_words(l->ck->bs, l->g->l1_off, orphan->slot, 1, &word, err) < 0)
        return -1;
    *slot = word ? -1 : (int64_t)orphan->slot;
    return 0;
}

/* After other damage, now or in an earlier repair, the orphan may belong to what was damaged, and not to the
 * slot that happens to be empty. */
static bool may_be_proven(const struct leaks *l)
{
    const struct qcow2_orphans *o = &l->s->orphans;

    return o->list.n == 1 && !o->list.v[0].odd && o->are_distinct && o->is_complete &&
           !(l->ck->flags & VD_SAW_CORRUPTION) && !l->ck->kept_leaks && !l->s->snapshots.list.n;
}

/* An empty slot can be read: as zeroes, or as the backing file. To put a table there changes what the guest
 * reads. */
static int judge_orphan(struct leaks *l, const struct qcow2_orphan *orphan, struct vd_err *err)
{
    int64_t slot = -1;
    uint64_t ref;

    if (l->g->has_data_file ? named_slot(l, orphan, &slot, err) < 0
                            : may_be_proven(l) && only_empty_slot(l, orphan, &slot, err) < 0)
        return -1;
    ref = slot < 0 ? VD_NOWHERE : l->g->l1_off + 8 * (uint64_t)slot;
    if (vd_found(l->ck, QCOW2_L1_DESTROYED, .host = orphan->off, .host_bytes = l->g->cluster_size,
                 .guest = slot < 0 ? VD_NOWHERE : qcow2_guest(l->g, (uint64_t)slot, 0),
                 .guest_bytes = slot < 0 ? 0
                                         : vd_min(qcow2_slot_bytes(l->g),
                                                  l->g->size - qcow2_guest(l->g, (uint64_t)slot, 0)),
                 .expected = slot < 0 ? VD_NOWHERE : ref,
                 .level = slot < 0 ? VD_LEVEL_NONE : qcow2_level_inside(l->ck, ref, VD_LEVEL_ALL)) == VD_FIX)
        return qcow2_fix_word(l->ck, ref, orphan->off | QCOW2_COPIED, VD_STAGE_ROOT, err);
    return 0;
}

/* Among clusters that have a count, or whose counts are lost, and that nobody claims. */
static int search_orphans(struct leaks *l, struct vd_err *err)
{
    struct vd_runs runs = {0};
    int rc = 0;

    if (vd_runs_add_all(&runs, &l->s->leaked) < 0 || vd_runs_add_all(&runs, &l->s->uncounted) < 0)
        rc = vd_fail_memory(err);
    if (rc == 0 && runs.n)
        rc = qcow2_find_orphans(l->ck, &runs, &l->s->orphans, err);
    vd_runs_done(&runs);
    return rc;
}

/* Tables that a bad slot explains were told there. */
static int judge_orphans(struct leaks *l, struct vd_err *err)
{
    struct qcow2_orphans *o = &l->s->orphans;

    if (!o->was_searched && search_orphans(l, err) < 0)
        return -1;
    for (size_t i = 0; i < o->list.n && !l->s->walk.bad_slots_n && !l->ck->has_changed; i++)
        if (judge_orphan(l, &o->list.v[i], err) < 0)
            return -1;
    return 0;
}

/* Of what a table maps from this guest offset on, the bytes that the active disk has. */
static uint64_t on_active_disk(const struct qcow2_geometry *g, uint64_t guest)
{
    return guest >= g->size ? 0 : vd_min(qcow2_slot_bytes(g), g->size - guest);
}

/* A table in which nothing is left, beside clusters that something once led to. */
static void judge_empty_tables(struct leaks *l)
{
    for (size_t i = 0; l->s->leaked.n && i < l->s->walk.tables.n; i++) {
        const struct qcow2_table *t = &l->s->walk.tables.v[i];
        uint64_t guest = qcow2_guest(l->g, t->slot, 0);

        if (t->used || t->is_unreadable)
            continue;
        VD_AT(l->ck, "L1", t->slot);
        vd_found(l->ck, QCOW2_L2_TABLE_EMPTY, .host = t->off, .host_bytes = l->g->cluster_size,
                 .guest = guest, .guest_bytes = t->trees & 1 ? on_active_disk(l->g, guest) : 0);
    }
}

/* An L1 table that lies in a hole though there are clusters that something once led to. */
static void judge_sparse_l1(struct leaks *l)
{
    if (l->s->walk.l1_is_hole && !l->s->walk.used_slots && l->s->leaked.n)
        vd_found(l->ck, QCOW2_L1_SPARSE, .host = l->g->l1_off, .host_bytes = 8 * l->g->l1_n, .guest = 0,
                 .guest_bytes = l->g->size);
}

/* Bytes behind the last cluster that is used or counted: free space, which takes room in the file system. */
static int judge_tail(struct leaks *l, struct vd_err *err)
{
    uint64_t end = vd_max(l->tail, 1) << l->g->cluster_bits;

    /* While corruption is left it may be what that has lost. */
    if (l->keeps_length || l->g->file_size <= end || l->s->leaked.n || l->ck->has_changed ||
        l->s->reftable.is_lost || l->ck->map_is_incomplete || l->ck->corruptions_left)
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
    judge_empty_tables(&l);
    if (judge_orphans(&l, err) < 0)
        return -1;
    if (ck->has_changed)
        return 0;
    if (judge_leaked(&l, err) < 0)
        return -1;
    return judge_tail(&l, err);
}
