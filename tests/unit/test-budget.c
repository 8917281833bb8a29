/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/budget.h"

#include "tests/unit/unit.h"

START_TEST(memory_is_taken_until_it_is_gone_and_may_be_given_back)
{
    struct vd_budget budget = {.memory = 100};
    struct vd_err err = VD_ERR_INIT;

    must(vd_budget_take(&budget, 60, "a table", &err), &err);
    must_fail(vd_budget_take(&budget, 41, "another table", &err), &err, VD_ERR_LIMIT);
    ck_assert_msg(strstr(err.story, "another table"), "%s", err.story);
    must(vd_budget_take(&budget, 40, "a smaller table", &err), &err);
    must_fail(vd_budget_take(&budget, 1, "a byte", &err), &err, VD_ERR_LIMIT);
    vd_budget_give(&budget, 60);
    must(vd_budget_take(&budget, 60, "the first table", &err), &err);
    must(vd_budget_take(&budget, 0, "nothing", &err), &err);
}
END_TEST

START_TEST(a_number_from_a_hostile_image_takes_nothing)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_err err = VD_ERR_INIT;

    must_fail(vd_budget_take(&budget, UINT64_MAX, "a table", &err), &err, VD_ERR_LIMIT);
    ck_assert_uint_eq(budget.memory, VD_BUDGET_MEMORY);
    must(vd_budget_take(&budget, VD_BUDGET_MEMORY, "all of it", &err), &err);
}
END_TEST

START_TEST(work_ends_once_the_flag_is_set)
{
    volatile sig_atomic_t flag = 0;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_err err = VD_ERR_INIT;

    must(vd_budget_go_on(&budget, &err), &err); /* nothing can cancel */
    budget.cancelled = &flag;
    must(vd_budget_go_on(&budget, &err), &err);
    flag = 1;
    must_fail(vd_budget_go_on(&budget, &err), &err, VD_ERR_CANCELLED);
}
END_TEST

struct told {
    const char *what;
    uint64_t done, total;
};

static void tell(void *opaque, const char *what, uint64_t done, uint64_t total)
{
    *(struct told *)opaque = (struct told){what, done, total};
}

START_TEST(progress_reaches_who_looks)
{
    struct told told = {0};
    struct vd_budget budget = VD_BUDGET_INIT;

    vd_budget_progress(&budget, "tables", 1, 2); /* nobody looks */
    budget.progress = tell;
    budget.progress_opaque = &told;
    vd_budget_progress(&budget, "tables", 3, 4);
    ck_assert_str_eq(told.what, "tables");
    ck_assert_uint_eq(told.done, 3);
    ck_assert_uint_eq(told.total, 4);
}
END_TEST

UNIT_TESTS("budget", memory_is_taken_until_it_is_gone_and_may_be_given_back,
           a_number_from_a_hostile_image_takes_nothing, work_ends_once_the_flag_is_set,
           progress_reaches_who_looks)
