/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/overlay.h"

#include <dirent.h>

#include "formats/node/fault.h"
#include "formats/node/file.h"
#include "formats/node/memory.h"
#include "tests/unit/unit.h"

enum { BLOCK = VD_OVERLAY_BLOCK };

/* An overlay over a memory node of len bytes of noise, both owned by the test. */
struct pair {
    struct BlockDriverState *base, *over;
    uint8_t *was; /* the base's bytes */
    size_t len;
};

static struct pair make(size_t len, const char *spill_dir)
{
    struct vd_err err = VD_ERR_INIT;
    struct pair p = {.was = malloc(len + 1), .len = len};

    vd_unit_noise(p.was, len, len);
    p.base = vd_memory_new("base", p.was, len, &err);
    must_have(p.base, &err);
    p.over = vd_overlay_new(p.base, spill_dir, &err);
    must_have(p.over, &err);
    return p;
}

/* Whatever a test did, the base is as it was. */
static void done(struct pair *p)
{
    size_t len;
    const uint8_t *now = vd_memory_bytes(p->base, &len);

    ck_assert_uint_eq(len, p->len);
    ck_assert_mem_eq(now, p->was, len);
    bdrv_unref(p->over);
    bdrv_unref(p->base);
    free(p->was);
}

static void put(struct pair *p, int64_t offset, const char *text, enum vd_stage stage)
{
    struct vd_err err = VD_ERR_INIT;

    must(bdrv_pwrite(p->over, offset, (int64_t)strlen(text), text, stage, &err), &err);
}

/* Does the overlay read as these bytes, whole and byte range by byte range? */
static void expect(struct pair *p, const uint8_t *bytes, size_t len)
{
    struct vd_err err = VD_ERR_INIT;
    uint8_t *buf = malloc(len + 1);

    ck_assert_int_eq(bdrv_getlength(p->over, &err), (int64_t)len);
    must(bdrv_pread(p->over, 0, (int64_t)len, buf, &err), &err);
    ck_assert_mem_eq(buf, bytes, len);
    for (size_t at = 0; at < len; at += 1777) {
        size_t n = len - at < 6001 ? len - at : 6001;

        must(bdrv_pread(p->over, (int64_t)at, (int64_t)n, buf, &err), &err);
        ck_assert_mem_eq(buf, bytes + at, n);
    }
    must_fail(bdrv_pread(p->over, (int64_t)len, 1, buf, &err), &err, VD_ERR_IO);
    free(buf);
}

START_TEST(an_untouched_overlay_reads_as_its_base)
{
    struct pair p = make(5 * BLOCK + 100, NULL);
    struct vd_err err = VD_ERR_INIT;
    size_t n = 9;

    expect(&p, p.was, p.len);
    ck_assert_uint_eq(vd_overlay_blocks(p.over), 0);
    ck_assert_ptr_null(vd_overlay_list(p.over, &n, &err));
    ck_assert_uint_eq(n, 0);
    ck_assert_int_eq(err.kind, VD_ERR_NONE);
    ck_assert_int_eq(vd_overlay_low_water(p.over), (int64_t)p.len);
    done(&p);
}
END_TEST

START_TEST(writes_are_seen_above_and_never_reach_the_base)
{
    struct pair p = make(5 * BLOCK + 100, NULL);
    uint8_t want[5 * BLOCK + 100];

    memcpy(want, p.was, p.len);
    put(&p, 10, "inside one block", VD_STAGE_NEW);
    memcpy(want + 10, "inside one block", 16);
    put(&p, 2 * BLOCK - 4, "across two", VD_STAGE_NEW);
    memcpy(want + 2 * BLOCK - 4, "across two", 10);
    put(&p, 5 * BLOCK + 90, "at the end", VD_STAGE_NEW);
    memcpy(want + 5 * BLOCK + 90, "at the end", 10);
    put(&p, 12, "SIDE", VD_STAGE_NEW);
    memcpy(want + 12, "SIDE", 4);
    expect(&p, want, p.len);
    ck_assert_uint_eq(vd_overlay_blocks(p.over), 4);
    done(&p);
}
END_TEST

START_TEST(a_write_behind_the_end_grows_the_overlay_over_zeroes)
{
    struct pair p = make(BLOCK + 100, NULL);
    uint8_t want[5 * BLOCK] = {0};

    memcpy(want, p.was, p.len);
    put(&p, 4 * BLOCK + 7, "far", VD_STAGE_NEW);
    memcpy(want + 4 * BLOCK + 7, "far", 3);
    expect(&p, want, 4 * BLOCK + 10);
    put(&p, BLOCK + 200, "near", VD_STAGE_NEW); /* in the base's partial last block */
    memcpy(want + BLOCK + 200, "near", 4);
    expect(&p, want, 4 * BLOCK + 10);
    done(&p);
}
END_TEST

