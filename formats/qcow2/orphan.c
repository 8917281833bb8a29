/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Orphaned L2 tables: clusters that are counted and that nothing leads to, and that parse whole as a table
 * whose targets nobody names either.
 *
 * The first 4 KiB of a candidate decide nearly always, so the search reads little; it gives up after a bound,
 * and then no relinking is called proven.
 */
#include <stdlib.h>

#include "formats/qcow2/qcow2.h"

#define MOST_BYTES_READ ((uint64_t)1 << 30) /* of a device, where free space can be all there is */

/* A table has no more entries that do not fit than one for so many that do, or one beside two that do. */
enum { ODD_SHARE = 8 };

struct search {
    struct vd_check *ck;
    const struct qcow2 *q;
    const struct qcow2_geometry *g;
    struct qcow2_orphans *out;
    struct vd_runs targets; /* of all orphans so far */
    uint64_t targets_n;
    uint64_t bytes_read;
    bool has_snapshots;
    uint64_t *word; /* VD_WINDOW */
};

/* Nobody claims these clusters of an orphan's entry. */
static bool is_unclaimed(const struct search *s, const struct qcow2_entry *e)
{
    struct vd_span span =
        e->type == QCOW2_PACKED ? qcow2_touched(s->g, e) : (struct vd_span){e->host, e->bytes};

    for (uint64_t at = span.off; at < vd_span_end(span); at += s->g->cluster_size)
        if (vd_refs_at(s->ck, at).count)
            return false;
    return true;
}

/* An entry with data that an orphan's table has. Without snapshots every cluster has one owner, and its entry
 * says so. */
static bool is_target(const struct search *s, const struct qcow2_orphan *orphan, const struct qcow2_entry *e)
{
    return (e->type == QCOW2_PACKED || e->is_copied || s->has_snapshots) && e->host != orphan->off &&
           is_unclaimed(s, e);
}

/* Into an external data file entry i of a table leads to the guest's own offset: the first one says of which
 * slot it is, and the others must agree. */
static bool fits_data_file(const struct search *s, struct qcow2_orphan *orphan, uint64_t i,
                           const struct qcow2_words *words)
{
    const struct qcow2_geometry *g = s->g;
    uint64_t off = words->word & QCOW2_OFFSET_MASK;
    struct qcow2_entry e;

    if (orphan->slot == UINT64_MAX)
        orphan->slot = off >> g->l1_shift;
    e = qcow2_parse_entry(g, words->word, words->bitmap, qcow2_guest(g, orphan->slot, i));
    return !e.faults && off < g->size;
}

static bool fits(const struct search *s, struct qcow2_orphan *orphan, uint64_t i,
                 const struct qcow2_words *words, bool has_data)
{
    struct qcow2_entry e = qcow2_parse_entry(s->g, words->word, words->bitmap, 0);

    if (s->g->has_data_file && has_data)
        return fits_data_file(s, orphan, i, words);
    return !(e.faults & ~(unsigned)(QCOW2_F_PARTIAL_TAIL | QCOW2_F_OFFSET_UNUSED)) &&
           (!has_data || is_target(s, orphan, &e));
}

/* Counts words into *orphan. False: too many of them do not fit. A few may be damaged: what they hide is lost
 * all the same, and must not be taken for free space. */
static bool words_fit(struct search *s, struct qcow2_orphan *orphan, uint64_t first, uint64_t n)
{
    uint64_t words = s->g->entry_bytes / 8;

    for (uint64_t i = 0; i < n; i++) {
        struct qcow2_words entry = {s->word[i * words], words > 1 ? s->word[i * words + 1] : 0};
        enum qcow2_cluster type = qcow2_parse_entry(s->g, entry.word, entry.bitmap, 0).type;
        bool has_data = type != QCOW2_UNALLOCATED && type != QCOW2_ZERO_PLAIN;

        if (!(entry.word | entry.bitmap))
            continue;
        orphan->last = first + i;
        if (!fits(s, orphan, first + i, &entry, has_data))
            orphan->odd++;
        else
            orphan->targets += has_data;
    }
    return orphan->odd <= 1 || orphan->odd * ODD_SHARE <= orphan->targets;
}

