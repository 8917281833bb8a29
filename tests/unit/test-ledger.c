/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/ledger.h"

#include "tests/unit/unit.h"

static const struct vd_finding_kind torn = {"x.torn", VD_CORRUPTION, VD_LEVEL_SAFE, VD_EVIDENCE, "m", "r",
                                            "e"};
static const struct vd_finding_kind leak = {"x.leak", VD_LEAK, VD_LEVEL_LEAKS, 0, "m", "r", "e"};
static const struct vd_finding_kind odd = {"x.odd", VD_WARNING, VD_LEVEL_ALL, VD_HOLD, "m", "r", "e"};

static struct vd_ledger *make(void)
{
    struct vd_ledger *ledger = vd_ledger_new();

    ck_assert_ptr_nonnull(ledger);
    ledger->keeps_keys = true;
    return ledger;
}

static struct vd_found_args at_host(uint64_t host)
{
    return (struct vd_found_args){.host = host,
                                  .guest = VD_NOWHERE,
                                  .found = VD_NOWHERE,
                                  .expected = VD_NOWHERE,
                                  .other_guest = VD_NOWHERE,
                                  .other_host = VD_NOWHERE};
}

static struct vd_group *enter(struct vd_ledger *ledger, const struct vd_finding_kind *kind,
                              struct vd_found_args args)
{
    static const struct vd_check ck = {.cluster_size = 4096};
    struct vd_group *group = vd_ledger_enter(ledger, kind, &args, kind->severity, kind->level, &ck);

    ck_assert_ptr_nonnull(group);
    ck_assert(!ledger->is_out_of_memory);
    return group;
}

START_TEST(equal_findings_are_one_group)
{
    vd_auto(vd_ledger) ledger = make();
    struct vd_group *group = enter(ledger, &torn, at_host(8));

    ck_assert_ptr_eq(enter(ledger, &torn, at_host(16)), group);
    ck_assert_ptr_ne(enter(ledger, &leak, at_host(4096)), group);
    ck_assert_uint_eq(ledger->groups.n, 2);
    ck_assert_uint_eq(group->count, 2);
    ck_assert_uint_eq(group->places.n, 2);
    ck_assert_uint_eq(group->places.v[1].host, 16);
    ck_assert_uint_eq(ledger->flags, VD_EVIDENCE | VD_SAW_CORRUPTION);
}
END_TEST

START_TEST(another_level_or_severity_is_another_group)
{
    vd_auto(vd_ledger) ledger = make();
    const struct vd_check ck = {0};
    const struct vd_found_args args = at_host(8);
    struct vd_group *a = vd_ledger_enter(ledger, &torn, &args, VD_CORRUPTION, VD_LEVEL_SAFE, &ck);
    struct vd_group *b = vd_ledger_enter(ledger, &torn, &args, VD_CORRUPTION, VD_LEVEL_ALL, &ck);
    struct vd_group *c = vd_ledger_enter(ledger, &torn, &args, VD_WARNING, VD_LEVEL_ALL, &ck);

    ck_assert(a != b && b != c && a != c);
    ck_assert_uint_eq(ledger->groups.n, 3);
}
END_TEST

START_TEST(counts_are_sums_by_severity)
{
    vd_auto(vd_ledger) ledger = make();
    struct vd_found_args many = at_host(8192);
    struct vd_counts counts;

    many.count = 5;
    many.host_bytes = 5 * 4096;
    enter(ledger, &leak, many);
    enter(ledger, &leak, at_host(4096));
    enter(ledger, &torn, at_host(8));
    enter(ledger, &odd, at_host(8));
    counts = vd_ledger_counts(ledger);
    ck_assert_uint_eq(counts.leaks, 6);
    ck_assert_uint_eq(counts.corruptions, 1);
    ck_assert_uint_eq(counts.warnings, 1);
    ck_assert_uint_eq(counts.states + counts.errors, 0);
    ck_assert_uint_eq(ledger->groups.v[0]->bytes, 5 * 4096);
    ledger->groups.v[0]->fixed = 4;
    ck_assert_uint_eq(vd_ledger_left(ledger).leaks, 2);
    ck_assert_uint_eq(vd_ledger_counts(ledger).leaks, 6);
}
END_TEST

