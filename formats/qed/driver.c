/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QED driver: probing, opening, what it tells of an image, and the table of its callbacks.
 */
#include "formats/qed/qed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/info.h"

#define F(symbol, id, severity, level, flags, message, repair, explanation)                                  \
    {id, VD_##severity, VD_LEVEL_##level, flags, message, repair, explanation},
static const struct vd_finding_kind findings[] = {
#include "formats/qed/findings.def"
};
#undef F

/* Is all but the magic that of a QED image? Then the magic is what was hit. */
static bool rest_is_valid(const uint8_t *buf, int64_t file_size)
{
    struct qed_header h;
    struct qed_geometry g;

    vd_decode(&qed_header_layout, buf, &h);
    g = qed_derive(&h, (uint64_t)file_size);
    for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++)
        if ((rule->flags & QED_REFUSES_OPEN) && rule->finding != QED_HEADER_MAGIC && rule->is_broken(&h, &g))
            return false;
    /* Zeroes are no header: they have no cluster size, and the rules above have said so. */
    return g.is_usable;
}

static int qed_probe(const uint8_t *buf, size_t len, int64_t file_size)
{
    if (len >= 4 && vd_get_le32(buf) == QED_MAGIC)
        return 100;
    return len >= QED_HEADER_BYTES && rest_is_valid(buf, file_size) ? 50 : 0;
}

/* A live open refuses what QEMU refuses, with the first rule that is broken. */
static int refuse_broken(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qed *qed = bs->opaque;

    if (!qed->has_header)
        return vd_fail(err, VD_ERR_FORMAT, 0,
                       "%s: the file has %" PRIu64 " bytes, expected a QED header of 64", bs->filename,
                       qed->g.file_size);
    for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++) {
        const struct vd_field *field = vd_layout_find(&qed_header_layout, rule->field);

        if ((rule->flags & QED_REFUSES_OPEN) && rule->is_broken(&qed->header, &qed->g))
            return vd_fail(err, rule->finding == QED_FEATURE_UNKNOWN ? VD_ERR_UNSUPPORTED : VD_ERR_FORMAT, 0,
                           "%s: %s at 0x%x is 0x%" PRIx64 ": %s (%s)", bs->filename, field->name,
                           field->offset, vd_field_get(field, &qed->header), findings[rule->finding].message,
                           findings[rule->finding].id);
    }
    if ((qed->header.features & QED_F_BACKING_FILE) &&
        qed->header.backing_filename_size >= QED_MAX_BACKING_NAME)
        return vd_fail(err, VD_ERR_FORMAT, ENAMETOOLONG, "%s: backing file name of %" PRIu32 " bytes",
                       bs->filename, qed->header.backing_filename_size);
    return 0;
}

static int qed_open(struct BlockDriverState *bs, int flags, struct vd_err *err)
{
    struct qed *qed = bs->opaque;

    if (qed_read_header(bs, err) < 0 || qed_read_backing_name(bs, err) < 0)
        return -1;
    if (flags & BDRV_O_CHECK)
        return 0;
    if (refuse_broken(bs, err) < 0)
        return -1;
    if ((flags & BDRV_O_RDWR) && !(flags & BDRV_O_DIRTY_OK) && (qed->header.features & QED_F_NEED_CHECK))
        return vd_fail(err, VD_ERR_FORMAT, 0,
                       "%s: need-check is set; check and repair the image before writing to it",
                       bs->filename);
    return 0;
}

static int qed_invalidate_cache(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qed *qed = bs->opaque;

    qed->l1.n = qed->l2.n = 0;
    qed->alloc_end = 0;
    if (qed_read_header(bs, err) < 0)
        return -1;
    return qed_read_backing_name(bs, err);
}

static int qed_get_info(struct BlockDriverState *bs, struct BlockDriverInfo *info, struct vd_err *err)
{
    const struct qed *qed = bs->opaque;

    (void)err;
    *info = (struct BlockDriverInfo){.cluster_size = (int64_t)qed->g.cluster_size,
                                     .is_dirty = qed->header.features & QED_F_NEED_CHECK};
    return 0;
}

/* Not a geometry that no QEMU opens. */
static size_t qed_get_create_options(struct BlockDriverState *bs, vd_pair *pairs)
{
    const struct qed *qed = bs->opaque;
    size_t n = 0;

    if (!qed->g.is_usable || qed->header.table_size == 1 || qed_geometry_overflows(&qed->g))
        return 0;
    snprintf(pairs[n++], VD_PAIR_TEXT, "cluster_size=%" PRIu64, qed->g.cluster_size);
    snprintf(pairs[n++], VD_PAIR_TEXT, "table_size=%" PRIu32, qed->header.table_size);
    return n;
}

