/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "checker/database.h"
#include "formats/node/file.h"

static const char schema[] =
#include "checker/schema.inc"
    ;

struct store {
    sqlite3 *db;
    const char *path;
    sqlite3_int64 image_id;
    sqlite3_stmt *run;
    sqlite3_stmt *finding;
};

static int db_fail(struct store *s, struct vd_err *err)
{
    return vd_db_fail(s->db, s->path, err);
}

static int run_sql(struct store *s, const char *sql, struct vd_err *err)
{
    return vd_db_run(s->db, s->path, sql, err);
}

/* In application_id: "vdma". */
enum { MAP_MARK = 0x76646d61 };

/* A new file becomes a map. A database of something else, an undo file above all, is left alone. */
static int be_map(struct store *s, struct vd_err *err)
{
    char sql[64];
    int64_t mark, tables;

    if (vd_db_number(s->db, s->path, "PRAGMA application_id", &mark, err) < 0 ||
        vd_db_number(s->db, s->path, "SELECT count(*) FROM sqlite_master", &tables, err) < 0)
        return -1;
    if (mark == MAP_MARK)
        return 0;
    if (mark || tables)
        return vd_fail(err, VD_ERR_REFUSED, 0, "%s: a database, and no map of vdcheck; nothing was added",
                       s->path);
    snprintf(sql, sizeof(sql), "PRAGMA application_id=%d", MAP_MARK);
    return run_sql(s, sql, err);
}

static int step(struct store *s, sqlite3_stmt *stmt, struct vd_err *err)
{
    int rc = sqlite3_step(stmt);

    sqlite3_reset(stmt);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : db_fail(s, err);
}

static void bind_number(sqlite3_stmt *stmt, int column, uint64_t number)
{
    if (number > INT64_MAX)
        sqlite3_bind_null(stmt, column);
    else
        sqlite3_bind_int64(stmt, column, (sqlite3_int64)number);
}

static void bind_text(sqlite3_stmt *stmt, int column, const char *text)
{
    if (text && text[0])
        sqlite3_bind_text(stmt, column, text, -1, SQLITE_TRANSIENT);
    else
        sqlite3_bind_null(stmt, column);
}

/* XXH3 of the first 64 KiB: the header, and in most formats the top table or the beginning of it. */
static int64_t metadata_hash(struct BlockDriverState *bs)
{
    enum { HASHED = 65536 };
    vd_auto_mem uint8_t *bytes = malloc(HASHED);
    int64_t len = bdrv_getlength(bs->file, NULL), n = len < HASHED ? len : HASHED;

    if (!bytes || len < 0 || bdrv_pread(bs->file, 0, n, bytes, NULL) < 0)
        return 0;
    return (int64_t)XXH3_64bits(bytes, (size_t)n);
}

