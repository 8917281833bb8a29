/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/window.h"

#include "formats/base/span.h"

int vd_window_get(struct BlockDriverState *bs, struct vd_window *w, vd_read_words_fn *read,
                  uint64_t table_off, uint64_t i, uint64_t table_n, uint64_t *word, struct vd_err *err)
{
    if (!w->n || w->table_off != table_off || i < w->first || i - w->first >= w->n) {
        uint64_t first = i / VD_WINDOW * VD_WINDOW, n = vd_min(VD_WINDOW, table_n - first);

        w->n = 0;
        if (read(bs, table_off, first, n, w->word, err) < 0)
            return -1;
        w->table_off = table_off;
        w->first = first;
        w->n = n;
    }
    *word = w->word[i - w->first];
    return 0;
}
