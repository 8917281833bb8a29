/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/span.h"

#include "tests/unit/unit.h"

static struct vd_span span(uint64_t off, uint64_t len)
{
    return (struct vd_span){off, len};
}

START_TEST(sums_and_products_that_overflow_say_so)
{
    uint64_t v;

    ck_assert(vd_add(UINT64_MAX - 1, 1, &v) && v == UINT64_MAX);
    ck_assert(!vd_add(UINT64_MAX, 1, &v));
    ck_assert(vd_mul((uint64_t)1 << 32, ((uint64_t)1 << 32) - 1, &v) && v == UINT64_MAX - 0xffffffff);
    ck_assert(!vd_mul((uint64_t)1 << 32, (uint64_t)1 << 32, &v));
    ck_assert(vd_mul(0, UINT64_MAX, &v) && v == 0);
}
END_TEST

START_TEST(saturating_arithmetic_ends_at_the_largest_number)
{
    ck_assert_uint_eq(vd_add_sat(UINT64_MAX - 1, 1), UINT64_MAX);
    ck_assert_uint_eq(vd_add_sat(UINT64_MAX, UINT64_MAX), UINT64_MAX);
    ck_assert_uint_eq(vd_add_sat(2, 3), 5);
    ck_assert_uint_eq(vd_mul_sat((uint64_t)1 << 63, 2), UINT64_MAX);
    ck_assert_uint_eq(vd_mul_sat(6, 7), 42);
    ck_assert_uint_eq(vd_span_end(span(UINT64_MAX - 5, 10)), UINT64_MAX);
    ck_assert_uint_eq(vd_span_end(span(5, 10)), 15);
}
END_TEST

START_TEST(a_span_is_within_a_size_only_as_a_whole)
{
    ck_assert(vd_span_within(span(0, 100), 100));
    ck_assert(vd_span_within(span(99, 1), 100));
    ck_assert(!vd_span_within(span(99, 2), 100));
    ck_assert(!vd_span_within(span(100, 1), 100));
    ck_assert(vd_span_within(span(100, 0), 100));
    ck_assert(!vd_span_within(span(101, 0), 100));
    ck_assert(!vd_span_within(span(UINT64_MAX, 2), 100));
    ck_assert(!vd_span_within(span(1, UINT64_MAX), UINT64_MAX));
    ck_assert(vd_span_within(span(1, UINT64_MAX - 1), UINT64_MAX));
}
END_TEST

START_TEST(spans_meet_where_they_have_a_byte_in_common)
{
    ck_assert(vd_spans_meet(span(0, 10), span(9, 1)));
    ck_assert(!vd_spans_meet(span(0, 10), span(10, 1)));
    ck_assert(!vd_spans_meet(span(10, 1), span(0, 10)));
    ck_assert(vd_spans_meet(span(0, 100), span(40, 2)));
    ck_assert(vd_spans_meet(span(40, 2), span(0, 100)));
    ck_assert(vd_spans_meet(span(UINT64_MAX - 10, 100), span(UINT64_MAX - 2, 1)));
    ck_assert(!vd_spans_meet(span(0, 10), span(UINT64_MAX, 1)));
}
END_TEST

START_TEST(an_empty_span_meets_nothing)
{
    ck_assert(!vd_spans_meet(span(5, 0), span(0, 10)));
    ck_assert(!vd_spans_meet(span(0, 10), span(5, 0)));
    ck_assert(!vd_spans_meet(span(5, 0), span(5, 0)));
}
END_TEST

START_TEST(alignment_is_exact_up_to_the_largest_number)
{
    ck_assert_uint_eq(vd_align_down(4095, 4096), 0);
    ck_assert_uint_eq(vd_align_down(4096, 4096), 4096);
    ck_assert_uint_eq(vd_align_up_sat(0, 4096), 0);
    ck_assert_uint_eq(vd_align_up_sat(1, 4096), 4096);
    ck_assert_uint_eq(vd_align_up_sat(4096, 4096), 4096);
    ck_assert_uint_eq(vd_align_up_sat(UINT64_MAX, 4096), UINT64_MAX - 4095);
    ck_assert_uint_eq(vd_align_up_sat(UINT64_MAX - 4095, 4096), UINT64_MAX - 4095);
    ck_assert_uint_eq(vd_align_up_sat(UINT64_MAX - 4096, 4096), UINT64_MAX - 4095);
    ck_assert_uint_eq(vd_align_up_sat(77, 1), 77);
    ck_assert(vd_is_aligned(0, 512) && vd_is_aligned(1024, 512) && !vd_is_aligned(1023, 512));
}
END_TEST

START_TEST(powers_and_quotients_at_their_edges)
{
    ck_assert(!vd_is_power_of_2(0));
    ck_assert(vd_is_power_of_2(1) && vd_is_power_of_2((uint64_t)1 << 63));
    ck_assert(!vd_is_power_of_2(3) && !vd_is_power_of_2(UINT64_MAX));
    ck_assert_uint_eq(vd_log2(1), 0);
    ck_assert_uint_eq(vd_log2((uint64_t)1 << 63), 63);
    ck_assert_uint_eq(vd_div_up(0, 7), 0);
    ck_assert_uint_eq(vd_div_up(7, 7), 1);
    ck_assert_uint_eq(vd_div_up(8, 7), 2);
    ck_assert_uint_eq(vd_div_up(UINT64_MAX, 2), (uint64_t)1 << 63);
    ck_assert_uint_eq(vd_min(3, UINT64_MAX), 3);
    ck_assert_uint_eq(vd_max(3, UINT64_MAX), UINT64_MAX);
}
END_TEST

UNIT_TESTS("span", sums_and_products_that_overflow_say_so, saturating_arithmetic_ends_at_the_largest_number,
           a_span_is_within_a_size_only_as_a_whole, spans_meet_where_they_have_a_byte_in_common,
           an_empty_span_meets_nothing, alignment_is_exact_up_to_the_largest_number,
           powers_and_quotients_at_their_edges)
