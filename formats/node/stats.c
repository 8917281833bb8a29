/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/stats.h"

struct stats {
    struct vd_io_stats *counts;
};

static struct vd_io_stats *counts_of(struct BlockDriverState *bs)
{
    return ((struct stats *)bs->opaque)->counts;
}

static int stats_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                        struct vd_err *err)
{
    counts_of(bs)->reads++;
    counts_of(bs)->bytes_read += (uint64_t)bytes;
    return bdrv_pread(bs->file, offset, bytes, buf, err);
}

static int stats_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                         enum vd_stage stage, struct vd_err *err)
{
    counts_of(bs)->writes++;
    counts_of(bs)->bytes_written += (uint64_t)bytes;
    return bdrv_pwrite(bs->file, offset, bytes, buf, stage, err);
}

static int stats_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                               enum vd_stage stage, struct vd_err *err)
{
    counts_of(bs)->writes++;
    return bdrv_pwrite_zeroes(bs->file, offset, bytes, stage, err);
}

static int stats_flush(struct BlockDriverState *bs, struct vd_err *err)
{
    counts_of(bs)->flushes++;
    return bdrv_flush(bs->file, err);
}

static const struct BlockDriver stats_driver = {
    .format_name = "stats",
    .description = "counts reads and writes",
    .is_filter = true,
    .instance_size = sizeof(struct stats),
    .bdrv_co_preadv = stats_preadv,
    .bdrv_co_pwritev = stats_pwritev,
    .bdrv_co_pwrite_zeroes = stats_pwrite_zeroes,
    .bdrv_co_flush = stats_flush,
};

struct BlockDriverState *vd_stats_new(struct BlockDriverState *below, struct vd_io_stats *stats,
                                      struct vd_err *err)
{
    struct BlockDriverState *bs = bdrv_new(&stats_driver, below->filename, below, err);

    if (bs) {
        bs->open_flags = below->open_flags;
        ((struct stats *)bs->opaque)->counts = stats;
    }
    return bs;
}
