/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The qcow2 header: reading it and its extensions, writing single fields, what follows from it, and the rules
 * that it must keep.
 *
 * Nothing here judges: a geometry is derived from whatever the header says, with every number cut to what the
 * format and the file allow, and is_broken() of each rule tells whether a rule is kept. A live open refuses
 * the first broken rule that QEMU refuses; a check reports them all. The header cluster is never written as a
 * whole: a torn write of it could lose the image.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

#define VD_LAYOUT_TYPE qcow2_header
VD_DEFINE_LAYOUT(qcow2_header, QCOW2_HEADER, QCOW2_HEADER_BYTES)

/* Version 2 has no fields behind its 72 bytes. A version that is not known is told by them. */
static bool is_version_2(const struct qcow2_header *h)
{
    bool has_fields = h->header_length >= QCOW2_V3_HEADER && h->refcount_order <= QCOW2_MAX_REFCOUNT_ORDER;

    return h->version == 2 || (h->version != 3 && !has_fields);
}

void qcow2_decode_header(const uint8_t *bytes, struct qcow2_header *h)
{
    vd_decode(&qcow2_header_layout, bytes, h);
    if (is_version_2(h)) {
        h->incompatible_features = h->compatible_features = h->autoclear_features = 0;
        h->refcount_order = QCOW2_DEFAULT_REFCOUNT_ORDER;
        h->header_length = QCOW2_V2_HEADER;
    }
    if (h->header_length <= QCOW2_V3_HEADER)
        h->compression_type = QCOW2_DEFLATE;
}

static bool is_cluster_bits(uint32_t bits)
{
    return bits >= QCOW2_MIN_CLUSTER_BITS && bits <= QCOW2_MAX_CLUSTER_BITS;
}

/* Entries of a table at off that lie in the file at all; what is cut off by the end of the file reads as
 * zeroes. */
static uint64_t entries_in_file(const struct qcow2_geometry *g, uint64_t off, uint64_t n)
{
    return off < g->file_end ? vd_min(n, (g->file_end - off) / 8) : 0;
}

struct qcow2_geometry qcow2_derive(const struct qcow2_header *h, uint64_t file_size)
{
    struct qcow2_geometry g = {.file_size = file_size, .version = is_version_2(h) ? 2 : 3, .size = h->size};

    if (!is_cluster_bits(h->cluster_bits))
        return g;
    g.is_usable = true;
    g.cluster_bits = h->cluster_bits;
    g.cluster_size = (uint64_t)1 << h->cluster_bits;
    g.has_extended_l2 =
        (h->incompatible_features & QCOW2_INCOMPAT_EXTENDED_L2) && h->cluster_bits >= QCOW2_MIN_EXTENDED_BITS;
    g.has_data_file = h->incompatible_features & QCOW2_INCOMPAT_DATA_FILE;
    g.entry_bytes = g.has_extended_l2 ? 16 : 8;
    g.table_n = g.cluster_size / g.entry_bytes;
    g.l1_shift = g.cluster_bits + vd_log2(g.table_n);
    g.size = vd_align_down(vd_min(h->size, INT64_MAX), QCOW2_SECTOR);
    g.l1_need = vd_div_up(h->size, (uint64_t)1 << g.l1_shift);
    g.file_end = vd_align_up_sat(file_size, g.cluster_size);
    g.l1_off = h->l1_table_offset;
    g.l1_n = vd_min(h->l1_size, entries_in_file(&g, g.l1_off, QCOW2_MAX_L1_ENTRIES));
    g.refcount_order = (unsigned)vd_min(h->refcount_order, QCOW2_MAX_REFCOUNT_ORDER);
    g.block_n = g.cluster_size * 8 >> g.refcount_order;
    g.max_count = UINT64_MAX >> (64 - (1U << g.refcount_order));
    g.reftable_off = h->refcount_table_offset;
    g.reftable_n = entries_in_file(
        &g, g.reftable_off,
        vd_min(vd_mul_sat(h->refcount_table_clusters, g.cluster_size), QCOW2_MAX_REFTABLE_BYTES) / 8);
    return g;
}

