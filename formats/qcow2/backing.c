/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Another backing file: its name and its format in the header cluster.
 *
 *     header | backing format | the other extensions, as they are | end | ... | name
 *
 * The change becomes true with one write of the first sector, which has the pointer to the name, and the
 * format before all other extensions. What lies behind that sector is written before, into bytes that the
 * header as it was does not use, and what it did use is zeroed afterwards. Where extensions lie so that this
 * cannot be, the change is refused: a torn header is a lost image.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/live.h"

/* The header cluster as it is, and as it is to be. */
struct rewrite {
    uint64_t cs;
    uint8_t *old, *new;
    struct vd_span old_name, new_name; /* len 0: none */
    uint64_t old_end, new_end;         /* behind the end markers of the extensions */
};

/* Appends an extension to the new cluster; false where it has no room. */
static bool put(struct rewrite *rw, uint32_t type, const void *data, uint64_t len)
{
    uint64_t n = 8 + vd_align_up_sat(len, 8);

    if (n > rw->cs - rw->new_end)
        return false;
    memset(rw->new + rw->new_end, 0, n);
    vd_put_be32(rw->new + rw->new_end, type);
    vd_put_be32(rw->new + rw->new_end + 4, (uint32_t)len);
    if (len)
        memcpy(rw->new + rw->new_end + 8, data, len);
    rw->new_end += n;
    return true;
}

/* Lays the extensions out anew; without the format where there is none. */
static int put_extensions(struct BlockDriverState *bs, struct rewrite *rw, const char *format,
                          struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_extensions *ext = &q->ext;
    bool fits = true;

    rw->new_end = q->header.header_length;
    if (format)
        fits = put(rw, QCOW2_EXT_BACKING_FORMAT, format, strlen(format));
    for (size_t i = 0; i < ext->n && fits; i++)
        if (ext->v[i].type != QCOW2_EXT_BACKING_FORMAT)
            fits = put(rw, ext->v[i].type, rw->old + ext->v[i].off, ext->v[i].len);
    if (fits)
        fits = put(rw, QCOW2_EXT_END, NULL, 0);
    return fits ? 0
                : vd_fail(err, VD_ERR_UNSUPPORTED, ENOSPC, "%s: no room for the extensions of the header",
                          bs->filename);
}

/* Directly behind the extensions, or, where more sectors than one are written, behind all that is in use now.
 */
static int place_name(struct BlockDriverState *bs, struct rewrite *rw, size_t len, struct vd_err *err)
{
    rw->new_name = (struct vd_span){rw->new_end, len};
    if (rw->cs > QCOW2_SECTOR)
        rw->new_name.off = vd_max(rw->new_end, vd_align_up_sat(rw->old_end, 8));
    if (rw->cs > QCOW2_SECTOR && vd_spans_meet(rw->new_name, rw->old_name))
        rw->new_name.off = vd_align_up_sat(vd_span_end(rw->old_name), 8);
    if (vd_span_within(rw->new_name, rw->cs))
        return 0;
    return vd_fail(err, VD_ERR_UNSUPPORTED, ENAMETOOLONG,
                   "%s: no room for a backing file name of %zu bytes in the header", bs->filename, len);
}

static int read_cluster(struct BlockDriverState *bs, struct rewrite *rw, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    *rw = (struct rewrite){.cs = q->g.cluster_size, .old_end = q->ext.end};
    if (bs->backing_file)
        rw->old_name = (struct vd_span){q->header.backing_file_offset, bs->backing_file_len};
    rw->old = malloc(rw->cs);
    rw->new = malloc(rw->cs);
    if (!rw->old || !rw->new)
        return vd_fail_memory(err);
    if (bdrv_pread_padded(bs->file, 0, (int64_t)rw->cs, rw->old, err) < 0)
        return -1;
    memcpy(rw->new, rw->old, rw->cs);
    return 0;
}

