/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading many tables of an image, quickly.
 *
 * The tables are read in order of host offset, neighbours joined, through one small buffer; the kernel is
 * told a window of some MiB ahead what comes next. What lies in a hole is not read but told as a hole; a hole
 * longer than a piece is passed over in one step, so that a scan costs what is there and not what is claimed.
 */
#ifndef VD_NODE_SCAN_H
#define VD_NODE_SCAN_H

#include "formats/base/budget.h"
#include "formats/base/span.h"
#include "formats/node/block.h"

/* No piece is larger, and each is a multiple of 512 bytes where the table is. */
enum { VD_SCAN_PIECE = 256 * 1024 };

struct vd_scan_table {
    struct vd_span span; /* host bytes */
    uint64_t cookie;     /* the caller's */
};

/*
 * A piece of tables[i]: len bytes that stand at byte `at` of the table. bytes is NULL where they could not be
 * read (*why says how) or where they are all in a hole (is_hole). The words may be changed in place.
 */
struct vd_scan_piece {
    const struct vd_scan_table *table;
    uint64_t at;
    uint32_t len;
    uint8_t *bytes;
    bool is_hole;
    const struct vd_err *why;
};

typedef int vd_scan_fn(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err);

/*
 * Reads all n tables, which are sorted by offset and do not overlap, and tells each piece to fn. A read that
 * fails is told as a piece; -1 only where fn says so, where memory is out or where the budget's cancel flag
 * is set.
 */
int vd_scan(struct BlockDriverState *bs, const struct vd_scan_table *tables, size_t n,
            struct vd_budget *budget, vd_scan_fn *fn, void *opaque, struct vd_err *err);

#endif