/* ---- extensions */

/* Where the extension area ends: at the backing file's name, where that lies behind the header, or with the
 * cluster. */
static uint64_t area_end(const struct qcow2_header *h, const struct qcow2_geometry *g)
{
    uint64_t end = vd_min(g->cluster_size, vd_max(g->file_size, QCOW2_V2_HEADER));

    return h->backing_file_offset > h->header_length ? vd_min(end, h->backing_file_offset) : end;
}

static void parse_extensions(const uint8_t *cluster, const struct qcow2_header *h,
                             const struct qcow2_geometry *g, struct qcow2_extensions *ext)
{
    uint64_t at = h->header_length;

    *ext = (struct qcow2_extensions){.area_end = area_end(h, g), .end = at};
    while (ext->n < QCOW2_MOST_EXTENSIONS && at < ext->area_end && ext->area_end - at >= 8) {
        uint32_t type = vd_get_be32(cluster + at), len = vd_get_be32(cluster + at + 4);

        if (type == QCOW2_EXT_END) {
            ext->has_end = true;
            ext->end = at + 8;
            return;
        }
        if (len > ext->area_end - at - 8) {
            ext->overruns = true;
            ext->overrun_type = type;
            ext->overrun_len = len;
            break;
        }
        ext->v[ext->n++] = (struct qcow2_extension){type, len, at + 8};
        at += 8 + vd_align_up_sat(len, 8);
    }
    ext->end = at;
}

const struct qcow2_extension *qcow2_find_extension(const struct qcow2 *q, uint32_t type)
{
    for (size_t i = q->ext.n; i > 0; i--)
        if (q->ext.v[i - 1].type == type)
            return &q->ext.v[i - 1];
    return NULL;
}

static int copy_text(char **to, const uint8_t *cluster, uint64_t off, uint64_t len, struct vd_err *err)
{
    free(*to);
    *to = calloc(1, len + 1);
    if (!*to)
        return vd_fail_memory(err);
    memcpy(*to, cluster + off, len);
    return 0;
}

static int read_names(struct BlockDriverState *bs, const uint8_t *cluster, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    const struct qcow2_header *h = &q->header;
    struct vd_span name = {h->backing_file_offset, h->backing_file_size};
    const struct qcow2_extension *format = qcow2_find_extension(q, QCOW2_EXT_BACKING_FORMAT),
                                 *data_file = qcow2_find_extension(q, QCOW2_EXT_DATA_FILE);

    if (format && copy_text(&q->backing_format, cluster, format->off, format->len, err) < 0)
        return -1;
    bs->backing_format = q->backing_format && *q->backing_format ? q->backing_format : NULL;
    bs->data_file = NULL;
    if (data_file && copy_text(&q->data_file, cluster, data_file->off, data_file->len, err) < 0)
        return -1;
    if (q->g.has_data_file && q->data_file && *q->data_file)
        bs->data_file = q->data_file;
    if (!name.off || !name.len || name.len > QCOW2_MAX_BACKING_NAME ||
        vd_span_end(name) > vd_min(q->g.cluster_size, q->g.file_size))
        return 0;
    bs->backing_file_len = name.len;
    return copy_text(&bs->backing_file, cluster, name.off, name.len, err);
}

static void forget_names(struct BlockDriverState *bs)
{
    struct qcow2 *q = bs->opaque;

    free(bs->backing_file);
    free(q->backing_format);
    free(q->data_file);
    free(q->rest.lost_backing);
    q->rest = (struct qcow2_rest){0};
    bs->backing_file = q->backing_format = q->data_file = NULL;
    bs->backing_file_len = 0;
    bs->backing_format = bs->data_file = NULL;
    q->ext = (struct qcow2_extensions){0};
}

