/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making an empty QED image: header, name of the backing file, zeroed L1 table.
 */
#include "formats/qed/qed.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "formats/base/text.h"

static int take_pair(const char *pair, struct qed_header *h, struct vd_err *err)
{
    const char *equals = strchr(pair, '=');
    size_t key = equals ? (size_t)(equals - pair) : strlen(pair);
    int64_t v = 0;

    if (!equals || !vd_text_parse_size(equals + 1, &v) || v > UINT32_MAX)
        return vd_fail(err, VD_ERR_USAGE, 0, "'%s': KEY=NUMBER expected", pair);
    if (strncmp(pair, "cluster_size", key) == 0 && key == strlen("cluster_size"))
        h->cluster_size = (uint32_t)v;
    else if (strncmp(pair, "table_size", key) == 0 && key == strlen("table_size"))
        h->table_size = (uint32_t)v;
    else
        return vd_fail(err, VD_ERR_USAGE, 0, "'%s': the options of qed are cluster_size and table_size",
                       pair);
    return 0;
}

static int judge_options(const struct qed_header *h, const struct qed_geometry *g, struct vd_err *err)
{
    if (!vd_is_power_of_2(h->cluster_size) || h->cluster_size < QED_MIN_CLUSTER_SIZE ||
        h->cluster_size > QED_MAX_CLUSTER_SIZE)
        return vd_fail(err, VD_ERR_USAGE, 0,
                       "cluster_size %" PRIu32 ": a power of two from 4k to 64M expected", h->cluster_size);
    if (!vd_is_power_of_2(h->table_size) || h->table_size > QED_MAX_TABLE_SIZE)
        return vd_fail(err, VD_ERR_USAGE, 0, "table_size %" PRIu32 ": 1, 2, 4, 8 or 16 expected",
                       h->table_size);
    if (h->image_size > g->size_limit)
        return vd_fail(err, VD_ERR_USAGE, EFBIG, "with these options an image has at most %" PRIu64 " bytes",
                       g->size_limit);
    if (QED_HEADER_BYTES + h->backing_filename_size > h->cluster_size ||
        h->backing_filename_size >= QED_PORTABLE_BACKING_NAME)
        return vd_fail(err, VD_ERR_USAGE, ENAMETOOLONG, "backing file name of %" PRIu32 " bytes",
                       h->backing_filename_size);
    return 0;
}

int qed_co_create(struct BlockDriverState *file, const struct vd_create_options *opts, struct vd_err *err)
{
    size_t name_len = opts->backing_file ? strlen(opts->backing_file) : 0;
    struct qed_header h = {
        .magic = QED_MAGIC,
        .cluster_size = QED_DEFAULT_CLUSTER_SIZE,
        .table_size = QED_DEFAULT_TABLE_SIZE,
        .header_size = 1,
        .image_size = vd_align_up_sat((uint64_t)opts->size, QED_SECTOR),
    };
    vd_auto_mem uint8_t *bytes = calloc(1, QED_HEADER_BYTES + name_len + 1);
    struct qed_geometry g;

    if (!bytes)
        return vd_fail_memory(err);
    for (const char *const *pair = opts->pairs; pair && *pair; pair++)
        if (take_pair(*pair, &h, err) < 0)
            return -1;
    h.l1_table_offset = h.cluster_size;
    if (name_len) {
        h.features = QED_F_BACKING_FILE;
        if (opts->backing_format && strcmp(opts->backing_format, "raw") == 0)
            h.features |= QED_F_BACKING_FORMAT_NO_PROBE;
        h.backing_filename_offset = QED_HEADER_BYTES;
        h.backing_filename_size = name_len > UINT32_MAX ? UINT32_MAX : (uint32_t)name_len;
        memcpy(bytes + QED_HEADER_BYTES, opts->backing_file, name_len);
    }
    g = qed_derive(&h, h.cluster_size);
    if (judge_options(&h, &g, err) < 0)
        return -1;
    vd_encode(&qed_header_layout, &h, bytes);
    if (bdrv_truncate(file, (int64_t)(h.cluster_size + g.table_bytes), err) < 0 ||
        bdrv_pwrite(file, 0, (int64_t)(QED_HEADER_BYTES + name_len), bytes, VD_STAGE_ROOT, err) < 0)
        return -1;
    return bdrv_flush(file, err);
}
