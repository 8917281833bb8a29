/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/runs.h"

#include "formats/base/auto.h"
#include "tests/unit/unit.h"

/* The set that the text lists: "10+5 2+3" are the numbers 10 to 14 and 2 to 4, added in that order. */
static struct vd_runs make(const char *text)
{
    struct vd_runs runs = {0};
    unsigned long long first, count;
    int n;

    for (; sscanf(text, "%llu+%llu%n", &first, &count, &n) == 2; text += n)
        ck_assert_int_eq(vd_runs_add(&runs, first, count), 0);
    return runs;
}

/* The settled set as such a text. */
static void check_runs(struct vd_runs *runs, const char *expected)
{
    char text[512] = "";
    size_t at = 0;

    vd_runs_settle(runs);
    for (size_t i = 0; i < runs->n && at < sizeof(text); i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%llu+%llu", i ? " " : "",
                               (unsigned long long)runs->v[i].first, (unsigned long long)runs->v[i].count);
    ck_assert_str_eq(text, expected);
}

START_TEST(numbers_added_in_any_order_become_sorted_runs)
{
    struct vd_runs runs = make("10+5 2+3 5+5 100+1");

    check_runs(&runs, "2+13 100+1");
    ck_assert_uint_eq(vd_runs_total(&runs), 14);
    ck_assert(vd_runs_has(&runs, 14) && !vd_runs_has(&runs, 15));
    ck_assert(vd_runs_has_all(&runs, 2, 13) && !vd_runs_has_all(&runs, 2, 14));
    vd_runs_done(&runs);
}
END_TEST

START_TEST(ascending_neighbours_join_without_settling)
{
    struct vd_runs runs = {0};

    for (uint64_t i = 0; i < 1000; i++)
        ck_assert_int_eq(vd_runs_add(&runs, i, 1), 0);
    ck_assert_uint_eq(runs.n, 1);
    ck_assert(!runs.unsettled);
    ck_assert_uint_eq(vd_runs_total(&runs), 1000);
    vd_runs_done(&runs);
}
END_TEST

START_TEST(room_that_was_made_is_used_and_holds_what_was_there)
{
    struct vd_runs runs = make("10+1 20+1");
    struct vd_run *v;

    ck_assert_int_eq(vd_runs_reserve(&runs, 1000), 0);
    v = runs.v;
    for (uint64_t i = 0; i < 1000; i++)
        ck_assert_int_eq(vd_runs_add(&runs, 30 + 2 * i, 1), 0);
    ck_assert_ptr_eq(runs.v, v);
    ck_assert_uint_eq(vd_runs_total(&runs), 1002);
    ck_assert(vd_runs_has(&runs, 10));
    ck_assert_int_eq(vd_runs_reserve(&runs, SIZE_MAX), -1);
    ck_assert_int_eq(vd_runs_reserve(&runs, SIZE_MAX / 8), -1);
    ck_assert_uint_eq(vd_runs_total(&runs), 1002);
    vd_runs_done(&runs);
}
END_TEST

START_TEST(ascending_neighbours_join_in_an_unsettled_set_too)
{
    struct vd_runs runs = make("100+1 10+1 11+1 12+5 3+1 4+2");

    ck_assert_uint_eq(runs.n, 3);
    check_runs(&runs, "3+3 10+7 100+1");
    vd_runs_done(&runs);
}
END_TEST

START_TEST(a_number_added_twice_counts_once)
{
    struct vd_runs runs = make("7+1 7+1 0+10 3+2 9+5 0+1");

    check_runs(&runs, "0+14");
    ck_assert_uint_eq(vd_runs_total(&runs), 14);
    vd_runs_done(&runs);
}
END_TEST

START_TEST(adding_nothing_adds_no_run)
{
    struct vd_runs runs = {0};

    ck_assert_int_eq(vd_runs_add(&runs, 5, 0), 0);
    ck_assert_uint_eq(runs.n, 0);
    vd_runs_settle(&runs);
    ck_assert_uint_eq(vd_runs_total(&runs), 0);
    ck_assert(!vd_runs_has(&runs, 5) && !vd_runs_has(&runs, 0));
    ck_assert_uint_eq(vd_runs_find(&runs, 5), 0);
    vd_runs_done(&runs);
}
END_TEST

START_TEST(the_largest_numbers_have_their_place)
{
    struct vd_runs runs = make("18446744073709551605+10 0+1");

    ck_assert(vd_runs_has(&runs, UINT64_MAX - 1) && !vd_runs_has(&runs, UINT64_MAX));
    ck_assert(vd_runs_has_all(&runs, UINT64_MAX - 10, 10));
    ck_assert(!vd_runs_has_all(&runs, UINT64_MAX - 10, UINT64_MAX));
    vd_runs_done(&runs);
}
END_TEST

