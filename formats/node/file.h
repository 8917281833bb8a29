/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The protocol node "file": a regular file or a block device, with QEMU's byte-range locks.
 *
 * Only this node and the gate open files by name. Anything that is neither a regular file nor a block device
 * is refused before it is opened for good, so that a FIFO cannot hang a check.
 */
#ifndef VD_NODE_FILE_H
#define VD_NODE_FILE_H

#include <sys/stat.h>

#include "formats/node/block.h"

extern const struct BlockDriver vd_file_driver;

/*
 * Opens path with BDRV_O_ flags and takes the locks that they stand for: what `qemu-img check` takes for a
 * read-only open, what `qemu-img check -r` takes with BDRV_O_RDWR, one byte with BDRV_O_FORCE_SHARE or
 * BDRV_O_GENTLE. VD_ERR_BUSY where another program is in the way. The node owns the descriptor.
 */
struct BlockDriverState *vd_file_open(const char *path, int flags, struct vd_err *err);

/* The same over a descriptor that the caller opened, which the node takes over even when it fails. */
struct BlockDriverState *vd_file_open_fd(int fd, const char *path, int flags, struct vd_err *err);

/* Creates path (which must not exist unless replace is set) as an empty file, locked for writing. */
struct BlockDriverState *vd_file_create(const char *path, bool replace, struct vd_err *err);

bool vd_file_is_device(struct BlockDriverState *bs);
int vd_file_fd(struct BlockDriverState *bs);

/* Does the file system keep no byte-range locks, so that nothing protects the file from a writer? */
bool vd_file_has_no_locks(struct BlockDriverState *bs);

/* Has another program the file open for writing, by QEMU's locks? */
bool vd_file_has_writer(struct BlockDriverState *bs);

/* Has nobody begun to write since the file was opened with BDRV_O_GENTLE? -1 with VD_ERR_BUSY where somebody
 * has.
 */
int vd_file_still_quiet(struct BlockDriverState *bs, struct vd_err *err);

/* What fstat said when the node was opened, and after the last write of ours. */
const struct stat *vd_file_stat(struct BlockDriverState *bs);

/* Has the file another length or another time stamp than when it was opened or we last wrote? */
bool vd_file_has_changed(struct BlockDriverState *bs);

/* Bytes that the file really occupies. */
uint64_t vd_file_allocated(struct BlockDriverState *bs);

#endif
