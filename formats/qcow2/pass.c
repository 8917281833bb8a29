/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a qcow2 image, as a table of passes (at the end of the file).
 */
#include "formats/qcow2/qcow2.h"

/* ---- pass "geometry": in a repair of a damaged image the header is looked at first, after a check last */

/* More than this much wrong is no accident of a few clusters. */
static bool is_much(const struct qcow2_state *s, uint64_t wrong)
{
    return wrong && wrong * 8 >= s->map_clusters;
}

static int pass_geometry_first(struct vd_check *ck, struct vd_err *err)
{
    return ck->flags & VD_EVIDENCE ? qcow2_judge_suspect(ck, err) : 0;
}

static int pass_geometry_last(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2_state *s = ck->driver_data;
    uint64_t wrong = s->odd_counts + s->walk.bad + s->walk.bad_slots_n + s->walk.misplaced;

    return !is_much(s, wrong) ? 0 : qcow2_judge_suspect(ck, err);
}

/* ---- pass "extensions": what can be told without a map */

static int pass_extensions(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;

    if (qcow2_judge_extensions(ck, err) < 0)
        return -1;
    if (ck->has_changed)
        return 0;
    if (qcow2_read_snapshots(ck->bs, ck->budget, &s->snapshots, err) < 0 ||
        qcow2_read_bitmaps(ck->bs, ck->budget, &s->bitmaps, err) < 0)
        return -1;
    return 0;
}

/* ---- pass "metadata": everything that does not hang on an L1 table */

static int claim_l1(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2_state *s = ck->driver_data;
    const struct qcow2 *q = ck->bs->opaque;
    struct vd_span l1 = {q->g.l1_off, 8 * q->g.l1_n};
    struct qcow2_header fixed;
    enum vd_level level;
    uint64_t shared = 0;

    if (!l1.len)
        return 0;
    if (vd_claim(ck, VD_KIND_L1, l1, 40, &shared, err) < 0)
        return -1;
    /* The refcount structures prove themselves by what they count. */
    if (!shared && !qcow2_has_block_in(&s->reftable, l1))
        return 0;
    if (qcow2_search_header(ck, QCOW2_L1_OFFSET_OVERLAP, &fixed, &level, err) < 0)
        return -1;
    if (vd_found(ck, QCOW2_L1_OFFSET_OVERLAP, .host = 40, .guest = 0, .guest_bytes = q->g.size,
                 .found = q->g.l1_off,
                 .expected = level == VD_LEVEL_NONE ? VD_NOWHERE : fixed.l1_table_offset,
                 .level = level) == VD_FIX)
        return qcow2_fix_fields(ck, &fixed, "l1_table_offset", "l1_table_offset", VD_STAGE_ROOT, err);
    ck->map_is_incomplete = true;
    return VD_STOP;
}

static int pass_metadata(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;
    const struct qcow2 *q = ck->bs->opaque;
    int rc;

    s->map_clusters = q->g.file_end >> q->g.cluster_bits;
    if (vd_begin_map(ck, VD_MAP_COUNTS, q->g.cluster_bits, s->map_clusters, err) < 0 ||
        vd_claim(ck, VD_KIND_HEADER, (struct vd_span){0, q->g.cluster_size}, VD_NOWHERE, NULL, err) < 0 ||
        qcow2_walk_reftable(ck, &s->reftable, err) < 0)
        return -1;
    rc = claim_l1(ck, err);
    if (rc)
        return rc;
    return qcow2_claim_snapshots(ck, &s->snapshots, err) < 0 ? -1 : qcow2_claim_crypt(ck, err);
}

/* ---- pass "tables" */

static int pass_tables(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;
    const struct qcow2 *q = ck->bs->opaque;

    /* Bitmaps come last: where they lie on the guest's tables or data, they are what is wrong. */
    if (qcow2_walk_trees(ck, &s->snapshots, &s->reftable, &s->walk, err) < 0 ||
        qcow2_claim_bitmaps(ck, &s->bitmaps, err) < 0)
        return -1;
    ck->clusters = (struct vd_cluster_counts){.total = vd_div_up(q->g.size, q->g.cluster_size),
                                              .allocated = s->walk.allocated + s->walk.compressed,
                                              .fragmented = s->walk.fragmented + s->walk.compressed,
                                              .compressed = s->walk.compressed,
                                              .zero = s->walk.zeroes};
    if (qcow2_judge_data_file_map(ck, &s->walk) < 0 || qcow2_judge(ck, &s->walk, err) < 0 ||
        qcow2_judge_conflicts(ck, &s->walk, err) < 0)
        return -1;
    return qcow2_judge_metadata(ck, &s->snapshots, &s->bitmaps, err);
}

