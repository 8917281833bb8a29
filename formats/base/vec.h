/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A growing array for one element type.
 *
 * VD_VEC(name, T) defines `struct name { T *v; size_t n, cap; }`, name_push() and name_done(). The elements
 * are v[0] to v[n - 1] and are read directly; only push may fail, for want of memory (-1, nothing changed). A
 * zeroed struct is an empty vector.
 */
#ifndef VD_BASE_VEC_H
#define VD_BASE_VEC_H

#include <stdint.h>
#include <stdlib.h>

/* Makes room for one more element of size bytes; 0 or -1. */
static inline int vd_vec_grow(void **v, size_t n, size_t *cap, size_t size)
{
    size_t want = *cap ? *cap + *cap / 2 + 1 : 16;
    void *grown;

    if (n < *cap)
        return 0;
    grown = want > SIZE_MAX / size ? NULL : realloc(*v, want * size);
    if (!grown)
        return -1;
    *v = grown;
    *cap = want;
    return 0;
}

#define VD_VEC(name, T)                                                                                      \
    struct name {                                                                                            \
        T *v;                                                                                                \
        size_t n, cap;                                                                                       \
    };                                                                                                       \
    static inline __attribute__((unused)) int name##_push(struct name *vec, T item)                          \
    {                                                                                                        \
        void *v = vec->v;                                                                                    \
        if (vd_vec_grow(&v, vec->n, &vec->cap, sizeof(T)) < 0)                                               \
            return -1;                                                                                       \
        vec->v = v;                                                                                          \
        vec->v[vec->n++] = item;                                                                             \
        return 0;                                                                                            \
    }                                                                                                        \
    static inline __attribute__((unused)) void name##_done(struct name *vec)                                 \
    {                                                                                                        \
        free(vec->v);                                                                                        \
        vec->v = NULL;                                                                                       \
        vec->n = vec->cap = 0;                                                                               \
    }

#endif
