/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/salvage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/base/bytes.h"
#include "formats/node/file.h"
#include "repair/transaction.h"
#include "repair/undo.h"

enum { PIECE = 1 << 20, RETRY = 4096, MOST_RANGES = 100000, MOST_DOUBTS = 10000 };

struct copy {
    struct BlockDriverState *from, *to;
    struct vd_salvage_answer *answer;
    uint8_t *buf;
    uint64_t unit;      /* what one table entry decides, bytes */
    bool has_lost_base; /* nothing says any more what lies below unallocated bytes */
};

/* Adds a range to the list; one that goes on from the last one of its kind is one with it. */
static int note_range(struct vd_salvage_answer *answer, enum vd_salvage_kind kind, uint64_t guest,
                      uint64_t bytes, const char *why, struct vd_err *err)
{
    struct vd_salvage_vec *ranges = &answer->ranges;
    struct vd_salvage_range *last = ranges->n ? &ranges->v[ranges->n - 1] : NULL;
    struct vd_salvage_range range = {.guest = guest, .bytes = bytes, .kind = kind};

    *(kind == VD_SALVAGE_LOST ? &answer->lost : &answer->guessed) += bytes;
    if (last && last->kind == kind && last->guest + last->bytes == guest) {
        last->bytes += bytes;
        return 0;
    }
    if (ranges->n >= MOST_RANGES) {
        answer->ranges_dropped++;
        return 0;
    }
    snprintf(range.why, sizeof(range.why), "%.*s", (int)sizeof(range.why) - 1, why);
    return vd_salvage_vec_push(ranges, range) < 0 ? vd_fail_memory(err) : 0;
}

static int note_lost(struct copy *c, uint64_t guest, uint64_t bytes, const struct vd_err *why,
                     struct vd_err *err)
{
    return note_range(c->answer, VD_SALVAGE_LOST, guest, bytes, why->story, err);
}

static int write_out(struct copy *c, uint64_t guest, const uint8_t *bytes, uint64_t n, struct vd_err *err)
{
    if (vd_is_zero(bytes, n))
        return 0;
    c->answer->copied += n;
    return bdrv_pwrite(c->to, (int64_t)guest, (int64_t)n, bytes, VD_STAGE_NEW, err);
}

/* A piece that cannot be read as a whole is read in small ones, so that one bad sector costs no more than it
 * must. */
static int copy_bytes(struct copy *c, uint64_t guest, uint64_t bytes, uint64_t step, struct vd_err *err)
{
    for (uint64_t done = 0; done < bytes;) {
        uint64_t n = vd_min(step, bytes - done);
        struct vd_err why = VD_ERR_INIT;

        if (bdrv_pread(c->from, (int64_t)(guest + done), (int64_t)n, c->buf, &why) == 0) {
            if (write_out(c, guest + done, c->buf, n, err) < 0)
                return -1;
        } else if (why.kind == VD_ERR_CANCELLED) {
            *err = why;
            return -1;
        } else if (step > RETRY) {
            if (copy_bytes(c, guest + done, n, RETRY, err) < 0)
                return -1;
        } else if (note_lost(c, guest + done, n, &why, err) < 0) {
            return -1;
        }
        done += n;
    }
    return 0;
}

/* What is known of the guest's bytes without reading them, asked down the backing chain. Where a base cannot
 * tell, reading will. */
static int ask_status(struct BlockDriverState *bs, uint64_t at, uint64_t bytes, uint64_t *n,
                      struct vd_err *err)
{
    int64_t pnum = 0;
    int status = bdrv_block_status(bs, (int64_t)at, (int64_t)bytes, &pnum, NULL, err);
    uint64_t below = bs->backing ? (uint64_t)bs->backing->total_bytes : 0;
    struct vd_err ignored = VD_ERR_INIT;

    *n = (uint64_t)pnum;
    if (status < 0 || (status & (BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_ZERO)) || !bs->backing)
        return status;
    if (at >= below)
        return BDRV_BLOCK_ZERO;
    status = ask_status(bs->backing, at, vd_min(*n, below - at), n, &ignored);
    if (status < 0)
        *n = vd_min((uint64_t)pnum, PIECE);
    return status < 0 ? 0 : status;
}

static bool lacks_base(const struct copy *c, int status)
{
    if (c->has_lost_base)
        return !(status & BDRV_BLOCK_ALLOCATED);
    return !(status & (BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_ZERO)) && c->from->backing_file && !c->from->backing;
}