START_TEST(what_was_cut_off_reads_zeroes_when_the_overlay_grows_again)
{
    struct pair p = make(6 * BLOCK, NULL);
    struct vd_err err = VD_ERR_INIT;
    uint8_t want[6 * BLOCK] = {0};

    put(&p, 2 * BLOCK + 1, "goes", VD_STAGE_NEW);
    put(&p, 5 * BLOCK, "goes, too", VD_STAGE_NEW);
    must(bdrv_truncate(p.over, BLOCK + 50, &err), &err);
    ck_assert_int_eq(vd_overlay_low_water(p.over), BLOCK + 50);
    ck_assert_uint_eq(vd_overlay_blocks(p.over), 0);
    memcpy(want, p.was, BLOCK + 50);
    expect(&p, want, BLOCK + 50);
    must(bdrv_truncate(p.over, 6 * BLOCK, &err), &err);
    expect(&p, want, 6 * BLOCK);
    put(&p, BLOCK + 60, "back", VD_STAGE_NEW);
    memcpy(want + BLOCK + 60, "back", 4);
    expect(&p, want, 6 * BLOCK);
    ck_assert_int_eq(vd_overlay_low_water(p.over), BLOCK + 50);
    done(&p);
}
END_TEST

START_TEST(a_block_of_ours_cut_in_the_middle_loses_its_tail)
{
    struct pair p = make(2 * BLOCK, NULL);
    struct vd_err err = VD_ERR_INIT;
    uint8_t want[2 * BLOCK] = {0};

    put(&p, 90, "0123456789abcdef0123456789", VD_STAGE_NEW);
    must(bdrv_truncate(p.over, 100, &err), &err);
    must(bdrv_truncate(p.over, 2 * BLOCK, &err), &err);
    memcpy(want, p.was, 90);
    memcpy(want + 90, "0123456789", 10);
    expect(&p, want, 2 * BLOCK);
    done(&p);
}
END_TEST

START_TEST(a_block_dropped_and_written_again_is_one_block)
{
    struct pair p = make(4 * BLOCK, NULL);
    struct vd_err err = VD_ERR_INIT;
    uint8_t want[4 * BLOCK] = {0};

    memcpy(want, p.was, BLOCK);
    for (int round = 0; round < 50; round++) {
        put(&p, 2 * BLOCK, "again", VD_STAGE_FLAG);
        must(bdrv_truncate(p.over, BLOCK, &err), &err);
        put(&p, 2 * BLOCK + 3, "and", VD_STAGE_TABLE);
    }
    memcpy(want + 2 * BLOCK + 3, "and", 3);
    expect(&p, want, 2 * BLOCK + 6);
    ck_assert_uint_eq(vd_overlay_blocks(p.over), 1);
    done(&p);
}
END_TEST

START_TEST(each_block_is_listed_in_order_with_its_latest_stage)
{
    struct pair p = make(20 * BLOCK, NULL);
    struct vd_err err = VD_ERR_INIT;
    struct vd_overlay_block *list;
    size_t n;

    put(&p, 9 * BLOCK, "table", VD_STAGE_TABLE);
    put(&p, 3 * BLOCK, "flag", VD_STAGE_FLAG);
    put(&p, 3 * BLOCK + 100, "new", VD_STAGE_NEW);
    put(&p, 12 * BLOCK, "new", VD_STAGE_NEW);
    put(&p, 12 * BLOCK + 1, "root", VD_STAGE_ROOT);
    put(&p, 1 * BLOCK - 2, "span", VD_STAGE_NEW);
    list = vd_overlay_list(p.over, &n, &err);
    must_have(list, &err);
    ck_assert_uint_eq(n, 5);
    ck_assert_uint_eq(list[0].offset, 0);
    ck_assert_int_eq(list[0].stage, VD_STAGE_NEW);
    ck_assert_uint_eq(list[1].offset, 1 * BLOCK);
    ck_assert_uint_eq(list[2].offset, 3 * BLOCK);
    ck_assert_int_eq(list[2].stage, VD_STAGE_FLAG);
    ck_assert_uint_eq(list[3].offset, 9 * BLOCK);
    ck_assert_int_eq(list[3].stage, VD_STAGE_TABLE);
    ck_assert_uint_eq(list[4].offset, 12 * BLOCK);
    ck_assert_int_eq(list[4].stage, VD_STAGE_ROOT);
    free(list);
    done(&p);
}
END_TEST

