/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/fault.h"

#include <errno.h>

#include "formats/base/auto.h"
#include "formats/node/memory.h"
#include "tests/unit/unit.h"

static struct BlockDriverState *make(const char *rule_text)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) below = vd_memory_new("memory", NULL, 65536, &err);
    struct BlockDriverState *bs = vd_fault_new(below, &err);
    struct vd_fault_rule rule;

    must_have(bs, &err);
    if (rule_text) {
        must(vd_fault_parse(rule_text, &rule, &err), &err);
        must(vd_fault_add(bs, &rule, &err), &err);
    }
    return bs;
}

static int put(struct BlockDriverState *bs, int64_t offset, const char *text)
{
    struct vd_err err = VD_ERR_INIT;

    return bdrv_pwrite(bs, offset, (int64_t)strlen(text), text, VD_STAGE_NEW, &err);
}

static int get(struct BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    struct vd_err err = VD_ERR_INIT;
    char buf[4096];

    return bdrv_pread(bs, offset, bytes, buf, &err);
}

static bool holds(struct BlockDriverState *bs, int64_t offset, const char *text)
{
    size_t len;
    const uint8_t *bytes = vd_memory_bytes(bdrv_protocol(bs), &len);

    return (size_t)offset + strlen(text) <= len && memcmp(bytes + offset, text, strlen(text)) == 0;
}

START_TEST(without_rules_everything_passes)
{
    vd_auto(BlockDriverState) bs = make(NULL);

    ck_assert_int_eq(put(bs, 10, "abc"), 0);
    ck_assert(holds(bs, 10, "abc"));
    ck_assert_int_eq(get(bs, 0, 100), 0);
    ck_assert(!vd_fault_is_cut(bs));
}
END_TEST

START_TEST(only_requests_that_touch_the_range_fail)
{
    vd_auto(BlockDriverState) bs = make("read:errno=EIO,offset=4k,bytes=512");

    ck_assert_int_eq(get(bs, 4096, 1), -1);
    ck_assert_int_eq(get(bs, 4607, 1), -1);
    ck_assert_int_eq(get(bs, 4608, 100), 0);
    ck_assert_int_eq(get(bs, 4000, 96), 0);
    ck_assert_int_eq(get(bs, 4000, 97), -1);
    ck_assert_int_eq(get(bs, 3000, 4096), -1);
    ck_assert_int_eq(put(bs, 4096, "a write is not a read"), 0);
    ck_assert(!vd_fault_is_cut(bs));
}
END_TEST

