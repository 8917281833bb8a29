/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a path to nodes: the file with its filters, the driver that knows it, the chain of backing files.
 */
#ifndef VD_OPEN_H
#define VD_OPEN_H

#include "formats/check.h"
#include "formats/node/block.h"
#include "formats/node/fault.h"
#include "formats/node/gate.h"
#include "formats/node/stats.h"
#include "formats/node/throttle.h"

struct vd_open_options {
    const char *format; /* NULL: probed */
    int flags;          /* BDRV_O_ */
    struct vd_gate gate;
    struct vd_throttle_limits throttle;
    struct vd_io_stats *stats;         /* NULL: nobody counts */
    const struct vd_fault_rule *fault; /* faults to inject; NULL: none */
};

/* The file and the filters that the options ask for. path is the user's own word and needs no gate. */
struct BlockDriverState *vd_open_file(const char *path, const struct vd_open_options *opts,
                                      struct vd_err *err);

/*
 * Which driver for the image in this node? The one of that name, or (NULL) the one that probing finds: then
 * VD_ERR_UNSUPPORTED where none knows it. *score is 100 for a sure answer, lower where only part of the
 * format's marks are there. NULL on error.
 */
const struct BlockDriver *vd_choose_driver(struct BlockDriverState *file, const char *name, int *score,
                                           struct vd_err *err);

/* Opens the image for live use, with its whole backing chain read-only. */
struct BlockDriverState *vd_open_image(const char *path, const struct vd_open_options *opts,
                                       struct vd_err *err);

/* Opens the backing chain of a live node, with the data files of its images. */
int vd_open_backing(struct BlockDriverState *bs, const struct vd_open_options *opts, struct vd_err *err);

/* Opens the file of its own in which a live node says the guest's data lies; nothing where it names none. */
int vd_open_data(struct BlockDriverState *bs, const struct vd_open_options *opts, struct vd_err *err);

/* One file of a chain, opened for checking. */
struct vd_chain_link {
    struct BlockDriverState *bs; /* format node; owned by the chain */
    struct vd_io_stats *io;      /* what was read and written through it; owned by the chain */
    int64_t backing_size;        /* guest bytes of the backing file; -1: not known */
    /* what is wrong with the step from here to the backing file */
    enum vd_chain_end {
        VD_CHAIN_GOES_ON,
        VD_CHAIN_IS_BASE,
        VD_CHAIN_MISSING,
        VD_CHAIN_REFUSED,
        VD_CHAIN_LOOP
    } end;
    const struct BlockDriver *found_format; /* of the backing file, where it is not what the image declares */
    char why[256];                          /* for people; "" where nothing is wrong */
    struct vd_named_file data_file;
};

VD_VEC(vd_chain_vec, struct vd_chain_link)

/*
 * The files of a backing chain, the overlay first, each opened with BDRV_O_CHECK. only_first: the backing
 * file is looked up and not opened. -1 where a file cannot be opened at all; what was opened so far is in
 * *chain and is to be freed.
 */
int vd_open_chain(const char *path, const struct vd_open_options *opts, bool only_first, unsigned depth,
                  struct vd_chain_vec *chain, struct vd_err *err);
void vd_chain_free(struct vd_chain_vec *chain);

/* Reports what is wrong with the step to the backing file. With whole_chain what cannot be followed is an
 * error. */
void vd_judge_link(struct vd_check *ck, const struct vd_chain_link *link, bool whole_chain);

#endif
