/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/auditdb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "checker/database.h"
#include "formats/finding.h"

static const char schema[] =
#include "checker/audit-schema.inc"
    ;

enum {
    BUSY_MS = 10000, /* a report that is being made holds the file for moments */
    LOCK_MS = 3000,  /* another audit holds it for hours */
    BATCH_N = 200,
    BATCH_MS = 300,
};

/* All that is asked of the database while an audit runs. */
enum statement {
    BEGIN,
    COMMIT,
    NEW_RUN,
    OLD_RUN,
    GO_ON,
    KEPT,
    SEEN,
    NEW_IMAGE,
    NEW_RESULT,
    NEW_FINDING,
    SET_RESULT,
    DROP_CHAIN,
    NEW_CHAIN,
    GONE,
    DROP_RESULT,
    MENDABLE,
    STATEMENTS_N
};

static const char *const texts[] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [NEW_RUN] = "INSERT INTO run(name, host, farm, shard, shards, state, is_full, tool, rules, started_at)"
                " VALUES(?1, ?2, ?3, ?4, ?5, 'running', ?6, ?7, ?8, ?9)",
    [OLD_RUN] =
        "SELECT id, is_full, name FROM run WHERE host = ?1 AND farm = ?2 AND shard = ?3 AND shards = ?4"
        " AND rules = ?5 AND state <> 'complete'"
        " AND id = (SELECT max(id) FROM run WHERE host = ?1 AND farm = ?2 AND shard = ?3 AND shards = ?4)",
    [GO_ON] = "UPDATE run SET state = 'running' WHERE id = ?1",
    [KEPT] =
        "SELECT image.id, image.path, result.dev, result.ino, size, mtime_ns, ctime_ns, metadata_xxh,"
        " rules, is_complete, run_id, chain.name, chain.state, chain.path, is_gone, known_as IS NOT NULL"
        " FROM image LEFT JOIN result ON result.id = result_id LEFT JOIN chain ON chain.image_id = image.id"
        " WHERE host = ?1",
    [SEEN] = "UPDATE image SET last_run = ?1, is_gone = 0 WHERE id = ?2",
    [NEW_IMAGE] = "INSERT INTO image(host, path, first_run, last_run)"
                  " VALUES((SELECT host FROM run WHERE id = ?1), ?2, ?1, ?1)"
                  " ON CONFLICT(host, path) DO UPDATE SET last_run = ?1 RETURNING id",
    [NEW_RESULT] =
        "INSERT INTO result(image_id, run_id, checked_at, status, reason, is_complete, rules,"
        " dev, ino, mtime_ns, ctime_ns, size, metadata_xxh, format, virtual_size, file_size, cluster_size,"
        " corruptions, leaks, states, warnings, errors, leaked_bytes,"
        " clusters_total, clusters_allocated, clusters_fragmented, clusters_compressed, clusters_zero,"
        " image_end_offset, reads, bytes_read, seconds, strip, repair)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,"
        " ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34)",
    [NEW_FINDING] = "INSERT INTO finding VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    [SET_RESULT] = "UPDATE image SET result_id = ?1, last_run = ?2, is_gone = 0,"
                   " known_as = ifnull(nullif((SELECT format FROM result WHERE id = ?1), 'raw'), known_as) "
                   "WHERE id = ?3",
    [DROP_CHAIN] = "DELETE FROM chain WHERE image_id = ?1",
    [NEW_CHAIN] = "INSERT INTO chain(image_id, name, state, path, dev, ino) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [GONE] = "UPDATE image SET last_run = ?1, is_gone = 1 WHERE id = ?2 AND NOT is_gone",
    [DROP_RESULT] = "DELETE FROM result WHERE run_id = ?1 AND image_id = ?2",
    [MENDABLE] =
        "SELECT image.path, chain.path, result.repair, is_complete, status, run_id = ?1,"
        " EXISTS(SELECT 1 FROM finding f WHERE f.result_id = result.id AND severity <> 'warning'"
        " AND level IN ('leaks', ?2)),"
        " EXISTS(SELECT 1 FROM finding f WHERE f.result_id = result.id AND f.finding = ?3)"
        " FROM image JOIN result ON result.id = image.result_id LEFT JOIN chain ON chain.image_id = image.id"
        " WHERE last_run = ?1 AND NOT is_gone ORDER BY image.path",
};

