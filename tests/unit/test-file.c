/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/file.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "formats/base/bytes.h"
#include "formats/node/overlay.h"
#include "tests/unit/loop.h"
#include "tests/unit/unit.h"

static void expect_refused(const char *path, int flags, const char *word)
{
    struct vd_err err;

    must_be_null(vd_file_open(path, flags, &err), &err, VD_ERR_IO);
    ck_assert_msg(strstr(err.story, word), "no '%s' in: %s", word, err.story);
    ck_assert_msg(strstr(err.story, path), "no name in: %s", err.story);
}

/* ---- what may be opened */

START_TEST(a_regular_file_is_read_and_written_and_grows)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;
    char buf[8];

    vd_unit_write_file("image", "abc", 3);
    bs = vd_file_open("image", BDRV_O_RDWR, &err);
    must_have(bs, &err);
    ck_assert(!vd_file_is_device(bs) && !bdrv_is_fixed_length(bs));
    must(bdrv_pwrite(bs, 6, 2, "xy", VD_STAGE_NEW, &err), &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 8);
    must(bdrv_pread(bs, 0, 8, buf, &err), &err);
    ck_assert_mem_eq(buf, "abc\0\0\0xy", 8);
    must(bdrv_truncate(bs, 4, &err), &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 4);
    must(bdrv_flush(bs, &err), &err);
    bdrv_unref(bs);
}
END_TEST

