/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/bytes.h"

#include "tests/unit/unit.h"

START_TEST(integers_are_read_in_their_byte_order_at_any_alignment)
{
    static const uint8_t b[] = {0xff, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x88, 0xff};

    ck_assert_uint_eq(vd_get_le16(b + 1), 0x0201);
    ck_assert_uint_eq(vd_get_be16(b + 1), 0x0102);
    ck_assert_uint_eq(vd_get_le32(b + 1), 0x04030201);
    ck_assert_uint_eq(vd_get_be32(b + 1), 0x01020304);
    ck_assert_uint_eq(vd_get_le64(b + 1), 0x8807060504030201);
    ck_assert_uint_eq(vd_get_be64(b + 1), 0x0102030405060788);
}
END_TEST

START_TEST(integers_are_written_in_their_byte_order_and_nothing_beside)
{
    uint8_t b[10];

    memset(b, 0xee, sizeof(b));
    vd_put_le64(b + 1, 0x8807060504030201);
    ck_assert_mem_eq(b, "\xee\x01\x02\x03\x04\x05\x06\x07\x88\xee", 10);
    vd_put_be64(b + 1, 0x8807060504030201);
    ck_assert_mem_eq(b, "\xee\x88\x07\x06\x05\x04\x03\x02\x01\xee", 10);
    memset(b, 0xee, sizeof(b));
    vd_put_le32(b + 3, 0xa1b2c3d4);
    ck_assert_mem_eq(b, "\xee\xee\xee\xd4\xc3\xb2\xa1\xee\xee\xee", 10);
    vd_put_be32(b + 3, 0xa1b2c3d4);
    ck_assert_mem_eq(b, "\xee\xee\xee\xa1\xb2\xc3\xd4\xee\xee\xee", 10);
    memset(b, 0xee, sizeof(b));
    vd_put_le16(b + 5, 0xa1b2);
    vd_put_be16(b + 7, 0xa1b2);
    ck_assert_mem_eq(b, "\xee\xee\xee\xee\xee\xb2\xa1\xa1\xb2\xee", 10);
}
END_TEST

START_TEST(zeroes_are_zeroes_to_the_last_byte)
{
    uint8_t b[4097] = {0};

    ck_assert(vd_is_zero(b, 0));
    ck_assert(vd_is_zero(b, 1));
    ck_assert(vd_is_zero(b, sizeof(b)));
    for (size_t i = 0; i < sizeof(b); i += 64) {
        b[i] = 1;
        ck_assert(!vd_is_zero(b, sizeof(b)));
        ck_assert(vd_is_zero(b, i));
        ck_assert(vd_is_zero(b + i + 1, sizeof(b) - i - 1));
        b[i] = 0;
    }
}
END_TEST

UNIT_TESTS("bytes", integers_are_read_in_their_byte_order_at_any_alignment,
           integers_are_written_in_their_byte_order_and_nothing_beside, zeroes_are_zeroes_to_the_last_byte)
