/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Block nodes: references, dispatch through filters, ranges; with the memory and the statistics node. */
#include "formats/node/block.h"

#include "formats/node/fault.h"
#include "formats/node/memory.h"
#include "formats/node/stats.h"
#include "tests/unit/unit.h"

static struct BlockDriverState *memory(const char *bytes, size_t len)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = vd_memory_new("memory", bytes, len, &err);

    must_have(bs, &err);
    return bs;
}

START_TEST(a_memory_node_reads_back_what_was_written_and_grows)
{
    vd_auto(BlockDriverState) bs = memory("abc", 3);
    struct vd_err err = VD_ERR_INIT;
    char buf[8];
    size_t len;

    must(bdrv_pwrite(bs, 6, 2, "xy", VD_STAGE_NEW, &err), &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 8);
    must(bdrv_pread(bs, 0, 8, buf, &err), &err);
    ck_assert_mem_eq(buf, "abc\0\0\0xy", 8);
    ck_assert_mem_eq(vd_memory_bytes(bs, &len), "abc\0\0\0xy", 8);
    ck_assert_uint_eq(len, 8);
}
END_TEST

START_TEST(truncating_and_growing_a_memory_node_leaves_zeroes)
{
    vd_auto(BlockDriverState) bs = memory("abcdef", 6);
    struct vd_err err = VD_ERR_INIT;
    char buf[6];

    must(bdrv_truncate(bs, 2, &err), &err);
    must_fail(bdrv_pread(bs, 0, 3, buf, &err), &err, VD_ERR_IO);
    must(bdrv_truncate(bs, 6, &err), &err);
    must(bdrv_pread(bs, 0, 6, buf, &err), &err);
    ck_assert_mem_eq(buf, "ab\0\0\0\0", 6);
}
END_TEST

START_TEST(a_memory_node_has_a_bound)
{
    vd_auto(BlockDriverState) bs = memory("a", 1);
    struct vd_err err = VD_ERR_INIT;

    must_fail(bdrv_truncate(bs, (int64_t)1 << 40, &err), &err, VD_ERR_LIMIT);
    must_fail(bdrv_pwrite(bs, (int64_t)1 << 40, 1, "x", VD_STAGE_NEW, &err), &err, VD_ERR_LIMIT);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 1);
}
END_TEST

START_TEST(a_range_that_is_none_is_refused_before_any_driver_sees_it)
{
    vd_auto(BlockDriverState) bs = memory("abc", 3);
    struct vd_err err = VD_ERR_INIT;
    int64_t pnum;
    char c;

    must_fail(bdrv_pread(bs, -1, 1, &c, &err), &err, VD_ERR_USAGE);
    must_fail(bdrv_pread(bs, 0, -1, &c, &err), &err, VD_ERR_USAGE);
    must_fail(bdrv_pread(bs, INT64_MAX, 1, &c, &err), &err, VD_ERR_USAGE);
    must_fail(bdrv_pread_padded(bs, INT64_MAX, 1, &c, &err), &err, VD_ERR_USAGE);
    must_fail(bdrv_pwrite(bs, INT64_MAX, 1, &c, VD_STAGE_NEW, &err), &err, VD_ERR_USAGE);
    must_fail(bdrv_pwrite_zeroes(bs, INT64_MAX, 1, VD_STAGE_NEW, &err), &err, VD_ERR_USAGE);
    must_fail(bdrv_block_status(bs, -1, 1, &pnum, NULL, &err), &err, VD_ERR_USAGE);
    must_fail(bdrv_truncate(bs, -1, &err), &err, VD_ERR_USAGE);
}
END_TEST

START_TEST(reading_nothing_succeeds_anywhere)
{
    vd_auto(BlockDriverState) bs = memory("abc", 3);
    struct vd_err err = VD_ERR_INIT;

    must(bdrv_pread(bs, 100, 0, NULL, &err), &err);
    must(bdrv_pwrite(bs, 100, 0, NULL, VD_STAGE_NEW, &err), &err);
    must(bdrv_pwrite_zeroes(bs, 100, 0, VD_STAGE_NEW, &err), &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 3);
}
END_TEST

START_TEST(a_padded_read_has_zeroes_behind_the_end)
{
    vd_auto(BlockDriverState) bs = memory("abc", 3);
    struct vd_err err = VD_ERR_INIT;
    char buf[4];

    memset(buf, 'x', sizeof(buf));
    must(bdrv_pread_padded(bs, 1, 4, buf, &err), &err);
    ck_assert_mem_eq(buf, "bc\0\0", 4);
    memset(buf, 'x', sizeof(buf));
    must(bdrv_pread_padded(bs, 1000, 4, buf, &err), &err);
    ck_assert_mem_eq(buf, "\0\0\0\0", 4);
}
END_TEST

START_TEST(zeroes_are_written_where_the_node_has_no_better_way)
{
    vd_auto(BlockDriverState) bs = memory("abcdef", 6);
    struct vd_err err = VD_ERR_INIT;
    size_t len;

    must(bdrv_pwrite_zeroes(bs, 2, 3, VD_STAGE_NEW, &err), &err);
    ck_assert_mem_eq(vd_memory_bytes(bs, &len), "ab\0\0\0f", 6);
    must(bdrv_pwrite_zeroes(bs, 4, 3 << 20, VD_STAGE_NEW, &err), &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 4 + (3 << 20));
    ck_assert(!bdrv_is_hole(bs, 0, 6)); /* nothing is known of holes in memory */
}
END_TEST

