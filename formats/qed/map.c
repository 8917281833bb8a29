/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From guest addresses to host offsets: reading, block status, and which guest bytes a host range decides.
 *
 * An entry that the format calls invalid is an error of the read, never zeroes. What is not allocated is read
 * from the backing file, and is zero behind that file's end.
 */
#include "formats/qed/qed.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* May the byte of a data cluster that the end of the file cuts off be read all the same? */
static bool reads_cut_off(const struct BlockDriverState *bs, uint64_t guest, uint64_t entry)
{
    const struct qed *qed = bs->opaque;

    return (bs->open_flags & BDRV_O_SALVAGE) &&
           entry + (guest & (qed->g.cluster_size - 1)) < qed->g.file_size;
}

int qed_lookup(struct BlockDriverState *bs, uint64_t guest, uint64_t *entry, uint64_t *table_off,
               uint64_t *index, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    const struct qed_geometry *g = &qed->g;
    uint64_t slot = guest >> g->l1_shift, l1_entry;
    enum qed_entry_kind kind;

    *index = (guest & (qed_slot_bytes(g) - 1)) >> g->cluster_bits;
    *entry = *table_off = 0;
    if (vd_window_get(bs, &qed->l1, qed_read_entries, g->l1_off, slot, g->table_n, &l1_entry, err) < 0)
        return vd_while(err, "L1 table");
    kind = qed_l1_entry_kind(g, l1_entry);
    if (kind == QED_ENTRY_NONE)
        return 0;
    if (kind != QED_ENTRY_GOOD && !(kind == QED_ENTRY_PARTIAL && (bs->open_flags & BDRV_O_SALVAGE)))
        return vd_fail(err, VD_ERR_FORMAT, EINVAL,
                       "%s: L1[%" PRIu64 "] at 0x%" PRIx64 " is 0x%" PRIx64
                       ", expected the offset of an L2 table",
                       bs->filename, slot, g->l1_off + 8 * slot, l1_entry);
    if (l1_entry + 8 * *index + 8 > g->file_size)
        return vd_fail(err, VD_ERR_FORMAT, EINVAL,
                       "%s: entry %" PRIu64 " of the L2 table at 0x%" PRIx64
                       " lies behind the end of the file",
                       bs->filename, *index, l1_entry);
    *table_off = l1_entry;
    if (vd_window_get(bs, &qed->l2, qed_read_entries, l1_entry, *index, g->table_n, entry, err) < 0)
        return vd_while(err, "L2 table at 0x%" PRIx64, l1_entry);
    kind = qed_l2_entry_kind(g, *entry);
    if (kind == QED_ENTRY_PARTIAL && reads_cut_off(bs, guest, *entry))
        return 0;
    if (kind > QED_ENTRY_GOOD)
        return vd_fail(err, VD_ERR_FORMAT, EINVAL,
                       "%s: L1[%" PRIu64 "].L2[%" PRIu64 "] at 0x%" PRIx64 " is 0x%" PRIx64
                       ", expected 0, 1 or the offset of a data cluster",
                       bs->filename, slot, *index, l1_entry + 8 * *index, *entry);
    return 0;
}

/* How many bytes from guest on go on as this entry does? Looks no further than the window that is loaded, nor
 * than the file. */
static uint64_t extent_of(const struct qed *qed, uint64_t guest, uint64_t entry, uint64_t table_off,
                          uint64_t index, uint64_t bytes)
{
    const struct qed_geometry *g = &qed->g;
    uint64_t in = guest & (g->cluster_size - 1), len = g->cluster_size - in, end;

    if (!table_off)
        return vd_min(bytes, qed_slot_bytes(g) - (guest & (qed_slot_bytes(g) - 1)));
    end = vd_min(qed->l2.first + qed->l2.n, (g->file_size - table_off) / 8);
    for (uint64_t k = 1; len < bytes && index + k < end; k++) {
        uint64_t next = qed->l2.word[index + k - qed->l2.first];

        if (next != (entry > QED_ZERO_CLUSTER ? entry + k * g->cluster_size : entry))
            break;
        if (entry > QED_ZERO_CLUSTER && qed_l2_entry_kind(g, next) != QED_ENTRY_GOOD)
            break;
        len += g->cluster_size;
    }
    if (entry > QED_ZERO_CLUSTER && qed_l2_entry_kind(g, entry) == QED_ENTRY_PARTIAL)
        len = vd_min(len, g->file_size - entry - in);
    return vd_min(bytes, len);
}

