/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "leaks": every cluster of the file that nothing names belongs to an orphaned table, to the tail, or to
 * a hole in the middle. It runs only where the map is complete.
 */
#include "formats/qed/qed.h"

struct leaks {
    struct vd_check *ck;
    struct qed_state *s;
    const struct qed_geometry *g;
    struct vd_runs *rest; /* leaked and no orphan's: all free clusters, or own_rest */
    struct vd_runs own_rest;
    struct vd_runs to_free; /* what the sink said FIX to */
    struct qed_compaction plan;
    struct qed_compaction most; /* what level all could do, with the orphans' clusters */
    uint64_t tail;              /* first cluster behind the last used one */
    bool keeps_length;          /* a device */
};

static uint64_t metadata_end(const struct leaks *l)
{
    const struct qed_table_vec *tables = &l->s->walk.tables;
    uint64_t end = vd_max(l->g->header_end, l->g->l1_off + l->g->table_bytes);

    if (tables->n)
        end = vd_max(end, tables->v[tables->n - 1].off + l->g->table_bytes);
    return end >> l->g->cluster_bits;
}

static struct qed_compaction plan_for(const struct leaks *l, struct vd_runs *leaks)
{
    if (l->keeps_length)
        return (struct qed_compaction){.new_end = l->tail};
    return qed_plan_compaction(leaks, metadata_end(l), l->g->file_end >> l->g->cluster_bits);
}

/* Is every cluster that nobody names part of this orphan? */
static bool explains_all(const struct leaks *l, const struct qed_orphan *orphan)
{
    return vd_runs_total(&l->s->free_clusters) == (l->g->table_bytes >> l->g->cluster_bits) + orphan->targets;
}

/* The one empty L1 slot of the disk that could take the orphan, or -1 in *slot. */
static int only_empty_slot(struct leaks *l, const struct qed_orphan *orphan, int64_t *slot,
                           struct vd_err *err)
{
    struct qed *qed = l->ck->bs->opaque;
    uint64_t n = vd_min(l->g->table_n, vd_div_up(qed->header.image_size, qed_slot_bytes(l->g)));
    uint64_t entry[512];
    unsigned empty = 0;

    *slot = -1;
    /* After other damage, now or in an earlier repair, the orphan may belong to what was damaged, and not to
     * the slot that happens to be empty. */
    if ((l->ck->flags & VD_SAW_CORRUPTION) || l->ck->kept_leaks)
        return 0;
    for (uint64_t first = 0; first < n && empty < 2; first += 512) {
        uint64_t k = vd_min(512, n - first);

        if (qed_read_entries(l->ck->bs, l->g->l1_off, first, k, entry, err) < 0)
            return -1;
        for (uint64_t i = 0; i < k; i++)
            if (!entry[i] && qed_guest(l->g, first + i, orphan->last) < qed->header.image_size) {
                *slot = (int64_t)(first + i);
                empty++;
            }
    }
    if (empty != 1 || !l->s->orphans.is_complete || l->s->orphans.n != 1 || !l->s->orphans.are_distinct ||
        l->s->walk.bad_slots_n || (orphan->has_rival && !explains_all(l, orphan)))
        *slot = -1;
    return 0;
}

static const char *why_stuck(const struct leaks *l)
{
    return l->keeps_length
               ? "a device keeps its length, so nothing is gained by filling it"
               : "tables are not moved, and no data cluster is left behind the last one to fill it";
}

/* Of the clusters of an orphan that no slot takes, those that can be given back, and those that cannot:
 * tables lie behind them. */
static int split_orphan(struct leaks *l, struct vd_runs *clusters, struct vd_runs *to_free,
                        struct vd_runs *stuck, struct vd_err *err)
{
    struct vd_runs between = {0};
    int rc = 0;

    if (vd_runs_add(&between, l->most.fill_end, l->most.new_end - l->most.fill_end) < 0 ||
        vd_runs_minus(clusters, &between, to_free) < 0 || vd_runs_minus(clusters, to_free, stuck) < 0)
        rc = vd_fail_memory(err);
    vd_runs_done(&between);
    return rc;
}

static enum vd_verdict found_orphan(struct leaks *l, const struct qed_orphan *orphan,
                                    struct vd_runs *clusters, enum vd_level level)
{
    uint64_t n = vd_runs_total(clusters);

    return vd_found(l->ck, QED_ORPHAN_L2_TABLE, .host = orphan->off, .host_bytes = n << l->g->cluster_bits,
                    .count = n, .clusters = clusters, .level = level,
                    .note = level == VD_LEVEL_NONE ? why_stuck(l) : NULL);
}

static int give_back_orphan(struct leaks *l, const struct qed_orphan *orphan, struct vd_runs *clusters,
                            struct vd_err *err)
{
    struct vd_runs to_free = {0}, stuck = {0};
    int rc = split_orphan(l, clusters, &to_free, &stuck, err);

