/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filter node "stats": counts what passes.
 */
#ifndef VD_NODE_STATS_H
#define VD_NODE_STATS_H

#include "formats/node/block.h"

struct vd_io_stats {
    uint64_t reads, bytes_read;
    uint64_t writes, bytes_written;
    uint64_t flushes;
};

/* A counting node over below; it adds to *stats, which must outlive it. */
struct BlockDriverState *vd_stats_new(struct BlockDriverState *below, struct vd_io_stats *stats,
                                      struct vd_err *err);

#endif
