/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/transaction.h"

#include <inttypes.h>
#include <stdlib.h>

#include "formats/node/file.h"
#include "formats/node/overlay.h"
#include "repair/verify.h"

/* Each round fixes one class of damage and walks anew; more than these are needed by nothing that gets
 * better. */
enum { MOST_ROUNDS = 16 };

/* ---- what may be written */

struct gatekeeper {
    struct vd_usemap *map; /* of the round that runs; NULL before its walk */
};

/*
 * A repair writes into metadata, into clusters that nobody claims, and behind the end of the file. A write
 * into a data cluster would be a bug of ours, and ends the repair before anything reaches the image.
 */
static int may_write(void *opaque, int64_t offset, int64_t bytes, struct vd_err *err)
{
    struct gatekeeper *keeper = opaque;
    unsigned bits;

    if (!keeper->map)
        return offset + bytes <= VD_OVERLAY_BLOCK
                   ? 0
                   : vd_fail(err, VD_ERR_REFUSED, 0,
                             "a repair wrote to 0x%" PRIx64 " before the image was walked", (uint64_t)offset);
    bits = vd_usemap_cluster_bits(keeper->map);
    for (uint64_t c = (uint64_t)offset >> bits; c <= (uint64_t)(offset + bytes - 1) >> bits; c++)
        if (c < vd_usemap_clusters(keeper->map) && vd_kind_is_data(vd_usemap_kind(keeper->map, c, NULL)))
            return vd_fail(err, VD_ERR_REFUSED, 0, "a repair wrote to the data cluster at 0x%" PRIx64,
                           c << bits);
    return 0;
}

/* ---- checks and rounds */

static int check(struct vd_work *work, struct BlockDriverState *below,
                 const struct vd_transaction_options *opts, vd_decide_fn *decide, struct vd_plan *plan,
                 struct vd_usemap **current, struct vd_check_result *result, struct vd_err *err)
{
    vd_auto(BlockDriverState) bs = bdrv_open_node(work->drv, below, BDRV_O_CHECK, err);
    struct vd_check_options check_opts = {
        .budget = opts->budget,
        .keeps_keys = opts->plan.level != 0,
        .places_kept = opts->places_kept,
        .decide = decide,
        .decide_opaque = plan,
        .kept_leaks = work->kept_leaks.n ? &work->kept_leaks : NULL,
        .given_up = work->given_up.n ? &work->given_up : NULL,
        .link = work->link,
        .whole_chain = opts->whole_chain,
        .is_unfinished = work->is_unfinished || (work->was_finished && !work->before.ledger),
        .undo_fault = work->undo_fault.kind ? work->undo_fault.story : NULL,
        .deep = opts->deep,
        .was_changed = work->has_changes,
        .flags = plan->flags & (VD_EVIDENCE | VD_SAW_CORRUPTION),
        .current_map = current,
    };

    if (current)
        *current = NULL;
    *result = (struct vd_check_result){0};
    if (!bs)
        return -1;
    return vd_check_run(bs, &check_opts, result, err);
}

static bool opens(const struct vd_work *work)
{
    struct vd_err ignored = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = bdrv_open_node(work->drv, work->overlay, 0, &ignored);

    return bs != NULL;
}

/* What the rounds find is kept apart in *seen: whether the image got worse is judged by what was there
 * before. */
static int run_rounds(struct vd_work *work, const struct vd_transaction_options *opts, struct vd_plan *plan,
                      struct vd_ledger *seen, struct vd_err *err)
{
    struct gatekeeper keeper = {0};
    int rc = 0;

    vd_overlay_ask(work->overlay, may_write, &keeper);
    for (unsigned round = 0; round < MOST_ROUNDS; round++) {
        struct vd_check_result result;
        bool has_changed;

        rc = check(work, work->overlay, opts, vd_plan_decide, plan, &keeper.map, &result, err);
        has_changed = result.has_changed;
        if (rc == 0 && vd_runs_add_all(&work->given_up, &result.given_up) < 0)
            rc = vd_fail_memory(err);
        if (rc == 0 && result.ledger) {
            plan->flags |= result.ledger->flags & (VD_EVIDENCE | VD_SAW_CORRUPTION);
            rc = vd_ledger_merge(seen, result.ledger, err);
        }
        keeper.map = NULL;
        vd_check_result_free(&result);
        work->has_changes |= has_changed;
        if (rc < 0 || !has_changed || (opts->until_it_opens && opens(work)))
            break;
    }
    vd_overlay_ask(work->overlay, NULL, NULL);
    return rc;
}

static bool has_something_to_fix(const struct vd_ledger *ledger, enum vd_level level)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->level <= level)
            return true;
    return false;
}

