/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "formats/base/text.h"
#include "formats/node/file.h"
#include "formats/node/overlay.h"
#include "repair/undofile.h"

/* Where the file itself lies; malloc'd. */
static char *folder_of(const char *path)
{
    vd_auto_mem char *file = vd_undofile_image(path);
    const char *slash = file ? strrchr(file, '/') : NULL;

    if (!file)
        return NULL;
    if (!slash)
        return strdup(".");
    return slash == file ? strdup("/") : strndup(file, (size_t)(slash - file));
}

/* Where undo files go. */
static char *undo_folder_of(const struct vd_request *req, const char *image)
{
    return req->undo_folder ? strdup(req->undo_folder) : folder_of(req->undo_file ? req->undo_file : image);
}

static bool is_regular(struct BlockDriverState *bs)
{
    struct BlockDriverState *file = bdrv_protocol(bs);

    return file->drv == &vd_file_driver && !vd_file_is_device(file);
}

/* ---- one request */

/* A check tells of a repair whose undo file is away or cannot be used, and looks at the image as it is. A
 * finding says so, which forbids every repair. */
static int go_on_without(struct vd_work *work, bool is_unfinished, struct vd_err *err)
{
    if (!is_unfinished) {
        if (err->kind == VD_ERR_CANCELLED || err->kind == VD_ERR_BUSY)
            return -1;
        work->undo_fault = *err;
    }
    *err = (struct vd_err)VD_ERR_INIT;
    return 0;
}

static int add_file(const char *path, struct vd_chain_link *link, const struct vd_request *req,
                    bool was_finished, struct vd_outcome_vec *files, struct vd_err *err)
{
    struct vd_outcome out = {.bs = link->bs};
    struct BlockDriverState *file = link->bs->file;
    const char *undo_file = files->n ? NULL : req->undo_file;
    bool is_unfinished = false;

    out.work = (struct vd_work){.drv = link->bs->drv, .link = link, .was_finished = was_finished};
    if ((is_regular(file) || undo_file) && vd_look_through(&file, path, undo_file, &is_unfinished, err) < 0 &&
        ((is_unfinished && req->level) || go_on_without(&out.work, is_unfinished, err) < 0))
        return -1;
    out.work.file = file;
    out.work.is_unfinished = is_unfinished;
    if (vd_outcome_vec_push(files, out) < 0)
        return vd_fail_memory(err);
    /* What was named has been finished before; another file of the chain has a repair of its own to be
     * finished. */
    if (is_unfinished && req->level && !req->dry_run)
        return vd_fail(
            err, VD_ERR_REFUSED, 0,
            "%s: a repair of this file was interrupted; finish it (`vdcheck --repair`) or take it back"
            " (`vdcheck undo`) first",
            path);
    return 0;
}

static const char *path_of(const struct vd_outcome *out)
{
    return out->bs->filename;
}

static bool is_dirty(struct BlockDriverState *bs)
{
    struct BlockDriverInfo info = {0};

    return bs->drv->bdrv_get_info && bs->drv->bdrv_get_info(bs, &info, NULL) == 0 && info.is_dirty;
}

static int find_kept_leaks(struct vd_outcome *out, const struct vd_request *req, struct vd_err *err)
{
    if (vd_undofile_kept_leaks(path_of(out), &out->work.kept_leaks, err) == 0)
        return 0;
    if (!req->level || err->kind != VD_ERR_REFUSED)
        return go_on_without(&out->work, err->kind == VD_ERR_REFUSED, err);
    err->kind = VD_ERR_IO; /* not the refusal of a repair that was worked out */
    return -1;
}