static int gather_targets(struct search *s, uint64_t n, struct vd_err *err)
{
    uint64_t words = s->g->entry_bytes / 8;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t word = s->word[i * words], off = word & QCOW2_OFFSET_MASK;

        if ((word & QCOW2_COMPRESSED) || !off || s->g->has_data_file)
            continue;
        s->targets_n++;
        if (vd_runs_add(&s->targets, off >> s->g->cluster_bits, 1) < 0)
            return vd_fail_memory(err);
    }
    return 0;
}

/* Reads the table piece by piece: 1 an orphan, 0 none. With `gathers` its targets are kept. */
static int try_table(struct search *s, struct qcow2_orphan *orphan, bool gathers, struct vd_err *err)
{
    uint64_t words = s->g->entry_bytes / 8;

    for (uint64_t first = 0; first < s->g->table_n;) {
        uint64_t n = vd_min((first ? VD_WINDOW : 512) / words, s->g->table_n - first);

        if (qcow2_read_words(s->ck->bs, orphan->off, first * words, n * words, s->word, NULL) < 0)
            return 0;
        s->bytes_read += 8 * n * words;
        if (gathers ? gather_targets(s, n, err) < 0 : !words_fit(s, orphan, first, n))
            return gathers ? -1 : 0;
        first += n;
    }
    return orphan->targets > orphan->odd;
}

static int try_cluster(struct search *s, uint64_t cluster, struct vd_err *err)
{
    struct qcow2_orphan orphan = {.off = cluster << s->g->cluster_bits, .slot = UINT64_MAX};

    if (bdrv_is_hole(s->ck->bs->file, (int64_t)orphan.off, (int64_t)s->g->cluster_size))
        return 0;
    if (s->bytes_read > MOST_BYTES_READ && bdrv_is_fixed_length(s->ck->bs)) {
        s->out->is_complete = false;
        return 0;
    }
    if (vd_budget_go_on(s->ck->budget, err) < 0)
        return -1;
    vd_budget_progress(s->ck->budget, "MiB searched for lost tables", orphan.off >> 20,
                       s->g->file_size >> 20);
    if (!try_table(s, &orphan, false, err))
        return 0;
    if (try_table(s, &orphan, true, err) < 0)
        return -1;
    return qcow2_orphan_vec_push(&s->out->list, orphan) < 0 ? vd_fail_memory(err) : 0;
}

const struct qcow2_orphan *qcow2_orphan_of_slot(const struct qcow2_orphans *orphans, uint64_t slot)
{
    const struct qcow2_orphan *found = NULL;

    for (size_t i = 0; i < orphans->list.n; i++) {
        if (orphans->list.v[i].slot != slot)
            continue;
        if (found)
            return NULL;
        found = &orphans->list.v[i];
    }
    return found && !found->odd ? found : NULL;
}

int qcow2_find_orphans(struct vd_check *ck, struct vd_runs *leaked, struct qcow2_orphans *out,
                       struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    vd_auto_mem uint64_t *word = malloc(VD_WINDOW * sizeof(*word));
    struct search s = {
        .ck = ck, .q = q, .g = &q->g, .out = out, .has_snapshots = q->header.nb_snapshots != 0, .word = word};
    int rc = 0;

    *out = (struct qcow2_orphans){.is_complete = true, .was_searched = true};
    if (!word)
        return vd_fail_memory(err);
    vd_runs_settle(leaked);
    for (size_t i = 0; rc == 0 && i < leaked->n; i++)
        for (uint64_t k = 0; rc == 0 && k < leaked->v[i].count && out->is_complete; k++)
            rc = try_cluster(&s, leaked->v[i].first + k, err);
    out->are_distinct = vd_runs_total(&s.targets) == s.targets_n;
    vd_runs_done(&s.targets);
    return rc;
}
