/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bounds as an object: what an image may cost, however it was made, and whether somebody asked for the end.
 *
 * Before memory is allocated by a number that comes from an image, the budget is asked. It also carries the
 * flag that a signal handler sets and the progress that another one prints.
 */
#ifndef VD_BASE_BUDGET_H
#define VD_BASE_BUDGET_H

#include <signal.h>
#include <stdint.h>

#include "formats/base/err.h"

struct vd_budget {
    uint64_t memory;      /* bytes that may still be taken for tables and maps of one image */
    unsigned chain_depth; /* files in a backing chain */
    const volatile sig_atomic_t *cancelled; /* NULL where nothing can cancel */
    void (*progress)(void *opaque, const char *what, uint64_t done, uint64_t total); /* NULL: nobody looks */
    void *progress_opaque;
};

#define VD_BUDGET_MEMORY ((uint64_t)1 << 30)
#define VD_BUDGET_DEPTH  256

#define VD_BUDGET_INIT                                                                                       \
    {                                                                                                        \
        .memory = VD_BUDGET_MEMORY, .chain_depth = VD_BUDGET_DEPTH                                           \
    }

/* Takes bytes out of the budget; -1 (VD_ERR_LIMIT) where they are not there. what names the structure. */
int vd_budget_take(struct vd_budget *budget, uint64_t bytes, const char *what, struct vd_err *err);

/* Gives bytes back that were taken. */
void vd_budget_give(struct vd_budget *budget, uint64_t bytes);

/* -1 (VD_ERR_CANCELLED) once a signal has asked for the end; to be called between bounded pieces of work. */
int vd_budget_go_on(const struct vd_budget *budget, struct vd_err *err);

/* Says how far a piece of work is; done and total in units of its own. */
void vd_budget_progress(const struct vd_budget *budget, const char *what, uint64_t done, uint64_t total);

#endif