static int folder_entries(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;

    ck_assert_ptr_nonnull(dir);
    for (struct dirent *d; (d = readdir(dir));)
        n += d->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* 40 MiB of blocks, each with its own number, against a bound of 32 MiB in memory. */
START_TEST(past_the_bound_blocks_go_to_an_unlinked_file)
{
    enum { BLOCKS = 10240, PIECE = 64 };
    struct pair p = make(BLOCK, ".");
    struct vd_err err = VD_ERR_INIT;
    uint8_t *buf = calloc(PIECE, BLOCK);

    for (uint32_t i = 0; i < BLOCKS; i += PIECE) {
        for (uint32_t k = 0; k < PIECE; k++)
            memset(buf + k * BLOCK, (int)((i + k) % 251), BLOCK);
        must(bdrv_pwrite(p.over, (int64_t)i * BLOCK, PIECE * BLOCK, buf, VD_STAGE_NEW, &err), &err);
    }
    put(&p, 3 * BLOCK, "low", VD_STAGE_TABLE);
    put(&p, 10000 * (int64_t)BLOCK, "high", VD_STAGE_TABLE);
    ck_assert_uint_eq(vd_overlay_blocks(p.over), BLOCKS);
    ck_assert_int_eq(folder_entries("."), 0);
    for (uint32_t i = 0; i < BLOCKS; i += 101) {
        must(bdrv_pread(p.over, (int64_t)i * BLOCK, BLOCK, buf, &err), &err);
        ck_assert_uint_eq(buf[BLOCK - 1], i % 251);
        ck_assert_uint_eq(buf[5], i % 251);
    }
    must(bdrv_pread(p.over, 10000 * (int64_t)BLOCK, 5, buf, &err), &err);
    ck_assert_int_eq(memcmp(buf, "high", 4), 0);
    ck_assert_uint_eq(buf[4], 10000 % 251);
    free(buf);
    done(&p);
}
END_TEST

START_TEST(without_a_place_to_spill_the_bound_is_an_error_and_the_rest_stays)
{
    struct pair p = make(BLOCK, "no-such-folder");
    struct vd_err err = VD_ERR_INIT;
    uint8_t *buf = malloc(32 << 20);

    memset(buf, 7, 32 << 20);
    must(bdrv_pwrite(p.over, 0, 32 << 20, buf, VD_STAGE_NEW, &err), &err);
    must_fail(bdrv_pwrite(p.over, 32 << 20, 1, "x", VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    ck_assert_msg(strstr(err.story, "no-such-folder"), "%s", err.story);
    must(bdrv_pread(p.over, (32 << 20) - 5, 5, buf, &err), &err);
    ck_assert_mem_eq(buf, "\x7\x7\x7\x7\x7", 5);
    must_fail(bdrv_pread(p.over, 32 << 20, 1, buf, &err), &err, VD_ERR_IO);
    must(bdrv_pwrite(p.over, 0, 1, "x", VD_STAGE_NEW, &err), &err);
    free(buf);
    done(&p);
}
END_TEST

static int only_below_a_block(void *opaque, int64_t offset, int64_t bytes, struct vd_err *err)
{
    ++*(int *)opaque;
    return offset + bytes <= BLOCK ? 0 : vd_fail(err, VD_ERR_REFUSED, 0, "not there");
}

START_TEST(the_owner_is_asked_before_each_write)
{
    struct pair p = make(4 * BLOCK, NULL);
    struct vd_err err = VD_ERR_INIT;
    int asked = 0;

    vd_overlay_ask(p.over, only_below_a_block, &asked);
    put(&p, 5, "yes", VD_STAGE_NEW);
    ck_assert_int_eq(asked, 1);
    must_fail(bdrv_pwrite(p.over, BLOCK - 1, 2, "no", VD_STAGE_NEW, &err), &err, VD_ERR_REFUSED);
    must_fail(bdrv_pwrite_zeroes(p.over, 2 * BLOCK, 10, VD_STAGE_NEW, &err), &err, VD_ERR_REFUSED);
    ck_assert_uint_eq(vd_overlay_blocks(p.over), 1);
    ck_assert_int_eq(bdrv_getlength(p.over, &err), 4 * BLOCK);
    vd_overlay_ask(p.over, NULL, NULL);
    put(&p, 2 * BLOCK, "nobody is asked", VD_STAGE_NEW);
    done(&p);
}
END_TEST

/* What block_status says of each byte, as a map of letters by block: D data, 0 zeroes. */
static void status_map(struct BlockDriverState *bs, int64_t blocks, char *map)
{
    struct vd_err err = VD_ERR_INIT;

    memset(map, '?', (size_t)blocks);
    map[blocks] = '\0';
    for (int64_t at = 0; at < blocks * BLOCK;) {
        int64_t pnum = 0, where = -1;
        int status = bdrv_block_status(bs, at, blocks * BLOCK - at, &pnum, &where, &err);

        must(status, &err);
        ck_assert_int_gt(pnum, 0);
        ck_assert_int_le(at + pnum, blocks * BLOCK);
        ck_assert_int_eq(pnum % BLOCK, 0);
        if (status & BDRV_BLOCK_OFFSET_VALID)
            ck_assert_int_eq(where, at);
        memset(map + at / BLOCK, status & BDRV_BLOCK_ZERO ? '0' : 'D', (size_t)(pnum / BLOCK));
        at += pnum;
    }
}

/* A sparse file: two blocks of data, then six of hole. */
static struct BlockDriverState *sparse_file(void)
{
    struct vd_err err = VD_ERR_INIT;
    uint8_t noise[2 * BLOCK];
    struct BlockDriverState *bs;

    vd_unit_noise(noise, sizeof(noise), 3);
    vd_unit_write_file("sparse", noise, sizeof(noise));
    ck_assert_int_eq(truncate("sparse", 8 * BLOCK), 0);
    bs = vd_file_open("sparse", 0, &err);
    must_have(bs, &err);
    return bs;
}

START_TEST(block_status_tells_ours_and_the_base_and_what_was_cut_off)
{
    vd_auto(BlockDriverState) base = sparse_file();
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) over = vd_overlay_new(base, NULL, &err);
    char map[20];

    status_map(over, 8, map);
    ck_assert_str_eq(map, "DD000000");
    must(bdrv_pwrite(over, 4 * BLOCK + 1, 1, "x", VD_STAGE_NEW, &err), &err);
    status_map(over, 8, map);
    ck_assert_str_eq(map, "DD00D000");
    must(bdrv_truncate(over, BLOCK, &err), &err);
    must(bdrv_truncate(over, 10 * BLOCK, &err), &err);
    status_map(over, 10, map);
    ck_assert_str_eq(map, "D000000000");
    ck_assert(bdrv_is_hole(over, BLOCK, 9 * BLOCK));
}
END_TEST

START_TEST(zeroes_cost_blocks_only_over_data)
{
    vd_auto(BlockDriverState) base = sparse_file();
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) over = vd_overlay_new(base, NULL, &err);
    uint8_t buf[12 * BLOCK], zero[12 * BLOCK] = {0};

    must(bdrv_pwrite_zeroes(over, BLOCK + 10, 11 * BLOCK - 10, VD_STAGE_TABLE, &err), &err);
    ck_assert_uint_eq(vd_overlay_blocks(over), 1);
    ck_assert_int_eq(bdrv_getlength(over, &err), 12 * BLOCK);
    must(bdrv_pread(over, 0, 12 * BLOCK, buf, &err), &err);
    ck_assert_mem_eq(buf + BLOCK + 10, zero, 11 * BLOCK - 10);
    must(bdrv_pread(base, 0, BLOCK + 10, zero, &err), &err);
    ck_assert_mem_eq(buf, zero, BLOCK + 10);
}
END_TEST

START_TEST(a_base_that_cannot_be_read_fails_the_read_and_the_partial_write)
{
    struct pair p = make(4 * BLOCK, NULL);
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) fault = vd_fault_new(p.base, &err);
    vd_auto(BlockDriverState) over = vd_overlay_new(fault, NULL, &err);
    struct vd_fault_rule rule;
    uint8_t buf[2 * BLOCK] = {0};

    must(vd_fault_parse("read:errno=EIO,offset=4k,bytes=1", &rule, &err), &err);
    must(vd_fault_add(fault, &rule, &err), &err);
    must_fail(bdrv_pread(over, 0, 2 * BLOCK, buf, &err), &err, VD_ERR_IO);
    must_fail(bdrv_pwrite(over, BLOCK + 1, 1, "x", VD_STAGE_NEW, &err), &err, VD_ERR_IO);
    must(bdrv_pread(over, 0, BLOCK, buf, &err), &err);
    must(bdrv_pwrite(over, 2 * BLOCK + 1, 1, "x", VD_STAGE_NEW, &err), &err);
    done(&p);
}
END_TEST

