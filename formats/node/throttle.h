/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filter node "throttle": lets no more bytes and requests a second through than it was told.
 */
#ifndef VD_NODE_THROTTLE_H
#define VD_NODE_THROTTLE_H

#include "formats/node/block.h"

struct vd_throttle_limits {
    uint64_t bps;  /* bytes a second, read and written; 0: no limit */
    uint64_t iops; /* requests a second; 0: no limit */
};

/* Reads "bps=10M,iops=200" (either may be missing). -1 with VD_ERR_USAGE where the words do not fit. */
int vd_throttle_parse(const char *text, struct vd_throttle_limits *limits, struct vd_err *err);

/* A throttling node over below. Each has buckets of its own; a tenth of a second may be saved up. */
struct BlockDriverState *vd_throttle_new(struct BlockDriverState *below,
                                         const struct vd_throttle_limits *limits, struct vd_err *err);

/* Where the time goes, so that tests need not wait: called with nanoseconds instead of sleeping. NULL: sleep.
 */
void vd_throttle_set_sleep(struct BlockDriverState *bs, void (*sleep_ns)(void *opaque, uint64_t ns),
                           uint64_t (*now_ns)(void *opaque), void *opaque);

#endif