/* What a damaged version was is told by the fields of version 3, so these must be there. */
static bool has_whole_header(const uint8_t *bytes, uint64_t size)
{
    return size >= QCOW2_V3_HEADER || (size >= QCOW2_V2_HEADER && vd_get_be32(bytes + 4) == 2);
}

int qcow2_read_header(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    uint8_t bytes[QCOW2_HEADER_BYTES] = {0};
    vd_auto_mem uint8_t *cluster = NULL;
    int64_t size = bdrv_getlength(bs->file, err);

    if (size < 0)
        return -1;
    forget_names(bs);
    if (bdrv_pread_padded(bs->file, 0, sizeof(bytes), bytes, err) < 0)
        return vd_while(err, "qcow2 header");
    q->has_header = has_whole_header(bytes, (uint64_t)size);
    if (!q->has_header) {
        q->header = (struct qcow2_header){0};
        q->g = (struct qcow2_geometry){.file_size = (uint64_t)size};
        return 0;
    }
    qcow2_decode_header(bytes, &q->header);
    q->g = qcow2_derive(&q->header, (uint64_t)size);
    bs->total_bytes = (int64_t)q->g.size;
    if (!q->g.is_usable)
        return 0;
    cluster = calloc(1, q->g.cluster_size);
    if (!cluster)
        return vd_fail_memory(err);
    if (bdrv_pread_padded(bs->file, 0, (int64_t)q->g.cluster_size, cluster, err) < 0)
        return vd_while(err, "qcow2 header cluster");
    parse_extensions(cluster, &q->header, &q->g, &q->ext);
    return read_names(bs, cluster, err) < 0 ? -1 : qcow2_read_rest(q, cluster, err);
}

/* ---- writing */

int qcow2_clear_unknown_autoclear(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    uint8_t word[8];

    if (!(q->header.autoclear_features & ~(uint64_t)QCOW2_AUTOCLEAR_KNOWN))
        return 0;
    q->header.autoclear_features &= QCOW2_AUTOCLEAR_KNOWN;
    vd_put_be64(word, q->header.autoclear_features);
    return bdrv_pwrite(bs->file, 88, sizeof(word), word, VD_STAGE_NEW, err);
}

int qcow2_write_fields(struct BlockDriverState *bs, const struct qcow2_header *header, const char *from,
                       const char *to, enum vd_stage stage, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    const struct vd_field *first = vd_layout_find(&qcow2_header_layout, from),
                          *last = vd_layout_find(&qcow2_header_layout, to);
    uint8_t bytes[QCOW2_HEADER_BYTES];
    int64_t n = last->offset + vd_field_bytes(last) - first->offset;

    if (qcow2_clear_unknown_autoclear(bs, err) < 0)
        return -1;
    vd_encode(&qcow2_header_layout, header, bytes);
    if (bdrv_pwrite(bs->file, first->offset, n, bytes + first->offset, stage, err) < 0)
        return vd_while(err, "qcow2 header");
    q->header = *header;
    q->header.autoclear_features &= QCOW2_AUTOCLEAR_KNOWN;
    q->g = qcow2_derive(&q->header, q->g.file_size);
    bs->total_bytes = (int64_t)q->g.size;
    return 0;
}

/* ---- the rules; those that need a geometry are kept where there is none */

static bool magic_is_wrong(const struct qcow2 *q)
{
    return q->header.magic != QCOW2_MAGIC;
}

static bool version_is_unknown(const struct qcow2 *q)
{
    return q->header.version != 2 && q->header.version != 3;
}

static bool cluster_bits_are_invalid(const struct qcow2 *q)
{
    return !is_cluster_bits(q->header.cluster_bits);
}

static bool length_is_short(const struct qcow2 *q)
{
    return q->g.version != 2 && q->header.header_length < QCOW2_V3_HEADER;
}

static bool length_is_large(const struct qcow2 *q)
{
    return q->g.is_usable && q->header.header_length > q->g.cluster_size;
}

static bool length_is_unaligned(const struct qcow2 *q)
{
    return !length_is_short(q) && !length_is_large(q) && q->header.header_length % 8;
}