START_TEST(find_gives_the_first_run_that_ends_behind_a_number)
{
    struct vd_runs runs = make("10+10 30+10 50+10");

    ck_assert_uint_eq(vd_runs_find(&runs, 0), 0);
    ck_assert_uint_eq(vd_runs_find(&runs, 19), 0);
    ck_assert_uint_eq(vd_runs_find(&runs, 20), 1);
    ck_assert_uint_eq(vd_runs_find(&runs, 59), 2);
    ck_assert_uint_eq(vd_runs_find(&runs, 60), 3);
    vd_runs_done(&runs);
}
END_TEST

START_TEST(a_gap_is_not_in_the_set)
{
    struct vd_runs runs = make("10+10 30+10");

    ck_assert(!vd_runs_has_all(&runs, 10, 30));
    ck_assert(!vd_runs_has_all(&runs, 19, 2));
    ck_assert(!vd_runs_has_all(&runs, 25, 10));
    ck_assert(vd_runs_has_all(&runs, 19, 1) && vd_runs_has_all(&runs, 30, 10));
    vd_runs_done(&runs);
}
END_TEST

START_TEST(all_of_another_set_is_added)
{
    struct vd_runs a = make("10+10"), b = make("100+1 0+10 20+5");

    ck_assert_int_eq(vd_runs_add_all(&a, &b), 0);
    check_runs(&a, "0+25 100+1");
    vd_runs_done(&a);
    vd_runs_done(&b);
}
END_TEST

START_TEST(minus_cuts_runs_where_the_other_set_has_them)
{
    struct vd_runs a = make("0+10 20+10"), b = make("3+2 8+14"), out = {0};

    ck_assert_int_eq(vd_runs_minus(&a, &b, &out), 0);
    check_runs(&out, "0+3 5+3 22+8");
    vd_runs_done(&a);
    vd_runs_done(&b);
    vd_runs_done(&out);
}
END_TEST

START_TEST(minus_at_the_edges)
{
    struct vd_runs a = make("10+10 30+10"), none = {0}, all = make("0+100"),
                   touching = make("0+10 20+10 40+9"), ends = make("10+1 39+1"), out = {0};

    ck_assert_int_eq(vd_runs_minus(&a, &none, &out), 0);
    check_runs(&out, "10+10 30+10");
    vd_runs_done(&out);
    ck_assert_int_eq(vd_runs_minus(&a, &touching, &out), 0);
    check_runs(&out, "10+10 30+10");
    vd_runs_done(&out);
    ck_assert_int_eq(vd_runs_minus(&a, &ends, &out), 0);
    check_runs(&out, "11+9 30+9");
    vd_runs_done(&out);
    ck_assert_int_eq(vd_runs_minus(&a, &all, &out), 0);
    ck_assert_uint_eq(out.n, 0);
    ck_assert_int_eq(vd_runs_minus(&none, &a, &out), 0);
    ck_assert_uint_eq(out.n, 0);
    vd_runs_done(&a);
    vd_runs_done(&all);
    vd_runs_done(&touching);
    vd_runs_done(&ends);
    vd_runs_done(&out);
}
END_TEST

/* Everything again, against an array of flags. */
START_TEST(random_sets_behave_like_sets)
{
    enum { N = 200 };
    bool in_a[N] = {0}, in_b[N] = {0};
    struct vd_runs a = {0}, b = {0}, out = {0};
    uint8_t noise[120];
    uint64_t total = 0;

    vd_unit_noise(noise, sizeof(noise), 1);
    for (size_t i = 0; i + 4 <= sizeof(noise); i += 4) {
        uint64_t first = noise[i] % 180, count = noise[i + 1] % 7;
        bool *flags = noise[i + 2] & 1 ? in_a : in_b;

        ck_assert_int_eq(vd_runs_add(noise[i + 2] & 1 ? &a : &b, first, count), 0);
        for (uint64_t k = first; k < first + count; k++)
            flags[k] = true;
    }
    ck_assert_int_eq(vd_runs_minus(&a, &b, &out), 0);
    for (uint64_t k = 0; k < N; k++) {
        ck_assert_int_eq(vd_runs_has(&a, k), in_a[k]);
        ck_assert_int_eq(vd_runs_has(&out, k), in_a[k] && !in_b[k]);
        total += in_a[k];
    }
    ck_assert_uint_eq(vd_runs_total(&a), total);
    for (size_t i = 1; i < a.n; i++)
        ck_assert_uint_gt(a.v[i].first, a.v[i - 1].first + a.v[i - 1].count);
    vd_runs_done(&a);
    vd_runs_done(&b);
    vd_runs_done(&out);
}
END_TEST

UNIT_TESTS("runs", numbers_added_in_any_order_become_sorted_runs, ascending_neighbours_join_without_settling,
           room_that_was_made_is_used_and_holds_what_was_there,
           ascending_neighbours_join_in_an_unsettled_set_too, a_number_added_twice_counts_once,
           adding_nothing_adds_no_run, the_largest_numbers_have_their_place,
           find_gives_the_first_run_that_ends_behind_a_number, a_gap_is_not_in_the_set,
           all_of_another_set_is_added, minus_cuts_runs_where_the_other_set_has_them, minus_at_the_edges,
           random_sets_behave_like_sets)
