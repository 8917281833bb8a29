/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orphaned L2 tables: runs of unreferenced clusters that parse whole as a table whose targets nobody names
 * either.
 *
 * The first 4 KiB of a candidate decide nearly always, so the search reads little. In a file it goes to the
 * end: what it has not seen may be a table whose data would be taken for free space. On a device, where free
 * space can be all there is, it gives up after a bound; then nothing is called proven, and nothing is given
 * back.
 */
#include "formats/qed/qed.h"

#include <stdlib.h>

#define MOST_BYTES_READ ((uint64_t)1 << 30) /* of a device */

/* A table has no more entries that do not fit than one for so many that do, or one beside two that do. */
enum { ODD_SHARE = 8 };

struct search {
    struct BlockDriverState *bs;
    const struct qed_geometry *g;
    struct vd_runs *free_clusters;
    uint64_t bytes_read, most;
    struct vd_span zeroes; /* that were read */
    uint64_t *entry;
    struct vd_runs *targets; /* NULL: not gathered */
};

/* An entry that an orphan's table has: a cluster that nobody names, outside of the table. */
static bool is_target(const struct search *s, uint64_t off, uint64_t entry)
{
    return qed_l2_entry_kind(s->g, entry) == QED_ENTRY_GOOD && entry - off >= s->g->table_bytes &&
           vd_runs_has(s->free_clusters, entry >> s->g->cluster_bits);
}

/* Counts entries into *orphan. False: too many of them do not fit. A few may be damaged: what they hide is
 * lost all the same, and must not be taken for free space. */
static bool entries_fit(struct search *s, struct qed_orphan *orphan, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t e = s->entry[i];

        if (!e)
            continue;
        if (is_target(s, orphan->off, e))
            orphan->targets++;
        else if (qed_l2_entry_kind(s->g, e) != QED_ENTRY_ZERO)
            orphan->odd++;
        orphan->first = orphan->used++ ? orphan->first : first + i;
        orphan->last = first + i;
    }
    return orphan->odd <= 1 || orphan->odd * ODD_SHARE <= orphan->targets;
}

static bool is_known_zero(const struct search *s, struct vd_span span)
{
    return span.off >= s->zeroes.off && vd_span_within(span, vd_span_end(s->zeroes));
}

/* Zeroes that begin a candidate are read once, and not again for each candidate that they are part of. */
static void note_zero(struct search *s, struct vd_span span)
{
    if (span.off < s->zeroes.off || span.off > vd_span_end(s->zeroes))
        s->zeroes = span;
    else if (vd_span_end(span) > vd_span_end(s->zeroes))
        s->zeroes.len = vd_span_end(span) - s->zeroes.off;
}

static int gather_targets(struct search *s, uint64_t off, uint64_t n, struct vd_err *err)
{
    for (uint64_t i = 0; s->targets && i < n; i++)
        if (is_target(s, off, s->entry[i]) &&
            vd_runs_add(s->targets, s->entry[i] >> s->g->cluster_bits, 1) < 0)
            return vd_fail_memory(err);
    return 0;
}

/* 1: the table at off is an orphan, 0: it is none. */
static int try_table(struct search *s, uint64_t off, struct qed_orphan *orphan, struct vd_err *err)
{
    *orphan = (struct qed_orphan){.off = off};
    for (uint64_t first = 0; first < s->g->table_n;) {
        uint64_t n = vd_min(first ? VD_WINDOW : 512, s->g->table_n - first);
        struct vd_span span = {off + 8 * first, 8 * n};

        if (is_known_zero(s, span)) {
            first += n;
            continue;
        }
        if (qed_read_entries(s->bs, off, first, n, s->entry, NULL) < 0)
            return 0;
        s->bytes_read += 8 * n;
        if (!entries_fit(s, orphan, first, n))
            return 0;
        if (!orphan->used)
            note_zero(s, span);
        if (gather_targets(s, off, n, err) < 0)
            return -1;
        first += n;
    }
    return orphan->targets > orphan->odd;
}

static int push(struct qed_orphan_vec *vec, struct qed_orphan orphan)
{
    void *v = vec->v;

    if (vd_vec_grow(&v, vec->n, &vec->cap, sizeof(orphan)) < 0)
        return -1;
    vec->v = v;
    vec->v[vec->n++] = orphan;
    return 0;
}

/* Clusters of the run from c on that are a hole: no table lies there. */
static uint64_t hole_clusters(struct search *s, uint64_t c, uint64_t end)
{
    unsigned bits = s->g->cluster_bits;
    int64_t pnum = 0;
    int status =
        bdrv_block_status(s->bs->file, (int64_t)(c << bits), (int64_t)((end - c) << bits), &pnum, NULL, NULL);

    return status >= 0 && (status & BDRV_BLOCK_ZERO) ? (uint64_t)pnum >> bits : 0;
}

