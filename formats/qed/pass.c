/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a QED image, as a table of passes (at the end of the file).
 */
#include "formats/qed/qed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What one run of the passes hands from one to the next. */
struct state {
    struct qed_walk walk;
    struct vd_runs free_clusters;
    struct qed_orphan_vec orphans;
};

static struct state *state_of(struct vd_check *ck)
{
    return ck->driver_data;
}

/* ---- pass "header" */

struct header_judge {
    struct vd_check *ck;
    struct qed *qed;
    struct qed_rebuild rebuild;
    bool is_rebuilt; /* rebuild was worked out */
};

/* Would the image be whole without the unknown feature bits? */
static int features_alone_are_wrong(struct vd_check *ck, bool *alone, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    struct vd_check *scratch;
    struct qed_walk walk = {.stops_early = true};
    struct vd_err why = VD_ERR_INIT;

    *alone = false;
    for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++)
        if ((rule->flags & QED_REFUSES_OPEN) && rule->finding != QED_FEATURE_UNKNOWN &&
            rule->is_broken(&qed->header, &qed->g))
            return 0;
    scratch = vd_scratch_new(ck, err);
    if (!scratch)
        return -1;
    if (qed_walk(scratch, &qed->g, qed->header.image_size, &walk, &why) == 0)
        *alone = !walk.bad && !walk.bad_slots_n && !walk.shared && !scratch->map_is_incomplete;
    vd_scratch_done(scratch);
    qed_walk_done(&walk);
    return 0;
}

/* The header that a finding's repair would write, and at which level. */
static int plan_header(struct header_judge *j, const struct qed_rule *rule, struct qed_header *fixed,
                       enum vd_level *level, struct vd_err *err)
{
    const struct qed_header *h = &j->qed->header;
    bool alone;

    *fixed = *h;
    *level = j->ck->bs->drv->findings[rule->finding].level;
    switch ((int)rule->finding) {
    case QED_HEADER_MAGIC:
        fixed->magic = QED_MAGIC;
        return 0;
    case QED_FEATURE_UNKNOWN:
        fixed->features &= QED_F_KNOWN;
        if (features_alone_are_wrong(j->ck, &alone, err) < 0)
            return -1;
        *level = alone ? VD_LEVEL_ALL : VD_LEVEL_NONE;
        return 0;
    case QED_IMAGE_SIZE_INVALID:
        fixed->image_size = vd_align_up_sat(h->image_size, QED_SECTOR);
        *level = fixed->image_size <= j->qed->g.size_limit ? VD_LEVEL_SAFE
                 : qed_can_walk(h, &j->qed->g)             ? VD_LEVEL_ALL
                                                           : VD_LEVEL_NONE;
        return 0;
    case QED_BACKING_NAME_OUT_OF_HEADER:
        fixed->features &= ~(uint64_t)(QED_F_BACKING_FILE | QED_F_BACKING_FORMAT_NO_PROBE);
        return 0;
    case QED_BACKING_FMT_WITHOUT_BACKING:
        fixed->features &= ~(uint64_t)QED_F_BACKING_FORMAT_NO_PROBE;
        return 0;
    default:
        break;
    }
    if (!(rule->flags & QED_CAN_REBUILD))
        return 0;
    if (!j->is_rebuilt && qed_rebuild_header(j->ck, &j->rebuild, err) < 0)
        return -1;
    j->is_rebuilt = true;
    *level = j->rebuild.level;
    if (j->rebuild.level != VD_LEVEL_NONE)
        *fixed = j->rebuild.header;
    return 0;
}

/* A size too large for the tables can only be cut to what they map, and that takes a walk. */
static int largest_mapped(struct vd_check *ck, uint64_t *size, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    struct qed_walk walk = {0};
    struct vd_check *scratch = vd_scratch_new(ck, err);
    int rc;

    if (!scratch)
        return -1;
    rc = qed_walk(scratch, &qed->g, qed->g.size_limit, &walk, err);
    *size = vd_min(walk.max_guest, qed->g.size_limit);
    vd_scratch_done(scratch);
    qed_walk_done(&walk);
    return rc;
}

static int judge_rule(struct header_judge *j, const struct qed_rule *rule, struct vd_err *err)
{
    const struct vd_field *field = vd_layout_find(&qed_header_layout, rule->field);
    const struct qed_header *h = &j->qed->header;
    struct qed_header fixed;
    enum vd_level level;
    uint64_t now = vd_field_get(field, h), then;

    if (plan_header(j, rule, &fixed, &level, err) < 0)
        return -1;
    if (rule->finding == QED_IMAGE_SIZE_INVALID && level == VD_LEVEL_ALL &&
        largest_mapped(j->ck, &fixed.image_size, err) < 0)
        return -1;
    then = vd_field_get(field, &fixed);
    if (vd_found(j->ck, rule->finding, .host = field->offset, .found = now,
                 .expected = then != now ? then : VD_NOWHERE, .level = level,
                 .severity = rule->finding == QED_BACKING_NAME_TOO_LONG &&
                                     h->backing_filename_size >= QED_MAX_BACKING_NAME
                                 ? VD_CORRUPTION
                                 : 0) == VD_LEAVE)
        return 0;
    if ((rule->flags & QED_CAN_REBUILD) && j->rebuild.new_length &&
        qed_fix_extend(j->ck, j->rebuild.new_length, err) < 0)
        return -1;
    return qed_fix_header(j->ck, &fixed, VD_STAGE_ROOT, err);
}