static int qed_get_specific_info(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err)
{
    const struct qed *qed = bs->opaque;
    const struct qed_header *h = &qed->header;

    (void)err;
    vd_tell_number(info, "table-size", VD_INFO_NUMBER, h->table_size);
    vd_tell_number(info, "header-size", VD_INFO_NUMBER, h->header_size);
    vd_tell_number(info, "l1-table-offset", VD_INFO_OFFSET, h->l1_table_offset);
    vd_tell_number(info, "features", VD_INFO_OFFSET, h->features);
    vd_tell_number(info, "compat-features", VD_INFO_OFFSET, h->compat_features);
    vd_tell_number(info, "autoclear-features", VD_INFO_OFFSET, h->autoclear_features);
    vd_tell_number(info, "need-check", VD_INFO_BOOL, (h->features & QED_F_NEED_CHECK) != 0);
    if (qed->g.is_usable)
        vd_tell_number(info, "largest-size", VD_INFO_BYTES, qed->g.size_limit);
    return 0;
}

/* The format has no snapshots; an empty list is the answer. */
static int qed_snapshot_list(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err)
{
    (void)bs;
    (void)info;
    (void)err;
    return 0;
}

static int qed_make_empty(struct BlockDriverState *bs, struct vd_err *err)
{
    return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP, "%s: a QED image cannot be made empty", bs->filename);
}

/* Reads "[N]" at *p. */
static bool take_index(const char **p, uint64_t *index)
{
    char *end;

    if (**p != '[')
        return false;
    *index = strtoull(*p + 1, &end, 0);
    if (end == *p + 1 || *end != ']')
        return false;
    *p = end + 1;
    return true;
}

/* "header.NAME", "L1[i]", "L1[i].L2[k]". */
static int qed_find_field(struct BlockDriverState *bs, const char *name, uint64_t *offset, unsigned *bytes,
                          struct vd_err *err)
{
    const struct qed *qed = bs->opaque;
    const struct vd_field *field;
    uint64_t slot, i, entry;
    const char *p = name;

    *bytes = 8;
    if (strncmp(p, "header.", 7) == 0 && (field = vd_layout_find(&qed_header_layout, p + 7))) {
        *offset = field->offset;
        *bytes = vd_field_bytes(field);
        return 0;
    }
    if (strncmp(p, "L1", 2) == 0 && (p += 2) && take_index(&p, &slot)) {
        *offset = qed->g.l1_off + 8 * slot;
        if (*p == '\0')
            return 0;
        if (strncmp(p, ".L2", 3) == 0 && (p += 3) && take_index(&p, &i) && *p == '\0') {
            if (qed_read_entries(bs, qed->g.l1_off, slot, 1, &entry, err) < 0)
                return -1;
            *offset = entry + 8 * i;
            return 0;
        }
    }
    return vd_fail(err, VD_ERR_USAGE, 0, "'%s' is no field of a QED image", name);
}

const struct BlockDriver vd_driver_qed = {
    .format_name = "qed",
    .description = "QEMU Enhanced Disk",
    .create_options = "cluster_size, table_size",
    .has_backing = true,
    .instance_size = sizeof(struct qed),
    .findings = findings,
    .findings_n = VD_ARRAY_SIZE(findings),
    .bdrv_probe = qed_probe,
    .bdrv_open = qed_open,
    .bdrv_co_create = qed_co_create,
    .bdrv_co_preadv = qed_co_preadv,
    .bdrv_co_pwritev = qed_co_pwritev,
    .bdrv_co_pwrite_zeroes = qed_co_pwrite_zeroes,
    .bdrv_co_block_status = qed_co_block_status,
    .bdrv_co_truncate = qed_co_truncate,
    .bdrv_co_inactivate = qed_co_inactivate,
    .bdrv_co_idle = qed_co_idle,
    .bdrv_get_info = qed_get_info,
    .bdrv_get_create_options = qed_get_create_options,
    .bdrv_get_specific_info = qed_get_specific_info,
    .bdrv_change_backing_file = qed_change_backing_file,
    .bdrv_make_empty = qed_make_empty,
    .bdrv_snapshot_list = qed_snapshot_list,
    .bdrv_co_invalidate_cache = qed_invalidate_cache,
    .bdrv_co_check = qed_co_check,
    .bdrv_guest_ranges = qed_guest_ranges,
    .bdrv_each_claim = qed_each_claim,
    .bdrv_find_field = qed_find_field,
};
