/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal of a repair, which is also its undo file: one SQLite file with the old and the new bytes of
 * every block that the repair changes, and a state.
 *
 *     prepared ──► committed ──► undoing ──► undone
 *         └───────────────────────┘
 *
 * The invariants stand at the head of journal.c.
 */
#ifndef VD_JOURNAL_H
#define VD_JOURNAL_H

#include <sys/stat.h>

#include "formats/base/budget.h"
#include "formats/base/runs.h"
#include "formats/node/block.h"

enum vd_journal_state {
    VD_JOURNAL_EMPTY, /* it was never prepared: nothing of the image was written */
    VD_JOURNAL_PREPARED,
    VD_JOURNAL_COMMITTED,
    VD_JOURNAL_UNDOING,
    VD_JOURNAL_UNDONE,
};

/* A repair or an undo that was cut off while it was written. */
#define VD_UNFINISHED ((1u << VD_JOURNAL_PREPARED) | (1u << VD_JOURNAL_UNDOING))

struct vd_journal;

/* Creates the journal at path, which must not exist; ":memory:" keeps it in memory. like: owner and mode are
 * taken from there (NULL: the caller's own, 0600). */
struct vd_journal *vd_journal_create(const char *path, const struct stat *like, struct vd_err *err);

/* Opens a journal that is there. VD_ERR_FORMAT where the file is none; VD_ERR_REFUSED where it was cut off
 * while it was written and SQLite would have to write to it, which is not allowed here. */
struct vd_journal *vd_journal_open(const char *path, bool writable, struct vd_err *err);
void vd_journal_close(struct vd_journal *journal);
VD_DEFINE_AUTO(vd_journal, vd_journal_close)

/* Brings the entry of a file in its folder to stable storage. */
int vd_journal_sync_folder(const char *path, struct vd_err *err);

const char *vd_journal_path(const struct vd_journal *journal);

/* A named value; set before prepare, or with a state change. get: malloc'd, NULL where there is none. */
int vd_journal_set(struct vd_journal *journal, const char *key, const char *value, struct vd_err *err);
char *vd_journal_get(struct vd_journal *journal, const char *key);
int64_t vd_journal_get_number(struct vd_journal *journal, const char *key, int64_t otherwise);
int vd_journal_set_number(struct vd_journal *journal, const char *key, int64_t value, struct vd_err *err);

/*
 * Fills the journal with the difference between overlay and file: all of the overlay's blocks that differ,
 * and the bytes of the file that the overlay's length cuts off. *writes and *bytes are what a commit will
 * write; the journal keeps them as the numbers "writes" and "bytes_written".
 */
int vd_journal_fill(struct vd_journal *journal, struct BlockDriverState *file,
                    struct BlockDriverState *overlay, struct vd_budget *budget, uint64_t *writes,
                    uint64_t *bytes, struct vd_err *err);

/* The clusters that this repair leaves as evidence. */
int vd_journal_keep_leaks(struct vd_journal *journal, const struct vd_runs *clusters, uint64_t cluster_size,
                          struct vd_err *err);
int vd_journal_kept_leaks(struct vd_journal *journal, struct vd_runs *clusters, uint64_t *cluster_size,
                          struct vd_err *err);

/* Changes the state, durably: when this returns 0 the state and all that was put in before is on stable
 * storage. */
int vd_journal_set_state(struct vd_journal *journal, enum vd_journal_state state, struct vd_err *err);
int vd_journal_state(struct vd_journal *journal, enum vd_journal_state *state, struct vd_err *err);

/* What a file may hold to be taken for the image of this journal. */
enum vd_journal_match {
    VD_MATCH_NEW,   /* every block is the new one, and the length too */
    VD_MATCH_EITHER /* every sector is the old or the new one */
};

/* -1 with VD_ERR_REFUSED where the file holds something else: somebody wrote to it meanwhile. */
int vd_journal_verify(struct vd_journal *journal, struct BlockDriverState *file, enum vd_journal_match match,
                      struct vd_err *err);

/* Writes the new bytes in the order of their stages, flushed in between; or the old bytes. Both may be
 * repeated. */
int vd_journal_roll_forward(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err);
int vd_journal_roll_back(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err);

/* Goes on with what a state says was begun: back from UNDOING, else forward. */
int vd_journal_roll(struct vd_journal *journal, enum vd_journal_state state, struct BlockDriverState *file,
                    struct vd_err *err);

/* Remembers which file this is and when it was last written, so that undo can tell a copy of it from a change
 * to it. */
int vd_journal_note_file(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err);

/* Remembers, before the first write, when the file was last written: by the repair before, perhaps. */
int vd_journal_note_before(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err);

/* Did the repair of this journal begin with the very file that the older one left behind? */
bool vd_journal_follows(struct vd_journal *journal, struct vd_journal *older);

#endif
