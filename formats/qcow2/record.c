/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Records of any length, read through a window; numbers patched in place; extensions taken out of the header.
 *
 * The snapshot table and the bitmap directory are rows of records whose lengths stand in the records
 * themselves, so they are read a window at a time and never as a whole.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

enum { PIECE = 16 << 10 };

int qcow2_record_at(struct BlockDriverState *bs, struct qcow2_record_window *w, uint64_t off, uint64_t len,
                    const uint8_t **bytes, struct vd_err *err)
{
    assert(len <= QCOW2_RECORD_WINDOW && off <= INT64_MAX - QCOW2_RECORD_WINDOW);
    if (!w->bytes)
        w->bytes = malloc(QCOW2_RECORD_WINDOW);
    if (!w->bytes)
        return vd_fail_memory(err);
    if (w->n == 0 || off < w->off || off - w->off > w->n || len > w->n - (off - w->off)) {
        uint64_t n = vd_max(len, PIECE);

        w->n = 0;
        if (bdrv_pread_padded(bs->file, (int64_t)off, (int64_t)n, w->bytes, err) < 0)
            return -1;
        w->off = off;
        w->n = n;
    }
    *bytes = w->bytes + (off - w->off);
    return 0;
}

void qcow2_record_window_done(struct qcow2_record_window *w)
{
    free(w->bytes);
    *w = (struct qcow2_record_window){0};
}

int qcow2_patch(struct vd_check *ck, uint64_t off, unsigned bytes, uint64_t value, enum vd_stage stage,
                struct vd_err *err)
{
    uint8_t word[8];

    ck->has_changed = true;
    if (qcow2_clear_unknown_autoclear(ck->bs, err) < 0)
        return -1;
    vd_put_be64(word, value << (64 - 8 * bytes));
    return bdrv_pwrite(ck->bs->file, (int64_t)off, bytes, word, stage, err);
}

int qcow2_drop_extension(struct vd_check *ck, const struct qcow2_extension *ext, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t from = ext->off - 8, next = vd_min(ext->off + vd_align_up_sat(ext->len, 8), q->ext.end);
    uint64_t len = q->ext.end - from, gap = next - from;
    vd_auto_mem uint8_t *bytes = malloc(len);

    ck->has_changed = true;
    if (!bytes)
        return vd_fail_memory(err);
    if (qcow2_clear_unknown_autoclear(ck->bs, err) < 0 ||
        bdrv_pread_padded(ck->bs->file, (int64_t)from, (int64_t)len, bytes, err) < 0)
        return vd_while(err, "header extensions");
    memmove(bytes, bytes + gap, len - gap);
    memset(bytes + (len - gap), 0, gap);
    return bdrv_pwrite(ck->bs->file, (int64_t)from, (int64_t)len, bytes, VD_STAGE_ROOT, err);
}

int qcow2_free_own(struct vd_check *ck, struct vd_span host, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t at = vd_align_down(host.off, q->g.cluster_size);

    for (; host.len && at < vd_span_end(host); at += q->g.cluster_size) {
        uint64_t stored;

        if (vd_refs_at(ck, at).count != 1)
            continue;
        if (qcow2_read_counts(ck->bs, at >> q->g.cluster_bits, 1, &stored, err) < 0 ||
            (stored && qcow2_fix_counts(ck, at >> q->g.cluster_bits, 1, 0, err) < 0))
            return -1;
    }
    return 0;
}
