/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The progress line on standard error.
 */
#ifndef VD_PROGRESS_H
#define VD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct vd_progress {
    bool is_shown; /* a line that is written over again and again; else only when a signal asks */
    uint64_t last_ms;
    bool has_line;
    const char *image; /* borrowed */
};

/* For struct vd_budget's progress; opaque is a struct vd_progress. */
void vd_progress_tell(void *opaque, const char *what, uint64_t done, uint64_t total);

/* Wipes the line, so that other output can follow. */
void vd_progress_clear(struct vd_progress *progress);

#endif
