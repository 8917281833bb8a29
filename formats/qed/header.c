/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QED header: reading it, writing it, what follows from it, and the rules that it must keep.
 *
 * Nothing here judges: a geometry is derived from whatever the header says, and is_broken() of each rule
 * tells whether a rule is kept. A live open refuses the first broken rule that QEMU refuses; a check reports
 * them all.
 */
#include "formats/qed/qed.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define VD_LAYOUT_TYPE qed_header
VD_DEFINE_LAYOUT(qed_header, QED_HEADER, QED_HEADER_BYTES)

static bool is_cluster_size(uint64_t v)
{
    return vd_is_power_of_2(v) && v >= QED_MIN_CLUSTER_SIZE && v <= QED_MAX_CLUSTER_SIZE;
}

static bool is_table_size(uint64_t v)
{
    return vd_is_power_of_2(v) && v <= QED_MAX_TABLE_SIZE;
}

/* Where the header area really ends: as the header says, where that is possible at all; else at the first
 * table. */
static uint64_t header_end(const struct qed_header *h, const struct qed_geometry *g)
{
    uint64_t said = (uint64_t)h->header_size * g->cluster_size;
    bool l1_bounds =
        vd_is_aligned(g->l1_off, g->cluster_size) && g->l1_off >= g->cluster_size && g->l1_off < g->file_size;

    if (h->header_size == 0 || said > UINT32_MAX || said > g->file_size)
        return l1_bounds ? g->l1_off : g->cluster_size;
    return l1_bounds && said > g->l1_off ? g->l1_off : said;
}

struct qed_geometry qed_derive(const struct qed_header *h, uint64_t file_size)
{
    struct qed_geometry g = {.file_size = file_size, .l1_off = h->l1_table_offset};
    unsigned limit_bits;

    if (!is_cluster_size(h->cluster_size) || !is_table_size(h->table_size))
        return g;
    g.is_usable = true;
    g.cluster_size = h->cluster_size;
    g.cluster_bits = vd_log2(h->cluster_size);
    g.table_bytes = (uint64_t)h->table_size * h->cluster_size;
    g.table_n = g.table_bytes / 8;
    g.l1_shift = g.cluster_bits + vd_log2(g.table_n);
    limit_bits = g.l1_shift + vd_log2(g.table_n);
    g.size_limit = limit_bits >= 63 ? ((uint64_t)1 << 63) - QED_SECTOR : (uint64_t)1 << limit_bits;
    /* As QEMU has it: a last cluster that lacks less than a sector is there. */
    g.file_end = vd_align_down(vd_align_up_sat(file_size, QED_SECTOR), g.cluster_size);
    g.header_end = header_end(h, &g);
    return g;
}

int qed_read_header(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    uint8_t bytes[QED_HEADER_BYTES];
    int64_t size = bdrv_getlength(bs->file, err);

    if (size < 0)
        return -1;
    qed->has_header = size >= QED_HEADER_BYTES;
    if (!qed->has_header) {
        memset(&qed->header, 0, sizeof(qed->header));
        qed->g = (struct qed_geometry){.file_size = (uint64_t)size};
        return 0;
    }
    if (bdrv_pread(bs->file, 0, sizeof(bytes), bytes, err) < 0)
        return vd_while(err, "QED header");
    vd_decode(&qed_header_layout, bytes, &qed->header);
    qed->g = qed_derive(&qed->header, (uint64_t)size);
    bs->total_bytes = (int64_t)vd_min(qed->header.image_size, INT64_MAX);
    return 0;
}

int qed_write_header(struct BlockDriverState *bs, const struct qed_header *header, enum vd_stage stage,
                     struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    struct qed_header clean = *header;
    uint8_t bytes[QED_HEADER_BYTES];

    clean.autoclear_features = 0;
    vd_encode(&qed_header_layout, &clean, bytes);
    if (bdrv_pwrite(bs->file, 0, sizeof(bytes), bytes, stage, err) < 0)
        return vd_while(err, "QED header");
    qed->header = clean;
    qed->g = qed_derive(&clean, qed->g.file_size);
    bs->total_bytes = (int64_t)vd_min(clean.image_size, INT64_MAX);
    return 0;
}

