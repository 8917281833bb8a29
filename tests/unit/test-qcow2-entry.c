/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What words of a qcow2 table mean, as a table. */
#include "formats/qcow2/qcow2.h"
#include "tests/unit/unit.h"

enum { C = 65536 }; /* a cluster */

/* Which image the words stand in. */
enum image { PLAIN, VERSION_2, EXTENDED, DATA_FILE, SMALL, LARGE, IMAGES_N };

/* Of 20 clusters and 1000 bytes; SMALL and LARGE have clusters of 512 bytes and of 2 MiB. */
static struct qcow2_geometry geometry(enum image image)
{
    static const struct {
        uint32_t version, cluster_bits;
        uint64_t incompatible;
    } images[IMAGES_N] = {
        [PLAIN] = {3, 16, 0                         },
        [VERSION_2] = {2, 16, 0                         },
        [EXTENDED] = {3, 16, QCOW2_INCOMPAT_EXTENDED_L2},
        [DATA_FILE] = {3, 16, QCOW2_INCOMPAT_DATA_FILE  },
        [SMALL] = {3, 9,  0                         },
        [LARGE] = {3, 21, 0                         },
    };
    const struct qcow2_header h = {.magic = QCOW2_MAGIC,
                                   .version = images[image].version,
                                   .cluster_bits = images[image].cluster_bits,
                                   .incompatible_features = images[image].incompatible,
                                   .refcount_order = 4,
                                   .size = (uint64_t)1 << 30,
                                   .l1_size = 2,
                                   .l1_table_offset = 3 * C};

    return qcow2_derive(&h, ((uint64_t)20 << images[image].cluster_bits) + 1000);
}

#define COPIED QCOW2_COPIED
#define PACKED QCOW2_COMPRESSED

/* Sectors behind the first, in the entry of a compressed cluster of 64 KiB. */
#define MORE(n) ((uint64_t)(n) << 54)