static bool length_is_suspect(const struct qcow2 *q)
{
    return q->g.is_usable && q->g.version != 2 && !length_is_short(q) && !length_is_large(q) &&
           !length_is_unaligned(q) && !q->ext.n && q->rest.fits_by_extension &&
           q->rest.fitting_length != q->header.header_length;
}

static bool backing_offset_is_invalid(const struct qcow2 *q)
{
    uint64_t off = q->header.backing_file_offset;

    return q->g.is_usable && off && (off > q->g.cluster_size || off < q->header.header_length);
}

static bool backing_name_is_too_long(const struct qcow2 *q)
{
    struct vd_span name = {q->header.backing_file_offset, q->header.backing_file_size};

    return q->g.is_usable && name.off && !backing_offset_is_invalid(q) &&
           (name.len > QCOW2_MAX_BACKING_NAME || vd_span_end(name) > q->g.cluster_size);
}

static bool backing_format_is_too_long(const struct qcow2 *q)
{
    const struct qcow2_extension *format = qcow2_find_extension(q, QCOW2_EXT_BACKING_FORMAT);

    return format && format->len > QCOW2_MAX_BACKING_FORMAT;
}

static bool compression_is_unknown(const struct qcow2 *q)
{
    return q->header.compression_type > QCOW2_ZSTD;
}

static bool compression_bit_is_wrong(const struct qcow2 *q)
{
    bool bit = q->header.incompatible_features & QCOW2_INCOMPAT_COMPRESSION;

    return !compression_is_unknown(q) && bit != (q->header.compression_type != QCOW2_DEFLATE);
}

static bool has_unknown_incompat(const struct qcow2 *q)
{
    return q->header.incompatible_features & ~(uint64_t)QCOW2_INCOMPAT_KNOWN;
}

/* While the dirty bit is not set, the counts are right. */
static bool has_lazy_refcounts(const struct qcow2 *q)
{
    return q->g.version > 2 && (q->header.compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS) &&
           !(q->header.incompatible_features & QCOW2_INCOMPAT_DIRTY);
}

static bool has_unknown_compat(const struct qcow2 *q)
{
    return q->header.compatible_features & ~(uint64_t)QCOW2_COMPAT_KNOWN;
}

static bool has_unknown_autoclear(const struct qcow2 *q)
{
    return q->header.autoclear_features & ~(uint64_t)QCOW2_AUTOCLEAR_KNOWN;
}

static bool extended_l2_needs_larger_clusters(const struct qcow2 *q)
{
    return q->g.is_usable && (q->header.incompatible_features & QCOW2_INCOMPAT_EXTENDED_L2) &&
           q->header.cluster_bits < QCOW2_MIN_EXTENDED_BITS;
}

static bool refcount_order_is_invalid(const struct qcow2 *q)
{
    return q->header.refcount_order > QCOW2_MAX_REFCOUNT_ORDER;
}

static bool crypt_is_unknown(const struct qcow2 *q)
{
    return q->header.crypt_method > QCOW2_CRYPT_LUKS;
}

static bool l1_size_is_too_large(const struct qcow2 *q)
{
    return q->header.l1_size > QCOW2_MAX_L1_ENTRIES;
}

static bool l1_is_misaligned(const struct qcow2 *q)
{
    return q->g.is_usable && !vd_is_aligned(q->header.l1_table_offset, q->g.cluster_size);
}

static bool l1_is_out_of_file(const struct qcow2 *q)
{
    return q->g.is_usable && !l1_is_misaligned(q) && q->header.l1_size && !l1_size_is_too_large(q) &&
           !vd_span_within((struct vd_span){q->header.l1_table_offset, 8 * (uint64_t)q->header.l1_size},
                           q->g.file_end);
}

static bool size_is_too_big(const struct qcow2 *q)
{
    return q->g.is_usable && (q->g.l1_need > QCOW2_MAX_L1_ENTRIES || q->header.size > INT64_MAX);
}