/* Where no round is needed to see that nothing can be done, the plan is asked for its reasons all the same.
 */
static void say_why_left(struct vd_work *work, struct vd_plan *plan)
{
    struct vd_ledger *ledger = work->before.ledger;
    struct vd_check ck = {.flags = ledger->flags, .map_is_incomplete = work->before.map_is_incomplete};

    for (size_t i = 0; i < ledger->groups.n; i++) {
        struct vd_group *group = ledger->groups.v[i];

        (void)vd_plan_decide(plan, &ck, group->kind, NULL, group->severity, group->level, &group->reason);
    }
}

static int verify(struct vd_work *work, const struct vd_transaction_options *opts,
                  const struct vd_ledger *seen, struct vd_err *err)
{
    struct vd_runs named = {0};
    struct vd_verify_input in = {
        .file = work->file,
        .overlay = work->overlay,
        .drv = work->drv,
        .before = &work->before,
        .after = &work->after,
        .named = &named,
        .given_up = &work->given_up,
        .budget = opts->budget,
    };
    int rc;

    if (vd_runs_add_all(&named, &work->before.ledger->guest) < 0 || vd_runs_add_all(&named, &seen->guest) < 0)
        rc = vd_fail_memory(err);
    else
        rc = vd_verify(&in, err);
    vd_runs_done(&named);
    return rc;
}

/* A leak that goes although no round freed it went to an owner: a table that was put back, say. */
static int mark_byproducts(struct vd_ledger *before, struct vd_ledger *seen, struct vd_err *err)
{
    vd_runs_settle(&seen->leaked);
    for (size_t i = 0; i < before->groups.n; i++) {
        struct vd_group *group = before->groups.v[i];
        struct vd_runs unseen = {0};

        if (group->severity != VD_LEAK || !group->clusters.n)
            continue;
        if (vd_runs_minus(&group->clusters, &seen->leaked, &unseen) < 0)
            return vd_fail_memory(err);
        group->is_byproduct = vd_runs_total(&unseen) == vd_runs_total(&group->clusters);
        vd_runs_done(&unseen);
    }
    return 0;
}

/* What was read of a file that somebody changed meanwhile, without a lock that would have said so, is a mix
 * of two images: nothing is built on that. */
static int refuse_changed(const struct vd_work *work, struct vd_err *err)
{
    struct BlockDriverState *file = bdrv_protocol(work->file);

    if (file->drv != &vd_file_driver || !vd_file_has_changed(file))
        return 0;
    return vd_fail(err, VD_ERR_REFUSED, 0,
                   "%s: the file was changed by another program while it was read; nothing was written",
                   file->filename);
}

int vd_work_prepare(struct vd_work *work, const struct vd_transaction_options *opts, struct vd_err *err)
{
    struct vd_plan plan = opts->plan;
    vd_auto(vd_ledger) seen = NULL;

    if (check(work, work->file, opts, NULL, &plan, NULL, &work->before, err) < 0)
        return -1;
    plan.flags |= work->before.ledger->flags;
    if (!has_something_to_fix(work->before.ledger, plan.level)) {
        if (plan.level)
            say_why_left(work, &plan);
        return 0;
    }
    seen = vd_ledger_new();
    if (!seen)
        return vd_fail_memory(err);
    work->overlay = vd_overlay_new(work->file, opts->spill_dir, err);
    if (!work->overlay || run_rounds(work, opts, &plan, seen, err) < 0)
        return -1;
    work->has_evidence = plan.flags & VD_EVIDENCE;
    if (!work->has_changes)
        return vd_ledger_merge(work->before.ledger, seen, err);
    if (check(work, work->overlay, opts, NULL, &plan, NULL, &work->after, err) < 0)
        return -1;
    if (refuse_changed(work, err) < 0 || verify(work, opts, seen, err) < 0 ||
        mark_byproducts(work->before.ledger, seen, err) < 0)
        return -1;
    vd_ledger_mark_later(seen);
    return vd_ledger_merge(work->before.ledger, seen, err);
}

/* A second repair must not take what this one kept: neither clusters nor counts. */
static int keep_evidence(struct vd_work *work, struct vd_journal *journal, struct vd_err *err)
{
    const struct vd_ledger *left = work->after.ledger;
    struct vd_runs kept = {0};
    int rc = 0;

    if ((!work->has_evidence && !work->kept_leaks.n) || !work->after.cluster_size)
        return 0;
    if (vd_runs_add_all(&kept, &left->leaked) < 0 || vd_runs_add_all(&kept, &left->overcounted) < 0)
        rc = vd_fail_memory(err);
    vd_runs_settle(&kept);
    if (rc == 0 && kept.n)
        rc = vd_journal_keep_leaks(journal, &kept, work->after.cluster_size, err);
    vd_runs_done(&kept);
    return rc;
}

