/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/live.h"

#include "repair/repair.h"
#include "repair/undofile.h"

/* Does the image say of itself that it was not closed cleanly? A header that cannot be opened says nothing.
 */
static int ask_dirty(const char *path, const struct vd_open_options *opts, bool *is_dirty, struct vd_err *err)
{
    struct vd_open_options ro = *opts;
    struct vd_chain_vec chain = {0};
    struct BlockDriverInfo info = {0};
    int rc;

    ro.flags = (opts->flags & ~BDRV_O_RDWR) | BDRV_O_CHECK;
    ro.stats = NULL;
    ro.fault = NULL;
    rc = vd_open_chain(path, &ro, true, 1, &chain, err);
    if (rc == 0 && chain.v[0].bs->drv->bdrv_get_info)
        rc = chain.v[0].bs->drv->bdrv_get_info(chain.v[0].bs, &info, err);
    *is_dirty = info.is_dirty;
    vd_chain_free(&chain);
    return rc;
}

static int repair_first(const char *path, const struct vd_open_options *opts, const char *undo_file,
                        struct vd_budget *budget, struct vd_err *err)
{
    struct vd_request req = {.open = *opts, .budget = budget, .level = VD_LEVEL_SAFE, .undo_file = undo_file};
    struct vd_answer answer;
    int rc;

    req.open.fault = NULL;
    req.open.stats = NULL;
    rc = vd_request_run(path, &req, &answer, err);
    if (rc == 0) {
        struct vd_counts left = vd_ledger_left(answer.files.v[0].work.before.ledger);

        if (left.corruptions || left.errors)
            rc = vd_fail(err, VD_ERR_FORMAT, 0,
                         "%s: need-check is set and the repair at level safe leaves corruption; not opened "
                         "for writing",
                         path);
    }
    vd_answer_free(&answer);
    return rc;
}

/* A repair that was cut off is finished before anything else is written: its undo file would not fit any
 * more. */
static int ask_unfinished(const char *path, const char *undo_file, bool *is_unfinished, struct vd_err *err)
{
    enum vd_journal_state state;
    vd_auto(vd_journal) journal = vd_undofile_find(path, undo_file, VD_UNFINISHED, false, &state, err);

    *is_unfinished = journal;
    return !journal && err->kind ? -1 : 0;
}

struct BlockDriverState *vd_live_open(const char *path, const struct vd_open_options *opts,
                                      const char *undo_file, struct vd_budget *budget,
                                      struct vd_live_answer *answer, struct vd_err *err)
{
    bool is_unfinished;

    *answer = (struct vd_live_answer){0};
    if (ask_unfinished(path, undo_file, &is_unfinished, err) < 0) {
        if (opts->flags & BDRV_O_RDWR)
            return NULL;
        is_unfinished = true; /* reading hurts nothing */
        *err = (struct vd_err)VD_ERR_INIT;
    }
    if (ask_dirty(path, opts, &answer->was_dirty, err) < 0)
        return NULL;
    answer->was_dirty |= is_unfinished;
    if (answer->was_dirty && (opts->flags & BDRV_O_RDWR)) {
        if (repair_first(path, opts, undo_file, budget, err) < 0)
            return NULL;
        answer->was_repaired = true;
    }
    return vd_open_image(path, opts, err);
}

int vd_live_close(struct BlockDriverState *bs, struct vd_err *err)
{
    int rc = bdrv_inactivate(bs, err);

    bdrv_unref(bs);
    return rc;
}
