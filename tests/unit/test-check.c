/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The sink, seen by a driver: each test is a bdrv_co_check of its own. */
#include "checker/check.h"

#include "formats/node/file.h"
#include "formats/node/memory.h"
#include "tests/unit/unit.h"

enum { TORN, LEAK, ODD, UNREADABLE, MASS, DOUBT };

static const struct vd_finding_kind findings[] = {
    [TORN] = {"x.torn",       VD_CORRUPTION, VD_LEVEL_SAFE,  VD_EVIDENCE, "m", "r", "e"},
    [LEAK] = {"x.leak",       VD_LEAK,       VD_LEVEL_LEAKS, 0,           "m", "r", "e"},
    [ODD] = {"x.odd",        VD_WARNING,    VD_LEVEL_ALL,   0,           "m", "r", "e"},
    [UNREADABLE] = {"x.unreadable", VD_ERROR,      VD_LEVEL_NONE,  0,           "m", "r", "e"},
    [MASS] = {"x.mass",       VD_CORRUPTION, VD_LEVEL_ALL,   VD_HOLD,     "m", "r", "e"},
    [DOUBT] = {"x.doubt",      VD_WARNING,    VD_LEVEL_NONE,  VD_FREEZE,   "m", "r", "e"},
};

typedef int check_fn(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err);

/* Runs a check whose driver is fn, over a memory node; the result is the caller's. */
static int run(check_fn *fn, struct vd_check_options opts, struct vd_check_result *result, struct vd_err *err)
{
    const struct BlockDriver drv = {
        .format_name = "x", .findings = findings, .findings_n = 6, .bdrv_co_check = fn};
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto(BlockDriverState) file = vd_memory_new("image", NULL, 1 << 20, err);
    vd_auto(BlockDriverState) bs = bdrv_open_node(&drv, file, BDRV_O_CHECK, err);
    int rc;

    *err = (struct vd_err)VD_ERR_INIT;
    must_have(bs, err);
    opts.budget = opts.budget ? opts.budget : &budget;
    rc = vd_check_run(bs, &opts, result, err);
    if (result->map && opts.budget == &budget) { /* the map would outlive its budget */
        vd_usemap_free(result->map);
        result->map = NULL;
    }
    return rc;
}

#define OPTIONS(...) ((struct vd_check_options){__VA_ARGS__})

/* ---- findings and their verdict */

static int find_some(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)err;
    ck_assert_int_eq(fix, 0);
    ck_assert_int_eq(vd_found(ck, TORN, .host = 8), VD_LEAVE);
    ck_assert_uint_eq(ck->corruptions_left, 1);
    ck_assert_uint_eq(ck->flags, VD_EVIDENCE | VD_SAW_CORRUPTION);
    ck_assert_int_eq(vd_found(ck, ODD), VD_LEAVE);
    ck_assert_int_eq(vd_found(ck, TORN, .host = 16, .severity = VD_WARNING), VD_LEAVE);
    ck_assert_uint_eq(ck->corruptions_left, 1);
    ck_assert_int_eq(vd_found(ck, LEAK, .count = 3), VD_LEAVE);
    ck_assert(!ck->map_is_incomplete);
    ck_assert_int_eq(vd_found(ck, VD_IMAGE_IN_USE), VD_LEAVE);
    return 0;
}

START_TEST(a_check_leaves_everything_and_counts_it)
{
    struct vd_check_result result;
    struct vd_counts counts;
    struct vd_err err;

    must(run(find_some, OPTIONS(0), &result, &err), &err);
    counts = vd_ledger_counts(result.ledger);
    ck_assert_uint_eq(counts.corruptions, 1);
    ck_assert_uint_eq(counts.warnings, 3);
    ck_assert_uint_eq(counts.leaks, 3);
    ck_assert_uint_eq(result.would_fix, 0);
    ck_assert_ptr_null(result.map);
    ck_assert_uint_eq(result.cluster_size, 0);
    vd_check_result_free(&result);
    ck_assert_ptr_null(result.ledger);
}
END_TEST