START_TEST(places_are_kept_up_to_the_bound_and_all_are_counted)
{
    vd_auto(vd_ledger) ledger = make();

    for (uint64_t i = 0; i < VD_PLACES_KEPT + 50; i++)
        enter(ledger, &torn, at_host(i * 8));
    ck_assert_uint_eq(ledger->groups.v[0]->places.n, VD_PLACES_KEPT);
    ck_assert_uint_eq(ledger->groups.v[0]->count, VD_PLACES_KEPT + 50);
    ck_assert_uint_eq(ledger->groups.v[0]->keys.n, VD_PLACES_KEPT + 50);
}
END_TEST

START_TEST(a_place_tells_numbers_words_and_where)
{
    vd_auto(vd_ledger) ledger = make();
    struct vd_check ck = {
        .depth = 2, .where = {{"L1", 3}, {"L2", 7}}
    };
    struct vd_found_args args = at_host(8);
    char words[200];
    const struct vd_place *place;

    memset(words, 'w', sizeof(words) - 1);
    words[sizeof(words) - 1] = '\0';
    args.found = 0xabc;
    args.expected_text = words;
    args.guest = 65536;
    ck_assert_ptr_nonnull(vd_ledger_enter(ledger, &torn, &args, VD_CORRUPTION, VD_LEVEL_SAFE, &ck));
    place = &ledger->groups.v[0]->places.v[0];
    ck_assert_str_eq(place->found, "0xabc");
    ck_assert_uint_lt(strlen(place->expected), VD_PLACE_TEXT);
    ck_assert_uint_ge(strlen(place->expected), VD_PLACE_TEXT - 4);
    ck_assert_str_eq(place->expected + strlen(place->expected) - 4, "w...");
    ck_assert_uint_eq(place->guest, 65536);
    ck_assert_uint_eq(place->depth, 2);
    ck_assert_str_eq(place->where[1].name, "L2");
    ck_assert_uint_eq(place->where[1].index, 7);
    ck_assert_uint_eq(place->count, 1);
    args = at_host(VD_NOWHERE);
    ck.depth = 9; /* deeper than is kept */
    ck_assert_ptr_nonnull(vd_ledger_enter(ledger, &torn, &args, VD_CORRUPTION, VD_LEVEL_SAFE, &ck));
    place = &ledger->groups.v[0]->places.v[1];
    ck_assert_str_eq(place->found, "");
    ck_assert_uint_eq(place->depth, VD_WHERE_DEPTH);
}
END_TEST

START_TEST(a_key_knows_a_place_whatever_was_found_there)
{
    vd_auto(vd_ledger) a = make();
    vd_auto(vd_ledger) b = make();
    struct vd_found_args args = at_host(64);
    struct vd_group *there;

    args.found = 1;
    args.guest = 512;
    enter(a, &torn, args);
    args.found = 2;
    args.guest = 1024; /* known better now */
    there = enter(b, &torn, args);
    enter(b, &torn, at_host(72));
    vd_ledger_settle(a);
    ck_assert(vd_ledger_has_key(a, there, there->keys.v[0]));
    ck_assert(!vd_ledger_has_key(a, there, there->keys.v[1]));
}
END_TEST

START_TEST(a_key_of_another_kind_is_another_key)
{
    vd_auto(vd_ledger) a = make();
    vd_auto(vd_ledger) b = make();
    struct vd_group *there = enter(b, &odd, at_host(64));

    enter(a, &torn, at_host(64));
    vd_ledger_settle(a);
    ck_assert(!vd_ledger_has_key(a, there, there->keys.v[0]));
}
END_TEST

START_TEST(without_a_host_offset_the_guest_offset_is_the_key)
{
    vd_auto(vd_ledger) a = make();
    vd_auto(vd_ledger) b = make();
    struct vd_found_args args = at_host(VD_NOWHERE);
    struct vd_group *there;

    args.guest = 512;
    enter(a, &torn, args);
    there = enter(b, &torn, args);
    args.guest = 1024;
    enter(b, &torn, args);
    vd_ledger_settle(a);
    ck_assert(vd_ledger_has_key(a, there, there->keys.v[0]));
    ck_assert(!vd_ledger_has_key(a, there, there->keys.v[1]));
}
END_TEST

