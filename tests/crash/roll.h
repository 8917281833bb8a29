/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One repair, prepared, committed and recorded; and the disk of each power cut on the way, rolled forward to
 * exactly the new image and back to exactly the old one (J4 of repair/journal.c).
 */
#ifndef VD_CRASH_ROLL_H
#define VD_CRASH_ROLL_H

#include "tests/crash/disk.h"

struct crash_run {
    struct sweep_image old, new; /* before the repair, which nobody writes to, and after all of it */
    struct sweep_repair repair;
    struct vd_fault_log log; /* of the commit */
    struct sweep_random random;
    char name[300];
    uint64_t cuts;                                     /* tried so far */
    struct BlockDriverState *cut, *cut_again, *rolled; /* disks, filled anew for each cut */
};

/* Prepares and commits the repair of image, which is taken over. fault: what happens while it is worked out;
 * may be NULL. false where this level changes nothing, or the image cannot be checked at all: run->repair.err
 * tells it then. The run is to be ended in any case. */
bool crash_begin(struct crash_run *run, const char *name, const struct sweep_image *image,
                 enum vd_level level, const struct vd_fault_rule *fault);
void crash_end(struct crash_run *run);

/* Rolls over a disk that records, so that the rolling can be cut, too. log may be NULL. */
void crash_roll(struct crash_run *run, struct BlockDriverState *disk, bool forward, struct vd_fault_log *log);

/* The disk is known to the journal, and leads to both images. */
void crash_must_roll_both_ways(struct crash_run *run, struct BlockDriverState *disk);

/* Cuts the commit at every point, and each rolling from there once more. */
void crash_cut_commit(struct crash_run *run);

/* Cuts an undo of it at every point. */
void crash_cut_undo(struct crash_run *run);

#endif
