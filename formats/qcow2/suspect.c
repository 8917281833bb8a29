/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Does another reading of the header explain the file better?
 *
 * A header with another cluster size, another width of counts, or the wrong kind of L2 entries can still be
 * opened, and then everything looks damaged or leaked. A repair that believed it would take the image apart.
 * So where much is wrong, each other value is tried on a map of its own; where exactly one leaves no
 * corruption, it is the header that is in doubt, and nothing else is repaired below level `all`. Where the
 * header's own reading leaves corruption, the other one must explain every cluster; where it leaves leaks
 * alone, the other one must leave fewer.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "formats/qcow2/qcow2.h"

/* What is told, and what a repair would write. */
struct other {
    enum qcow2_finding finding;
    struct qcow2_header header;
    const char *field;
    uint64_t leaked; /* by it; at first the bound that a reading must stay below */
    unsigned n;      /* readings that fit as well */
};

static bool breaks_a_rule(const struct qcow2 *q)
{
    for (const struct qcow2_rule *rule = qcow2_rules; rule->is_broken; rule++)
        if ((rule->flags & (QCOW2_REFUSES_OPEN | QCOW2_STOPS_WALK | QCOW2_JUDGED_LATER)) &&
            rule->is_broken(q))
            return true;
    return false;
}

/* In tables of 8-byte entries every other word, too, is an entry; in those of 16 bytes it is a map of
 * subclusters. */
static void count_words(struct vd_check *ck, const struct qcow2_table *t, uint64_t *entries, uint64_t *maps)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t word[512], total = q->g.cluster_size / 8;

    for (uint64_t first = 0; first < total; first += 512) {
        uint64_t n = vd_min(512, total - first);

        if (qcow2_read_words(ck->bs, t->off, first, n, word, NULL) < 0)
            return;
        for (uint64_t i = 1; i < n; i += 2) {
            bool is_entry = (word[i] & QCOW2_COPIED) && (word[i] & QCOW2_OFFSET_MASK) &&
                            !(word[i] & (QCOW2_L2_RESERVED | QCOW2_COMPRESSED)) &&
                            vd_is_aligned(word[i] & QCOW2_OFFSET_MASK, q->g.cluster_size);

            *entries += is_entry;
            *maps += word[i] && !is_entry;
        }
    }
}

/* Another kind of entries is believed only where the words themselves speak for it. */
static bool is_plausible(struct vd_check *ck, const struct qcow2_state *s, bool *has_maps)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t entries = 0, maps = 0;

    for (size_t i = 0; i < s->walk.tables.n; i++)
        count_words(ck, &s->walk.tables.v[i], &entries, &maps);
    *has_maps = maps;
    return q->g.has_extended_l2 ? maps >= entries : entries >= maps;
}

/* Walks everything by the header that q has now; *leaked is how many clusters nobody claims. False: it does
 * not fit. */
static bool fits(struct vd_check *scratch, struct qcow2_state *s, uint64_t *leaked)
{
    struct qcow2 *q = scratch->bs->opaque;
    struct vd_err err = VD_ERR_INIT;
    uint64_t shared = 0;

    scratch->driver_data = s;
    s->walk.stops_early = true;
    s->map_clusters = q->g.file_end >> q->g.cluster_bits;
    if (vd_begin_map(scratch, VD_MAP_COUNTS, q->g.cluster_bits, s->map_clusters, &err) < 0 ||
        vd_claim(scratch, VD_KIND_HEADER, (struct vd_span){0, q->g.cluster_size}, VD_NOWHERE, NULL, &err) <
            0 ||
        qcow2_walk_reftable(scratch, &s->reftable, &err) < 0 || s->reftable.is_lost || s->reftable.is_cut)
        return false;
    if (q->g.l1_n &&
        (vd_claim(scratch, VD_KIND_L1, (struct vd_span){q->g.l1_off, 8 * q->g.l1_n}, 40, &shared, &err) < 0 ||
         shared))
        return false;
    if (qcow2_read_snapshots(scratch->bs, scratch->budget, &s->snapshots, &err) < 0 ||
        qcow2_read_bitmaps(scratch->bs, scratch->budget, &s->bitmaps, &err) < 0 ||
        qcow2_claim_snapshots(scratch, &s->snapshots, &err) < 0 ||
        qcow2_claim_bitmaps(scratch, &s->bitmaps, &err) < 0 || qcow2_claim_crypt(scratch, &err) < 0 ||
        qcow2_walk_trees(scratch, &s->snapshots, &s->reftable, &s->walk, &err) < 0 || s->reftable.bad.n ||
        scratch->map_is_incomplete)
        return false;
    return qcow2_counts_fit(scratch, &s->leaked, &err) && (*leaked = vd_runs_total(&s->leaked), true);
}