/* Is the image read through a repair that gives its backing file up? */
static bool loses_base(const struct vd_work *work)
{
    const struct vd_ledger *ledger = work->has_changes ? work->before.ledger : NULL;

    for (size_t i = 0; ledger && i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->kind->flags & VD_LOSES_BASE)
            return true;
    return false;
}

static int copy_all(struct copy *c, struct vd_budget *budget, struct vd_err *err)
{
    uint64_t size = c->answer->size;

    for (uint64_t at = 0; at < size;) {
        struct vd_err why = VD_ERR_INIT;
        uint64_t n = 0;
        int status = ask_status(c->from, at, size - at, &n, &why);

        if (vd_budget_go_on(budget, err) < 0)
            return -1;
        vd_budget_progress(budget, "copied MiB", at >> 20, size >> 20);
        if (status < 0) {
            n = vd_min(c->unit - at % c->unit, size - at);
            if (note_lost(c, at, n, &why, err) < 0)
                return -1;
        } else if (lacks_base(c, status)) {
            vd_fail(&why, VD_ERR_IO, 0,
                    c->has_lost_base ? "the backing file's name is lost"
                                     : "the backing file could not be opened");
            if (note_lost(c, at, n, &why, err) < 0)
                return -1;
        } else if (!(status & BDRV_BLOCK_ZERO)) {
            n = vd_min(n, PIECE);
            if (copy_bytes(c, at, n, PIECE, err) < 0)
                return -1;
        }
        at += n;
    }
    return 0;
}

/*
 * Opens the image with its header repaired at a level, and nothing else: entries that a repair would clear
 * must be told as lost. NULL where that is no use; *err says why.
 */
static struct BlockDriverState *open_repaired(struct BlockDriverState *file, const struct BlockDriver *drv,
                                              enum vd_level level, struct vd_budget *budget,
                                              struct vd_work *work, struct vd_err *err)
{
    struct vd_transaction_options opts = {.plan = {.level = level}, .budget = budget, .until_it_opens = true};

    *work = (struct vd_work){.file = file, .drv = drv};
    if (drv->bdrv_co_check && vd_work_prepare(work, &opts, err) < 0 && err->kind != VD_ERR_REFUSED)
        return NULL;
    return bdrv_open_node(drv, work->overlay && work->has_changes ? work->overlay : file, BDRV_O_SALVAGE,
                          err);
}

/* The image as it is, if it opens; else through the proven repair, else through the one that chooses. */
static struct BlockDriverState *open_somehow(struct BlockDriverState *file, const struct BlockDriver *drv,
                                             struct vd_budget *budget, struct vd_work *work, bool *is_guessed,
                                             struct vd_err *err)
{
    static const enum vd_level levels[] = {VD_LEVEL_SAFE, VD_LEVEL_ALL};
    struct BlockDriverState *bs = bdrv_open_node(drv, file, BDRV_O_SALVAGE, err);

    for (size_t i = 0; !bs && i < VD_ARRAY_SIZE(levels); i++) {
        vd_work_done(work);
        bs = open_repaired(file, drv, levels[i], budget, work, err);
        *is_guessed = bs && levels[i] == VD_LEVEL_ALL;
    }
    return bs;
}

/* Shows the disk of the one snapshot that has that id, or else that name. */
static int show_snapshot(struct BlockDriverState *bs, const char *wanted, struct vd_err *err)
{
    struct vd_snapshot_names names;
    uint64_t by_id = UINT64_MAX, by_name = UINT64_MAX, n = 0;
    int rc = bs->drv->bdrv_snapshot_load_tmp ? 0 : 1;

    for (uint64_t i = 0; rc == 0 || rc == 2; i++) {
        rc = bs->drv->bdrv_snapshot_load_tmp(bs, i, &names, err);
        if (rc != 0 && rc != 2)
            break;
        if (by_id == UINT64_MAX && strcmp(names.id, wanted) == 0)
            by_id = i;
        if (strcmp(names.name, wanted) == 0) {
            by_name = i;
            n++;
        }
    }
    if (rc < 0)
        return -1;
    if (by_id == UINT64_MAX && n != 1)
        return vd_fail(
            err, VD_ERR_REFUSED, 0,
            n ? "%s: more than one snapshot has the name %s; take its id (`vdcheck info` lists them)"
              : "%s: no snapshot has the id or the name %s (`vdcheck info` lists them)",
            bs->filename, wanted);
    rc = bs->drv->bdrv_snapshot_load_tmp(bs, by_id != UINT64_MAX ? by_id : by_name, &names, err);
    if (rc == 2)
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: the L1 table of snapshot %s cannot be found", bs->filename,
                       wanted);
    return rc;
}

