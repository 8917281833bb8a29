/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <check.h>

#include "formats/base/runs.h"
#include "tests/unit/unit.h"

START_TEST(numbers_added_in_any_order_become_sorted_runs)
{
    struct vd_runs runs = {0};

    ck_assert_int_eq(vd_runs_add(&runs, 10, 5), 0);
    ck_assert_int_eq(vd_runs_add(&runs, 2, 3), 0);
    ck_assert_int_eq(vd_runs_add(&runs, 5, 5), 0);
    ck_assert_int_eq(vd_runs_add(&runs, 100, 1), 0);
    vd_runs_settle(&runs);
    ck_assert_uint_eq(runs.n, 2);
    ck_assert_uint_eq(runs.v[0].first, 2);
    ck_assert_uint_eq(runs.v[0].count, 13);
    ck_assert_uint_eq(vd_runs_total(&runs), 14);
    ck_assert(vd_runs_has(&runs, 14) && !vd_runs_has(&runs, 15));
    ck_assert(vd_runs_has_all(&runs, 2, 13) && !vd_runs_has_all(&runs, 2, 14));
    vd_runs_done(&runs);
}
END_TEST

START_TEST(minus_cuts_runs_where_the_other_set_has_them)
{
    struct vd_runs a = {0}, b = {0}, out = {0};

    ck_assert_int_eq(vd_runs_add(&a, 0, 10), 0);
    ck_assert_int_eq(vd_runs_add(&a, 20, 10), 0);
    ck_assert_int_eq(vd_runs_add(&b, 3, 2), 0);
    ck_assert_int_eq(vd_runs_add(&b, 8, 14), 0);
    ck_assert_int_eq(vd_runs_minus(&a, &b, &out), 0);
    ck_assert_uint_eq(out.n, 3);
    ck_assert_uint_eq(out.v[0].first, 0);
    ck_assert_uint_eq(out.v[0].count, 3);
    ck_assert_uint_eq(out.v[1].first, 5);
    ck_assert_uint_eq(out.v[1].count, 3);
    ck_assert_uint_eq(out.v[2].first, 22);
    ck_assert_uint_eq(out.v[2].count, 8);
    vd_runs_done(&a);
    vd_runs_done(&b);
    vd_runs_done(&out);
}
END_TEST

UNIT_TESTS("runs", numbers_added_in_any_order_become_sorted_runs,
           minus_cuts_runs_where_the_other_set_has_them)