static enum vd_verdict only_leaks(void *opaque, const struct vd_check *ck, const struct vd_finding_kind *kind,
                                  const struct vd_found_args *args, enum vd_severity severity,
                                  enum vd_level level, const char **reason)
{
    (void)ck;
    (void)args;
    (void)severity;
    (void)level;
    ++*(int *)opaque;
    if (kind == &findings[LEAK])
        return VD_FIX;
    *reason = "only leaks";
    return VD_LEAVE;
}

static int fix_what_is_said(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)err;
    ck_assert_int_eq(fix, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS);
    ck_assert_int_eq(vd_found(ck, TORN), VD_LEAVE);
    ck_assert_int_eq(vd_found(ck, LEAK), VD_FIX);
    ck_assert_uint_eq(ck->corruptions_left, 1);
    ck->has_changed = true;
    vd_found(ck, VD_IMAGE_BACKING_LARGER, .found = 2, .expected = 1);
    return 0;
}

START_TEST(the_plan_decides_and_its_reason_is_kept)
{
    struct vd_check_result result;
    struct vd_err err;
    int asked = 0;

    must(run(fix_what_is_said, OPTIONS(.decide = only_leaks, .decide_opaque = &asked), &result, &err), &err);
    ck_assert_int_eq(asked, 3);
    ck_assert_uint_eq(result.would_fix, 1);
    ck_assert(result.has_changed);
    ck_assert_str_eq(result.ledger->groups.v[0]->reason, "only leaks");
    ck_assert_ptr_null(result.ledger->groups.v[1]->reason);
    ck_assert_str_eq(result.ledger->groups.v[2]->kind->id, "image.backing-larger");
    vd_check_result_free(&result);
}
END_TEST

static int find_unreadable(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    (void)err;
    vd_found(ck, ODD, .severity = VD_WARNING);
    ck_assert(!ck->map_is_incomplete);
    vd_found(ck, UNREADABLE);
    ck_assert(ck->map_is_incomplete);
    ck_assert_uint_eq(ck->corruptions_left, 1);
    return 0;
}

START_TEST(what_cannot_be_read_leaves_the_map_incomplete)
{
    struct vd_check_result result;
    struct vd_err err;

    must(run(find_unreadable, OPTIONS(0), &result, &err), &err);
    ck_assert(result.map_is_incomplete);
    ck_assert_uint_eq(vd_ledger_counts(result.ledger).errors, 1);
    vd_check_result_free(&result);
}
END_TEST

static int find_mass(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    (void)err;
    vd_found(ck, LEAK);
    vd_found(ck, TORN);
    vd_found(ck, MASS);
    return 0;
}

START_TEST(mass_damage_raises_every_level_to_all)
{
    struct vd_check_result result;
    struct vd_err err;

    must(run(find_mass, OPTIONS(0), &result, &err), &err);
    for (size_t i = 0; i < result.ledger->groups.n; i++)
        ck_assert_int_eq(result.ledger->groups.v[i]->level, VD_LEVEL_ALL);
    vd_check_result_free(&result);
}
END_TEST

static int find_doubt(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    (void)err;
    vd_found(ck, LEAK);
    vd_found(ck, MASS);
    vd_found(ck, DOUBT);
    return 0;
}

START_TEST(a_header_in_doubt_leaves_no_level_to_anything)
{
    struct vd_check_result result;
    struct vd_err err;

    must(run(find_doubt, OPTIONS(0), &result, &err), &err);
    for (size_t i = 0; i < result.ledger->groups.n; i++)
        ck_assert_int_eq(result.ledger->groups.v[i]->level, VD_LEVEL_NONE);
    vd_check_result_free(&result);
}
END_TEST

static int see_flags(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    (void)err;
    ck_assert_uint_eq(ck->flags, VD_EVIDENCE);
    ck_assert_ptr_nonnull(ck->kept_leaks);
    ck_assert_ptr_nonnull(ck->given_up);
    return 0;
}

