/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The status of an image, and the exit status of the program, as tables.
 */
#ifndef VD_STATUS_H
#define VD_STATUS_H

#include "repair/repair.h"

enum vd_status {
    VD_STATUS_CLEAN,
    VD_STATUS_REPAIRED,
    VD_STATUS_LEAKING,
    VD_STATUS_DIRTY,
    VD_STATUS_DAMAGED,
    VD_STATUS_UNSUPPORTED,
    VD_STATUS_ERROR,
    VD_STATUS_BUSY,
};

enum {
    VD_EXIT_CLEAN = 0,
    VD_EXIT_REPAIRED = 1,
    VD_EXIT_LEFT = 4,
    VD_EXIT_ERROR = 8,
    VD_EXIT_USAGE = 16,
    VD_EXIT_CANCELLED = 32,
    VD_EXIT_BUSY = 64,
};

const char *vd_status_name(enum vd_status status);

/* The status of a name; VD_STATUS_ERROR for a word that is none. */
enum vd_status vd_status_by_name(const char *name);

/* The bits of a status that was kept. has_left: findings other than warnings are left. */
int vd_status_kept_bits(enum vd_status status, bool has_left);

/* Of one file; out is NULL where it could not even be opened. A dry run has repaired nothing. */
enum vd_status vd_status_of(const struct vd_outcome *out, const struct vd_err *err, bool dry_run);

/* The bits that this image adds to the exit status. */
int vd_status_bits(enum vd_status status, const struct vd_outcome *out, const struct vd_err *err,
                   bool dry_run);

/* The exit status in qemu-img's convention, for one image; and of two images, the one that counts. */
int vd_status_qemu(enum vd_status status, const struct vd_outcome *out, bool dry_run);
int vd_status_qemu_worse(int a, int b);

/* The bit of an error outside any image. */
int vd_status_error_bit(enum vd_err_kind kind);

/* What is left of the findings; in a dry run all of them. */
struct vd_counts vd_status_left(const struct vd_outcome *out, bool dry_run);

#endif
