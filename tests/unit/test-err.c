/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/err.h"

#include <errno.h>

#include "tests/unit/unit.h"

START_TEST(a_failure_has_kind_errno_and_story)
{
    struct vd_err err = VD_ERR_INIT;

    ck_assert_int_eq(err.kind, VD_ERR_NONE);
    ck_assert_int_eq(vd_fail(&err, VD_ERR_IO, ENOSPC, "%s: cannot write %d bytes", "a.qed", 7), -1);
    ck_assert_int_eq(err.kind, VD_ERR_IO);
    ck_assert_int_eq(err.errnum, ENOSPC);
    ck_assert_str_eq(err.story, "a.qed: cannot write 7 bytes: No space left on device");
}
END_TEST

START_TEST(without_errno_the_story_ends_with_its_own_words)
{
    struct vd_err err = VD_ERR_INIT;

    ck_assert_int_eq(vd_fail(&err, VD_ERR_USAGE, 0, "no such word"), -1);
    ck_assert_int_eq(err.errnum, 0);
    ck_assert_str_eq(err.story, "no such word");
}
END_TEST

START_TEST(context_is_put_before_the_story_and_keeps_the_kind)
{
    struct vd_err err = VD_ERR_INIT;

    vd_fail(&err, VD_ERR_FORMAT, 0, "the table is torn");
    ck_assert_int_eq(vd_while(&err, "pass \"%s\"", "tables"), -1);
    ck_assert_int_eq(vd_while(&err, "a.qed"), -1);
    ck_assert_int_eq(err.kind, VD_ERR_FORMAT);
    ck_assert_str_eq(err.story, "a.qed: pass \"tables\": the table is torn");
}
END_TEST

START_TEST(nobody_has_to_listen)
{
    ck_assert_int_eq(vd_fail(NULL, VD_ERR_IO, EIO, "%s", "lost"), -1);
    ck_assert_int_eq(vd_while(NULL, "%s", "lost"), -1);
    ck_assert_int_eq(vd_fail_memory(NULL), -1);
}
END_TEST

START_TEST(a_story_too_long_keeps_its_beginning)
{
    struct vd_err err = VD_ERR_INIT;
    char name[2000];

    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    vd_fail(&err, VD_ERR_IO, EIO, "%s", name);
    ck_assert_uint_eq(strlen(err.story), sizeof(err.story) - 1);
    vd_while(&err, "first");
    ck_assert_int_eq(strncmp(err.story, "first: nnn", 10), 0);
    ck_assert_uint_eq(strlen(err.story), sizeof(err.story) - 1);
    vd_while(&err, "%s", name);
    ck_assert_uint_eq(strlen(err.story), sizeof(err.story) - 1);
    ck_assert_int_eq(err.kind, VD_ERR_IO);
}
END_TEST

START_TEST(an_errno_too_long_for_the_story_is_cut_off)
{
    struct vd_err err = VD_ERR_INIT;
    char name[600];

    memset(name, 'n', sizeof(name));
    for (size_t len = sizeof(name) - 40; len < sizeof(name); len++) {
        vd_fail(&err, VD_ERR_IO, ENOSPC, "%.*s", (int)len, name);
        ck_assert_uint_lt(strnlen(err.story, sizeof(err.story)), sizeof(err.story));
        ck_assert_int_eq(strncmp(err.story, name, len < 599 ? len : 599), 0);
    }
}
END_TEST

START_TEST(want_of_memory_is_a_limit)
{
    struct vd_err err = VD_ERR_INIT;

    ck_assert_int_eq(vd_fail_memory(&err), -1);
    ck_assert_int_eq(err.kind, VD_ERR_LIMIT);
    ck_assert_int_eq(err.errnum, ENOMEM);
}
END_TEST

UNIT_TESTS("err", a_failure_has_kind_errno_and_story, without_errno_the_story_ends_with_its_own_words,
           context_is_put_before_the_story_and_keeps_the_kind, nobody_has_to_listen,
           a_story_too_long_keeps_its_beginning, an_errno_too_long_for_the_story_is_cut_off,
           want_of_memory_is_a_limit)
