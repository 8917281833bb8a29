/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rest of the header's cluster: padding, fields and bytes that nobody knows, and where the extensions
 * would begin if the header's length were another one.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/text.h"
#include "formats/qcow2/qcow2.h"

bool qcow2_is_known_extension(uint32_t type)
{
    return type == QCOW2_EXT_BACKING_FORMAT || type == QCOW2_EXT_FEATURE_NAMES || type == QCOW2_EXT_BITMAPS ||
           type == QCOW2_EXT_CRYPT || type == QCOW2_EXT_DATA_FILE;
}

enum parses { NOTHING, END_MARKER, KNOWN_EXTENSION };

static enum parses parses_at(const struct qcow2 *q, const uint8_t *cluster, uint64_t at)
{
    uint64_t name = q->header.backing_file_offset,
             end = name > at ? vd_min(name, q->g.cluster_size) : q->g.cluster_size;
    uint32_t type = vd_get_be32(cluster + at), len = vd_get_be32(cluster + at + 4);

    if (type == QCOW2_EXT_END)
        return len ? NOTHING : END_MARKER;
    if (at + 8 > end || len > end - at - 8)
        return NOTHING;
    return qcow2_is_known_extension(type) ? KNOWN_EXTENSION : NOTHING;
}

/* Headers of version 3 have 104 bytes, or 112 with the compression type and its padding. */
static void find_fitting_length(struct qcow2 *q, const uint8_t *cluster)
{
    bool is_padded = cluster[QCOW2_V3_HEADER] <= QCOW2_ZSTD && vd_is_zero(cluster + QCOW2_V3_HEADER + 1, 7);
    enum parses at_112 = is_padded ? parses_at(q, cluster, QCOW2_HEADER_BYTES) : NOTHING,
                at_104 = parses_at(q, cluster, QCOW2_V3_HEADER);

    q->rest.fits_by_extension = at_112 == KNOWN_EXTENSION || at_104 == KNOWN_EXTENSION;
    if (at_112 == KNOWN_EXTENSION || (at_112 == END_MARKER && at_104 != KNOWN_EXTENSION))
        q->rest.fitting_length = QCOW2_HEADER_BYTES;
    else if (at_104 != NOTHING)
        q->rest.fitting_length = QCOW2_V3_HEADER;
    q->rest.is_misread = q->rest.fits_by_extension && q->rest.fitting_length != q->header.header_length &&
                         !(q->ext.n && qcow2_is_known_extension(q->ext.v[0].type));
}

/* The offset of the first byte in [from, to) that is not zero, or 0. */
static uint64_t first_byte(const uint8_t *cluster, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at++)
        if (cluster[at])
            return at;
    return 0;
}

/* Does the backing file's format stand there, and text where its name would, and only its offset is missing?
 */
static int find_lost_backing(struct qcow2 *q, const uint8_t *cluster, struct vd_err *err)
{
    const char *text = (const char *)cluster + q->ext.end;
    uint64_t room = q->ext.area_end - q->ext.end, len;

    if (q->header.backing_file_offset || !q->ext.has_end ||
        !qcow2_find_extension(q, QCOW2_EXT_BACKING_FORMAT))
        return 0;
    len = strnlen(text, room);
    if (!len || len > QCOW2_MAX_BACKING_NAME || !vd_text_is_plain(text, len) ||
        first_byte(cluster, q->ext.end + len, q->ext.area_end))
        return 0;
    q->rest.lost_backing = strndup(text, len);
    return q->rest.lost_backing ? 0 : vd_fail_memory(err);
}

int qcow2_read_rest(struct qcow2 *q, const uint8_t *cluster, struct vd_err *err)
{
    uint64_t length = q->header.header_length, cs = q->g.cluster_size;
    uint64_t features = vd_get_be64(cluster + QCOW2_V2_HEADER);
    uint32_t order = vd_get_be32(cluster + 96), stated = vd_get_be32(cluster + 100);

    if (q->g.version == 2)
        q->rest.looks_like_v3 = features && !(features & ~(uint64_t)QCOW2_INCOMPAT_KNOWN) &&
                                order <= QCOW2_MAX_REFCOUNT_ORDER &&
                                (stated == QCOW2_V3_HEADER || stated == QCOW2_HEADER_BYTES);
    else
        find_fitting_length(q, cluster);
    if (length >= QCOW2_HEADER_BYTES && length <= cs) {
        q->rest.padding = vd_get_be64(cluster + QCOW2_V3_HEADER) & (UINT64_MAX >> 8);
        q->rest.unknown_field = first_byte(cluster, QCOW2_HEADER_BYTES, length);
    }
    if (find_lost_backing(q, cluster, err) < 0)
        return -1;
    if (q->ext.has_end && !q->rest.lost_backing && !q->rest.looks_like_v3)
        q->rest.after_end = first_byte(cluster, q->ext.end, q->ext.area_end);
    return 0;
}
