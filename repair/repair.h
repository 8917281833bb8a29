/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check, repair, dry run and undo of the files that a user names: locks, interrupted repairs, journals on
 * disk.
 */
#ifndef VD_REPAIR_H
#define VD_REPAIR_H

#include "formats/open.h"
#include "repair/transaction.h"
#include "repair/undo.h"

struct vd_request {
    struct vd_open_options open; /* flags without BDRV_O_RDWR: this page adds it */
    struct vd_budget *budget;
    enum vd_level level; /* 0: check only */
    bool dry_run;
    bool whole_chain;
    bool deep;
    bool if_dirty;           /* only images whose own flag says that they were not closed cleanly */
    const char *undo_file;   /* NULL: beside the image */
    const char *undo_folder; /* or in this folder, by a name made of the image's; NULL: no */
    bool drops_undo_file;    /* after the commit */
    size_t places_kept;
    uint64_t dev, ino;     /* refuse any other file that has the name; ino 0: whatever has it */
    void (*commits)(void); /* is called before the first byte is written; NULL: nobody wants to know */
};

/* One file of the request, base last. */
struct vd_outcome {
    struct vd_work work;
    struct BlockDriverState *bs; /* format node, opened for checking; borrowed from the chain */
    char *undo_file;             /* where the repair can be taken back from; NULL: none */
    bool was_repaired;           /* written, or (dry run) would be */
    bool was_skipped;            /* if_dirty, and it is not */
    bool is_backing;             /* part of the chain, not named itself */
};

VD_VEC(vd_outcome_vec, struct vd_outcome)

struct vd_answer {
    struct vd_chain_vec chain;
    struct vd_outcome_vec files;
    bool is_verified;
    char repair_id[33];            /* in all journals of this repair */
    struct vd_recovered recovered; /* of the first file, before it was looked at */
    const char *refusal; /* why no repair was made although some was possible; borrowed from err, or NULL */
};

/*
 * Checks (and repairs) the image at path. 0: done, and the answer tells how it is; -1: it could not be done,
 * the answer tells what was found so far, and the image is as it was (VD_ERR_BUSY, ...). The answer is to be
 * freed in both cases.
 */
int vd_request_run(const char *path, const struct vd_request *req, struct vd_answer *answer,
                   struct vd_err *err);
void vd_answer_free(struct vd_answer *answer);

#endif
