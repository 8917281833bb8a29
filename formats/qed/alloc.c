/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing to a QED image, in an order that a power cut cannot turn into damage:
 *
 *     need-check set and flushed  ->  data  ->  flush  ->  L2 entries  (new L2 table: flush  ->  L1 entry)
 *
 * Clusters are taken from the end of the file and nowhere else. A write that fails freezes the image: what
 * the tables say is then still true of the disk, and need-check stays for the next check.
 */
#include "formats/qed/qed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"

static void forget_windows(struct qed *qed)
{
    qed->l1.n = qed->l2.n = 0;
}

static int may_write(struct BlockDriverState *bs, int64_t offset, int64_t bytes, struct vd_err *err)
{
    struct qed *qed = bs->opaque;

    if (!(bs->open_flags & BDRV_O_RDWR))
        return vd_fail(err, VD_ERR_IO, EROFS, "%s: opened read-only", bs->filename);
    if (qed->is_frozen)
        return vd_fail(err, VD_ERR_IO, EIO, "%s: a write failed before; nothing more is written",
                       bs->filename);
    if (offset + bytes > bs->total_bytes)
        return vd_fail(err, VD_ERR_IO, ENOSPC,
                       "%s: %" PRId64 " bytes at 0x%" PRIx64 " reach past the end of the disk", bs->filename,
                       bytes, (uint64_t)offset);
    return 0;
}

static int freeze(struct BlockDriverState *bs)
{
    struct qed *qed = bs->opaque;

    qed->is_frozen = true;
    forget_windows(qed);
    return -1;
}

/* Unknown autoclear bits go before anything else, and the flag before the first allocation; both flushed. */
static int prepare_header(struct BlockDriverState *bs, bool allocates, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    struct qed_header h = qed->header;

    if (allocates)
        h.features |= QED_F_NEED_CHECK;
    if (h.features == qed->header.features && !h.autoclear_features)
        return 0;
    if (qed_write_header(bs, &h, VD_STAGE_FLAG, err) < 0 || bdrv_flush(bs->file, err) < 0)
        return -1;
    qed->need_check_is_ours |= allocates;
    return 0;
}

/* What the guest read here so far; a zero cluster hides the backing file. */
static int read_old(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, bool was_zero, uint8_t *buf,
                    struct vd_err *err)
{
    if (bs->backing && !was_zero)
        return bdrv_pread_padded(bs->backing, (int64_t)guest, (int64_t)bytes, buf, err);
    memset(buf, 0, bytes);
    return 0;
}

/* Writes the clusters of a run at the end of the file: what the caller brings, and around it what was there
 * before. */
static int write_new_clusters(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, const uint8_t *buf,
                              uint64_t host, bool was_zero, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    uint64_t cs = qed->g.cluster_size, start = vd_align_down(guest, cs),
             end = vd_align_up_sat(guest + bytes, cs);
    vd_auto_mem uint8_t *around = malloc(cs);

    if (!around)
        return vd_fail_memory(err);
    if (guest > start) {
        if (read_old(bs, start, guest - start, was_zero, around, err) < 0 ||
            bdrv_pwrite(bs->file, (int64_t)host, (int64_t)(guest - start), around, VD_STAGE_NEW, err) < 0)
            return -1;
    }
    if (bdrv_pwrite(bs->file, (int64_t)(host + guest - start), (int64_t)bytes, buf, VD_STAGE_NEW, err) < 0)
        return -1;
    if (guest + bytes < end) {
        uint64_t tail = end - guest - bytes;

        if (read_old(bs, guest + bytes, tail, was_zero, around, err) < 0 ||
            bdrv_pwrite(bs->file, (int64_t)(host + guest + bytes - start), (int64_t)tail, around,
                        VD_STAGE_NEW, err) < 0)
            return -1;
    }
    return 0;
}

/* Entries i to i + n - 1: ascending from first_value by a cluster, or all the zero marker. */
static void fill_entries(uint8_t *words, uint64_t n, uint64_t first_value, uint64_t step)
{
    for (uint64_t i = 0; i < n; i++)
        vd_put_le64(words + 8 * i, first_value + i * step);
}

