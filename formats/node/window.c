/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/window.h"

#include <stdbool.h>

#include "formats/base/span.h"

enum { BLOCK = 512 }; /* words, 4 KiB: what one bad spot of a disk costs */

static bool holds(const struct vd_window *w, uint64_t table_off, uint64_t i)
{
    return w->n && w->table_off == table_off && i >= w->first && i - w->first < w->n;
}

/* Reads the words from a multiple of step on, as many. */
static int load(struct BlockDriverState *bs, struct vd_window *w, vd_read_words_fn *read, uint64_t table_off,
                uint64_t i, uint64_t step, uint64_t table_n, struct vd_err *err)
{
    uint64_t first = i / step * step, n = vd_min(step, table_n - first);
    int rc = read(bs, table_off, first, n, w->word, err);

    w->table_off = table_off;
    w->first = first;
    w->n = n;
    return rc;
}

int vd_window_get(struct BlockDriverState *bs, struct vd_window *w, vd_read_words_fn *read,
                  uint64_t table_off, uint64_t i, uint64_t table_n, uint64_t *word, struct vd_err *err)
{
    if (!holds(w, table_off, i)) {
        w->why = (struct vd_err)VD_ERR_INIT;
        if (load(bs, w, read, table_off, i, VD_WINDOW, table_n, &w->why) < 0) {
            w->why = (struct vd_err)VD_ERR_INIT;
            (void)load(bs, w, read, table_off, i, BLOCK, table_n, &w->why);
        }
    }
    if (w->why.kind == VD_ERR_NONE) {
        *word = w->word[i - w->first];
        return 0;
    }
    if (err)
        *err = w->why;
    return -1;
}
