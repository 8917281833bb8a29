/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/plan.h"

#include "tests/unit/unit.h"

static const struct vd_finding_kind kind = {"x.y", VD_CORRUPTION, VD_LEVEL_SAFE, 0, "m", "r", "e"};

struct question {
    struct vd_plan plan;
    struct vd_check ck;
    enum vd_severity severity;
    enum vd_level level;
};

static enum vd_verdict ask(struct question q, const char **reason)
{
    *reason = NULL;
    return vd_plan_decide(&q.plan, &q.ck, &kind, NULL, q.severity, q.level, reason);
}

static void must_fix(struct question q)
{
    const char *reason;

    ck_assert_msg(ask(q, &reason) == VD_FIX, "left: %s", reason);
    ck_assert_ptr_null(reason);
}

/* Left, and the reason has this word in it. */
static void must_leave(struct question q, const char *word)
{
    const char *reason;

    ck_assert_int_eq(ask(q, &reason), VD_LEAVE);
    ck_assert_ptr_nonnull(reason);
    ck_assert_msg(strstr(reason, word), "no '%s' in: %s", word, reason);
}

#define Q(...) ((struct question){__VA_ARGS__})

START_TEST(a_level_is_never_exceeded)
{
    for (enum vd_level plan = VD_LEVEL_LEAKS; plan <= VD_LEVEL_ALL; plan++)
        for (enum vd_level level = VD_LEVEL_LEAKS; level <= VD_LEVEL_ALL; level++) {
            struct question q = Q(.plan.level = plan, .severity = VD_CORRUPTION, .level = level);

            if (level <= plan)
                must_fix(q);
            else
                must_leave(q, "level");
        }
}
END_TEST

START_TEST(what_has_no_repair_is_left_at_every_level)
{
    for (enum vd_level plan = VD_LEVEL_LEAKS; plan <= VD_LEVEL_ALL; plan++)
        must_leave(Q(.plan.level = plan, .severity = VD_CORRUPTION, .level = VD_LEVEL_NONE), "no repair");
}
END_TEST

START_TEST(a_warning_is_repaired_at_all_or_not_at_all)
{
    for (enum vd_level level = VD_LEVEL_LEAKS; level <= VD_LEVEL_ALL; level++) {
        must_leave(Q(.plan.level = VD_LEVEL_LEAKS, .severity = VD_WARNING, .level = level), "level");
        must_leave(Q(.plan.level = VD_LEVEL_SAFE, .severity = VD_WARNING, .level = level), "level");
        must_fix(Q(.plan.level = VD_LEVEL_ALL, .severity = VD_WARNING, .level = level));
    }
}
END_TEST

START_TEST(nothing_is_freed_and_no_flag_cleared_while_the_map_is_incomplete)
{
    for (enum vd_level plan = VD_LEVEL_SAFE; plan <= VD_LEVEL_ALL; plan++) {
        must_leave(
            Q(.plan.level = plan, .ck.map_is_incomplete = true, .severity = VD_LEAK, .level = VD_LEVEL_LEAKS),
            "could not be read");
        must_leave(
            Q(.plan.level = plan, .ck.map_is_incomplete = true, .severity = VD_STATE, .level = VD_LEVEL_SAFE),
            "could not be read");
        must_fix(Q(.plan.level = plan, .ck.map_is_incomplete = true, .severity = VD_CORRUPTION,
                   .level = VD_LEVEL_SAFE));
    }
}
END_TEST

START_TEST(nothing_is_freed_and_no_flag_cleared_while_corruption_is_left)
{
    for (enum vd_level plan = VD_LEVEL_SAFE; plan <= VD_LEVEL_ALL; plan++) {
        must_leave(
            Q(.plan.level = plan, .ck.corruptions_left = 1, .severity = VD_LEAK, .level = VD_LEVEL_LEAKS),
            "corruption is left");
        must_leave(
            Q(.plan.level = plan, .ck.corruptions_left = 1, .severity = VD_STATE, .level = VD_LEVEL_SAFE),
            "corruption is left");
        must_fix(Q(.plan.level = plan, .ck.corruptions_left = 1, .severity = VD_CORRUPTION,
                   .level = VD_LEVEL_SAFE));
    }
    must_fix(Q(.plan.level = VD_LEVEL_LEAKS, .severity = VD_LEAK, .level = VD_LEVEL_LEAKS));
    must_fix(Q(.plan.level = VD_LEVEL_SAFE, .severity = VD_STATE, .level = VD_LEVEL_SAFE));
}
END_TEST

