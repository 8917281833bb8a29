/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a QED image, as a table of passes (at the end of the file).
 */
#include "formats/qed/qed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- pass "tables" */

/* A table that is garbage and lies on guest data is no table: the L1 entry is wrong, not the data. */
static int exclude_false_tables(struct qed_walk *walk, bool *again, struct vd_err *err)
{
    size_t before = walk->excluded.n;

    for (size_t i = 0; walk->shared && i < walk->tables.n && walk->excluded.n < 1024; i++) {
        const struct qed_table *table = &walk->tables.v[i];

        if (table->meets_data && qed_is_mass_damage(table->bad, table->used) &&
            qed_bad_slot_vec_push(&walk->excluded, (struct qed_bad_slot){table->off, table->slot, 0}) < 0)
            return vd_fail_memory(err);
    }
    *again = walk->excluded.n > before;
    return 0;
}

static int walk_image(struct vd_check *ck, struct qed_walk *walk, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    bool again = false;

    if (qed_walk(ck, &qed->g, qed->header.image_size, walk, err) < 0 ||
        exclude_false_tables(walk, &again, err) < 0)
        return -1;
    if (again) {
        struct qed_bad_slot_vec excluded = walk->excluded;

        walk->excluded = (struct qed_bad_slot_vec){0};
        qed_walk_done(walk);
        *walk = (struct qed_walk){.excluded = excluded};
        return qed_walk(ck, &qed->g, qed->header.image_size, walk, err);
    }
    return 0;
}

/*
 * Entries that point into the header area: are they wrong, or is the area said to be too large? Where a
 * smaller area explains them all and every cluster of the file with them, it is the size.
 */
static int judge_header_overlap(struct vd_check *ck, bool *is_overlap, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    struct qed_header fixed = qed->header;
    struct qed_geometry g;
    struct qed_walk walk = {.stops_early = true};
    struct vd_runs leaks = {0};
    struct vd_err why = VD_ERR_INIT;
    struct vd_check *scratch;
    uint64_t lowest = 0;

    *is_overlap = false;
    fixed.header_size = 1;
    g = qed_derive(&fixed, qed->g.file_size);
    scratch = vd_scratch_new(ck, err);
    if (!scratch)
        return -1;
    if (qed_walk(scratch, &g, fixed.image_size, &walk, &why) == 0 && !scratch->map_is_incomplete &&
        vd_free_runs(scratch, &leaks, &why) == 0) {
        /* What is free from cluster 1 on is header area; nothing else may be. */
        lowest = leaks.n && leaks.v[0].first == 1 ? leaks.v[0].count : 0;
        *is_overlap = leaks.n == (lowest ? 1 : 0);
    }
    vd_runs_done(&leaks);
    vd_scratch_done(scratch);
    qed_walk_done(&walk);
    fixed.header_size = (uint32_t)(1 + lowest);
    *is_overlap = *is_overlap && qed_holds_name(&fixed);
    if (!*is_overlap)
        return 0;
    /* A feature that is not known may have put something of its own into the area. */
    if (vd_found(ck, QED_HEADER_SIZE_OVERLAP, .host = 12, .found = qed->header.header_size,
                 .expected = fixed.header_size,
                 .level = qed->header.compat_features ? VD_LEVEL_ALL : VD_LEVEL_SAFE) == VD_FIX)
        return qed_fix_header(ck, &fixed, VD_STAGE_ROOT, err);
    return 0;
}

static int judge_geometry(struct vd_check *ck, const struct qed_walk *walk, bool leaks, struct vd_err *err)
{
    struct qed_header other;
    bool fits = false;
    char expected[64];

    if (!walk->bad && !walk->bad_slots_n && !walk->shared && !leaks)
        return 0;
    if (qed_other_geometry(ck, walk, &fits, &other, err) < 0)
        return -1;
    if (!fits)
        return 0;
    snprintf(expected, sizeof(expected), "cluster_size %" PRIu32 ", table_size %" PRIu32, other.cluster_size,
             other.table_size);
    vd_found(ck, QED_CLUSTER_SIZE_SUSPECT, .host = 4, .found = walk->g.cluster_size,
             .expected_text = expected);
    return 0;
}

/* After the trials of other geometries: each has a map of its own, and lists of leaks are long. */
static int find_unclaimed(struct vd_check *ck, struct qed_state *s, struct vd_err *err)
{
    if (vd_free_runs(ck, &s->free_clusters, err) < 0)
        return -1;
    return qed_find_orphans(ck, &s->walk.g, &s->free_clusters, &s->orphans, err);
}

static int pass_tables(struct vd_check *ck, struct vd_err *err)
{
    struct qed_state *s = ck->driver_data;
    struct qed *qed = ck->bs->opaque;
    bool is_overlap = false;

    if (walk_image(ck, &s->walk, err) < 0)
        return -1;
    ck->clusters = (struct vd_cluster_counts){.total = vd_div_up(qed->header.image_size, qed->g.cluster_size),
                                              .allocated = s->walk.allocated,
                                              .fragmented = s->walk.fragmented,
                                              .zero = s->walk.zeroes};
    if (qed->header.header_size > 1 && (s->walk.bad || s->walk.in_header) &&
        judge_header_overlap(ck, &is_overlap, err) < 0)
        return -1;
    if (!is_overlap && judge_geometry(ck, &s->walk, !ck->map_is_incomplete && vd_count_free(ck), err) < 0)
        return -1;
    if (!ck->map_is_incomplete && find_unclaimed(ck, s, err) < 0)
        return -1;
    return is_overlap ? 0 : qed_judge(ck, &s->walk, &s->free_clusters, &s->orphans, err);
}

/* ---- pass "state" */

static int pass_state(struct vd_check *ck, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    struct qed_header clean = qed->header;

    if (!(clean.features & QED_F_NEED_CHECK))
        return 0;
    clean.features &= ~(uint64_t)QED_F_NEED_CHECK;
    if (vd_found(ck, QED_NEED_CHECK_SET, .host = 16, .found = qed->header.features,
                 .expected = clean.features) == VD_FIX)
        return qed_fix_header(ck, &clean, VD_STAGE_FLAG, err);
    return 0;
}

static const struct vd_pass passes[] = {
    {"header",                                          qed_pass_header, VD_ALWAYS, "the geometry is trusted from here on"},
    {"tables",                                        pass_tables, VD_ALWAYS, "every cluster that a table names is in the map"},
    {"leaks",                                                 qed_pass_leaks, VD_IF_COMPLETE, "every cluster of the file has an owner or a finding"},
    {"state",pass_state, VD_LAST, "the need-check flag tells the truth"},
    {0},
};

int qed_co_check(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err)
{
    struct qed_state state = {0};
    int rc;

    (void)bs;
    (void)fix;
    check->driver_data = &state;
    rc = vd_run_passes(check, passes, err);
    check->driver_data = NULL;
    qed_walk_done(&state.walk);
    vd_runs_done(&state.free_clusters);
    free(state.orphans.v);
    return rc;
}