int qed_read_backing_name(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    const struct qed_header *h = &qed->header;
    struct vd_span name = {h->backing_filename_offset, h->backing_filename_size};
    uint64_t end = qed->g.file_size;

    free(bs->backing_file);
    bs->backing_file = NULL;
    bs->backing_file_len = 0;
    bs->backing_format = h->features & QED_F_BACKING_FORMAT_NO_PROBE ? "raw" : NULL;
    /* Without a geometry nobody knows where the header area ends; the chain goes on all the same. */
    if (qed->g.is_usable)
        end = vd_min(qed->g.header_end, end);
    if (!(h->features & QED_F_BACKING_FILE) || !name.len || name.len >= QED_MAX_BACKING_NAME ||
        vd_span_end(name) > end)
        return 0;
    bs->backing_file = calloc(1, name.len + 1);
    if (!bs->backing_file)
        return vd_fail_memory(err);
    if (bdrv_pread(bs->file, (int64_t)name.off, (int64_t)name.len, bs->backing_file, err) < 0)
        return vd_while(err, "backing file name");
    bs->backing_file_len = name.len;
    return 0;
}

/* ---- the rules; those that need a geometry are kept where there is none */

static bool magic_is_wrong(const struct qed_header *h, const struct qed_geometry *g)
{
    (void)g;
    return h->magic != QED_MAGIC;
}

static bool has_unknown_features(const struct qed_header *h, const struct qed_geometry *g)
{
    (void)g;
    return h->features & ~(uint64_t)QED_F_KNOWN;
}

static bool cluster_size_is_invalid(const struct qed_header *h, const struct qed_geometry *g)
{
    (void)g;
    return !is_cluster_size(h->cluster_size);
}

static bool table_size_is_invalid(const struct qed_header *h, const struct qed_geometry *g)
{
    (void)g;
    return !is_table_size(h->table_size);
}

static bool image_size_is_invalid(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && (h->image_size % QED_SECTOR || h->image_size > g->size_limit);
}

static bool l1_is_misaligned(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && !vd_is_aligned(h->l1_table_offset, g->cluster_size);
}

/* An offset behind the first cluster may be right, and the header's size wrong: header_size_overlaps(). */
static bool l1_is_in_header(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && !l1_is_misaligned(h, g) && h->l1_table_offset < g->cluster_size;
}

static bool l1_is_out_of_file(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && !l1_is_misaligned(h, g) &&
           !vd_span_within((struct vd_span){h->l1_table_offset, g->table_bytes}, g->file_size);
}

static bool header_size_is_zero(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && h->header_size == 0;
}

static bool header_size_is_out_of_file(const struct qed_header *h, const struct qed_geometry *g)
{
    uint64_t said = (uint64_t)h->header_size * h->cluster_size;

    return g->is_usable && (said > UINT32_MAX || said > g->file_size);
}

static bool header_size_overlaps(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && !header_size_is_out_of_file(h, g) && !l1_is_misaligned(h, g) &&
           !l1_is_in_header(h, g) && h->l1_table_offset < (uint64_t)h->header_size * h->cluster_size;
}

static bool table_size_is_one(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && h->table_size == 1;
}

bool qed_geometry_overflows(const struct qed_geometry *g)
{
    return g->is_usable && g->l1_shift + vd_log2(g->table_n) >= 64;
}

static bool geometry_overflows(const struct qed_header *h, const struct qed_geometry *g)
{
    (void)h;
    return qed_geometry_overflows(g);
}

static bool has_backing(const struct qed_header *h)
{
    return h->features & QED_F_BACKING_FILE;
}

static bool backing_name_is_out_of_header(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && has_backing(h) &&
           (uint64_t)h->backing_filename_offset + h->backing_filename_size > g->header_end;
}

static bool backing_name_is_too_long(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && has_backing(h) && h->backing_filename_size >= QED_PORTABLE_BACKING_NAME &&
           !backing_name_is_out_of_header(h, g);
}