static int prepare_all(struct vd_answer *answer, const struct vd_request *req, bool frees_nothing,
                       struct vd_err *err)
{
    for (size_t i = answer->files.n; i > 0; i--) {
        struct vd_outcome *out = &answer->files.v[i - 1];
        vd_auto_mem char *spill = undo_folder_of(req, path_of(out));
        struct vd_transaction_options opts = {
            .plan = {.level = req->level, .frees_nothing = frees_nothing},
            .budget = req->budget,
            .spill_dir = spill,
            .places_kept = req->places_kept,
            .whole_chain = req->whole_chain,
            .deep = req->deep,
        };

        if (!out->bs->drv->bdrv_co_check)
            continue;
        if (is_regular(out->bs) && find_kept_leaks(out, req, err) < 0)
            return -1;
        if (vd_work_prepare(&out->work, &opts, err) < 0)
            return -1;
    }
    return 0;
}

static bool has_changes(const struct vd_answer *answer)
{
    for (size_t i = 0; i < answer->files.n; i++)
        if (answer->files.v[i].work.has_changes)
            return true;
    return false;
}

/* ---- preflight */

enum {
    JOURNAL_FRAME = 128 * 1024
}; /* bytes: an undo file without records, and SQLite's own journal beside it */

/* An upper bound of what the journal takes: the old and the new bytes of all changes, as if nothing
 * compressed. */
static int journal_room(struct vd_work *work, uint64_t *bytes, uint64_t *growth, struct vd_err *err)
{
    int64_t old_length = bdrv_getlength(work->file, err), new_length = bdrv_getlength(work->overlay, err), at;

    if (old_length < 0 || new_length < 0)
        return -1;
    *bytes += 2 * (uint64_t)VD_OVERLAY_BLOCK * vd_overlay_blocks(work->overlay) + JOURNAL_FRAME;
    *growth += new_length > old_length ? (uint64_t)(new_length - old_length) : 0;
    for (at = new_length; at < old_length;) {
        int64_t pnum = 0;
        int status =
            bdrv_block_status(work->file, at, (int64_t)vd_min((uint64_t)(old_length - at), (uint64_t)1 << 40),
                              &pnum, NULL, err);

        if (status < 0)
            return -1;
        *bytes += status & BDRV_BLOCK_ZERO ? 0 : (uint64_t)pnum;
        at += pnum;
    }
    return 0;
}

struct room {
    uint64_t bytes;
    unsigned long file_system;
};

static int room_in(const char *folder, struct room *room, struct vd_err *err)
{
    struct statvfs vfs;

    if (statvfs(folder, &vfs) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: the undo file cannot go there", folder);
    room->bytes = vd_mul_sat(geteuid() == 0 ? vfs.f_bfree : vfs.f_bavail, vfs.f_frsize);
    room->file_system = vfs.f_fsid;
    return 0;
}

static int fail_no_room(const char *image, uint64_t need, uint64_t growth, struct vd_err *err)
{
    char undo[VD_TEXT_SIZE_MAX], more[VD_TEXT_SIZE_MAX];

    if (!growth)
        return vd_fail(err, VD_ERR_IO, ENOSPC, "%s: the repair needs up to %s for its undo file", image,
                       vd_text_size(undo, need));
    return vd_fail(err, VD_ERR_IO, ENOSPC,
                   "%s: the repair needs up to %s for its undo file and %s for the image", image,
                   vd_text_size(undo, need), vd_text_size(more, growth));
}

/* Is there room for the journal and for what the image grows? A file-size limit counts like a full disk. */
static int preflight(struct vd_answer *answer, const struct vd_request *req, struct vd_err *err)
{
    uint64_t need = 0, growth = 0;
    struct room room, image_room;
    const char *image = path_of(&answer->files.v[0]);
    vd_auto_mem char *folder = undo_folder_of(req, image);
    vd_auto_mem char *image_folder = folder_of(image);
    struct rlimit limit;

    if (!folder || !image_folder)
        return vd_fail_memory(err);
    for (size_t i = 0; i < answer->files.n; i++)
        if (answer->files.v[i].work.has_changes &&
            journal_room(&answer->files.v[i].work, &need, &growth, err) < 0)
            return -1;
    if (room_in(folder, &room, err) < 0 || room_in(image_folder, &image_room, err) < 0)
        return -1;
    if (room.file_system == image_room.file_system ? room.bytes < need + growth
                                                   : room.bytes < need || image_room.bytes < growth)
        return fail_no_room(image, need, growth, err);
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && need > limit.rlim_cur)
        return vd_fail(err, VD_ERR_IO, EFBIG, "%s: the limit on file sizes is below what the undo file needs",
                       image);
    return 0;
}

