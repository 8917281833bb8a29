/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The qcow2 driver: probing, opening, what it tells of an image, and the table of its callbacks.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "formats/base/bytes.h"
#include "formats/info.h"
#include "formats/qcow2/live.h"

#define F(symbol, id, severity, level, flags, message, repair, explanation)                                  \
    {id, VD_##severity, VD_LEVEL_##level, flags, message, repair, explanation},
static const struct vd_finding_kind findings[] = {
#include "formats/qcow2/findings.def"
};
#undef F

/* Is all but the magic (or the version) that of a qcow2 image? Then that is what was hit. */
static bool rest_is_valid(const uint8_t *buf, int64_t file_size)
{
    vd_auto_mem struct qcow2 *q = calloc(1, sizeof(*q));

    if (!q)
        return false;
    qcow2_decode_header(buf, &q->header);
    q->g = qcow2_derive(&q->header, (uint64_t)file_size);
    if (!q->g.is_usable || !q->header.l1_table_offset || !q->header.refcount_table_offset)
        return false;
    for (const struct qcow2_rule *rule = qcow2_rules; rule->is_broken; rule++)
        if ((rule->flags & QCOW2_REFUSES_OPEN) && rule->finding != QCOW2_HEADER_MAGIC && rule->is_broken(q))
            return false;
    return true;
}

static int qcow2_probe(const uint8_t *buf, size_t len, int64_t file_size)
{
    if (len >= 8 && vd_get_be32(buf) == QCOW2_MAGIC)
        return vd_get_be32(buf + 4) == 1 ? 0 : 100; /* version 1 is another format */
    return len >= QCOW2_HEADER_BYTES && rest_is_valid(buf, file_size) ? 50 : 0;
}

/* A live open refuses what QEMU refuses, with the first rule that is broken. */
static int refuse_broken(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;

    if (!q->has_header)
        return vd_fail(err, VD_ERR_FORMAT, 0,
                       "%s: the file has %" PRIu64 " bytes, expected a qcow2 header of %d", bs->filename,
                       q->g.file_size, QCOW2_V3_HEADER);
    for (const struct qcow2_rule *rule = qcow2_rules; rule->is_broken; rule++) {
        const struct vd_field *field = vd_layout_find(&qcow2_header_layout, rule->field);

        if ((rule->flags & (QCOW2_REFUSES_OPEN | QCOW2_STOPS_WALK)) && rule->is_broken(q))
            return vd_fail(err, rule->flags & QCOW2_UNSUPPORTED ? VD_ERR_UNSUPPORTED : VD_ERR_FORMAT, 0,
                           "%s: %s at 0x%x is 0x%" PRIx64 ": %s (%s)", bs->filename, field->name,
                           field->offset, vd_field_get(field, &q->header), findings[rule->finding].message,
                           findings[rule->finding].id);
    }
    return 0;
}

static int refuse_flags(struct BlockDriverState *bs, int flags, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    if (!(flags & BDRV_O_RDWR))
        return 0;
    if (qcow2_has_corrupt_bit(q))
        return vd_fail(err, VD_ERR_FORMAT, 0,
                       "%s: the corrupt bit is set; check and repair the image before writing to it",
                       bs->filename);
    if (!(flags & BDRV_O_DIRTY_OK) && (q->header.incompatible_features & QCOW2_INCOMPAT_DIRTY))
        return vd_fail(err, VD_ERR_FORMAT, 0,
                       "%s: the dirty bit is set; check and repair the image before writing to it",
                       bs->filename);
    return 0;
}

static int qcow2_open(struct BlockDriverState *bs, int flags, struct vd_err *err)
{
    if (qcow2_read_header(bs, err) < 0)
        return -1;
    if (flags & BDRV_O_CHECK)
        return 0;
    return refuse_broken(bs, err) < 0 ? -1 : refuse_flags(bs, flags, err);
}

static void qcow2_close(struct BlockDriverState *bs)
{
    struct qcow2 *q = bs->opaque;

    qcow2_live_free(q->live);
    free(q->inflated.bytes);
    free(q->backing_format);
    free(q->data_file);
    free(q->rest.lost_backing);
}

static int qcow2_invalidate_cache(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;

    q->l1.n = q->l2.n = q->inflated.len = 0;
    if (q->live)
        qcow2_live_forget(q->live);
    return qcow2_read_header(bs, err);
}

static int qcow2_get_info(struct BlockDriverState *bs, struct BlockDriverInfo *info, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    (void)err;
    *info = (struct BlockDriverInfo){.cluster_size = (int64_t)q->g.cluster_size,
                                     .is_dirty = q->header.incompatible_features & QCOW2_INCOMPAT_DIRTY};
    return 0;
}

static size_t qcow2_get_create_options(struct BlockDriverState *bs, vd_pair *pairs)
{
    const struct qcow2 *q = bs->opaque;
    size_t n = 0;

    if (!q->g.is_usable)
        return 0;
    snprintf(pairs[n++], VD_PAIR_TEXT, "cluster_size=%" PRIu64, q->g.cluster_size);
    snprintf(pairs[n++], VD_PAIR_TEXT, "compat=%s", q->g.version == 2 ? "0.10" : "1.1");
    if (q->g.version == 2)
        return n;
    snprintf(pairs[n++], VD_PAIR_TEXT, "refcount_bits=%u", 1U << q->g.refcount_order);
    snprintf(pairs[n++], VD_PAIR_TEXT, "extended_l2=%s", q->g.has_extended_l2 ? "on" : "off");
    snprintf(pairs[n++], VD_PAIR_TEXT, "lazy_refcounts=%s",
             q->header.compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS ? "on" : "off");
    return n;
}

static int qcow2_get_specific_info(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err)
{
    static const char *const crypt[] = {"none", "aes", "luks"};
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_header *h = &q->header;

    vd_tell_text(info, "compat", h->version == 2 ? "0.10" : "1.1");
    vd_tell_text(info, "compression-type",
                 h->compression_type == QCOW2_DEFLATE ? "zlib"
                 : h->compression_type == QCOW2_ZSTD  ? "zstd"
                                                      : "unknown");
    vd_tell_number(info, "lazy-refcounts", VD_INFO_BOOL,
                   (h->compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS) != 0);
    vd_tell_number(info, "refcount-bits", VD_INFO_NUMBER, (uint64_t)1 << q->g.refcount_order);
    vd_tell_number(info, "dirty", VD_INFO_BOOL, (h->incompatible_features & QCOW2_INCOMPAT_DIRTY) != 0);
    vd_tell_number(info, "corrupt", VD_INFO_BOOL, qcow2_has_corrupt_bit(q));
    vd_tell_number(info, "extended-l2", VD_INFO_BOOL,
                   (h->incompatible_features & QCOW2_INCOMPAT_EXTENDED_L2) != 0);
    vd_tell_text(info, "encryption",
                 h->crypt_method <= QCOW2_CRYPT_LUKS ? crypt[h->crypt_method] : "unknown");
    if (q->g.has_data_file) {
        vd_tell_text(info, "data-file", q->data_file ? q->data_file : "");
        vd_tell_number(info, "data-file-raw", VD_INFO_BOOL, qcow2_has_raw_data(q));
    }
    vd_tell_number(info, "snapshots", VD_INFO_NUMBER, h->nb_snapshots);
    vd_tell_number(info, "l1-entries", VD_INFO_NUMBER, h->l1_size);
    vd_tell_number(info, "l1-table-offset", VD_INFO_OFFSET, h->l1_table_offset);
    vd_tell_number(info, "refcount-table-offset", VD_INFO_OFFSET, h->refcount_table_offset);
    vd_tell_number(info, "incompatible-features", VD_INFO_OFFSET, h->incompatible_features);
    vd_tell_number(info, "compatible-features", VD_INFO_OFFSET, h->compatible_features);
    vd_tell_number(info, "autoclear-features", VD_INFO_OFFSET, h->autoclear_features);
    return qcow2_bitmap_list(bs, info, err);
}

const struct BlockDriver vd_driver_qcow2 = {
    .format_name = "qcow2",
    .description = "QEMU copy-on-write, versions 2 and 3",
    .create_options = "compat, cluster_size, refcount_bits, lazy_refcounts, extended_l2, compression_type, "
                      "preallocation",
    .has_backing = true,
    .instance_size = sizeof(struct qcow2),
    .findings = findings,
    .findings_n = VD_ARRAY_SIZE(findings),
    .bdrv_probe = qcow2_probe,
    .bdrv_open = qcow2_open,
    .bdrv_close = qcow2_close,
    .bdrv_co_create = qcow2_co_create,
    .bdrv_co_preadv = qcow2_co_preadv,
    .bdrv_co_pwritev = qcow2_co_pwritev,
    .bdrv_co_pwrite_zeroes = qcow2_co_pwrite_zeroes,
    .bdrv_co_block_status = qcow2_co_block_status,
    .bdrv_co_truncate = qcow2_co_truncate,
    .bdrv_co_inactivate = qcow2_co_inactivate,
    .bdrv_co_idle = qcow2_co_idle,
    .bdrv_get_info = qcow2_get_info,
    .bdrv_get_create_options = qcow2_get_create_options,
    .bdrv_get_specific_info = qcow2_get_specific_info,
    .bdrv_snapshot_list = qcow2_snapshot_list,
    .bdrv_snapshot_load_tmp = qcow2_snapshot_load_tmp,
    .bdrv_change_backing_file = qcow2_change_backing_file,
    .bdrv_make_empty = qcow2_make_empty,
    .bdrv_co_invalidate_cache = qcow2_invalidate_cache,
    .bdrv_co_check = qcow2_co_check,
    .bdrv_guest_ranges = qcow2_guest_ranges,
    .bdrv_each_claim = qcow2_each_claim,
    .bdrv_find_field = qcow2_find_field,
};
