/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a word of a QED table means, as a table. */
#include "formats/qed/qed.h"
#include "tests/unit/unit.h"

enum { C = 65536 }; /* a cluster */

/*
 * Header 0, L1 1 to 4, then free for tables and data; the file ends 1000 bytes into cluster 20.
 */
static struct qed_geometry geometry(uint64_t file_size)
{
    const struct qed_header h = {.magic = QED_MAGIC,
                                 .cluster_size = C,
                                 .table_size = 4,
                                 .header_size = 1,
                                 .l1_table_offset = C,
                                 .image_size = (uint64_t)1 << 30};

    return qed_derive(&h, file_size);
}

static const char *const names[] = {
    [QED_ENTRY_NONE] = "none",
    [QED_ENTRY_ZERO] = "zero",
    [QED_ENTRY_GOOD] = "good",
    [QED_ENTRY_RESERVED_VALUE] = "reserved",
    [QED_ENTRY_MISALIGNED] = "misaligned",
    [QED_ENTRY_IN_HEADER] = "in header",
    [QED_ENTRY_IN_L1] = "in L1",
    [QED_ENTRY_PARTIAL] = "partial",
    [QED_ENTRY_OUT_OF_FILE] = "out of file",
};

/* A word, and what it means in either table. */
static const struct {
    uint64_t entry;
    enum qed_entry_kind in_l1, in_l2;
} words[] = {
    {0,                  QED_ENTRY_NONE,           QED_ENTRY_NONE          },
    {1,                  QED_ENTRY_RESERVED_VALUE, QED_ENTRY_ZERO          },
    {2,                  QED_ENTRY_RESERVED_VALUE, QED_ENTRY_RESERVED_VALUE},
    {512,                QED_ENTRY_RESERVED_VALUE, QED_ENTRY_RESERVED_VALUE},
    {4095,               QED_ENTRY_RESERVED_VALUE, QED_ENTRY_RESERVED_VALUE},
    {4096,               QED_ENTRY_MISALIGNED,     QED_ENTRY_MISALIGNED    },
    {C - 1,              QED_ENTRY_MISALIGNED,     QED_ENTRY_MISALIGNED    },
 /* in the L1 table: a data entry there is good by itself, the usage map finds the overlap */
    {C,                  QED_ENTRY_IN_L1,          QED_ENTRY_GOOD          },
    {4 * C,              QED_ENTRY_IN_L1,          QED_ENTRY_GOOD          },
    {5 * C,              QED_ENTRY_GOOD,           QED_ENTRY_GOOD          },
    {5 * C + 1,          QED_ENTRY_MISALIGNED,     QED_ENTRY_MISALIGNED    },
    {5 * C + 512,        QED_ENTRY_MISALIGNED,     QED_ENTRY_MISALIGNED    },
    {5 * C + 4096,       QED_ENTRY_MISALIGNED,     QED_ENTRY_MISALIGNED    },
 /* a table needs four clusters, data one */
    {16 * C,             QED_ENTRY_GOOD,           QED_ENTRY_GOOD          },
    {17 * C,             QED_ENTRY_PARTIAL,        QED_ENTRY_GOOD          },
    {19 * C,             QED_ENTRY_PARTIAL,        QED_ENTRY_GOOD          },
 /* begins in the file and ends behind it */
    {20 * C,             QED_ENTRY_PARTIAL,        QED_ENTRY_PARTIAL       },
    {21 * C,             QED_ENTRY_OUT_OF_FILE,    QED_ENTRY_OUT_OF_FILE   },
    {(uint64_t)1 << 40,  QED_ENTRY_OUT_OF_FILE,    QED_ENTRY_OUT_OF_FILE   },
    {(uint64_t)1 << 63,  QED_ENTRY_OUT_OF_FILE,    QED_ENTRY_OUT_OF_FILE   },
 /* where the end of a table would wrap */
    {UINT64_MAX - C + 1, QED_ENTRY_OUT_OF_FILE,    QED_ENTRY_OUT_OF_FILE   },
    {UINT64_MAX,         QED_ENTRY_MISALIGNED,     QED_ENTRY_MISALIGNED    },
};

START_TEST(each_word_means_what_the_format_says)
{
    struct qed_geometry g = geometry(20 * C + 1000);

    for (size_t i = 0; i < VD_ARRAY_SIZE(words); i++) {
        enum qed_entry_kind l1 = qed_l1_entry_kind(&g, words[i].entry),
                            l2 = qed_l2_entry_kind(&g, words[i].entry);

        ck_assert_msg(l1 == words[i].in_l1, "0x%llx in an L1 table is '%s', expected '%s'",
                      (unsigned long long)words[i].entry, names[l1], names[words[i].in_l1]);
        ck_assert_msg(l2 == words[i].in_l2, "0x%llx in an L2 table is '%s', expected '%s'",
                      (unsigned long long)words[i].entry, names[l2], names[words[i].in_l2]);
    }
}
END_TEST