static int refuse_unsafe(const struct vd_answer *answer, const struct vd_request *req, struct vd_err *err)
{
    for (size_t i = 0; i < answer->files.n; i++) {
        const struct vd_outcome *out = &answer->files.v[i];
        struct BlockDriverState *file = bdrv_protocol(out->bs);

        if (!out->work.has_changes || file->drv != &vd_file_driver)
            continue;
        if (!(file->open_flags & BDRV_O_RDWR))
            return vd_fail(err, VD_ERR_IO, access(path_of(out), W_OK) < 0 ? errno : EACCES,
                           "%s: cannot open for writing, and the repair has to write", path_of(out));
        if (vd_file_has_no_locks(file))
            return vd_fail(
                err, VD_ERR_REFUSED, 0,
                "%s: the file system has no locks that would keep a guest away; nothing was repaired",
                path_of(out));
        if (vd_file_is_device(file) && !req->undo_file && !req->undo_folder)
            return vd_fail(err, VD_ERR_REFUSED, 0, "%s: a block device needs --undo-file=FILE for its repair",
                           path_of(out));
    }
    return 0;
}

/* ---- commit */

static int open_journal(struct vd_outcome *out, const struct vd_request *req, size_t i, struct vd_err *err)
{
    const struct stat *like =
        bdrv_protocol(out->bs)->drv == &vd_file_driver ? vd_file_stat(bdrv_protocol(out->bs)) : NULL;

    if (req->undo_file && i == 0)
        out->undo_file = strdup(req->undo_file);
    else if (req->undo_file) {
        if (asprintf(&out->undo_file, "%s.%zu", req->undo_file, i) < 0)
            out->undo_file = NULL;
    } else if (req->undo_folder)
        out->undo_file = vd_undofile_next_in(req->undo_folder, path_of(out), err);
    else
        out->undo_file = vd_undofile_next(path_of(out), err);
    if (!out->undo_file)
        return vd_fail_memory(err);
    out->work.journal = vd_journal_create(out->undo_file, like, err);
    if (!out->work.journal) {
        if (!req->undo_file && !req->undo_folder && vd_undofile_may_not_write(err->errnum))
            vd_fail(err, VD_ERR_IO, err->errnum,
                    "%s: cannot create the undo file here, --undo-file=FILE puts it elsewhere",
                    out->undo_file);
        free(out->undo_file);
        out->undo_file = NULL;
        return -1;
    }
    return 0;
}

static int describe(struct vd_outcome *out, const struct vd_answer *answer, const struct vd_request *req,
                    struct vd_err *err)
{
    vd_auto_mem char *real = realpath(path_of(out), NULL);
    const struct vd_outcome *first = &answer->files.v[0];
    vd_auto_mem char *main_path = out != first ? realpath(first->undo_file, NULL) : NULL;

    if (vd_journal_set(out->work.journal, "image", real ? real : path_of(out), err) < 0 ||
        vd_journal_set(out->work.journal, "repair_id", answer->repair_id, err) < 0 ||
        vd_journal_set(out->work.journal, "level", vd_level_name(req->level), err) < 0 ||
        vd_journal_note_before(out->work.journal, out->work.file, err) < 0)
        return -1;
    return main_path ? vd_journal_set(out->work.journal, "main", main_path, err) : 0;
}

static bool takes_part(const struct vd_answer *answer, size_t i)
{
    /* The first holds the state of all, even where nothing of it changes. */
    return i == 0 || answer->files.v[i].work.has_changes;
}