int vd_work_write_journal(struct vd_work *work, struct vd_journal *journal, struct vd_budget *budget,
                          struct vd_err *err)
{
    work->journal = journal;
    if (vd_journal_fill(journal, work->file, work->overlay, budget, &work->writes, &work->bytes_written,
                        err) < 0)
        return -1;
    return keep_evidence(work, journal, err);
}

int vd_work_apply(struct vd_work *work, struct vd_err *err)
{
    if (vd_journal_roll_forward(work->journal, work->file, err) < 0)
        return -1;
    work->is_applied = true;
    return 0;
}

/* ---- what was fixed */

/* How many of a kind that was known before are still there? What comes to light only after the repair does
 * not count. */
static uint64_t left_of(const struct vd_ledger *before, const struct vd_ledger *after,
                        const struct vd_group *like)
{
    uint64_t n = 0;

    for (size_t i = 0; i < after->groups.n; i++) {
        const struct vd_group *group = after->groups.v[i];

        if (group->kind == like->kind && group->severity == like->severity)
            n += group->count - (like->severity == VD_LEAK ? 0 : vd_ledger_fresh(before, group));
    }
    return n;
}

/* What is left of a kind is taken from the groups whose repair is hardest. */
static void settle_kind(struct vd_ledger *before, const struct vd_group *like, uint64_t left)
{
    for (enum vd_level level = VD_LEVEL_NONE; level >= VD_LEVEL_LEAKS; level--)
        for (size_t i = 0; i < before->groups.n; i++) {
            struct vd_group *group = before->groups.v[i];
            uint64_t stays;

            if (group->kind != like->kind || group->severity != like->severity || group->level != level)
                continue;
            stays = vd_min(left, group->count);
            group->fixed = group->count - stays;
            left -= stays;
        }
}

/* A leak is settled by its clusters: one that a repair left may go by another id, for what lies behind it has
 * changed. */
static int settle_leak(struct vd_group *group, struct vd_ledger *after, struct vd_err *err)
{
    struct vd_runs gone = {0};

    if (vd_runs_minus(&group->clusters, &after->leaked, &gone) < 0)
        return vd_fail_memory(err);
    group->fixed = vd_min(vd_runs_total(&gone), group->count);
    vd_runs_done(&gone);
    return 0;
}

static void settle_finished(struct vd_ledger *before)
{
    for (size_t i = 0; i < before->groups.n; i++)
        if (before->groups.v[i]->kind == &vd_image_findings[VD_IMAGE_REPAIR_UNFINISHED - VD_IMAGE_FINDINGS])
            before->groups.v[i]->fixed = before->groups.v[i]->count;
}

int vd_work_settle(struct vd_work *work, struct vd_err *err)
{
    struct vd_ledger *before = work->before.ledger;

    /* A dry run promises to finish what it looks through. */
    if (work->was_finished || work->is_unfinished)
        settle_finished(before);
    if (!work->has_changes)
        return 0;
    for (size_t i = 0; i < before->groups.n; i++) {
        struct vd_group *group = before->groups.v[i];

        if (group->severity != VD_LEAK || !group->clusters.n)
            settle_kind(before, group, left_of(before, work->after.ledger, group));
        else if (settle_leak(group, work->after.ledger, err) < 0)
            return -1;
    }
    /* What nobody could see before, and what the repair gave up, is part of the report as well. */
    vd_ledger_mark_later(work->after.ledger);
    if (vd_ledger_take_leaks(before, work->after.ledger, err) < 0 ||
        vd_ledger_merge(before, work->after.ledger, err) < 0)
        return -1;
    if (work->is_unfinished)
        settle_finished(before);
    if (!work->is_applied)
        return 0;
    if (work->before.map)
        vd_usemap_free(work->before.map);
    work->before.map = work->after.map;
    work->after.map = NULL;
    work->before.clusters = work->after.clusters;
    work->before.image_end = work->after.image_end;
    work->before.map_is_incomplete = work->after.map_is_incomplete;
    work->before.cluster_size = work->after.cluster_size;
    return 0;
}

void vd_work_done(struct vd_work *work)
{
    if (work->journal)
        vd_journal_close(work->journal);
    bdrv_unref(work->overlay);
    vd_check_result_free(&work->before);
    vd_check_result_free(&work->after);
    vd_runs_done(&work->kept_leaks);
    vd_runs_done(&work->given_up);
    work->journal = NULL;
    work->overlay = NULL;
}