static bool backing_name_is_empty(const struct qed_header *h, const struct qed_geometry *g)
{
    return g->is_usable && has_backing(h) && h->backing_filename_size == 0 &&
           !backing_name_is_out_of_header(h, g);
}

static bool backing_format_without_backing(const struct qed_header *h, const struct qed_geometry *g)
{
    (void)g;
    return !has_backing(h) && (h->features & QED_F_BACKING_FORMAT_NO_PROBE);
}

static bool has_unknown_compat(const struct qed_header *h, const struct qed_geometry *g)
{
    (void)g;
    return h->compat_features != 0;
}

static bool has_unknown_autoclear(const struct qed_header *h, const struct qed_geometry *g)
{
    (void)g;
    return h->autoclear_features != 0;
}

const struct qed_rule qed_rules[] = {
    {QED_HEADER_MAGIC,                magic_is_wrong,                 "magic",                   QED_REFUSES_OPEN                  },
    {QED_FEATURE_UNKNOWN,             has_unknown_features,           "features",                QED_REFUSES_OPEN                  },
    {QED_CLUSTER_SIZE_INVALID,        cluster_size_is_invalid,        "cluster_size",
     QED_REFUSES_OPEN | QED_STOPS_WALK | QED_CAN_REBUILD                                                                           },
    {QED_TABLE_SIZE_INVALID,          table_size_is_invalid,          "table_size",
     QED_REFUSES_OPEN | QED_STOPS_WALK | QED_CAN_REBUILD                                                                           },
    {QED_TABLE_SIZE_ONE,              table_size_is_one,              "table_size",              0                                 },
    {QED_GEOMETRY_OVERFLOW,           geometry_overflows,             "cluster_size",            0                                 },
    {QED_IMAGE_SIZE_INVALID,          image_size_is_invalid,          "image_size",              QED_REFUSES_OPEN                  },
    {QED_L1_OFFSET_MISALIGNED,        l1_is_misaligned,               "l1_table_offset",
     QED_REFUSES_OPEN | QED_STOPS_WALK | QED_CAN_REBUILD                                                                           },
    {QED_L1_OFFSET_IN_HEADER,         l1_is_in_header,                "l1_table_offset",
     QED_REFUSES_OPEN | QED_STOPS_WALK | QED_CAN_REBUILD                                                                           },
    {QED_L1_OFFSET_OUT_OF_FILE,       l1_is_out_of_file,              "l1_table_offset",
     QED_REFUSES_OPEN | QED_STOPS_WALK | QED_CAN_REBUILD                                                                           },
    {QED_HEADER_SIZE_ZERO,            header_size_is_zero,            "header_size",             QED_REFUSES_OPEN | QED_CAN_REBUILD},
    {QED_HEADER_SIZE_OUT_OF_FILE,     header_size_is_out_of_file,     "header_size",
     QED_REFUSES_OPEN | QED_CAN_REBUILD                                                                                            },
    {QED_HEADER_SIZE_OVERLAP,         header_size_overlaps,           "header_size",             QED_REFUSES_OPEN | QED_CAN_REBUILD},
    {QED_BACKING_NAME_OUT_OF_HEADER,  backing_name_is_out_of_header,  "backing_filename_offset",
     QED_REFUSES_OPEN                                                                                                              },
    {QED_BACKING_NAME_TOO_LONG,       backing_name_is_too_long,       "backing_filename_size",   0                                 },
    {QED_BACKING_NAME_EMPTY,          backing_name_is_empty,          "backing_filename_size",   0                                 },
    {QED_BACKING_FMT_WITHOUT_BACKING, backing_format_without_backing, "features",                0                                 },
    {QED_COMPAT_UNKNOWN,              has_unknown_compat,             "compat_features",         0                                 },
    {QED_AUTOCLEAR_UNKNOWN,           has_unknown_autoclear,          "autoclear_features",      0                                 },
    {0,                               NULL,                           NULL,                      0                                 },
};

bool qed_can_walk(const struct qed_header *h, const struct qed_geometry *g)
{
    for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++)
        if ((rule->flags & QED_STOPS_WALK) && rule->is_broken(h, g))
            return false;
    return true;
}