START_TEST(a_key_is_found_whatever_level_it_had)
{
    vd_auto(vd_ledger) a = make();
    vd_auto(vd_ledger) b = make();
    const struct vd_check ck = {0};
    const struct vd_found_args args = at_host(64);
    struct vd_group *there = vd_ledger_enter(b, &torn, &args, VD_CORRUPTION, VD_LEVEL_ALL, &ck);

    enter(a, &torn, at_host(64));
    vd_ledger_settle(a);
    ck_assert(vd_ledger_has_key(a, there, there->keys.v[0]));
}
END_TEST

START_TEST(a_place_is_known_under_another_kind_of_the_same_severity)
{
    static const struct vd_finding_kind bent = {"x.bent", VD_CORRUPTION, VD_LEVEL_ALL, 0, "m", "r", "e"};
    vd_auto(vd_ledger) ledger = make();
    vd_auto(vd_ledger) other = make();
    uint64_t key;

    enter(ledger, &torn, at_host(64));
    key = vd_place_key(&enter(other, &bent, at_host(64))->places.v[0]);
    vd_ledger_settle(ledger);
    ck_assert(vd_ledger_has_place(ledger, VD_CORRUPTION, key));
    ck_assert(!vd_ledger_has_place(ledger, VD_ERROR, key));
    ck_assert(!vd_ledger_has_place(ledger, VD_CORRUPTION, key + 1));
}
END_TEST

START_TEST(leaks_and_guest_ranges_are_kept_as_sets)
{
    vd_auto(vd_ledger) ledger = make();
    struct vd_found_args args = at_host(3 * 4096);

    args.host_bytes = 2 * 4096;
    args.count = 2;
    enter(ledger, &leak, args);
    args = at_host(16);
    args.guest = 65536;
    args.guest_bytes = 4096;
    args.other_guest = 8192;
    enter(ledger, &torn, args);
    args.guest = 0;
    args.other_guest = VD_NOWHERE;
    enter(ledger, &odd, args); /* a warning gives nothing up */
    vd_ledger_settle(ledger);
    ck_assert(vd_runs_has_all(&ledger->leaked, 3, 2) && vd_runs_total(&ledger->leaked) == 2);
    ck_assert(vd_runs_has_all(&ledger->guest, 65536, 4096) && vd_runs_has_all(&ledger->guest, 8192, 4096));
    ck_assert_uint_eq(vd_runs_total(&ledger->guest), 2 * 4096);
}
END_TEST

START_TEST(a_ledger_that_is_not_compared_keeps_no_keys)
{
    vd_auto(vd_ledger) ledger = vd_ledger_new();

    enter(ledger, &torn, at_host(8));
    ck_assert_uint_eq(ledger->groups.v[0]->keys.n, 0);
    ck_assert_uint_eq(ledger->groups.v[0]->places.n, 1);
}
END_TEST

START_TEST(raising_joins_groups_and_loses_nothing)
{
    vd_auto(vd_ledger) ledger = make();
    const struct vd_check ck = {0};
    struct vd_found_args args = at_host(8);

    vd_ledger_enter(ledger, &torn, &args, VD_CORRUPTION, VD_LEVEL_SAFE, &ck);
    args.host = 16;
    vd_ledger_enter(ledger, &torn, &args, VD_CORRUPTION, VD_LEVEL_ALL, &ck);
    args.host = 24;
    vd_ledger_enter(ledger, &torn, &args, VD_CORRUPTION, VD_LEVEL_NONE, &ck);
    enter(ledger, &leak, at_host(4096));
    vd_ledger_raise(ledger, VD_LEVEL_ALL);
    ck_assert_uint_eq(ledger->groups.n, 3);
    ck_assert_int_eq(ledger->groups.v[0]->level, VD_LEVEL_ALL);
    ck_assert_uint_eq(ledger->groups.v[0]->count, 2);
    ck_assert_uint_eq(ledger->groups.v[0]->places.n, 2);
    ck_assert_uint_eq(ledger->groups.v[0]->keys.n, 2);
    ck_assert_int_eq(ledger->groups.v[1]->level, VD_LEVEL_NONE);
    ck_assert_int_eq(ledger->groups.v[2]->level, VD_LEVEL_ALL);
    ck_assert_uint_eq(vd_ledger_counts(ledger).corruptions, 3);
    vd_ledger_raise(ledger, VD_LEVEL_NONE);
    ck_assert_uint_eq(ledger->groups.n, 2);
    ck_assert_uint_eq(vd_ledger_counts(ledger).corruptions, 3);
    vd_ledger_raise(ledger, VD_LEVEL_SAFE); /* never lowers */
    ck_assert_int_eq(ledger->groups.v[0]->level, VD_LEVEL_NONE);
}
END_TEST

