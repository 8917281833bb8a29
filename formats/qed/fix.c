/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One small function per repair. Each writes through the check's image (an overlay, in a repair), marks the
 * check as changed, and touches nothing that the finding does not name. New clusters are appended, for QED
 * has no free list, and the old ones may be the last copy of something.
 */
#include "formats/qed/qed.h"

#include <stdlib.h>

#include "formats/base/bytes.h"

/* Unknown autoclear bits must be gone before anything else is written. */
static int before_write(struct vd_check *ck, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;

    ck->has_changed = true;
    if (!qed->header.autoclear_features)
        return 0;
    return qed_write_header(ck->bs, &qed->header, VD_STAGE_NEW, err);
}

int qed_fix_header(struct vd_check *ck, const struct qed_header *header, enum vd_stage stage,
                   struct vd_err *err)
{
    ck->has_changed = true;
    return qed_write_header(ck->bs, header, stage, err);
}

static int write_entry(struct vd_check *ck, uint64_t off, uint64_t value, enum vd_stage stage,
                       struct vd_err *err)
{
    uint8_t word[8];

    if (before_write(ck, err) < 0)
        return -1;
    vd_put_le64(word, value);
    return bdrv_pwrite(ck->bs->file, (int64_t)off, sizeof(word), word, stage, err);
}

int qed_fix_l1_entry(struct vd_check *ck, uint64_t slot, uint64_t value, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;

    return write_entry(ck, qed->g.l1_off + 8 * slot, value, VD_STAGE_ROOT, err);
}

int qed_fix_l2_entry(struct vd_check *ck, uint64_t table_off, uint64_t i, uint64_t value, struct vd_err *err)
{
    return write_entry(ck, table_off + 8 * i, value, VD_STAGE_TABLE, err);
}

static int set_length(struct vd_check *ck, uint64_t length, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;

    if (before_write(ck, err) < 0 || bdrv_truncate(ck->bs->file, (int64_t)length, err) < 0)
        return -1;
    qed->g = qed_derive(&qed->header, length);
    return 0;
}

int qed_fix_cut(struct vd_check *ck, uint64_t length, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;

    return length < qed->g.file_size ? set_length(ck, length, err) : 0;
}

int qed_fix_extend(struct vd_check *ck, uint64_t length, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;

    return length > qed->g.file_size ? set_length(ck, length, err) : 0;
}

uint64_t qed_append_room(struct vd_check *ck)
{
    struct qed *qed = ck->bs->opaque;

    if (!bdrv_is_fixed_length(ck->bs))
        return UINT64_MAX;
    return qed->g.file_end - vd_min(qed->g.file_end, vd_max(qed->alloc_end, ck->image_end));
}

/* Makes room for bytes behind the last cluster: the file grows by zeroes; on a device its free end is used.
 */
static int append(struct vd_check *ck, uint64_t bytes, uint64_t *off, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;

    if (!bdrv_is_fixed_length(ck->bs)) {
        *off = vd_align_up_sat(qed->g.file_size, qed->g.cluster_size);
        return qed_fix_extend(ck, *off + bytes, err);
    }
    if (bytes > qed_append_room(ck))
        return vd_fail(err, VD_ERR_REFUSED, 0, "%s: the device has no room behind the last cluster",
                       ck->bs->filename);
    *off = vd_max(qed->alloc_end, ck->image_end);
    qed->alloc_end = *off + bytes;
    return before_write(ck, err) < 0
               ? -1
               : bdrv_pwrite_zeroes(ck->bs->file, (int64_t)*off, (int64_t)bytes, VD_STAGE_NEW, err);
}

int qed_fix_clone_cluster(struct vd_check *ck, uint64_t table_off, uint64_t i, uint64_t cluster,
                          struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    uint64_t copy;

    if (append(ck, qed->g.cluster_size, &copy, err) < 0 ||
        vd_copy_bytes(ck, cluster, copy, qed->g.cluster_size, err) < 0)
        return -1;
    return qed_fix_l2_entry(ck, table_off, i, copy, err);
}

static int clone_table_window(struct vd_check *ck, uint64_t from, uint64_t to, uint64_t first, uint64_t n,
                              uint64_t *entry, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;

    if (qed_read_entries(ck->bs, from, first, n, entry, err) < 0)
        return -1;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t copy = entry[i];

        if (qed_l2_entry_kind(&qed->g, entry[i]) == QED_ENTRY_GOOD &&
            (append(ck, qed->g.cluster_size, &copy, err) < 0 ||
             vd_copy_bytes(ck, entry[i], copy, qed->g.cluster_size, err) < 0))
            return -1;
        vd_put_le64(&entry[i], copy);
    }
    return bdrv_pwrite(ck->bs->file, (int64_t)(to + 8 * first), (int64_t)(8 * n), entry, VD_STAGE_TABLE, err);
}

int qed_fix_clone_table(struct vd_check *ck, uint64_t slot, uint64_t table_off, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    vd_auto_mem uint64_t *entry = malloc(VD_WINDOW * sizeof(*entry));
    uint64_t copy;

    if (!entry)
        return vd_fail_memory(err);
    if (append(ck, qed->g.table_bytes, &copy, err) < 0)
        return -1;
    for (uint64_t first = 0; first < qed->g.table_n; first += VD_WINDOW)
        if (clone_table_window(ck, table_off, copy, first, vd_min(VD_WINDOW, qed->g.table_n - first), entry,
                               err) < 0)
            return -1;
    return qed_fix_l1_entry(ck, slot, copy, err);
}
