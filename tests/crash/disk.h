/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a disk holds after a power cut, worked out from what it held before and the recorded writes.
 *
 *     arrived          not flushed            |  torn  |  never sent
 *     ----------- flush ------ some lost -----|-- ... -|-------------
 *                                          the cut
 *
 * A sector of 512 bytes arrives whole or not at all. What was written since the last flush may be lost in any
 * part: whole requests, or single sectors of them, or the new length of the file.
 */
#ifndef VD_CRASH_DISK_H
#define VD_CRASH_DISK_H

#include "formats/node/fault.h"
#include "tests/sweep/sweep.h"

struct crash_cut {
    size_t event;     /* of the log: the first one that did not arrive whole */
    uint64_t torn;    /* sectors of that event that did arrive, where it is a write */
    uint64_t lost;    /* seed of what is lost of the writes since the last flush; 0: nothing is */
    uint64_t dropped; /* bits: which of the requests since the last flush never arrive */
};

/* A disk in memory. Those that are filled again and again are made once: under a sanitizer large blocks of
 * memory are dear. */
struct BlockDriverState *crash_disk_new(void);

/* Makes disk what another one is. */
void crash_copy(struct BlockDriverState *disk, struct BlockDriverState *from);

/* Makes disk what the cut leaves. */
void crash_disk_at(struct BlockDriverState *disk, struct BlockDriverState *before,
                   const struct vd_fault_log *log, const struct crash_cut *cut);

/* Sectors that the event's write touches; 0: it is no write. */
uint64_t crash_sectors(const struct vd_fault_event *event);

/* How many requests stand between the last flush and the cut? */
size_t crash_unflushed(const struct vd_fault_log *log, size_t event);

/* Calls fn for each cut of the log: every boundary, with seeded losses; at the first, a middle and the last
 * sector of each write. A long run takes every sector, more seeds, and every choice of whole requests where
 * they are few. */
void crash_each_cut(const struct vd_fault_log *log, void (*fn)(void *opaque, const struct crash_cut *cut),
                    void *opaque);

/* Some cut of the log. */
struct crash_cut crash_some_cut(const struct vd_fault_log *log, struct sweep_random *random);

#endif
