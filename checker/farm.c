/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/farm.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "checker/auditdb.h"
#include "checker/database.h"
#include "formats/base/auto.h"

/* Equal where two results say the same. */
#define SIGNATURE_SQL                                                                                        \
    "status || ifnull((SELECT group_concat(finding || ':' || count) FROM (SELECT finding, count FROM "       \
    "finding"                                                                                                \
    " WHERE result_id = result.id ORDER BY finding, severity, level)), '')"

/* Of a file that no audit has written since, a column may be missing: NULL stands for it. */
static const char images_sql[] =
    "SELECT image.host, image.path, f.name, l.name, is_gone, r.name, checked_at, status, " SIGNATURE_SQL
    ", reason,"
    " format, result.seconds, chain.name, chain.state, chain.path, result.id, result.image_id,"
    " virtual_size, file_size, cluster_size, corruptions, leaks, states, warnings, errors, "
    "result.leaked_bytes,"
    " clusters_total, clusters_allocated, clusters_fragmented, clusters_compressed, clusters_zero,"
    " image_end_offset, reads, bytes_read, %s"
    " FROM image JOIN run f ON f.id = first_run JOIN run l ON l.id = last_run"
    " JOIN result ON result.id = result_id"
    " JOIN (SELECT id, name FROM run) r ON r.id = run_id LEFT JOIN chain ON chain.image_id = image.id";

enum {
    HOST,
    PATH,
    FIRST_RUN,
    LAST_RUN,
    IS_GONE,
    RUN,
    CHECKED_AT,
    STATUS,
    SIGNATURE,
    REASON,
    FORMAT,
    SECONDS,
    CHAIN_NAME,
    CHAIN_STATE,
    CHAIN_PATH,
    RESULT_ID,
    IMAGE_ID,
    NUMBERS,
    STRIP = NUMBERS + VD_FARM_NUMBERS,
    REPAIR
};

static const char before_sql[] =
    "SELECT name, checked_at, status, " SIGNATURE_SQL " FROM result JOIN run ON run.id = run_id"
    " WHERE image_id = ?1 AND result.id < ?2 ORDER BY result.id DESC LIMIT 1";

static const char findings_sql[] = "SELECT finding, severity, level, note, places, count, bytes FROM finding"
                                   " WHERE result_id = ?1 ORDER BY rowid";

static const char runs_sql[] =
    "SELECT name, host, farm, state, shard, shards, started_at, finished_at, seconds, found, checked, "
    "unreadable,"
    " leaked_bytes, clean, repaired, leaking, dirty, damaged, unsupported, error, busy,"
    " name = (SELECT max(name) FROM run) FROM run";

struct reader {
    sqlite3 *db;
    const char *path;
    struct vd_farm *farm;
    sqlite3_stmt *before, *findings;
    int64_t version;   /* of the schema */
    bool lacks_memory; /* for a text of a row */
};

static int fail_db(const struct reader *r, struct vd_err *err)
{
    return vd_db_fail(r->db, r->path, err);
}

/* ---- rows */

/* The text of a column, "" for what must not be NULL. NULL where memory is short, which is remembered. */
static char *word_at(struct reader *r, sqlite3_stmt *stmt, int column)
{
    bool is_null = sqlite3_column_type(stmt, column) == SQLITE_NULL;
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    char *word = text || is_null ? strdup(text ? text : "") : NULL;

    r->lacks_memory |= !word;
    return word;
}

static char *text_at(struct reader *r, sqlite3_stmt *stmt, int column)
{
    return sqlite3_column_type(stmt, column) == SQLITE_NULL ? NULL : word_at(r, stmt, column);
}

static int64_t number_at(sqlite3_stmt *stmt, int column)
{
    return sqlite3_column_type(stmt, column) == SQLITE_INTEGER ? sqlite3_column_int64(stmt, column) : -1;
}

/* Whatever a database says, it is a time that something can take. */
static double seconds_at(sqlite3_stmt *stmt, int column)
{
    double seconds = sqlite3_column_double(stmt, column);

    return seconds > 0 ? seconds < 1e15 ? seconds : 1e15 : 0;
}

