/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filter node "overlay": a copy-on-write view of the node below, on which a repair is worked out.
 *
 * Writes stay in blocks of 4 KiB: in memory up to a bound, in an unlinked temporary file past it. Each block
 * remembers the latest stage (enum vd_stage) in which it was written, so that a commit knows the order
 * without knowing the format. Flushes do nothing; the node below is never written. Before each write the
 * overlay asks its owner.
 */
#ifndef VD_NODE_OVERLAY_H
#define VD_NODE_OVERLAY_H

#include "formats/node/block.h"

enum { VD_OVERLAY_BLOCK = 4096 };

/* May the host bytes be written? 0, or -1 with a story. */
typedef int vd_may_write_fn(void *opaque, int64_t offset, int64_t bytes, struct vd_err *err);

/* An overlay over base (a reference is taken). spill_dir is where the temporary file goes once it is needed
 * (NULL: memory only). */
struct BlockDriverState *vd_overlay_new(struct BlockDriverState *base, const char *spill_dir,
                                        struct vd_err *err);

/* may_write is asked before each write from now on; NULL: nobody is asked. */
void vd_overlay_ask(struct BlockDriverState *bs, vd_may_write_fn *may_write, void *opaque);

struct vd_overlay_block {
    uint64_t offset; /* bytes, a multiple of VD_OVERLAY_BLOCK */
    enum vd_stage stage;
};

/* How many blocks differ in storage (not necessarily in content) from the base. */
size_t vd_overlay_blocks(struct BlockDriverState *bs);

/* All blocks, sorted by offset; the caller frees. NULL where there are none (*n is 0) or memory is out (err).
 */
struct vd_overlay_block *vd_overlay_list(struct BlockDriverState *bs, size_t *n, struct vd_err *err);

/* Below which length has the base never been cut off? Bytes of the base at or behind it are not seen any
 * more. */
int64_t vd_overlay_low_water(struct BlockDriverState *bs);

#endif