static bool has_other_entries(const struct qcow2_header *a, const struct qcow2_header *b)
{
    return (a->incompatible_features ^ b->incompatible_features) & QCOW2_INCOMPAT_EXTENDED_L2;
}

int qcow2_try_header(struct vd_check *ck, const struct qcow2_header *header, struct qcow2_fit *fit,
                     struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header as_it_is = q->header;
    struct qcow2_state s = {0};
    struct vd_check *scratch = vd_scratch_new(ck, err);

    *fit = (struct qcow2_fit){0};
    if (!scratch)
        return -1;
    q->header = *header;
    q->g = qcow2_derive(header, q->g.file_size);
    fit->is_fit = !breaks_a_rule(q) && fits(scratch, &s, &fit->leaked) &&
                  (is_plausible(scratch, &s, &fit->has_maps) || !has_other_entries(header, &as_it_is));
    fit->mapped = s.walk.allocated + s.walk.compressed;
    q->header = as_it_is;
    q->g = qcow2_derive(&as_it_is, q->g.file_size);
    qcow2_state_done(&s);
    vd_scratch_done(scratch);
    return vd_budget_go_on(ck->budget, err);
}

static int try_other(struct vd_check *ck, struct other *other, const struct qcow2_header *header,
                     enum qcow2_finding finding, const char *field, struct vd_err *err)
{
    struct qcow2_fit fit;

    if (qcow2_try_header(ck, header, &fit, err) < 0)
        return -1;
    if (!fit.is_fit || fit.leaked > other->leaked || (fit.leaked == other->leaked && !other->n))
        return 0;
    *other =
        (struct other){finding, *header, field, fit.leaked, fit.leaked == other->leaked ? other->n + 1 : 1};
    return 0;
}

static int try_cluster_bits(struct vd_check *ck, struct other *other, enum qcow2_finding finding,
                            struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header h = q->header;

    for (uint32_t bits = QCOW2_MIN_CLUSTER_BITS; bits <= QCOW2_MAX_CLUSTER_BITS; bits++) {
        h.cluster_bits = bits;
        if (bits != q->header.cluster_bits && try_other(ck, other, &h, finding, "cluster_bits", err) < 0)
            return -1;
    }
    return 0;
}

static int try_refcount_order(struct vd_check *ck, struct other *other, enum qcow2_finding finding,
                              struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header h = q->header;

    for (uint32_t order = 0; q->g.version > 2 && order <= QCOW2_MAX_REFCOUNT_ORDER; order++) {
        h.refcount_order = order;
        if (order != q->header.refcount_order && try_other(ck, other, &h, finding, "refcount_order", err) < 0)
            return -1;
    }
    return 0;
}

/* Could the L1 table be at off? What cannot be read is no answer. */
static int may_be_l1(struct vd_check *ck, uint64_t off, bool *may, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct vd_span l1 = {off, 8 * (uint64_t)q->header.l1_size};
    struct vd_err why = VD_ERR_INIT;
    bool is_used = false;

    *may = false;
    if (vd_budget_go_on(ck->budget, err) < 0)
        return -1;
    if (bdrv_is_hole(ck->bs->file, (int64_t)off, (int64_t)q->g.cluster_size))
        return 0;
    if (qcow2_parses_as_l1(ck, off, q->header.l1_size, may, &is_used, &why) < 0 || !*may || !is_used ||
        qcow2_names_l2_tables(ck->bs, l1, may, &why) < 0)
        *may = false;
    if (why.kind != VD_ERR_CANCELLED)
        return 0;
    *err = why;
    return -1;
}

