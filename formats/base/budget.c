/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/budget.h"

#include <inttypes.h>

int vd_budget_take(struct vd_budget *budget, uint64_t bytes, const char *what, struct vd_err *err)
{
    if (bytes > budget->memory)
        return vd_fail(err, VD_ERR_LIMIT, 0,
                       "%s needs %" PRIu64 " MiB of memory, more than the bound of %" PRIu64 " MiB", what,
                       bytes >> 20, VD_BUDGET_MEMORY >> 20);
    budget->memory -= bytes;
    return 0;
}

void vd_budget_give(struct vd_budget *budget, uint64_t bytes)
{
    budget->memory += bytes;
}

int vd_budget_go_on(const struct vd_budget *budget, struct vd_err *err)
{
    if (budget->cancelled && *budget->cancelled)
        return vd_fail(err, VD_ERR_CANCELLED, 0, "cancelled by a signal");
    return 0;
}

void vd_budget_progress(const struct vd_budget *budget, const char *what, uint64_t done, uint64_t total)
{
    if (budget->progress)
        budget->progress(budget->progress_opaque, what, done, total);
}
