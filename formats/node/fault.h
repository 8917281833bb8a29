/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The filter node "fault": a disk that fails on demand, and one that remembers every write.
 *
 * Rules make reads, writes or flushes fail, tear a write, or cut the power: from then on nothing reaches the
 * node below. A recording holds all writes, truncations and flushes in order, from which a test builds the
 * disk of any cut point.
 */
#ifndef VD_NODE_FAULT_H
#define VD_NODE_FAULT_H

#include "formats/base/vec.h"
#include "formats/node/block.h"

enum vd_fault_op { VD_FAULT_READ, VD_FAULT_WRITE, VD_FAULT_FLUSH, VD_FAULT_TRUNCATE };

struct vd_fault_rule {
    enum vd_fault_op op;
    int errnum;            /* what the request fails with; 0: the power is cut instead */
    int64_t offset, bytes; /* only requests that touch this range; bytes 0: all */
    uint64_t skip;         /* how many matching requests pass first */
    uint64_t times;        /* how many fail then; 0: all that follow */
    int64_t torn_bytes;    /* power cut in a write: so many of its first bytes still arrive; -1: none */
};

struct vd_fault_event {
    enum vd_fault_op op; /* write, flush or truncate */
    int64_t offset;      /* of a truncate: the new length */
    int64_t bytes;
    uint8_t *data; /* of a write; owned by the recording */
};

VD_VEC(vd_fault_log, struct vd_fault_event)

/* A node over below, without rules. */
struct BlockDriverState *vd_fault_new(struct BlockDriverState *below, struct vd_err *err);

int vd_fault_add(struct BlockDriverState *bs, const struct vd_fault_rule *rule, struct vd_err *err);

/* Reads a rule: "write:cut=7" (the power fails at the 7th write), "read:errno=EIO,offset=64k,bytes=4k",
 * "flush:errno=EIO,skip=1,times=1", "write:cut=3,torn=512". VD_ERR_USAGE where it is none. */
int vd_fault_parse(const char *text, struct vd_fault_rule *rule, struct vd_err *err);

/* Has a rule cut the power? */
bool vd_fault_is_cut(struct BlockDriverState *bs);

/* Records from now on into *log (the caller's, empty); vd_fault_log_free() frees it. */
void vd_fault_record(struct BlockDriverState *bs, struct vd_fault_log *log);
void vd_fault_log_free(struct vd_fault_log *log);

#endif
