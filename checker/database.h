/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SQLite files: maps, audits and undo files. Each may be anybody's, so what a file says of itself runs
 * nothing. All functions answer -1 or NULL on error; path is for the story.
 */
#ifndef VD_DATABASE_H
#define VD_DATABASE_H

#include <sqlite3.h>
#include <stdint.h>

#include "formats/base/err.h"

/* flags: SQLITE_OPEN_...; wait_ms: how long others' locks are waited for. No FIFO and no device is opened,
 * for the one would not come back and the other looks like a database that is empty. */
sqlite3 *vd_db_open(const char *path, int flags, int wait_ms, struct vd_err *err);

/* What SQLite says of the last call: VD_ERR_BUSY, VD_ERR_FORMAT (no database, or a broken one), VD_ERR_IO. */
int vd_db_fail(sqlite3 *db, const char *path, struct vd_err *err);

/* Runs statements that answer nothing. */
int vd_db_run(sqlite3 *db, const char *path, const char *sql, struct vd_err *err);

/* The number in the first column of the first row. */
int vd_db_number(sqlite3 *db, const char *path, const char *sql, int64_t *number, struct vd_err *err);

#endif