/* A copy in the format of the image has its geometry. */
static struct BlockDriverState *make_output(const char *output, const struct BlockDriver *drv,
                                            struct BlockDriverState *like, uint64_t size, struct vd_err *err)
{
    vd_auto(BlockDriverState) file = vd_file_create(output, false, err);
    vd_pair texts[VD_MOST_PAIRS];
    const char *pairs[VD_MOST_PAIRS + 1] = {NULL};
    struct vd_create_options create = {.size = (int64_t)size, .pairs = pairs};
    size_t n =
        like->drv == drv && drv->bdrv_get_create_options ? drv->bdrv_get_create_options(like, texts) : 0;

    for (size_t i = 0; i < n; i++)
        pairs[i] = texts[i];

    if (!file)
        return NULL;
    if (drv->bdrv_co_create(file, &create, err) < 0) {
        (void)unlink(output);
        return NULL;
    }
    return bdrv_open_node(drv, file, BDRV_O_RDWR, err);
}

/* Guest bytes of the active disk that can be read, and why they may not be what was there. */
struct doubt {
    const char *why;
    struct vd_runs guest;
};

VD_VEC(doubt_vec, struct doubt)

static void drop_doubts(struct doubt_vec *doubts)
{
    for (size_t i = 0; i < doubts->n; i++)
        vd_runs_done(&doubts->v[i].guest);
    doubt_vec_done(doubts);
}

static int note_doubt(struct doubt_vec *doubts, const struct vd_group *group, const char *why)
{
    struct vd_runs *guest;

    if (doubt_vec_push(doubts, (struct doubt){.why = why}) < 0)
        return -1;
    guest = &doubts->v[doubts->n - 1].guest;
    for (size_t k = 0; k < group->places.n; k++) {
        const struct vd_place *place = &group->places.v[k];

        if (place->tree[0])
            continue;
        if (place->guest != VD_NOWHERE && vd_runs_add(guest, place->guest, place->guest_bytes) < 0)
            return -1;
        if (place->other_guest != VD_NOWHERE &&
            vd_runs_add(guest, place->other_guest, place->guest_bytes) < 0)
            return -1;
    }
    return 0;
}

/* Enters into the answer what a check of the image found. */
static int weigh_damage(const struct vd_ledger *ledger, struct vd_salvage_answer *answer,
                        struct doubt_vec *doubts)
{
    bool leaks = vd_ledger_counts(ledger).leaks > 0;

    drop_doubts(doubts);
    for (size_t i = 0; i < ledger->groups.n; i++) {
        const struct vd_group *group = ledger->groups.v[i];
        unsigned flags = group->kind->flags;
        bool is_odd = group->severity == VD_WARNING && (flags & VD_EVIDENCE) && !(flags & VD_FREEZE);

        /* Where nothing is leaked, what is odd has lost nothing. */
        if (is_odd ? leaks
                   : group->severity == VD_CORRUPTION || group->severity == VD_ERROR || (flags & VD_EVIDENCE))
            answer->damage += group->count;
        if (is_odd && leaks &&
            note_doubt(doubts, group, "its table is empty, and clusters are there that nothing leads to") < 0)
            return -1;
        if (group->severity == VD_CORRUPTION && note_doubt(doubts, group, group->kind->message) < 0)
            return -1;
    }
    return 0;
}

/* Is there damage that reading does not notice: clusters that nothing leads to any more, or that two lead to?
 * An image that is copied without an error may still not be all that there was. */
static int look_for_damage(struct BlockDriverState *file, const struct BlockDriver *drv,
                           struct vd_budget *budget, struct vd_salvage_answer *answer,
                           struct doubt_vec *doubts, struct vd_err *err)
{
    vd_auto(BlockDriverState) bs = NULL;
    struct vd_check_options opts = {.budget = budget, .places_kept = MOST_DOUBTS};
    struct vd_check_result result;
    int rc;

