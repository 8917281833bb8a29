/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What snapshots claim, and where that meets what others claim.
 *
 * The active tables come first: an L1 table of a snapshot that lies on them is not walked, so that what it
 * names cannot put the blame on sound entries. The exception is one that reads as an L1 table with L2 tables;
 * then the active entry that leads there is wrong.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "formats/base/auto.h"
#include "formats/qcow2/qcow2.h"

enum { WORDS = 4096, ROOM = 96 };

/* ---- stretches of clusters that L1 tables of snapshots take */

/* Clusters that the same tables take. All of them together are no more than the file. */
struct stretch {
    uint64_t first, end;
    uint64_t tables;    /* how many take it */
    uint64_t reference; /* one of the entries that name them */
    uint64_t other;     /* the first cluster that something else takes too; VD_NOWHERE: none */
    uint64_t active;    /* the first one to which an entry of the active L1 table leads; VD_NOWHERE: none */
};

VD_VEC(stretch_vec, struct stretch)

/* Where a table begins or ends. */
struct event {
    uint64_t cluster;
    uint64_t reference;
    int step; /* 1 or -1 */
};

VD_VEC(event_vec, struct event)

static int by_cluster(const void *a, const void *b)
{
    const struct event *x = a, *y = b;

    return (x->cluster > y->cluster) - (x->cluster < y->cluster);
}

static int gather_events(const struct qcow2_geometry *g, const struct qcow2_snapshots *s,
                         struct event_vec *events, struct vd_err *err)
{
    for (size_t i = 0; i < s->list.n; i++) {
        const struct qcow2_snapshot *sn = &s->list.v[i];
        uint64_t first = sn->l1_off >> g->cluster_bits,
                 end = vd_div_up(vd_span_end(qcow2_snapshot_l1(sn)), g->cluster_size);

        if (sn->l1_is_sound && (event_vec_push(events, (struct event){first, sn->entry_off, 1}) < 0 ||
                                event_vec_push(events, (struct event){end, sn->entry_off, -1}) < 0))
            return vd_fail_memory(err);
    }
    if (events->n)
        qsort(events->v, events->n, sizeof(*events->v), by_cluster);
    return 0;
}

/* In order of clusters, none of them in two. */
static int gather_stretches(const struct qcow2_geometry *g, const struct qcow2_snapshots *s,
                            struct stretch_vec *out, struct vd_err *err)
{
    struct event_vec events = {0};
    struct stretch now = {.other = VD_NOWHERE, .active = VD_NOWHERE};
    int rc = gather_events(g, s, &events, err);

    for (size_t i = 0; rc == 0 && i < events.n; i++) {
        const struct event *e = &events.v[i];

        now.end = e->cluster;
        if (now.tables && now.end > now.first && stretch_vec_push(out, now) < 0)
            rc = vd_fail_memory(err);
        now.first = e->cluster;
        now.tables = e->step > 0 ? now.tables + 1 : now.tables - 1;
        if (e->step > 0)
            now.reference = e->reference;
    }
    event_vec_done(&events);
    return rc;
}

/* The index of the stretch that has this cluster, or n. */
static size_t stretch_of(const struct stretch_vec *stretches, uint64_t cluster)
{
    size_t lo = 0, hi = stretches->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (stretches->v[mid].end <= cluster)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The first stretch of a snapshot's L1 table that it does not have for itself alone, or NULL. Those that it
 * has are looked at once for all snapshots, so the work is bounded. */
static const struct stretch *contested(const struct qcow2_geometry *g, const struct stretch_vec *stretches,
                                       const struct qcow2_snapshot *sn)
{
    uint64_t end = vd_div_up(vd_span_end(qcow2_snapshot_l1(sn)), g->cluster_size);

    for (size_t i = stretch_of(stretches, sn->l1_off >> g->cluster_bits);
         i < stretches->n && stretches->v[i].first < end; i++)
        if (stretches->v[i].tables > 1 || stretches->v[i].other != VD_NOWHERE)
            return &stretches->v[i];
    return NULL;
}

/* ---- what comes first */

/* Notes stretches on what is claimed already. */
static void note_claimed(struct vd_check *ck, const struct qcow2_geometry *g, struct stretch_vec *stretches)
{
    for (size_t i = 0; i < stretches->n; i++) {
        struct stretch *st = &stretches->v[i];

        for (uint64_t c = st->first; c < st->end && st->other == VD_NOWHERE; c++)
            if (vd_refs_at(ck, c << g->cluster_bits).count)
                st->other = c;
    }
}

/* Notes stretches to which an entry of the active L1 table leads. */
static int note_active(struct BlockDriverState *bs, struct stretch_vec *stretches, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    vd_auto_mem uint64_t *word = malloc(WORDS * sizeof(*word));

    if (!word)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < q->g.l1_n; first += WORDS) {
        uint64_t n = vd_min(WORDS, q->g.l1_n - first);

        if (qcow2_read_words(bs, q->g.l1_off, first, n, word, err) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t cluster = (word[i] & QCOW2_OFFSET_MASK) >> q->g.cluster_bits;
            size_t at = stretch_of(stretches, cluster);

            if (cluster && at < stretches->n && stretches->v[at].first <= cluster &&
                stretches->v[at].active == VD_NOWHERE)
                stretches->v[at].active = cluster;
        }
    }
    return 0;
}