START_TEST(a_file_opened_for_reading_is_not_written)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;
    char buf[3];

    vd_unit_write_file("image", "abc", 3);
    bs = vd_file_open("image", 0, &err);
    must_have(bs, &err);
    must_fail(bdrv_pwrite(bs, 0, 1, "x", VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    must_fail(bdrv_truncate(bs, 0, &err), &err, VD_ERR_IO);
    must_fail(bdrv_pwrite_zeroes(bs, 0, 3, VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    must(bdrv_flush(bs, &err), &err);
    must(bdrv_pread(bs, 0, 3, buf, &err), &err);
    ck_assert_mem_eq(buf, "abc", 3);
    bdrv_unref(bs);
}
END_TEST

START_TEST(a_missing_file_says_so)
{
    struct vd_err err;

    must_be_null(vd_file_open("nothing", 0, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(err.errnum, ENOENT);
    must_be_null(vd_file_open("nothing", BDRV_O_RDWR, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(access("nothing", F_OK), -1);
}
END_TEST

START_TEST(a_directory_is_refused)
{
    ck_assert_int_eq(mkdir("folder", 0755), 0);
    expect_refused("folder", 0, "a directory");
    expect_refused("folder", BDRV_O_RDWR, "a directory");
}
END_TEST

START_TEST(a_fifo_is_refused_and_hangs_nobody)
{
    ck_assert_int_eq(mkfifo("fifo", 0644), 0);
    expect_refused("fifo", 0, "a FIFO");
    expect_refused("fifo", BDRV_O_RDWR, "a FIFO");
    ck_assert_int_eq(symlink("fifo", "link"), 0);
    expect_refused("link", 0, "a FIFO");
}
END_TEST

START_TEST(a_socket_is_refused)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    expect_refused("socket", 0, "a socket");
    close(fd);
}
END_TEST

START_TEST(a_character_device_is_refused)
{
    expect_refused("/dev/null", 0, "a character device");
    expect_refused("/dev/null", BDRV_O_RDWR, "a character device");
}
END_TEST

START_TEST(a_descriptor_of_another_kind_is_refused_and_closed)
{
    struct vd_err err;
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    must_be_null(vd_file_open_fd(ends[0], "pipe", 0, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(fcntl(ends[0], F_GETFD), -1);
    ck_assert_int_eq(errno, EBADF);
    close(ends[1]);
}
END_TEST

/* Root may do anything; then somebody else looks. */
static void become_nobody(void)
{
    if (geteuid() == 0) {
        ck_assert_int_eq(chmod(".", 0755), 0);
        ck_assert_int_eq(setegid(65534), 0);
        ck_assert_int_eq(seteuid(65534), 0);
    }
}

static void become_ourselves(void)
{
    if (getuid() == 0) {
        ck_assert_int_eq(seteuid(0), 0);
        ck_assert_int_eq(setegid(0), 0);
    }
}

START_TEST(a_file_without_permission_is_an_error)
{
    struct vd_err err;

    vd_unit_write_file("secret", "abc", 3);
    ck_assert_int_eq(chmod("secret", 0), 0);
    become_nobody();
    must_be_null(vd_file_open("secret", 0, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(err.errnum, EACCES);
    become_ourselves();
}
END_TEST

START_TEST(a_file_that_may_only_be_read_is_read)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;
    char buf[3];

    vd_unit_write_file("image", "abc", 3);
    ck_assert_int_eq(chmod("image", 0444), 0);
    become_nobody();
    /* For whom it does not belong to, O_NOATIME is refused; it is read all the same. */
    bs = vd_file_open("image", 0, &err);
    must_have(bs, &err);
    must(bdrv_pread(bs, 0, 3, buf, &err), &err);
    bdrv_unref(bs);
    must_be_null(vd_file_open("image", BDRV_O_RDWR, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(err.errnum, EACCES);
    ck_assert_msg(strstr(err.story, "for writing"), "%s", err.story);
    become_ourselves();
}
END_TEST

START_TEST(reading_leaves_the_access_time_alone)
{
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;
    struct stat st;
    char buf[3];

    vd_unit_write_file("image", "abc", 3);
    ck_assert_int_eq(utimensat(AT_FDCWD, "image", times, 0), 0);
    bs = vd_file_open("image", 0, &err);
    must_have(bs, &err);
    must(bdrv_pread(bs, 0, 3, buf, &err), &err);
    bdrv_unref(bs);
    ck_assert_int_eq(stat("image", &st), 0);
    ck_assert_int_eq(st.st_atim.tv_sec, 1000);
    ck_assert_int_eq(st.st_mtim.tv_sec, 2000);
}
END_TEST

START_TEST(an_empty_file_is_a_file)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;
    int64_t pnum;
    char c;

    vd_unit_write_file("empty", "", 0);
    bs = vd_file_open("empty", 0, &err);
    must_have(bs, &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 0);
    must_fail(bdrv_pread(bs, 0, 1, &c, &err), &err, VD_ERR_IO);
    must(bdrv_pread_padded(bs, 0, 1, &c, &err), &err);
    ck_assert_int_eq(c, 0);
    ck_assert_int_eq(bdrv_block_status(bs, 0, 10, &pnum, NULL, &err) & BDRV_BLOCK_ZERO, BDRV_BLOCK_ZERO);
    bdrv_unref(bs);
}
END_TEST

/* ---- making a file */

START_TEST(a_new_file_does_not_replace_one_unless_told)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;

    vd_unit_write_file("image", "abc", 3);
    must_be_null(vd_file_create("image", false, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(err.errnum, EEXIST);
    bs = vd_file_create("image", true, &err);
    must_have(bs, &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 0);
    bdrv_unref(bs);
    bs = vd_file_create("fresh", false, &err);
    must_have(bs, &err);
    bdrv_unref(bs);
}
END_TEST

START_TEST(a_file_that_is_in_use_is_not_emptied)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;
    struct stat st;

    vd_unit_write_file("image", "abc", 3);
    bs = vd_file_open("image", BDRV_O_RDWR, &err);
    must_have(bs, &err);
    must_be_null(vd_file_create("image", true, &err), &err, VD_ERR_BUSY);
    ck_assert_int_eq(stat("image", &st), 0);
    ck_assert_int_eq(st.st_size, 3);
    bdrv_unref(bs);
}
END_TEST

START_TEST(a_fifo_is_not_replaced_by_an_image)
{
    struct vd_err err;

    ck_assert_int_eq(mkfifo("fifo", 0644), 0);
    must_be_null(vd_file_create("fifo", true, &err), &err, VD_ERR_IO);
    must_be_null(vd_file_create("/dev/null", true, &err), &err, VD_ERR_IO);
}
END_TEST

/* ---- locks */

START_TEST(a_writer_and_a_reader_keep_each_other_out)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs, *second;

    vd_unit_write_file("image", "abc", 3);
    bs = vd_file_open("image", BDRV_O_RDWR, &err);
    must_have(bs, &err);
    must_be_null(vd_file_open("image", 0, &err), &err, VD_ERR_BUSY);
    must_be_null(vd_file_open("image", BDRV_O_RDWR, &err), &err, VD_ERR_BUSY);
    second = vd_file_open("image", BDRV_O_FORCE_SHARE, &err);
    must_have(second, &err);
    bdrv_unref(second);
    bdrv_unref(bs);
    bs = vd_file_open("image", 0, &err);
    must_have(bs, &err);
    must_be_null(vd_file_open("image", BDRV_O_RDWR, &err), &err, VD_ERR_BUSY);
    second = vd_file_open("image", 0, &err);
    must_have(second, &err);
    ck_assert(!vd_file_has_no_locks(bs));
    bdrv_unref(second);
    bdrv_unref(bs);
}
END_TEST

/* ---- the file changes under us */

START_TEST(reading_past_the_end_after_the_file_shrank_is_an_error)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;
    uint8_t buf[8192] = {0};

    vd_unit_write_file("image", buf, sizeof(buf));
    bs = vd_file_open("image", 0, &err);
    must_have(bs, &err);
    ck_assert_int_eq(truncate("image", 5000), 0);
    must(bdrv_pread(bs, 0, 5000, buf, &err), &err);
    must_fail(bdrv_pread(bs, 0, sizeof(buf), buf, &err), &err, VD_ERR_IO);
    ck_assert_msg(strstr(err.story, "ends at 0x1388"), "%s", err.story);
    must_fail(bdrv_pread(bs, 6000, 1, buf, &err), &err, VD_ERR_IO);
    ck_assert(vd_file_has_changed(bs));
    bdrv_unref(bs);
}
END_TEST

START_TEST(growth_and_writes_by_others_are_noticed)
{
    struct timespec later[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 2000000000}};
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;

    vd_unit_write_file("image", "abc", 3);
    bs = vd_file_open("image", 0, &err);
    must_have(bs, &err);
    ck_assert(!vd_file_has_changed(bs));
    ck_assert_int_eq(truncate("image", 4), 0);
    ck_assert(vd_file_has_changed(bs));
    bdrv_unref(bs);
    bs = vd_file_open("image", 0, &err);
    must_have(bs, &err);
    ck_assert(!vd_file_has_changed(bs));
    ck_assert_int_eq(utimensat(AT_FDCWD, "image", later, 0), 0);
    ck_assert(vd_file_has_changed(bs));
    bdrv_unref(bs);
}
END_TEST

START_TEST(writes_of_our_own_are_no_change)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;

    vd_unit_write_file("image", "abc", 3);
    bs = vd_file_open("image", BDRV_O_RDWR, &err);
    must_have(bs, &err);
    must(bdrv_pwrite(bs, 1, 10, "0123456789", VD_STAGE_NEW, &err), &err);
    ck_assert(!vd_file_has_changed(bs));
    must(bdrv_truncate(bs, 100, &err), &err);
    ck_assert(!vd_file_has_changed(bs));
    must(bdrv_pwrite_zeroes(bs, 0, 200, VD_STAGE_NEW, &err), &err);
    must(bdrv_flush(bs, &err), &err);
    ck_assert(!vd_file_has_changed(bs));
    ck_assert_int_eq(vd_file_stat(bs)->st_size, 200);
    bdrv_unref(bs);
}
END_TEST

/* ---- holes */

enum { BLOCK = 65536 };

/* Three stretches of 64 KiB: data, a hole, data. */
static struct BlockDriverState *with_hole(void)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = vd_file_create("sparse", true, &err);
    static uint8_t noise[BLOCK];

    must_have(bs, &err);
    vd_unit_noise(noise, sizeof(noise), 9);
    must(bdrv_pwrite(bs, 0, BLOCK, noise, VD_STAGE_NEW, &err), &err);
    must(bdrv_pwrite(bs, 2 * BLOCK, BLOCK, noise, VD_STAGE_NEW, &err), &err);
    return bs;
}

START_TEST(holes_are_told_by_block_status)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = with_hole();
    int64_t pnum, map;

    ck_assert_int_eq(bdrv_block_status(bs, 100, 3 * BLOCK - 100, &pnum, &map, &err),
                     BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID);
    ck_assert_int_eq(pnum, BLOCK - 100);
    ck_assert_int_eq(map, 100);
    ck_assert_int_eq(bdrv_block_status(bs, BLOCK, 2 * BLOCK, &pnum, &map, &err),
                     BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID);
    ck_assert_int_eq(pnum, BLOCK);
    ck_assert_int_eq(map, BLOCK);
    ck_assert_int_eq(bdrv_block_status(bs, BLOCK + 1, 10, &pnum, &map, &err),
                     BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID);
    ck_assert_int_eq(pnum, 10);
    ck_assert_int_eq(bdrv_block_status(bs, 3 * BLOCK, 10, &pnum, &map, &err) & BDRV_BLOCK_ZERO,
                     BDRV_BLOCK_ZERO);
    ck_assert(bdrv_is_hole(bs, BLOCK, BLOCK));
    ck_assert(!bdrv_is_hole(bs, BLOCK - 1, 2) && !bdrv_is_hole(bs, BLOCK, BLOCK + 1));
}
END_TEST

START_TEST(a_hole_that_was_written_into_is_one_no_more)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = with_hole();

    ck_assert(bdrv_is_hole(bs, BLOCK, BLOCK));
    must(bdrv_pwrite(bs, BLOCK + 4096, 1, "x", VD_STAGE_NEW, &err), &err);
    ck_assert(!bdrv_is_hole(bs, BLOCK, BLOCK));
    must(bdrv_truncate(bs, BLOCK, &err), &err);
    must(bdrv_truncate(bs, 3 * BLOCK, &err), &err);
    ck_assert(bdrv_is_hole(bs, BLOCK, 2 * BLOCK));
}
END_TEST

START_TEST(zeroes_leave_holes_and_grow_without_data)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = with_hole();
    static uint8_t buf[10 * BLOCK];

    must(bdrv_pwrite_zeroes(bs, BLOCK - 100, 9 * BLOCK + 100, VD_STAGE_NEW, &err), &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 10 * BLOCK);
    ck_assert(bdrv_is_hole(bs, BLOCK, BLOCK));
    ck_assert(bdrv_is_hole(bs, 3 * BLOCK, 7 * BLOCK));
    must(bdrv_pread(bs, 0, 10 * BLOCK, buf, &err), &err);
    ck_assert(vd_is_zero(buf + BLOCK - 100, 9 * BLOCK + 100));
    ck_assert(!vd_is_zero(buf, BLOCK - 100));
    ck_assert_uint_lt(vd_file_allocated(bs), 4 * BLOCK);
}
END_TEST

/* ---- devices */

START_TEST(a_block_device_keeps_its_length)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_unit_loop loop;
    vd_auto(BlockDriverState) bs = NULL;
    vd_auto(BlockDriverState) over = NULL;
    char buf[3];

    vd_unit_write_file("disk", "", 0);
    ck_assert_int_eq(truncate("disk", 1 << 20), 0);
    if (!vd_unit_loop_attach(&loop, "disk", "a_block_device_keeps_its_length"))
        return;
    bs = vd_file_open(loop.path, BDRV_O_RDWR, &err);
    vd_unit_loop_detach(&loop);
    must_have(bs, &err);
    ck_assert(vd_file_is_device(bs) && bdrv_is_fixed_length(bs));
    ck_assert_int_eq(bdrv_getlength(bs, &err), 1 << 20);
    ck_assert_uint_eq(vd_file_allocated(bs), 1 << 20);
    must(bdrv_pwrite(bs, 4096, 3, "abc", VD_STAGE_NEW, &err), &err);
    must(bdrv_pread(bs, 4096, 3, buf, &err), &err);
    ck_assert_mem_eq(buf, "abc", 3);
    must_fail(bdrv_pwrite(bs, (1 << 20) - 1, 2, "xy", VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(err.errnum, ENOSPC);
    must_fail(bdrv_pwrite_zeroes(bs, 1 << 20, 1, VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    must_fail(bdrv_truncate(bs, 1 << 19, &err), &err, VD_ERR_UNSUPPORTED);
    must(bdrv_truncate(bs, 1 << 20, &err), &err);
    must(bdrv_pwrite_zeroes(bs, 4096, 3, VD_STAGE_NEW, &err), &err);
    must(bdrv_flush(bs, &err), &err);
    must_be_null(vd_file_open(loop.path, 0, &err), &err, VD_ERR_BUSY);
    /* What stands over it knows as well: a repair must not be worked out that the device cannot hold. */
    over = vd_overlay_new(bs, NULL, &err);
    must_have(over, &err);
    ck_assert(bdrv_is_fixed_length(over));
    must_fail(bdrv_truncate(over, 2 << 20, &err), &err, VD_ERR_UNSUPPORTED);
    must_fail(bdrv_pwrite(over, (1 << 20) - 1, 2, "xy", VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(bdrv_getlength(over, &err), 1 << 20);
}
END_TEST

UNIT_TESTS("file", a_regular_file_is_read_and_written_and_grows, a_file_opened_for_reading_is_not_written,
           a_missing_file_says_so, a_directory_is_refused, a_fifo_is_refused_and_hangs_nobody,
           a_socket_is_refused, a_character_device_is_refused,
           a_descriptor_of_another_kind_is_refused_and_closed, a_file_without_permission_is_an_error,
           a_file_that_may_only_be_read_is_read, reading_leaves_the_access_time_alone,
           an_empty_file_is_a_file, a_new_file_does_not_replace_one_unless_told,
           a_file_that_is_in_use_is_not_emptied, a_fifo_is_not_replaced_by_an_image,
           a_writer_and_a_reader_keep_each_other_out, reading_past_the_end_after_the_file_shrank_is_an_error,
           growth_and_writes_by_others_are_noticed, writes_of_our_own_are_no_change,
           holes_are_told_by_block_status, a_hole_that_was_written_into_is_one_no_more,
           zeroes_leave_holes_and_grow_without_data, a_block_device_keeps_its_length)