START_TEST(the_last_reference_closes_the_whole_stack)
{
    struct vd_io_stats stats = {0};
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bottom = memory("abc", 3), *top = vd_stats_new(bottom, &stats, &err);
    char c;

    must_have(top, &err);
    bdrv_unref(bottom);
    ck_assert_uint_eq(bottom->refs, 1);
    bdrv_ref(top);
    bdrv_unref(top);
    must(bdrv_pread(top, 0, 1, &c, &err), &err);
    ck_assert_ptr_eq(bdrv_protocol(top), bottom);
    bdrv_unref(top); /* the leak checker sees to the rest */
    bdrv_unref(NULL);
}
END_TEST

START_TEST(what_passes_is_counted)
{
    vd_auto(BlockDriverState) bottom = memory("abcdef", 6);
    struct vd_io_stats stats = {0};
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) top = vd_stats_new(bottom, &stats, &err);
    char buf[6];

    must_have(top, &err);
    must(bdrv_pread(top, 0, 4, buf, &err), &err);
    must(bdrv_pread(top, 0, 6, buf, &err), &err);
    must(bdrv_pwrite(top, 0, 3, "xyz", VD_STAGE_NEW, &err), &err);
    must(bdrv_flush(top, &err), &err);
    ck_assert_uint_eq(stats.reads, 2);
    ck_assert_uint_eq(stats.bytes_read, 10);
    ck_assert_uint_eq(stats.writes, 1);
    ck_assert_uint_eq(stats.bytes_written, 3);
    ck_assert_uint_eq(stats.flushes, 1);
    ck_assert_int_eq(bdrv_getlength(top, &err), 6);
}
END_TEST

START_TEST(a_flush_reaches_the_bottom_through_filters)
{
    vd_auto(BlockDriverState) bottom = memory("abc", 3);
    struct vd_io_stats stats = {0};
    struct vd_fault_log log = {0};
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) fault = vd_fault_new(bottom, &err);
    vd_auto(BlockDriverState) top = vd_stats_new(fault, &stats, &err);

    vd_fault_record(fault, &log);
    must(bdrv_flush(top, &err), &err);
    must(bdrv_truncate(top, 10, &err), &err);
    ck_assert_uint_eq(log.n, 2);
    ck_assert_int_eq(log.v[0].op, VD_FAULT_FLUSH);
    ck_assert_int_eq(log.v[1].op, VD_FAULT_TRUNCATE);
    ck_assert_int_eq(bdrv_getlength(bottom, &err), 10);
    vd_fault_log_free(&log);
}
END_TEST

static const struct BlockDriver deaf_driver = {.format_name = "deaf"};

START_TEST(what_a_format_cannot_do_is_refused_and_not_passed_on)
{
    vd_auto(BlockDriverState) bottom = memory("abc", 3);
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) top = bdrv_open_node(&deaf_driver, bottom, 0, &err);
    char c;

    must_have(top, &err);
    must_fail(bdrv_pread(top, 0, 1, &c, &err), &err, VD_ERR_UNSUPPORTED);
    must_fail(bdrv_pwrite(top, 0, 1, "x", VD_STAGE_NEW, &err), &err, VD_ERR_UNSUPPORTED);
    must_fail(bdrv_pwrite_zeroes(top, 0, 1, VD_STAGE_NEW, &err), &err, VD_ERR_UNSUPPORTED);
    must_fail(bdrv_truncate(top, 0, &err), &err, VD_ERR_UNSUPPORTED);
    must(bdrv_flush(top, &err), &err);
    must(bdrv_inactivate(top, &err), &err);
}
END_TEST

static int refuse_open(struct BlockDriverState *bs, int flags, struct vd_err *err)
{
    (void)flags;
    return vd_fail(err, VD_ERR_FORMAT, 0, "%s: no", bs->filename);
}

static const struct BlockDriver shut_driver = {
    .format_name = "shut", .instance_size = 100, .bdrv_open = refuse_open};

START_TEST(a_node_that_cannot_be_opened_leaves_no_reference)
{
    vd_auto(BlockDriverState) bottom = memory("abc", 3);
    struct vd_err err = VD_ERR_INIT;

    must_be_null(bdrv_open_node(&shut_driver, bottom, 0, &err), &err, VD_ERR_FORMAT);
    ck_assert_uint_eq(bottom->refs, 1);
}
END_TEST

UNIT_TESTS("block", a_memory_node_reads_back_what_was_written_and_grows,
           truncating_and_growing_a_memory_node_leaves_zeroes, a_memory_node_has_a_bound,
           a_range_that_is_none_is_refused_before_any_driver_sees_it, reading_nothing_succeeds_anywhere,
           a_padded_read_has_zeroes_behind_the_end, zeroes_are_written_where_the_node_has_no_better_way,
           the_last_reference_closes_the_whole_stack, what_passes_is_counted,
           a_flush_reaches_the_bottom_through_filters, what_a_format_cannot_do_is_refused_and_not_passed_on,
           a_node_that_cannot_be_opened_leaves_no_reference)
