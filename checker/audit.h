/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One audit: find the images, pass over those that are as they were, have workers check the others, keep what
 * they say.
 *
 *     discover -> which shard? -> unchanged? -> pool of workers -> database
 *                        -> repairable? -> pool of workers that repair -> pool of workers -> database
 *
 * How an image is checked is the caller's: this page knows of files, workers and results.
 */
#ifndef VD_AUDIT_H
#define VD_AUDIT_H

#include <stdio.h>

#include "checker/discover.h"

struct vd_audit_options {
    const char *db;
    const char *host;
    const char *const *paths;
    size_t paths_n;
    struct vd_discover_options discover; /* its patterns and flags; the rest is filled here */
    unsigned workers, timeout_s;
    uint64_t max_memory;
    bool is_full;           /* also what is unchanged */
    bool resumes;           /* go on with the run that was cut off, if the last one was */
    bool has_no_walls;      /* workers are not confined */
    unsigned shard, shards; /* shard from 1; 1 of 1 for all */
    unsigned keep_days;     /* 0: for ever */
    const struct vd_budget *budget;

    /* Repairs: NULL, "leaks" or "safe"; and the folder of undo files, an absolute path, or NULL. */
    const char *repair_level, *undo_folder;

    /* In a worker. check() writes what --output=json has for the image, as one object, and answers for how
     * many nanoseconds the worker rests then; repair() does so of a repair, with is_cancelled where a signal
     * ended it; look() writes the path of the image's backing file, or nothing; elsewhere() the paths of
     * files that lie elsewhere and are needed for an image with repair files beside it, each with a NUL
     * behind it.
     */
    uint64_t (*check)(void *opaque, const struct vd_candidate *image, FILE *out);
    uint64_t (*repair)(void *opaque, const struct vd_candidate *image, FILE *out);
    void (*look)(void *opaque, const struct vd_candidate *image, FILE *out);
    void (*elsewhere)(void *opaque, const struct vd_candidate *image, FILE *out);
    /* In the parent: what could not be looked at, and is no image's result. */
    void (*complain)(void *opaque, const struct vd_err *err);
    void *opaque;
};

struct vd_audit_sums {
    uint64_t found, checked, unchanged, unreadable; /* images; the last: paths */
    uint64_t repaired;                              /* of the images: written to */
    bool was_resumed;
    double seconds;
    char run[64]; /* its name; "": none was begun */
};

/* -1 where the audit could not be done, or a signal ended it (VD_ERR_CANCELLED): what was finished is kept
 * then, too. *sums is filled in both cases. The process has one thread. */
int vd_audit_run(const struct vd_audit_options *opts, struct vd_audit_sums *sums, struct vd_err *err);

/* The version of the rules that an image is checked by: another one means that it is checked again. */
void vd_audit_rules(char *text, size_t room);

#endif