    answer->damage = 0;
    if (!drv->bdrv_co_check)
        return 0;
    bs = bdrv_open_node(drv, file, BDRV_O_CHECK, err);
    if (!bs)
        return -1;
    rc = vd_check_run(bs, &opts, &result, err);
    if (rc == 0 && weigh_damage(result.ledger, answer, doubts) < 0)
        rc = vd_fail_memory(err);
    vd_check_result_free(&result);
    if (rc == 0 || err->kind == VD_ERR_CANCELLED)
        return rc;
    /* An image that cannot be checked is one to copy from all the same. */
    *err = (struct vd_err)VD_ERR_INIT;
    answer->damage = 1;
    return 0;
}

static int run_copy(struct copy *c, struct vd_budget *budget, struct vd_err *err)
{
    struct BlockDriverInfo info = {0};
    int rc;

    c->unit = c->from->drv->bdrv_get_info && c->from->drv->bdrv_get_info(c->from, &info, NULL) == 0 &&
                      info.cluster_size
                  ? (uint64_t)info.cluster_size
                  : RETRY;
    c->buf = malloc(PIECE);
    if (!c->buf)
        return vd_fail_memory(err);
    rc = copy_all(c, budget, err);
    free(c->buf);
    if (rc < 0)
        return -1;
    return bdrv_flush(c->to->file, err) < 0 || bdrv_inactivate(c->to, err) < 0 ? -1 : 0;
}

/* Clusters that are leaked no more because something leads to them again are nothing that was put back. */
static bool is_byproduct(const struct vd_group *group)
{
    for (size_t k = 0; k < group->places.n; k++)
        if (group->places.v[k].guest != VD_NOWHERE)
            return false;
    return group->severity == VD_LEAK;
}

/* What was put back; by choice: range by range. Where the ranges are not all known, anything may be a guess.
 */
static int note_put_back(const struct vd_work *work, struct vd_salvage_answer *answer, struct vd_err *err)
{
    for (size_t i = 0; i < work->before.ledger->groups.n; i++) {
        const struct vd_group *group = work->before.ledger->groups.v[i];
        bool has_range = false;

        if (!group->fixed || is_byproduct(group))
            continue;
        answer->put_back += group->fixed;
        if (group->level != VD_LEVEL_ALL)
            continue;
        for (size_t k = 0; k < group->places.n; k++) {
            const struct vd_place *place = &group->places.v[k];

            if (place->guest == VD_NOWHERE)
                continue;
            has_range = true;
            if (note_range(answer, VD_SALVAGE_GUESSED, place->guest, place->guest_bytes, group->kind->message,
                           err) < 0)
                return -1;
        }
        answer->is_guessed |= !has_range || group->places.n >= VD_PLACES_KEPT;
    }
    return 0;
}

/*
 * The same image with lost references put back, those that are proven and those that have one place; NULL
 * where that is no better. What a repair would clear, extend or copy is left: it is lost, and told.
 */
static struct BlockDriverState *open_better(struct BlockDriverState *file, const struct BlockDriver *drv,
                                            struct vd_budget *budget, struct vd_work *work,
                                            struct vd_salvage_answer *answer, struct vd_err *err)
{
    struct vd_transaction_options opts = {
        .plan = {.level = VD_LEVEL_ALL, .only_puts_back = true},
          .budget = budget
    };
    struct BlockDriverState *bs = NULL;
    struct vd_err why = VD_ERR_INIT;

    *work = (struct vd_work){.file = file, .drv = drv};
    if (vd_work_prepare(work, &opts, &why) == 0 && work->has_changes && vd_work_settle(work, &why) == 0)
        bs = bdrv_open_node(drv, work->overlay, BDRV_O_SALVAGE, &why);
    if (bs && note_put_back(work, answer, err) == 0)
        return bs;
    bdrv_unref(bs);
    vd_work_done(work);
    if (why.kind == VD_ERR_CANCELLED)
        *err = why;
    return NULL;
}

/* Opens the image in the way that shows most of it. *doubts: what of that is in doubt. */
static struct BlockDriverState *open_best(struct BlockDriverState *file, const struct BlockDriver *drv,
                                          struct vd_budget *budget, struct vd_work *work,
                                          struct vd_salvage_answer *answer, struct doubt_vec *doubts,
                                          struct vd_err *err)
{
    vd_auto(BlockDriverState) bs = open_somehow(file, drv, budget, work, &answer->is_guessed, err);
    struct BlockDriverState *better;