/* Names a member in the main journal. */
static int add_to_main(struct vd_answer *answer, const struct vd_outcome *out, unsigned member,
                       struct vd_err *err)
{
    vd_auto_mem char *real = realpath(out->undo_file, NULL);
    char key[32];

    snprintf(key, sizeof(key), "member%u", member);
    return vd_journal_set(answer->files.v[0].work.journal, key, real ? real : out->undo_file, err);
}

/* By which the journals of one repair know each other, wherever they are copied to. */
static int make_repair_id(struct vd_answer *answer, struct vd_err *err)
{
    uint64_t id[2];

    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
        return vd_fail(err, VD_ERR_IO, errno, "no random number for the undo file");
    snprintf(answer->repair_id, sizeof(answer->repair_id), "%016" PRIx64 "%016" PRIx64, id[0], id[1]);
    return 0;
}

static int write_journals(struct vd_answer *answer, const struct vd_request *req, struct vd_err *err)
{
    unsigned member = 0;

    if (make_repair_id(answer, err) < 0 || open_journal(&answer->files.v[0], req, 0, err) < 0)
        return -1;
    for (size_t i = answer->files.n; i > 0; i--) {
        struct vd_outcome *out = &answer->files.v[i - 1];

        if (!takes_part(answer, i - 1))
            continue;
        if (i > 1 && (open_journal(out, req, i - 1, err) < 0 || add_to_main(answer, out, member++, err) < 0))
            return -1;
        if (!out->work.overlay)
            out->work.overlay = vd_overlay_new(out->work.file, NULL, err);
        if (!out->work.overlay || describe(out, answer, req, err) < 0 ||
            vd_work_write_journal(&out->work, out->work.journal, req->budget, err) < 0)
            return -1;
        if (vd_undofile_write_stub(path_of(out), out->undo_file, err) < 0)
            return -1;
        /* J2 over a chain: the members are on stable storage before the main journal says that all is
         * prepared. */
        if (vd_budget_go_on(req->budget, err) < 0 ||
            vd_journal_set_state(out->work.journal, VD_JOURNAL_PREPARED, err) < 0)
            return -1;
    }
    return 0;
}

static void drop_journals(struct vd_answer *answer)
{
    for (size_t i = 0; i < answer->files.n; i++) {
        struct vd_outcome *out = &answer->files.v[i];

        if (!out->undo_file)
            continue;
        if (out->work.journal)
            vd_journal_close(out->work.journal);
        out->work.journal = NULL;
        vd_undofile_remove_stub(path_of(out), out->undo_file);
        (void)unlink(out->undo_file);
        free(out->undo_file);
        out->undo_file = NULL;
    }
}

/* A write failed half-way: back to the old image, as long as the disk lets us. */
static int take_back(struct vd_answer *answer, struct vd_err *err)
{
    struct vd_err why = VD_ERR_INIT;

    for (size_t i = 0; i < answer->files.n; i++)
        if (answer->files.v[i].work.journal &&
            vd_journal_roll_back(answer->files.v[i].work.journal, answer->files.v[i].work.file, &why) < 0)
            return vd_while(
                err, "the repair is unfinished (`vdcheck --repair` goes on, `vdcheck undo` goes back)");
    drop_journals(answer);
    return vd_while(err, "the repair was taken back");
}

static int mark_committed(struct vd_work *work, struct vd_err *err)
{
    return vd_journal_note_file(work->journal, work->file, err) < 0
               ? -1
               : vd_journal_set_state(work->journal, VD_JOURNAL_COMMITTED, err);
}

