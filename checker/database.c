/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/database.h"

#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>

static int refuse_special(const char *path, struct vd_err *err)
{
    struct stat st;

    if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
        return 0;
    return vd_fail(err, VD_ERR_FORMAT, 0, "%s: no database, for it is no regular file", path);
}

sqlite3 *vd_db_open(const char *path, int flags, int wait_ms, struct vd_err *err)
{
    sqlite3 *db = NULL;

    if (refuse_special(path, err) < 0)
        return NULL;
    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK) {
        (void)(db ? vd_db_fail(db, path, err) : vd_fail_memory(err));
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_busy_timeout(db, wait_ms);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    return db;
}

static int errnum_of(sqlite3 *db, int code)
{
    if (code == SQLITE_FULL)
        return ENOSPC;
    return code == SQLITE_CANTOPEN ? sqlite3_system_errno(db) : 0;
}

int vd_db_fail(sqlite3 *db, const char *path, struct vd_err *err)
{
    int code = sqlite3_errcode(db) & 0xff;
    enum vd_err_kind kind = VD_ERR_IO;

    if (code == SQLITE_BUSY)
        kind = VD_ERR_BUSY;
    if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT)
        kind = VD_ERR_FORMAT;
    return vd_fail(err, kind, errnum_of(db, code), "%s: %s", path, sqlite3_errmsg(db));
}

int vd_db_run(sqlite3 *db, const char *path, const char *sql, struct vd_err *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : vd_db_fail(db, path, err);
}

int vd_db_number(sqlite3 *db, const char *path, const char *sql, int64_t *number, struct vd_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        *number = sqlite3_column_int64(stmt, 0);
        rc = 0;
    }
    if (rc < 0)
        (void)vd_db_fail(db, path, err);
    sqlite3_finalize(stmt);
    return rc;
}