static int new_l2_table(struct BlockDriverState *bs, uint64_t slot, uint64_t index, uint64_t n,
                        uint64_t value, uint64_t step, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    uint64_t off = qed->alloc_end;
    vd_auto_mem uint8_t *words = calloc(1, n * 8);
    uint8_t entry[8];

    if (!words)
        return vd_fail_memory(err);
    fill_entries(words, n, value, step);
    qed->alloc_end += qed->g.table_bytes;
    if (bdrv_pwrite_zeroes(bs->file, (int64_t)off, (int64_t)qed->g.table_bytes, VD_STAGE_NEW, err) < 0 ||
        bdrv_pwrite(bs->file, (int64_t)(off + 8 * index), (int64_t)(8 * n), words, VD_STAGE_NEW, err) < 0 ||
        bdrv_flush(bs->file, err) < 0)
        return -1;
    vd_put_le64(entry, off);
    return bdrv_pwrite(bs->file, (int64_t)(qed->g.l1_off + 8 * slot), 8, entry, VD_STAGE_ROOT, err);
}

/* Whole sectors, so that a torn write leaves every entry old or new. */
static int update_l2_table(struct BlockDriverState *bs, uint64_t table_off, uint64_t index, uint64_t n,
                           uint64_t value, uint64_t step, struct vd_err *err)
{
    uint64_t from = vd_align_down(8 * index, QED_SECTOR), to = vd_align_up_sat(8 * (index + n), QED_SECTOR);
    vd_auto_mem uint8_t *sectors = malloc(to - from);

    if (!sectors)
        return vd_fail_memory(err);
    if (bdrv_pread_padded(bs->file, (int64_t)(table_off + from), (int64_t)(to - from), sectors, err) < 0)
        return -1;
    fill_entries(sectors + 8 * index - from, n, value, step);
    return bdrv_pwrite(bs->file, (int64_t)(table_off + from), (int64_t)(to - from), sectors, VD_STAGE_TABLE,
                       err);
}

static int link_clusters(struct BlockDriverState *bs, uint64_t guest, uint64_t n, uint64_t value,
                         uint64_t step, uint64_t table_off, uint64_t index, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    int rc = table_off ? update_l2_table(bs, table_off, index, n, value, step, err)
                       : new_l2_table(bs, guest >> qed->g.l1_shift, index, n, value, step, err);

    forget_windows(qed);
    if (rc == 0) {
        int64_t len = bdrv_getlength(bs->file, err);

        if (len < 0)
            return -1;
        qed->g = qed_derive(&qed->header, (uint64_t)len);
    }
    return rc;
}

/* Clusters from guest on, in one L2 table, that have no data cluster yet. */
static uint64_t unallocated_run(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, uint64_t index,
                                uint64_t table_off)
{
    struct qed *qed = bs->opaque;
    const struct qed_geometry *g = &qed->g;
    uint64_t in = guest & (g->cluster_size - 1), want = vd_div_up(in + bytes, g->cluster_size), n = 1;

    want = vd_min(want, g->table_n - index);
    if (!table_off)
        return want;
    while (n < want && index + n - qed->l2.first < qed->l2.n &&
           qed->l2.word[index + n - qed->l2.first] <= QED_ZERO_CLUSTER)
        n++;
    return n;
}

static int allocating_write(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, const uint8_t *buf,
                            uint64_t table_off, uint64_t index, bool was_zero, uint64_t *done,
                            struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    uint64_t cs = qed->g.cluster_size, n = unallocated_run(bs, guest, bytes, index, table_off);
    uint64_t host;

    /* What is around the data comes from zeroes or from the backing file, but not from both in one run. */
    if (table_off && bs->backing)
        for (uint64_t k = 1; k < n; k++)
            if ((qed->l2.word[index + k - qed->l2.first] == QED_ZERO_CLUSTER) != was_zero)
                n = k;
    *done = vd_min(bytes, n * cs - (guest & (cs - 1)));
    if (qed_find_alloc_end(bs, err) < 0 || prepare_header(bs, true, err) < 0)
        return -1;
    host = qed->alloc_end;
    qed->alloc_end += n * cs;
    if (write_new_clusters(bs, guest, *done, buf, host, was_zero, err) < 0 || bdrv_flush(bs->file, err) < 0)
        return -1;
    return link_clusters(bs, guest, n, host, cs, table_off, index, err);
}