VD_VEC(kept_vec, struct vd_kept)

struct vd_auditdb {
    sqlite3 *db, *lock;
    char *path;
    char *rules; /* of the run */
    int64_t run_id;
    char run_name[64];
    sqlite3_stmt *statements[STATEMENTS_N];
    struct kept_vec kept;
    bool is_in_batch;
    unsigned batch_n;
    uint64_t batch_ms;
};

static int fail_db(struct vd_auditdb *db, struct vd_err *err)
{
    return vd_db_fail(db->db, db->path, err);
}

static int run_sql(struct vd_auditdb *db, const char *sql, struct vd_err *err)
{
    return vd_db_run(db->db, db->path, sql, err);
}

/* The prepared statement; NULL on error. */
static sqlite3_stmt *ask(struct vd_auditdb *db, enum statement which, struct vd_err *err)
{
    sqlite3_stmt **stmt = &db->statements[which];

    if (!*stmt &&
        sqlite3_prepare_v3(db->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL) != SQLITE_OK) {
        fail_db(db, err);
        return NULL;
    }
    sqlite3_clear_bindings(*stmt);
    return *stmt;
}

/* Runs a statement that answers nothing. */
static int done(struct vd_auditdb *db, sqlite3_stmt *stmt, struct vd_err *err)
{
    int rc = sqlite3_step(stmt) == SQLITE_DONE ? 0 : fail_db(db, err);

    sqlite3_reset(stmt);
    return rc;
}

static void bind_text(sqlite3_stmt *stmt, int column, const char *text)
{
    if (text)
        sqlite3_bind_text(stmt, column, text, -1, SQLITE_TRANSIENT);
    else
        sqlite3_bind_null(stmt, column);
}

static int simple(struct vd_auditdb *db, enum statement which, int64_t a, int64_t b, struct vd_err *err)
{
    sqlite3_stmt *stmt = ask(db, which, err);

    if (!stmt)
        return -1;
    if (sqlite3_bind_parameter_count(stmt) > 0)
        sqlite3_bind_int64(stmt, 1, a);
    if (sqlite3_bind_parameter_count(stmt) > 1)
        sqlite3_bind_int64(stmt, 2, b);
    return done(db, stmt, err);
}

/* ---- batches */

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int enter_batch(struct vd_auditdb *db, struct vd_err *err)
{
    if (db->is_in_batch)
        return 0;
    if (simple(db, BEGIN, 0, 0, err) < 0)
        return -1;
    db->is_in_batch = true;
    db->batch_n = 0;
    db->batch_ms = now_ms();
    return 0;
}