START_TEST(mass_damage_stops_everything_below_all)
{
    static const enum vd_severity severities[] = {VD_CORRUPTION, VD_LEAK, VD_STATE};

    for (size_t i = 0; i < 3; i++) {
        must_leave(Q(.plan = {.level = VD_LEVEL_LEAKS, .flags = VD_HOLD}, .severity = severities[i],
                     .level = VD_LEVEL_LEAKS),
                   "copy");
        must_leave(Q(.plan = {.level = VD_LEVEL_SAFE, .flags = VD_HOLD}, .severity = severities[i],
                     .level = VD_LEVEL_SAFE),
                   "copy");
        must_fix(Q(.plan = {.level = VD_LEVEL_ALL, .flags = VD_HOLD}, .severity = severities[i],
                   .level = VD_LEVEL_SAFE));
    }
}
END_TEST

/* A fix may have made a table reachable that nobody could see in the first check. */
START_TEST(mass_damage_that_a_later_round_finds_stops_it_as_well)
{
    must_leave(Q(.plan.level = VD_LEVEL_SAFE, .ck.flags = VD_HOLD, .severity = VD_CORRUPTION,
                 .level = VD_LEVEL_SAFE),
               "copy");
    must_fix(Q(.plan.level = VD_LEVEL_ALL, .ck.flags = VD_HOLD, .severity = VD_CORRUPTION,
               .level = VD_LEVEL_SAFE));
}
END_TEST

START_TEST(a_header_in_doubt_stops_everything_at_every_level)
{
    for (enum vd_level plan = VD_LEVEL_LEAKS; plan <= VD_LEVEL_ALL; plan++) {
        must_leave(Q(.plan = {.level = plan, .flags = VD_FREEZE}, .severity = VD_CORRUPTION,
                     .level = VD_LEVEL_LEAKS),
                   "in doubt");
        must_leave(Q(.plan.level = plan, .ck.flags = VD_FREEZE, .severity = VD_LEAK, .level = VD_LEVEL_LEAKS),
                   "in doubt");
    }
}
END_TEST

START_TEST(without_room_for_what_undo_needs_leaks_stay)
{
    must_leave(Q(.plan = {.level = VD_LEVEL_ALL, .frees_nothing = true}, .severity = VD_LEAK,
                 .level = VD_LEVEL_LEAKS),
               "room");
    must_fix(Q(.plan = {.level = VD_LEVEL_ALL, .frees_nothing = true}, .severity = VD_CORRUPTION,
               .level = VD_LEVEL_SAFE));
    must_fix(Q(.plan = {.level = VD_LEVEL_ALL, .frees_nothing = true}, .severity = VD_STATE,
               .level = VD_LEVEL_SAFE));
}
END_TEST

START_TEST(evidence_alone_forbids_nothing_here)
{
    must_fix(Q(.plan = {.level = VD_LEVEL_SAFE, .flags = VD_EVIDENCE}, .ck.flags = VD_EVIDENCE,
               .severity = VD_CORRUPTION, .level = VD_LEVEL_SAFE));
}
END_TEST

UNIT_TESTS("plan", a_level_is_never_exceeded, what_has_no_repair_is_left_at_every_level,
           a_warning_is_repaired_at_all_or_not_at_all,
           nothing_is_freed_and_no_flag_cleared_while_the_map_is_incomplete,
           nothing_is_freed_and_no_flag_cleared_while_corruption_is_left,
           mass_damage_stops_everything_below_all, mass_damage_that_a_later_round_finds_stops_it_as_well,
           a_header_in_doubt_stops_everything_at_every_level, without_room_for_what_undo_needs_leaks_stay,
           evidence_alone_forbids_nothing_here)