static int write_piece(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, const uint8_t *buf,
                       uint64_t *done, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    uint64_t entry, table_off, index, cs = qed->g.cluster_size;

    if (qed_lookup(bs, guest, &entry, &table_off, &index, err) < 0)
        return -1;
    if (entry <= QED_ZERO_CLUSTER)
        return allocating_write(bs, guest, bytes, buf, table_off, index, entry == QED_ZERO_CLUSTER, done,
                                err);
    *done = vd_min(bytes, cs - (guest & (cs - 1)));
    return bdrv_pwrite(bs->file, (int64_t)(entry + (guest & (cs - 1))), (int64_t)*done, buf, VD_STAGE_NEW,
                       err);
}

int qed_co_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                   enum vd_stage stage, struct vd_err *err)
{
    const uint8_t *p = buf;

    (void)stage;
    if (may_write(bs, offset, bytes, err) < 0)
        return -1;
    if (prepare_header(bs, false, err) < 0)
        return freeze(bs);
    while (bytes > 0) {
        uint64_t done = 0;

        if (write_piece(bs, (uint64_t)offset, (uint64_t)bytes, p, &done, err) < 0)
            return freeze(bs);
        p += done;
        offset += (int64_t)done;
        bytes -= (int64_t)done;
    }
    return 0;
}

/* Zeroes over data that is there, or over part of a cluster, are written; a whole unallocated cluster gets
 * the marker. */
static int zero_piece(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, const uint8_t *zeroes,
                      uint64_t *done, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    uint64_t entry, table_off, index, cs = qed->g.cluster_size, in = guest & (cs - 1);

    if (qed_lookup(bs, guest, &entry, &table_off, &index, err) < 0)
        return -1;
    *done = vd_min(bytes, cs - in);
    if (entry == QED_ZERO_CLUSTER)
        return 0;
    if (entry != QED_UNALLOCATED || in || *done < cs)
        return write_piece(bs, guest, *done, zeroes, done, err);
    if (qed_find_alloc_end(bs, err) < 0 || prepare_header(bs, true, err) < 0)
        return -1;
    return link_clusters(bs, guest, 1, QED_ZERO_CLUSTER, 0, table_off, index, err);
}

/* Also behind the end of the disk, where the disk is about to grow. */
static int zero_range(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    vd_auto_mem uint8_t *zeroes = calloc(1, qed->g.cluster_size);

    if (!zeroes)
        return vd_fail_memory(err);
    if (prepare_header(bs, false, err) < 0)
        return freeze(bs);
    while (bytes) {
        uint64_t done = 0;

        if (zero_piece(bs, guest, bytes, zeroes, &done, err) < 0)
            return freeze(bs);
        guest += done;
        bytes -= done;
    }
    return 0;
}

int qed_co_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                         struct vd_err *err)
{
    (void)stage;
    if (may_write(bs, offset, bytes, err) < 0)
        return -1;
    return zero_range(bs, (uint64_t)offset, (uint64_t)bytes, err);
}

/* A backing file that is longer than the disk would show through where the disk grows. It is hidden first: a
 * power cut before the header says the new size leaves zero clusters that no guest reads. */
static int hide_backing(struct BlockDriverState *bs, uint64_t size, struct vd_err *err)
{
    uint64_t old = (uint64_t)bs->total_bytes;
    int64_t below;

    if (!bs->backing_file || size <= old)
        return 0;
    if (!bs->backing)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP,
                       "%s: the disk cannot grow while its backing file is not open", bs->filename);
    below = bdrv_getlength(bs->backing, err);
    if (below < 0)
        return -1;
    size = vd_min(size, (uint64_t)below);
    return size > old && (zero_range(bs, old, size - old, err) < 0 || bdrv_flush(bs->file, err) < 0) ? -1 : 0;
}

