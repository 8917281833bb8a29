/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the pages of one audit share: audit.c finds and checks, audit-repair.c repairs, audit-elsewhere.c
 * knows which files a worker may have beside those of the image's own folder.
 */
#ifndef VD_AUDIT_INSIDE_H
#define VD_AUDIT_INSIDE_H

#include <jansson.h>

#include "checker/audit.h"
#include "checker/auditdb.h"
#include "checker/confine.h"
#include "checker/pool.h"

enum { VD_AUDIT_OWN_MEMORY = 64 << 20 }; /* bytes that a worker has beside what an image costs */

VD_VEC(vd_file_vec, char *)

/* An image that a worker is to work on. */
struct vd_task {
    struct vd_candidate *image;
    size_t folder; /* a number: workers are confined to one folder, so the images in it are a group */
    struct vd_file_vec others; /* files elsewhere that it needs; owned */
    json_t *repair;            /* what its repair said, where this is the check after it; owned, or NULL */
    unsigned depth;            /* of a repair: how many images of the farm it stands on */
    bool is_unfinished;        /* of a repair: one was cut off */
    bool is_settled;           /* of a repair: all is said */
};

VD_VEC(vd_task_vec, struct vd_task)

struct vd_audit {
    const struct vd_audit_options *opts;
    struct vd_auditdb *db;
    const struct vd_kept *kept;
    size_t kept_n;
    struct vd_candidate_vec found; /* by path */
    struct vd_task_vec tasks;
    struct vd_audit_sums *sums;
    uint64_t done, total, bytes_read; /* of what is done at the moment */
    double began;                     /* with the first check */
    bool is_full, was_resumed;
};

/* Appends a task for the image to the tasks. */
int vd_audit_add_task(struct vd_audit *a, struct vd_candidate *image, struct vd_err *err);
void vd_audit_free_tasks(struct vd_task_vec *tasks);

/* Has workers check all tasks, and keeps what they say. */
int vd_audit_check(struct vd_audit *a, struct vd_err *err);

/* The image of a path among those that were found, or NULL. */
struct vd_candidate *vd_audit_find(const struct vd_audit *a, const char *path);

/* What a worker said of an image; where that is nothing or nonsense, an error with the reason. The caller's;
 * NULL: no memory. */
json_t *vd_audit_object(const struct vd_pool_result *result);

/* Keeps a result. is_complete: it holds until something changes, if its status does. */
int vd_audit_keep(struct vd_audit *a, const struct vd_candidate *image, json_t *object, bool is_complete,
                  struct vd_err *err);

/* In the parent while workers work: progress, and the database. */
int vd_audit_tick(void *opaque, struct vd_err *err);

/* Learns which files elsewhere the tasks' images with repair files need. */
int vd_audit_look_elsewhere(struct vd_audit *a, struct vd_task_vec *tasks, struct vd_err *err);

/* In a worker: its walls. writes: into the image's folder, that of undo files, and those of the files
 * elsewhere. */
int vd_audit_confine(const struct vd_audit *a, const struct vd_task *task, bool writes, struct vd_err *err);

/* Repairs what was found repairable, and checks it again. */
int vd_audit_repair(struct vd_audit *a, struct vd_err *err);

#endif
