/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The protocol node "memory": an image in memory, for sweeps over thousands of variants in one process.
 */
#ifndef VD_NODE_MEMORY_H
#define VD_NODE_MEMORY_H

#include "formats/node/block.h"

/* An empty node; with bytes, a copy of them. NULL: no memory. */
struct BlockDriverState *vd_memory_new(const char *name, const void *bytes, size_t len, struct vd_err *err);

/* Makes these bytes all that the node holds; it keeps its room. */
int vd_memory_fill(struct BlockDriverState *bs, const void *bytes, size_t len, struct vd_err *err);

/* The node's bytes and their number; good until the next write. */
uint8_t *vd_memory_bytes(struct BlockDriverState *bs, size_t *len);

#endif
