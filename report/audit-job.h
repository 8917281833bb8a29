/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a worker of an audit does with one image: the check that `vdcheck --output=json` makes, as one object;
 * or the repair.
 */
#ifndef VD_AUDIT_JOB_H
#define VD_AUDIT_JOB_H

#include "checker/audit.h"
#include "report/cli.h"
#include "report/render.h"

/* For struct vd_audit_options; opaque is a struct vd_cli. */
uint64_t vd_audit_job_check(void *opaque, const struct vd_candidate *image, FILE *out);
uint64_t vd_audit_job_repair(void *opaque, const struct vd_candidate *image, FILE *out);
void vd_audit_job_elsewhere(void *opaque, const struct vd_candidate *image, FILE *out);
void vd_audit_job_look(void *opaque, const struct vd_candidate *image, FILE *out);

/* For the two of them: the object of an answer, and one worker's share of the limits. */
json_t *vd_audit_job_object(const struct vd_answer *answer, const struct vd_image_report *r);
struct vd_throttle_limits vd_audit_job_share(const struct vd_cli *cli);

#endif