START_TEST(what_earlier_rounds_and_repairs_left_is_handed_on)
{
    struct vd_runs kept = {0}, given_up = {0};
    struct vd_check_result result;
    struct vd_err err;

    must(run(see_flags, OPTIONS(.flags = VD_EVIDENCE, .kept_leaks = &kept, .given_up = &given_up), &result,
             &err),
         &err);
    vd_check_result_free(&result);
}
END_TEST

static int give_up(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    vd_found(ck, TORN);
    return vd_fail(err, VD_ERR_CANCELLED, 0, "enough");
}

START_TEST(a_check_that_ends_early_still_tells_what_it_found)
{
    struct vd_check_result result;
    struct vd_err err;

    must_fail(run(give_up, OPTIONS(0), &result, &err), &err, VD_ERR_CANCELLED);
    ck_assert_uint_eq(vd_ledger_counts(result.ledger).corruptions, 1);
    vd_check_result_free(&result);
}
END_TEST

static int see_clean_slate(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    (void)err;
    ck_assert(!ck->map_is_incomplete);
    ck_assert_uint_eq(ck->corruptions_left, 0);
    ck_assert_uint_eq(ck->flags, 0);
    return 0;
}

/* What is wrong with the step to the backing file says nothing of this file's own tables. */
START_TEST(a_missing_base_leaves_the_map_complete)
{
    struct BlockDriverState overlay = {.backing_file = (char *)"base.raw", .backing_file_len = 8};
    static const enum vd_chain_end ends[] = {VD_CHAIN_MISSING, VD_CHAIN_REFUSED, VD_CHAIN_LOOP};
    static const char *const ids[] = {"image.backing-missing", "image.reference-refused",
                                      "image.backing-loop"};

    for (size_t i = 0; i < 3; i++) {
        const struct vd_chain_link link = {.bs = &overlay, .backing_size = -1, .end = ends[i], .why = "gone"};
        struct vd_check_result result;
        struct vd_err err;

        must(run(see_clean_slate, OPTIONS(.link = &link, .whole_chain = true), &result, &err), &err);
        ck_assert_uint_eq(result.ledger->groups.n, 1);
        ck_assert_str_eq(result.ledger->groups.v[0]->kind->id, ids[i]);
        ck_assert_int_eq(result.ledger->groups.v[0]->severity, i < 2 ? VD_ERROR : VD_CORRUPTION);
        ck_assert(!result.map_is_incomplete);
        vd_check_result_free(&result);
    }
}
END_TEST

/* ---- the where-am-I stack */

static void deeper(struct vd_check *ck)
{
    VD_AT(ck, "L2", 7);

    vd_found(ck, TORN, .host = 1);
}

static int name_places(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    (void)err;
    {
        VD_AT(ck, "L1", 3);
        deeper(ck);
        vd_found(ck, TORN, .host = 2);
    }
    vd_found(ck, TORN, .host = 3);
    VD_AT(ck, "a", 0);
    VD_AT(ck, "b", 1);
    VD_AT(ck, "c", 2);
    VD_AT(ck, "d", 3);
    VD_AT(ck, "beyond what is kept", 4);
    vd_found(ck, TORN, .host = 4);
    return 0;
}

START_TEST(a_finding_knows_where_the_driver_was)
{
    struct vd_check_result result;
    const struct vd_place *places;
    struct vd_err err;

    must(run(name_places, OPTIONS(0), &result, &err), &err);
    places = result.ledger->groups.v[0]->places.v;
    ck_assert_uint_eq(places[0].depth, 2);
    ck_assert_str_eq(places[0].where[0].name, "L1");
    ck_assert_uint_eq(places[0].where[0].index, 3);
    ck_assert_str_eq(places[0].where[1].name, "L2");
    ck_assert_uint_eq(places[0].where[1].index, 7);
    ck_assert_uint_eq(places[1].depth, 1);
    ck_assert_uint_eq(places[2].depth, 0);
    ck_assert_uint_eq(places[3].depth, VD_WHERE_DEPTH);
    ck_assert_str_eq(places[3].where[3].name, "d");
    vd_check_result_free(&result);
}
END_TEST

