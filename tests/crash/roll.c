/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/crash/roll.h"

#include <inttypes.h>
#include <stdio.h>

/* Works the repair out. Nothing may be written by that. */
static bool prepare(struct crash_run *run, enum vd_level level, const struct vd_fault_rule *fault)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) node = vd_fault_new(run->old.file, &err);
    bool *has_changes = &run->repair.work.has_changes;
    struct vd_fault_log log = {0};
    int rc;

    sweep_must(node && (!fault || vd_fault_add(node, fault, &err) == 0), "%s", err.story);
    vd_fault_record(node, &log);
    rc = sweep_prepare(&run->repair, &run->old, node, level, NULL);
    sweep_must(rc == 0 || run->repair.err.kind != VD_ERR_REFUSED, "the repair was refused: %s",
               run->repair.err.story);
    *has_changes = *has_changes && rc == 0;
    if (*has_changes)
        sweep_journal(&run->repair);
    sweep_must(!log.n, "written before the journal was prepared");
    /* The overlay holds the node for as long as it needs it. */
    run->repair.work.file = run->old.file;
    return *has_changes;
}

bool crash_begin(struct crash_run *run, const char *name, const struct sweep_image *image,
                 enum vd_level level, const struct vd_fault_rule *fault)
{
    struct vd_err err = VD_ERR_INIT;

    *run = (struct crash_run){.old = *image, .random = {sweep_seed(7)}};
    snprintf(run->name, sizeof(run->name), "%s", name);
    sweep_case("%s", name);
    if (!prepare(run, level, fault))
        return false;
    run->new = sweep_clone(image);
    run->cut = crash_disk_new();
    run->cut_again = crash_disk_new();
    run->rolled = crash_disk_new();
    crash_roll(run, run->new.file, true, &run->log);
    sweep_must(!sweep_same_bytes(run->old.file, run->new.file), "nothing was written");
    sweep_must(vd_journal_verify(run->repair.work.journal, run->new.file, VD_MATCH_NEW, &err) == 0, "%s",
               err.story);
    return true;
}

void crash_end(struct crash_run *run)
{
    vd_fault_log_free(&run->log);
    sweep_repair_done(&run->repair);
    sweep_drop(&run->old);
    sweep_drop(&run->new);
    bdrv_unref(run->cut);
    bdrv_unref(run->cut_again);
    bdrv_unref(run->rolled);
}

void crash_roll(struct crash_run *run, struct BlockDriverState *disk, bool forward, struct vd_fault_log *log)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) recorder = vd_fault_new(disk, &err);
    struct vd_journal *journal = run->repair.work.journal;

    sweep_must(recorder, "%s", err.story);
    vd_fault_record(recorder, log);
    sweep_must((forward ? vd_journal_roll_forward(journal, recorder, &err)
                        : vd_journal_roll_back(journal, recorder, &err)) == 0,
               "%s", err.story);
}

void crash_must_roll_both_ways(struct crash_run *run, struct BlockDriverState *disk)
{
    struct vd_err err = VD_ERR_INIT;

    sweep_must(vd_journal_verify(run->repair.work.journal, disk, VD_MATCH_EITHER, &err) == 0, "%s",
               err.story);
    for (int forward = 0; forward < 2; forward++) {
        crash_copy(run->rolled, disk);
        crash_roll(run, run->rolled, forward, NULL);
        sweep_must_be_same(run->rolled, forward ? run->new.file : run->old.file,
                           forward ? "rolled forward" : "rolled back");
    }
    run->cuts++;
}

/* A second cut while the disk is rolled. */
static void cut_again(struct crash_run *run, struct BlockDriverState *disk, bool forward)
{
    struct vd_fault_log log = {0};
    unsigned times = sweep_is_long() ? 2 : 1;

    crash_copy(run->rolled, disk);
    crash_roll(run, run->rolled, forward, &log);
    for (unsigned i = 0; i < times; i++) {
        struct crash_cut cut = crash_some_cut(&log, &run->random);

        crash_disk_at(run->cut_again, disk, &log, &cut);
        crash_must_roll_both_ways(run, run->cut_again);
    }
    vd_fault_log_free(&log);
}

static void tell_cut(const struct crash_run *run, const char *what, const struct crash_cut *cut)
{
    sweep_case("%s: %s cut at event %zu of %zu, %" PRIu64 " sectors torn, losses %" PRIu64
               ", dropped %#" PRIx64,
               run->name, what, cut->event, run->log.n, cut->torn, cut->lost, cut->dropped);
}

static void cut_commit(void *opaque, const struct crash_cut *cut)
{
    struct crash_run *run = opaque;
    bool forward = sweep_below(&run->random, 2);

    tell_cut(run, "commit", cut);
    crash_disk_at(run->cut, run->old.file, &run->log, cut);
    crash_must_roll_both_ways(run, run->cut);
    cut_again(run, run->cut, forward);
    if (sweep_is_long())
        cut_again(run, run->cut, !forward);
}

void crash_cut_commit(struct crash_run *run)
{
    crash_each_cut(&run->log, cut_commit, run);
}

static void cut_undo(void *opaque, const struct crash_cut *cut)
{
    struct crash_run *run = opaque;

    tell_cut(run, "undo", cut);
    crash_disk_at(run->cut, run->new.file, &run->log, cut);
    crash_must_roll_both_ways(run, run->cut);
}

void crash_cut_undo(struct crash_run *run)
{
    vd_fault_log_free(&run->log);
    crash_copy(run->rolled, run->new.file);
    crash_roll(run, run->rolled, false, &run->log);
    sweep_must_be_same(run->rolled, run->old.file, "rolled back");
    crash_each_cut(&run->log, cut_undo, run);
}