static int leave_batch(struct vd_auditdb *db, struct vd_err *err)
{
    if (!db->is_in_batch)
        return 0;
    db->is_in_batch = false;
    if (simple(db, COMMIT, 0, 0, err) == 0)
        return 0;
    (void)sqlite3_exec(db->db, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

int vd_auditdb_tick(struct vd_auditdb *db, struct vd_err *err)
{
    if (!db->is_in_batch || (db->batch_n < BATCH_N && now_ms() - db->batch_ms < BATCH_MS))
        return 0;
    return leave_batch(db, err);
}

/* ---- opening */

static int make_schema(struct vd_auditdb *db, struct vd_err *err)
{
    char marks[400];

    snprintf(marks, sizeof(marks),
             "PRAGMA application_id=%d; PRAGMA user_version=%d;"
             " INSERT INTO meta VALUES('schema', '%d'), ('tool', '" PACKAGE_VERSION "')",
             VD_AUDITDB_MARK, VD_AUDITDB_SCHEMA, VD_AUDITDB_SCHEMA);
    return run_sql(db, schema, err) < 0 ? -1 : run_sql(db, marks, err);
}

/* From an older schema to the next one; steps[i] leads from i + 1 to i + 2, and says so as make_schema()
 * does. The columns stand in the order of the newest schema then. */
static int migrate(struct vd_auditdb *db, int64_t version, struct vd_err *err)
{
    static const char *const steps[VD_AUDITDB_SCHEMA - 1] = {
        "ALTER TABLE result ADD COLUMN strip TEXT; ALTER TABLE result ADD COLUMN repair TEXT;"
        " PRAGMA user_version=2; UPDATE meta SET value = '2' WHERE key = 'schema'",
    };

    for (; version < VD_AUDITDB_SCHEMA; version++)
        if (run_sql(db, steps[version - 1], err) < 0)
            return -1;
    return 0;
}

static int settle_schema(struct vd_auditdb *db, struct vd_err *err)
{
    int64_t tables, version, mark;

    if (vd_db_number(db->db, db->path, "SELECT count(*) FROM sqlite_schema", &tables, err) < 0 ||
        vd_db_number(db->db, db->path, "PRAGMA user_version", &version, err) < 0 ||
        vd_db_number(db->db, db->path, "PRAGMA application_id", &mark, err) < 0)
        return -1;
    if (tables == 0)
        return make_schema(db, err);
    if (mark != VD_AUDITDB_MARK || version < 1)
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: a database, but not one of audits", db->path);
    if (version > VD_AUDITDB_SCHEMA)
        return vd_fail(err, VD_ERR_UNSUPPORTED, 0,
                       "%s: schema %" PRId64 ", made by a newer vdcheck; this one knows up to %d", db->path,
                       version, VD_AUDITDB_SCHEMA);
    return migrate(db, version, err);
}

/* An empty database of its own is the lock: it needs no other locking than SQLite's, and the results can be
 * read meanwhile. */
static int take_lock(struct vd_auditdb *db, struct vd_err *err)
{
    char name[4200];

    snprintf(name, sizeof(name), "%s-lock", db->path);
    db->lock = vd_db_open(name, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, LOCK_MS, err);
    if (!db->lock)
        return -1;
    if (vd_db_run(db->lock, name, "BEGIN EXCLUSIVE", err) == 0)
        return 0;
    if (err->kind == VD_ERR_BUSY)
        return vd_fail(err, VD_ERR_BUSY, 0, "%s: another audit is using this database", db->path);
    return -1;
}

static int open_all(struct vd_auditdb *db, struct vd_err *err)
{
    if (take_lock(db, err) < 0)
        return -1;
    db->db = vd_db_open(db->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, BUSY_MS, err);
    if (!db->db)
        return -1;
    /* Of a file that is somebody else's nothing is changed: auto_vacuum only holds for one without tables. */
    if (run_sql(db, "PRAGMA foreign_keys=ON; PRAGMA auto_vacuum=INCREMENTAL; BEGIN IMMEDIATE", err) < 0 ||
        settle_schema(db, err) < 0)
        return -1;
    return run_sql(db, "COMMIT", err);
}

struct vd_auditdb *vd_auditdb_open(const char *path, struct vd_err *err)
{
    vd_auto(vd_auditdb) db = calloc(1, sizeof(*db));

    if (db)
        db->path = strdup(path);
    if (!db || !db->path) {
        vd_fail_memory(err);
        return NULL;
    }
    return open_all(db, err) < 0 ? NULL : vd_take(&db);
}

static void free_kept(struct vd_auditdb *db)
{
    for (size_t i = 0; i < db->kept.n; i++) {
        free((char *)db->kept.v[i].path);
        free((char *)db->kept.v[i].rules);
        free((char *)db->kept.v[i].backing_name);
        free((char *)db->kept.v[i].backing_state);
        free((char *)db->kept.v[i].backing_path);
    }
    kept_vec_done(&db->kept);
}

void vd_auditdb_close(struct vd_auditdb *db)
{
    (void)leave_batch(db, NULL);
    free_kept(db);
    for (size_t i = 0; i < STATEMENTS_N; i++)
        sqlite3_finalize(db->statements[i]);
    sqlite3_close(db->db);
    sqlite3_close(db->lock);
    free(db->path);
    free(db->rules);
    free(db);
}

/* ---- runs */

static int new_run(struct vd_auditdb *db, const struct vd_run_row *row, bool is_full, struct vd_err *err)
{
    sqlite3_stmt *stmt = ask(db, NEW_RUN, err);
    char stamp[32];
    struct timespec now;
    uint32_t chance = 0;
    struct tm tm;

    if (!stmt)
        return -1;
    (void)getrandom(&chance, sizeof(chance), 0);
    clock_gettime(CLOCK_REALTIME, &now);
    strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", gmtime_r(&now.tv_sec, &tm));
    snprintf(db->run_name, sizeof(db->run_name), "%s.%06ldZ-%08" PRIx32, stamp, now.tv_nsec / 1000, chance);
    bind_text(stmt, 1, db->run_name);
    bind_text(stmt, 2, row->host);
    bind_text(stmt, 3, row->farm);
    sqlite3_bind_int64(stmt, 4, row->shard);
    sqlite3_bind_int64(stmt, 5, row->shards);
    sqlite3_bind_int(stmt, 6, is_full);
    bind_text(stmt, 7, PACKAGE_VERSION);
    bind_text(stmt, 8, db->rules);
    sqlite3_bind_int64(stmt, 9, now.tv_sec);
    if (done(db, stmt, err) < 0)
        return -1;
    db->run_id = sqlite3_last_insert_rowid(db->db);
    return 0;
}

/* The run that was cut off, if the last one was. */
static int find_old_run(struct vd_auditdb *db, const struct vd_run_row *row, bool *is_full,
                        struct vd_err *err)
{
    sqlite3_stmt *stmt = ask(db, OLD_RUN, err);
    int rc;

    if (!stmt)
        return -1;
    bind_text(stmt, 1, row->host);
    bind_text(stmt, 2, row->farm);
    sqlite3_bind_int64(stmt, 3, row->shard);
    sqlite3_bind_int64(stmt, 4, row->shards);
    bind_text(stmt, 5, db->rules);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        db->run_id = sqlite3_column_int64(stmt, 0);
        *is_full |= sqlite3_column_int(stmt, 1) != 0;
        snprintf(db->run_name, sizeof(db->run_name), "%s", (const char *)sqlite3_column_text(stmt, 2));
    }
    sqlite3_reset(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : fail_db(db, err);
}

int vd_auditdb_begin_run(struct vd_auditdb *db, const struct vd_run_row *row, bool *is_full, bool *resumed,
                         struct vd_err *err)
{
    db->rules = strdup(row->rules);
    *is_full = row->is_full;
    if (!db->rules)
        return vd_fail_memory(err);
    if (enter_batch(db, err) < 0 || (row->resumes && find_old_run(db, row, is_full, err) < 0))
        return -1;
    *resumed = db->run_id != 0;
    if ((*resumed ? simple(db, GO_ON, db->run_id, 0, err) : new_run(db, row, *is_full, err)) < 0)
        return -1;
    return leave_batch(db, err);
}

int64_t vd_auditdb_run(const struct vd_auditdb *db)
{
    return db->run_id;
}

const char *vd_auditdb_run_name(const struct vd_auditdb *db)
{
    return db->run_name;
}

static int set_sums(struct vd_auditdb *db, const char *state, const struct vd_run_sums *sums,
                    struct vd_err *err)
{
    static const char sql[] =
        "UPDATE run SET state = ?2, finished_at = ?3, seconds = seconds + ?4, found = ?5,"
        " checked = checked + ?6, unreadable = ?7 WHERE id = ?1";
    sqlite3_stmt *stmt = NULL;
    int rc;

    if (sqlite3_prepare_v2(db->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return fail_db(db, err);
    sqlite3_bind_int64(stmt, 1, db->run_id);
    bind_text(stmt, 2, state);
    sqlite3_bind_int64(stmt, 3, time(NULL));
    sqlite3_bind_double(stmt, 4, sums->seconds);
    sqlite3_bind_int64(stmt, 5, (int64_t)sums->found);
    sqlite3_bind_int64(stmt, 6, (int64_t)sums->checked);
    sqlite3_bind_int64(stmt, 7, (int64_t)sums->unreadable);
    rc = done(db, stmt, err);
    sqlite3_finalize(stmt);
    return rc;
}

/* One row over the images that this run saw. */
#define COUNT(status) "count(*) FILTER (WHERE status = '" status "')"
static const char count_sql[] =
    "UPDATE run SET (clean, repaired, leaking, dirty, damaged, unsupported, error, busy, leaked_bytes) ="
    " (SELECT " COUNT("clean") ", " COUNT("repaired") ", " COUNT("leaking") ", " COUNT("dirty") ", " COUNT(
        "damaged") ", " COUNT("unsupported") ", " COUNT("error") ", " COUNT("busy") ", "
                                                                                    "ifnull(sum(leaked_bytes)"
                                                                                    ", 0)"
                                                                                    " FROM image JOIN result "
                                                                                    "ON result.id = "
                                                                                    "result_id WHERE "
                                                                                    "last_run = run.id AND "
                                                                                    "NOT is_gone) WHERE id "
                                                                                    "= ";

static const char base_sql[] =
    "UPDATE chain SET base_id = (SELECT image.id FROM result JOIN image ON result_id = result.id"
    " WHERE result.dev = chain.dev AND result.ino = chain.ino AND NOT is_gone AND image.id <> chain.image_id"
    " ORDER BY last_run DESC LIMIT 1) WHERE state = 'found'";

int vd_auditdb_end_run(struct vd_auditdb *db, const char *state, const struct vd_run_sums *sums,
                       struct vd_err *err)
{
    char sql[sizeof(count_sql) + 32];

    snprintf(sql, sizeof(sql), "%s%" PRId64, count_sql, db->run_id);
    if (enter_batch(db, err) < 0 || set_sums(db, state, sums, err) < 0 || run_sql(db, sql, err) < 0 ||
        run_sql(db, base_sql, err) < 0)
        return -1;
    return leave_batch(db, err);
}

/* ---- what is kept */

static char *text_at(sqlite3_stmt *stmt, int column)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);

    return text ? strdup(text) : NULL;
}

static int keep(struct vd_auditdb *db, sqlite3_stmt *stmt, struct vd_err *err)
{
    struct vd_kept row = {
        .image_id = sqlite3_column_int64(stmt, 0),
        .path = text_at(stmt, 1),
        .id = {.dev = (uint64_t)sqlite3_column_int64(stmt, 2),
               .ino = (uint64_t)sqlite3_column_int64(stmt, 3),
               .size = (uint64_t)sqlite3_column_int64(stmt, 4),
               .mtime_ns = sqlite3_column_int64(stmt, 5),
               .ctime_ns = sqlite3_column_int64(stmt, 6),
               .head_xxh = (uint64_t)sqlite3_column_int64(stmt, 7),
               .is_settled = true},
        .rules = text_at(stmt, 8),
        .is_complete = sqlite3_column_int(stmt, 9) != 0,
        .run_id = sqlite3_column_int64(stmt, 10),
        .backing_name = text_at(stmt, 11),
        .backing_state = text_at(stmt, 12),
        .backing_path = text_at(stmt, 13),
        .is_gone = sqlite3_column_int(stmt, 14) != 0,
        .had_format = sqlite3_column_int(stmt, 15) != 0,
    };

    /* Pushed first, so that it is freed with the rest whatever is missing. */
    if (kept_vec_push(&db->kept, row) < 0 || !row.path)
        return vd_fail_memory(err);
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct vd_kept *)a)->path, ((const struct vd_kept *)b)->path);
}