static int judge_backing_name(struct vd_check *ck)
{
    const struct BlockDriverState *bs = ck->bs;
    const struct qed *qed = bs->opaque;

    for (size_t i = 0; i < bs->backing_file_len; i++)
        if ((unsigned char)bs->backing_file[i] < 0x20 || bs->backing_file[i] == 0x7f) {
            vd_found(ck, QED_BACKING_NAME_NUL, .host = qed->header.backing_filename_offset + i,
                     .found = (unsigned char)bs->backing_file[i]);
            return 0;
        }
    return 0;
}

static int pass_header(struct vd_check *ck, struct vd_err *err)
{
    struct header_judge j = {.ck = ck, .qed = ck->bs->opaque};
    bool stops = false;

    if (!j.qed->has_header) {
        char found[64];

        snprintf(found, sizeof(found), "%" PRIu64 " bytes", j.qed->g.file_size);
        vd_found(ck, QED_HEADER_TRUNCATED, .host = 0, .found_text = found,
                 .expected_text = "64 bytes or more");
        ck->map_is_incomplete = true;
        return VD_STOP;
    }
    for (const struct qed_rule *rule = qed_rules; rule->is_broken && !ck->has_changed; rule++) {
        if (!rule->is_broken(&j.qed->header, &j.qed->g))
            continue;
        stops |= (rule->flags & QED_STOPS_WALK) != 0;
        /* Which tables an unknown feature changes cannot be known: what a walk said would be noise. */
        stops |= rule->finding == QED_FEATURE_UNKNOWN;
        if (judge_rule(&j, rule, err) < 0)
            return -1;
    }
    judge_backing_name(ck);
    if (stops && !ck->has_changed)
        ck->map_is_incomplete = true;
    return stops && !ck->has_changed ? VD_STOP : 0;
}

/* ---- pass "tables" */

