/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the findings of an image say, in its part of the page.
 */
#ifndef VD_HTML_FINDING_H
#define VD_HTML_FINDING_H

#include <stdio.h>

#include "checker/farm.h"

/* The guest ranges that the places of corruption and of what cannot be read touch; nothing where there are
 * none. */
int vd_html_risk(FILE *f, const struct vd_farm_result *r, struct vd_err *err);

/* A finding with its places, and what the catalogue says of it. */
int vd_html_finding(FILE *f, const struct vd_farm_finding *finding, struct vd_err *err);

/* One that a repair did away with, as the repair has it in "fixed". */
void vd_html_fixed(FILE *f, const json_t *fixed);

#endif