int vd_auditdb_load(struct vd_auditdb *db, const char *host, const struct vd_kept **kept, size_t *n,
                    struct vd_err *err)
{
    sqlite3_stmt *stmt = ask(db, KEPT, err);
    int rc;

    if (!stmt)
        return -1;
    bind_text(stmt, 1, host);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        if (keep(db, stmt, err) < 0)
            break;
    sqlite3_reset(stmt);
    if (rc != SQLITE_DONE)
        return rc == SQLITE_ROW ? -1 : fail_db(db, err);
    if (db->kept.n)
        qsort(db->kept.v, db->kept.n, sizeof(*db->kept.v), by_path);
    *kept = db->kept.v;
    *n = db->kept.n;
    return 0;
}

const struct vd_kept *vd_auditdb_find(const struct vd_auditdb *db, const char *path)
{
    const struct vd_kept key = {.path = path};

    return db->kept.n ? bsearch(&key, db->kept.v, db->kept.n, sizeof(key), by_path) : NULL;
}

int vd_auditdb_unchanged(struct vd_auditdb *db, const struct vd_kept *kept, struct vd_err *err)
{
    return enter_batch(db, err) < 0 ? -1 : simple(db, SEEN, db->run_id, kept->image_id, err);
}

int vd_auditdb_gone(struct vd_auditdb *db, const struct vd_kept *kept, struct vd_err *err)
{
    return enter_batch(db, err) < 0 ? -1 : simple(db, GONE, db->run_id, kept->image_id, err);
}

