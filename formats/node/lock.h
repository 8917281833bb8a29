/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU's byte-range locks on image files.
 *
 * Byte 100 + i says "I use permission i", byte 200 + i "I do not share permission i", all as shared locks of
 * the open file description; a conflict is found by asking whether an exclusive lock would be possible. Take
 * all, then test, else release all: of two racers both may fail and never both win.
 */
#ifndef VD_NODE_LOCK_H
#define VD_NODE_LOCK_H

#include <stdbool.h>

#include "formats/base/err.h"

enum vd_lock_mode {
    VD_LOCK_SHARE,  /* read whatever others do: only refuse those who let nobody read */
    VD_LOCK_READ,   /* read, and let nobody write or resize: `qemu-img check` */
    VD_LOCK_WRITE,  /* write, and let nobody else: `qemu-img check -r`, a running guest */
    VD_LOCK_GENTLE, /* read what nobody writes, and keep nobody from writing: who reads so asks again
                       afterwards */
};

enum vd_lock_result { VD_LOCK_TAKEN, VD_LOCK_NONE_HERE, VD_LOCK_FAILED };

/* Takes the locks of mode on fd, instead of those it may hold. VD_LOCK_NONE_HERE: the file system has none.
 * VD_LOCK_FAILED with VD_ERR_BUSY: another program is in the way, and nothing is held. */
enum vd_lock_result vd_lock_take(int fd, enum vd_lock_mode mode, const char *path, struct vd_err *err);

/* Has nobody begun to write or resize? -1 with VD_ERR_BUSY where somebody has; for VD_LOCK_GENTLE,
 * afterwards. */
int vd_lock_still_quiet(int fd, const char *path, struct vd_err *err);

/* Does another program hold the lock that says that it writes? An error answers no. */
bool vd_lock_has_writer(int fd);

#endif
