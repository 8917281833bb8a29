/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=nagios: one line and performance data, for Nagios, Icinga and their like.
 */
#include <inttypes.h>

#include "report/report.h"

static const char *const words[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};

int vd_report_nagios(FILE *f, const struct vd_farm *farm, struct vd_err *err)
{
    struct vd_report_sums sums = vd_report_sum(farm);
    const char *between = ", ";

    (void)err;
    fprintf(f, "VDCHECK %s: %" PRIu64 " image%s", words[vd_report_nagios_state(farm)], sums.images,
            sums.images == 1 ? "" : "s");
    for (int i = VD_STATUS_LEAKING; i <= VD_STATUS_BUSY; i++)
        if (sums.by_status[i])
            fprintf(f, "%s%" PRIu64 " %s", between, sums.by_status[i], vd_status_name((enum vd_status)i));
    if (farm->is_torn)
        fputs(", shards are missing or of another audit", f);
    fputs(" |", f);
    for (int i = VD_STATUS_CLEAN; i <= VD_STATUS_BUSY; i++)
        fprintf(f, " '%s'=%" PRIu64 "%s", vd_status_name((enum vd_status)i), sums.by_status[i],
                i == VD_STATUS_DAMAGED                           ? ";;0;0"
                : i == VD_STATUS_LEAKING || i == VD_STATUS_DIRTY ? ";0;;0"
                                                                 : ";;;0");
    fprintf(f, " 'leaked'=%" PRId64 "B;;;0\n", sums.leaked_bytes);
    return 0;
}