    if (rc == 0 && to_free.n && found_orphan(l, orphan, &to_free, VD_LEVEL_ALL) == VD_FIX &&
        vd_runs_add_all(&l->to_free, &to_free) < 0)
        rc = vd_fail_memory(err);
    if (rc == 0 && stuck.n)
        (void)found_orphan(l, orphan, &stuck, VD_LEVEL_NONE);
    vd_runs_done(&to_free);
    vd_runs_done(&stuck);
    return rc;
}

static int judge_orphan(struct leaks *l, const struct qed_orphan *orphan, struct vd_runs *clusters,
                        struct vd_err *err)
{
    uint64_t n = vd_runs_total(clusters);
    int64_t slot;
    bool fix;

    /* All that it has was told as another orphan's. */
    if (!n)
        return 0;
    if (only_empty_slot(l, orphan, &slot, err) < 0)
        return -1;
    if (slot < 0 && !orphan->is_proven)
        return give_back_orphan(l, orphan, clusters, err);
    fix = vd_found(l->ck, QED_ORPHAN_L2_TABLE, .host = orphan->off, .host_bytes = n << l->g->cluster_bits,
                   .count = n, .clusters = clusters,
                   .guest = slot >= 0 ? qed_guest(l->g, (uint64_t)slot, 0) : VD_NOWHERE,
                   .guest_bytes = slot >= 0 ? (orphan->last + 1) << l->g->cluster_bits : 0,
                   .level = orphan->is_proven ? VD_LEVEL_SAFE : VD_LEVEL_ALL) == VD_FIX;
    return fix && !orphan->is_proven ? qed_fix_l1_entry(l->ck, (uint64_t)slot, orphan->off, err) : 0;
}

/* A cluster that two orphans name counts once. taken is a check on the side whose map has what was counted.
 */
static int take_own(struct vd_check *taken, const struct vd_runs *all, struct vd_runs *own,
                    struct vd_err *err)
{
    for (size_t i = 0; i < all->n; i++)
        for (uint64_t c = all->v[i].first; c < all->v[i].first + all->v[i].count; c++) {
            struct vd_span host = {c * taken->cluster_size, taken->cluster_size};
            uint64_t shared;

            if (vd_kind_at(taken, host.off, NULL) != VD_KIND_FREE)
                continue;
            if (vd_claim(taken, VD_KIND_DATA, host, VD_NOWHERE, &shared, err) < 0)
                return -1;
            if (vd_runs_add(own, c, 1) < 0)
                return vd_fail_memory(err);
        }
    return 0;
}

static int judge_each_orphan(struct leaks *l, struct vd_check *taken, struct vd_runs *orphaned,
                             struct vd_err *err)
{
    int rc = vd_begin_map(taken, VD_MAP_BITS, l->g->cluster_bits, l->g->file_end >> l->g->cluster_bits, err);

    for (size_t i = 0; rc == 0 && i < l->s->orphans.n; i++) {
        struct vd_runs all = {0}, own = {0};

        rc = qed_orphan_clusters(l->ck->bs, l->g, &l->s->free_clusters, &l->s->orphans.v[i], &all, err);
        if (rc == 0)
            rc = take_own(taken, &all, &own, err);
        if (rc == 0 && vd_runs_add_all(orphaned, &own) < 0)
            rc = vd_fail_memory(err);
        if (rc == 0)
            rc = judge_orphan(l, &l->s->orphans.v[i], &own, err);
        vd_runs_done(&all);
        vd_runs_done(&own);
    }
    return rc;
}

/* Reports the orphans, and leaves in l->rest what is no orphan's. */
static int judge_orphans(struct leaks *l, struct vd_err *err)
{
    struct vd_runs orphaned = {0};
    struct vd_check *taken;
    int rc;

    l->rest = &l->s->free_clusters;
    if (!l->s->orphans.n)
        return 0;
    l->rest = &l->own_rest;
    l->most = plan_for(l, &l->s->free_clusters);
    taken = vd_scratch_new(l->ck, err);
    if (!taken)
        return -1;
    rc = judge_each_orphan(l, taken, &orphaned, err);
    vd_scratch_done(taken);
    if (rc == 0 && vd_runs_minus(&l->s->free_clusters, &orphaned, &l->own_rest) < 0)
        rc = vd_fail_memory(err);
    vd_runs_done(&orphaned);
    return rc;
}

/* Reports a stretch of leaked clusters that have one fate. */
static int judge_stretch(struct leaks *l, uint64_t first, uint64_t count, enum vd_level level,
                         const char *note, struct vd_err *err)
{
    enum qed_finding finding = first >= l->tail ? QED_TAIL_LEAKED : QED_CLUSTER_LEAKED;

    if (vd_found(l->ck, finding, .host = first << l->g->cluster_bits,
                 .host_bytes = count << l->g->cluster_bits, .count = count, .level = level,
                 .note = note) == VD_FIX &&
        vd_runs_add(&l->to_free, first, count) < 0)
        return vd_fail_memory(err);
    return 0;
}

