/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The gate: every name found inside an image (backing file, data file, extent, parent locator) is opened here
 * and nowhere else.
 *
 * A name is followed only to a regular file inside the folder of the image that names it, or inside a folder
 * that the user allows. Names with a protocol ("nbd:", "json:", "https:") and devices are refused, whatever
 * is allowed.
 */
#ifndef VD_NODE_GATE_H
#define VD_NODE_GATE_H

#include "formats/node/block.h"

struct vd_gate {
    const char *const *allowed; /* folders, as the user named them; borrowed */
    size_t allowed_n;
};

enum vd_gate_answer { VD_GATE_OPEN, VD_GATE_MISSING, VD_GATE_REFUSED };

/*
 * Where does a name that stands in the image `from` (a path) lead? With VD_GATE_OPEN, *path is the file's
 * real path (malloc'd). Otherwise err's story says what was found and what is allowed.
 */
enum vd_gate_answer vd_gate_find(const struct vd_gate *gate, const char *from, const char *name, size_t len,
                                 char **path, struct vd_err *err);

/* Opens a path that vd_gate_find() gave; a symbolic link that appeared since is refused. NULL on error. */
struct BlockDriverState *vd_gate_open(const char *path, int flags, struct vd_err *err);

#endif
