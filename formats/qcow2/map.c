/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From guest addresses to host offsets: reading, block status, and which guest bytes a host range decides.
 *
 * An entry that the format calls invalid is an error of the read, never zeroes. What is not allocated is read
 * from the backing file, and is zero behind that file's end. Where the header names an external data file,
 * the guest's data lies there, at the guest's own offsets. Encrypted data is not decrypted: reading it is an
 * error that says so.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/inflate.h"
#include "formats/qcow2/qcow2.h"

int qcow2_read_words(struct BlockDriverState *bs, uint64_t table_off, uint64_t first, uint64_t n,
                     uint64_t *word, struct vd_err *err)
{
    if (bdrv_pread_padded(bs->file, (int64_t)(table_off + 8 * first), (int64_t)(8 * n), word, err) < 0)
        return -1;
    for (uint64_t i = 0; i < n; i++)
        word[i] = vd_get_be64(&word[i]);
    return 0;
}

/* Entry i of a table, through the L2 window. */
static int entry_at(struct BlockDriverState *bs, uint64_t table_off, uint64_t i, uint64_t guest,
                    struct qcow2_entry *entry, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t words = g->entry_bytes / 8, word, bitmap = 0;

    if (vd_window_get(bs, &q->l2, qcow2_read_words, table_off, i * words, g->table_n * words, &word, err) <
            0 ||
        (words > 1 && vd_window_get(bs, &q->l2, qcow2_read_words, table_off, i * words + 1,
                                    g->table_n * words, &bitmap, err) < 0))
        return vd_while(err, "L2 table at 0x%" PRIx64, table_off);
    *entry = qcow2_parse_entry(g, word, bitmap, guest);
    return 0;
}

int qcow2_lookup(struct BlockDriverState *bs, uint64_t guest, struct qcow2_entry *entry, uint64_t *table_off,
                 uint64_t *index, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t slot = guest >> g->l1_shift, word = 0;

    *entry = (struct qcow2_entry){0};
    *table_off = 0;
    *index = (guest & (qcow2_slot_bytes(g) - 1)) >> g->cluster_bits;
    if (slot >= g->l1_n)
        return 0;
    if (vd_window_get(bs, &q->l1, qcow2_read_words, g->l1_off, slot, g->l1_n, &word, err) < 0)
        return vd_while(err, "L1 table");
    if (qcow2_l1_faults(g, word) & (QCOW2_F_MISALIGNED | QCOW2_F_OUT_OF_FILE))
        return vd_fail(err, VD_ERR_FORMAT, EIO,
                       "%s: L1[%" PRIu64 "] at 0x%" PRIx64 " is 0x%" PRIx64
                       ", expected the offset of an L2 table in the file",
                       bs->filename, slot, g->l1_off + 8 * slot, word);
    *table_off = word & QCOW2_OFFSET_MASK;
    return *table_off ? entry_at(bs, *table_off, *index, vd_align_down(guest, g->cluster_size), entry, err)
                      : 0;
}

static int refuse_faults(struct BlockDriverState *bs, const struct qcow2_entry *e, uint64_t guest,
                         struct vd_err *err)
{
    if (!(e->faults & QCOW2_F_UNREADABLE))
        return 0;
    return vd_fail(err, VD_ERR_FORMAT, EIO,
                   "%s: the L2 entry of guest offset 0x%" PRIx64 " names 0x%" PRIx64
                   ", which the format does not allow",
                   bs->filename, guest, e->host);
}

/* ---- block status */

/* A subcluster's share of an extended entry. */
static enum qcow2_cluster subcluster_type(const struct qcow2_entry *e, unsigned sub)
{
    if (e->bitmap >> sub & 1)
        return QCOW2_NORMAL;
    return e->bitmap >> (32 + sub) & 1 ? QCOW2_ZERO_PLAIN : QCOW2_UNALLOCATED;
}

/* How an extent goes on: the type at guest, and how many bytes of the cluster are alike. */
static enum qcow2_cluster type_at(const struct qcow2_geometry *g, const struct qcow2_entry *e, uint64_t guest,
                                  uint64_t *len)
{
    uint64_t in = guest & (g->cluster_size - 1), size = g->cluster_size / QCOW2_SUBCLUSTERS;
    unsigned sub = (unsigned)(in / size), end = sub + 1;
    enum qcow2_cluster type;

    *len = g->cluster_size - in;
    if (!g->has_extended_l2 || e->type == QCOW2_PACKED)
        return e->type;
    type = subcluster_type(e, sub);
    while (end < QCOW2_SUBCLUSTERS && subcluster_type(e, end) == type)
        end++;
    *len = end * size - in;
    return type;
}