/* A table that is garbage and lies on guest data is no table: the L1 entry is wrong, not the data. */
static int exclude_false_tables(struct vd_check *ck, struct qed_walk *walk, bool *again, struct vd_err *err)
{
    size_t before = walk->excluded.n;

    for (size_t i = 0; walk->shared && i < walk->tables.n && walk->excluded.n < 1024; i++) {
        const struct qed_table *table = &walk->tables.v[i];
        bool meets_data = false;

        if (!qed_is_mass_damage(table->bad, table->used))
            continue;
        for (uint64_t at = 0; at < walk->g.table_bytes && !meets_data; at += walk->g.cluster_size)
            meets_data = vd_is_shared(ck, table->off + at);
        if (meets_data &&
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
        exclude_false_tables(ck, walk, &again, err) < 0)
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
    if (qed_walk(scratch, &g, fixed.image_size, &walk, &why) == 0 &&
        vd_free_runs(scratch, &leaks, &why) == 0) {
        /* What is free from cluster 1 on is header area; nothing else may be. */
        lowest = leaks.n && leaks.v[0].first == 1 ? leaks.v[0].count : 0;
        *is_overlap = leaks.n == (lowest ? 1 : 0);
    }
    vd_runs_done(&leaks);
    vd_scratch_done(scratch);
    qed_walk_done(&walk);
    if (!*is_overlap)
        return 0;
    fixed.header_size = (uint32_t)(1 + lowest);
    if (vd_found(ck, QED_HEADER_SIZE_OVERLAP, .host = 12, .found = qed->header.header_size,
                 .expected = fixed.header_size) == VD_FIX)
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

static int pass_tables(struct vd_check *ck, struct vd_err *err)
{
    struct state *s = state_of(ck);
    struct qed *qed = ck->bs->opaque;
    bool is_overlap = false;

    if (walk_image(ck, &s->walk, err) < 0)
        return -1;
    ck->clusters = (struct vd_cluster_counts){.total = vd_div_up(qed->header.image_size, qed->g.cluster_size),
                                              .allocated = s->walk.allocated,
                                              .fragmented = s->walk.fragmented,
                                              .zero = s->walk.zeroes};
    if (!ck->map_is_incomplete) {
        if (vd_free_runs(ck, &s->free_clusters, err) < 0 ||
            qed_find_orphans(ck, &s->walk.g, &s->free_clusters, &s->orphans, err) < 0)
            return -1;
    }
    if (qed->header.header_size > 1 && (s->walk.bad || s->walk.in_header) &&
        judge_header_overlap(ck, &is_overlap, err) < 0)
        return -1;
    if (is_overlap)
        return 0;
    if (judge_geometry(ck, &s->walk, s->free_clusters.n > 0, err) < 0)
        return -1;
    return qed_judge(ck, &s->walk, &s->free_clusters, &s->orphans, err);
}

/* ---- pass "leaks" */

struct leaks {
    struct vd_check *ck;
    struct state *s;
    const struct qed_geometry *g;
    struct vd_runs *rest; /* leaked and no orphan's: all free clusters, or own_rest */
    struct vd_runs own_rest;
    struct vd_runs to_free; /* what the sink said FIX to */
    struct qed_compaction plan;
    uint64_t tail;     /* first cluster behind the last used one */
    bool keeps_length; /* a device */
};

static uint64_t metadata_end(const struct leaks *l)
{
    const struct qed_table_vec *tables = &l->s->walk.tables;
    uint64_t end = vd_max(l->g->header_end, l->g->l1_off + l->g->table_bytes);

    if (tables->n)
        end = vd_max(end, tables->v[tables->n - 1].off + l->g->table_bytes);
    return end >> l->g->cluster_bits;
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
    if (empty != 1 || l->s->orphans.n != 1 || !l->s->orphans.are_distinct || l->s->walk.bad_slots_n)
        *slot = -1;
    return 0;
}

static int judge_orphan(struct leaks *l, const struct qed_orphan *orphan, struct vd_runs *clusters,
                        struct vd_err *err)
{
    uint64_t n = vd_runs_total(clusters);
    int64_t slot;
    bool fix;

    if (only_empty_slot(l, orphan, &slot, err) < 0)
        return -1;
    fix = vd_found(l->ck, QED_ORPHAN_L2_TABLE, .host = orphan->off, .host_bytes = n << l->g->cluster_bits,
                   .count = n, .guest = slot >= 0 ? qed_guest(l->g, (uint64_t)slot, 0) : VD_NOWHERE,
                   .guest_bytes = slot >= 0 ? (orphan->last + 1) << l->g->cluster_bits : 0,
                   .level = orphan->is_proven ? VD_LEVEL_SAFE : VD_LEVEL_ALL) == VD_FIX;
    if (!fix || orphan->is_proven)
        return 0;
    if (slot >= 0)
        return qed_fix_l1_entry(l->ck, (uint64_t)slot, orphan->off, err);
    return vd_runs_add_all(&l->to_free, clusters) < 0 ? vd_fail_memory(err) : 0;
}

/* Reports the orphans, and leaves in l->rest what is no orphan's. */
static int judge_orphans(struct leaks *l, struct vd_err *err)
{
    struct vd_runs taken = {0};
    int rc = 0;

    l->rest = &l->s->free_clusters;
    if (!l->s->orphans.n)
        return 0;
    l->rest = &l->own_rest;
    for (size_t i = 0; rc == 0 && i < l->s->orphans.n; i++) {
        struct vd_runs all = {0}, own = {0};

        rc = qed_orphan_clusters(l->ck->bs, l->g, &l->s->orphans.v[i], &all, err);
        /* A cluster that two orphans name counts once. */
        if (rc == 0 && (vd_runs_minus(&all, &taken, &own) < 0 || vd_runs_add_all(&taken, &own) < 0))
            rc = vd_fail_memory(err);
        if (rc == 0)
            rc = judge_orphan(l, &l->s->orphans.v[i], &own, err);
        vd_runs_done(&all);
        vd_runs_done(&own);
    }
    if (rc == 0 && vd_runs_minus(&l->s->free_clusters, &taken, &l->own_rest) < 0)
        rc = vd_fail_memory(err);
    vd_runs_done(&taken);
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
    bool evidence = (l->ck->flags & VD_EVIDENCE) || is_kept;

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
                          level == VD_LEVEL_NONE
                              ? (l->keeps_length
                                     ? "a device keeps its length, so nothing is gained by filling it"
                                     : "no data cluster behind it can be moved here")
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
    uint64_t clusters = l->g->file_end >> l->g->cluster_bits;
    struct vd_runs kept = {0}, plain = {0}, theirs = {0};
    int rc = 0;

    l->plan = l->keeps_length ? (struct qed_compaction){.new_end = l->tail}
                              : qed_plan_compaction(l->rest, metadata_end(l), clusters);
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

static int pass_leaks(struct vd_check *ck, struct vd_err *err)
{
    struct state *s = state_of(ck);
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
    {"header",                                          pass_header, VD_ALWAYS, "the geometry is trusted from here on"},
    {"tables",                                        pass_tables, VD_ALWAYS, "every cluster that a table names is in the map"},
    {"leaks",                                                 pass_leaks, VD_IF_COMPLETE, "every cluster of the file has an owner or a finding"},
    {"state",pass_state, VD_LAST, "the need-check flag tells the truth"},
    {0},
};

int qed_co_check(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err)
{
    struct state state = {0};
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