/* Does this snapshot's L1 table give way? Then it is not sound. */
static int give_way(struct BlockDriverState *bs, const struct stretch *st, struct qcow2_snapshot *sn,
                    struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    bool is_l1 = false;

    if (st->other == VD_NOWHERE && qcow2_names_l2_tables(bs, qcow2_snapshot_l1(sn), &is_l1, err) < 0)
        return -1;
    if (is_l1)
        return 0;
    sn->l1_is_sound = false;
    sn->overlap = (st->other != VD_NOWHERE ? st->other : st->active) << q->g.cluster_bits;
    return 0;
}

static int settle(struct vd_check *ck, struct qcow2_snapshots *s, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct stretch_vec stretches = {0};
    int rc = gather_stretches(&q->g, s, &stretches, err);

    note_claimed(ck, &q->g, &stretches);
    if (rc == 0 && stretches.n)
        rc = note_active(ck->bs, &stretches, err);
    for (size_t i = 0; rc == 0 && stretches.n && i < s->list.n; i++) {
        struct qcow2_snapshot *sn = &s->list.v[i];
        uint64_t end = vd_div_up(vd_span_end(qcow2_snapshot_l1(sn)), q->g.cluster_size);

        for (size_t k = stretch_of(&stretches, sn->l1_off >> q->g.cluster_bits);
             sn->l1_is_sound && k < stretches.n && stretches.v[k].first < end; k++) {
            const struct stretch *st = &stretches.v[k];

            if (st->other != VD_NOWHERE || st->active != VD_NOWHERE) {
                rc = give_way(ck->bs, st, sn, err);
                break;
            }
            if (st->tables > 1) /* others look at the same; whoever begins here has done so */
                break;
        }
    }
    stretch_vec_done(&stretches);
    return rc;
}

int qcow2_claim_snapshots(struct vd_check *ck, struct qcow2_snapshots *s, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct stretch_vec stretches = {0};
    int rc = 0;

    if (!s->list.n)
        return 0;
    if (vd_claim(ck, VD_KIND_SNAPSHOT_TABLE, (struct vd_span){s->table_off, s->table_bytes}, 64, NULL, err) <
            0 ||
        settle(ck, s, err) < 0)
        return -1;
    rc = gather_stretches(&q->g, s, &stretches, err);
    for (size_t i = 0; rc == 0 && i < stretches.n; i++) {
        const struct stretch *st = &stretches.v[i];
        struct vd_span host = {st->first << q->g.cluster_bits, (st->end - st->first) << q->g.cluster_bits};

        rc = vd_claim_times(ck, VD_KIND_SNAPSHOT_L1, host, st->reference, st->tables, NULL, err);
    }
    stretch_vec_done(&stretches);
    return rc;
}

/* ---- overlaps */

static void find_others(struct vd_check *ck, const struct qcow2_geometry *g, struct stretch *st)
{
    for (uint64_t c = st->first; c < st->end && st->other == VD_NOWHERE; c++)
        if (vd_refs_at(ck, c << g->cluster_bits).count > st->tables)
            st->other = c;
}

static int by_l1(const void *a, const void *b)
{
    const struct qcow2_snapshot *const *x = a, *const *y = b;

    if ((*x)->l1_off != (*y)->l1_off)
        return (*x)->l1_off < (*y)->l1_off ? -1 : 1;
    return ((*x)->entry_off > (*y)->entry_off) - ((*x)->entry_off < (*y)->entry_off);
}

/* The L1 table lies on something else, or leads to no L2 tables: is the true one lost? */
static int judge_overlap(struct vd_check *ck, const struct qcow2_snapshots *s,
                         const struct qcow2_snapshot *sn, uint64_t at, struct vd_err *err)
{
    enum vd_kind kind = at == VD_NOWHERE ? VD_KIND_FREE : vd_kind_at(ck, at, NULL);
    bool has_name = kind != VD_KIND_FREE && kind != VD_KIND_SNAPSHOT_L1;
    uint64_t true_off;
    char found[ROOM];

    if (qcow2_search_l1(ck, s, sn->l1_n, &true_off, err) < 0)
        return -1;
    if (at == VD_NOWHERE && !true_off)
        return 0;
    snprintf(found, sizeof(found), "0x%" PRIx64 "%s%s", sn->l1_off, has_name ? ", on: " : "",
             has_name ? vd_kind_name(kind) : "");
    if (vd_found(ck, QCOW2_SNAP_L1_OVERLAP, .host = sn->entry_off, .found_text = found,
                 .expected = true_off ? true_off : VD_NOWHERE,
                 .level = true_off ? VD_LEVEL_SAFE : VD_LEVEL_NONE) == VD_FIX)
        return qcow2_patch(ck, sn->entry_off, 8, true_off, VD_STAGE_TABLE, err);
    return 0;
}

