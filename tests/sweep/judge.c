/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What holds for every damaged image, whatever the damage: a check writes nothing, and a repair at any level
 * makes nothing worse, keeps what was readable, has nothing left to do for a second one, and can be taken
 * back.
 */
#include "tests/sweep/sweep.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/base/span.h"

/* Nobody could get to a place before that decides what could not be read, or that lies behind what was the
 * end of the file. */
static bool was_out_of_reach(const struct vd_place *place, struct sweep_guest *old, uint64_t old_length)
{
    return place->host >= old_length ||
           (place->guest != VD_NOWHERE && !vd_runs_has(&old->readable, place->guest));
}

/* Corruption is left only where it was before, or where nobody could get to before. */
static void must_not_be_worse(const struct sweep_report *before, const struct sweep_report *after,
                              struct sweep_guest *old, uint64_t old_length)
{
    const struct vd_ledger *ledger = after->ledger;

    if (!before->is_complete)
        return;
    sweep_must(sweep_status(ledger) <= sweep_status(before->ledger), "the status is worse: %s",
               sweep_findings(ledger));
    for (size_t i = 0; i < ledger->groups.n; i++) {
        const struct vd_group *group = ledger->groups.v[i];

        for (size_t k = 0; group->severity == VD_CORRUPTION && k < group->places.n; k++)
            sweep_must(
                vd_ledger_has_place(before->ledger, VD_CORRUPTION, vd_place_key(&group->places.v[k])) ||
                    was_out_of_reach(&group->places.v[k], old, old_length),
                "corruption that is new: %s", sweep_findings(ledger));
    }
}

static uint64_t changed_bytes(const uint8_t *a, const uint8_t *b, uint64_t n)
{
    uint64_t changed = 0;

    for (uint64_t i = 0; i < n; i++)
        changed += a[i] != b[i];
    return changed;
}

/* Where a mapping was wrong, what nobody names may be somebody's data, and stays below level all. A table
 * that was put back into use may have an entry or two repaired. */
static void must_keep_evidence(const struct sweep_image *damaged, const struct sweep_report *before,
                               const struct sweep_image *repaired)
{
    size_t old_len, new_len;
    const uint8_t *old = vd_memory_bytes(damaged->file, &old_len),
                  *new = vd_memory_bytes(repaired->file, &new_len);

    if (!(before->ledger->flags & VD_EVIDENCE))
        return;
    for (size_t i = 0; i < before->ledger->leaked.n; i++) {
        uint64_t at = before->ledger->leaked.v[i].first * before->cluster_size;
        uint64_t end = vd_min(at + before->ledger->leaked.v[i].count * before->cluster_size, old_len);

        sweep_must(end <= new_len && changed_bytes(old + at, new + at, end - at) <= 64,
                   "leaked clusters at %#" PRIx64 " are gone, and they are evidence", at);
    }
}

/* At level leaks nothing is written but the length of the file, and the counts where a format keeps them. */
static void must_be_cut_only(const struct sweep_report *before, const struct sweep_image *damaged,
                             const struct sweep_image *repaired)
{
    size_t old_len, new_len;
    const uint8_t *old = vd_memory_bytes(damaged->file, &old_len),
                  *new = vd_memory_bytes(repaired->file, &new_len);

    sweep_must(new_len <= old_len, "level leaks made the file longer");
    sweep_must(before->counts_refs || memcmp(old, new, new_len) == 0, "level leaks wrote something");
}

static void must_repair_nothing_more(struct sweep_repair *first, const struct sweep_image *image,
                                     enum vd_level level)
{
    struct sweep_repair second;
    int rc = sweep_prepare(&second, image, image->file, level, first->work.journal);

    sweep_must(rc == 0, "second repair: %s", second.err.story);
    sweep_must(!second.work.has_changes, "a second repair changes something; found then: %s",
               sweep_findings(second.work.before.ledger));
    sweep_repair_done(&second);
}

static void must_roll_back(struct sweep_repair *repair, const struct sweep_image *repaired,
                           const struct sweep_image *damaged)
{
    struct vd_err err = VD_ERR_INIT;

    sweep_must(vd_journal_verify(repair->work.journal, repaired->file, VD_MATCH_NEW, &err) == 0, "%s",
               err.story);
    sweep_must(vd_journal_roll_back(repair->work.journal, repaired->file, &err) == 0, "%s", err.story);
    sweep_must_be_same(repaired->file, damaged->file, "rolled back");
}