static bool size_exceeds_l1(const struct qcow2 *q)
{
    return q->g.is_usable && !size_is_too_big(q) && q->g.l1_need > q->header.l1_size;
}

static bool size_is_unaligned(const struct qcow2 *q)
{
    return q->header.size % QCOW2_SECTOR;
}

static bool reftable_is_missing(const struct qcow2 *q)
{
    return q->g.is_usable && q->header.refcount_table_clusters == 0;
}

static bool reftable_is_at_zero(const struct qcow2 *q)
{
    return q->g.is_usable && !reftable_is_missing(q) && q->header.refcount_table_offset == 0;
}

static bool reftable_is_misaligned(const struct qcow2 *q)
{
    return q->g.is_usable && !vd_is_aligned(q->header.refcount_table_offset, q->g.cluster_size);
}

static bool reftable_is_too_large(const struct qcow2 *q)
{
    return q->g.is_usable &&
           (uint64_t)q->header.refcount_table_clusters * q->g.cluster_size > QCOW2_MAX_REFTABLE_BYTES;
}

static bool reftable_is_out_of_file(const struct qcow2 *q)
{
    return q->g.is_usable && !reftable_is_misaligned(q) && !reftable_is_too_large(q) &&
           !vd_span_within((struct vd_span){q->header.refcount_table_offset,
                                            (uint64_t)q->header.refcount_table_clusters * q->g.cluster_size},
                           q->g.file_end);
}

static bool extension_overruns(const struct qcow2 *q)
{
    return q->ext.overruns;
}

static bool extension_has_no_end(const struct qcow2 *q)
{
    return q->g.is_usable && !q->ext.overruns && !q->ext.has_end && !length_is_large(q) &&
           !length_is_short(q);
}

static bool has_raw_without_data_file(const struct qcow2 *q)
{
    return (q->header.autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW) && !q->g.has_data_file;
}

static bool has_raw_and_backing(const struct qcow2 *q)
{
    return qcow2_has_raw_data(q) && q->header.backing_file_offset;
}

