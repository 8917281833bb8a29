/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counts of every width, in and out of a refcount block. */
#include "formats/base/span.h"
#include "formats/qcow2/qcow2.h"
#include "tests/unit/unit.h"

enum { CLUSTER = 512 };

static struct qcow2_geometry geometry(unsigned order)
{
    const struct qcow2_header h = {
        .magic = QCOW2_MAGIC, .version = 3, .cluster_bits = 9, .refcount_order = order};

    return qcow2_derive(&h, 1 << 20);
}

static void judge_geometry(unsigned order)
{
    static const struct {
        uint64_t block_n, max_count;
    } expected[] = {
        {4096, 1         },
        {2048, 3         },
        {1024, 15        },
        {512,  255       },
        {256,  65535     },
        {128,  UINT32_MAX},
        {64,   UINT64_MAX},
    };
    struct qcow2_geometry g = geometry(order);

    ck_assert_uint_eq(g.block_n, expected[order].block_n);
    ck_assert_uint_eq(g.max_count, expected[order].max_count);
}

/* What QEMU writes for an image that uses its first seven clusters. */
static void judge_bytes(unsigned order)
{
    static const struct {
        uint8_t bytes[16];
        unsigned n;
    } expected[] = {
        {{0x7f},                                           1 },
        {{0x55, 0x15},                                     2 },
        {{0x11, 0x11, 0x11, 0x01},                         4 },
        {{1, 1, 1, 1, 1, 1, 1, 0},                         8 },
        {{0, 1, 0, 1, 0, 1, 0, 1},                         8 },
        {{0, 0, 0, 1, 0, 0, 0, 1},                         8 },
        {{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1}, 16},
    };
    struct qcow2_geometry g = geometry(order);
    uint8_t block[CLUSTER] = {0};

    for (uint64_t k = 0; k < 7; k++)
        qcow2_pack_count(&g, block, k, 1);
    ck_assert_mem_eq(block, expected[order].bytes, expected[order].n);
}

/* Something that differs from count to count and uses all bits. */
static uint64_t some_count(const struct qcow2_geometry *g, uint64_t k)
{
    return (k * 0x9e3779b97f4a7c15u >> 7 ^ k) & g->max_count;
}

static void judge_places(unsigned order)
{
    struct qcow2_geometry g = geometry(order);
    uint8_t block[CLUSTER] = {0};
    uint64_t count[4096];

    for (uint64_t k = 0; k < g.block_n; k++)
        qcow2_pack_count(&g, block, k, some_count(&g, k));
    for (uint64_t first = 0; first < g.block_n; first += 13) {
        uint64_t n = vd_min(29, g.block_n - first);

        qcow2_unpack_counts(&g, block, first, n, count);
        for (uint64_t i = 0; i < n; i++)
            ck_assert_uint_eq(count[i], some_count(&g, first + i));
    }
    qcow2_unpack_counts(&g, block, 0, g.block_n, count);
    for (uint64_t k = 0; k < g.block_n; k++)
        ck_assert_uint_eq(count[k], some_count(&g, k));
}

static void judge_neighbours(unsigned order)
{
    struct qcow2_geometry g = geometry(order);

    for (uint64_t at = 0; at < g.block_n; at += 7) {
        uint8_t block[CLUSTER];
        uint64_t count[4096];

        memset(block, 0xff, sizeof(block));
        qcow2_pack_count(&g, block, at, 0);
        qcow2_unpack_counts(&g, block, 0, g.block_n, count);
        for (uint64_t k = 0; k < g.block_n; k++)
            ck_assert_uint_eq(count[k], k == at ? 0 : g.max_count);
    }
}

static void for_each_order(void (*judge)(unsigned order))
{
    for (unsigned order = 0; order <= QCOW2_MAX_REFCOUNT_ORDER; order++)
        judge(order);
}

START_TEST(the_geometry_has_as_many_counts_as_fit_and_their_largest_value)
{
    for_each_order(judge_geometry);
}
END_TEST

START_TEST(counts_are_packed_as_other_programs_pack_them)
{
    for_each_order(judge_bytes);
}
END_TEST

START_TEST(what_is_packed_is_unpacked_from_any_place)
{
    for_each_order(judge_places);
}
END_TEST

START_TEST(packing_one_count_leaves_its_neighbours)
{
    for_each_order(judge_neighbours);
}
END_TEST

UNIT_TESTS("qcow2 refcount", the_geometry_has_as_many_counts_as_fit_and_their_largest_value,
           counts_are_packed_as_other_programs_pack_them, what_is_packed_is_unpacked_from_any_place,
           packing_one_count_leaves_its_neighbours)
