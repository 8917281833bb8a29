/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking a repair back, and going on with one that was interrupted: over all files that it touched, or none.
 */
#ifndef VD_UNDO_H
#define VD_UNDO_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/node/block.h"

struct vd_undo_answer {
    char *image;
    char *undo_file;
};

/*
 * Takes back the newest repair of the image (or that of the undo file) that has not been taken back. dry_run:
 * only tells whether it could. VD_ERR_REFUSED where the image is no longer as that repair left it; nothing is
 * written then.
 */
int vd_undo_run(const char *path, const char *undo_file, bool dry_run, struct vd_undo_answer *answer,
                struct vd_err *err);
void vd_undo_answer_free(struct vd_undo_answer *answer);

/* A repair that was interrupted and is whole now. */
struct vd_recovered {
    bool is_whole;   /* there was something to go on with: such a repair, or an undo */
    char *undo_file; /* of the repair; NULL: it was none */
    char *level;     /* that was asked for then; NULL: not known */
    uint64_t writes, bytes_written;
};

void vd_recovered_free(struct vd_recovered *recovered);

/*
 * Goes on with an interrupted repair (forward) or undo (back) of the image, on all files that it touched. 0
 * also where there is none, or where it cannot be known: vd_look_through() says so then. undo_file: where its
 * journal may lie as well (NULL: nowhere else). *recovered (to be freed in any case) is what there was.
 * VD_ERR_REFUSED where a file is neither the old nor the new one, or where the image is but a member of the
 * repair of a chain.
 */
int vd_recover(const char *path, const char *undo_file, struct vd_recovered *recovered, struct vd_err *err);

/*
 * Looks at the image as it will be when its interrupted repair is finished: *file becomes an overlay over it
 * then, which the caller is to drop, and *is_unfinished is set. 0 also where there is no such repair. -1 with
 * *is_unfinished set: there is one, and its undo file cannot be had; *file is as it was. undo_file as above.
 */
int vd_look_through(struct BlockDriverState **file, const char *path, const char *undo_file,
                    bool *is_unfinished, struct vd_err *err);

#endif
