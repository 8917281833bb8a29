/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/plan.h"

/* A reason to leave a finding; NULL: there is none. The rows are asked in order. */
struct rule {
    bool (*forbids)(const struct vd_plan *plan, const struct vd_check *ck, enum vd_severity severity,
                    enum vd_level level);
    const char *reason;
};

static bool is_frozen(const struct vd_plan *plan, const struct vd_check *ck, enum vd_severity severity,
                      enum vd_level level)
{
    (void)severity;
    (void)level;
    return (plan->flags | ck->flags) & VD_FREEZE;
}

static bool has_no_repair(const struct vd_plan *plan, const struct vd_check *ck, enum vd_severity severity,
                          enum vd_level level)
{
    (void)plan;
    (void)ck;
    (void)severity;
    return level == VD_LEVEL_NONE;
}

static bool is_above_level(const struct vd_plan *plan, const struct vd_check *ck, enum vd_severity severity,
                           enum vd_level level)
{
    (void)ck;
    /* A warning is repaired at level all or not at all, whatever the call says. */
    return level > plan->level || (severity == VD_WARNING && plan->level < VD_LEVEL_ALL);
}

static bool is_held(const struct vd_plan *plan, const struct vd_check *ck, enum vd_severity severity,
                    enum vd_level level)
{
    (void)severity;
    (void)level;
    return ((plan->flags | ck->flags) & VD_HOLD) && plan->level < VD_LEVEL_ALL;
}

static bool needs_whole_map(const struct vd_plan *plan, const struct vd_check *ck, enum vd_severity severity,
                            enum vd_level level)
{
    (void)plan;
    (void)level;
    return (severity == VD_LEAK || severity == VD_STATE) && ck->map_is_incomplete;
}

static bool comes_after_corruption(const struct vd_plan *plan, const struct vd_check *ck,
                                   enum vd_severity severity, enum vd_level level)
{
    (void)plan;
    (void)level;
    return (severity == VD_LEAK || severity == VD_STATE) && ck->corruptions_left;
}

static bool has_no_room(const struct vd_plan *plan, const struct vd_check *ck, enum vd_severity severity,
                        enum vd_level level)
{
    (void)ck;
    (void)level;
    return severity == VD_LEAK && plan->frees_nothing;
}

static const struct rule rules[] = {
    {is_frozen,              "a finding here puts the whole image in doubt, so nothing of it is repaired"},
    {has_no_repair,          "no repair is proven"                                                       },
    {is_held,                "mass damage: take a copy of the image first; only --repair=all goes on"    },
    {is_above_level,         "the level of the repair does not reach it"                                 },
    {needs_whole_map,        "part of the image could not be read, so it is not known what is used"      },
    {comes_after_corruption, "corruption is left, and this may be the last trace of lost data"           },
    {has_no_room,            "there is no room to keep the bytes that undo would need"                   },
};

/* Does the repair write a reference, where there is a wrong one or none? */
static bool puts_back(const struct vd_finding_kind *kind, const struct vd_found_args *args,
                      enum vd_severity severity)
{
    if (kind->flags & VD_ORPHAN)
        return true;
    return severity == VD_CORRUPTION && args && args->expected && args->expected != VD_NOWHERE &&
           args->expected != args->found;
}

enum vd_verdict vd_plan_decide(void *opaque, const struct vd_check *ck, const struct vd_finding_kind *kind,
                               const struct vd_found_args *args, enum vd_severity severity,
                               enum vd_level level, const char **reason)
{
    const struct vd_plan *plan = opaque;

    if (plan->only_puts_back && !puts_back(kind, args, severity))
        return VD_LEAVE;
    for (size_t i = 0; i < VD_ARRAY_SIZE(rules); i++)
        if (rules[i].forbids(plan, ck, severity, level)) {
            *reason = rules[i].reason;
            return VD_LEAVE;
        }
    return VD_FIX;
}
