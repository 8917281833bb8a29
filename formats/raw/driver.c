/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The raw driver: guest byte x is file byte x, and there is no metadata.
 *
 * Raw is never probed: everything would be raw. It is what the user or an image says it is.
 */
#include <string.h>

#include "formats/base/span.h"
#include "formats/node/block.h"

enum { SECTOR = 512 };

static int raw_open(struct BlockDriverState *bs, int flags, struct vd_err *err)
{
    int64_t len = bdrv_getlength(bs->file, err);

    (void)flags;
    if (len < 0)
        return -1;
    /* As QEMU has it: a last part of a sector is a sector. */
    bs->total_bytes = (int64_t)vd_align_up_sat((uint64_t)len, SECTOR);
    return 0;
}

static int raw_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                      struct vd_err *err)
{
    return bdrv_pread_padded(bs->file, offset, bytes, buf, err);
}

static int raw_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                       enum vd_stage stage, struct vd_err *err)
{
    return bdrv_pwrite(bs->file, offset, bytes, buf, stage, err);
}

static int raw_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                             struct vd_err *err)
{
    return bdrv_pwrite_zeroes(bs->file, offset, bytes, stage, err);
}

static int raw_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                            int64_t *map, struct vd_err *err)
{
    int status = bdrv_block_status(bs->file, offset, bytes, pnum, map, err);

    return status < 0 ? -1 : status | BDRV_BLOCK_ALLOCATED;
}

static int raw_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    if (bdrv_truncate(bs->file, size, err) < 0)
        return -1;
    return raw_open(bs, bs->open_flags, err);
}

static int raw_create(struct BlockDriverState *file, const struct vd_create_options *opts, struct vd_err *err)
{
    if (opts->backing_file)
        return vd_fail(err, VD_ERR_USAGE, 0, "a raw image has no backing file");
    if (opts->pairs && opts->pairs[0])
        return vd_fail(err, VD_ERR_USAGE, 0, "'%s': raw has no options", opts->pairs[0]);
    if (bdrv_truncate(file, opts->size, err) < 0)
        return -1;
    return bdrv_flush(file, err);
}

const struct BlockDriver vd_driver_raw = {
    .format_name = "raw",
    .description = "plain disk, no metadata",
    .bdrv_open = raw_open,
    .bdrv_co_create = raw_create,
    .bdrv_co_preadv = raw_preadv,
    .bdrv_co_pwritev = raw_pwritev,
    .bdrv_co_pwrite_zeroes = raw_pwrite_zeroes,
    .bdrv_co_block_status = raw_block_status,
    .bdrv_co_truncate = raw_truncate,
};
