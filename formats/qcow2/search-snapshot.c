/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots, and tables of them, that nothing leads to.
 *
 * A snapshot that no table names looks like leaked clusters. Before anything is called a leak, these places
 * are looked at: what stands behind the table's last entry and, where an offset is wrong, every counted
 * cluster that nobody claims. Something is taken for a snapshot there only where its L1 table is counted as
 * used, claimed by nobody, and names nothing but counted clusters: old copies of tables are not.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "formats/base/auto.h"
#include "formats/qcow2/qcow2.h"

enum { WORDS = 4096, SAMPLE_BYTES = 4096, MOST_SAMPLED = 4096 /* words of an L1 table */ };

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

/* ---- is it an L1 table, and not a table of data clusters that looks like one? */

/* Is the beginning of this cluster that of an L2 table: not garbage as a table goes? */
static int reads_as_l2(struct BlockDriverState *bs, uint64_t off, bool *does, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t word[SAMPLE_BYTES / 8], n = vd_min(SAMPLE_BYTES, q->g.cluster_size) / 8, used = 0, bad = 0;
    unsigned step = q->g.entry_bytes / 8;

    if (qcow2_read_words(bs, off, 0, n, word, err) < 0)
        return -1;
    for (uint64_t i = 0; i + step <= n; i += step) {
        struct qcow2_entry e = qcow2_parse_entry(&q->g, word[i], step > 1 ? word[i + 1] : 0, 0);

        used += word[i] != 0;
        bad += qcow2_is_bad(e.faults);
    }
    *does = !qcow2_is_mass_damage(bad, used);
    return 0;
}

int qcow2_names_l2_tables(struct BlockDriverState *bs, struct vd_span l1, bool *does, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t word[QCOW2_MIN_L1_SAMPLE], n = vd_min(l1.len / 8, MOST_SAMPLED);

    *does = true;
    for (uint64_t first = 0; first < n; first += QCOW2_MIN_L1_SAMPLE) {
        uint64_t here = vd_min(QCOW2_MIN_L1_SAMPLE, n - first);

        if (qcow2_read_words(bs, l1.off, first, here, word, err) < 0)
            return -1;
        for (uint64_t i = 0; i < here; i++) {
            uint64_t off = word[i] & QCOW2_OFFSET_MASK;

            if (!off)
                continue;
            if (qcow2_l1_faults(&q->g, word[i]) & (QCOW2_F_MISALIGNED | QCOW2_F_OUT_OF_FILE)) {
                *does = false;
                return 0;
            }
            return reads_as_l2(bs, off, does, err); /* the first one tells enough */
        }
    }
    return 0;
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
int qcow2_judge_forgotten_snapshots(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err)
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

/* ---- an L1 table that is not where its entry says */

/* Is the lost L1 table, of n entries, in this cluster? */
static int try_l1(struct vd_check *ck, uint64_t off, uint64_t n, bool *is_it, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct vd_span l1 = {off, 8 * n};
    bool is_used;

    *is_it = false;
    if (!vd_span_within(l1, q->g.file_end) || !are_unclaimed(ck, l1))
        return 0;
    if (qcow2_parses_as_l1(ck, off, n, is_it, &is_used, err) < 0)
        return -1;
    *is_it = *is_it && is_used;
    return *is_it ? qcow2_names_l2_tables(ck->bs, l1, is_it, err) : 0;
}

/* Two lost tables and one place would be a guess, and several searches a way to waste time. */
static bool is_only_one_lost(const struct qcow2_snapshots *s)
{
    size_t lost = 0;

    for (size_t i = 0; i < s->list.n; i++)
        lost += !s->list.v[i].l1_is_sound;
    return lost <= 1;
}

int qcow2_search_l1(struct vd_check *ck, const struct qcow2_snapshots *s, uint64_t n, uint64_t *l1_off,
                    struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct vd_runs unclaimed = {0};
    unsigned candidates = 0;
    int rc = 0;

    *l1_off = 0;
    if (ck->map_is_incomplete || !n || n > QCOW2_MAX_L1_ENTRIES || !is_only_one_lost(s))
        return 0;
    rc = vd_free_runs(ck, &unclaimed, err);
    for (size_t i = 0; rc == 0 && i < unclaimed.n; i++)
        for (uint64_t c = 0; rc == 0 && c < unclaimed.v[i].count && candidates < 2; c++) {
            uint64_t off = (unclaimed.v[i].first + c) << q->g.cluster_bits;
            bool is_it = false;

            rc = vd_budget_go_on(ck->budget, err) < 0 ? -1 : try_l1(ck, off, n, &is_it, err);
            candidates += is_it;
            *l1_off = is_it ? off : *l1_off;
        }
    vd_runs_done(&unclaimed);
    if (candidates != 1)
        *l1_off = 0;
    return rc;
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

int qcow2_judge_snapshot_table_offset(struct vd_check *ck, struct vd_err *err)
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