/* ---- results */

static void bind_member(sqlite3_stmt *stmt, int column, json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    if (json_is_integer(value))
        sqlite3_bind_int64(stmt, column, json_integer_value(value));
    else if (json_is_real(value))
        sqlite3_bind_double(stmt, column, json_real_value(value));
    else
        bind_text(stmt, column, json_string_value(value));
}

/* What must be a number is one, whoever wrote the object. */
static void bind_number(sqlite3_stmt *stmt, int column, json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    sqlite3_bind_int64(stmt, column, json_is_integer(value) ? json_integer_value(value) : 0);
}

static void bind_identity(sqlite3_stmt *stmt, int column, const struct vd_identity *id)
{
    const int64_t values[] = {(int64_t)id->dev, (int64_t)id->ino,  id->mtime_ns,
                              id->ctime_ns,     (int64_t)id->size, (int64_t)id->head_xxh};

    for (size_t i = 0; i < VD_ARRAY_SIZE(values); i++)
        sqlite3_bind_int64(stmt, column + (int)i, values[i]);
}

static int put_result(struct vd_auditdb *db, int64_t image_id, const struct vd_candidate *image,
                      json_t *object, bool is_complete, struct vd_err *err)
{
    static const char *const plain[] = {"format", "virtual_size", "file_size", "cluster_size"};
    static const char *const counts[] = {"corruptions", "leaks", "states", "warnings", "errors"};
    static const char *const clusters[] = {"total", "allocated", "fragmented", "compressed", "zero"};
    json_t *repair = json_object_get(object, "repair");
    vd_auto_mem char *repair_text = json_is_object(repair) ? json_dumps(repair, JSON_COMPACT) : NULL;
    sqlite3_stmt *stmt = ask(db, NEW_RESULT, err);

    if (!stmt)
        return -1;
    sqlite3_bind_int64(stmt, 1, image_id);
    sqlite3_bind_int64(stmt, 2, db->run_id);
    sqlite3_bind_int64(stmt, 3, time(NULL));
    bind_text(stmt, 4, json_string_value(json_object_get(object, "status")));
    bind_text(stmt, 5, json_string_value(json_object_get(object, "error")));
    sqlite3_bind_int(stmt, 6, is_complete && image->id.is_settled);
    bind_text(stmt, 7, db->rules);
    bind_identity(stmt, 8, &image->id);
    for (size_t i = 0; i < VD_ARRAY_SIZE(plain); i++)
        bind_member(stmt, 14 + (int)i, object, plain[i]);
    for (size_t i = 0; i < VD_ARRAY_SIZE(counts); i++)
        bind_number(stmt, 18 + (int)i, json_object_get(object, "counts"), counts[i]);
    bind_number(stmt, 23, object, "leaked_bytes");
    for (size_t i = 0; i < VD_ARRAY_SIZE(clusters); i++)
        bind_member(stmt, 24 + (int)i, json_object_get(object, "clusters"), clusters[i]);
    bind_member(stmt, 29, object, "image_end_offset");
    bind_number(stmt, 30, json_object_get(object, "io"), "reads");
    bind_number(stmt, 31, json_object_get(object, "io"), "bytes_read");
    sqlite3_bind_double(stmt, 32, json_number_value(json_object_get(object, "seconds")));
    bind_text(stmt, 33, json_string_value(json_object_get(object, "strip")));
    bind_text(stmt, 34, repair_text);
    return done(db, stmt, err);
}

