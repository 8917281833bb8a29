/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every unit test shares: one suite of one case, run by main(). Each test begins in an empty folder of
 * its own, which is gone afterwards, and makes its files there by relative names.
 */
#ifndef VD_UNIT_H
#define VD_UNIT_H

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/base/err.h"

/* `UNIT_TESTS("name", test, ...)` at the end of a file makes it a program. */
#define UNIT_TESTS(name, ...)                                                                                \
    int main(void)                                                                                           \
    {                                                                                                        \
        const TTest *const tests[] = {__VA_ARGS__};                                                          \
        return vd_unit_run(name, tests, sizeof(tests) / sizeof(tests[0]));                                   \
    }

/* What must succeed: 0 or more, or a pointer. The story is told where it does not. */
#define must(call, err)      ck_assert_msg((call) >= 0, "%s", (err)->story)
#define must_have(call, err) ck_assert_msg((call) != NULL, "%s", (err)->story)

/* What must fail with an error of that kind. */
#define must_fail(call, err, expected)                                                                       \
    do {                                                                                                     \
        *(err) = (struct vd_err)VD_ERR_INIT;                                                                 \
        ck_assert_msg((call) == -1, "%s succeeded", #call);                                                  \
        ck_assert_msg((err)->kind == (expected), "another kind of error: %s", (err)->story);                 \
    } while (0)

/* The same for what answers by a pointer. */
#define must_be_null(call, err, expected)                                                                    \
    do {                                                                                                     \
        *(err) = (struct vd_err)VD_ERR_INIT;                                                                 \
        ck_assert_msg((call) == NULL, "%s succeeded", #call);                                                \
        ck_assert_msg((err)->kind == (expected), "another kind of error: %s", (err)->story);                 \
    } while (0)

/* Bytes that repeat nowhere near and do not compress. */
static inline void vd_unit_noise(uint8_t *bytes, size_t len, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes[i] = (uint8_t)(x >> 32);
    }
}

static inline void vd_unit_write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
    ck_assert_int_eq(close(fd), 0);
}

static inline int vd_unit_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void vd_unit_enter_folder(void)
{
    char name[] = "test.XXXXXX";

    ck_assert_ptr_nonnull(mkdtemp(name));
    ck_assert_int_eq(chdir(name), 0);
}

static inline int vd_unit_run(const char *name, const TTest *const *tests, size_t n)
{
    const char *tmp = getenv("TMPDIR");
    char folder[4096];
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    SRunner *runner;
    int failed;

    snprintf(folder, sizeof(folder), "%s/vdcheck-unit.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(folder) || chdir(folder) < 0) {
        perror(folder);
        return EXIT_FAILURE;
    }
    tcase_set_timeout(tcase, 600);
    tcase_add_checked_fixture(tcase, vd_unit_enter_folder, NULL);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (chdir("/") < 0 || nftw(folder, vd_unit_remove, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0)
        perror(folder);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