/* Splits a run where its fate changes: at the tail, and where moving data fills no more. */
static int judge_run(struct leaks *l, uint64_t first, uint64_t end, bool is_kept, struct vd_err *err)
{
    const uint64_t cuts[] = {l->plan.fill_end, l->plan.new_end, l->tail, end};
    bool evidence = (l->ck->flags & VD_EVIDENCE) || is_kept || !l->s->orphans.is_complete;

    while (first < end) {
        uint64_t stop = end;
        enum vd_level level;

        for (size_t i = 0; i < VD_ARRAY_SIZE(cuts); i++)
            if (cuts[i] > first)
                stop = vd_min(stop, cuts[i]);
        if (first >= l->plan.fill_end && first < l->plan.new_end)
            level = VD_LEVEL_NONE;
        else if (evidence)
            level = VD_LEVEL_ALL;
        else
            level = first >= l->tail ? VD_LEVEL_LEAKS : VD_LEVEL_SAFE;
        if (judge_stretch(l, first, stop - first, level,
                          level == VD_LEVEL_NONE ? why_stuck(l)
                          : evidence ? "kept below level all: it may hold data that damage elsewhere lost"
                                     : NULL,
                          err) < 0)
            return -1;
        first = stop;
    }
    return 0;
}

static int judge_runs(struct leaks *l, const struct vd_runs *runs, bool is_kept, struct vd_err *err)
{
    for (size_t i = 0; i < runs->n; i++) {
        uint64_t end = runs->v[i].first + runs->v[i].count;

        if (judge_run(l, runs->v[i].first, l->keeps_length ? vd_min(l->tail, end) : end, is_kept, err) < 0)
            return -1;
    }
    return 0;
}

static int judge_rest(struct leaks *l, struct vd_err *err)
{
    struct vd_runs kept = {0}, plain = {0}, theirs = {0};
    int rc = 0;

    l->plan = plan_for(l, l->rest);
    if (!l->ck->kept_leaks && !l->ck->given_up)
        return judge_runs(l, l->rest, false, err);
    if ((l->ck->kept_leaks && vd_runs_add_all(&theirs, l->ck->kept_leaks) < 0) ||
        (l->ck->given_up && vd_runs_add_all(&theirs, l->ck->given_up) < 0) ||
        vd_runs_minus(l->rest, &theirs, &plain) < 0 || vd_runs_minus(l->rest, &plain, &kept) < 0)
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

/* Leaks that stay bound the compaction just as tables do. */
static int free_leaks(struct leaks *l, struct vd_err *err)
{
    uint64_t clusters = l->g->file_end >> l->g->cluster_bits, kept_end = metadata_end(l);
    struct vd_runs stay = {0};
    struct qed_compaction plan;
    int rc = 0;

    if (vd_runs_minus(&l->s->free_clusters, &l->to_free, &stay) < 0)
        rc = vd_fail_memory(err);
    if (rc == 0) {
        if (stay.n)
            kept_end = vd_max(kept_end, stay.v[stay.n - 1].first + stay.v[stay.n - 1].count);
        plan = qed_plan_compaction(&l->to_free, kept_end, clusters);
        if (plan.new_end < clusters)
            rc = qed_compact(l->ck, &l->s->walk, &l->to_free, &plan, err);
    }
    vd_runs_done(&stay);
    return rc;
}

static int judge_tail_bytes(struct leaks *l, struct vd_err *err)
{
    struct qed *qed = l->ck->bs->opaque;
    const struct qed_geometry *g = l->g;

    if (l->keeps_length || l->ck->has_changed)
        return 0;
    if (g->file_end > g->file_size &&
        vd_kind_at(l->ck, g->file_end - g->cluster_size, NULL) == VD_KIND_DATA) {
        if (vd_found(l->ck, QED_DATA_TAIL_SHORT, .host = g->file_size,
                     .host_bytes = g->file_end - g->file_size, .found = g->file_size,
                     .expected = g->file_end) == VD_FIX)
            return qed_fix_extend(l->ck, g->file_end, err);
        return 0;
    }
    if (g->file_end < g->file_size && !l->s->walk.tail_is_referenced) {
        if (vd_found(l->ck, QED_TAIL_PARTIAL, .host = g->file_end, .host_bytes = g->file_size - g->file_end,
                     .found = g->file_size, .expected = g->file_end) == VD_FIX)
            return qed_fix_cut(l->ck, qed->g.file_end, err);
    }
    return 0;
}

int qed_pass_leaks(struct vd_check *ck, struct vd_err *err)
{
    struct qed_state *s = ck->driver_data;
    struct leaks l = {.ck = ck, .s = s, .g = &s->walk.g, .keeps_length = bdrv_is_fixed_length(ck->bs)};
    int rc;

    l.tail = vd_div_up(ck->image_end, l.g->cluster_size);
    rc = judge_orphans(&l, err);
    if (rc == 0 && !ck->has_changed)
        rc = judge_rest(&l, err);
    if (rc == 0 && !ck->has_changed && l.to_free.n)
        rc = free_leaks(&l, err);
    if (rc == 0)
        rc = judge_tail_bytes(&l, err);
    vd_runs_done(&l.own_rest);
    vd_runs_done(&l.to_free);
    return rc;
}