static int status_of(const struct BlockDriverState *bs, enum qcow2_cluster type)
{
    const struct qcow2 *q = bs->opaque;

    switch (type) {
    case QCOW2_UNALLOCATED:
        return bs->backing_file ? 0 : BDRV_BLOCK_ZERO;
    case QCOW2_ZERO_PLAIN:
    case QCOW2_ZERO_ALLOCATED:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    case QCOW2_NORMAL:
        return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED |
               (q->header.crypt_method || q->g.has_data_file ? 0 : BDRV_BLOCK_OFFSET_VALID);
    case QCOW2_PACKED:
        break;
    }
    return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED;
}

/* Clusters behind the first that go on as it does: the same type, and data in a row. No further than the
 * window. */
static uint64_t extend(struct BlockDriverState *bs, const struct qcow2_entry *e, uint64_t guest,
                       uint64_t table_off, uint64_t index, uint64_t len, uint64_t bytes)
{
    struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;

    if (!table_off)
        return vd_min(bytes, qcow2_slot_bytes(g) - (guest & (qcow2_slot_bytes(g) - 1)));
    for (uint64_t k = 1; len < bytes && !g->has_extended_l2 && e->type != QCOW2_PACKED &&
                         index + k < g->table_n && index + k - q->l2.first < q->l2.n;
         k++) {
        struct qcow2_entry next =
            qcow2_parse_entry(g, q->l2.word[index + k - q->l2.first], 0,
                              vd_align_down(guest, g->cluster_size) + (k << g->cluster_bits));

        if (next.type != e->type || (next.faults & QCOW2_F_UNREADABLE) ||
            (e->type == QCOW2_NORMAL && next.host != e->host + (k << g->cluster_bits)))
            break;
        len += g->cluster_size;
    }
    return vd_min(bytes, len);
}

int qcow2_co_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                          int64_t *map, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    uint64_t guest = (uint64_t)offset, table_off, index, len;
    struct qcow2_entry e;
    enum qcow2_cluster type;

    if (qcow2_lookup(bs, guest, &e, &table_off, &index, err) < 0 || refuse_faults(bs, &e, guest, err) < 0)
        return -1;
    type = type_at(&q->g, &e, guest, &len);
    *pnum = (int64_t)extend(bs, &e, guest, table_off, index, len, (uint64_t)bytes);
    if (type == QCOW2_NORMAL || type == QCOW2_PACKED)
        *map = (int64_t)(e.host + (type == QCOW2_NORMAL ? guest & (q->g.cluster_size - 1) : 0));
    return status_of(bs, type);
}

/* ---- reading */

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

int qcow2_inflate(struct BlockDriverState *bs, const struct qcow2_entry *e, unsigned type, uint8_t *out,
                  struct vd_inflated *result, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    vd_auto_mem uint8_t *in = malloc(e->bytes);

    if (!in)
        return vd_fail_memory(err);
    if (bdrv_pread_padded(bs->file, (int64_t)e->host, (int64_t)e->bytes, in, err) < 0)
        return -1;
    return type == QCOW2_ZSTD
               ? vd_inflate_zstd(in, e->bytes, out, q->g.cluster_size, result, err)
               : vd_inflate_raw(in, e->bytes, out, q->g.cluster_size, VD_DEFLATE_WINDOW, result, err);
}

/* A compressed cluster is inflated once for reads that follow each other. */
static int read_packed(struct BlockDriverState *bs, const struct qcow2_entry *e, uint64_t in, size_t n,
                       uint8_t *to, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct vd_inflated result;

    if (q->inflated.host != e->host || q->inflated.len != e->bytes) {
        if (!q->inflated.bytes)
            q->inflated.bytes = malloc(q->g.cluster_size);
        if (!q->inflated.bytes)
            return vd_fail_memory(err);
        q->inflated.len = 0;
        if (qcow2_inflate(bs, e, q->header.compression_type, q->inflated.bytes, &result, err) < 0)
            return vd_while(err, "compressed cluster at 0x%" PRIx64, e->host);
        q->inflated.host = e->host;
        q->inflated.len = e->bytes;
    }
    memcpy(to, q->inflated.bytes + in, n);
    return 0;
}