/* ---- claims */

enum { CLUSTER = 4096 };

static int claim_things(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    static const uint64_t offsets[] = {5 * CLUSTER, 6 * CLUSTER, 5 * CLUSTER, 1, 77};
    struct vd_claim_batch batch = {.offsets = offsets, .n = 5, .zero = 1, .lo = CLUSTER, .hi = 100 * CLUSTER};
    struct vd_claim_result got = {0};
    struct vd_runs free_clusters = {0};
    uint64_t shared, start;

    (void)bs;
    (void)fix;
    must(vd_begin_map(ck, VD_MAP_BITS, 12, 100, err), err);
    ck_assert_uint_eq(ck->cluster_size, CLUSTER);
    must(vd_claim(ck, VD_KIND_HEADER, (struct vd_span){0, 64}, VD_NOWHERE, &shared, err), err);
    ck_assert_uint_eq(shared, 0);
    /* A structure claims every cluster that it touches. */
    must(vd_claim(ck, VD_KIND_L2, (struct vd_span){10 * CLUSTER + 100, CLUSTER}, 40, &shared, err), err);
    ck_assert_int_eq(vd_kind_at(ck, 11 * CLUSTER + 1, &start), VD_KIND_L2);
    ck_assert_uint_eq(start, 10 * CLUSTER);
    ck_assert_int_eq(vd_kind_at(ck, 12 * CLUSTER, &start), VD_KIND_FREE);
    ck_assert_uint_eq(start, 12 * CLUSTER);
    must(vd_claim_table(ck, &batch, &got, err), err);
    ck_assert_uint_eq(got.shared, 1);
    ck_assert_uint_eq(got.bad, 1);
    ck_assert_uint_eq(got.zeroes, 1);
    ck_assert(vd_is_shared(ck, 5 * CLUSTER + 5) && !vd_is_shared(ck, 6 * CLUSTER));
    ck_assert_int_eq(vd_kind_at(ck, 6 * CLUSTER, NULL), VD_KIND_DATA);
    ck_assert_uint_eq(ck->image_end, 12 * CLUSTER);
    must(vd_free_runs(ck, &free_clusters, err), err);
    ck_assert_uint_eq(vd_runs_total(&free_clusters), 95);
    vd_runs_done(&free_clusters);
    vd_gave_up(ck, (struct vd_span){5 * CLUSTER, 2 * CLUSTER});
    return 0;
}

START_TEST(claims_go_to_the_map_of_the_check)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_usemap *current = NULL;
    struct vd_check_result result;
    struct vd_err err;

    must(run(claim_things, OPTIONS(.budget = &budget, .current_map = &current), &result, &err), &err);
    ck_assert_ptr_nonnull(result.map);
    ck_assert_ptr_eq(current, result.map);
    ck_assert_uint_eq(result.cluster_size, CLUSTER);
    ck_assert_uint_eq(result.image_end, 12 * CLUSTER);
    ck_assert(vd_runs_has_all(&result.given_up, 5, 2) && vd_runs_total(&result.given_up) == 2);
    ck_assert_uint_eq(vd_usemap_clusters(result.map), 100);
    vd_check_result_free(&result);
    ck_assert_uint_eq(budget.memory, VD_BUDGET_MEMORY);
}
END_TEST

static int begin_twice(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    must(vd_begin_map(ck, VD_MAP_BITS, 12, 100, err), err);
    must(vd_claim(ck, VD_KIND_DATA, (struct vd_span){0, 50 * CLUSTER}, VD_NOWHERE, NULL, err), err);
    must(vd_begin_map(ck, VD_MAP_BITS, 16, 50, err), err);
    ck_assert_uint_eq(ck->image_end, 0);
    ck_assert_int_eq(vd_kind_at(ck, 0, NULL), VD_KIND_FREE);
    return 0;
}

