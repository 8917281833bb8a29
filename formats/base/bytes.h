/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Integers of a stated byte order, read from and written to plain bytes at any alignment.
 */
#ifndef VD_BASE_BYTES_H
#define VD_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define VD_DEFINE_BYTES(bits, order, load, store)                                                            \
    static inline uint##bits##_t vd_get_##order##bits(const void *p)                                         \
    {                                                                                                        \
        uint##bits##_t v;                                                                                    \
        memcpy(&v, p, sizeof(v));                                                                            \
        return load(v);                                                                                      \
    }                                                                                                        \
    static inline void vd_put_##order##bits(void *p, uint##bits##_t v)                                       \
    {                                                                                                        \
        v = store(v);                                                                                        \
        memcpy(p, &v, sizeof(v));                                                                            \
    }

VD_DEFINE_BYTES(16, le, le16toh, htole16)
VD_DEFINE_BYTES(32, le, le32toh, htole32)
VD_DEFINE_BYTES(64, le, le64toh, htole64)
VD_DEFINE_BYTES(16, be, be16toh, htobe16)
VD_DEFINE_BYTES(32, be, be32toh, htobe32)
VD_DEFINE_BYTES(64, be, be64toh, htobe64)

#undef VD_DEFINE_BYTES

/* Are all len bytes zero? */
static inline int vd_is_zero(const void *p, size_t len)
{
    const uint8_t *b = p;

    if (len == 0)
        return 1;
    return b[0] == 0 && memcmp(b, b + 1, len - 1) == 0;
}

#endif