/* Bytes of the cluster behind the first sector that a header uses. */
static struct vd_span behind_sector(uint64_t off, uint64_t end)
{
    off = vd_max(off, QCOW2_SECTOR);
    return (struct vd_span){off, end > off ? end - off : 0};
}

static struct vd_span name_behind_sector(struct vd_span name)
{
    return behind_sector(name.off, name.len ? vd_span_end(name) : 0);
}

/* Would writing a span of the new cluster change what the old header uses? */
static bool hurts(const struct rewrite *rw, struct vd_span span)
{
    const struct vd_span used[] = {behind_sector(0, rw->old_end), name_behind_sector(rw->old_name)};

    for (size_t i = 0; i < VD_ARRAY_SIZE(used); i++) {
        uint64_t from = vd_max(span.off, used[i].off), to = vd_min(vd_span_end(span), vd_span_end(used[i]));

        if (from < to && memcmp(rw->old + from, rw->new + from, to - from) != 0)
            return true;
    }
    return false;
}

static int write_span(struct BlockDriverState *bs, const struct rewrite *rw, struct vd_span span,
                      enum vd_stage stage, struct vd_err *err)
{
    return bdrv_pwrite(bs->file, (int64_t)span.off, (int64_t)span.len, rw->new + span.off, stage, err);
}

/* Zeroes in the new cluster what only the old header used. */
static void clean(struct rewrite *rw)
{
    const struct vd_span old[] = {
        {0, rw->old_end},
        rw->old_name
    };

    for (size_t i = 0; i < VD_ARRAY_SIZE(old); i++)
        for (uint64_t at = old[i].off; at < vd_span_end(old[i]) && at < rw->cs; at++)
            if (at >= rw->new_end && !vd_spans_meet(rw->new_name, (struct vd_span){at, 1}))
                rw->new[at] = 0;
}

static int commit(struct BlockDriverState *bs, struct rewrite *rw, struct vd_err *err)
{
    uint64_t sector = vd_min(QCOW2_SECTOR, rw->cs);

    if (write_span(bs, rw, behind_sector(0, rw->new_end), VD_STAGE_NEW, err) < 0 ||
        write_span(bs, rw, name_behind_sector(rw->new_name), VD_STAGE_NEW, err) < 0 ||
        bdrv_flush(bs->file, err) < 0)
        return -1;
    clean(rw);
    if (write_span(bs, rw, (struct vd_span){0, sector}, VD_STAGE_ROOT, err) < 0 ||
        bdrv_flush(bs->file, err) < 0 ||
        write_span(bs, rw, behind_sector(0, rw->old_end), VD_STAGE_FLAG, err) < 0 ||
        write_span(bs, rw, name_behind_sector(rw->old_name), VD_STAGE_FLAG, err) < 0 ||
        bdrv_flush(bs->file, err) < 0)
        return -1;
    return qcow2_read_header(bs, err);
}

/* The new cluster, with these words; what cannot be is refused. */
static int compose(struct BlockDriverState *bs, struct rewrite *rw, const char *file, size_t len,
                   const char *format, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint8_t fields[QCOW2_HEADER_BYTES];
    struct qcow2_header h = q->header;

    if (put_extensions(bs, rw, format, err) < 0 || place_name(bs, rw, len, err) < 0)
        return -1;
    if (len)
        memcpy(rw->new + rw->new_name.off, file, len);
    h.backing_file_offset = len ? rw->new_name.off : 0;
    h.backing_file_size = (uint32_t)len;
    vd_encode(&qcow2_header_layout, &h, fields);
    /* The two fields of the name lie in a row, before all that versions differ in. */
    memcpy(rw->new + 8, fields + 8, 12);
    if (!hurts(rw, behind_sector(0, rw->new_end)) && !hurts(rw, name_behind_sector(rw->new_name)))
        return 0;
    return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP,
                   "%s: the header's extensions cannot be moved without a moment in which a power cut would "
                   "lose the image",
                   bs->filename);
}

