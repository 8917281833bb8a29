/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A repair as a transaction, over one image or over all files of a chain: prepare may fail and changes
 * nothing; then commit for all, or abort for all; done always.
 *
 *     check ─► rounds of fixing on an overlay ─► check again ─► no worse? ─► journal ─► image
 */
#ifndef VD_TRANSACTION_H
#define VD_TRANSACTION_H

#include "checker/check.h"
#include "repair/journal.h"
#include "repair/plan.h"

/* One image of a transaction. */
struct vd_work {
    struct BlockDriverState *file; /* its file with filters, opened for writing unless it is a dry run */
    const struct BlockDriver *drv;
    const struct vd_chain_link *link; /* NULL: the step to the backing file is not judged */
    bool is_unfinished;               /* file shows what an interrupted repair of it will leave */
    struct vd_err undo_fault;         /* why the undo file of an earlier repair cannot be used; or none */
    bool was_finished;                /* an interrupted repair of it was finished just now */
    struct BlockDriverState *overlay; /* NULL until something is to be fixed */
    struct vd_check_result before;    /* what was found; after a repair with what was fixed, and the map and
                                         sizes that it left */
    struct vd_check_result after;     /* of the overlay; empty where nothing was changed */
    struct vd_runs kept_leaks;        /* evidence that earlier repairs left, in clusters */
    struct vd_runs given_up;          /* by this one, in clusters */
    bool has_changes;
    bool has_evidence; /* what is leaked still is kept, for it may be somebody's data */
    struct vd_journal *journal;
    uint64_t writes, bytes_written;
    bool is_applied; /* the image is as `after` says; else it is as it was */
};

struct vd_transaction_options {
    struct vd_plan plan;
    struct vd_budget *budget;
    const char *spill_dir; /* for overlays past their bound; NULL: memory only */
    size_t places_kept;
    bool whole_chain;
    bool deep;
    bool until_it_opens; /* repairs no more than the driver needs to open the image: for reading it out */
};

/*
 * Checks the image, works the repair out on an overlay, and verifies it. Nothing is written. With
 * VD_ERR_REFUSED the repair would make something worse and is dropped; work->before still tells what was
 * found.
 */
int vd_work_prepare(struct vd_work *work, const struct vd_transaction_options *opts, struct vd_err *err);

/* Fills the journal and makes it durable as part of a transaction of n journals, of which the first holds the
 * state. */
int vd_work_write_journal(struct vd_work *work, struct vd_journal *journal, struct vd_budget *budget,
                          struct vd_err *err);

/* Writes the new bytes to the image. Only after the main journal is PREPARED. */
int vd_work_apply(struct vd_work *work, struct vd_err *err);

/* Sets what was fixed in work->before, from what is left in work->after. */
int vd_work_settle(struct vd_work *work, struct vd_err *err);

/* Frees all but file, drv and link. */
void vd_work_done(struct vd_work *work);

#endif
