/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is odd or wrong in the header's cluster beside the fields: padding, extensions, and what the
 * extensions say of the backing file, the data file and the encryption.
 *
 * Files that the header names are not opened here.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/text.h"
#include "formats/qcow2/qcow2.h"

enum { ROOM = 96, FEATURE_FIELDS = 3, FEATURE_BITS = 64, OLD_SMALL_CLUSTER = 4096 };

static int write_field(struct vd_check *ck, const struct qcow2_header *fixed, const char *from,
                       const char *to, struct vd_err *err)
{
    ck->has_changed = true;
    return qcow2_write_fields(ck->bs, fixed, from, to, VD_STAGE_ROOT, err);
}

/* ---- behind the fields */

static int judge_rest(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    bool fits = (q->header.compression_type != QCOW2_DEFLATE) ==
                ((q->header.incompatible_features & QCOW2_INCOMPAT_COMPRESSION) != 0);

    if (q->rest.unknown_field)
        vd_found(ck, QCOW2_HEADER_UNKNOWN_FIELDS, .host = q->rest.unknown_field,
                 .found = q->header.header_length);
    if (q->rest.padding &&
        vd_found(ck, QCOW2_HEADER_PADDING_NONZERO, .host = QCOW2_V3_HEADER + 1, .found = q->rest.padding,
                 .expected = 0, .level = fits ? 0 : VD_LEVEL_NONE) == VD_FIX)
        return qcow2_patch(ck, QCOW2_V3_HEADER + 1, 7, 0, VD_STAGE_ROOT, err);
    return 0;
}

/* ---- extensions as such */

static void judge_types(struct vd_check *ck)
{
    const struct qcow2 *q = ck->bs->opaque;

    for (size_t i = 0; i < q->ext.n; i++) {
        const struct qcow2_extension *ext = &q->ext.v[i], *used = qcow2_find_extension(q, ext->type);

        if (!qcow2_is_known_extension(ext->type))
            vd_found(ck, QCOW2_EXT_UNKNOWN, .host = ext->off - 8, .found = ext->type);
        if (used != ext)
            vd_found(ck, QCOW2_EXT_DUPLICATE, .host = ext->off - 8, .found = ext->type,
                     .other_host = used->off - 8);
    }
    if (q->rest.after_end)
        vd_found(ck, QCOW2_EXT_DATA_AFTER_END, .host = q->rest.after_end);
}

/* ---- feature names */

/* The offset in the table of the first entry that cannot be right, or len. */
static uint64_t first_bad_name(const uint8_t *bytes, uint64_t len)
{
    bool named[FEATURE_FIELDS][FEATURE_BITS] = {0};
    uint64_t at = 0;

    for (; at + QCOW2_FEATURE_NAME_BYTES <= len; at += QCOW2_FEATURE_NAME_BYTES) {
        uint8_t field = bytes[at], bit = bytes[at + 1];

        if (field >= FEATURE_FIELDS || bit >= FEATURE_BITS || named[field][bit])
            return at;
        named[field][bit] = true;
    }
    return at;
}

static int judge_feature_names(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_extension *names = qcow2_find_extension(q, QCOW2_EXT_FEATURE_NAMES);
    uint64_t features = q->header.incompatible_features, bad;
    vd_auto_mem uint8_t *bytes = NULL;

    if (!names) {
        /* The dirty and the corrupt bit are too old to be named by everybody; small headers have no room. */
        if ((features & ~(uint64_t)(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT)) &&
            q->g.cluster_size > OLD_SMALL_CLUSTER)
            vd_found(ck, QCOW2_FEATURE_TABLE_MISSING, .host = 72, .found = features);
        return 0;
    }
    bytes = malloc(names->len + 1);
    if (!bytes)
        return vd_fail_memory(err);
    if (bdrv_pread_padded(ck->bs->file, (int64_t)names->off, names->len, bytes, err) < 0)
        return vd_while(err, "feature name table");
    bad = first_bad_name(bytes, names->len);
    if (bad != names->len && vd_found(ck, QCOW2_FEATURE_TABLE_INVALID, .host = names->off + bad) == VD_FIX)
        return qcow2_drop_extension(ck, names, err);
    return 0;
}