static void free_finding(struct vd_farm_finding *finding)
{
    free(finding->id);
    free(finding->severity);
    free(finding->level);
    free(finding->note);
    free(finding->places);
}

static void free_result(struct vd_farm_result *result)
{
    for (size_t i = 0; i < result->findings.n; i++)
        free_finding(&result->findings.v[i]);
    vd_farm_finding_vec_done(&result->findings);
    free(result->run);
    free(result->status);
    free(result->signature);
    free(result->reason);
    free(result->format);
    free(result->strip);
    free(result->repair);
    *result = (struct vd_farm_result){0};
}

static void free_image(struct vd_farm_image *image)
{
    free_result(&image->newest);
    free_result(&image->before);
    free(image->host);
    free(image->path);
    free(image->first_run);
    free(image->last_run);
    free(image->backing_name);
    free(image->backing_state);
    free(image->backing_path);
}

static void free_run(struct vd_farm_run *run)
{
    free(run->name);
    free(run->host);
    free(run->farm);
    free(run->state);
}

static int add_finding(struct reader *r, struct vd_farm_result *result, struct vd_err *err)
{
    struct vd_farm_finding finding = {
        .id = word_at(r, r->findings, 0),
        .severity = word_at(r, r->findings, 1),
        .level = word_at(r, r->findings, 2),
        .note = text_at(r, r->findings, 3),
        .places = word_at(r, r->findings, 4),
        .count = number_at(r->findings, 5),
        .bytes = number_at(r->findings, 6),
    };

    if (!r->lacks_memory && vd_farm_finding_vec_push(&result->findings, finding) == 0)
        return 0;
    free_finding(&finding);
    return vd_fail_memory(err);
}

static int read_findings(struct reader *r, int64_t result_id, struct vd_farm_result *result,
                         struct vd_err *err)
{
    bool was_read = true;
    int rc = SQLITE_OK;

    sqlite3_bind_int64(r->findings, 1, result_id);
    while (was_read && (rc = sqlite3_step(r->findings)) == SQLITE_ROW)
        was_read = add_finding(r, result, err) == 0;
    if (was_read && rc != SQLITE_DONE)
        fail_db(r, err);
    sqlite3_reset(r->findings);
    return was_read && rc == SQLITE_DONE ? 0 : -1;
}

static int read_before(struct reader *r, int64_t image_id, int64_t result_id, struct vd_farm_result *before,
                       struct vd_err *err)
{
    int rc;

    sqlite3_bind_int64(r->before, 1, image_id);
    sqlite3_bind_int64(r->before, 2, result_id);
    rc = sqlite3_step(r->before);
    if (rc == SQLITE_ROW) {
        before->run = word_at(r, r->before, 0);
        before->checked_at = number_at(r->before, 1);
        before->status = word_at(r, r->before, 2);
        before->signature = word_at(r, r->before, 3);
    }
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        rc = fail_db(r, err);
    else
        rc = r->lacks_memory ? vd_fail_memory(err) : 0;
    sqlite3_reset(r->before);
    return rc;
}

int vd_farm_json(const char *text, json_t **value, struct vd_err *err)
{
    json_error_t why;

    *value = text ? json_loads(text, 0, &why) : NULL;
    /* Where memory is short, jansson often says nothing at all. */
    if (text && !*value && (!why.text[0] || json_error_code(&why) == json_error_out_of_memory))
        return vd_fail_memory(err);
    return 0;
}

/* What a report asks of every image; the rest is read where it is told. */
static int read_repair(struct vd_farm_result *result, struct vd_err *err)
{
    json_t *repair;

    if (vd_farm_json(result->repair, &repair, err) < 0)
        return -1;
    result->has_undo_file = json_is_string(json_object_get(repair, "undo_file"));
    result->is_refused = json_is_string(json_object_get(repair, "refused"));
    json_decref(repair);
    return 0;
}