    if (!bs || look_for_damage(bs->file, drv, budget, answer, doubts, err) < 0)
        return NULL;
    if (work->has_changes || !answer->damage)
        return vd_take(&bs);
    vd_work_done(work);
    better = open_better(file, drv, budget, work, answer, err);
    if (!better)
        return err->kind ? NULL : vd_take(&bs);
    if (look_for_damage(better->file, drv, budget, answer, doubts, err) == 0)
        return better;
    bdrv_unref(better);
    return NULL;
}

/* Lists the doubts that no range tells yet, be it as lost or under another reason. */
static int list_doubts(struct doubt_vec *doubts, struct vd_salvage_answer *answer, struct vd_err *err)
{
    struct vd_runs told = {0};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < answer->ranges.n; i++)
        rc = vd_runs_add(&told, answer->ranges.v[i].guest, answer->ranges.v[i].bytes);
    for (size_t i = 0; rc == 0 && i < doubts->n; i++) {
        struct vd_runs new = {0};

        rc = vd_runs_minus(&doubts->v[i].guest, &told, &new);
        for (size_t k = 0; rc == 0 && k < new.n &&new.v[k].first < answer->size; k++)
            rc = note_range(answer, VD_SALVAGE_GUESSED, new.v[k].first,
                            vd_min(new.v[k].count, answer->size - new.v[k].first), doubts->v[i].why, err);
        rc = rc == 0 ? vd_runs_add_all(&told, &new) : rc;
        vd_runs_done(&new);
    }
    vd_runs_done(&told);
    return rc < 0 && !err->kind ? vd_fail_memory(err) : rc;
}

/* The other files of an image. Without them, what the image itself holds comes out. */
static void open_others(struct BlockDriverState *bs, const struct vd_open_options *opts,
                        struct vd_salvage_answer *answer)
{
    struct vd_err no_data = VD_ERR_INIT, no_backing = VD_ERR_INIT;

    if (vd_open_data(bs, opts, &no_data) < 0)
        snprintf(answer->data_why, sizeof(answer->data_why), "%.*s", (int)sizeof(answer->data_why) - 1,
                 no_data.story);
    if (vd_open_backing(bs, opts, &no_backing) < 0)
        snprintf(answer->backing_why, sizeof(answer->backing_why), "%.*s",
                 (int)sizeof(answer->backing_why) - 1, no_backing.story);
}

int vd_salvage(const char *path, const char *output, const struct BlockDriver *drv, const char *snapshot,
               const struct vd_open_options *opts, struct vd_budget *budget, struct vd_salvage_answer *answer,
               struct vd_err *err)
{
    vd_auto(BlockDriverState) opened = vd_open_file(path, opts, err);
    vd_auto(BlockDriverState) through = NULL;
    vd_auto(BlockDriverState) from = NULL;
    struct BlockDriverState *file = opened;
    vd_auto(BlockDriverState) to = NULL;
    const struct BlockDriver *from_drv;
    struct vd_err why = VD_ERR_INIT;
    struct vd_work work = {0};
    struct doubt_vec doubts = {0};
    struct copy c = {.answer = answer};
    bool is_unfinished;
    int score, rc = -1;

    *answer = (struct vd_salvage_answer){0};
    if (!file)
        return -1;
    /* Half of a repair is neither the old nor the new image; one whose undo file is of no use is all there
     * is. */
    if (vd_look_through(&file, path, NULL, &is_unfinished, &why) < 0)
        why = (struct vd_err)VD_ERR_INIT;
    through = file != opened ? file : NULL;
    from_drv = vd_choose_driver(file, opts->format, &score, err);
    if (!from_drv)
        return -1;
    from = open_best(file, from_drv, budget, &work, answer, &doubts, err);
    if (from && (!snapshot || show_snapshot(from, snapshot, err) == 0)) {
        open_others(from, opts, answer);
        answer->size = (uint64_t)from->total_bytes;
        to = make_output(output, drv, from, answer->size, err);
    }
    if (to) {
        c.from = from;
        c.to = to;
        c.has_lost_base = loses_base(&work);
        rc = run_copy(&c, budget, err);
        if (rc == 0 && !snapshot)
            rc = list_doubts(&doubts, answer, err);
        if (rc < 0)
            (void)unlink(output);
    }
    drop_doubts(&doubts);
    vd_work_done(&work);
    return rc;
}

void vd_salvage_answer_free(struct vd_salvage_answer *answer)
{
    vd_salvage_vec_done(&answer->ranges);
}
