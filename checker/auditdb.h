/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The database of audits (audit-schema.sql): an SQLite file that one audit at a time writes.
 *
 * Results are committed in small transactions, so that a kill costs the last moment only. Names from outside
 * go in as they are, as bound values.
 */
#ifndef VD_AUDITDB_H
#define VD_AUDITDB_H

#include <jansson.h>

#include "checker/discover.h"
#include "formats/base/auto.h"
#include "formats/base/err.h"

struct vd_auditdb;

enum {
    VD_AUDITDB_SCHEMA = 2,        /* in user_version */
    VD_AUDITDB_MARK = 0x76646175, /* in application_id: "vdau", by which we and file(1) know it */
};

/* What is kept of an image from earlier runs. Strings are the database's. */
struct vd_kept {
    int64_t image_id;
    const char *path;
    struct vd_identity id;
    const char *rules;
    bool is_gone;                             /* the last run to look saw no file there */
    bool had_format;                          /* some format knew it, once */
    bool is_complete;                         /* the newest result is, and holds as long as nothing changes */
    int64_t run_id;                           /* of the newest result */
    const char *backing_name, *backing_state; /* NULL: it has none */
    const char *backing_path;                 /* NULL: not found */
};

/* One run, as it is begun. Strings are borrowed for the call. */
struct vd_run_row {
    const char *host, *farm, *rules;
    unsigned shard, shards;
    bool is_full;
    bool resumes; /* goes on with the last run of the same farm and shard, where that was cut off */
};

/* What a run came to. */
struct vd_run_sums {
    uint64_t found, checked, unreadable;
    double seconds;
};

/*
 * Opens (or makes) the database at path for an audit. NULL where it cannot be used: VD_ERR_BUSY where
 * another audit has it, VD_ERR_UNSUPPORTED where a newer vdcheck made it, VD_ERR_FORMAT where it is no
 * database of audits.
 */
struct vd_auditdb *vd_auditdb_open(const char *path, struct vd_err *err);
void vd_auditdb_close(struct vd_auditdb *db); /* commits what is there */
VD_DEFINE_AUTO(vd_auditdb, vd_auditdb_close)

/* Begins a run. *is_full may be set by the run that is gone on with, and *resumed tells whether one is. */
int vd_auditdb_begin_run(struct vd_auditdb *db, const struct vd_run_row *row, bool *is_full, bool *resumed,
                         struct vd_err *err);
int64_t vd_auditdb_run(const struct vd_auditdb *db);
const char *vd_auditdb_run_name(const struct vd_auditdb *db);

/* What is kept of the host's images, in the order of paths; *kept belongs to the database. */
int vd_auditdb_load(struct vd_auditdb *db, const char *host, const struct vd_kept **kept, size_t *n,
                    struct vd_err *err);

/* The row of a path among those, or NULL. */
const struct vd_kept *vd_auditdb_find(const struct vd_auditdb *db, const char *path);

/* The image was seen, and is as it was. */
int vd_auditdb_unchanged(struct vd_auditdb *db, const struct vd_kept *kept, struct vd_err *err);

/* The new result of an image: the JSON object that --output=json has for it, with "backing" where it has one
 * (struct vd_kept's three strings as "name", "state", "path", with "dev" and "ino"), and "strip" where there
 * is a map. It is read as what a stranger says. One that the same run has already goes. */
int vd_auditdb_put(struct vd_auditdb *db, const struct vd_candidate *image, json_t *object, bool is_complete,
                   struct vd_err *err);

/* An image that this run has seen, as a repair of a level looks at it. */
struct vd_mendable {
    char *path, *base;   /* base: where its backing file was found, or NULL */
    bool is_repairable;  /* something was found that such a repair does away with */
    bool is_unfinished;  /* a repair of it was cut off */
    bool is_error;       /* the check could not be completed */
    bool was_tried;      /* by such a repair, and is as it was left */
    bool is_of_this_run; /* its newest result is */
};

VD_VEC(vd_mendable_vec, struct vd_mendable)

/* Appends all images of this run, by path. level: "leaks" or "safe". */
int vd_auditdb_mendable(struct vd_auditdb *db, const char *level, struct vd_mendable_vec *rows,
                        struct vd_err *err);
void vd_mendable_free(struct vd_mendable_vec *rows);

/* The image is there no more. */
int vd_auditdb_gone(struct vd_auditdb *db, const struct vd_kept *kept, struct vd_err *err);

/* Commits where enough has gathered, in number or in time. */
int vd_auditdb_tick(struct vd_auditdb *db, struct vd_err *err);

/* Ends the run: sums, who stands on whom. */
int vd_auditdb_end_run(struct vd_auditdb *db, const char *state, const struct vd_run_sums *sums,
                       struct vd_err *err);

/* Forgets results that are older than so many days, but the newest of each image; and images that no run has
 * seen for as long. */
int vd_auditdb_forget(struct vd_auditdb *db, unsigned days, struct vd_err *err);

#endif
