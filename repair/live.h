/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening an image for use: the one call that reads and writes guest data through a driver.
 */
#ifndef VD_LIVE_H
#define VD_LIVE_H

#include "formats/open.h"

struct vd_live_answer {
    bool was_dirty;    /* the image's own flag said so, or a repair of it was cut off */
    bool was_repaired; /* read-write only */
};

/*
 * Opens the image with its backing chain. Read-write and not closed cleanly, it is repaired first, at level
 * `safe`, in a transaction with an undo file (undo_file, or NULL: beside the image); where corruption is left
 * it is not opened. Read-only it is opened as it is. NULL on error.
 */
struct BlockDriverState *vd_live_open(const char *path, const struct vd_open_options *opts,
                                      const char *undo_file, struct vd_budget *budget,
                                      struct vd_live_answer *answer, struct vd_err *err);

/* Flushes, clears the flags that the open set, and drops the node. */
int vd_live_close(struct BlockDriverState *bs, struct vd_err *err);

#endif
