/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The snapshot table written anew, in new clusters, with entries that are complete: for a table that
 * something else claims too, and for entries without the size of the disk.
 *
 * What an entry has beyond what is added stays as it is, also extra data that is not known.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

enum { FIELD_EXTRA_SIZE = 36, FULL_EXTRA = 16 /* the sizes of VM state and disk */ };

static uint32_t extra_of(const struct qcow2 *q, const struct qcow2_snapshot *sn)
{
    return q->g.version != 2 && sn->extra_bytes < FULL_EXTRA ? FULL_EXTRA : sn->extra_bytes;
}

static uint64_t new_bytes(const struct qcow2 *q, const struct qcow2_snapshots *s)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < s->list.n; i++)
        bytes = vd_align_up_sat(bytes, 8) + s->list.v[i].entry_bytes + extra_of(q, &s->list.v[i]) -
                s->list.v[i].extra_bytes;
    return bytes;
}

/* Copies one entry to `to`; *bytes is what it takes there. */
static int copy_entry(struct BlockDriverState *bs, struct qcow2_record_window *w,
                      const struct qcow2_snapshot *sn, uint8_t *to, uint64_t *bytes, struct vd_err *err)
{
    uint32_t extra = extra_of(bs->opaque, sn);
    uint64_t head = QCOW2_SNAPSHOT_BYTES + sn->extra_bytes;
    const uint8_t *from;

    if (qcow2_record_at(bs, w, sn->entry_off, sn->entry_bytes, &from, err) < 0)
        return -1;
    memcpy(to, from, head);
    vd_put_be32(to + FIELD_EXTRA_SIZE, extra);
    if (extra >= FULL_EXTRA) {
        vd_put_be64(to + QCOW2_SNAPSHOT_BYTES, sn->vm_state_size);
        vd_put_be64(to + QCOW2_SNAPSHOT_BYTES + 8, sn->disk_size);
    }
    memcpy(to + QCOW2_SNAPSHOT_BYTES + extra, from + head, sn->entry_bytes - head);
    *bytes = sn->entry_bytes + extra - sn->extra_bytes;
    return 0;
}

static int write_table(struct vd_check *ck, const struct qcow2_snapshots *s, uint8_t *table, uint64_t len,
                       struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header fixed = q->header;
    struct qcow2_record_window w = {0};
    uint64_t at = 0, bytes = 0, off = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < s->list.n; i++) {
        at = vd_align_up_sat(at + bytes, 8);
        rc = copy_entry(ck->bs, &w, &s->list.v[i], table + at, &bytes, err);
    }
    qcow2_record_window_done(&w);
    if (rc < 0 || qcow2_append(ck, vd_div_up(len, q->g.cluster_size), &off, err) < 0 ||
        bdrv_pwrite(ck->bs->file, (int64_t)off, (int64_t)len, table, VD_STAGE_NEW, err) < 0)
        return -1;
    fixed.snapshots_offset = off;
    return qcow2_fix_fields(ck, &fixed, "snapshots_offset", "snapshots_offset", VD_STAGE_ROOT, err);
}

int qcow2_judge_snapshot_table(struct vd_check *ck, const struct qcow2_snapshots *s,
                               enum qcow2_finding finding, uint64_t host, uint64_t found, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t len = new_bytes(q, s);
    bool can = !s->is_cut && len <= QCOW2_MAX_SNAPSHOT_TABLE && qcow2_can_append(ck);
    vd_auto_mem uint8_t *table = NULL;
    int rc;

    if (vd_found(ck, finding, .host = host, .found = found, .level = can ? VD_LEVEL_SAFE : VD_LEVEL_NONE) ==
            VD_LEAVE ||
        q->header.snapshots_offset != s->table_off ||
        ck->has_changed) /* a next round will see what is left */
        return 0;
    if (vd_budget_take(ck->budget, len, "a new snapshot table", err) < 0)
        return -1;
    table = calloc(1, len);
    rc = table ? write_table(ck, s, table, len, err) : vd_fail_memory(err);
    vd_budget_give(ck->budget, len);
    return rc < 0 ? -1 : qcow2_free_own(ck, (struct vd_span){s->table_off, s->table_bytes}, err);
}
