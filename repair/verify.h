/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is a repaired image better, and no worse in any way?
 *
 * A comparison of places, not of sums: every finding that is left was there before at the same place, or
 * stands in a structure that no walk could reach before; and every guest byte that could be read reads the
 * same, except where a finding names it. Everything is read again through the overlay; nothing that the
 * repair remembered is used.
 */
#ifndef VD_VERIFY_H
#define VD_VERIFY_H

#include "checker/check.h"

struct vd_verify_input {
    struct BlockDriverState *file;    /* the image as it is */
    struct BlockDriverState *overlay; /* the image as it will be */
    const struct BlockDriver *drv;
    const struct vd_check_result *before, *after;
    struct vd_runs *named;          /* guest bytes that findings name, also those of the rounds between */
    const struct vd_runs *given_up; /* clusters */
    struct vd_budget *budget;
};

/* 0: no worse. -1 with VD_ERR_REFUSED and the first thing that is worse; other kinds where it could not be
 * told. */
int vd_verify(const struct vd_verify_input *in, struct vd_err *err);

#endif