static void done(struct rewrite *rw)
{
    free(rw->old);
    free(rw->new);
}

/* The name as it is goes behind everything that is to come, where the extensions will need its place. */
static int move_name_away(struct BlockDriverState *bs, uint64_t end, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct qcow2_header h = q->header;
    struct vd_span now = {h.backing_file_offset, bs->backing_file_len}, then = now;

    if (!bs->backing_file || !vd_spans_meet(now, behind_sector(0, end)))
        return 0;
    then.off = vd_align_up_sat(vd_max(end, vd_span_end(now)), 8);
    if (!vd_span_within(then, q->g.cluster_size))
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOSPC,
                       "%s: no room in the header to move the name of the "
                       "backing file",
                       bs->filename);
    h.backing_file_offset = then.off;
    if (bdrv_pwrite(bs->file, (int64_t)then.off, (int64_t)then.len, bs->backing_file, VD_STAGE_NEW, err) <
            0 ||
        bdrv_flush(bs->file, err) < 0 ||
        qcow2_write_fields(bs, &h, "backing_file_offset", "backing_file_size", VD_STAGE_ROOT, err) < 0 ||
        bdrv_flush(bs->file, err) < 0 ||
        bdrv_pwrite_zeroes(bs->file, (int64_t)now.off, (int64_t)now.len, VD_STAGE_FLAG, err) < 0)
        return -1;
    return qcow2_read_header(bs, err);
}

static int refuse_names(struct BlockDriverState *bs, size_t len, const char *format, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    if (len > QCOW2_MAX_BACKING_NAME)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENAMETOOLONG,
                       "%s: no room for a backing file name of %zu bytes", bs->filename, len);
    if (format && strlen(format) > QCOW2_MAX_BACKING_FORMAT)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENAMETOOLONG, "%s: no room for the backing format '%s'",
                       bs->filename, format);
    if (q->ext.overruns || (!q->ext.has_end && q->ext.n == QCOW2_MOST_EXTENSIONS))
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP,
                       "%s: the header's extensions are not understood to their end", bs->filename);
    return 0;
}

/* Would the new words have room at all? Asked before anything is written. */
static int refuse_lack_of_room(struct BlockDriverState *bs, size_t len, const char *format,
                               struct vd_err *err)
{
    struct rewrite rw;
    int rc = read_cluster(bs, &rw, err);

    if (rc == 0)
        rc = put_extensions(bs, &rw, format, err);
    if (rc == 0)
        rc = place_name(bs, &rw, len, err);
    done(&rw);
    return rc;
}

static int rewrite_header(struct BlockDriverState *bs, const char *file, size_t len, const char *format,
                          struct vd_err *err)
{
    struct rewrite rw;
    int rc = read_cluster(bs, &rw, err);

    if (rc == 0)
        rc = put_extensions(bs, &rw, format, err);
    if (rc == 0)
        rc = move_name_away(bs, rw.new_end, err);
    done(&rw);
    if (rc < 0)
        return -1;
    rc = read_cluster(bs, &rw, err);
    if (rc == 0)
        rc = compose(bs, &rw, file, len, format, err);
    if (rc == 0)
        rc = commit(bs, &rw, err);
    done(&rw);
    return rc;
}

int qcow2_change_backing_file(struct BlockDriverState *bs, const char *file, const char *format,
                              struct vd_err *err)
{
    size_t len = file ? strlen(file) : 0;

    if (qcow2_begin_write(bs, err) < 0)
        return -1;
    if (!len || (format && !*format))
        format = NULL;
    if (refuse_names(bs, len, format, err) < 0 || refuse_lack_of_room(bs, len, format, err) < 0)
        return -1;
    if (qcow2_prepare_header(bs, false, err) == 0 && rewrite_header(bs, file, len, format, err) == 0)
        return 0;
    return err && err->kind == VD_ERR_UNSUPPORTED ? -1 : qcow2_freeze(bs);
}
