/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/block.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/span.h"
#include "formats/base/text.h"

struct BlockDriverState *bdrv_new(const struct BlockDriver *drv, const char *filename,
                                  struct BlockDriverState *file, struct vd_err *err)
{
    struct BlockDriverState *bs = calloc(1, sizeof(*bs));

    if (bs) {
        bs->refs = 1;
        bs->drv = drv;
        bs->filename = strdup(filename);
        bs->opaque = drv->instance_size ? calloc(1, drv->instance_size) : NULL;
    }
    if (!bs || !bs->filename || (drv->instance_size && !bs->opaque)) {
        vd_fail_memory(err);
        if (bs) {
            free(bs->filename);
            free(bs->opaque);
        }
        free(bs);
        return NULL;
    }
    if (file)
        bs->file = bdrv_ref(file);
    return bs;
}

struct BlockDriverState *bdrv_open_node(const struct BlockDriver *drv, struct BlockDriverState *file,
                                        int flags, struct vd_err *err)
{
    vd_auto(BlockDriverState) bs = bdrv_new(drv, file->filename, file, err);

    if (!bs)
        return NULL;
    bs->open_flags = flags;
    if (drv->bdrv_open && drv->bdrv_open(bs, flags, err) < 0)
        return NULL;
    return vd_take(&bs);
}

struct BlockDriverState *bdrv_ref(struct BlockDriverState *bs)
{
    bs->refs++;
    return bs;
}

void bdrv_unref(struct BlockDriverState *bs)
{
    if (!bs || --bs->refs)
        return;
    if (bs->drv->bdrv_close)
        bs->drv->bdrv_close(bs);
    bdrv_unref(bs->backing);
    bdrv_unref(bs->data);
    bdrv_unref(bs->file);
    free(bs->backing_file);
    free(bs->opaque);
    free(bs->filename);
    free(bs);
}

/* The nearest node from bs down whose driver has a callback of its own. */
#define NODE_WITH(bs, callback)                                                                              \
    __extension__({                                                                                          \
        struct BlockDriverState *n_ = (bs);                                                                  \
        while (n_ && !n_->drv->callback)                                                                     \
            n_ = n_->drv->is_filter ? n_->file : NULL;                                                       \
        n_;                                                                                                  \
    })

static int refuse(struct BlockDriverState *bs, const char *what, struct vd_err *err)
{
    return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP, "%s: %s of %s", bs->filename, what,
                   bs->drv->format_name);
}

static int check_range(struct BlockDriverState *bs, int64_t offset, int64_t bytes, struct vd_err *err)
{
    int64_t end;

    if (offset < 0 || bytes < 0 || __builtin_add_overflow(offset, bytes, &end))
        return vd_fail(err, VD_ERR_USAGE, EINVAL, "%s: %" PRId64 " bytes at %" PRId64 " are no range",
                       bs->filename, bytes, offset);
    return 0;
}

int bdrv_pread(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf, struct vd_err *err)
{
    struct BlockDriverState *n = NODE_WITH(bs, bdrv_co_preadv);

    if (check_range(bs, offset, bytes, err) < 0)
        return -1;
    if (!n)
        return refuse(bs, "reading", err);
    return bytes ? n->drv->bdrv_co_preadv(n, offset, bytes, buf, err) : 0;
}

int bdrv_pread_padded(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                      struct vd_err *err)
{
    int64_t len = bdrv_getlength(bs, err), there;

    if (len < 0 || check_range(bs, offset, bytes, err) < 0)
        return -1;
    there = offset >= len ? 0 : (int64_t)vd_min((uint64_t)bytes, (uint64_t)(len - offset));
    memset((uint8_t *)buf + there, 0, (size_t)(bytes - there));
    return bdrv_pread(bs, offset, there, buf, err);
}

int bdrv_pwrite(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                enum vd_stage stage, struct vd_err *err)
{
    struct BlockDriverState *n = NODE_WITH(bs, bdrv_co_pwritev);

    if (check_range(bs, offset, bytes, err) < 0)
        return -1;
    if (!n)
        return refuse(bs, "writing", err);
    return bytes ? n->drv->bdrv_co_pwritev(n, offset, bytes, buf, stage, err) : 0;
}