START_TEST(merging_adds_kinds_that_only_the_other_has)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_found_args args = at_host(64);
    struct vd_err err = VD_ERR_INIT;

    args.guest = 512;
    args.guest_bytes = 512;
    enter(ours, &torn, at_host(8));
    enter(theirs, &odd, at_host(16));
    enter(theirs, &odd, at_host(24));
    enter(theirs, &leak, at_host(4096));
    enter(theirs, &torn, args);
    must(vd_ledger_merge(ours, theirs, &err), &err);
    ck_assert_uint_eq(ours->groups.n, 3);
    ck_assert_uint_eq(vd_ledger_counts(ours).warnings, 2);
    ck_assert_uint_eq(vd_ledger_counts(ours).leaks, 1);
    ck_assert_uint_eq(ours->flags, VD_EVIDENCE | VD_HOLD | VD_SAW_CORRUPTION);
    ck_assert(vd_runs_has_all(&ours->guest, 512, 512));
}
END_TEST

START_TEST(merging_adds_places_that_only_the_other_has)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    const struct vd_check ck = {0};
    struct vd_found_args args = at_host(32);
    struct vd_err err = VD_ERR_INIT;

    enter(ours, &torn, at_host(8));
    enter(theirs, &torn, at_host(24));
    enter(theirs, &torn, at_host(8));
    enter(theirs, &torn, at_host(16));
    args.count = 9;
    vd_ledger_enter(theirs, &torn, &args, VD_CORRUPTION, VD_LEVEL_ALL, &ck);
    must(vd_ledger_merge(ours, theirs, &err), &err);
    ck_assert_uint_eq(ours->groups.n, 2);
    ck_assert_uint_eq(ours->groups.v[0]->count, 3);
    ck_assert_uint_eq(ours->groups.v[0]->places.n, 3);
    ck_assert_uint_eq(ours->groups.v[0]->places.v[0].host, 8);
    ck_assert_uint_eq(ours->groups.v[0]->places.v[1].host, 24);
    ck_assert_uint_eq(ours->groups.v[0]->places.v[2].host, 16);
    ck_assert_int_eq(ours->groups.v[1]->level, VD_LEVEL_ALL);
    ck_assert_uint_eq(ours->groups.v[1]->count, 9);
    must(vd_ledger_merge(ours, theirs, &err), &err); /* all of it is known now */
    ck_assert_uint_eq(vd_ledger_counts(ours).corruptions, 12);
    ck_assert_uint_eq(vd_ledger_fresh(ours, theirs->groups.v[0]), 0);
}
END_TEST

START_TEST(merging_counts_places_that_are_not_kept)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_err err = VD_ERR_INIT;

    for (uint64_t i = 0; i < VD_PLACES_KEPT; i++)
        enter(ours, &torn, at_host(i * 8));
    for (uint64_t i = 0; i < 2 * VD_PLACES_KEPT; i++)
        enter(theirs, &torn, at_host(i * 8));
    must(vd_ledger_merge(ours, theirs, &err), &err);
    ck_assert_uint_eq(ours->groups.v[0]->count, 2 * VD_PLACES_KEPT);
    ck_assert_uint_eq(ours->groups.v[0]->places.n, VD_PLACES_KEPT);
}
END_TEST

START_TEST(merging_counts_a_place_once_whatever_it_is_called)
{
    static const struct vd_finding_kind bent = {"x.bent", VD_CORRUPTION, VD_LEVEL_ALL, 0, "m", "r", "e"};
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_err err = VD_ERR_INIT;

    enter(ours, &torn, at_host(8));
    enter(ours, &bent, at_host(16));
    enter(theirs, &torn, at_host(16));
    must(vd_ledger_merge(ours, theirs, &err), &err);
    ck_assert_uint_eq(vd_ledger_counts(ours).corruptions, 2);
}
END_TEST

