/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/layout.h"

#include "formats/base/auto.h"
#include "tests/unit/unit.h"

/* Every encoding, with a gap at 2 and bytes behind the last field that no row covers. */
#define SAMPLE(F)                                                                                            \
    F(LE16, 0, small)                                                                                        \
    F(BE16, 4, big_small)                                                                                    \
    F(LE32, 6, middle)                                                                                       \
    F(BE32, 10, big_middle)                                                                                  \
    F(LE64, 14, large)                                                                                       \
    F(BE64, 22, big_large)

VD_DECLARE_LAYOUT(sample, SAMPLE)
#define VD_LAYOUT_TYPE sample
VD_DEFINE_LAYOUT(sample, SAMPLE, 32)

static const uint8_t bytes[32] = {0x02, 0x01, 0xaa, 0xbb, 0x03, 0x04, 0x08, 0x07, 0x06, 0x05, 0x09,
                                  0x0a, 0x0b, 0x0c, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
                                  0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0xa6, 0x97, 0x88, 0xcc, 0xdd};

START_TEST(each_encoding_is_decoded_into_host_order)
{
    struct sample s;

    vd_decode(&sample_layout, bytes, &s);
    ck_assert_uint_eq(s.small, 0x0102);
    ck_assert_uint_eq(s.big_small, 0x0304);
    ck_assert_uint_eq(s.middle, 0x05060708);
    ck_assert_uint_eq(s.big_middle, 0x090a0b0c);
    ck_assert_uint_eq(s.large, 0x1122334455667788);
    ck_assert_uint_eq(s.big_large, 0xf1e2d3c4b5a69788);
}
END_TEST

START_TEST(encoding_what_was_decoded_gives_the_same_bytes)
{
    uint8_t again[32];
    struct sample s;

    memcpy(again, bytes, sizeof(again));
    memset(again, 0, 2);
    memset(again + 4, 0, 26);
    vd_decode(&sample_layout, bytes, &s);
    vd_encode(&sample_layout, &s, again);
    ck_assert_mem_eq(again, bytes, sizeof(bytes));
}
END_TEST

START_TEST(bytes_that_no_row_covers_stay)
{
    struct sample zero = {0};
    uint8_t b[32];

    memset(b, 0x5a, sizeof(b));
    vd_encode(&sample_layout, &zero, b);
    ck_assert_mem_eq(b + 2, "\x5a\x5a", 2);
    ck_assert_mem_eq(b + 30, "\x5a\x5a", 2);
    for (size_t i = 4; i < 30; i++)
        ck_assert_uint_eq(b[i], 0);
}
END_TEST

START_TEST(a_field_is_found_by_its_name)
{
    const struct vd_field *field = vd_layout_find(&sample_layout, "big_middle");
    struct sample s;

    ck_assert_ptr_nonnull(field);
    ck_assert_uint_eq(field->offset, 10);
    ck_assert_uint_eq(vd_field_bytes(field), 4);
    vd_decode(&sample_layout, bytes, &s);
    ck_assert_uint_eq(vd_field_get(field, &s), 0x090a0b0c);
    ck_assert_ptr_null(vd_layout_find(&sample_layout, "big"));
    ck_assert_ptr_null(vd_layout_find(&sample_layout, ""));
}
END_TEST

START_TEST(every_field_has_its_width_and_lies_in_the_record)
{
    static const unsigned width[] = {2, 2, 4, 4, 8, 8};

    ck_assert_uint_eq(sample_layout.n, VD_ARRAY_SIZE(width));
    ck_assert_str_eq(sample_layout.name, "sample");
    for (size_t i = 0; i < sample_layout.n; i++) {
        ck_assert_uint_eq(vd_field_bytes(&sample_layout.fields[i]), width[i]);
        ck_assert_uint_le(sample_layout.fields[i].offset + width[i], sample_layout.disk_size);
    }
}
END_TEST

UNIT_TESTS("layout", each_encoding_is_decoded_into_host_order, encoding_what_was_decoded_gives_the_same_bytes,
           bytes_that_no_row_covers_stay, a_field_is_found_by_its_name,
           every_field_has_its_width_and_lies_in_the_record)
