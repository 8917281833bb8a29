/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copying all guest data that can be read out of a damaged image into a new, clean one.
 *
 * The image itself is never written. Where it is damaged it is read with the references put back that are
 * proven, and lost tables where there is one place for them; where its header is broken, through the repair
 * of the header.
 */
#ifndef VD_SALVAGE_H
#define VD_SALVAGE_H

#include "formats/open.h"

enum vd_salvage_kind {
    VD_SALVAGE_LOST,    /* could not be read; zeroes stand in the new image */
    VD_SALVAGE_GUESSED, /* what was lost was put back here, where it fits */
};

struct vd_salvage_range {
    uint64_t guest, bytes;
    enum vd_salvage_kind kind;
    char why[160];
};

VD_VEC(vd_salvage_vec, struct vd_salvage_range)

struct vd_salvage_answer {
    uint64_t size;     /* guest bytes */
    uint64_t copied;   /* data */
    uint64_t lost;     /* guest bytes */
    uint64_t guessed;  /* guest bytes in ranges of that kind */
    uint64_t damage;   /* findings of a check that can mean lost data */
    uint64_t put_back; /* findings whose references were put back for reading */
    bool is_guessed;   /* all was read through a repair that chooses */
    struct vd_salvage_vec ranges;
    size_t ranges_dropped; /* beyond the bound of the list */
    char backing_why[256]; /* why the backing chain was not read; "": it was, or there is none */
    char data_why[256];    /* the same of the external data file */
};

/* Copies the disk of the image at path, or what its snapshot of that id or name holds (NULL: the active
 * disk), into a new file `output` of the driver `drv`. 0 also where something was lost. */
int vd_salvage(const char *path, const char *output, const struct BlockDriver *drv, const char *snapshot,
               const struct vd_open_options *opts, struct vd_budget *budget, struct vd_salvage_answer *answer,
               struct vd_err *err);
void vd_salvage_answer_free(struct vd_salvage_answer *answer);

#endif