int qed_co_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                        int64_t *map, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    uint64_t entry, table_off, index;

    if (qed_lookup(bs, (uint64_t)offset, &entry, &table_off, &index, err) < 0)
        return -1;
    *pnum = (int64_t)extent_of(qed, (uint64_t)offset, entry, table_off, index, (uint64_t)bytes);
    if (entry == QED_UNALLOCATED)
        return bs->backing_file ? 0 : BDRV_BLOCK_ZERO;
    if (entry == QED_ZERO_CLUSTER)
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    *map = (int64_t)(entry + ((uint64_t)offset & (qed->g.cluster_size - 1)));
    return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID;
}

/* Reads from the backing file; zeroes behind its end, and without one. */
static int read_backing(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                        struct vd_err *err)
{
    if (!bs->backing) {
        if (bs->backing_file)
            return vd_fail(err, VD_ERR_IO, ENOENT, "%s: the backing file is not open", bs->filename);
        memset(buf, 0, (size_t)bytes);
        return 0;
    }
    return bdrv_pread_padded(bs->backing, offset, bytes, buf, err);
}

int qed_co_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf, struct vd_err *err)
{
    uint8_t *p = buf;

    while (bytes > 0) {
        int64_t n = 0, host = 0;
        int status = qed_co_block_status(bs, offset, bytes, &n, &host, err), rc = 0;

        if (status < 0)
            return -1;
        if (status & BDRV_BLOCK_DATA)
            rc = bdrv_pread_padded(bs->file, host, n, p, err);
        else if (status & BDRV_BLOCK_ZERO)
            memset(p, 0, (size_t)n);
        else
            rc = read_backing(bs, offset, n, p, err);
        if (rc < 0)
            return -1;
        p += n;
        offset += n;
        bytes -= n;
    }
    return 0;
}

/* Entries [first, first + n) of the table in this slot. */
static int add_entries(const struct qed_geometry *g, uint64_t slot, uint64_t off, uint64_t end,
                       uint64_t table_off, int (*add)(void *opaque, uint64_t guest, uint64_t bytes),
                       void *opaque)
{
    uint64_t from = vd_max(off, table_off) - table_off,
             to = vd_min(end, table_off + g->table_bytes) - table_off;

    return add(opaque, qed_guest(g, slot, from / 8), (vd_div_up(to, 8) - from / 8) << g->cluster_bits);
}

int qed_guest_ranges(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                     int (*add)(void *opaque, uint64_t guest, uint64_t bytes), void *opaque,
                     struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    const struct qed_geometry *g = &qed->g;
    uint64_t off = (uint64_t)offset, end = off + (uint64_t)bytes, entry[512];
    struct vd_span range = {off, (uint64_t)bytes};

    if (!g->is_usable)
        return 0;
    if (vd_spans_meet(range, (struct vd_span){g->l1_off, g->table_bytes})) {
        uint64_t from = vd_max(off, g->l1_off) - g->l1_off,
                 to = vd_min(end, g->l1_off + g->table_bytes) - g->l1_off;

        if (add(opaque, (from / 8) << g->l1_shift, (vd_div_up(to, 8) - from / 8) << g->l1_shift) < 0)
            return vd_fail_memory(err);
    }
    for (uint64_t first = 0; first < g->table_n; first += 512) {
        uint64_t n = vd_min(512, g->table_n - first);

        if ((first << g->l1_shift) >= (uint64_t)bs->total_bytes)
            break;
        if (qed_read_entries(bs, g->l1_off, first, n, entry, err) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++)
            if (qed_l1_entry_kind(g, entry[i]) == QED_ENTRY_GOOD &&
                vd_spans_meet(range, (struct vd_span){entry[i], g->table_bytes}) &&
                add_entries(g, first + i, off, end, entry[i], add, opaque) < 0)
                return vd_fail_memory(err);
    }
    return 0;
}