START_TEST(a_new_round_begins_with_nothing_claimed)
{
    struct vd_check_result result;
    struct vd_err err;

    must(run(begin_twice, OPTIONS(0), &result, &err), &err);
    ck_assert_uint_eq(result.cluster_size, 65536);
    vd_check_result_free(&result);
}
END_TEST

/* ---- a check on the side */

static int try_on_the_side(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    struct vd_check *scratch;
    uint64_t shared;

    (void)fix;
    must(vd_begin_map(ck, VD_MAP_BITS, 12, 100, err), err);
    must(vd_claim(ck, VD_KIND_DATA, (struct vd_span){CLUSTER, CLUSTER}, VD_NOWHERE, &shared, err), err);
    scratch = vd_scratch_new(ck, err);
    must_have(scratch, err);
    ck_assert_ptr_eq(scratch->bs, bs);
    must(vd_begin_map(scratch, VD_MAP_BITS, 13, 50, err), err);
    must(vd_claim(scratch, VD_KIND_DATA, (struct vd_span){0, 3 * CLUSTER}, VD_NOWHERE, &shared, err), err);
    ck_assert_uint_eq(shared, 0);
    ck_assert_int_eq(vd_found(scratch, TORN), VD_LEAVE);
    ck_assert_int_eq(vd_found(scratch, UNREADABLE), VD_LEAVE);
    ck_assert_uint_eq(scratch->corruptions_left, 2);
    ck_assert(scratch->map_is_incomplete);
    vd_gave_up(scratch, (struct vd_span){0, CLUSTER});
    vd_scratch_done(scratch);
    vd_scratch_done(NULL);
    /* Nothing of it is seen here. */
    ck_assert_uint_eq(ck->corruptions_left, 0);
    ck_assert(!ck->map_is_incomplete);
    ck_assert_uint_eq(ck->cluster_size, CLUSTER);
    ck_assert_int_eq(vd_kind_at(ck, 0, NULL), VD_KIND_FREE);
    ck_assert_int_eq(vd_kind_at(ck, CLUSTER, NULL), VD_KIND_DATA);
    return 0;
}

START_TEST(a_check_on_the_side_counts_and_forgets)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_usemap *current = NULL;
    struct vd_check_result result;
    struct vd_err err;
    int asked = 0;

    must(run(try_on_the_side,
             OPTIONS(.budget = &budget, .current_map = &current, .decide = only_leaks,
                     .decide_opaque = &asked),
             &result, &err),
         &err);
    ck_assert_uint_eq(result.ledger->groups.n, 0);
    ck_assert_uint_eq(result.given_up.n, 0);
    ck_assert_int_eq(asked, 0);
    ck_assert_ptr_eq(current, result.map);
    vd_check_result_free(&result);
    ck_assert_uint_eq(budget.memory, VD_BUDGET_MEMORY);
}
END_TEST

/* ---- passes */

static int ran[4];

static int first_pass(struct vd_check *ck, struct vd_err *err)
{
    (void)err;
    ran[0]++;
    ck->map_is_incomplete = ck->driver_data != NULL;
    return 0;
}

static int second_pass(struct vd_check *ck, struct vd_err *err)
{
    (void)ck;
    (void)err;
    ran[1]++;
    return 0;
}

static int changing_pass(struct vd_check *ck, struct vd_err *err)
{
    (void)err;
    ran[2]++;
    ck->has_changed = true;
    return 0;
}

static int stopping_pass(struct vd_check *ck, struct vd_err *err)
{
    (void)ck;
    (void)err;
    ran[2]++;
    return VD_STOP;
}

static int failing_pass(struct vd_check *ck, struct vd_err *err)
{
    (void)ck;
    return vd_fail(err, VD_ERR_IO, 0, "the disk is gone");
}

static int last_pass(struct vd_check *ck, struct vd_err *err)
{
    (void)ck;
    (void)err;
    ran[3]++;
    return 0;
}

