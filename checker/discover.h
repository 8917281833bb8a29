/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The images below some paths, found by what they are: the first bytes decide, and the name only leaves out.
 *
 * What is a file of ours or a database is never an image, whatever is asked for. A file that has several
 * names (hard links, bind mounts, paths that overlap) is one image, by the first of its names. Symbolic links
 * are not followed, except where one is itself among the paths.
 */
#ifndef VD_DISCOVER_H
#define VD_DISCOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "formats/base/budget.h"
#include "formats/base/vec.h"

/* By what a file is known again as unchanged. */
struct vd_identity {
    uint64_t dev, ino, size;    /* size in bytes */
    int64_t mtime_ns, ctime_ns; /* since 1970 */
    uint64_t head_xxh;          /* XXH3 of the first VD_HEAD_BYTES: the header and, mostly, the top table */
    bool is_settled;            /* a later change would show in the time stamps */
};

enum { VD_HEAD_BYTES = 65536 };

struct vd_candidate {
    char *path; /* absolute, without symbolic links; owned */
    struct vd_identity id;
    bool is_raw;           /* no format knows it, and raw files were asked for */
    bool has_repair_files; /* an undo file or a stub lies beside it */
};

VD_VEC(vd_candidate_vec, struct vd_candidate)

struct vd_discover_options {
    const char *const *include; /* patterns; a file must fit one, where there are any */
    size_t include_n;
    const char *const *exclude; /* what fits one is passed over, folders with all that is below */
    size_t exclude_n;
    bool raw;             /* what no format knows is a raw image */
    bool one_file_system; /* stay on the file system of each path */
    const struct vd_budget *budget;

    /* Is this file, which no format knows, an image all the same (because it was one last night)? NULL: no.
     */
    bool (*is_known)(void *opaque, const char *path);
    /* What could not be looked at; the search goes on. */
    void (*complain)(void *opaque, const struct vd_err *err);
    void *opaque;
};

/*
 * Appends the images below the paths to *found, sorted by path. A path that is a file itself is taken as an
 * image also where no format knows it. A pattern without a slash is for the last part of a path, one with a
 * slash for the whole path; `*` stands for slashes, too. -1 only for want of memory and after a signal; what
 * vanishes meanwhile is no error.
 */
int vd_discover(const char *const *paths, size_t n, const struct vd_discover_options *opts,
                struct vd_candidate_vec *found, struct vd_err *err);

/* Learns what is known of the file itself anew: it was written to since. Waits for moments, so that it is
 * settled. What has vanished stays as it was. -1 for want of memory. */
int vd_candidate_look_again(struct vd_candidate *image, struct vd_err *err);
void vd_candidates_free(struct vd_candidate_vec *found);

#endif