static int apply_all(struct vd_answer *answer, struct vd_err *err)
{
    struct vd_journal *first = answer->files.v[0].work.journal;

    for (size_t i = answer->files.n; i > 0; i--)
        if (answer->files.v[i - 1].work.journal && vd_work_apply(&answer->files.v[i - 1].work, err) < 0)
            return take_back(answer, err);
    for (size_t i = answer->files.n; i > 0; i--) {
        struct vd_work *work = &answer->files.v[i - 1].work;

        if (!work->journal || mark_committed(work, err) == 0)
            continue;
        if (work->journal == first)
            return vd_while(err,
                            "the repair is unfinished: all is written, but its undo file does not say so "
                            "(`vdcheck --repair` finishes it, `vdcheck undo` goes back)");
        *err = (struct vd_err)VD_ERR_INIT; /* what the first one says holds for all */
    }
    for (size_t i = 0; i < answer->files.n; i++) {
        struct vd_outcome *out = &answer->files.v[i];

        if (out->work.journal && vd_undofile_settle_stub(path_of(out), out->work.journal, err) < 0)
            return -1;
    }
    return 0;
}

/* J7: nothing is written before all journals, read back, were seen to fit their files. */
static int verify_journals(struct vd_answer *answer, struct vd_err *err)
{
    for (size_t i = 0; i < answer->files.n; i++) {
        struct vd_work *work = &answer->files.v[i].work;

        if (work->journal && vd_journal_verify(work->journal, work->file, VD_MATCH_EITHER, err) < 0)
            return -1;
    }
    return 0;
}

static int commit(struct vd_answer *answer, const struct vd_request *req, struct vd_err *err)
{
    if (refuse_unsafe(answer, req, err) < 0)
        return -1;
    if (req->commits)
        req->commits();
    if (write_journals(answer, req, err) < 0 || verify_journals(answer, err) < 0) {
        drop_journals(answer);
        return -1;
    }
    if (apply_all(answer, err) < 0)
        return -1;
    if (req->drops_undo_file)
        drop_journals(answer);
    return 0;
}

static void forget_work(struct vd_answer *answer)
{
    for (size_t i = 0; i < answer->files.n; i++) {
        struct vd_outcome *out = &answer->files.v[i];
        struct vd_work fresh = {.file = out->work.file,
                                .drv = out->work.drv,
                                .link = out->work.link,
                                .is_unfinished = out->work.is_unfinished,
                                .undo_fault = out->work.undo_fault,
                                .was_finished = out->work.was_finished};

        vd_work_done(&out->work);
        out->work = fresh;
    }
}

static int settle_all(struct vd_answer *answer, bool repaired, struct vd_err *err)
{
    for (size_t i = 0; i < answer->files.n; i++) {
        answer->files.v[i].was_repaired = repaired && answer->files.v[i].work.has_changes;
        if (vd_work_settle(&answer->files.v[i].work, err) < 0)
            return -1;
    }
    return 0;
}

/* The header may say something else now: what is told of an image is what it is after the repair. */
static int read_again(struct vd_answer *answer, struct vd_err *err)
{
    for (size_t i = 0; i < answer->files.n; i++) {
        struct BlockDriverState *bs = answer->files.v[i].bs;

        if (answer->files.v[i].work.has_changes && bs->drv->bdrv_co_invalidate_cache &&
            bs->drv->bdrv_co_invalidate_cache(bs, err) < 0)
            return -1;
    }
    return 0;
}

/* A repair that cannot be made leaves the findings of the check as the answer. */
static int refuse_repair(struct vd_answer *answer, struct vd_err *err)
{
    for (size_t i = 0; i < answer->files.n; i++)
        answer->files.v[i].work.has_changes = false;
    answer->refusal = err->story;
    return -1;
}

