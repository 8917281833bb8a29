/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/explain.h"

#include <stdio.h>

void vd_explain(const struct vd_finding_kind *row, vd_explain_fn *fn, void *opaque)
{
    char level[100];

    snprintf(level, sizeof(level), "%s (where an image proves more or less, the report says so)",
             vd_level_name(row->level));
    fn(opaque, VD_EXPLAIN_MESSAGE, NULL, row->message);
    fn(opaque, VD_EXPLAIN_SEVERITY, "Severity", vd_severity_name(row->severity));
    fn(opaque, VD_EXPLAIN_LEVEL, "Repaired at level", level);
    fn(opaque, VD_EXPLAIN_MEANING, NULL, row->explanation);
    fn(opaque, VD_EXPLAIN_REPAIR, "Repair", row->repair);
}