struct BlockDriverState *qcow2_data_node(struct BlockDriverState *bs, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    if (!q->g.has_data_file)
        return bs->file;
    if (!bs->data)
        vd_fail(err, VD_ERR_IO, ENOENT, "%s: the external data file is not open", bs->filename);
    return bs->data;
}

/* What is missing at the end of a data file is zero to a guest, and lost to who looks for what there was. */
static int read_plain(struct BlockDriverState *bs, uint64_t host, uint64_t n, uint8_t *to, struct vd_err *err)
{
    struct BlockDriverState *node = qcow2_data_node(bs, err);

    if (!node)
        return -1;
    if (node != bs->file && (bs->open_flags & BDRV_O_SALVAGE))
        return bdrv_pread(node, (int64_t)host, (int64_t)n, to, err);
    return bdrv_pread_padded(node, (int64_t)host, (int64_t)n, to, err);
}

static int read_data(struct BlockDriverState *bs, const struct qcow2_entry *e, uint64_t in, uint64_t n,
                     uint8_t *to, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    if (q->header.crypt_method)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP, "%s: the guest's data is encrypted", bs->filename);
    if (e->type == QCOW2_PACKED)
        return read_packed(bs, e, in, n, to, err);
    return read_plain(bs, e->host + in, n, to, err);
}

static int read_extent(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, uint8_t *to,
                       uint64_t *done, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    uint64_t table_off, index, len;
    struct qcow2_entry e;
    enum qcow2_cluster type;

    if (qcow2_lookup(bs, guest, &e, &table_off, &index, err) < 0 || refuse_faults(bs, &e, guest, err) < 0)
        return -1;
    type = type_at(&q->g, &e, guest, &len);
    *done = extend(bs, &e, guest, table_off, index, len, bytes);
    if (type == QCOW2_UNALLOCATED)
        return read_backing(bs, (int64_t)guest, (int64_t)*done, to, err);
    if (type == QCOW2_NORMAL || type == QCOW2_PACKED)
        return read_data(bs, &e, guest & (q->g.cluster_size - 1), *done, to, err);
    memset(to, 0, *done);
    return 0;
}

int qcow2_co_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf, struct vd_err *err)
{
    uint8_t *p = buf;

    while (bytes > 0) {
        uint64_t n = 0;

        if (read_extent(bs, (uint64_t)offset, (uint64_t)bytes, p, &n, err) < 0)
            return -1;
        p += n;
        offset += (int64_t)n;
        bytes -= (int64_t)n;
    }
    return 0;
}

/* ---- which guest bytes a host range decides */

struct ranges {
    const struct qcow2_geometry *g;
    struct vd_span host;
    int (*add)(void *opaque, uint64_t guest, uint64_t bytes);
    void *opaque;
};

/* Entries of a table of n at off that the host range touches, each deciding 1 << shift guest bytes from base
 * on. */
static int add_entries(const struct ranges *r, uint64_t off, uint64_t n, unsigned entry_bytes, uint64_t base,
                       unsigned shift)
{
    uint64_t from, to;

    if (!vd_spans_meet(r->host, (struct vd_span){off, n * entry_bytes}))
        return 0;
    from = (vd_max(r->host.off, off) - off) / entry_bytes;
    to = vd_div_up(vd_min(vd_span_end(r->host), off + n * entry_bytes) - off, entry_bytes);
    return r->add(r->opaque, base + (from << shift), (to - from) << shift);
}

int qcow2_guest_ranges(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                       int (*add)(void *opaque, uint64_t guest, uint64_t bytes), void *opaque,
                       struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct ranges r = {
        g, {(uint64_t)offset, (uint64_t)bytes},
         add, opaque
    };
    uint64_t word[512];

    if (!g->is_usable)
        return 0;
    if (add_entries(&r, g->l1_off, g->l1_n, 8, 0, g->l1_shift) < 0)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < g->l1_n; first += 512) {
        uint64_t n = vd_min(512, g->l1_n - first);

        if ((first << g->l1_shift) >= (uint64_t)bs->total_bytes)
            break;
        if (qcow2_read_words(bs, g->l1_off, first, n, word, err) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++)
            if ((word[i] & QCOW2_OFFSET_MASK) &&
                add_entries(&r, word[i] & QCOW2_OFFSET_MASK, g->table_n, g->entry_bytes,
                            (first + i) << g->l1_shift, g->cluster_bits) < 0)
                return vd_fail_memory(err);
    }
    return 0;
}