/* ---- the backing file's name and format */

/* The name ends at the first NUL for every program; other control bytes are only odd. */
static int judge_backing_name(struct vd_check *ck, struct vd_err *err)
{
    const struct BlockDriverState *bs = ck->bs;
    const struct qcow2 *q = bs->opaque;
    struct qcow2_header fixed = q->header;
    size_t len = 0;

    while (len < bs->backing_file_len && (unsigned char)bs->backing_file[len] >= 0x20 &&
           bs->backing_file[len] != 0x7f)
        len++;
    if (len == bs->backing_file_len)
        return 0;
    fixed.backing_file_size = (uint32_t)len;
    if (vd_found(ck, QCOW2_BACKING_NAME_NUL, .host = q->header.backing_file_offset + len,
                 .found = (unsigned char)bs->backing_file[len],
                 .level = len && !bs->backing_file[len] ? 0 : VD_LEVEL_NONE) == VD_FIX)
        return write_field(ck, &fixed, "backing_file_size", "backing_file_size", err);
    return 0;
}

/* A format without a name: the name may still stand where it always stands. */
static int judge_orphan(struct vd_check *ck, const struct qcow2_extension *format, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header fixed = q->header;
    const char *name = q->rest.lost_backing;
    char text[ROOM];

    fixed.backing_file_offset = q->ext.end;
    fixed.backing_file_size = name ? (uint32_t)strlen(name) : 0;
    if (vd_found(ck, QCOW2_BACKING_FORMAT_ORPHAN, .host = name ? 8 : format->off - 8,
                 .found = q->header.backing_file_offset, .guest = name ? 0 : VD_NOWHERE,
                 .guest_bytes = name ? q->g.size : 0,
                 .expected_text = name ? vd_text_copy(text, sizeof(text), name, strlen(name)) : NULL,
                 .level = name ? 0 : VD_LEVEL_NONE) == VD_FIX)
        return write_field(ck, &fixed, "backing_file_offset", "backing_file_size", err);
    return 0;
}

static int judge_backing(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_extension *format = qcow2_find_extension(q, QCOW2_EXT_BACKING_FORMAT);

    if (format && !q->header.backing_file_offset)
        return judge_orphan(ck, format, err);
    if (!ck->bs->backing_file)
        return 0;
    if (!format || !format->len)
        vd_found(ck, QCOW2_BACKING_FORMAT_MISSING, .host = q->header.backing_file_offset);
    return judge_backing_name(ck, err);
}

/* ---- the external data file, as far as the header tells */

/* Is it the image's own name, as it was given or beside it? */
static bool names_itself(const struct BlockDriverState *bs, const char *name)
{
    const char *slash = strrchr(bs->filename, '/'), *own = slash ? slash + 1 : bs->filename;

    if (strncmp(name, "./", 2) == 0)
        name += 2;
    return strcmp(name, own) == 0 || strcmp(name, bs->filename) == 0;
}