static int put_finding(struct vd_auditdb *db, int64_t result_id, json_t *finding, struct vd_err *err)
{
    static const char *const words[] = {"id", "severity", "level"};
    json_t *places = json_object_get(finding, "places"), *first = json_array_get(places, 0);
    vd_auto_mem char *text = json_dumps(places, JSON_COMPACT);
    sqlite3_stmt *stmt = ask(db, NEW_FINDING, err);

    if (!stmt)
        return -1;
    sqlite3_bind_int64(stmt, 1, result_id);
    for (size_t i = 0; i < VD_ARRAY_SIZE(words); i++) {
        const char *word = json_string_value(json_object_get(finding, words[i]));

        bind_text(stmt, 2 + (int)i, word ? word : "");
    }
    bind_number(stmt, 5, finding, "count");
    bind_member(stmt, 6, finding, "bytes");
    bind_member(stmt, 7, first, "host_offset");
    bind_member(stmt, 8, first, "guest_offset");
    bind_member(stmt, 9, finding, "note");
    bind_text(stmt, 10, text ? text : "[]");
    return done(db, stmt, err);
}

static int put_chain(struct vd_auditdb *db, int64_t image_id, json_t *backing, struct vd_err *err)
{
    const char *name = json_string_value(json_object_get(backing, "name"));
    const char *state = json_string_value(json_object_get(backing, "state"));
    sqlite3_stmt *stmt;

    /* An image that could not be looked at stands on what it stood on. */
    if (!backing)
        return 0;
    if (simple(db, DROP_CHAIN, image_id, 0, err) < 0)
        return -1;
    if (!name || !state)
        return 0;
    stmt = ask(db, NEW_CHAIN, err);
    if (!stmt)
        return -1;
    sqlite3_bind_int64(stmt, 1, image_id);
    bind_text(stmt, 2, name);
    bind_text(stmt, 3, state);
    bind_member(stmt, 4, backing, "path");
    bind_member(stmt, 5, backing, "dev");
    bind_member(stmt, 6, backing, "ino");
    return done(db, stmt, err);
}