/* More tables than this that could be the one are more than can be told apart in bearable time. */
enum { MOST_L1_TRIED = 64 };

static int try_l1_offset(struct vd_check *ck, struct other *other, enum qcow2_finding finding,
                         struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header h = q->header;
    unsigned tried = 0;

    for (uint64_t off = q->g.cluster_size; off < q->g.file_end && tried <= MOST_L1_TRIED;
         off += q->g.cluster_size) {
        bool may;

        if (off == q->header.l1_table_offset)
            continue;
        if (may_be_l1(ck, off, &may, err) < 0)
            return -1;
        h.l1_table_offset = off;
        if (may && (++tried > MOST_L1_TRIED || try_other(ck, other, &h, finding, "l1_table_offset", err) < 0))
            break;
    }
    if (tried > MOST_L1_TRIED)
        other->n = 0;
    return err->kind ? -1 : 0;
}

/* Entries of an external data file lead to the guest's own offsets: where all do, they are of the header's
 * kind. */
static bool entries_say_their_kind(struct vd_check *ck)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_state *s = ck->driver_data;

    for (size_t i = 0; i < s->walk.tables.n; i++)
        if (s->walk.tables.v[i].faults & QCOW2_F_DATA_FILE_OFFSET)
            return false;
    return q->g.has_data_file && s->walk.allocated;
}

/* Each place of the L1 table is tried only where it cannot be the one that the header says. */
static int try_all(struct vd_check *ck, struct other *other, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header h = q->header;
    bool may = true;

    if (try_cluster_bits(ck, other, QCOW2_HEADER_CLUSTER_BITS_SUSPECT, err) < 0 ||
        try_refcount_order(ck, other, QCOW2_REFCOUNT_ORDER_SUSPECT, err) < 0 ||
        may_be_l1(ck, q->g.l1_off, &may, err) < 0)
        return -1;
    if (q->g.l1_n && !may && try_l1_offset(ck, other, QCOW2_L1_OFFSET_OVERLAP, err) < 0)
        return -1;
    h.incompatible_features ^= QCOW2_INCOMPAT_EXTENDED_L2;
    return q->g.version == 2 || entries_say_their_kind(ck)
               ? 0
               : try_other(ck, other, &h, QCOW2_EXTL2_SUSPECT, "incompatible_features", err);
}

int qcow2_search_header(struct vd_check *ck, enum qcow2_finding finding, struct qcow2_header *fixed,
                        enum vd_level *level, struct vd_err *err)
{
    struct other other = {.leaked = UINT64_MAX};
    int rc;

    if (finding == QCOW2_HEADER_CLUSTER_BITS)
        rc = try_cluster_bits(ck, &other, finding, err);
    else if (finding == QCOW2_REFCOUNT_ORDER_INVALID)
        rc = try_refcount_order(ck, &other, finding, err);
    else
        rc = try_l1_offset(ck, &other, finding, err);
    *level = VD_LEVEL_NONE;
    if (rc < 0 || other.n != 1)
        return rc;
    *fixed = other.header;
    *level = other.leaked || finding == QCOW2_L1_OFFSET_OVERLAP ? VD_LEVEL_ALL : VD_LEVEL_SAFE;
    return 0;
}

int qcow2_judge_suspect(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct other other = {.leaked = 1};
    const struct vd_field *field;
    struct qcow2_fit fit;

    if (qcow2_try_header(ck, &q->header, &fit, err) < 0)
        return -1;
    if (fit.is_fit)
        other.leaked = fit.leaked;
    if (try_all(ck, &other, err) < 0)
        return -1;
    if (other.n != 1)
        return 0;
    field = vd_layout_find(&qcow2_header_layout, other.field);
    if (vd_found(ck, other.finding, .host = field->offset, .guest = 0, .guest_bytes = q->g.size,
                 .found = vd_field_get(field, &q->header),
                 .expected = vd_field_get(field, &other.header)) == VD_FIX)
        return qcow2_fix_fields(ck, &other.header, other.field, other.field, VD_STAGE_ROOT, err);
    return 0;
}