START_TEST(a_fault_has_the_errno_that_was_asked_for)
{
    vd_auto(BlockDriverState) bs = make("write:errno=ENOSPC");
    struct vd_err err = VD_ERR_INIT;

    must_fail(bdrv_pwrite(bs, 0, 1, "x", VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(err.errnum, ENOSPC);
}
END_TEST

START_TEST(some_pass_then_some_fail_then_all_pass)
{
    vd_auto(BlockDriverState) bs = make("write:errno=EIO,skip=2,times=3");
    int failed[10];

    for (int i = 0; i < 10; i++)
        failed[i] = put(bs, i, "x") < 0;
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(failed[i], i >= 2 && i < 5);
}
END_TEST

START_TEST(without_a_number_of_times_all_that_follow_fail)
{
    vd_auto(BlockDriverState) bs = make("write:errno=EIO,skip=1");

    ck_assert_int_eq(put(bs, 0, "x"), 0);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(put(bs, 0, "x"), -1);
    ck_assert_int_eq(get(bs, 0, 1), 0);
}
END_TEST

START_TEST(a_failed_write_changes_nothing_below)
{
    vd_auto(BlockDriverState) bs = make("write:errno=EIO,times=1");

    ck_assert_int_eq(put(bs, 5, "lost"), -1);
    ck_assert(!holds(bs, 5, "lost"));
    ck_assert_int_eq(put(bs, 5, "kept"), 0);
    ck_assert(holds(bs, 5, "kept"));
}
END_TEST

START_TEST(after_a_cut_nothing_reaches_the_disk)
{
    vd_auto(BlockDriverState) bs = make("write:cut=3");
    struct vd_err err = VD_ERR_INIT;

    ck_assert_int_eq(put(bs, 0, "one"), 0);
    ck_assert_int_eq(put(bs, 10, "two"), 0);
    ck_assert(!vd_fault_is_cut(bs));
    ck_assert_int_eq(put(bs, 20, "three"), -1);
    ck_assert(vd_fault_is_cut(bs));
    ck_assert_int_eq(put(bs, 30, "four"), -1);
    must_fail(bdrv_flush(bs, &err), &err, VD_ERR_IO);
    must_fail(bdrv_truncate(bs, 0, &err), &err, VD_ERR_IO);
    must_fail(bdrv_pwrite_zeroes(bs, 0, 10, VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(get(bs, 0, 1), -1);
    ck_assert_int_eq(bdrv_getlength(bs->file, &err), 65536);
    ck_assert(holds(bs, 0, "one") && holds(bs, 10, "two"));
    ck_assert(!holds(bs, 20, "t") && !holds(bs, 30, "f"));
}
END_TEST

START_TEST(a_torn_write_arrives_in_part)
{
    vd_auto(BlockDriverState) bs = make("write:cut=1,torn=3");

    ck_assert_int_eq(put(bs, 100, "abcdef"), -1);
    ck_assert(vd_fault_is_cut(bs));
    ck_assert(holds(bs, 100, "abc") && !holds(bs, 103, "d"));
}
END_TEST

START_TEST(a_write_torn_behind_its_end_arrives_whole_and_the_power_is_off)
{
    vd_auto(BlockDriverState) bs = make("write:cut=1,torn=512");

    ck_assert_int_eq(put(bs, 100, "abcdef"), -1);
    ck_assert(holds(bs, 100, "abcdef"));
    ck_assert_int_eq(put(bs, 200, "x"), -1);
    ck_assert(!holds(bs, 200, "x"));
}
END_TEST

START_TEST(flushes_and_truncations_fail_by_rules_of_their_own)
{
    vd_auto(BlockDriverState) flush = make("flush:errno=EIO,skip=1,times=1");
    vd_auto(BlockDriverState) cut = make("truncate:cut=1");
    struct vd_err err = VD_ERR_INIT;

    must(bdrv_flush(flush, &err), &err);
    must_fail(bdrv_flush(flush, &err), &err, VD_ERR_IO);
    must(bdrv_flush(flush, &err), &err);
    must(bdrv_truncate(flush, 100, &err), &err);
    ck_assert_int_eq(put(cut, 0, "x"), 0);
    must_fail(bdrv_truncate(cut, 100, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(bdrv_getlength(cut, &err), 65536);
    ck_assert(vd_fault_is_cut(cut));
}
END_TEST

/* What a recording makes of an empty disk. */
static void play(const struct vd_fault_log *log, size_t events, struct BlockDriverState *disk)
{
    struct vd_err err = VD_ERR_INIT;

    for (size_t i = 0; i < events; i++) {
        const struct vd_fault_event *e = &log->v[i];

        if (e->op == VD_FAULT_WRITE)
            must(bdrv_pwrite(disk, e->offset, e->bytes, e->data, VD_STAGE_NEW, &err), &err);
        if (e->op == VD_FAULT_TRUNCATE)
            must(bdrv_truncate(disk, e->offset, &err), &err);
    }
}

START_TEST(a_recording_played_again_gives_the_same_disk)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_fault_log log = {0};
    vd_auto(BlockDriverState) bs = make(NULL);
    vd_auto(BlockDriverState) disk = vd_memory_new("disk", NULL, 65536, &err);
    const uint8_t *a, *b;
    size_t a_len, b_len;

    vd_fault_record(bs, &log);
    put(bs, 10, "first");
    must(bdrv_flush(bs, &err), &err);
    must(bdrv_truncate(bs, 12, &err), &err);
    put(bs, 70000, "far");
    must(bdrv_pwrite_zeroes(bs, 11, 1, VD_STAGE_NEW, &err), &err);
    get(bs, 0, 10); /* reads are not recorded */
    ck_assert_uint_eq(log.n, 5);
    ck_assert_int_eq(log.v[0].op, VD_FAULT_WRITE);
    ck_assert_int_eq(log.v[0].offset, 10);
    ck_assert_int_eq(log.v[0].bytes, 5);
    ck_assert_mem_eq(log.v[0].data, "first", 5);
    ck_assert_int_eq(log.v[1].op, VD_FAULT_FLUSH);
    ck_assert_int_eq(log.v[2].op, VD_FAULT_TRUNCATE);
    ck_assert_int_eq(log.v[2].offset, 12);
    play(&log, log.n, disk);
    a = vd_memory_bytes(bs->file, &a_len);
    b = vd_memory_bytes(disk, &b_len);
    ck_assert_uint_eq(a_len, b_len);
    ck_assert_mem_eq(a, b, a_len);
    vd_fault_log_free(&log);
}
END_TEST

START_TEST(what_failed_is_not_in_the_recording)
{
    vd_auto(BlockDriverState) bs = make("write:errno=EIO,skip=1,times=1");
    struct vd_fault_log log = {0};

    vd_fault_record(bs, &log);
    put(bs, 0, "a");
    put(bs, 1, "b");
    put(bs, 2, "c");
    ck_assert_uint_eq(log.n, 2);
    ck_assert_int_eq(log.v[1].offset, 2);
    vd_fault_log_free(&log);
}
END_TEST

START_TEST(rules_are_read_from_words)
{
    struct vd_fault_rule rule;
    struct vd_err err = VD_ERR_INIT;

    must(vd_fault_parse("write:cut=7", &rule, &err), &err);
    ck_assert_int_eq(rule.op, VD_FAULT_WRITE);
    ck_assert_int_eq(rule.errnum, 0);
    ck_assert_uint_eq(rule.skip, 6);
    ck_assert_int_eq(rule.torn_bytes, -1);
    must(vd_fault_parse("read:errno=EIO,offset=64k,bytes=4k", &rule, &err), &err);
    ck_assert_int_eq(rule.op, VD_FAULT_READ);
    ck_assert_int_eq(rule.errnum, EIO);
    ck_assert_int_eq(rule.offset, 65536);
    ck_assert_int_eq(rule.bytes, 4096);
    must(vd_fault_parse("flush:errno=EDQUOT,skip=1,times=2", &rule, &err), &err);
    ck_assert_int_eq(rule.op, VD_FAULT_FLUSH);
    ck_assert_int_eq(rule.errnum, EDQUOT);
    ck_assert_uint_eq(rule.skip, 1);
    ck_assert_uint_eq(rule.times, 2);
    must(vd_fault_parse("write:cut=3,torn=512", &rule, &err), &err);
    ck_assert_int_eq(rule.torn_bytes, 512);
    ck_assert_uint_eq(rule.skip, 2);
    must(vd_fault_parse("truncate:errno=EROFS", &rule, &err), &err);
    ck_assert_int_eq(rule.op, VD_FAULT_TRUNCATE);
}
END_TEST

START_TEST(words_that_are_no_rule_are_refused)
{
    static const char *const words[] = {
        "",
        "write",
        "erase:errno=EIO",
        "write:errno=E2BIG",
        "write:errno",
        "write:errno=",
        "write:cut=0",
        "write:cut=x",
        "write:skip=-1",
        "write:colour=1",
        ":cut=1",
        "write:cut=1;torn=2",
        "WRITE:cut=1",
        "write:offset=",
    };
    struct vd_fault_rule rule;
    struct vd_err err;

    for (size_t i = 0; i < VD_ARRAY_SIZE(words); i++)
        must_fail(vd_fault_parse(words[i], &rule, &err), &err, VD_ERR_USAGE);
}
END_TEST

UNIT_TESTS("fault", without_rules_everything_passes, only_requests_that_touch_the_range_fail,
           a_fault_has_the_errno_that_was_asked_for, some_pass_then_some_fail_then_all_pass,
           without_a_number_of_times_all_that_follow_fail, a_failed_write_changes_nothing_below,
           after_a_cut_nothing_reaches_the_disk, a_torn_write_arrives_in_part,
           a_write_torn_behind_its_end_arrives_whole_and_the_power_is_off,
           flushes_and_truncations_fail_by_rules_of_their_own, a_recording_played_again_gives_the_same_disk,
           what_failed_is_not_in_the_recording, rules_are_read_from_words, words_that_are_no_rule_are_refused)