/* For nodes that have no better way: zeroes, written in pieces. */
static int write_zero_bytes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                            struct vd_err *err)
{
    size_t piece = (size_t)vd_min((uint64_t)bytes, 1 << 20);
    vd_auto_mem void *zeroes = calloc(1, piece ? piece : 1);

    if (!zeroes)
        return vd_fail_memory(err);
    for (int64_t done = 0; done < bytes;) {
        int64_t n = (int64_t)vd_min((uint64_t)(bytes - done), piece);

        if (bdrv_pwrite(bs, offset + done, n, zeroes, stage, err) < 0)
            return -1;
        done += n;
    }
    return 0;
}

int bdrv_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                       struct vd_err *err)
{
    struct BlockDriverState *n = bs;

    if (check_range(bs, offset, bytes, err) < 0)
        return -1;
    while (n->drv->is_filter && !n->drv->bdrv_co_pwrite_zeroes && !n->drv->bdrv_co_pwritev)
        n = n->file;
    if (!bytes)
        return 0;
    if (n->drv->bdrv_co_pwrite_zeroes)
        return n->drv->bdrv_co_pwrite_zeroes(n, offset, bytes, stage, err);
    return write_zero_bytes(n, offset, bytes, stage, err);
}

int bdrv_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                      struct vd_err *err)
{
    struct BlockDriverState *n = NODE_WITH(bs, bdrv_co_block_status);
    int64_t ignored;

    if (check_range(bs, offset, bytes, err) < 0)
        return -1;
    *pnum = bytes;
    if (!map)
        map = &ignored;
    *map = offset;
    if (!n || !bytes)
        return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID;
    return n->drv->bdrv_co_block_status(n, offset, bytes, pnum, map, err);
}

bool bdrv_is_hole(struct BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    while (bytes > 0) {
        int64_t pnum = 0;
        int status = bdrv_block_status(bs, offset, bytes, &pnum, NULL, NULL);

        if (status < 0 || pnum <= 0 || (status & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) != BDRV_BLOCK_ZERO)
            return false;
        offset += pnum;
        bytes -= pnum;
    }
    return true;
}

int bdrv_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    struct BlockDriverState *n = NODE_WITH(bs, bdrv_co_truncate);

    if (check_range(bs, size, 0, err) < 0)
        return -1;
    return n ? n->drv->bdrv_co_truncate(n, size, err) : refuse(bs, "changing the length", err);
}

int bdrv_flush(struct BlockDriverState *bs, struct vd_err *err)
{
    return bs->drv->bdrv_co_flush ? bs->drv->bdrv_co_flush(bs, err) : bdrv_flush_below(bs, err);
}

int bdrv_flush_below(struct BlockDriverState *bs, struct vd_err *err)
{
    if (bs->data && bdrv_flush(bs->data, err) < 0)
        return -1;
    return bs->file ? bdrv_flush(bs->file, err) : 0;
}

int bdrv_inactivate(struct BlockDriverState *bs, struct vd_err *err)
{
    return bs->drv->bdrv_co_inactivate ? bs->drv->bdrv_co_inactivate(bs, err) : 0;
}

int64_t bdrv_getlength(struct BlockDriverState *bs, struct vd_err *err)
{
    struct BlockDriverState *n = NODE_WITH(bs, bdrv_getlength);

    return n ? n->drv->bdrv_getlength(n, err) : bs->total_bytes;
}

void bdrv_prefetch(struct BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    struct BlockDriverState *n = NODE_WITH(bs, bdrv_prefetch);

    if (n && bytes > 0)
        n->drv->bdrv_prefetch(n, offset, bytes);
}

struct BlockDriverState *bdrv_protocol(struct BlockDriverState *bs)
{
    while (bs->file)
        bs = bs->file;
    return bs;
}

bool bdrv_is_fixed_length(struct BlockDriverState *bs)
{
    struct BlockDriverState *n = bdrv_protocol(bs);

    return n->drv->bdrv_is_fixed_length && n->drv->bdrv_is_fixed_length(n);
}

const char *vd_owner_text(char *dst, size_t room, const struct vd_owner *owner)
{
    int n = snprintf(dst, room, "%s ", owner->what);

    if (n > 0 && (size_t)n < room)
        vd_text_escape(dst + n, room - (size_t)n, owner->id, strlen(owner->id));
    return dst;
}
