/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "repair/undo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/base/vec.h"
#include "formats/node/file.h"
#include "formats/node/overlay.h"
#include "repair/journal.h"
#include "repair/undofile.h"

/* One file of a repair. The first part is the one whose journal holds the state of all. */
struct part {
    struct vd_journal *journal;
    struct BlockDriverState *file;
};

VD_VEC(part_vec, struct part)

static void free_parts(struct part_vec *parts)
{
    for (size_t i = 0; i < parts->n; i++) {
        bdrv_unref(parts->v[i].file);
        vd_journal_close(parts->v[i].journal);
    }
    part_vec_done(parts);
}

/* A file that is known by its inode must not have been written to since, not even where the journal does not
 * look. */
static int refuse_changed(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err)
{
    const struct stat *st = vd_file_stat(file);

    if (vd_journal_get_number(journal, "ino", -1) != (int64_t)st->st_ino ||
        vd_journal_get_number(journal, "dev", -1) != (int64_t)st->st_dev)
        return 0; /* a copy: only its content can be judged */
    if (vd_journal_get_number(journal, "mtime_s", 0) == (int64_t)st->st_mtim.tv_sec &&
        vd_journal_get_number(journal, "mtime_ns", 0) == (int64_t)st->st_mtim.tv_nsec)
        return 0;
    return vd_fail(
        err, VD_ERR_REFUSED, 0,
        "%s: the file was written to after the repair; taking the repair back could destroy what was written",
        file->filename);
}

/*
 * The file of a member is named by its journal, not by the user. Who could put that journal there must be
 * somebody who may write the file anyway: else a folder with an image and a journal made up beside it would
 * have root change any file. Journals get the owner of their file (journal.c), so an honest one passes.
 */
