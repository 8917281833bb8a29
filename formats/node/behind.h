/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading that leaves the page cache as it was: what was not in it before is dropped again, some MiB behind
 * the reads and at the end. What was in it stays, to within 64 KiB; it is somebody's who works with the file.
 *
 * Where the kernel does not tell what is in the cache (a file system without RWF_NOWAIT), reads are reads.
 */
#ifndef VD_NODE_BEHIND_H
#define VD_NODE_BEHIND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "formats/base/vec.h"

/* In bytes of the file. */
struct vd_stretch {
    int64_t start, end;
};

VD_VEC(vd_stretch_vec, struct vd_stretch)

struct vd_behind {
    int fd; /* borrowed */
    bool is_on;
    struct vd_stretch_vec older, newer; /* that were not in the cache and are now */
    int64_t newer_bytes;
};

/* For a descriptor that is read so from now on. What is read ahead is no more than what is asked for. */
void vd_behind_begin(struct vd_behind *behind, int fd);

/* As pread(2), and often short. */
ssize_t vd_behind_pread(struct vd_behind *behind, void *buf, size_t len, int64_t offset);

/* As posix_fadvise(2) with POSIX_FADV_WILLNEED. These bytes are read within the next 16 MiB. */
void vd_behind_prefetch(struct vd_behind *behind, int64_t offset, int64_t bytes);

/* Drops what is left, and frees. */
void vd_behind_end(struct vd_behind *behind);

#endif