/* A table that nobody else has, with what is no L2 table behind it, and the true one elsewhere.
 * *was_searched: for one snapshot, the first. */
static int judge_content(struct vd_check *ck, const struct qcow2_snapshots *s,
                         const struct qcow2_snapshot *sn, bool *was_searched, struct vd_err *err)
{
    bool does;

    if (*was_searched)
        return 0;
    if (qcow2_names_l2_tables(ck->bs, qcow2_snapshot_l1(sn), &does, err) < 0)
        return -1;
    *was_searched = !does;
    return does ? 0 : judge_overlap(ck, s, sn, VD_NOWHERE, err);
}

/* A copy of the table for the snapshot that shares one; what it names is counted for both already. */
static int judge_shared(struct vd_check *ck, const struct qcow2_snapshot *sn,
                        const struct qcow2_snapshot *owner, struct vd_err *err)
{
    struct vd_span l1 = qcow2_snapshot_l1(sn);

    if (vd_found(ck, QCOW2_SNAP_L1_SHARED, .host = sn->entry_off, .found = sn->l1_off,
                 .other_host = owner->entry_off,
                 .level = qcow2_can_append(ck) ? VD_LEVEL_SAFE : VD_LEVEL_NONE) == VD_LEAVE)
        return 0;
    if (qcow2_fix_copy(ck, l1, &l1.off, err) < 0)
        return -1;
    return qcow2_patch(ck, sn->entry_off, 8, l1.off, VD_STAGE_TABLE, err);
}

/* In order of L1 tables: where two snapshots name the same one, the later is told with the first. */
static int judge_l1_claims(struct vd_check *ck, const struct qcow2_snapshots *s,
                           const struct stretch_vec *stretches, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    vd_auto_mem const struct qcow2_snapshot **sorted = malloc(s->list.n * sizeof(struct qcow2_snapshot *));
    const struct qcow2_snapshot *owner = NULL;
    bool was_searched = false;
    size_t n = 0;

    if (!sorted)
        return vd_fail_memory(err);
    for (size_t i = 0; i < s->list.n; i++)
        if (s->list.v[i].l1_is_sound)
            sorted[n++] = &s->list.v[i];
    qsort(sorted, n, sizeof(struct qcow2_snapshot *), by_l1);
    for (size_t i = 0; i < n; i++) {
        const struct qcow2_snapshot *sn = sorted[i];
        const struct stretch *st = contested(&q->g, stretches, sn);
        bool has_twin = i + 1 < n && sorted[i + 1]->l1_off == sn->l1_off;

        VD_AT(ck, "snapshot", (uint64_t)(sn - s->list.v));
        if (owner && owner->l1_off == sn->l1_off) {
            if (judge_shared(ck, sn, owner, err) < 0)
                return -1;
            continue;
        }
        owner = sn;
        if (st && (st->other != VD_NOWHERE || !has_twin)) {
            if (judge_overlap(ck, s, sn,
                              (st->other != VD_NOWHERE ? st->other : st->first) << q->g.cluster_bits,
                              err) < 0)
                return -1;
        } else if (!st && judge_content(ck, s, sn, &was_searched, err) < 0)
            return -1;
    }
    return 0;
}

static bool is_table_contested(struct vd_check *ck, const struct qcow2_snapshots *s)
{
    for (uint64_t at = s->table_off; at < s->table_off + s->table_bytes; at += ck->cluster_size)
        if (vd_refs_at(ck, at).count > 1)
            return true;
    return false;
}

static int judge_overlaps(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct stretch_vec stretches = {0};
    int rc = 0;

    if (!s->list.n)
        return 0;
    if (is_table_contested(ck, s) &&
        qcow2_judge_snapshot_table(ck, s, QCOW2_SNAP_TABLE_OVERLAP, 64, s->table_off, err) < 0)
        return -1;
    for (size_t i = 0; i < s->list.n; i++) {
        VD_AT(ck, "snapshot", i);
        if (s->list.v[i].overlap != VD_NOWHERE &&
            judge_overlap(ck, s, &s->list.v[i], s->list.v[i].overlap, err) < 0)
            return -1;
    }
    rc = gather_stretches(&q->g, s, &stretches, err);
    for (size_t i = 0; rc == 0 && i < stretches.n; i++)
        find_others(ck, &q->g, &stretches.v[i]);
    if (rc == 0)
        rc = judge_l1_claims(ck, s, &stretches, err);
    stretch_vec_done(&stretches);
    return rc;
}

int qcow2_judge_snapshot_claims(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;

    if (q->header.nb_snapshots && !s->table_off)
        return qcow2_judge_snapshot_table_offset(ck, err);
    if (judge_overlaps(ck, s, err) < 0)
        return -1;
    return ck->map_is_incomplete || q->g.has_data_file ? 0 : qcow2_judge_forgotten_snapshots(ck, s, err);
}