static int refuse_foreign(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err)
{
    const char *path = vd_journal_path(journal);
    struct stat st;

    if (lstat(path, &st) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s", path);
    if (S_ISREG(st.st_mode) &&
        (st.st_uid == 0 || st.st_uid == geteuid() || st.st_uid == vd_file_stat(file)->st_uid))
        return 0;
    return vd_fail(err, VD_ERR_REFUSED, 0,
                   "%s: this undo file belongs to user %u, and names %s, which belongs to user %u", path,
                   (unsigned)st.st_uid, file->filename, (unsigned)vd_file_stat(file)->st_uid);
}

/* Takes the journal over, also when it fails. */
static int add_part(struct part_vec *parts, struct vd_journal *journal, const char *image,
                    enum vd_journal_state state, bool read_only, struct vd_err *err)
{
    struct part part = {.journal = journal};

    part.file = vd_file_open(image, read_only ? 0 : BDRV_O_RDWR, err);
    if (part.file && part_vec_push(parts, part) < 0) {
        vd_fail_memory(err);
        bdrv_unref(part.file);
        part.file = NULL;
    }
    if (!part.file) {
        vd_journal_close(journal);
        return -1;
    }
    if (state == VD_JOURNAL_COMMITTED && refuse_changed(journal, part.file, err) < 0)
        return -1;
    return vd_journal_verify(journal, part.file,
                             state == VD_JOURNAL_COMMITTED ? VD_MATCH_NEW : VD_MATCH_EITHER, err);
}

static int add_member(struct part_vec *parts, const char *path, const char *top, enum vd_journal_state state,
                      bool read_only, struct vd_err *err)
{
    vd_auto(vd_journal) journal = vd_journal_open(path, !read_only, err);
    vd_auto_mem char *image = journal ? vd_undofile_member_image(journal, top) : NULL;

    if (!journal)
        return -1;
    if (!image)
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: the journal does not name its image", path);
    if (add_part(parts, vd_take(&journal), image, state, read_only, err) < 0)
        return -1;
    return refuse_foreign(parts->v[parts->n - 1].journal, parts->v[parts->n - 1].file, err);
}

/* Opens and verifies all files of the repair that this journal belongs to. Takes the journal over. */
static int gather_parts(struct part_vec *parts, struct vd_journal *journal, const char *image,
                        enum vd_journal_state state, bool read_only, struct vd_err *err)
{
    vd_auto_mem char *main_path = vd_undofile_partner(journal, "main");

    if (main_path) {
        vd_journal_close(journal);
        return vd_fail(err, VD_ERR_REFUSED, 0, "%s: part of the repair of a chain, whose undo file is %s",
                       image, main_path);
    }
    if (add_part(parts, journal, image, state, read_only, err) < 0)
        return -1;
    for (unsigned i = 0;; i++) {
        char key[32];
        vd_auto_mem char *path = NULL;

        snprintf(key, sizeof(key), "member%u", i);
        path = vd_undofile_partner(parts->v[0].journal, key);
        if (!path)
            return 0;
        if (add_member(parts, path, image, state, read_only, err) < 0)
            return -1;
    }
}

/* The members first, the one with the state of all last. */
static int set_state(struct part_vec *parts, enum vd_journal_state state, struct vd_err *err)
{
    for (size_t i = parts->n; i > 0; i--)
        if (vd_journal_set_state(parts->v[i - 1].journal, state, err) < 0)
            return -1;
    return 0;
}

static int roll_all(struct part_vec *parts, enum vd_journal_state state, struct vd_err *err)
{
    for (size_t i = parts->n; i > 0; i--)
        if (vd_journal_roll(parts->v[i - 1].journal, state, parts->v[i - 1].file, err) < 0 ||
            vd_journal_note_file(parts->v[i - 1].journal, parts->v[i - 1].file, err) < 0)
            return -1;
    return set_state(parts, state == VD_JOURNAL_UNDOING ? VD_JOURNAL_UNDONE : VD_JOURNAL_COMMITTED, err);
}

static void remove_stubs(struct part_vec *parts)
{
    for (size_t i = 0; i < parts->n; i++)
        vd_undofile_remove_stub(parts->v[i].file->filename, vd_journal_path(parts->v[i].journal));
}

static int settle_stubs(struct part_vec *parts, struct vd_err *err)
{
    for (size_t i = 0; i < parts->n; i++)
        if (vd_undofile_settle_stub(parts->v[i].file->filename, parts->v[i].journal, err) < 0)
            return -1;
    return 0;
}

static int tell_repair(struct vd_recovered *recovered, struct vd_journal *journal, struct vd_err *err)
{
    recovered->undo_file = strdup(vd_journal_path(journal));
    recovered->level = vd_journal_get(journal, "level");
    recovered->writes = (uint64_t)vd_journal_get_number(journal, "writes", 0);
    recovered->bytes_written = (uint64_t)vd_journal_get_number(journal, "bytes_written", 0);
    return recovered->undo_file ? 0 : vd_fail_memory(err);
}

int vd_recover(const char *path, const char *undo_file, struct vd_recovered *recovered, struct vd_err *err)
{
    enum vd_journal_state state;
    struct vd_journal *journal = vd_undofile_find(path, undo_file, VD_UNFINISHED, true, &state, err);
    struct part_vec parts = {0};
    int rc;

    *recovered = (struct vd_recovered){0};
    if (!journal && err->kind != VD_ERR_REFUSED && err->kind != VD_ERR_CANCELLED && err->kind != VD_ERR_BUSY)
        *err = (struct vd_err)VD_ERR_INIT; /* the check tells of a file that cannot be used */
    if (!journal)
        return err->kind ? -1 : 0;
    rc = gather_parts(&parts, journal, path, state, false, err);
    if (rc == 0)
        rc = roll_all(&parts, state, err);
    if (rc == 0 && state == VD_JOURNAL_PREPARED)
        rc = tell_repair(recovered, parts.v[0].journal, err);
    if (rc == 0 && state == VD_JOURNAL_PREPARED)
        rc = settle_stubs(&parts, err);
    else if (rc == 0)
        remove_stubs(&parts);
    recovered->is_whole = rc == 0;
    free_parts(&parts);
    return rc < 0 ? vd_while(err, "going on with the interrupted repair") : 0;
}

int vd_look_through(struct BlockDriverState **file, const char *path, const char *undo_file,
                    bool *is_unfinished, struct vd_err *err)
{
    enum vd_journal_state state;
    vd_auto(vd_journal) journal = vd_undofile_find(path, undo_file, VD_UNFINISHED, false, &state, err);
    vd_auto(BlockDriverState) overlay = NULL;

    /* What the stub of a repair that was begun says holds, also where its journal cannot be had. */
    *is_unfinished = !journal && err->kind == VD_ERR_REFUSED;
    if (!journal)
        return err->kind ? -1 : 0;
    overlay = vd_overlay_new(*file, NULL, err);
    if (!overlay || vd_journal_verify(journal, *file, VD_MATCH_EITHER, err) < 0 ||
        vd_journal_roll(journal, state, overlay, err) < 0)
        return vd_while(err, "looking through the journal of the interrupted repair");
    *file = vd_take(&overlay);
    *is_unfinished = true;
    return 0;
}

void vd_recovered_free(struct vd_recovered *recovered)
{
    free(recovered->undo_file);
    free(recovered->level);
    *recovered = (struct vd_recovered){0};
}

/* An image is not opened as a database only to see that it is none. */
static bool may_be_journal(const char *path)
{
    static const char magic[] = "SQLite format 3";
    char head[sizeof(magic)] = "";
    struct BlockDriverState *file = vd_file_open(path, BDRV_O_FORCE_SHARE, NULL);
    bool is_one =
        file && bdrv_pread(file, 0, sizeof(head), head, NULL) == 0 && memcmp(head, magic, sizeof(magic)) == 0;

    bdrv_unref(file);
    return is_one;
}

static struct vd_journal *find_undo(const char *path, const char *undo_file, bool writable,
                                    enum vd_journal_state *state, struct vd_err *err)
{
    const unsigned wanted = VD_UNFINISHED | (1u << VD_JOURNAL_COMMITTED);
    const char *named = undo_file ? undo_file : path;
    struct vd_err why = VD_ERR_INIT;
    vd_auto(vd_journal) journal = NULL;

    /* The argument may be the undo file itself. */
    if (undo_file || may_be_journal(path))
        journal = vd_journal_open(named, writable, &why);
    if (journal && undo_file && vd_undofile_refuse_copy(journal, path, err) < 0)
        return NULL;
    if (journal && vd_undofile_state(journal, state, err) == 0) {
        if (wanted & (1u << *state))
            return vd_take(&journal);
        vd_fail(err, VD_ERR_REFUSED, 0, "%s: this repair has been taken back already", named);
        return NULL;
    }
    if (journal)
        return NULL;
    if (undo_file) {
        *err = why;
        return NULL;
    }
    journal = vd_undofile_find(path, NULL, wanted, writable, state, err);
    if (!journal && !err->kind)
        vd_fail(err, VD_ERR_REFUSED, 0, "%s: no undo file that has not been taken back (%s.vdcheck-undo)",
                path, path);
    return vd_take(&journal);
}

/* The repair before this one knows its file by the time of its last write. That is now the time of the undo,
 * and nothing else was written since; so that it can be taken back as well, it is told. */
static void tell_older(struct part *part)
{
    enum vd_journal_state state;
    struct vd_err ignored = VD_ERR_INIT;
    vd_auto(vd_journal) older =
        vd_undofile_find(part->file->filename, NULL, 1u << VD_JOURNAL_COMMITTED, true, &state, &ignored);

    if (older && vd_journal_follows(part->journal, older) &&
        vd_journal_note_file(older, part->file, &ignored) == 0)
        (void)vd_journal_set_state(older, state, &ignored);
}

/* So that an undo that is cut off is found from the images, wherever its undo files lie. */
static int write_stubs(struct part_vec *parts, struct vd_err *err)
{
    for (size_t i = 0; i < parts->n; i++)
        if (vd_undofile_write_stub(parts->v[i].file->filename, vd_journal_path(parts->v[i].journal), err) < 0)
            return -1;
    return 0;
}

static int take_back(struct part_vec *parts, struct vd_err *err)
{
    if (write_stubs(parts, err) < 0 || set_state(parts, VD_JOURNAL_UNDOING, err) < 0 ||
        roll_all(parts, VD_JOURNAL_UNDOING, err) < 0)
        return -1;
    for (size_t i = 0; i < parts->n; i++)
        tell_older(&parts->v[i]);
    remove_stubs(parts);
    return 0;
}

int vd_undo_run(const char *path, const char *undo_file, bool dry_run, struct vd_undo_answer *answer,
                struct vd_err *err)
{
    enum vd_journal_state state = VD_JOURNAL_EMPTY;
    struct part_vec parts = {0};
    struct vd_journal *journal = find_undo(path, undo_file, !dry_run, &state, err);
    int rc;

    *answer = (struct vd_undo_answer){0};
    if (!journal)
        return -1;
    answer->undo_file = strdup(vd_journal_path(journal));
    /* The image is where it was named; an undo file named alone knows its image. */
    answer->image =
        strcmp(path, vd_journal_path(journal)) == 0 ? vd_undofile_image_of(journal) : strdup(path);
    if (!answer->image || !answer->undo_file) {
        rc = vd_fail(err, VD_ERR_FORMAT, 0, "%s: the journal does not name its image",
                     vd_journal_path(journal));
        vd_journal_close(journal);
        return rc;
    }
    rc = gather_parts(&parts, journal, answer->image, state, dry_run, err);
    if (rc == 0 && !dry_run)
        rc = take_back(&parts, err);
    free_parts(&parts);
    return rc;
}

void vd_undo_answer_free(struct vd_undo_answer *answer)
{
    free(answer->image);
    free(answer->undo_file);
}
