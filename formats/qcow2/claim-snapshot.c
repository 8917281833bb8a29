/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What snapshots claim, and what only the map of all claims tells of them: overlaps, and snapshots that the
 * header forgot.
 *
 * A snapshot that no table names looks like leaked clusters. Before anything is called a leak, two places are
 * looked at: what stands behind the table's last entry and, where the header's offset is wrong, every counted
 * cluster that nobody claims. An entry is taken for a snapshot there only where its L1 table is counted as
 * used, claimed by nobody, and names nothing but counted clusters: old copies of tables are not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "formats/base/auto.h"
#include "formats/qcow2/qcow2.h"

enum { WORDS = 4096, ROOM = 96 };

/* ---- does an L1 table stand there? */

/* Are the clusters of the span all counted as used? */
static int are_counted(struct BlockDriverState *bs, struct vd_span host, bool *are, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t first = host.off >> q->g.cluster_bits, end = vd_div_up(vd_span_end(host), q->g.cluster_size);

    *are = true;
    for (uint64_t c = first; c < end && *are; c++) {
        uint64_t count;

        if (qcow2_read_counts(bs, c, 1, &count, err) < 0)
            return -1;
        *are = count > 0;
    }
    return 0;
}

/* Are all of n words empty, or offsets of clusters that are counted as used? Is any of them the latter? */
static int judge_words(struct BlockDriverState *bs, const uint64_t *word, uint64_t n, bool *are_good,
                       bool *is_used, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    for (uint64_t i = 0; i < n && *are_good; i++) {
        uint64_t off = word[i] & QCOW2_OFFSET_MASK;

        if (!word[i])
            continue;
        *are_good = off && !qcow2_l1_faults(&q->g, word[i]);
        if (*are_good && are_counted(bs, (struct vd_span){off, 1}, are_good, err) < 0)
            return -1;
        *is_used = true;
    }
    return 0;
}