static const struct row {
    enum image image;
    uint64_t word, bitmap;
    enum qcow2_cluster type;
    uint64_t host;
    unsigned faults;
} rows[] = {
    {PLAIN,     0,                                   0,                     QCOW2_UNALLOCATED,    0,                           0                         },
    {PLAIN,     COPIED,                              0,                     QCOW2_UNALLOCATED,    0,                           QCOW2_F_COPIED_ALONE      },
    {PLAIN,     1,                                   0,                     QCOW2_ZERO_PLAIN,     0,                           0                         },
    {PLAIN,     5 * C,                               0,                     QCOW2_NORMAL,         5 * C,                       0                         },
    {PLAIN,     COPIED | 5 * C,                      0,                     QCOW2_NORMAL,         5 * C,                       0                         },
    {PLAIN,     COPIED | 5 * C | 1,                  0,                     QCOW2_ZERO_ALLOCATED, 5 * C,                       0                         },
    {PLAIN,     5 * C | 2,                           0,                     QCOW2_NORMAL,         5 * C,                       QCOW2_F_RESERVED          },
    {PLAIN,     5 * C | 0x100,                       0,                     QCOW2_NORMAL,         5 * C,                       QCOW2_F_RESERVED          },
    {PLAIN,     5 * C | (uint64_t)1 << 56,           0,                     QCOW2_NORMAL,         5 * C,                       QCOW2_F_RESERVED          },
    {PLAIN,     5 * C | (uint64_t)1 << 61,           0,                     QCOW2_NORMAL,         5 * C,                       QCOW2_F_RESERVED          },
    {PLAIN,     5 * C + 512,                         0,                     QCOW2_NORMAL,         5 * C + 512,                 QCOW2_F_MISALIGNED        },
    {PLAIN,     (5 * C + 512) | 1,                   0,                     QCOW2_ZERO_ALLOCATED, 5 * C + 512,                 QCOW2_F_ZERO_MISALIGNED   },
    {PLAIN,     19 * C,                              0,                     QCOW2_NORMAL,         19 * C,                      0                         },
    {PLAIN,     20 * C,                              0,                     QCOW2_NORMAL,         20 * C,                      QCOW2_F_PARTIAL_TAIL      },
    {PLAIN,     21 * C,                              0,                     QCOW2_NORMAL,         21 * C,                      QCOW2_F_OUT_OF_FILE       },
    {PLAIN,     QCOW2_OFFSET_MASK - C + 512,         0,                     QCOW2_NORMAL,         QCOW2_OFFSET_MASK - C + 512, QCOW2_F_OUT_OF_FILE       },
 /* version 2 has no zero clusters */
    {VERSION_2, 1,                                   0,                     QCOW2_ZERO_PLAIN,     0,                           QCOW2_F_ZERO_V2           },
    {VERSION_2, 5 * C,                               0,                     QCOW2_NORMAL,         5 * C,                       0                         },
 /* subclusters */
    {EXTENDED,  5 * C,                               0xffffffff,            QCOW2_NORMAL,         5 * C,                       0                         },
    {EXTENDED,  5 * C,                               3 | (uint64_t)4 << 32, QCOW2_NORMAL,         5 * C,                       0                         },
    {EXTENDED,  5 * C,                               0,                     QCOW2_NORMAL,         5 * C,                       QCOW2_F_OFFSET_UNUSED     },
    {EXTENDED,  5 * C,                               1 | (uint64_t)1 << 32, QCOW2_NORMAL,         5 * C,                       QCOW2_F_SUB_CONFLICT      },
    {EXTENDED,  5 * C | 1,                           1,                     QCOW2_NORMAL,         5 * C,                       QCOW2_F_ZERO_EXTENDED     },
    {EXTENDED,  0,                                   1,                     QCOW2_UNALLOCATED,    0,                           QCOW2_F_SUB_NO_OFFSET     },
    {EXTENDED,  0,                                   (uint64_t)1 << 63,     QCOW2_UNALLOCATED,    0,                           0                         },
    {EXTENDED,  5 * C + 512,                         1,                     QCOW2_NORMAL,         5 * C + 512,                 QCOW2_F_MISALIGNED        },
    {EXTENDED,  5 * C + 512,                         (uint64_t)1 << 32,     QCOW2_NORMAL,         5 * C + 512,                 QCOW2_F_ZERO_MISALIGNED   },
    {EXTENDED,  PACKED | 5 * C,                      0,                     QCOW2_PACKED,         5 * C,                       0                         },
    {EXTENDED,  PACKED | 5 * C,                      1,                     QCOW2_PACKED,         5 * C,                       QCOW2_F_PACKED_BITMAP     },
 /* an external data file: the host offset is the guest's, here 2 clusters */
    {DATA_FILE, COPIED | 2 * C,                      0,                     QCOW2_NORMAL,         2 * C,                       0                         },
    {DATA_FILE, 2 * C,                               0,                     QCOW2_NORMAL,         2 * C,                       QCOW2_F_DATA_FILE_COPIED  },
    {DATA_FILE, COPIED | 3 * C,                      0,                     QCOW2_NORMAL,         3 * C,                       QCOW2_F_DATA_FILE_OFFSET  },
    {DATA_FILE, COPIED,                              0,                     QCOW2_NORMAL,         0,                           QCOW2_F_DATA_FILE_OFFSET  },
    {DATA_FILE, PACKED | 5 * C,                      0,                     QCOW2_PACKED,         5 * C,                       QCOW2_F_PACKED_DATA_FILE  },
 /* compressed */
    {PLAIN,     PACKED | 0x5004f,                    0,                     QCOW2_PACKED,         0x5004f,                     0                         },
    {PLAIN,     PACKED | COPIED | 0x5004f,           0,                     QCOW2_PACKED,         0x5004f,                     QCOW2_F_PACKED_COPIED     },
    {PLAIN,     PACKED | MORE(255) | 0x50001,        0,                     QCOW2_PACKED,         0x50001,                     0                         },
    {PLAIN,     PACKED | MORE(255) | (20 * C - 512), 0,                     QCOW2_PACKED,         20 * C - 512,                QCOW2_F_PACKED_OVERSIZED  },
    {PLAIN,     PACKED | (20 * C + 999),             0,                     QCOW2_PACKED,         20 * C + 999,                0                         },
    {PLAIN,     PACKED | (20 * C + 1000),            0,                     QCOW2_PACKED,         20 * C + 1000,               QCOW2_F_PACKED_OUT_OF_FILE},
    {SMALL,     PACKED | (uint64_t)1 << 57 | 0x1001, 0,                     QCOW2_PACKED,         0x1001,                      QCOW2_F_PACKED_RESERVED   },
};

static void judge(const struct row *row, size_t i)
{
    struct qcow2_geometry g = geometry(row->image);
    struct qcow2_entry e = qcow2_parse_entry(&g, row->word, row->bitmap, 2 * C);

    ck_assert_msg(e.type == row->type, "row %zu has the type %d", i, e.type);
    ck_assert_msg(e.host == row->host, "row %zu names 0x%llx", i, (unsigned long long)e.host);
    ck_assert_msg(e.faults == row->faults, "row %zu has the faults 0x%x, expected 0x%x", i, e.faults,
                  row->faults);
    ck_assert_msg(e.is_copied == !!(row->word & COPIED), "row %zu: COPIED", i);
}