START_TEST(merging_the_same_again_changes_nothing)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_err err = VD_ERR_INIT;

    enter(ours, &torn, at_host(8));
    enter(ours, &leak, at_host(4096));
    enter(theirs, &torn, at_host(8));
    enter(theirs, &leak, at_host(4096));
    must(vd_ledger_merge(ours, theirs, &err), &err);
    ck_assert_uint_eq(ours->groups.n, 2);
    ck_assert_uint_eq(vd_ledger_counts(ours).corruptions, 1);
    ck_assert_uint_eq(vd_ledger_counts(ours).leaks, 1);
}
END_TEST

START_TEST(merging_takes_guest_offsets_that_were_not_known)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_found_args args = at_host(8);
    struct vd_err err = VD_ERR_INIT;

    enter(ours, &torn, args);
    args.guest = 65536;
    args.guest_bytes = 512;
    enter(theirs, &torn, args);
    must(vd_ledger_merge(ours, theirs, &err), &err);
    ck_assert_uint_eq(ours->groups.v[0]->places.v[0].guest, 65536);
    ck_assert_uint_eq(ours->groups.v[0]->places.v[0].guest_bytes, 512);
}
END_TEST

START_TEST(merging_takes_the_reasons_of_a_plan)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_err err = VD_ERR_INIT;

    enter(ours, &torn, at_host(8));
    enter(theirs, &torn, at_host(8))->reason = "not now";
    must(vd_ledger_merge(ours, theirs, &err), &err);
    ck_assert_str_eq(ours->groups.v[0]->reason, "not now");
}
END_TEST

/* A repair may leave an orphan's cluster that is then found as a plain one. */
START_TEST(a_leaked_cluster_is_told_once_whatever_its_id)
{
    static const struct vd_finding_kind plain = {"x.plain", VD_LEAK, VD_LEVEL_ALL, 0, "m", "r", "e"};
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_found_args args = at_host(3 * 4096);
    struct vd_err err = VD_ERR_INIT;

    args.count = 2;
    args.host_bytes = 2 * 4096;
    enter(ours, &leak, args);
    args.host = 4 * 4096;
    enter(theirs, &plain, args);
    must(vd_ledger_merge(ours, theirs, &err), &err);
    ck_assert_uint_eq(ours->groups.n, 2);
    ck_assert_uint_eq(vd_ledger_counts(ours).leaks, 3);
    ck_assert_uint_eq(ours->groups.v[1]->bytes, 4096);
    ck_assert(vd_runs_has_all(&ours->leaked, 3, 3));
}
END_TEST

START_TEST(leaks_are_taken_into_the_group_that_is_theirs)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_found_args args = at_host(3 * 4096);
    struct vd_err err = VD_ERR_INIT;

    args.host_bytes = 4096;
    enter(ours, &leak, args);
    enter(theirs, &leak, args);
    args.host = 9 * 4096;
    enter(theirs, &leak, args);
    must(vd_ledger_take_leaks(ours, theirs, &err), &err);
    must(vd_ledger_take_leaks(ours, theirs, &err), &err);
    ck_assert_uint_eq(ours->groups.n, 1);
    ck_assert_uint_eq(ours->groups.v[0]->count, 2);
    ck_assert_uint_eq(ours->groups.v[0]->places.n, 2);
    ck_assert_uint_eq(ours->groups.v[0]->places.v[1].host, 9 * 4096);
}
END_TEST

