/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a worker of an audit does with one image: the check that `vdcheck --output=json` makes, as one object.
 */
#ifndef VD_AUDIT_JOB_H
#define VD_AUDIT_JOB_H

#include "checker/audit.h"
#include "report/cli.h"

/* For struct vd_audit_options; opaque is a struct vd_cli. */
uint64_t vd_audit_job_check(void *opaque, const struct vd_candidate *image, FILE *out);
char *vd_audit_job_elsewhere(void *opaque, const struct vd_candidate *image);
void vd_audit_job_look(void *opaque, const struct vd_candidate *image, FILE *out);

#endif
