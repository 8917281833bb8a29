/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Spans of bytes, and arithmetic on offsets that cannot wrap.
 *
 * Everything here takes numbers straight from an image: no result is ever the product of an overflow.
 */
#ifndef VD_BASE_SPAN_H
#define VD_BASE_SPAN_H

#include <stdbool.h>
#include <stdint.h>

/* The len bytes from off on; where they lie (in a file, on the guest's disk) is said by the variable's name.
 */
struct vd_span {
    uint64_t off;
    uint64_t len;
};

static inline bool vd_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool vd_mul(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* a + b, or the largest number where that overflows. */
static inline uint64_t vd_add_sat(uint64_t a, uint64_t b)
{
    uint64_t sum;

    return vd_add(a, b, &sum) ? sum : UINT64_MAX;
}

/* a * b, or the largest number where that overflows. */
static inline uint64_t vd_mul_sat(uint64_t a, uint64_t b)
{
    uint64_t product;

    return vd_mul(a, b, &product) ? product : UINT64_MAX;
}

/* Does the whole span lie below size? An empty span does if it begins at size or before. */
static inline bool vd_span_within(struct vd_span s, uint64_t size)
{
    return s.off <= size && s.len <= size - s.off;
}

/* The end of the span, saturated. */
static inline uint64_t vd_span_end(struct vd_span s)
{
    return vd_add_sat(s.off, s.len);
}

/* Have they a byte in common? An empty span has none. */
static inline bool vd_spans_meet(struct vd_span a, struct vd_span b)
{
    return a.len && b.len && a.off < vd_span_end(b) && b.off < vd_span_end(a);
}

/* align is a power of two in all of these. */
static inline uint64_t vd_align_down(uint64_t v, uint64_t align)
{
    return v & ~(align - 1);
}

static inline uint64_t vd_align_up_sat(uint64_t v, uint64_t align)
{
    return v > UINT64_MAX - (align - 1) ? vd_align_down(UINT64_MAX, align)
                                        : vd_align_down(v + align - 1, align);
}

static inline bool vd_is_aligned(uint64_t v, uint64_t align)
{
    return (v & (align - 1)) == 0;
}

static inline bool vd_is_power_of_2(uint64_t v)
{
    return v && (v & (v - 1)) == 0;
}

/* v / d, rounded up; d is not 0. */
static inline uint64_t vd_div_up(uint64_t v, uint64_t d)
{
    return v / d + (v % d != 0);
}

static inline uint64_t vd_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t vd_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* log2 of a power of two. */
static inline unsigned vd_log2(uint64_t v)
{
    return (unsigned)__builtin_ctzll(v);
}

#endif