int qed_co_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    uint64_t image_size = vd_align_up_sat((uint64_t)size, QED_SECTOR);
    struct qed_header h;

    if (size < bs->total_bytes)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP, "%s: a QED image cannot shrink", bs->filename);
    if (may_write(bs, 0, 0, err) < 0)
        return -1;
    if (image_size > qed->g.size_limit)
        return vd_fail(err, VD_ERR_UNSUPPORTED, EFBIG,
                       "%s: the tables of this image map at most %" PRIu64 " bytes", bs->filename,
                       qed->g.size_limit);
    if (hide_backing(bs, image_size, err) < 0)
        return -1;
    h = qed->header;
    h.image_size = image_size;
    if (qed_write_header(bs, &h, VD_STAGE_ROOT, err) < 0 || bdrv_flush(bs->file, err) < 0)
        return freeze(bs);
    return 0;
}

/* Clears need-check, where it is ours to clear: after a flush, so that all that it protected is on the disk.
 */
static int clear_need_check(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    struct qed_header h = qed->header;

    if (!qed->need_check_is_ours || qed->is_frozen)
        return 0;
    h.features &= ~(uint64_t)QED_F_NEED_CHECK;
    if (bdrv_flush(bs->file, err) < 0 || qed_write_header(bs, &h, VD_STAGE_FLAG, err) < 0 ||
        bdrv_flush(bs->file, err) < 0)
        return freeze(bs);
    qed->need_check_is_ours = false;
    return 0;
}

int qed_co_inactivate(struct BlockDriverState *bs, struct vd_err *err)
{
    return bs->open_flags & BDRV_O_RDWR ? clear_need_check(bs, err) : 0;
}

/* QEMU's time, too. */
enum { QUIET_MS = 5000 };

int qed_co_idle(struct BlockDriverState *bs, int64_t quiet_ms, struct vd_err *err)
{
    return quiet_ms >= QUIET_MS ? clear_need_check(bs, err) : 0;
}

int qed_change_backing_file(struct BlockDriverState *bs, const char *file, const char *format,
                            struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    struct qed_header h = qed->header;
    size_t len = file ? strlen(file) : 0;
    vd_auto_mem uint8_t *bytes = calloc(1, QED_HEADER_BYTES + len + 1);

    if (!bytes)
        return vd_fail_memory(err);
    if (may_write(bs, 0, 0, err) < 0)
        return -1;
    if (h.compat_features)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP,
                       "%s: compatible features 0x%" PRIx64
                       " are not known, so the backing file cannot be changed",
                       bs->filename, h.compat_features);
    if (len >= QED_PORTABLE_BACKING_NAME || QED_HEADER_BYTES + len > qed->g.header_end)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENAMETOOLONG,
                       "%s: no room for a backing file name of %zu bytes", bs->filename, len);
    h.features &= ~(uint64_t)(QED_F_BACKING_FILE | QED_F_BACKING_FORMAT_NO_PROBE);
    if (len)
        h.features |=
            QED_F_BACKING_FILE | (format && strcmp(format, "raw") == 0 ? QED_F_BACKING_FORMAT_NO_PROBE : 0);
    h.backing_filename_offset = len ? QED_HEADER_BYTES : 0;
    h.backing_filename_size = (uint32_t)len;
    h.autoclear_features = 0;
    /* One write: a header never points at half a name. */
    vd_encode(&qed_header_layout, &h, bytes);
    if (len)
        memcpy(bytes + QED_HEADER_BYTES, file, len);
    if (bdrv_pwrite(bs->file, 0, (int64_t)(QED_HEADER_BYTES + len), bytes, VD_STAGE_ROOT, err) < 0 ||
        bdrv_flush(bs->file, err) < 0)
        return freeze(bs);
    qed->header = h;
    return qed_read_backing_name(bs, err);
}
