/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every unit test shares: one suite of one case, run by main().
 */
#ifndef VD_UNIT_H
#define VD_UNIT_H

#include <check.h>
#include <stdlib.h>

/* `UNIT_TESTS("name", test, ...)` at the end of a file makes it a program. */
#define UNIT_TESTS(name, ...)                                                                                \
    int main(void)                                                                                           \
    {                                                                                                        \
        const TTest *const tests[] = {__VA_ARGS__};                                                          \
        return vd_unit_run(name, tests, sizeof(tests) / sizeof(tests[0]));                                   \
    }

static inline int vd_unit_run(const char *name, const TTest *const *tests, size_t n)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, 600);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
