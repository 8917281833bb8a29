/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the catalogue says of a finding, piece by piece, for whoever lays it out.
 */
#ifndef VD_EXPLAIN_H
#define VD_EXPLAIN_H

#include "formats/finding.h"

enum vd_explain_part {
    VD_EXPLAIN_MESSAGE,
    VD_EXPLAIN_SEVERITY,
    VD_EXPLAIN_LEVEL,
    VD_EXPLAIN_MEANING,
    VD_EXPLAIN_REPAIR,
};

/* label: what stands before the text; NULL: nothing. */
typedef void vd_explain_fn(void *opaque, enum vd_explain_part part, const char *label, const char *text);

/* Calls fn with each part, in the order of the enumerators. */
void vd_explain(const struct vd_finding_kind *row, vd_explain_fn *fn, void *opaque);

#endif