static int tell_ended(struct vd_err *err)
{
    return err->kind ? -1 : vd_fail(err, VD_ERR_LIMIT, 0, "the listing of owners was ended");
}

static int tell_table(struct BlockDriverState *bs, uint64_t slot, uint64_t table_off, vd_claim_fn *tell,
                      void *opaque, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    const struct qed_geometry *g = &qed->g;
    uint64_t entry[512];

    for (uint64_t first = 0; first < g->table_n; first += 512) {
        uint64_t n = vd_min(512, g->table_n - first);

        if (qed_read_entries(bs, table_off, first, n, entry, NULL) < 0)
            continue;
        for (uint64_t i = 0; i < n; i++)
            if (qed_l2_entry_kind(g, entry[i]) == QED_ENTRY_GOOD &&
                tell(opaque, &(struct vd_named_span){entry[i], g->cluster_size, VD_KIND_DATA,
                                                     table_off + 8 * (first + i),
                                                     qed_guest(g, slot, first + i), NULL}) < 0)
                return tell_ended(err);
    }
    return 0;
}

/* A table that two L1 entries name is told under both; its entries under the first alone. */
static int tell_slots(struct BlockDriverState *bs, vd_claim_fn *tell, void *opaque, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    const struct qed_geometry *g = &qed->g;
    struct vd_runs told = {0};
    uint64_t entry[512];
    int rc = 0;

    for (uint64_t first = 0; rc == 0 && first < g->table_n; first += 512) {
        uint64_t n = vd_min(512, g->table_n - first);

        if (qed_read_entries(bs, g->l1_off, first, n, entry, NULL) < 0)
            continue;
        for (uint64_t i = 0; rc == 0 && i < n; i++) {
            if (qed_l1_entry_kind(g, entry[i]) != QED_ENTRY_GOOD)
                continue;
            rc = tell(opaque,
                      &(struct vd_named_span){entry[i], g->table_bytes, VD_KIND_L2,
                                              g->l1_off + 8 * (first + i), qed_guest(g, first + i, 0), NULL});
            if (rc < 0)
                rc = tell_ended(err);
            else if (rc == VD_SKIP_BELOW)
                rc = 0;
            else if (!vd_runs_has(&told, entry[i]))
                rc = tell_table(bs, first + i, entry[i], tell, opaque, err);
            if (rc == 0 && vd_runs_add(&told, entry[i], 1) < 0)
                rc = vd_fail_memory(err);
        }
    }
    vd_runs_done(&told);
    return rc;
}

int qed_each_claim(struct BlockDriverState *bs, vd_claim_fn *tell, void *opaque, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    const struct qed_geometry *g = &qed->g;

    if (!g->is_usable || !vd_span_within((struct vd_span){g->l1_off, g->table_bytes}, g->file_end))
        return 0;
    if (tell(opaque,
             &(struct vd_named_span){0, g->header_end, VD_KIND_HEADER, VD_NOWHERE, VD_NOWHERE, NULL}) < 0 ||
        tell(opaque, &(struct vd_named_span){g->l1_off, g->table_bytes, VD_KIND_L1,
                                             vd_layout_find(&qed_header_layout, "l1_table_offset")->offset,
                                             VD_NOWHERE, NULL}) < 0)
        return tell_ended(err);
    return tell_slots(bs, tell, opaque, err);
}