static int read_image(struct reader *r, sqlite3_stmt *stmt, struct vd_err *err)
{
    int64_t result_id = sqlite3_column_int64(stmt, RESULT_ID);
    struct vd_farm_image image = {
        .host = word_at(r, stmt, HOST),
        .path = word_at(r, stmt, PATH),
        .first_run = word_at(r, stmt, FIRST_RUN),
        .last_run = word_at(r, stmt, LAST_RUN),
        .is_gone = sqlite3_column_int(stmt, IS_GONE) != 0,
        .newest = {.run = word_at(r, stmt, RUN),
                   .checked_at = number_at(stmt, CHECKED_AT),
                   .status = word_at(r, stmt, STATUS),
                   .signature = word_at(r, stmt, SIGNATURE),
                   .reason = text_at(r, stmt, REASON),
                   .format = text_at(r, stmt, FORMAT),
                   .strip = text_at(r, stmt, STRIP),
                   .repair = text_at(r, stmt, REPAIR),
                   .seconds = seconds_at(stmt, SECONDS)},
        .backing_name = text_at(r, stmt, CHAIN_NAME),
        .backing_state = text_at(r, stmt, CHAIN_STATE),
        .backing_path = text_at(r, stmt, CHAIN_PATH),
    };

    for (int i = 0; i < VD_FARM_NUMBERS; i++)
        image.newest.numbers[i] = number_at(stmt, NUMBERS + i);
    if ((r->lacks_memory && vd_fail_memory(err) < 0) || read_repair(&image.newest, err) < 0 ||
        read_findings(r, result_id, &image.newest, err) < 0 ||
        read_before(r, sqlite3_column_int64(stmt, IMAGE_ID), result_id, &image.before, err) < 0 ||
        (vd_farm_image_vec_push(&r->farm->images, image) < 0 && vd_fail_memory(err) < 0)) {
        free_image(&image);
        return -1;
    }
    return 0;
}

static int read_run(struct reader *r, sqlite3_stmt *stmt, struct vd_err *err)
{
    struct vd_farm_run run = {
        .name = word_at(r, stmt, 0),
        .host = word_at(r, stmt, 1),
        .farm = word_at(r, stmt, 2),
        .state = word_at(r, stmt, 3),
        .shard = (unsigned)sqlite3_column_int(stmt, 4),
        .shards = (unsigned)sqlite3_column_int(stmt, 5),
        .started_at = number_at(stmt, 6),
        .finished_at = sqlite3_column_int64(stmt, 7),
        .seconds = seconds_at(stmt, 8),
        .found = number_at(stmt, 9),
        .checked = number_at(stmt, 10),
        .unreadable = number_at(stmt, 11),
        .leaked_bytes = number_at(stmt, 12),
        .is_newest_of_file = sqlite3_column_int(stmt, 21) != 0,
    };

    for (int i = 0; i < 8; i++)
        run.by_status[i] = number_at(stmt, 13 + i);
    if (r->lacks_memory || vd_farm_run_vec_push(&r->farm->runs, run) < 0) {
        free_run(&run);
        return vd_fail_memory(err);
    }
    return 0;
}

