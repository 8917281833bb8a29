/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a qcow2 image, as a table of passes (at the end of the file).
 */
#include "formats/qcow2/qcow2.h"

static const struct vd_pass passes[] = {
    {"header",   qcow2_pass_header, VD_ALWAYS, "the geometry is trusted from here on"},
    {0},
};

int qcow2_co_check(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    return vd_run_passes(check, passes, err);
}