/* What a repair leaves behind may begin in a known run and end in a new one. */
START_TEST(of_a_leak_that_is_known_in_part_the_rest_is_told)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_found_args args = at_host(6 * 4096);
    struct vd_err err = VD_ERR_INIT;
    struct vd_group *group;

    args.count = 2;
    args.host_bytes = 2 * 4096;
    group = enter(ours, &leak, args); /* 6 and 7 */
    args.count = 3;
    args.host_bytes = 3 * 4096;
    enter(theirs, &leak, args); /* 6 to 8 */
    args.host = 5 * 4096;
    args.count = 1;
    args.host_bytes = 4096;
    enter(theirs, &leak, args); /* 5 */
    args.host = 7 * 4096;
    enter(theirs, &odd, args); /* no leak */
    must(vd_ledger_take_leaks(ours, theirs, &err), &err);
    ck_assert_uint_eq(ours->groups.n, 1);
    ck_assert_uint_eq(group->count, 4);
    ck_assert_uint_eq(group->bytes, 4 * 4096);
    ck_assert_uint_eq(group->places.n, 3);
    ck_assert_uint_eq(group->places.v[1].host, 5 * 4096);
    ck_assert_uint_eq(group->places.v[1].host_bytes, 4096);
    ck_assert_uint_eq(group->places.v[2].host, 8 * 4096);
    ck_assert_uint_eq(group->places.v[2].host_bytes, 4096);
}
END_TEST

/* An orphaned table is told where it stands, with all that it names wherever that lies. */
START_TEST(of_a_scattered_leak_that_is_known_in_part_the_rest_is_told)
{
    vd_auto(vd_ledger) ours = make();
    vd_auto(vd_ledger) theirs = make();
    struct vd_found_args args = at_host(6 * 4096);
    struct vd_runs clusters = {0};
    struct vd_err err = VD_ERR_INIT;
    struct vd_group *group;

    args.host_bytes = 4096;
    group = enter(ours, &leak, args);
    ck_assert_int_eq(vd_runs_add(&clusters, 6, 1), 0);
    ck_assert_int_eq(vd_runs_add(&clusters, 9, 2), 0);
    args.count = 3;
    args.host_bytes = 3 * 4096;
    args.clusters = &clusters;
    enter(theirs, &leak, args);
    must(vd_ledger_take_leaks(ours, theirs, &err), &err);
    ck_assert_uint_eq(group->count, 3);
    ck_assert_uint_eq(group->places.n, 2);
    ck_assert_uint_eq(group->places.v[1].host, 9 * 4096);
    ck_assert_uint_eq(group->places.v[1].host_bytes, 2 * 4096);
    vd_runs_done(&clusters);
}
END_TEST

START_TEST(leaked_bytes_are_those_that_are_left)
{
    vd_auto(vd_ledger) ledger = make();
    struct vd_found_args args = at_host(6 * 4096);
    struct vd_group *group;

    args.count = 8;
    args.host_bytes = 8 * 4096;
    group = enter(ledger, &leak, args);
    ck_assert_uint_eq(vd_group_bytes_left(group), 8 * 4096);
    group->fixed = 3;
    ck_assert_uint_eq(vd_group_bytes_left(group), 5 * 4096);
    group->fixed = 8;
    ck_assert_uint_eq(vd_group_bytes_left(group), 0);
}
END_TEST

UNIT_TESTS("ledger", equal_findings_are_one_group, another_level_or_severity_is_another_group,
           counts_are_sums_by_severity, places_are_kept_up_to_the_bound_and_all_are_counted,
           a_place_tells_numbers_words_and_where, a_key_knows_a_place_whatever_was_found_there,
           a_key_of_another_kind_is_another_key, without_a_host_offset_the_guest_offset_is_the_key,
           a_key_is_found_whatever_level_it_had, a_place_is_known_under_another_kind_of_the_same_severity,
           leaks_and_guest_ranges_are_kept_as_sets, a_ledger_that_is_not_compared_keeps_no_keys,
           raising_joins_groups_and_loses_nothing, merging_adds_kinds_that_only_the_other_has,
           merging_adds_places_that_only_the_other_has, merging_counts_places_that_are_not_kept,
           merging_counts_a_place_once_whatever_it_is_called, merging_the_same_again_changes_nothing,
           merging_takes_guest_offsets_that_were_not_known, a_leaked_cluster_is_told_once_whatever_its_id,
           leaks_are_taken_into_the_group_that_is_theirs, of_a_leak_that_is_known_in_part_the_rest_is_told,
           of_a_scattered_leak_that_is_known_in_part_the_rest_is_told, leaked_bytes_are_those_that_are_left,
           merging_takes_the_reasons_of_a_plan)
