/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each snapshot, or bitmap, of an image holds for itself alone: the clusters that are free once it is
 * deleted.
 */
#ifndef VD_ALONE_H
#define VD_ALONE_H

#include "formats/base/budget.h"
#include "formats/base/vec.h"
#include "formats/node/block.h"

struct vd_alone {
    const char *what; /* as in struct vd_owner; a static text */
    char *id;
    char *name;     /* or NULL */
    uint64_t bytes; /* whole clusters of the file */
};

VD_VEC(vd_alone_vec, struct vd_alone)

/*
 * Adds one for each owner of the image of a format node, in the order in which the format tells them; nothing
 * where it has none, or does not tell. clusters is how many the file has. Every table is read twice at most,
 * however many owners share it. -1 on error; *out is to be freed in both cases.
 */
int vd_alone_count(struct BlockDriverState *bs, uint64_t clusters, uint64_t cluster_size,
                   struct vd_budget *budget, struct vd_alone_vec *out, struct vd_err *err);
void vd_alone_free(struct vd_alone_vec *alone);

#endif