/* What the report of the repair names, before and after, may read otherwise. */
static void must_keep_guest(struct sweep_guest *old, struct sweep_guest *new,
                            const struct sweep_repair *repair)
{
    struct vd_runs named = {0};

    sweep_add_named(repair->work.before.ledger, &named);
    sweep_add_named(repair->work.after.ledger, &named);
    sweep_must_read_same(old, new, &named);
    vd_runs_done(&named);
}

static uint64_t hash_at(const struct sweep_guest *guest, uint64_t at)
{
    for (size_t i = 0; i < guest->grains.n; i++)
        if (guest->grains.v[i].guest == at)
            return guest->grains.v[i].hash;
    return 0;
}

/* Below level all nothing is guessed: what can be read again is what was there before the damage. */
static void must_be_truth(struct sweep_guest *truth, struct sweep_guest *old, struct sweep_guest *new)
{
    uint64_t size = vd_min(truth->size, new->size) / SWEEP_GRAIN * SWEEP_GRAIN;
    struct vd_runs again = {0};

    sweep_must(vd_runs_minus(&new->readable, &old->readable, &again) == 0, "memory");
    for (size_t i = 0; i < again.n; i++)
        for (uint64_t at = again.v[i].first; at < vd_min(again.v[i].first + again.v[i].count, size);
             at += SWEEP_GRAIN)
            sweep_must(hash_at(new, at) == hash_at(truth, at),
                       "guest bytes at %#" PRIx64 " read as what they never were", at);
    vd_runs_done(&again);
}

static void judge_guest(struct sweep_guest *truth, struct sweep_guest *old,
                        const struct sweep_image *repaired, const struct sweep_repair *repair,
                        enum vd_level level)
{
    struct sweep_guest new;

    if (!repair->work.before.map)
        return;
    sweep_read_guest(repaired, old->size, &new);
    must_keep_guest(old, &new, repair);
    if (truth && level < VD_LEVEL_ALL)
        must_be_truth(truth, old, &new);
    sweep_guest_done(&new);
}

static void judge_level(const struct sweep_image *damaged, const struct sweep_report *before,
                        struct sweep_guest *old, struct sweep_guest *truth, enum vd_level level)
{
    struct sweep_image repaired = sweep_clone(damaged);
    struct sweep_repair repair;
    struct sweep_report after = {0};
    struct vd_err err = VD_ERR_INIT;
    int rc = sweep_prepare(&repair, &repaired, repaired.file, level, NULL);

    sweep_must(rc == 0, "the repair was refused: %s; found: %s", repair.err.story,
               sweep_findings(before->ledger));
    if (repair.work.has_changes) {
        sweep_journal(&repair);
        sweep_must_be_same(repaired.file, damaged->file, "before the commit");
        sweep_must(repair.work.writes ||
                       bdrv_getlength(repaired.file, &err) != bdrv_getlength(repair.work.overlay, &err),
                   "a repair that changes nothing; found: %s", sweep_findings(before->ledger));
        sweep_commit(&repair);
        sweep_must(sweep_check(&repaired, &after, &err) == 0, "check after repair: %s", err.story);
        must_not_be_worse(before, &after, old, (uint64_t)bdrv_getlength(damaged->file, &err));
        if (level == VD_LEVEL_LEAKS)
            must_be_cut_only(before, damaged, &repaired);
        if (level < VD_LEVEL_ALL)
            must_keep_evidence(damaged, before, &repaired);
        judge_guest(truth, old, &repaired, &repair, level);
        must_repair_nothing_more(&repair, &repaired, level);
        must_roll_back(&repair, &repaired, damaged);
        sweep_report_done(&after);
    }
    sweep_repair_done(&repair);
    sweep_drop(&repaired);
}

void sweep_judge(const struct sweep_image *damaged, uint64_t limit, struct sweep_guest *truth)
{
    struct sweep_report before;
    struct sweep_guest old = {0};
    struct vd_err err = VD_ERR_INIT;
    char name[400];

    sweep_must(sweep_check(damaged, &before, &err) == 0, "check: %s", err.story);
    if (before.has_walked)
        sweep_read_guest(damaged, limit, &old);
    snprintf(name, sizeof(name), "%s", sweep_case_name());
    for (enum vd_level level = VD_LEVEL_LEAKS; level <= VD_LEVEL_ALL; level++) {
        sweep_case("%s, repaired at %s", name, vd_level_name(level));
        judge_level(damaged, &before, &old, truth, level);
    }
    sweep_guest_done(&old);
    sweep_report_done(&before);
}