START_TEST(flushing_an_overlay_does_nothing_below)
{
    struct pair p = make(BLOCK, NULL);
    struct vd_err err = VD_ERR_INIT;
    struct vd_fault_log log = {0};
    vd_auto(BlockDriverState) fault = vd_fault_new(p.base, &err);
    vd_auto(BlockDriverState) over = vd_overlay_new(fault, NULL, &err);

    vd_fault_record(fault, &log);
    must(bdrv_pwrite(over, 1, 1, "x", VD_STAGE_NEW, &err), &err);
    must(bdrv_flush(over, &err), &err);
    must(bdrv_truncate(over, 10, &err), &err);
    ck_assert_uint_eq(log.n, 0);
    vd_fault_log_free(&log);
    done(&p);
}
END_TEST

/* Random writes, cuts and reads against a plain array. */
START_TEST(random_work_reads_as_in_an_array)
{
    enum { MOST = 40 * BLOCK };
    struct pair p = make(23 * BLOCK + 1234, NULL);
    struct vd_err err = VD_ERR_INIT;
    uint8_t *want = calloc(1, MOST), data[3 * BLOCK], r[8];
    size_t len = p.len;

    memcpy(want, p.was, p.len);
    for (uint64_t step = 0; step < 400; step++) {
        size_t at, n;

        vd_unit_noise(r, sizeof(r), step);
        at = ((size_t)r[0] << 8 | r[1]) % (MOST - sizeof(data));
        n = ((size_t)r[2] << 8 | r[3]) % sizeof(data) + 1;
        if (r[4] % 8 == 0) {
            if (at < len)
                memset(want + at, 0, len - at);
            len = at;
            must(bdrv_truncate(p.over, (int64_t)len, &err), &err);
        } else if (r[4] % 8 == 1) {
            memset(want + at, 0, n);
            len = at + n > len ? at + n : len;
            must(bdrv_pwrite_zeroes(p.over, (int64_t)at, (int64_t)n, VD_STAGE_NEW, &err), &err);
        } else {
            vd_unit_noise(data, n, step + 1000);
            memcpy(want + at, data, n);
            len = at + n > len ? at + n : len;
            must(bdrv_pwrite(p.over, (int64_t)at, (int64_t)n, data, VD_STAGE_NEW, &err), &err);
        }
        if (step % 16 == 0)
            expect(&p, want, len);
    }
    expect(&p, want, len);
    free(want);
    done(&p);
}
END_TEST