static int run_passes(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    static const struct vd_pass all[] = {
        {"first",      first_pass, VD_ALWAYS, ""},
        {"second",   second_pass, VD_IF_COMPLETE, ""},
        {"last",            last_pass, VD_ALWAYS, ""},
        {0}
    };
    static const struct vd_pass changes[] = {
        {"change",   changing_pass, VD_ALWAYS, ""},
        {"last", last_pass, VD_ALWAYS, ""},
        {0         }
    };
    static const struct vd_pass stops[] = {
        {"stop",     stopping_pass, VD_ALWAYS, ""},
        {"last", last_pass, VD_ALWAYS, ""},
        {0         }
    };
    static const struct vd_pass fails[] = {
        {"walk",     failing_pass, VD_ALWAYS, ""},
        {"last", last_pass, VD_ALWAYS, ""},
        {0         }
    };
    struct vd_err why = VD_ERR_INIT;

    (void)bs;
    (void)fix;
    must(vd_run_passes(ck, all, err), err);
    ck_assert(ran[0] == 1 && ran[1] == 1 && ran[3] == 1);
    ck->driver_data = ck; /* now the first pass leaves the map incomplete */
    must(vd_run_passes(ck, all, err), err);
    ck_assert(ran[0] == 2 && ran[1] == 1 && ran[3] == 2);
    must(vd_run_passes(ck, stops, err), err);
    ck_assert(ran[2] == 1 && ran[3] == 2);
    must_fail(vd_run_passes(ck, fails, &why), &why, VD_ERR_IO);
    ck_assert_str_eq(why.story, "image: pass \"walk\": the disk is gone");
    must(vd_run_passes(ck, changes, err), err);
    ck_assert(ran[2] == 2 && ran[3] == 2);
    return 0;
}

START_TEST(passes_run_in_order_until_one_changes_stops_or_fails)
{
    struct vd_check_result result;
    struct vd_err err;

    must(run(run_passes, OPTIONS(0), &result, &err), &err);
    vd_check_result_free(&result);
}
END_TEST

/* ---- the file itself */

static int grow_the_file(struct BlockDriverState *bs, struct vd_check *ck, int fix, struct vd_err *err)
{
    (void)ck;
    (void)fix;
    (void)err;
    ck_assert_int_eq(truncate(bs->filename, 5), 0);
    return 0;
}

START_TEST(a_file_that_changes_during_the_check_is_an_error)
{
    static const struct BlockDriver drv = {
        .format_name = "x", .findings = findings, .bdrv_co_check = grow_the_file};
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_check_options opts = {.budget = &budget};
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) file = NULL;
    vd_auto(BlockDriverState) bs = NULL;
    struct vd_check_result result;

    vd_unit_write_file("image", "abc", 3);
    file = vd_file_open("image", 0, &err);
    must_have(file, &err);
    bs = bdrv_open_node(&drv, file, BDRV_O_CHECK, &err);
    must(vd_check_run(bs, &opts, &result, &err), &err);
    ck_assert_uint_eq(result.ledger->groups.n, 1);
    ck_assert_str_eq(result.ledger->groups.v[0]->kind->id, "image.changed-while-read");
    ck_assert(result.map_is_incomplete);
    vd_check_result_free(&result);
}
END_TEST

UNIT_TESTS("check", a_check_leaves_everything_and_counts_it, the_plan_decides_and_its_reason_is_kept,
           what_cannot_be_read_leaves_the_map_incomplete, mass_damage_raises_every_level_to_all,
           a_header_in_doubt_leaves_no_level_to_anything, what_earlier_rounds_and_repairs_left_is_handed_on,
           a_check_that_ends_early_still_tells_what_it_found, a_missing_base_leaves_the_map_complete,
           a_finding_knows_where_the_driver_was, claims_go_to_the_map_of_the_check,
           a_new_round_begins_with_nothing_claimed, a_check_on_the_side_counts_and_forgets,
           passes_run_in_order_until_one_changes_stops_or_fails,
           a_file_that_changes_during_the_check_is_an_error)
