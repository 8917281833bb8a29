/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ownership that ends with the scope.
 *
 * A variable declared with vd_auto(type) frees what it holds when its scope is left, by whatever path.
 * Ownership moves on only where vd_take() stands. Each type says once, with VD_DEFINE_AUTO, how it is freed.
 */
#ifndef VD_BASE_AUTO_H
#define VD_BASE_AUTO_H

#include <stdlib.h>

/* Teaches vd_auto() to free a `struct type *` with free_fn, which is not called for NULL. */
#define VD_DEFINE_AUTO(type, free_fn)                                                                        \
    static inline void type##_auto_free(struct type **p)                                                     \
    {                                                                                                        \
        if (*p)                                                                                              \
            free_fn(*p);                                                                                     \
    }

/* `vd_auto(vd_usemap) map = ...;` declares a pointer that its scope owns. */
#define vd_auto(type) __attribute__((cleanup(type##_auto_free))) struct type *

static inline void vd_free_auto(void *p)
{
    free(*(void **)p);
}

/* `vd_auto_mem char *s = ...;` declares malloc'd memory that its scope owns. */
#define vd_auto_mem __attribute__((cleanup(vd_free_auto)))

/* Takes the pointer out of *pp, so that the scope that held it no longer owns it. */
#define vd_take(pp)                                                                                          \
    __extension__({                                                                                          \
        __typeof__(*(pp)) vd_taken_ = *(pp);                                                                 \
        *(pp) = NULL;                                                                                        \
        vd_taken_;                                                                                           \
    })

#define VD_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#endif
