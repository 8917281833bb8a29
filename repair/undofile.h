/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where journals lie, and which one belongs to an image.
 *
 *     IMAGE.vdcheck-undo, IMAGE.vdcheck-undo.1, ...   beside the image, the highest number the newest
 *     IMAGE.vdcheck-stub   names a journal that lies elsewhere, while a repair is under way; and after it,
 *                          where the repair kept clusters as evidence that the next repair must know of
 *
 * An image that is named by a symbolic link has them beside the file that the link leads to: a repair that
 * was cut off is found by every name.
 */
#ifndef VD_UNDOFILE_H
#define VD_UNDOFILE_H

#include <stdio.h>

#include "repair/journal.h"

/* The image's own name: what a symbolic link leads to, else the path as it is; malloc'd, NULL: no memory. */
char *vd_undofile_image(const char *path);

/* The next free name beside the image; malloc'd. NULL: no memory, or ten thousand of them are there. */
char *vd_undofile_next(const char *image, struct vd_err *err);

/* The next free name in a folder that is for the undo files of many images; malloc'd. NULL as above. */
char *vd_undofile_next_in(const char *folder, const char *image, struct vd_err *err);

/* The stub's name; malloc'd. */
char *vd_undofile_stub(const char *image, struct vd_err *err);

/* Names the journal in a stub beside the image, durably, where its own name would not be found from there. A
 * device, and a folder that cannot be written, get none. */
int vd_undofile_write_stub(const char *image, const char *journal, struct vd_err *err);

/* The journal elsewhere that a stub beside the image names; malloc'd, NULL: there is no stub. */
char *vd_undofile_elsewhere(const char *image);

/* Errors of a folder that is not ours to write. */
bool vd_undofile_may_not_write(int errnum);

/* Removes the stub where it names this journal, an absolute path or one from here. */
void vd_undofile_remove_stub(const char *image, const char *journal);

/* After the repair: the stub goes, or stays where the journal lists clusters that the repair kept as
 * evidence. 0 also where there is none, or it names another journal. */
int vd_undofile_settle_stub(const char *image, struct vd_journal *journal, struct vd_err *err);

/* VD_ERR_REFUSED where the journal, found otherwise than beside the image, is that of another file that is
 * there. */
int vd_undofile_refuse_copy(struct vd_journal *journal, const char *image, struct vd_err *err);

/*
 * The newest journal of the image in one of the wanted states (bits 1 << VD_JOURNAL_...), opened: undo_file
 * (NULL: none) where it is a journal of this very image, then the one that the stub names, then those beside
 * the image. NULL and no error (err->kind is VD_ERR_NONE) where there is none; VD_ERR_REFUSED where a stub
 * names one that is not there, or another image's. The state is that of the transaction: for a member of a
 * chain it is read from the main journal.
 */
struct vd_journal *vd_undofile_find(const char *image, const char *undo_file, unsigned wanted, bool writable,
                                    enum vd_journal_state *state, struct vd_err *err);

/* The state of the transaction that a journal belongs to. */
int vd_undofile_state(struct vd_journal *journal, enum vd_journal_state *state, struct vd_err *err);

/*
 * The other journal of a chain's repair that the journal names under key ("main", "member0", ...). Where a
 * folder was moved or copied with its undo files, the one that lies beside this journal and is of the same
 * repair: what is taken back in a copy must not be taken back in the first. malloc'd; NULL: none is named.
 */
char *vd_undofile_partner(struct vd_journal *journal, const char *key);

/* The image of a journal, by the same rule: the one that it lies beside under its usual name, else the one
 * that it names. malloc'd; NULL: it names none. */
char *vd_undofile_image_of(struct vd_journal *journal);

/* The image of a member of the chain whose top is named; where the journal's own name for it leads nowhere,
 * the file of that name beside the top (the folder was moved). malloc'd; NULL: none. */
char *vd_undofile_member_image(struct vd_journal *journal, const char *top);

/* The evidence that repairs not taken back have left; 0 also where there is none. */
int vd_undofile_kept_leaks(const char *image, struct vd_runs *clusters, struct vd_err *err);

/* Prints the paths, each with a NUL behind it, of what else a check of the image reads, or a repair of it
 * finishes, where repair files lie beside it: journals elsewhere, and the other files of a chain whose repair
 * was cut off. What the journals name is anybody's word. */
void vd_undofile_print_others(const char *image, FILE *out);

/* Removes journals that were never prepared: those beside the image, and those of the folder's. */
void vd_undofile_sweep(const char *image);
void vd_undofile_sweep_in(const char *folder, const char *image);

#endif
