/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What databases of audits know, as one: the newest result of every image, what it was before, the runs.
 *
 * Merging is a union and then a choice by an order that nothing else has part in, so that it does not matter
 * in which order, how grouped or how often databases are added.
 */
#ifndef VD_FARM_H
#define VD_FARM_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "formats/base/err.h"
#include "formats/base/vec.h"

/* Numbers of a result; -1: not known. */
enum vd_farm_number {
    VD_FARM_VIRTUAL_SIZE,
    VD_FARM_FILE_SIZE,
    VD_FARM_CLUSTER_SIZE,
    VD_FARM_CORRUPTIONS,
    VD_FARM_LEAKS,
    VD_FARM_STATES,
    VD_FARM_WARNINGS,
    VD_FARM_ERRORS,
    VD_FARM_LEAKED_BYTES,
    VD_FARM_TOTAL,
    VD_FARM_ALLOCATED,
    VD_FARM_FRAGMENTED,
    VD_FARM_COMPRESSED,
    VD_FARM_ZERO,
    VD_FARM_IMAGE_END,
    VD_FARM_READS,
    VD_FARM_BYTES_READ,
    VD_FARM_NUMBERS
};

struct vd_farm_finding {
    char *id, *severity, *level;
    char *note;           /* or NULL */
    char *places;         /* JSON, an array */
    int64_t count, bytes; /* bytes: leaked; -1: not told */
};

VD_VEC(vd_farm_finding_vec, struct vd_farm_finding)

/* Whose newest result is told whole; of the one before, run to signature. */
struct vd_farm_result {
    char *run; /* its name */
    int64_t checked_at;
    char *status;
    char *signature;       /* equal for results that say the same */
    char *reason, *format; /* or NULL */
    char *strip;           /* audit-schema.sql has the letters; or NULL */
    char *repair;          /* JSON: what an audit's repair did before this check; NULL: there was none */
    bool has_undo_file;    /* it wrote to the image */
    bool is_refused;       /* it, or one more after it, could not be made */
    int64_t numbers[VD_FARM_NUMBERS];
    double seconds;
    struct vd_farm_finding_vec findings;
};

struct vd_farm_image {
    char *host, *path;
    struct vd_farm_result newest, before; /* before.run NULL: there was none */
    char *first_run, *last_run;           /* names of the runs that saw it first and last */
    bool is_gone;
    char *backing_name, *backing_state, *backing_path; /* NULL: it stands on nothing */
    /* Set by vd_farm_settle(). */
    bool is_new;       /* found since the run before the last that came to its end */
    bool is_changed;   /* not new, and since then found otherwise than it was */
    uint64_t overlays; /* images that stand on it */
};

VD_VEC(vd_farm_image_vec, struct vd_farm_image)

struct vd_farm_run {
    char *name, *host, *farm, *state;
    unsigned shard, shards;
    int64_t started_at, finished_at; /* finished_at 0: it did not */
    double seconds;
    int64_t found, checked, unreadable, leaked_bytes;
    int64_t by_status[8]; /* in the order of the columns: clean, repaired, ..., busy */
    bool is_newest_of_file;
};

VD_VEC(vd_farm_run_vec, struct vd_farm_run)
VD_VEC(vd_text_vec, char *)

struct vd_farm {
    struct vd_farm_image_vec images; /* after vd_farm_settle(): by host and path, none that is gone */
    struct vd_farm_run_vec runs;     /* then: by name, which is by time */
    bool is_torn;                    /* shards are missing, or strange */
    struct vd_text_vec notes;        /* what is missing in the whole, for people */
};

/* Adds what the database at path knows. It is read as what a stranger wrote. */
int vd_farm_add(struct vd_farm *farm, const char *path, struct vd_err *err);

/* Merges and sorts; to be called once, after the last vd_farm_add(). */
int vd_farm_settle(struct vd_farm *farm, struct vd_err *err);

/* The newest run; NULL where there is none. */
const struct vd_farm_run *vd_farm_last_run(const struct vd_farm *farm);

/* The JSON of a text from a database; *value is NULL where it is none, which is no error. */
int vd_farm_json(const char *text, json_t **value, struct vd_err *err);

/* Takes the images out for which keep() says no. */
void vd_farm_filter(struct vd_farm *farm, bool (*keep)(void *opaque, const struct vd_farm_image *image),
                    void *opaque);

void vd_farm_free(struct vd_farm *farm);

#endif