START_TEST(each_pair_of_words_means_what_the_format_says)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(rows); i++)
        judge(&rows[i], i);
}
END_TEST

/* Sectors are counted from the one in which the extent begins. */
START_TEST(a_compressed_extent_has_the_bytes_that_its_sectors_leave)
{
    static const struct {
        enum image image;
        uint64_t word, host, bytes;
    } extents[] = {
        {PLAIN, PACKED | 0x50000,                           0x50000,  512              },
        {PLAIN, PACKED | 0x5004f,                           0x5004f,  512 - 0x4f       },
        {PLAIN, PACKED | MORE(1) | 0x501ff,                 0x501ff,  513              },
        {PLAIN, PACKED | MORE(127) | 0x50000,               0x50000,  C                },
        {PLAIN, PACKED | MORE(255) | 0x50000,               0x50000,  2 * C            },
        {SMALL, PACKED | 0x1000,                            0x1000,   512              },
        {SMALL, PACKED | (uint64_t)1 << 61 | 0x1010,        0x1010,   1024 - 0x10      },
        {LARGE, PACKED | (uint64_t)0x1fff << 49 | 0x200000, 0x200000, (uint64_t)4 << 20},
    };

    for (size_t i = 0; i < VD_ARRAY_SIZE(extents); i++) {
        struct qcow2_geometry g = geometry(extents[i].image);
        struct qcow2_entry e = qcow2_parse_entry(&g, extents[i].word, 0, 0);

        ck_assert_msg(e.host == extents[i].host && e.bytes == extents[i].bytes,
                      "extent %zu has %llu bytes at 0x%llx", i, (unsigned long long)e.bytes,
                      (unsigned long long)e.host);
    }
}
END_TEST

START_TEST(a_compressed_extent_touches_whole_clusters_and_none_behind_the_end)
{
    struct qcow2_geometry g = geometry(PLAIN);
    struct qcow2_entry e = qcow2_parse_entry(&g, PACKED | MORE(3) | (6 * C - 1), 0, 0);
    struct vd_span touched = qcow2_touched(&g, &e);

    ck_assert_uint_eq(touched.off, 5 * C);
    ck_assert_uint_eq(touched.len, 2 * C);
    e = qcow2_parse_entry(&g, PACKED | MORE(255) | (20 * C + 10), 0, 0);
    touched = qcow2_touched(&g, &e);
    ck_assert_uint_eq(touched.off, 20 * C);
    ck_assert_uint_eq(touched.len, C);
}
END_TEST

START_TEST(an_l1_word_names_an_aligned_table_in_the_file)
{
    static const struct {
        uint64_t word;
        unsigned faults;
    } words[] = {
        {0,                         0                   },
        {COPIED,                    0                   },
        {COPIED | 4 * C,            0                   },
        {4 * C,                     0                   },
        {4 * C | 1,                 QCOW2_F_RESERVED    },
        {4 * C | (uint64_t)1 << 62, QCOW2_F_RESERVED    },
        {4 * C + 512,               QCOW2_F_MISALIGNED  },
        {20 * C,                    QCOW2_F_PARTIAL_TAIL},
        {21 * C,                    QCOW2_F_OUT_OF_FILE },
    };
    struct qcow2_geometry g = geometry(PLAIN);

    for (size_t i = 0; i < VD_ARRAY_SIZE(words); i++)
        ck_assert_msg(qcow2_l1_faults(&g, words[i].word) == words[i].faults, "word %zu has the faults 0x%x",
                      i, qcow2_l1_faults(&g, words[i].word));
}
END_TEST

START_TEST(tables_map_what_their_entries_leave_room_for)
{
    struct qcow2_geometry g = geometry(PLAIN), x = geometry(EXTENDED), s = geometry(SMALL);

    ck_assert_uint_eq(qcow2_slot_bytes(&g), (uint64_t)512 << 20);
    ck_assert_uint_eq(qcow2_slot_bytes(&x), (uint64_t)256 << 20);
    ck_assert_uint_eq(qcow2_slot_bytes(&s), 32768);
    ck_assert_uint_eq(qcow2_guest(&g, 1, 3), ((uint64_t)512 << 20) + 3 * C);
    ck_assert_uint_eq(g.l1_need, 2);
    ck_assert_uint_eq(x.l1_need, 4);
}
END_TEST

UNIT_TESTS("qcow2 entry", each_pair_of_words_means_what_the_format_says,
           a_compressed_extent_has_the_bytes_that_its_sectors_leave,
           a_compressed_extent_touches_whole_clusters_and_none_behind_the_end,
           an_l1_word_names_an_aligned_table_in_the_file, tables_map_what_their_entries_leave_room_for)
