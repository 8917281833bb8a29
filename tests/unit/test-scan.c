/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/scan.h"

#include "formats/base/bytes.h"
#include "formats/node/fault.h"
#include "formats/node/file.h"
#include "formats/node/memory.h"
#include "formats/node/stats.h"
#include "tests/unit/unit.h"

enum { IMAGE = 4 << 20 };

/* What a scan told, as a text: "1@0+512 " is a piece of table 1; '!' unreadable, 'h' in a hole. */
struct told {
    char text[4096];
    const uint8_t *image; /* what the bytes are compared with; NULL: nothing is */
    uint64_t bytes;
    int stop_after; /* pieces; 0: never */
    bool joins;     /* pieces of one kind that follow each other are told as one */
    size_t last;    /* where the text's last piece begins */
    uint64_t last_cookie, last_at, last_end;
    char last_kind;
};

static void note_piece(struct told *told, const struct vd_scan_piece *piece)
{
    char kind = piece->why ? '!' : piece->is_hole ? 'h' : '\0';
    bool goes_on = told->joins && told->text[0] && told->last_cookie == piece->table->cookie &&
                   told->last_end == piece->at && told->last_kind == kind;

    if (!goes_on) {
        told->last = strlen(told->text);
        told->last_at = piece->at;
    }
    told->last_cookie = piece->table->cookie;
    told->last_end = piece->at + piece->len;
    told->last_kind = kind;
    snprintf(told->text + told->last, sizeof(told->text) - told->last, "%s%llu@%llu+%llu%.1s",
             told->last ? " " : "", (unsigned long long)told->last_cookie, (unsigned long long)told->last_at,
             (unsigned long long)(told->last_end - told->last_at), &told->last_kind);
}

static int on_piece(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct told *told = opaque;

    note_piece(told, piece);
    ck_assert_uint_le(piece->len, VD_SCAN_PIECE);
    ck_assert_int_eq(piece->bytes != NULL, !piece->why && !piece->is_hole);
    if (piece->why)
        ck_assert_str_ne(piece->why->story, "");
    if (piece->bytes) {
        told->bytes += piece->len;
        if (told->image)
            ck_assert_mem_eq(piece->bytes, told->image + piece->table->span.off + piece->at, piece->len);
        memset(piece->bytes, 0xee, piece->len); /* a caller may change the words in place */
    }
    if (told->stop_after && --told->stop_after == 0)
        return vd_fail(err, VD_ERR_REFUSED, 0, "enough");
    return 0;
}

static uint8_t *noise(void)
{
    uint8_t *image = malloc(IMAGE);

    vd_unit_noise(image, IMAGE, 5);
    return image;
}

#define TABLE(off, len, cookie)                                                                              \
    {                                                                                                        \
        {off, len}, cookie                                                                                   \
    }