START_TEST(a_hole_of_terabytes_is_told_at_once)
{
    const int64_t far = (int64_t)1 << 42;
    struct pair p = make(BLOCK, NULL);
    struct vd_err err = VD_ERR_INIT;
    int64_t n = 0, map = 0;

    must(bdrv_truncate(p.over, 2 * far, &err), &err);
    put(&p, far, "x", VD_STAGE_NEW);
    put(&p, far / 2, "y", VD_STAGE_NEW);
    ck_assert_int_eq(bdrv_block_status(p.over, 2 * BLOCK, far, &n, &map, &err) & BDRV_BLOCK_ZERO,
                     BDRV_BLOCK_ZERO);
    ck_assert_int_eq(n, far / 2 - 2 * BLOCK);
    ck_assert_int_ge(bdrv_block_status(p.over, far / 2 + BLOCK, far, &n, &map, &err), 0);
    ck_assert_int_eq(n, far / 2 - BLOCK);
    ck_assert_int_ge(bdrv_block_status(p.over, far + BLOCK, far - BLOCK, &n, &map, &err), 0);
    ck_assert_int_eq(n, far - BLOCK);
    done(&p);
}
END_TEST

UNIT_TESTS("overlay", an_untouched_overlay_reads_as_its_base, writes_are_seen_above_and_never_reach_the_base,
           a_write_behind_the_end_grows_the_overlay_over_zeroes,
           what_was_cut_off_reads_zeroes_when_the_overlay_grows_again,
           a_block_of_ours_cut_in_the_middle_loses_its_tail, a_block_dropped_and_written_again_is_one_block,
           each_block_is_listed_in_order_with_its_latest_stage, past_the_bound_blocks_go_to_an_unlinked_file,
           without_a_place_to_spill_the_bound_is_an_error_and_the_rest_stays,
           the_owner_is_asked_before_each_write, block_status_tells_ours_and_the_base_and_what_was_cut_off,
           a_hole_of_terabytes_is_told_at_once, zeroes_cost_blocks_only_over_data,
           a_base_that_cannot_be_read_fails_the_read_and_the_partial_write,
           flushing_an_overlay_does_nothing_below, random_work_reads_as_in_an_array)