const struct qcow2_rule qcow2_rules[] = {
    {QCOW2_HEADER_MAGIC,               magic_is_wrong,                    "magic",                   QCOW2_REFUSES_OPEN                         },
    {QCOW2_HEADER_VERSION,             version_is_unknown,                "version",                 QCOW2_REFUSES_OPEN                         },
    {QCOW2_HEADER_CLUSTER_BITS,        cluster_bits_are_invalid,          "cluster_bits",
     QCOW2_REFUSES_OPEN | QCOW2_STOPS_WALK                                                                                                      },
    {QCOW2_HEADER_LENGTH_SHORT,        length_is_short,                   "header_length",           QCOW2_REFUSES_OPEN                         },
    {QCOW2_HEADER_LENGTH_LARGE,        length_is_large,                   "header_length",           QCOW2_REFUSES_OPEN                         },
    {QCOW2_HEADER_LENGTH_UNALIGNED,    length_is_unaligned,               "header_length",           0                                          },
    {QCOW2_HEADER_LENGTH_SUSPECT,      length_is_suspect,                 "header_length",           0                                          },
    {QCOW2_BACKING_OFFSET_INVALID,     backing_offset_is_invalid,         "backing_file_offset",     QCOW2_REFUSES_OPEN                         },
    {QCOW2_COMPRESSION_TYPE_UNKNOWN,   compression_is_unknown,            "compression_type",        QCOW2_REFUSES_OPEN                         },
    {QCOW2_COMPRESSION_BIT_MISMATCH,   compression_bit_is_wrong,          "incompatible_features",   QCOW2_REFUSES_OPEN                         },
    {QCOW2_INCOMPAT_UNKNOWN,           has_unknown_incompat,              "incompatible_features",
     QCOW2_REFUSES_OPEN | QCOW2_UNSUPPORTED | QCOW2_STOPS_WALK                                                                                  },
    {QCOW2_EXTL2_CLUSTER_SIZE,         extended_l2_needs_larger_clusters, "incompatible_features",
     QCOW2_REFUSES_OPEN | QCOW2_STOPS_WALK                                                                                                      },
    {QCOW2_REFCOUNT_ORDER_INVALID,     refcount_order_is_invalid,         "refcount_order",          QCOW2_REFUSES_OPEN                         },
    {QCOW2_CRYPT_METHOD_UNKNOWN,       crypt_is_unknown,                  "crypt_method",            QCOW2_REFUSES_OPEN                         },
    {QCOW2_REFTABLE_MISSING,           reftable_is_missing,               "refcount_table_clusters",
     QCOW2_REFUSES_OPEN | QCOW2_JUDGED_LATER                                                                                                    },
    {QCOW2_REFTABLE_ZERO_OFFSET,       reftable_is_at_zero,               "refcount_table_offset",   QCOW2_JUDGED_LATER                         },
    {QCOW2_REFTABLE_TOO_LARGE,         reftable_is_too_large,             "refcount_table_clusters",
     QCOW2_REFUSES_OPEN | QCOW2_JUDGED_LATER                                                                                                    },
    {QCOW2_REFTABLE_MISALIGNED,        reftable_is_misaligned,            "refcount_table_offset",
     QCOW2_REFUSES_OPEN | QCOW2_JUDGED_LATER                                                                                                    },
    {QCOW2_REFTABLE_OUT_OF_FILE,       reftable_is_out_of_file,           "refcount_table_offset",   QCOW2_JUDGED_LATER                         },
    {QCOW2_L1_SIZE_TOO_LARGE,          l1_size_is_too_large,              "l1_size",                 QCOW2_REFUSES_OPEN | QCOW2_JUDGED_ELSEWHERE},
    {QCOW2_L1_OFFSET_MISALIGNED,       l1_is_misaligned,                  "l1_table_offset",         QCOW2_REFUSES_OPEN | QCOW2_STOPS_WALK      },
    {QCOW2_L1_OFFSET_OUT_OF_FILE,      l1_is_out_of_file,                 "l1_table_offset",         QCOW2_STOPS_WALK                           },
    {QCOW2_SIZE_TOO_BIG,               size_is_too_big,                   "size",                    QCOW2_REFUSES_OPEN                         },
    {QCOW2_SIZE_EXCEEDS_L1,            size_exceeds_l1,                   "size",                    QCOW2_REFUSES_OPEN                         },
    {QCOW2_SIZE_UNALIGNED,             size_is_unaligned,                 "size",                    0                                          },
    {QCOW2_EXT_OVERRUN,                extension_overruns,                "header_length",           QCOW2_REFUSES_OPEN                         },
    {QCOW2_EXT_NO_END,                 extension_has_no_end,              "header_length",           0                                          },
    {QCOW2_BACKING_FORMAT_TOO_LONG,    backing_format_is_too_long,        "backing_file_size",       QCOW2_REFUSES_OPEN                         },
    {QCOW2_BACKING_NAME_TOO_LONG,      backing_name_is_too_long,          "backing_file_size",       QCOW2_REFUSES_OPEN                         },
    {QCOW2_DATA_FILE_RAW_WITHOUT_FILE, has_raw_without_data_file,         "autoclear_features",      QCOW2_REFUSES_OPEN                         },
    {QCOW2_BACKING_WITH_RAW_DATA_FILE, has_raw_and_backing,               "autoclear_features",      0                                          },
    {QCOW2_LAZY_REFCOUNTS,             has_lazy_refcounts,                "compatible_features",     0                                          },
    {QCOW2_COMPAT_UNKNOWN,             has_unknown_compat,                "compatible_features",     0                                          },
    {QCOW2_AUTOCLEAR_UNKNOWN,          has_unknown_autoclear,             "autoclear_features",      0                                          },
    {0,                                NULL,                              NULL,                      0                                          },
};