START_TEST(neighbours_are_read_together_and_told_apart)
{
    static const struct vd_scan_table tables[] = {TABLE(4096, 4096, 0), TABLE(8192, 8192, 1),
                                                  TABLE(16384, 4096, 2), TABLE(65536, 4096, 3)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_io_stats stats = {0};
    vd_auto_mem uint8_t *image = noise();
    vd_auto(BlockDriverState) below = vd_memory_new("image", image, IMAGE, &err);
    vd_auto(BlockDriverState) bs = vd_stats_new(below, &stats, &err);
    struct told told = {.image = image};

    must(vd_scan(bs, tables, 4, &budget, on_piece, &told, &err), &err);
    ck_assert_str_eq(told.text, "0@0+4096 1@0+8192 2@0+4096 3@0+4096");
    ck_assert_uint_eq(stats.reads, 2);
}
END_TEST

START_TEST(no_more_than_a_buffer_is_joined)
{
    struct vd_scan_table tables[100];
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_io_stats stats = {0};
    vd_auto_mem uint8_t *image = noise();
    vd_auto(BlockDriverState) below = vd_memory_new("image", image, IMAGE, &err);
    vd_auto(BlockDriverState) bs = vd_stats_new(below, &stats, &err);
    struct told told = {.image = image};

    for (uint64_t i = 0; i < 100; i++)
        tables[i] = (struct vd_scan_table)TABLE(i * 8192, 8192, i);
    must(vd_scan(bs, tables, 100, &budget, on_piece, &told, &err), &err);
    ck_assert_uint_eq(told.bytes, 100 * 8192);
    ck_assert_uint_eq(stats.reads, 4); /* 32 tables fill the buffer */
}
END_TEST

START_TEST(a_table_larger_than_the_buffer_comes_in_pieces)
{
    static const struct vd_scan_table tables[] = {TABLE(512, 2 * VD_SCAN_PIECE + 1024, 7),
                                                  TABLE(2 * VD_SCAN_PIECE + 1536, 512, 8)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto_mem uint8_t *image = noise();
    vd_auto(BlockDriverState) bs = vd_memory_new("image", image, IMAGE, &err);
    struct told told = {.image = image};

    must(vd_scan(bs, tables, 2, &budget, on_piece, &told, &err), &err);
    ck_assert_str_eq(told.text, "7@0+262144 7@262144+262144 7@524288+1024 8@0+512");
}
END_TEST

START_TEST(a_piece_that_cannot_be_read_says_why_and_the_rest_goes_on)
{
    static const struct vd_scan_table tables[] = {TABLE(4096, 4096, 0), TABLE(8192, 4096, 1),
                                                  TABLE(12288, 4096, 2), TABLE(1 << 20, 600 * 1024, 3)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto_mem uint8_t *image = noise();
    vd_auto(BlockDriverState) below = vd_memory_new("image", image, IMAGE, &err);
    vd_auto(BlockDriverState) bs = vd_fault_new(below, &err);
    struct vd_fault_rule rule;
    struct told told = {.image = image, .joins = true};

    must(vd_fault_parse("read:errno=EIO,offset=9000,bytes=1", &rule, &err), &err);
    must(vd_fault_add(bs, &rule, &err), &err);
    must(vd_fault_parse("read:errno=EIO,offset=1400000,bytes=1", &rule, &err), &err);
    must(vd_fault_add(bs, &rule, &err), &err);
    must(vd_scan(bs, tables, 4, &budget, on_piece, &told, &err), &err);
    /* One bad sector costs 4 KiB, whatever was read with it. */
    ck_assert_str_eq(told.text, "0@0+4096 1@0+4096! 2@0+4096 3@0+348160 3@348160+4096! 3@352256+262144");
}
END_TEST

START_TEST(a_stretch_that_cannot_be_read_is_told_as_one)
{
    static const struct vd_scan_table tables[] = {TABLE(0, VD_SCAN_PIECE, 0)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto_mem uint8_t *image = noise();
    vd_auto(BlockDriverState) below = vd_memory_new("image", image, IMAGE, &err);
    vd_auto(BlockDriverState) bs = vd_fault_new(below, &err);
    struct vd_fault_rule rule;
    struct told told = {.image = image};

    must(vd_fault_parse("read:errno=EIO,offset=0,bytes=1M", &rule, &err), &err);
    must(vd_fault_add(bs, &rule, &err), &err);
    must(vd_scan(bs, tables, 1, &budget, on_piece, &told, &err), &err);
    ck_assert_str_eq(told.text, "0@0+262144!");
}
END_TEST

START_TEST(a_table_behind_the_end_of_the_file_says_why)
{
    static const struct vd_scan_table tables[] = {TABLE(0, 4096, 0), TABLE(IMAGE - 4096, 8192, 1),
                                                  TABLE((uint64_t)1 << 40, 4096, 2)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto_mem uint8_t *image = noise();
    vd_auto(BlockDriverState) bs = vd_memory_new("image", image, IMAGE, &err);
    struct told told = {.image = image};

    must(vd_scan(bs, tables, 3, &budget, on_piece, &told, &err), &err);
    ck_assert_str_eq(told.text, "0@0+4096 1@0+4096 1@4096+4096! 2@0+4096!");
}
END_TEST

START_TEST(no_tables_tell_nothing)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto(BlockDriverState) bs = vd_memory_new("image", NULL, 0, &err);
    struct told told = {0};

    must(vd_scan(bs, NULL, 0, &budget, on_piece, &told, &err), &err);
    ck_assert_str_eq(told.text, "");
}
END_TEST

START_TEST(the_scan_ends_where_the_caller_says_so)
{
    static const struct vd_scan_table tables[] = {TABLE(0, 4096, 0), TABLE(4096, 4096, 1),
                                                  TABLE(8192, 4096, 2)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto(BlockDriverState) bs = vd_memory_new("image", NULL, IMAGE, &err);
    struct told told = {.stop_after = 2};

    must_fail(vd_scan(bs, tables, 3, &budget, on_piece, &told, &err), &err, VD_ERR_REFUSED);
    ck_assert_str_eq(told.text, "0@0+4096 1@0+4096");
}
END_TEST

START_TEST(a_signal_ends_the_scan)
{
    static const struct vd_scan_table tables[] = {TABLE(0, 4096, 0)};
    volatile sig_atomic_t flag = 1;
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto(BlockDriverState) bs = vd_memory_new("image", NULL, IMAGE, &err);
    struct told told = {0};

    budget.cancelled = &flag;
    must_fail(vd_scan(bs, tables, 1, &budget, on_piece, &told, &err), &err, VD_ERR_CANCELLED);
    ck_assert_str_eq(told.text, "");
}
END_TEST

/* A file of that length whose only data are 4 KiB of 0x77 at each of the offsets. */
static struct BlockDriverState *sparse(int64_t length, const int64_t *data, size_t n)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = vd_file_create("sparse", true, &err);
    uint8_t block[4096];

    must_have(bs, &err);
    must(bdrv_truncate(bs, length, &err), &err);
    memset(block, 0x77, sizeof(block));
    for (size_t i = 0; i < n; i++)
        must(bdrv_pwrite(bs, data[i], sizeof(block), block, VD_STAGE_NEW, &err), &err);
    return bs;
}

START_TEST(tables_in_holes_are_told_as_holes_and_not_read)
{
    static const int64_t data[] = {8192};
    static const struct vd_scan_table tables[] = {TABLE(0, 8192, 0), TABLE(8192, 4096, 1),
                                                  TABLE(12288, 8192, 2), TABLE(1 << 20, 100 * 1024, 3)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_io_stats stats = {0};
    vd_auto(BlockDriverState) below = sparse(IMAGE, data, 1);
    vd_auto(BlockDriverState) bs = vd_stats_new(below, &stats, &err);
    struct told told = {0};

    must(vd_scan(bs, tables, 4, &budget, on_piece, &told, &err), &err);
    ck_assert_str_eq(told.text, "0@0+8192h 1@0+4096 2@0+8192h 3@0+102400h");
    ck_assert_uint_eq(stats.bytes_read, 4096);
}
END_TEST

/* The data in the middle are told, and no more is read; what is not told reads as zeroes. */
START_TEST(a_hole_longer_than_a_piece_is_passed_over)
{
    static const int64_t data[] = {3 << 20};
    static const struct vd_scan_table tables[] = {TABLE(0, IMAGE, 0)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto(BlockDriverState) bs = sparse(IMAGE, data, 1);
    struct told told = {0};

    must(vd_scan(bs, tables, 1, &budget, on_piece, &told, &err), &err);
    ck_assert_str_eq(told.text, "0@3145728+4096 0@3149824+258048h");
}
END_TEST

START_TEST(a_hole_that_ends_inside_a_sector_hides_no_byte_behind_it)
{
    static const int64_t data[] = {3 << 20};
    static const struct vd_scan_table tables[] = {TABLE(100, IMAGE - 200, 0)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto(BlockDriverState) bs = sparse(IMAGE, data, 1);
    struct told told = {.joins = true};
    unsigned long long at = 0, len = 0;

    must(vd_scan(bs, tables, 1, &budget, on_piece, &told, &err), &err);
    ck_assert_int_eq(sscanf(told.text, "0@%llu+%llu", &at, &len), 2);
    ck_assert_uint_le(100 + at, 3 << 20);
    ck_assert_uint_ge(100 + at + len, (3 << 20) + 4096);
}
END_TEST

/* 1 TiB of one table in a file of a few KiB: work is bounded by what is there. */
START_TEST(a_huge_hole_is_passed_over_in_no_time)
{
    static const int64_t data[] = {0, (int64_t)1 << 39};
    static const struct vd_scan_table tables[] = {TABLE(0, (uint64_t)1 << 40, 0)};
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_io_stats stats = {0};
    vd_auto(BlockDriverState) below = sparse((int64_t)1 << 40, data, 2);
    vd_auto(BlockDriverState) bs = vd_stats_new(below, &stats, &err);
    struct told told = {0};

    must(vd_scan(bs, tables, 1, &budget, on_piece, &told, &err), &err);
    ck_assert_uint_le(stats.bytes_read, 4 * VD_SCAN_PIECE);
    ck_assert_uint_ge(stats.bytes_read, 8192);
}
END_TEST

UNIT_TESTS("scan", neighbours_are_read_together_and_told_apart, no_more_than_a_buffer_is_joined,
           a_table_larger_than_the_buffer_comes_in_pieces,
           a_piece_that_cannot_be_read_says_why_and_the_rest_goes_on,
           a_stretch_that_cannot_be_read_is_told_as_one, a_table_behind_the_end_of_the_file_says_why,
           no_tables_tell_nothing, the_scan_ends_where_the_caller_says_so, a_signal_ends_the_scan,
           tables_in_holes_are_told_as_holes_and_not_read, a_hole_longer_than_a_piece_is_passed_over,
           a_hole_that_ends_inside_a_sector_hides_no_byte_behind_it, a_huge_hole_is_passed_over_in_no_time)
