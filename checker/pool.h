/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Worker processes: jobs are numbers, each is done by one worker at a time, and nothing that a worker does or
 * suffers is more than the result of its job.
 *
 *     parent                          worker (forked; knows all jobs from the time of the fork)
 *       | -- job ------------------->   |  begin() once, then work() for each job
 *       | <- "not now" ------------    |  perhaps, where it comes to what is better not cut off
 *       | <- length, rest, bytes ----   |
 *
 * A worker that has done a job of one group does none of another: what begin() has shut for one group stays
 * shut. One that dies, takes too long or says too much is replaced.
 */
#ifndef VD_POOL_H
#define VD_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "formats/base/budget.h"

enum { VD_POOL_RESULT_MAX = 64 << 20 }; /* bytes of one result; ours */

/* How a job went. Without bytes, reason says in words why there are none. */
struct vd_pool_result {
    const char *bytes; /* ended by a NUL that does not count; NULL: none. Borrowed for the call */
    size_t len;
    char reason[200];
};

struct vd_pool_options {
    size_t jobs_n;
    unsigned workers;               /* at once; at least 1 */
    unsigned timeout_s;             /* a job; 0: none */
    uint64_t max_memory;            /* bytes of data of a worker; 0: no limit. None under a sanitizer */
    const struct vd_budget *budget; /* its signal ends all; NULL: none does */
    /* A signal, or the parent's death, gives no job up that is under way: its worker gets a SIGTERM, and its
     * result is waited for. */
    bool ends_gently;

    size_t (*group)(void *opaque, size_t job); /* NULL: all are of one */
    /* In the worker, before its first job. -1: it cannot work, and err says why. NULL: nothing to do. */
    int (*begin)(void *opaque, size_t job, struct vd_err *err);
    /* In the worker: writes the result. Answers for how many nanoseconds this worker gets no other job. */
    uint64_t (*work)(void *opaque, size_t job, FILE *out);
    /* In the parent, once for each job, in the order in which they end. -1 ends all. */
    int (*done)(void *opaque, size_t job, const struct vd_pool_result *result, struct vd_err *err);
    /* In the parent, at least every second while there is work. NULL: nobody wants to know. */
    int (*tick)(void *opaque, struct vd_err *err);
    void *opaque;
};

enum { VD_POOL_MORE_S = 600 }; /* seconds; ours */

/* In a worker: what its job does now is better not cut off, and gets VD_POOL_MORE_S seconds from now on.
 * Counts once a job. */
void vd_pool_need_time(void);

/* Does the jobs 0 to jobs_n - 1. -1 where done() or a signal ended it (VD_ERR_CANCELLED) or no worker can be
 * started: the jobs that were under way are given up then, and no worker is left. The process that calls it
 * has one thread. */
int vd_pool_run(const struct vd_pool_options *opts, struct vd_err *err);

#endif