static void judge_data_file(struct vd_check *ck)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_extension *ext = qcow2_find_extension(q, QCOW2_EXT_DATA_FILE);
    char text[ROOM];

    if (q->rest.looks_like_v3) {
        uint64_t features = 0;
        uint8_t bytes[8];

        if (bdrv_pread_padded(ck->bs->file, QCOW2_V2_HEADER, sizeof(bytes), bytes, NULL) == 0)
            features = vd_get_be64(bytes);
        if (features & QCOW2_INCOMPAT_DATA_FILE)
            vd_found(ck, QCOW2_DATA_FILE_V2, .host = 4, .found = q->header.version);
        return;
    }
    if (!q->g.has_data_file) {
        if (ext)
            vd_found(ck, QCOW2_DATA_FILE_EXT_WITHOUT_BIT, .host = ext->off - 8,
                     .found_text = vd_text_copy(text, sizeof(text), q->data_file, strlen(q->data_file)));
        return;
    }
    if (!q->data_file || !*q->data_file)
        vd_found(ck, QCOW2_DATA_FILE_MISSING, .host = 72, .found = q->header.incompatible_features);
    else if (names_itself(ck->bs, q->data_file))
        vd_found(ck, QCOW2_DATA_FILE_SELF, .host = ext->off,
                 .found_text = vd_text_copy(text, sizeof(text), q->data_file, strlen(q->data_file)));
    else if (ck->data_file && ck->data_file->state == VD_FILE_MISSING)
        vd_found(ck, QCOW2_DATA_FILE_MISSING, .host = ext->off, .found_text = ck->data_file->why);
}

/* Where the data file is a raw disk of its own, every cluster of the disk has to lead to its place there. */
static void judge_raw_holes(struct vd_check *ck, const struct qcow2_walk *walk)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t total = vd_div_up(q->g.size, q->g.cluster_size), holes;

    if (!qcow2_has_raw_data(q) || ck->map_is_incomplete)
        return;
    holes = total - vd_min(total, walk->raw_n + walk->raw_zeroes);
    if (holes)
        vd_found(ck, QCOW2_DATAFILE_RAW_HOLE, .host = q->g.l1_off, .count = holes);
    if (walk->raw_zeroes)
        vd_found(ck, QCOW2_DATAFILE_RAW_HOLE, .host = q->g.l1_off, .count = walk->raw_zeroes,
                 .severity = VD_WARNING);
}

int qcow2_judge_data_file_map(struct vd_check *ck, const struct qcow2_walk *walk)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct vd_named_file *file = ck->data_file;
    uint64_t end;

    judge_raw_holes(ck, walk);
    if (!file || file->state != VD_FILE_FOUND)
        return 0;
    end = vd_min(walk->max_guest, q->g.size);
    if (file->size < end)
        vd_found(ck, QCOW2_DATA_FILE_SHORT, .guest = file->size, .guest_bytes = end - file->size,
                 .found = file->size, .expected = end);
    /* QEMU writes whole clusters, also behind the end of the disk. */
    else if (qcow2_has_raw_data(q) &&
             (file->size < q->g.size || file->size > vd_align_up_sat(q->g.size, q->g.cluster_size)))
        vd_found(ck, QCOW2_DATA_FILE_SIZE, .found = file->size, .expected = q->g.size);
    return 0;
}

/* ---- encryption */

/* An extension of an unknown type that leads to a LUKS header as the one for it would: its offset; else 0. */
static int find_mistyped(struct BlockDriverState *bs, uint64_t *ext_off, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    *ext_off = 0;
    for (size_t i = 0; i < q->ext.n; i++) {
        uint8_t bytes[8], magic[6];
        uint64_t off;

        if (qcow2_is_known_extension(q->ext.v[i].type) || q->ext.v[i].len != QCOW2_CRYPT_BYTES)
            continue;
        if (bdrv_pread_padded(bs->file, (int64_t)q->ext.v[i].off, sizeof(bytes), bytes, err) < 0)
            return -1;
        off = vd_get_be64(bytes);
        if (!off || off >= q->g.file_end || !vd_is_aligned(off, q->g.cluster_size))
            continue;
        if (bdrv_pread_padded(bs->file, (int64_t)off, sizeof(magic), magic, err) < 0)
            return -1;
        if (vd_get_be32(magic) == QCOW2_LUKS_MAGIC && vd_get_be16(magic + 4) == QCOW2_LUKS_MAGIC_END)
            *ext_off = q->ext.v[i].off - 8;
    }
    return 0;
}

