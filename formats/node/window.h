/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Words of a table, kept from the last read: what a guest asks for next is mostly beside it.
 */
#ifndef VD_WINDOW_H
#define VD_WINDOW_H

#include <stdint.h>

#include "formats/base/err.h"

struct BlockDriverState;

enum { VD_WINDOW = 4096 };

/* Zeroed, or with n = 0, it holds nothing. */
struct vd_window {
    uint64_t table_off;
    uint64_t first;
    uint64_t n;
    struct vd_err why; /* these words cannot be read: known, and not tried again for each of them */
    uint64_t word[VD_WINDOW];
};

/* Reads words [first, first + n) of the table at an offset of the file, into host order. */
typedef int vd_read_words_fn(struct BlockDriverState *bs, uint64_t table_off, uint64_t first, uint64_t n,
                             uint64_t *word, struct vd_err *err);

/* The word i of a table of table_n words, read by that function where the window does not hold it. Of a
 * window that cannot be read as a whole, the 4 KiB around the word are tried. */
int vd_window_get(struct BlockDriverState *bs, struct vd_window *w, vd_read_words_fn *read,
                  uint64_t table_off, uint64_t i, uint64_t table_n, uint64_t *word, struct vd_err *err);

#endif
