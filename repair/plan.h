/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plan: what a repair will fix, at which level, and why it leaves the rest.
 *
 * One place holds the rules that no finding may break: a level is never exceeded, nothing is freed and no
 * flag cleared while corruption is left or something could not be read, and mass damage stops everything
 * below `all`.
 */
#ifndef VD_PLAN_H
#define VD_PLAN_H

#include "checker/check.h"

struct vd_plan {
    enum vd_level level;
    unsigned flags;      /* VD_HOLD, VD_FREEZE, VD_EVIDENCE of the first check */
    bool frees_nothing;  /* there is no room for the bytes that an undo file would have to keep */
    bool only_puts_back; /* for reading: references that were lost are put back; nothing is given up, copied
                            or cleared */
};

/* A vd_decide_fn; opaque is the plan. */
enum vd_verdict vd_plan_decide(void *opaque, const struct vd_check *ck, const struct vd_finding_kind *kind,
                               const struct vd_found_args *args, enum vd_severity severity,
                               enum vd_level level, const char **reason);

#endif