static int judge_no_crypt_extension(struct vd_check *ck, struct vd_err *err)
{
    uint64_t mistyped;

    if (find_mistyped(ck->bs, &mistyped, err) < 0)
        return -1;
    if (vd_found(ck, QCOW2_CRYPT_EXT_MISSING, .host = mistyped ? mistyped : 32, .found = QCOW2_CRYPT_LUKS,
                 .expected = mistyped ? QCOW2_EXT_CRYPT : VD_NOWHERE,
                 .level = mistyped ? VD_LEVEL_ALL : VD_LEVEL_NONE) == VD_FIX)
        return qcow2_patch(ck, mistyped, 4, QCOW2_EXT_CRYPT, VD_STAGE_ROOT, err);
    return 0;
}

static int judge_unexpected(struct vd_check *ck, const struct qcow2_crypt *crypt, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header fixed = q->header;

    fixed.crypt_method = QCOW2_CRYPT_LUKS;
    if (vd_found(ck, QCOW2_CRYPT_EXT_UNEXPECTED, .host = crypt->where->off - 8,
                 .found = q->header.crypt_method, .expected = crypt->is_sane ? QCOW2_CRYPT_LUKS : VD_NOWHERE,
                 .level = crypt->is_sane ? VD_LEVEL_ALL : VD_LEVEL_NONE) == VD_FIX)
        return write_field(ck, &fixed, "crypt_method", "crypt_method", err);
    return 0;
}

static int judge_luks(struct vd_check *ck, const struct qcow2_crypt *crypt, struct vd_err *err)
{
    uint64_t ext = crypt->where->off;

    if (!crypt->is_located) {
        if (crypt->where->len != QCOW2_CRYPT_BYTES)
            vd_found(ck, QCOW2_CRYPT_EXT_INVALID, .host = ext - 4, .found = crypt->where->len,
                     .expected = QCOW2_CRYPT_BYTES);
        else
            vd_found(ck, QCOW2_CRYPT_EXT_INVALID, .host = ext, .found = crypt->ext.offset);
        return 0;
    }
    if (!crypt->is_sane) {
        vd_found(ck, QCOW2_LUKS_HEADER_DAMAGED, .host = crypt->ext.offset);
        return 0;
    }
    if (!crypt->active)
        vd_found(ck, QCOW2_LUKS_NO_ACTIVE_KEY, .host = crypt->ext.offset + QCOW2_LUKS_FIRST_SLOT, .found = 0);
    if (crypt->ext.length < crypt->need &&
        vd_found(ck, QCOW2_CRYPT_LENGTH_SHORT, .host = ext + 8, .found = crypt->ext.length,
                 .expected = crypt->length) == VD_FIX)
        return qcow2_patch(ck, ext + 8, 8, crypt->length, VD_STAGE_ROOT, err);
    return 0;
}

static int judge_crypt(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_crypt crypt;

    if (qcow2_read_crypt(ck->bs, &crypt, err) < 0)
        return -1;
    if (q->header.crypt_method == QCOW2_CRYPT_LUKS)
        return crypt.where ? judge_luks(ck, &crypt, err) : judge_no_crypt_extension(ck, err);
    /* The rule of an unknown method has judged it already. */
    return crypt.where && q->header.crypt_method < QCOW2_CRYPT_LUKS ? judge_unexpected(ck, &crypt, err) : 0;
}

static int judge_extension_types(struct vd_check *ck, struct vd_err *err)
{
    (void)err;
    judge_types(ck);
    judge_data_file(ck);
    return 0;
}

int qcow2_judge_extensions(struct vd_check *ck, struct vd_err *err)
{
    static int (*const steps[])(struct vd_check *, struct vd_err *) = {
        judge_extension_types, judge_rest, judge_feature_names, judge_backing, judge_crypt};
    const struct qcow2 *q = ck->bs->opaque;

    if (q->rest.is_misread)
        return 0;
    /* A repair moves what the next step would look at. */
    for (size_t i = 0; i < VD_ARRAY_SIZE(steps) && !ck->has_changed; i++)
        if (steps[i](ck, err) < 0)
            return -1;
    return 0;
}