int qcow2_parses_as_l1(struct vd_check *ck, uint64_t off, uint64_t n, bool *parses, bool *is_used,
                       struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct vd_span host = {off, 8 * n};
    vd_auto_mem uint64_t *word = NULL;

    *parses = *is_used = false;
    if (!off || !n || n > QCOW2_MAX_L1_ENTRIES || !vd_is_aligned(off, q->g.cluster_size) ||
        !vd_span_within(host, q->g.file_end))
        return 0;
    if (are_counted(ck->bs, host, parses, err) < 0)
        return -1;
    word = malloc(WORDS * sizeof(*word));
    if (!word)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < n && *parses; first += WORDS) {
        uint64_t here = vd_min(WORDS, n - first);

        if (vd_budget_go_on(ck->budget, err) < 0 ||
            qcow2_read_words(ck->bs, off, first, here, word, err) < 0 ||
            judge_words(ck->bs, word, here, parses, is_used, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- stretches of clusters that L1 tables of snapshots take */

/* Clusters that the same tables take. All of them together are no more than the file. */
struct stretch {
    uint64_t first, end;
    uint64_t tables;    /* how many take it */
    uint64_t reference; /* one of the entries that name them */
    uint64_t other;     /* the first cluster that something else takes too; VD_NOWHERE: none */
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
    struct stretch now = {.other = VD_NOWHERE};
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

int qcow2_claim_snapshots(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct stretch_vec stretches = {0};
    int rc = 0;

    if (s->list.n)
        rc = vd_claim(ck, VD_KIND_SNAPSHOT_TABLE, (struct vd_span){s->table_off, s->table_bytes}, 64, NULL,
                      err);
    if (rc == 0)
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

/* The first stretch of a snapshot's L1 table that it does not have for itself alone, or NULL. Those that it
 * has are looked at once for all snapshots, so the work is bounded. */
static const struct stretch *contested(const struct qcow2_geometry *g, const struct stretch_vec *stretches,
                                       const struct qcow2_snapshot *sn)
{
    uint64_t first = sn->l1_off >> g->cluster_bits,
             end = vd_div_up(vd_span_end(qcow2_snapshot_l1(sn)), g->cluster_size);
    size_t lo = 0, hi = stretches->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (stretches->v[mid].end <= first)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < stretches->n && stretches->v[lo].first < end; lo++)
        if (stretches->v[lo].tables > 1 || stretches->v[lo].other != VD_NOWHERE)
            return &stretches->v[lo];
    return NULL;
}

static int by_l1(const void *a, const void *b)
{
    const struct qcow2_snapshot *const *x = a, *const *y = b;

    if ((*x)->l1_off != (*y)->l1_off)
        return (*x)->l1_off < (*y)->l1_off ? -1 : 1;
    return ((*x)->entry_off > (*y)->entry_off) - ((*x)->entry_off < (*y)->entry_off);
}

static void judge_overlap(struct vd_check *ck, const struct qcow2_geometry *g, const struct stretch *st,
                          const struct qcow2_snapshot *sn)
{
    uint64_t at = (st->other != VD_NOWHERE ? st->other : st->first) << g->cluster_bits;
    enum vd_kind kind = vd_kind_at(ck, at, NULL);
    char found[ROOM];

    snprintf(
        found, sizeof(found), "0x%" PRIx64 "%s%s", sn->l1_off,
        kind == VD_KIND_SNAPSHOT_L1 ? "" : ", on: ", kind == VD_KIND_SNAPSHOT_L1 ? "" : vd_kind_name(kind));
    vd_found(ck, QCOW2_SNAP_L1_OVERLAP, .host = sn->entry_off, .found_text = found);
}

/* In order of L1 tables: where two snapshots name the same one, the later is told with the first. */
static int judge_l1_claims(struct vd_check *ck, const struct qcow2_snapshots *s,
                           const struct stretch_vec *stretches, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    vd_auto_mem const struct qcow2_snapshot **sorted = malloc(s->list.n * sizeof(struct qcow2_snapshot *));
    const struct qcow2_snapshot *owner = NULL;
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
            vd_found(ck, QCOW2_SNAP_L1_SHARED, .host = sn->entry_off, .found = sn->l1_off,
                     .other_host = owner->entry_off);
            continue;
        }
        owner = sn;
        if (st && (st->other != VD_NOWHERE || !has_twin))
            judge_overlap(ck, &q->g, st, sn);
    }
    return 0;
}

static void judge_table_claims(struct vd_check *ck, const struct qcow2_geometry *g,
                               const struct qcow2_snapshots *s)
{
    for (uint64_t at = s->table_off; at < s->table_off + s->table_bytes; at += g->cluster_size)
        if (vd_refs_at(ck, at).count > 1) {
            vd_found(ck, QCOW2_SNAP_TABLE_OVERLAP, .host = 64, .found = s->table_off, .other_host = at);
            return;
        }
}

static int judge_overlaps(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct stretch_vec stretches = {0};
    int rc = 0;

    if (!s->list.n)
        return 0;
    judge_table_claims(ck, &q->g, s);
    rc = gather_stretches(&q->g, s, &stretches, err);
    for (size_t i = 0; rc == 0 && i < stretches.n; i++)
        find_others(ck, &q->g, &stretches.v[i]);
    if (rc == 0)
        rc = judge_l1_claims(ck, s, &stretches, err);
    stretch_vec_done(&stretches);
    return rc;
}

/* ---- snapshots that the header forgot */

static bool are_unclaimed(struct vd_check *ck, struct vd_span host)
{
    uint64_t at = vd_align_down(host.off, ck->cluster_size);

    for (; at < vd_span_end(host); at += ck->cluster_size)
        if (vd_refs_at(ck, at).count)
            return false;
    return true;
}

/* Is it a snapshot that was not deleted, and that nobody knows of? */
static int is_forgotten(struct vd_check *ck, const struct qcow2_snapshot *sn, bool *is, struct vd_err *err)
{
    bool is_used;

    *is = false;
    if (!sn->l1_is_sound || sn->extra_said != sn->extra_bytes || !sn->id_len ||
        !are_unclaimed(ck, qcow2_snapshot_l1(sn)))
        return 0;
    return qcow2_parses_as_l1(ck, sn->l1_off, sn->l1_n, is, &is_used, err);
}

/* How many entries in a row, from the first on, are forgotten snapshots? Their tables are different ones, so
 * no more than the file is looked at. */
static int count_forgotten(struct vd_check *ck, const struct qcow2_snapshots *s, uint64_t *n,
                           struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t looked_at = 0;
    bool is = true;

    *n = 0;
    for (size_t i = 0; i < s->list.n && is; i++) {
        looked_at += qcow2_snapshot_l1(&s->list.v[i]).len;
        if (looked_at > q->g.file_end)
            return 0;
        if (is_forgotten(ck, &s->list.v[i], &is, err) < 0)
            return -1;
        *n += is;
    }
    return 0;
}

/* Are the clusters of a table, from `from` on, nobody's and counted? */
static int is_table_free(struct vd_check *ck, const struct qcow2_snapshots *s, uint64_t from, bool *is,
                         struct vd_err *err)
{
    struct vd_span rest = {from, vd_span_end((struct vd_span){s->table_off, s->table_bytes}) - from};

    *is = true;
    if (vd_span_end((struct vd_span){s->table_off, s->table_bytes}) <= from)
        return 0;
    *is = are_unclaimed(ck, rest);
    return *is ? are_counted(ck->bs, rest, is, err) : 0;
}

/* Do further entries follow the last one that the header counts? */
static int judge_count_low(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t known = q->header.nb_snapshots, off = q->header.snapshots_offset, n = 0;
    uint64_t from = known ? s->table_off + vd_align_up_sat(s->table_bytes, 8) : off;
    struct qcow2_snapshots more;
    bool is_free = false;
    int rc = 0;

    if (s->is_cut || known >= QCOW2_MAX_SNAPSHOTS || !off || off >= q->g.file_end ||
        !vd_is_aligned(off, q->g.cluster_size))
        return 0;
    if (qcow2_parse_snapshots(ck->bs, ck->budget, from, QCOW2_MAX_SNAPSHOTS - known, &more, err) < 0)
        return -1;
    if (more.list.n)
        rc = is_table_free(ck, &more, known ? vd_align_up_sat(from, q->g.cluster_size) : from, &is_free, err);
    if (rc == 0 && is_free)
        rc = count_forgotten(ck, &more, &n, err);
    qcow2_snapshots_done(&more);
    if (rc < 0 || !n)
        return rc;
    return qcow2_judge_snapshot_count(ck, QCOW2_SNAP_COUNT_LOW, known + n, VD_LEVEL_SAFE, err);
}

/* ---- a table that is not where the header says */

/* Is the lost table in this cluster? */
static int try_table(struct vd_check *ck, uint64_t off, bool *is_it, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_snapshots s;
    uint64_t n = 0;
    int rc;

    *is_it = false;
    if (are_counted(ck->bs, (struct vd_span){off, 1}, is_it, err) < 0)
        return -1;
    if (!*is_it)
        return 0;
    if (qcow2_parse_snapshots(ck->bs, ck->budget, off, q->header.nb_snapshots, &s, err) < 0)
        return -1;
    *is_it = !s.is_cut;
    rc = *is_it ? is_table_free(ck, &s, off, is_it, err) : 0;
    if (rc == 0 && *is_it)
        rc = count_forgotten(ck, &s, &n, err);
    *is_it = *is_it && n == q->header.nb_snapshots;
    qcow2_snapshots_done(&s);
    return rc;
}

/* The one cluster that nobody claims where the table can begin; 0 where there is none or several. */
static int search_table(struct vd_check *ck, uint64_t *table_off, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct vd_runs unclaimed = {0};
    unsigned candidates = 0;
    int rc = vd_free_runs(ck, &unclaimed, err);

    *table_off = 0;
    for (size_t i = 0; rc == 0 && i < unclaimed.n; i++)
        for (uint64_t c = 0; rc == 0 && c < unclaimed.v[i].count && candidates < 2; c++) {
            uint64_t off = (unclaimed.v[i].first + c) << q->g.cluster_bits;
            bool is_it = false;

            rc = vd_budget_go_on(ck->budget, err) < 0 ? -1 : try_table(ck, off, &is_it, err);
            candidates += is_it;
            *table_off = is_it ? off : *table_off;
        }
    vd_runs_done(&unclaimed);
    if (candidates != 1)
        *table_off = 0;
    return rc;
}

static int judge_table_offset(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header fixed = q->header;
    uint64_t off = q->header.snapshots_offset;
    enum qcow2_finding finding = !off                   ? QCOW2_SNAP_TABLE_ZERO_OFFSET
                                 : off >= q->g.file_end ? QCOW2_SNAP_TABLE_OUT_OF_FILE
                                                        : QCOW2_SNAP_TABLE_MISALIGNED;

    fixed.snapshots_offset = 0;
    if (!ck->map_is_incomplete && q->header.nb_snapshots <= QCOW2_MAX_SNAPSHOTS &&
        search_table(ck, &fixed.snapshots_offset, err) < 0)
        return -1;
    if (vd_found(ck, finding, .host = 64, .found = off,
                 .expected = fixed.snapshots_offset ? fixed.snapshots_offset : VD_NOWHERE,
                 .level = fixed.snapshots_offset ? VD_LEVEL_SAFE : VD_LEVEL_NONE) == VD_LEAVE)
        return 0;
    ck->has_changed = true;
    return qcow2_write_fields(ck->bs, &fixed, "snapshots_offset", "snapshots_offset", VD_STAGE_ROOT, err);
}

int qcow2_judge_snapshot_claims(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;

    if (q->header.nb_snapshots && !s->table_off)
        return judge_table_offset(ck, err);
    if (judge_overlaps(ck, s, err) < 0)
        return -1;
    return ck->map_is_incomplete || q->g.has_data_file ? 0 : judge_count_low(ck, s, err);
}