static int pass_copied(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;

    return qcow2_judge_copied(ck, &s->walk, err);
}

/* ---- pass "state" */

static int clear_bit(struct vd_check *ck, enum qcow2_finding finding, uint64_t bit, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header clean = q->header;

    if (!(clean.incompatible_features & bit))
        return 0;
    clean.incompatible_features &= ~bit;
    if (vd_found(ck, finding, .host = 72, .found = q->header.incompatible_features,
                 .expected = clean.incompatible_features) == VD_FIX)
        return qcow2_fix_fields(ck, &clean, "incompatible_features", "incompatible_features", VD_STAGE_FLAG,
                                err);
    return 0;
}

/* A repair that leaves corruption keeps other programs from writing: some answer damage by destroying what is
 * left. */
static int guard(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header guarded = q->header;

    if (!ck->was_changed || !ck->corruptions_left || q->g.version == 2 || qcow2_has_corrupt_bit(q))
        return 0;
    guarded.incompatible_features |= QCOW2_INCOMPAT_CORRUPT;
    return qcow2_fix_fields(ck, &guarded, "incompatible_features", "incompatible_features", VD_STAGE_FLAG,
                            err);
}

static int pass_state(struct vd_check *ck, struct vd_err *err)
{
    if (guard(ck, err) < 0)
        return -1;
    if (ck->has_changed)
        return 0;
    if (clear_bit(ck, QCOW2_CORRUPT_BIT, QCOW2_INCOMPAT_CORRUPT, err) < 0)
        return -1;
    return clear_bit(ck, QCOW2_DIRTY_BIT, QCOW2_INCOMPAT_DIRTY, err);
}

static const struct vd_pass passes[] = {
    {"header",                              qcow2_pass_header, VD_ALWAYS, "the geometry is trusted from here on"},
    {"L1 size",                            qcow2_pass_l1_size, VD_ALWAYS, "the L1 table is a table to its end"},
    {"geometry",                                     pass_geometry_first, VD_ALWAYS, "no other header explains the file better"},
    {"extensions",pass_extensions, VD_ALWAYS, "snapshots and bitmaps are known"},
    {"metadata", pass_metadata, VD_ALWAYS, "everything that does not hang on an L1 table is in the map"},
    {"tables",                            pass_tables, VD_ALWAYS, "every cluster that a table names is counted"},
    {"refcounts",                            qcow2_pass_refcounts, VD_ALWAYS,
     "stored counts are at least what was counted, or a finding"},
    {"copied",                                     pass_copied, VD_ALWAYS,
     "entries of the active tables say rightly whether they are the only ones"},
    {"deep",                               qcow2_pass_deep, VD_ALWAYS, "every compressed cluster inflates, or has a finding"},
    {"leaks",    qcow2_pass_leaks, VD_IF_COMPLETE, "every counted cluster has an owner or a finding"},
    {"geometry, again",                            pass_geometry_last, VD_ALWAYS, "no other header explains the file better"},
    {"state",                            pass_state, VD_LAST, "the dirty and corrupt bits tell the truth"},
    {0                                    },
};

void qcow2_state_done(struct qcow2_state *s)
{
    qcow2_snapshots_done(&s->snapshots);
    qcow2_bitmaps_done(&s->bitmaps);
    qcow2_walk_done(&s->walk);
    qcow2_reftable_done(&s->reftable);
    vd_runs_done(&s->leaked);
    vd_runs_done(&s->uncounted);
    qcow2_orphan_vec_done(&s->orphans.list);
}

int qcow2_co_check(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err)
{
    struct qcow2_state state = {0};
    int rc;

    (void)bs;
    (void)fix;
    check->driver_data = &state;
    rc = vd_run_passes(check, passes, err);
    check->driver_data = NULL;
    check->tree = NULL;
    qcow2_state_done(&state);
    return rc;
}