static int each_row(struct reader *r, const char *sql,
                    int (*read)(struct reader *r, sqlite3_stmt *stmt, struct vd_err *err), struct vd_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(r->db, sql, -1, &stmt, NULL);
    bool was_read = true;

    while (was_read && (rc == SQLITE_OK || rc == SQLITE_ROW) && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
        was_read = read(r, stmt, err) == 0;
    if (was_read && rc != SQLITE_DONE)
        fail_db(r, err);
    sqlite3_finalize(stmt);
    return was_read && rc == SQLITE_DONE ? 0 : -1;
}

/* ---- one database */

static int refuse_other_files(struct reader *r, struct vd_err *err)
{
    int64_t mark;

    if (vd_db_number(r->db, r->path, "PRAGMA user_version", &r->version, err) < 0 ||
        vd_db_number(r->db, r->path, "PRAGMA application_id", &mark, err) < 0)
        return -1;
    if (mark != VD_AUDITDB_MARK || r->version < 1)
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: a database, but not one of audits", r->path);
    if (r->version > VD_AUDITDB_SCHEMA)
        return vd_fail(err, VD_ERR_UNSUPPORTED, 0, "%s: made by a newer vdcheck", r->path);
    return 0;
}

/* A report writes nothing, so an older database is read as it is. */
static int read_images(struct reader *r, struct vd_err *err)
{
    char sql[sizeof(images_sql) + 100];

    snprintf(sql, sizeof(sql), images_sql, r->version >= 2 ? "strip, repair" : "NULL, NULL");
    return each_row(r, sql, read_image, err);
}

static int read_all(struct reader *r, struct vd_err *err)
{
    /* One state of the file, whatever an audit writes meanwhile. */
    if (sqlite3_exec(r->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        return fail_db(r, err);
    if (refuse_other_files(r, err) < 0)
        return -1;
    if (sqlite3_prepare_v2(r->db, before_sql, -1, &r->before, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(r->db, findings_sql, -1, &r->findings, NULL) != SQLITE_OK)
        return fail_db(r, err);
    return each_row(r, runs_sql, read_run, err) < 0 ? -1 : read_images(r, err);
}

/* What a reader that fails half-way has added goes again. */
static void drop_behind(struct vd_farm *farm, size_t images_n, size_t runs_n)
{
    while (farm->images.n > images_n)
        free_image(&farm->images.v[--farm->images.n]);
    while (farm->runs.n > runs_n)
        free_run(&farm->runs.v[--farm->runs.n]);
}

/* 1: a transaction was cut off here, and whoever reads must take it back first, which is a write. */
static int add_with(struct vd_farm *farm, const char *path, int flags, struct vd_err *err)
{
    struct reader r = {.path = path, .farm = farm, .db = vd_db_open(path, flags, 10000, err)};
    size_t images_n = farm->images.n, runs_n = farm->runs.n;
    int rc = r.db ? read_all(&r, err) : -1;

    /* To a script, busy is an image. */
    if (rc < 0 && err->kind == VD_ERR_BUSY)
        err->kind = VD_ERR_IO;
    if (rc < 0 && r.db && sqlite3_extended_errcode(r.db) == SQLITE_READONLY_ROLLBACK)
        rc = 1;
    if (rc)
        drop_behind(farm, images_n, runs_n);
    sqlite3_finalize(r.before);
    sqlite3_finalize(r.findings);
    sqlite3_close(r.db);
    return rc;
}

int vd_farm_add(struct vd_farm *farm, const char *path, struct vd_err *err)
{
    int rc = add_with(farm, path, SQLITE_OPEN_READONLY, err);

    if (rc != 1)
        return rc;
    *err = (struct vd_err)VD_ERR_INIT;
    return add_with(farm, path, SQLITE_OPEN_READWRITE, err);
}

/* ---- merging */

static int compare(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

/* Of two results of an image: the newer one first. */
static int by_age(const struct vd_farm_result *a, const struct vd_farm_result *b)
{
    int order;

    if (!a->run || !b->run)
        return a->run ? -1 : b->run ? 1 : 0;
    order = compare(b->checked_at, a->checked_at);
    return order ? order : strcmp(b->run, a->run);
}

static int by_place(const void *pa, const void *pb)
{
    const struct vd_farm_image *a = pa, *b = pb;
    int order = strcmp(a->host, b->host);

    if (!order)
        order = strcmp(a->path, b->path);
    if (!order)
        order = strcmp(b->last_run, a->last_run);
    return order ? order : by_age(&a->newest, &b->newest);
}

static int by_name(const void *pa, const void *pb)
{
    const struct vd_farm_run *a = pa, *b = pb;
    int order = strcmp(a->name, b->name);

    /* A copy of the file that was made earlier knows less of the same run. */
    return order ? order : compare(b->finished_at, a->finished_at);
}

static void swap_results(struct vd_farm_result *a, struct vd_farm_result *b)
{
    struct vd_farm_result t = *a;

    *a = *b;
    *b = t;
}

/* Of a and b, which know the same image, a knows all afterwards; b, which is older, is spent. */
static void join(struct vd_farm_image *a, struct vd_farm_image *b)
{
    struct vd_farm_result *others[] = {&b->newest, &b->before};

    if (strcmp(b->first_run, a->first_run) < 0) {
        char *t = a->first_run;

        a->first_run = b->first_run;
        b->first_run = t;
    }
    /* A result that was only told in short is never the newest of all: its own file has a newer one. */
    for (size_t i = 0; i < VD_ARRAY_SIZE(others); i++) {
        if (by_age(others[i], &a->newest) < 0) {
            swap_results(others[i], &a->newest);
            swap_results(others[i], &a->before);
        } else if (by_age(others[i], &a->newest) > 0 && by_age(others[i], &a->before) < 0)
            swap_results(others[i], &a->before);
    }
    free_image(b);
}

static void merge_images(struct vd_farm_image_vec *images)
{
    size_t kept = 0;

    if (images->n)
        qsort(images->v, images->n, sizeof(*images->v), by_place);
    for (size_t i = 0; i < images->n; i++) {
        struct vd_farm_image *last = kept ? &images->v[kept - 1] : NULL, *image = &images->v[i];

        if (last && strcmp(last->host, image->host) == 0 && strcmp(last->path, image->path) == 0)
            join(last, image);
        else
            images->v[kept++] = *image;
    }
    images->n = kept;
}

static void merge_runs(struct vd_farm_run_vec *runs)
{
    size_t kept = 0;

    if (runs->n)
        qsort(runs->v, runs->n, sizeof(*runs->v), by_name);
    for (size_t i = 0; i < runs->n; i++) {
        struct vd_farm_run *last = kept ? &runs->v[kept - 1] : NULL, *run = &runs->v[i];

        if (last && strcmp(last->name, run->name) == 0) {
            last->is_newest_of_file |= run->is_newest_of_file;
            free_run(run);
        } else
            runs->v[kept++] = *run;
    }
    runs->n = kept;
}

/* ---- what follows from all */

static const struct vd_farm_run *run_of(const struct vd_farm *farm, const char *name)
{
    const struct vd_farm_run key = {.name = (char *)name, .finished_at = INT64_MIN};
    size_t low = 0, high = farm->runs.n;

    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = strcmp(key.name, farm->runs.v[mid].name);

        if (order == 0)
            return &farm->runs.v[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

static bool covers_the_same(const struct vd_farm_run *a, const struct vd_farm_run *b)
{
    return strcmp(a->host, b->host) == 0 && strcmp(a->farm, b->farm) == 0 && a->shard == b->shard &&
           a->shards == b->shards;
}

static bool is_last(const struct vd_farm *farm, const struct vd_farm_run *run)
{
    for (const struct vd_farm_run *r = run + 1; r < farm->runs.v + farm->runs.n; r++)
        if (covers_the_same(r, run))
            return false;
    return true;
}

/* The run that people were told of before: one that was cut off has told nobody. */
static const struct vd_farm_run *run_before(const struct vd_farm *farm, const struct vd_farm_run *run)
{
    for (const struct vd_farm_run *r = run; r-- > farm->runs.v;)
        if (covers_the_same(r, run) && strcmp(r->state, "complete") == 0)
            return r;
    return NULL;
}

/* What came to light since then, where the last run still saw it. Names of runs are in the order of time. */
static void find_news(struct vd_farm *farm)
{
    const struct vd_farm_run *run = NULL, *before = NULL;

    for (size_t i = 0; i < farm->images.n; i++) {
        struct vd_farm_image *image = &farm->images.v[i];

        /* Neighbours mostly have the same last run. */
        if (!run || strcmp(run->name, image->last_run) != 0) {
            run = run_of(farm, image->last_run);
            before = run && is_last(farm, run) ? run_before(farm, run) : NULL;
        }
        image->is_new = before && strcmp(image->first_run, before->name) > 0;
        image->is_changed = before && !image->is_new && image->before.run &&
                            strcmp(image->newest.run, before->name) > 0 &&
                            strcmp(image->newest.signature, image->before.signature) != 0;
    }
}

static void count_overlays(struct vd_farm *farm)
{
    for (size_t i = 0; i < farm->images.n; i++) {
        const struct vd_farm_image *top = &farm->images.v[i];
        size_t low = 0, high = farm->images.n;

        while (top->backing_path && low < high) {
            struct vd_farm_image *at = &farm->images.v[(low + high) / 2];
            int order = strcmp(top->host, at->host);

            if (!order)
                order = strcmp(top->backing_path, at->path);
            if (!order) {
                at->overlays++;
                break;
            }
            if (order < 0)
                high = (low + high) / 2;
            else
                low = (low + high) / 2 + 1;
        }
    }
}

static int note(struct vd_farm *farm, struct vd_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int note(struct vd_farm *farm, struct vd_err *err, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return vd_fail_memory(err);
    if (vd_text_vec_push(&farm->notes, text) == 0)
        return 0;
    free(text);
    return vd_fail_memory(err);
}

static bool is_of_division(const struct vd_farm_run *run, const struct vd_farm_run *whole)
{
    return run->is_newest_of_file && run->shards == whole->shards && strcmp(run->farm, whole->farm) == 0;
}

static bool has_shard(const struct vd_farm *farm, const struct vd_farm_run *whole, unsigned shard)
{
    for (size_t i = 0; i < farm->runs.n; i++)
        if (is_of_division(&farm->runs.v[i], whole) && farm->runs.v[i].shard == shard)
            return true;
    return false;
}

/* Where the newest run is one shard of several, all the others must be there, and nothing else. */
static int judge_shards(struct vd_farm *farm, struct vd_err *err)
{
    const struct vd_farm_run *whole = vd_farm_last_run(farm);

    if (!whole || whole->shards < 2)
        return 0;
    for (unsigned shard = 1; shard <= whole->shards; shard++)
        if (!has_shard(farm, whole, shard) &&
            note(farm, err, "shard %u of %u is missing", shard, whole->shards) < 0)
            return -1;
    for (size_t i = 0; i < farm->runs.n; i++) {
        const struct vd_farm_run *run = &farm->runs.v[i];

        if (run->is_newest_of_file && !is_of_division(run, whole) &&
            note(farm, err, "run %s of %s (shard %u of %u) is of another audit", run->name, run->host,
                 run->shard, run->shards) < 0)
            return -1;
    }
    farm->is_torn = farm->notes.n != 0;
    return 0;
}

static int judge_ends(struct vd_farm *farm, struct vd_err *err)
{
    for (size_t i = 0; i < farm->runs.n; i++) {
        const struct vd_farm_run *run = &farm->runs.v[i];

        if (run->is_newest_of_file && strcmp(run->state, "complete") != 0 &&
            note(farm, err, "run %s of %s %s", run->name, run->host,
                 strcmp(run->state, "cancelled") == 0 ? "was cut off" : "has not finished") < 0)
            return -1;
    }
    return 0;
}

static bool is_there(void *opaque, const struct vd_farm_image *image)
{
    (void)opaque;
    return !image->is_gone;
}

int vd_farm_settle(struct vd_farm *farm, struct vd_err *err)
{
    merge_images(&farm->images);
    merge_runs(&farm->runs);
    vd_farm_filter(farm, is_there, NULL);
    find_news(farm);
    count_overlays(farm);
    return judge_shards(farm, err) < 0 ? -1 : judge_ends(farm, err);
}

const struct vd_farm_run *vd_farm_last_run(const struct vd_farm *farm)
{
    return farm->runs.n ? &farm->runs.v[farm->runs.n - 1] : NULL;
}

void vd_farm_filter(struct vd_farm *farm, bool (*keep)(void *opaque, const struct vd_farm_image *image),
                    void *opaque)
{
    size_t kept = 0;

    for (size_t i = 0; i < farm->images.n; i++) {
        if (keep(opaque, &farm->images.v[i]))
            farm->images.v[kept++] = farm->images.v[i];
        else
            free_image(&farm->images.v[i]);
    }
    farm->images.n = kept;
}

void vd_farm_free(struct vd_farm *farm)
{
    for (size_t i = 0; i < farm->images.n; i++)
        free_image(&farm->images.v[i]);
    for (size_t i = 0; i < farm->runs.n; i++)
        free_run(&farm->runs.v[i]);
    for (size_t i = 0; i < farm->notes.n; i++)
        free(farm->notes.v[i]);
    vd_farm_image_vec_done(&farm->images);
    vd_farm_run_vec_done(&farm->runs);
    vd_text_vec_done(&farm->notes);
}