static int64_t nanoseconds(struct timespec ts)
{
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int put_image(struct store *s, struct BlockDriverState *bs, const struct vd_check_result *result,
                     const char *status, struct vd_err *err)
{
    static const char sql[] =
        "INSERT INTO image(path, format, status, virtual_size, file_size, cluster_size, dev, ino, mtime_ns, "
        "ctime_ns,"
        " metadata_xxh, checked_at, rules) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    struct BlockDriverState *file = bdrv_protocol(bs);
    sqlite3_stmt *stmt = NULL;
    int rc;

    if (sqlite3_prepare_v2(s->db, "DELETE FROM image WHERE path = ?1", -1, &stmt, NULL) != SQLITE_OK)
        return db_fail(s, err);
    bind_text(stmt, 1, bs->filename);
    rc = step(s, stmt, err);
    sqlite3_finalize(stmt);
    if (rc < 0)
        return -1;
    if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return db_fail(s, err);
    bind_text(stmt, 1, bs->filename);
    bind_text(stmt, 2, bs->drv->format_name);
    bind_text(stmt, 3, status);
    bind_number(stmt, 4, result->map ? (uint64_t)bs->total_bytes : VD_NOWHERE);
    bind_number(stmt, 5, (uint64_t)bdrv_getlength(bs->file, NULL));
    bind_number(stmt, 6, result->map ? result->cluster_size : VD_NOWHERE);
    if (file->drv == &vd_file_driver) {
        const struct stat *st = vd_file_stat(file);

        sqlite3_bind_int64(stmt, 7, (sqlite3_int64)st->st_dev);
        sqlite3_bind_int64(stmt, 8, (sqlite3_int64)st->st_ino);
        sqlite3_bind_int64(stmt, 9, nanoseconds(st->st_mtim));
        sqlite3_bind_int64(stmt, 10, nanoseconds(st->st_ctim));
    }
    sqlite3_bind_int64(stmt, 11, metadata_hash(bs));
    sqlite3_bind_int64(stmt, 12, (sqlite3_int64)time(NULL));
    bind_text(stmt, 13, PACKAGE_VERSION);
    rc = step(s, stmt, err);
    sqlite3_finalize(stmt);
    s->image_id = sqlite3_last_insert_rowid(s->db);
    return rc;
}

/* ---- usage */

static int put_run(void *opaque, uint64_t first, uint64_t count, enum vd_kind kind, uint64_t refs)
{
    struct store *s = opaque;

    sqlite3_bind_int64(s->run, 1, s->image_id);
    bind_number(s->run, 2, first);
    bind_number(s->run, 3, count);
    sqlite3_bind_text(s->run, 4, vd_kind_name(kind), -1, SQLITE_STATIC);
    bind_number(s->run, 5, refs);
    return sqlite3_step(s->run) == SQLITE_DONE && sqlite3_reset(s->run) == SQLITE_OK ? 0 : -1;
}

static int put_runs(struct store *s, struct vd_check_result *result, struct vd_err *err)
{
    int rc;

    if (!result->map)
        return 0;
    if (sqlite3_prepare_v2(
            s->db, "INSERT INTO usage_run(image_id, first, count, kind, refs) VALUES(?1, ?2, ?3, ?4, ?5)", -1,
            &s->run, NULL) != SQLITE_OK)
        return db_fail(s, err);
    rc = vd_check_each_run(result, put_run, s) < 0 ? db_fail(s, err) : 0;
    sqlite3_finalize(s->run);
    return rc;
}

/* ---- claims */

struct claims {
    struct store *s;
    struct vd_check_result *result;
    sqlite3_stmt *insert;
    bool all;
    char owner[VD_OWNER_TEXT];
};

static int put_claim(struct claims *c, const struct vd_named_span *claim, uint64_t cluster)
{
    bind_number(c->insert, 2, cluster);
    sqlite3_bind_text(c->insert, 3, vd_kind_name((enum vd_kind)claim->kind), -1, SQLITE_STATIC);
    bind_number(c->insert, 4, claim->reference);
    bind_number(c->insert, 5, claim->guest);
    if (claim->owner)
        sqlite3_bind_text(c->insert, 6, c->owner, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(c->insert, 6);
    return sqlite3_step(c->insert) == SQLITE_DONE && sqlite3_reset(c->insert) == SQLITE_OK ? 0 : -1;
}

/* A row for each cluster that is wanted. */
static int on_claim(void *opaque, const struct vd_named_span *claim)
{
    struct claims *c = opaque;
    uint64_t cs = c->result->cluster_size;

    if (claim->owner)
        vd_owner_text(c->owner, sizeof(c->owner), claim->owner);
    for (uint64_t i = claim->host / cs; claim->bytes && i <= (claim->host + claim->bytes - 1) / cs; i++)
        if ((c->all || vd_usemap_is_shared(c->result->map, i)) && put_claim(c, claim, i) < 0)
            return -1;
    return 0;
}

static bool may_share(const struct vd_ledger *ledger)
{
    /* What is claimed twice is corruption in every format that has no reference counts of its own. */
    return vd_ledger_counts(ledger).corruptions != 0;
}

static int put_claims(struct store *s, struct BlockDriverState *bs, struct vd_check_result *result, bool all,
                      struct vd_err *err)
{
    struct claims c = {.s = s, .result = result, .all = all};
    int rc;

    if (!result->map || !bs->drv->bdrv_each_claim || (!all && !may_share(result->ledger)))
        return 0;
    if (sqlite3_prepare_v2(s->db,
                           "INSERT INTO claim(image_id, cluster, kind, reference_offset, guest_offset, owner)"
                           " VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
                           -1, &c.insert, NULL) != SQLITE_OK)
        return db_fail(s, err);
    sqlite3_bind_int64(c.insert, 1, s->image_id);
    rc = bs->drv->bdrv_each_claim(bs, on_claim, &c, err);
    sqlite3_finalize(c.insert);
    return rc;
}

/* ---- findings */

static int put_place(struct store *s, const struct vd_group *group, const struct vd_place *place,
                     bool is_fixed, struct vd_err *err)
{
    sqlite3_bind_int64(s->finding, 1, s->image_id);
    bind_text(s->finding, 2, group->kind->id);
    bind_text(s->finding, 3, vd_severity_name(group->severity));
    bind_number(s->finding, 4, place->host);
    bind_number(s->finding, 5, place->guest);
    bind_text(s->finding, 6, place->found);
    bind_text(s->finding, 7, place->expected);
    bind_text(s->finding, 8, vd_level_name(group->level));
    sqlite3_bind_int(s->finding, 9, is_fixed);
    return step(s, s->finding, err);
}

static int put_findings(struct store *s, const struct vd_ledger *ledger, bool unchanged, struct vd_err *err)
{
    int rc = 0;

    if (sqlite3_prepare_v2(s->db, "INSERT INTO finding VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", -1,
                           &s->finding, NULL) != SQLITE_OK)
        return db_fail(s, err);
    for (size_t i = 0; rc == 0 && i < ledger->groups.n; i++) {
        const struct vd_group *group = ledger->groups.v[i];

        for (size_t k = 0; rc == 0 && k < group->places.n; k++)
            if (!unchanged || !group->places.v[k].is_later)
                rc =
                    put_place(s, group, &group->places.v[k], !unchanged && group->fixed == group->count, err);
    }
    sqlite3_finalize(s->finding);
    return rc;
}

int vd_store_image(const char *path, struct BlockDriverState *bs, struct vd_check_result *result,
                   const char *status, unsigned what, struct vd_err *err)
{
    struct store s = {.path = path};
    int rc;

    s.db = vd_db_open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, 10000, err);
    if (!s.db)
        return -1;
    rc = run_sql(
        &s, "PRAGMA foreign_keys=ON; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; BEGIN IMMEDIATE",
        err);
    if (rc == 0)
        rc = be_map(&s, err);
    if (rc == 0)
        rc = run_sql(&s, schema, err);
    if (rc == 0)
        rc = put_image(&s, bs, result, status, err);
    if (rc == 0)
        rc = put_runs(&s, result, err);
    if (rc == 0)
        rc = put_claims(&s, bs, result, what & VD_STORE_OWNERS, err);
    if (rc == 0)
        rc = put_findings(&s, result->ledger, what & VD_STORE_UNCHANGED, err);
    if (rc == 0)
        rc = run_sql(&s, "COMMIT", err);
    sqlite3_close(s.db);
    /* To a script, busy is the image. */
    if (rc < 0 && err->kind == VD_ERR_BUSY)
        err->kind = VD_ERR_IO;
    return rc;
}