/* Zeroes before a table's first entry fit as its beginning as well as its own do, and those behind it as its
 * end. A table that begins with an entry is the likelier one, then one that names more. */
static bool is_likelier(const struct search *s, const struct qed_orphan *a, const struct qed_orphan *b)
{
    uint64_t cluster = s->g->cluster_size / 8;

    if ((a->first < cluster) != (b->first < cluster))
        return a->first < cluster;
    return a->targets > b->targets;
}

/* Of tables that overlap the likeliest is kept. */
static int add_orphan(const struct search *s, struct qed_orphan_vec *orphans, struct qed_orphan orphan)
{
    struct qed_orphan *before = orphans->n ? &orphans->v[orphans->n - 1] : NULL;

    if (!before || orphan.off - before->off >= s->g->table_bytes)
        return push(orphans, orphan);
    if (is_likelier(s, &orphan, before))
        *before = orphan;
    before->has_rival = true;
    return 0;
}

static int search_run(struct search *s, struct vd_check *ck, struct vd_run run,
                      struct qed_orphan_vec *orphans, struct vd_err *err)
{
    /* What the end of the file cuts off is no whole table. */
    uint64_t need = s->g->table_bytes >> s->g->cluster_bits,
             end = vd_min(run.first + run.count, s->g->file_size >> s->g->cluster_bits);

    for (uint64_t c = run.first; c + need <= end;) {
        uint64_t hole = hole_clusters(s, c, end);
        struct qed_orphan orphan;
        int is_orphan;

        /* A table may begin with zeroes that are a hole. */
        if (hole >= need) {
            c += hole - (need - 1);
            continue;
        }
        if (s->bytes_read > s->most) {
            orphans->is_complete = false;
            return 0;
        }
        if (vd_budget_go_on(ck->budget, err) < 0)
            return -1;
        vd_budget_progress(ck->budget, "MiB searched for lost tables", (c << s->g->cluster_bits) >> 20,
                           s->g->file_size >> 20);
        is_orphan = try_table(s, c << s->g->cluster_bits, &orphan, err);
        if (is_orphan < 0)
            return -1;
        if (is_orphan && add_orphan(s, orphans, orphan) < 0)
            return vd_fail_memory(err);
        c++;
    }
    return 0;
}

static int are_distinct(struct search *s, struct qed_orphan_vec *orphans, struct vd_err *err)
{
    struct vd_runs targets = {0};
    uint64_t sum = 0;
    int rc = 0;

    s->targets = &targets;
    for (size_t i = 0; rc >= 0 && i < orphans->n; i++) {
        struct qed_orphan again;

        sum += orphans->v[i].targets;
        rc = try_table(s, orphans->v[i].off, &again, err);
    }
    orphans->are_distinct = vd_runs_total(&targets) == sum;
    vd_runs_done(&targets);
    s->targets = NULL;
    return rc < 0 ? -1 : 0;
}

int qed_find_orphans(struct vd_check *ck, const struct qed_geometry *g, struct vd_runs *free_clusters,
                     struct qed_orphan_vec *orphans, struct vd_err *err)
{
    vd_auto_mem uint64_t *entry = malloc(VD_WINDOW * sizeof(*entry));
    struct search s = {.bs = ck->bs,
                       .g = g,
                       .free_clusters = free_clusters,
                       .most = bdrv_is_fixed_length(ck->bs) ? MOST_BYTES_READ : UINT64_MAX,
                       .entry = entry};

    if (!entry)
        return vd_fail_memory(err);
    *orphans = (struct qed_orphan_vec){.is_complete = true};
    vd_runs_settle(free_clusters);
    for (size_t i = 0; i < free_clusters->n; i++)
        if (search_run(&s, ck, free_clusters->v[i], orphans, err) < 0)
            return -1;
    return are_distinct(&s, orphans, err);
}

int qed_orphan_clusters(struct BlockDriverState *bs, const struct qed_geometry *g,
                        struct vd_runs *free_clusters, const struct qed_orphan *orphan, struct vd_runs *out,
                        struct vd_err *err)
{
    vd_auto_mem uint64_t *entry = malloc(VD_WINDOW * sizeof(*entry));
    struct search s = {.bs = bs, .g = g, .free_clusters = free_clusters, .entry = entry, .targets = out};

    if (!entry)
        return vd_fail_memory(err);
    if (vd_runs_add(out, orphan->off >> g->cluster_bits, g->table_bytes >> g->cluster_bits) < 0)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < g->table_n; first += VD_WINDOW) {
        uint64_t n = vd_min(VD_WINDOW, g->table_n - first);

        if (qed_read_entries(bs, orphan->off, first, n, entry, err) < 0 ||
            gather_targets(&s, orphan->off, n, err) < 0)
            return -1;
    }
    return 0;
}