static int new_image(struct vd_auditdb *db, const char *path, int64_t *id, struct vd_err *err)
{
    const struct vd_kept *kept = vd_auditdb_find(db, path);
    sqlite3_stmt *stmt = kept ? NULL : ask(db, NEW_IMAGE, err);

    if (kept) {
        *id = kept->image_id;
        return 0;
    }
    if (!stmt)
        return -1;
    sqlite3_bind_int64(stmt, 1, db->run_id);
    bind_text(stmt, 2, path);
    if (sqlite3_step(stmt) == SQLITE_ROW)
        *id = sqlite3_column_int64(stmt, 0);
    return done(db, stmt, err);
}

static int set_result(struct vd_auditdb *db, int64_t image_id, int64_t result_id, struct vd_err *err)
{
    sqlite3_stmt *stmt = ask(db, SET_RESULT, err);

    if (!stmt)
        return -1;
    sqlite3_bind_int64(stmt, 1, result_id);
    sqlite3_bind_int64(stmt, 2, db->run_id);
    sqlite3_bind_int64(stmt, 3, image_id);
    return done(db, stmt, err);
}

int vd_auditdb_put(struct vd_auditdb *db, const struct vd_candidate *image, json_t *object, bool is_complete,
                   struct vd_err *err)
{
    int64_t image_id = 0, result_id;
    json_t *findings = json_object_get(object, "findings"), *finding;

