/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing the mapping of an image that is written to.
 *
 * An L2 table that belongs to the active L1 table alone is changed in place, whole sectors at a time, so that
 * a torn write leaves every entry old or new. One that is missing or shared with a snapshot is first written
 * anew as the guest reads it, and the L1 table turns to it; the change follows. So a power cut leaves no
 * table that names data of its own and that no L1 entry leads to: such a table is proof of damage.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/live.h"

int qcow2_judge_l1(struct BlockDriverState *bs, uint64_t slot, uint64_t word, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    unsigned faults = qcow2_l1_faults(&q->g, word);

    if (!(faults & ~(unsigned)QCOW2_F_PARTIAL_TAIL))
        return 0;
    return vd_fail(err, VD_ERR_FORMAT, EIO,
                   "%s: L1[%" PRIu64 "] at 0x%" PRIx64 " is 0x%" PRIx64
                   ", expected the offset of an L2 table in the file",
                   bs->filename, slot, q->g.l1_off + 8 * slot, word);
}

int qcow2_lookup_sound(struct BlockDriverState *bs, uint64_t guest, struct qcow2_entry *entry,
                       uint64_t *table_off, uint64_t *index, struct vd_err *err)
{
    if (qcow2_lookup(bs, guest, entry, table_off, index, err) < 0)
        return -1;
    if (!(entry->faults & ~(unsigned)QCOW2_F_ODD))
        return 0;
    return vd_fail(err, VD_ERR_FORMAT, EIO,
                   "%s: the L2 entry of guest offset 0x%" PRIx64
                   " is damaged; check and repair the image before writing there",
                   bs->filename, guest);
}

int qcow2_refresh(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    int64_t len = bdrv_getlength(bs->file, err);

    q->l1.n = q->l2.n = q->inflated.len = 0;
    if (len < 0)
        return -1;
    q->g = qcow2_derive(&q->header, (uint64_t)len);
    return 0;
}

int qcow2_release_entry(struct BlockDriverState *bs, const struct qcow2_entry *entry, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct vd_span touched;

    if (!entry->host || q->g.has_data_file)
        return 0;
    if (entry->type != QCOW2_PACKED)
        return qcow2_release(bs, entry->host, 1, err);
    touched = qcow2_touched(&q->g, entry);
    return qcow2_release(bs, touched.off, touched.len >> q->g.cluster_bits, err);
}

/* The entries as they stand in a table. */
static void encode(const struct qcow2_geometry *g, uint64_t n, const struct qcow2_words *words,
                   uint8_t *bytes)
{
    for (uint64_t i = 0; i < n; i++) {
        vd_put_be64(bytes + i * g->entry_bytes, words[i].word);
        if (g->has_extended_l2)
            vd_put_be64(bytes + i * g->entry_bytes + 8, words[i].bitmap);
    }
}

static int change_table(struct BlockDriverState *bs, uint64_t table_off, uint64_t index, uint64_t n,
                        const struct qcow2_words *words, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t bytes = q->g.entry_bytes, from = vd_align_down(bytes * index, QCOW2_SECTOR),
             to = vd_align_up_sat(bytes * (index + n), QCOW2_SECTOR);
    vd_auto_mem uint8_t *sectors = malloc(to - from);

    if (!sectors)
        return vd_fail_memory(err);
    if (qcow2_check_owned(bs, table_off, 1, true, err) < 0 ||
        bdrv_pread_padded(bs->file, (int64_t)(table_off + from), (int64_t)(to - from), sectors, err) < 0 ||
        qcow2_live_flush(bs, err) < 0)
        return -1;
    encode(&q->g, n, words, sectors + bytes * index - from);
    return bdrv_pwrite(bs->file, (int64_t)(table_off + from), (int64_t)(to - from), sectors, VD_STAGE_TABLE,
                       err);
}

static int write_l1(struct BlockDriverState *bs, uint64_t slot, uint64_t word, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint8_t bytes[8];

    vd_put_be64(bytes, word);
    return bdrv_pwrite(bs->file, (int64_t)(q->g.l1_off + 8 * slot), 8, bytes, VD_STAGE_ROOT, err);
}

/* old_off: of the shared table that it is a copy of; 0: of none, and it is empty. */
static int new_table(struct BlockDriverState *bs, uint64_t slot, uint64_t old_off, uint64_t *new_off,
                     struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct vd_runs *tables = &q->live->tables;
    uint64_t cs = q->g.cluster_size, got;
    vd_auto_mem uint8_t *table = calloc(1, cs);

    if (!table)
        return vd_fail_memory(err);
    if ((old_off && bdrv_pread_padded(bs->file, (int64_t)old_off, (int64_t)cs, table, err) < 0) ||
        qcow2_allocate(bs, 1, 1, new_off, &got, err) < 0)
        return -1;
    if (bdrv_pwrite(bs->file, (int64_t)*new_off, (int64_t)cs, table, VD_STAGE_NEW, err) < 0 ||
        qcow2_live_flush(bs, err) < 0 || write_l1(bs, slot, QCOW2_COPIED | *new_off, err) < 0)
        return -1;
    /* A snapshot's tables are not among those of the active L1 table; their counts protect them. */
    if (old_off &&
        (qcow2_drop_clusters(bs, tables, old_off, 1, err) < 0 || qcow2_release(bs, old_off, 1, err) < 0))
        return -1;
    return qcow2_add_clusters(bs, tables, *new_off, 1, err);
}

int qcow2_publish(struct BlockDriverState *bs, uint64_t guest, uint64_t n, const struct qcow2_words *words,
                  struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t slot = guest >> q->g.l1_shift,
             index = (guest & (qcow2_slot_bytes(&q->g) - 1)) >> q->g.cluster_bits, word = 0, off;
    int rc = 0;

    if (qcow2_read_words(bs, q->g.l1_off, slot, 1, &word, err) < 0 || qcow2_judge_l1(bs, slot, word, err) < 0)
        return -1;
    off = word & QCOW2_OFFSET_MASK;
    if (!off || !(word & QCOW2_COPIED))
        rc = new_table(bs, slot, off, &off, err);
    if (rc == 0)
        rc = change_table(bs, off, index, n, words, err);
    return qcow2_refresh(bs, err) < 0 ? -1 : rc;
}