/* Not so a table: what is missing may have led to data. */
START_TEST(a_last_data_cluster_that_lacks_less_than_a_sector_is_there)
{
    struct qed_geometry g = geometry(20 * C);

    ck_assert_int_eq(qed_l1_entry_kind(&g, 16 * C), QED_ENTRY_GOOD);
    g = geometry(20 * C - 1);
    ck_assert_int_eq(qed_l1_entry_kind(&g, 16 * C), QED_ENTRY_PARTIAL);
    g = geometry(20 * C - 511);
    ck_assert_int_eq(qed_l2_entry_kind(&g, 19 * C), QED_ENTRY_GOOD);
    g = geometry(20 * C - 512);
    ck_assert_int_eq(qed_l2_entry_kind(&g, 19 * C), QED_ENTRY_PARTIAL);
    ck_assert_int_eq(qed_l1_entry_kind(&g, 16 * C), QED_ENTRY_PARTIAL);
    ck_assert_int_eq(qed_l1_entry_kind(&g, 15 * C), QED_ENTRY_GOOD);
}
END_TEST

START_TEST(a_large_header_area_is_out_of_bounds_for_entries)
{
    const struct qed_header h = {
        .magic = QED_MAGIC, .cluster_size = C, .table_size = 1, .header_size = 3, .l1_table_offset = 3 * C};
    struct qed_geometry g = qed_derive(&h, 10 * C);

    ck_assert_int_eq(qed_l2_entry_kind(&g, C), QED_ENTRY_IN_HEADER);
    ck_assert_int_eq(qed_l2_entry_kind(&g, 2 * C), QED_ENTRY_IN_HEADER);
    ck_assert_int_eq(qed_l1_entry_kind(&g, 2 * C), QED_ENTRY_IN_HEADER);
    ck_assert_int_eq(qed_l1_entry_kind(&g, 3 * C), QED_ENTRY_IN_L1);
    ck_assert_int_eq(qed_l1_entry_kind(&g, 4 * C), QED_ENTRY_GOOD);
    ck_assert_int_eq(qed_l1_entry_kind(&g, 9 * C), QED_ENTRY_GOOD);
}
END_TEST

START_TEST(with_the_smallest_clusters_every_reserved_value_is_reserved)
{
    const struct qed_header h = {
        .magic = QED_MAGIC, .cluster_size = 4096, .table_size = 1, .header_size = 1, .l1_table_offset = 4096};
    struct qed_geometry g = qed_derive(&h, 100 * 4096);

    for (uint64_t v = 2; v < 4096; v++)
        if (qed_l2_entry_kind(&g, v) != QED_ENTRY_RESERVED_VALUE ||
            qed_l1_entry_kind(&g, v) != QED_ENTRY_RESERVED_VALUE)
            ck_abort_msg("%llu", (unsigned long long)v);
    ck_assert_int_eq(qed_l2_entry_kind(&g, 4096), QED_ENTRY_GOOD);
    ck_assert_int_eq(qed_l2_entry_kind(&g, 4097), QED_ENTRY_MISALIGNED);
}
END_TEST

START_TEST(an_entry_has_its_guest_offset)
{
    struct qed_geometry g = geometry(20 * C);

    ck_assert_uint_eq(qed_slot_bytes(&g), (uint64_t)2 << 30);
    ck_assert_uint_eq(qed_guest(&g, 0, 0), 0);
    ck_assert_uint_eq(qed_guest(&g, 0, 32767), ((uint64_t)2 << 30) - C);
    ck_assert_uint_eq(qed_guest(&g, 1, 0), (uint64_t)2 << 30);
    ck_assert_uint_eq(qed_guest(&g, 32767, 32767), ((uint64_t)64 << 40) - C);
}
END_TEST

START_TEST(damage_is_mass_damage_above_eight_and_an_eighth)
{
    ck_assert(!qed_is_mass_damage(0, 0));
    ck_assert(!qed_is_mass_damage(8, 8));
    ck_assert(qed_is_mass_damage(9, 9));
    ck_assert(qed_is_mass_damage(9, 72));
    ck_assert(!qed_is_mass_damage(9, 73));
    ck_assert(qed_is_mass_damage(4096, 32768));
    ck_assert(!qed_is_mass_damage(4095, 32768));
}
END_TEST

UNIT_TESTS("qed entry", each_word_means_what_the_format_says,
           a_last_data_cluster_that_lacks_less_than_a_sector_is_there,
           a_large_header_area_is_out_of_bounds_for_entries,
           with_the_smallest_clusters_every_reserved_value_is_reserved, an_entry_has_its_guest_offset,
           damage_is_mass_damage_above_eight_and_an_eighth)
