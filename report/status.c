/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/status.h"

#include <string.h>

static const struct {
    const char *name;
    int bits;
} statuses[] = {
    [VD_STATUS_CLEAN] = {"clean",       VD_EXIT_CLEAN   },
      [VD_STATUS_REPAIRED] = {"repaired",    VD_EXIT_REPAIRED},
    [VD_STATUS_LEAKING] = {"leaking",     VD_EXIT_LEFT    },
      [VD_STATUS_DIRTY] = {"dirty",       VD_EXIT_LEFT    },
    [VD_STATUS_DAMAGED] = {"damaged",     VD_EXIT_LEFT    },
      [VD_STATUS_UNSUPPORTED] = {"unsupported", VD_EXIT_ERROR   },
    [VD_STATUS_ERROR] = {"error",       VD_EXIT_ERROR   },
      [VD_STATUS_BUSY] = {"busy",        VD_EXIT_BUSY    },
};

const char *vd_status_name(enum vd_status status)
{
    return statuses[status].name;
}

enum vd_status vd_status_by_name(const char *name)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(statuses); i++)
        if (strcmp(statuses[i].name, name) == 0)
            return (enum vd_status)i;
    return VD_STATUS_ERROR;
}

int vd_status_kept_bits(enum vd_status status, bool has_left)
{
    bool tells_more = status == VD_STATUS_UNSUPPORTED || status == VD_STATUS_ERROR;

    return statuses[status].bits | (tells_more && has_left ? VD_EXIT_LEFT : 0);
}

struct vd_counts vd_status_left(const struct vd_outcome *out, bool dry_run)
{
    if (!out || !out->work.before.ledger)
        return (struct vd_counts){0};
    return dry_run ? vd_ledger_counts(out->work.before.ledger) : vd_ledger_left(out->work.before.ledger);
}

static bool needs_what_we_lack(const struct vd_outcome *out, bool dry_run)
{
    const struct vd_ledger *ledger = out->work.before.ledger;

    /* A raw base of a chain has nothing that could be checked; that is no fault of the chain. */
    if (!out->bs->drv->bdrv_co_check)
        return !out->is_backing;
    for (size_t i = 0; ledger && i < ledger->groups.n; i++) {
        const struct vd_group *group = ledger->groups.v[i];

        if ((group->kind->flags & VD_UNSUPPORTED) && (dry_run || group->fixed < group->count))
            return true;
    }
    return false;
}

static bool has_fixed(const struct vd_outcome *out)
{
    const struct vd_ledger *ledger = out->work.before.ledger;

    for (size_t i = 0; ledger && i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->fixed)
            return true;
    return false;
}

enum vd_status vd_status_of(const struct vd_outcome *out, const struct vd_err *err, bool dry_run)
{
    struct vd_counts left = vd_status_left(out, dry_run);

    if (err->kind == VD_ERR_BUSY)
        return VD_STATUS_BUSY;
    if (err->kind == VD_ERR_UNSUPPORTED)
        return VD_STATUS_UNSUPPORTED;
    /* A repair that was refused leaves the image as the check found it. */
    if ((err->kind && err->kind != VD_ERR_REFUSED) || !out)
        return VD_STATUS_ERROR;
    if (left.errors)
        return VD_STATUS_ERROR;
    if (needs_what_we_lack(out, dry_run))
        return VD_STATUS_UNSUPPORTED;
    if (left.corruptions)
        return VD_STATUS_DAMAGED;
    if (left.states)
        return VD_STATUS_DIRTY;
    if (left.leaks)
        return VD_STATUS_LEAKING;
    return !dry_run && has_fixed(out) ? VD_STATUS_REPAIRED : VD_STATUS_CLEAN;
}

int vd_status_error_bit(enum vd_err_kind kind)
{
    switch (kind) {
    case VD_ERR_NONE:
        return VD_EXIT_CLEAN;
    case VD_ERR_BUSY:
        return VD_EXIT_BUSY;
    case VD_ERR_USAGE:
        return VD_EXIT_USAGE;
    case VD_ERR_CANCELLED:
        return VD_EXIT_CANCELLED;
    default:
        return VD_EXIT_ERROR;
    }
}

int vd_status_bits(enum vd_status status, const struct vd_outcome *out, const struct vd_err *err,
                   bool dry_run)
{
    struct vd_counts left = vd_status_left(out, dry_run);
    int bits = statuses[status].bits;

    if (err->kind == VD_ERR_CANCELLED || err->kind == VD_ERR_USAGE)
        bits = vd_status_error_bit(err->kind);
    /* A repair that was asked for and could not be made is an error beside what is left. */
    if (err->kind == VD_ERR_REFUSED)
        bits |= VD_EXIT_ERROR;
    if ((status == VD_STATUS_UNSUPPORTED || status == VD_STATUS_ERROR) &&
        (left.corruptions || left.leaks || left.states || left.errors))
        bits |= VD_EXIT_LEFT;
    return bits;
}

int vd_status_qemu(enum vd_status status, const struct vd_outcome *out, bool dry_run)
{
    struct vd_counts left = vd_status_left(out, dry_run);

    switch (status) {
    case VD_STATUS_BUSY:
    case VD_STATUS_ERROR:
        return 1;
    case VD_STATUS_UNSUPPORTED:
        return out && out->bs->drv->bdrv_co_check ? 1 : 63;
    default:
        return left.corruptions ? 2 : left.leaks ? 3 : 0;
    }
}

int vd_status_qemu_worse(int a, int b)
{
    static const int order[] = {1, 63, 2, 3};

    for (size_t i = 0; i < VD_ARRAY_SIZE(order); i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return 0;
}