    if (enter_batch(db, err) < 0 || new_image(db, image->path, &image_id, err) < 0 ||
        simple(db, DROP_RESULT, db->run_id, image_id, err) < 0 ||
        put_result(db, image_id, image, object, is_complete, err) < 0)
        return -1;
    result_id = sqlite3_last_insert_rowid(db->db);
    for (size_t i = 0; (finding = json_array_get(findings, i)); i++)
        if (put_finding(db, result_id, finding, err) < 0)
            return -1;
    if (put_chain(db, image_id, json_object_get(object, "backing"), err) < 0 ||
        set_result(db, image_id, result_id, err) < 0)
        return -1;
    db->batch_n++;
    return 0;
}

/* ---- repairs */

/* Was a repair of this level, or of a higher one, made or refused? */
static bool covers(const char *repair, const char *level)
{
    json_t *object = repair ? json_loads(repair, 0, NULL) : NULL;
    const char *was = json_string_value(json_object_get(object, "level"));
    bool does = was && (strcmp(was, level) == 0 || strcmp(was, "safe") == 0);

    json_decref(object);
    return does;
}

static int add_mendable(sqlite3_stmt *stmt, const char *level, struct vd_mendable_vec *rows,
                        struct vd_err *err)
{
    const char *status = (const char *)sqlite3_column_text(stmt, 4);
    struct vd_mendable row = {
        .path = text_at(stmt, 0),
        .base = text_at(stmt, 1),
        .was_tried = sqlite3_column_int(stmt, 3) && covers((const char *)sqlite3_column_text(stmt, 2), level),
        .is_error = status && strcmp(status, "error") == 0,
        .is_of_this_run = sqlite3_column_int(stmt, 5) != 0,
        .is_repairable = sqlite3_column_int(stmt, 6) != 0,
        .is_unfinished = sqlite3_column_int(stmt, 7) != 0,
    };

    if (vd_mendable_vec_push(rows, row) < 0 || !row.path)
        return vd_fail_memory(err);
    return 0;
}

int vd_auditdb_mendable(struct vd_auditdb *db, const char *level, struct vd_mendable_vec *rows,
                        struct vd_err *err)
{
    sqlite3_stmt *stmt = ask(db, MENDABLE, err);
    int rc;

    if (!stmt)
        return -1;
    sqlite3_bind_int64(stmt, 1, db->run_id);
    bind_text(stmt, 2, level);
    bind_text(stmt, 3, vd_image_findings[VD_IMAGE_REPAIR_UNFINISHED - VD_IMAGE_FINDINGS].id);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        if (add_mendable(stmt, level, rows, err) < 0)
            break;
    sqlite3_reset(stmt);
    if (rc != SQLITE_DONE)
        return rc == SQLITE_ROW ? -1 : fail_db(db, err);
    return 0;
}

void vd_mendable_free(struct vd_mendable_vec *rows)
{
    for (size_t i = 0; i < rows->n; i++) {
        free(rows->v[i].path);
        free(rows->v[i].base);
    }
    vd_mendable_vec_done(rows);
}

/* ---- the past */

int vd_auditdb_forget(struct vd_auditdb *db, unsigned days, struct vd_err *err)
{
    static const char sql[] =
        "DELETE FROM image WHERE (SELECT started_at FROM run WHERE run.id = last_run) < %" PRId64 ";"
        "DELETE FROM result WHERE checked_at < %" PRId64
        " AND id NOT IN (SELECT result_id FROM image WHERE result_id IS NOT NULL);"
        "DELETE FROM run WHERE started_at < %" PRId64 " AND id <> %" PRId64
        " AND id NOT IN (SELECT run_id FROM result) AND id NOT IN (SELECT last_run FROM image)"
        " AND id NOT IN (SELECT first_run FROM image)";
    int64_t before = (int64_t)time(NULL) - (int64_t)days * 86400;
    char text[sizeof(sql) + 100];

    snprintf(text, sizeof(text), sql, before, before, before, db->run_id);
    if (enter_batch(db, err) < 0 || run_sql(db, text, err) < 0 || leave_batch(db, err) < 0)
        return -1;
    return run_sql(db, "PRAGMA incremental_vacuum", err);
}