static int repair_all(struct vd_answer *answer, const struct vd_request *req, struct vd_err *err)
{
    struct vd_err why = VD_ERR_INIT;

    if (prepare_all(answer, req, false, err) < 0)
        return err->kind == VD_ERR_REFUSED ? refuse_repair(answer, err) : -1;
    if (!has_changes(answer))
        return settle_all(answer, false, err);
    if (preflight(answer, req, &why) < 0) {
        if (why.errnum != ENOSPC && why.errnum != EFBIG) {
            *err = why;
            return refuse_repair(answer, err);
        }
        /* Keeping what a shorter file cuts off may be what needs the room. */
        forget_work(answer);
        if (prepare_all(answer, req, true, err) < 0)
            return -1;
        if (!has_changes(answer))
            return 0;
        if (preflight(answer, req, err) < 0)
            return refuse_repair(answer, err);
    }
    answer->is_verified = true;
    if (!req->dry_run && commit(answer, req, err) < 0)
        return refuse_repair(answer, err);
    if (!req->dry_run && read_again(answer, err) < 0)
        return -1;
    return settle_all(answer, true, err);
}

static int refuse_another(const char *path, const struct vd_request *req, const struct stat *st,
                          struct vd_err *err)
{
    if (!req->ino || (st->st_dev == req->dev && st->st_ino == req->ino))
        return 0;
    return vd_fail(err, VD_ERR_IO, 0, "%s: another file has taken this name meanwhile", path);
}

/* What was left behind by a repair that was cut off before it wrote to the image. */
static void sweep(const char *path, const struct vd_request *req)
{
    vd_undofile_sweep(path);
    if (req->undo_folder)
        vd_undofile_sweep_in(req->undo_folder, path);
}

static int open_all(const char *path, const struct vd_request *req, struct vd_answer *answer,
                    struct vd_err *err)
{
    struct vd_open_options open = req->open;
    struct stat st;

    if (stat(path, &st) == 0 && refuse_another(path, req, &st, err) < 0)
        return -1;
    if (req->level && !req->dry_run) {
        open.flags |= BDRV_O_RDWR;
        if (vd_recover(path, req->undo_file, &answer->recovered, err) < 0)
            return -1;
    }
    if (vd_open_chain(path, &open, !req->whole_chain, req->budget->chain_depth, &answer->chain, err) < 0)
        return -1;
    for (size_t i = 0; i < answer->chain.n; i++) {
        struct vd_chain_link *link = &answer->chain.v[i];

        /* Only under the lock: what another repair is just preparing looks like what a crash left. */
        if (req->level && !req->dry_run && is_regular(link->bs))
            sweep(link->bs->filename, req);
        if (i == 0 && is_regular(link->bs) &&
            refuse_another(path, req, vd_file_stat(bdrv_protocol(link->bs)), err) < 0)
            return -1;
        if (add_file(link->bs->filename, link, req, answer->recovered.is_whole && i == 0, &answer->files,
                     err) < 0)
            return -1;
        answer->files.v[i].was_skipped = req->if_dirty && !is_dirty(link->bs);
        answer->files.v[i].is_backing = i > 0;
    }
    return 0;
}

static int drop_clean_ones(struct vd_answer *answer)
{
    for (size_t i = 0; i < answer->files.n; i++)
        if (!answer->files.v[i].was_skipped)
            return 0;
    return 1;
}

int vd_request_run(const char *path, const struct vd_request *req, struct vd_answer *answer,
                   struct vd_err *err)
{
    *answer = (struct vd_answer){0};
    if (open_all(path, req, answer, err) < 0)
        return -1;
    if (drop_clean_ones(answer))
        return 0;
    if (!req->level)
        return prepare_all(answer, req, false, err);
    return repair_all(answer, req, err);
}

void vd_answer_free(struct vd_answer *answer)
{
    for (size_t i = 0; i < answer->files.n; i++) {
        struct vd_outcome *out = &answer->files.v[i];

        /* A look through a journal has an overlay of its own over the file that the chain owns. */
        if (out->work.file != out->bs->file)
            bdrv_unref(out->work.file);
        vd_work_done(&out->work);
        free(out->undo_file);
    }
    vd_outcome_vec_done(&answer->files);
    vd_recovered_free(&answer->recovered);
    vd_chain_free(&answer->chain);
}
