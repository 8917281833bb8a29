/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The database of audits, and what several of them are together.
 */
#include "checker/auditdb.h"

#include <sqlite3.h>
#include <sys/wait.h>

#include "checker/farm.h"
#include "tests/unit/unit.h"

static const struct vd_run_row plain_run = {.host = "h", .farm = "f", .rules = "r1", .shard = 1, .shards = 1};

static struct vd_auditdb *open_db(const char *path)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_auditdb *db = vd_auditdb_open(path, &err);

    must_have(db, &err);
    return db;
}

/* Opens, begins a run, loads. */
static struct vd_auditdb *begin(const char *path, const struct vd_run_row *row, bool *resumed)
{
    struct vd_auditdb *db = open_db(path);
    struct vd_err err = VD_ERR_INIT;
    const struct vd_kept *kept;
    bool is_full, was_resumed;
    size_t n;

    must(vd_auditdb_begin_run(db, row, &is_full, resumed ? resumed : &was_resumed, &err), &err);
    must(vd_auditdb_load(db, row->host, &kept, &n, &err), &err);
    return db;
}

static void end(struct vd_auditdb *db, const char *state)
{
    const struct vd_run_sums sums = {.found = 1, .checked = 1};
    struct vd_err err = VD_ERR_INIT;

    must(vd_auditdb_end_run(db, state, &sums, &err), &err);
    vd_auditdb_close(db);
}

static struct vd_candidate image_at(const char *path, uint64_t ino)
{
    return (struct vd_candidate){
        .path = (char *)path, .id = {.dev = 1, .ino = ino, .size = 10, .is_settled = true}
    };
}

static json_t *result(const char *status, const char *finding)
{
    json_t *o = json_pack("{s:s, s:s, s:i, s:{s:i}, s:[]}", "status", status, "format", "qed", "virtual_size",
                          4096, "counts", "corruptions", finding ? 2 : 0, "findings");

    if (finding)
        json_array_append_new(json_object_get(o, "findings"),
                              json_pack("{s:s, s:s, s:s, s:i, s:[{s:i}]}", "id", finding, "severity",
                                        "corruption", "level", "safe", "count", 2, "places", "host_offset",
                                        77));
    return o;
}

static void put(struct vd_auditdb *db, const char *path, uint64_t ino, json_t *object)
{
    struct vd_candidate image = image_at(path, ino);
    struct vd_err err = VD_ERR_INIT;

    must(vd_auditdb_put(db, &image, object, true, &err), &err);
    json_decref(object);
}

/* A run that finds one image. */
static void run_once(const char *path, const char *image, const char *status, const char *finding)
{
    struct vd_auditdb *db = begin(path, &plain_run, NULL);

    put(db, image, 1, result(status, finding));
    end(db, "complete");
}

static int64_t number(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    int64_t value;

    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
    value = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

START_TEST(what_was_kept_is_there_in_the_next_run)
{
    struct vd_auditdb *db;
    const struct vd_kept *kept;

    run_once("db", "/a", "damaged", "x.y");
    db = begin("db", &plain_run, NULL);
    kept = vd_auditdb_find(db, "/a");
    ck_assert_ptr_nonnull(kept);
    ck_assert_uint_eq(kept->id.ino, 1);
    ck_assert_str_eq(kept->rules, "r1");
    ck_assert(kept->is_complete);
    ck_assert_ptr_null(vd_auditdb_find(db, "/b"));
    end(db, "complete");
    ck_assert_int_eq(number("db", "SELECT count(*) FROM result"), 1);
    ck_assert_int_eq(number("db", "SELECT host_offset FROM finding"), 77);
    ck_assert_int_eq(number("db", "SELECT damaged FROM run WHERE id = 1"), 1);
}
END_TEST

START_TEST(a_run_has_one_result_of_an_image_the_last)
{
    struct vd_auditdb *db = begin("db", &plain_run, NULL);
    json_t *repaired = result("repaired", NULL);

    put(db, "/a", 1, result("damaged", "x.y"));
    json_object_set_new(repaired, "repair", json_pack("{s:s}", "level", "safe"));
    put(db, "/a", 1, repaired);
    end(db, "complete");
    ck_assert_int_eq(number("db", "SELECT count(*) FROM image"), 1);
    ck_assert_int_eq(number("db", "SELECT count(*) FROM result WHERE status = 'repaired'"), 1);
    ck_assert_int_eq(number("db", "SELECT count(*) FROM result"), 1);
    ck_assert_int_eq(number("db", "SELECT count(*) FROM finding"), 0);
    ck_assert_int_eq(number("db", "SELECT repaired FROM run"), 1);
}
END_TEST

static void put_row(struct vd_auditdb *db, const char *path, const char *status, const char *level,
                    const char *severity, const char *tried)
{
    json_t *o = result(status, "x.y"), *finding = json_array_get(json_object_get(o, "findings"), 0);

    json_object_set_new(finding, "level", json_string(level));
    json_object_set_new(finding, "severity", json_string(severity));
    if (tried)
        json_object_set_new(o, "repair", json_pack("{s:s}", "level", tried));
    put(db, path, 1, o);
}

START_TEST(what_a_repair_would_do_away_with_is_known)
{
    static const struct {
        const char *path, *level, *severity, *tried;
        bool is_repairable[2], was_tried[2]; /* by leaks, by safe */
    } rows[] = {
        {"/all",     "all",   "corruption", NULL,    {false, false}, {false, false}},
        {"/leaks",   "leaks", "leak",       NULL,    {true, true},   {false, false}},
        {"/safe",    "safe",  "corruption", NULL,    {false, true},  {false, false}},
        {"/tried",   "safe",  "corruption", "safe",  {false, true},  {true, true}  },
        {"/tried2",  "leaks", "leak",       "leaks", {true, true},   {true, false} },
        {"/warning", "safe",  "warning",    NULL,    {false, false}, {false, false}},
    };
    struct vd_auditdb *db = begin("db", &plain_run, NULL);
    struct vd_err err = VD_ERR_INIT;

    for (size_t i = 0; i < VD_ARRAY_SIZE(rows); i++)
        put_row(db, rows[i].path, "damaged", rows[i].level, rows[i].severity, rows[i].tried);
    for (size_t level = 0; level < 2; level++) {
        struct vd_mendable_vec found = {0};

        must(vd_auditdb_mendable(db, level ? "safe" : "leaks", &found, &err), &err);
        ck_assert_uint_eq(found.n, VD_ARRAY_SIZE(rows));
        for (size_t i = 0; i < found.n; i++) {
            ck_assert_str_eq(found.v[i].path, rows[i].path);
            ck_assert_msg(found.v[i].is_repairable == rows[i].is_repairable[level], "%s", rows[i].path);
            ck_assert_msg(found.v[i].was_tried == rows[i].was_tried[level], "%s", rows[i].path);
        }
        vd_mendable_free(&found);
    }
    end(db, "complete");
}
END_TEST

START_TEST(names_of_any_bytes_come_back_as_they_were)
{
    static const char name[] = "/new\nline'; DROP TABLE image; --\xff\xfe";
    struct vd_farm farm = {0};
    struct vd_err err = VD_ERR_INIT;

    run_once("db", name, "clean", NULL);
    must(vd_farm_add(&farm, "db", &err), &err);
    must(vd_farm_settle(&farm, &err), &err);
    ck_assert_uint_eq(farm.images.n, 1);
    ck_assert_str_eq(farm.images.v[0].path, name);
    vd_farm_free(&farm);
}
END_TEST

START_TEST(a_second_audit_is_told_that_there_is_one)
{
    struct vd_auditdb *db = open_db("db");
    struct vd_err err = VD_ERR_INIT;

    must_be_null(vd_auditdb_open("db", &err), &err, VD_ERR_BUSY);
    ck_assert_ptr_nonnull(strstr(err.story, "another audit"));
    vd_auditdb_close(db);
    vd_auditdb_close(open_db("db"));
}
END_TEST

START_TEST(a_database_of_something_else_or_of_a_newer_version_is_refused)
{
    struct vd_err err = VD_ERR_INIT;
    sqlite3 *db = NULL;

    vd_unit_write_file("text", "this is no database, and long enough to be seen as none", 55);
    must_be_null(vd_auditdb_open("text", &err), &err, VD_ERR_FORMAT);
    ck_assert_int_eq(sqlite3_open("other", &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "PRAGMA journal_mode=WAL; CREATE TABLE t(x)", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    must_be_null(vd_auditdb_open("other", &err), &err, VD_ERR_FORMAT);
    vd_auditdb_close(open_db("newer"));
    ck_assert_int_eq(sqlite3_open("newer", &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "PRAGMA user_version=99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    must_be_null(vd_auditdb_open("newer", &err), &err, VD_ERR_UNSUPPORTED);
    ck_assert_int_eq(number("other", "SELECT count(*) FROM sqlite_schema"), 1);
    ck_assert_int_eq(number("other", "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
}
END_TEST

/* As vdcheck made it before results had a strip. */
static void make_version_1(const char *path)
{
    run_once(path, "/a", "damaged", "x.y");
    (void)number(path, "ALTER TABLE result DROP COLUMN repair");
    (void)number(path, "ALTER TABLE result DROP COLUMN strip");
    (void)number(path, "UPDATE meta SET value = '1' WHERE key = 'schema'");
    (void)number(path, "PRAGMA user_version=1");
}

/* "host:path status strip; " of each image. */
static void strips_of(const char *path, char text[200])
{
    struct vd_farm farm = {0};
    struct vd_err err = VD_ERR_INIT;
    size_t at = 0;

    must(vd_farm_add(&farm, path, &err), &err);
    must(vd_farm_settle(&farm, &err), &err);
    for (size_t i = 0; i < farm.images.n; i++)
        at += (size_t)snprintf(text + at, 200 - at, "%s %s %s; ", farm.images.v[i].path,
                               farm.images.v[i].newest.status,
                               farm.images.v[i].newest.strip ? farm.images.v[i].newest.strip : "none");
    vd_farm_free(&farm);
}

START_TEST(an_older_database_is_read_as_it_is_and_migrated_by_the_next_audit)
{
    struct vd_auditdb *db;
    json_t *with_strip = result("clean", NULL);
    char text[200];

    make_version_1("db");
    strips_of("db", text);
    ck_assert_str_eq(text, "/a damaged none; ");
    ck_assert_int_eq(number("db", "PRAGMA user_version"), 1);
    db = begin("db", &plain_run, NULL);
    ck_assert_ptr_nonnull(vd_auditdb_find(db, "/a"));
    json_object_set_new(with_strip, "strip", json_string("H1#."));
    put(db, "/b", 2, with_strip);
    end(db, "complete");
    strips_of("db", text);
    ck_assert_str_eq(text, "/a damaged none; /b clean H1#.; ");
    ck_assert_int_eq(number("db", "PRAGMA user_version"), 2);
    ck_assert_int_eq(number("db", "SELECT value = '2' FROM meta WHERE key = 'schema'"), 1);
    /* As if it had been made by this vdcheck. */
    vd_auditdb_close(open_db("new"));
    ck_assert_int_eq(number("db", "SELECT count(*) FROM pragma_table_info('result')"),
                     number("new", "SELECT count(*) FROM pragma_table_info('result')"));
    ck_assert_int_eq(number("db", "SELECT count(*) FROM result WHERE repair IS NULL"), 2);
    ck_assert_int_eq(number("db", "SELECT cid FROM pragma_table_info('result') WHERE name = 'repair'"),
                     number("new", "SELECT cid FROM pragma_table_info('result') WHERE name = 'repair'"));
    ck_assert_int_eq(number("db", "SELECT cid FROM pragma_table_info('result') WHERE name = 'strip'"),
                     number("new", "SELECT cid FROM pragma_table_info('result') WHERE name = 'strip'"));
}
END_TEST

START_TEST(the_next_version_is_refused_and_left_as_it_is)
{
    struct vd_err err = VD_ERR_INIT, again = VD_ERR_INIT;
    struct vd_farm farm = {0};
    char sql[60];

    run_once("db", "/a", "clean", NULL);
    snprintf(sql, sizeof(sql), "PRAGMA user_version=%d", VD_AUDITDB_SCHEMA + 1);
    (void)number("db", sql);
    must_be_null(vd_auditdb_open("db", &err), &err, VD_ERR_UNSUPPORTED);
    must_fail(vd_farm_add(&farm, "db", &again), &again, VD_ERR_UNSUPPORTED);
    ck_assert_int_eq(number("db", "PRAGMA user_version"), VD_AUDITDB_SCHEMA + 1);
    vd_farm_free(&farm);
}
END_TEST

START_TEST(only_the_last_run_of_the_same_kind_is_gone_on_with)
{
    struct vd_run_row again = plain_run, other = plain_run;
    bool resumed;

    again.resumes = true;
    other.resumes = true;
    other.farm = "g";
    end(begin("db", &plain_run, NULL), "cancelled");
    end(begin("db", &other, &resumed), "complete");
    ck_assert(!resumed);
    end(begin("db", &again, &resumed), "complete");
    ck_assert(resumed);
    end(begin("db", &again, &resumed), "complete");
    ck_assert(!resumed);
    ck_assert_int_eq(number("db", "SELECT count(*) FROM run"), 3);
}
END_TEST

START_TEST(what_a_worker_says_can_be_anything)
{
    static const char *const texts[] = {
        "{\"status\": \"clean\"}",
        "{\"status\": \"clean\", \"counts\": 7, \"findings\": {\"a\": 1}, \"format\": [1], \"io\": null}",
        "{\"status\": \"clean\", \"findings\": [1, null, {}, {\"id\": 5, \"count\": \"x\", \"places\": 3}]}",
        "{\"status\": \"clean\", \"counts\": {\"leaks\": \"many\"}, \"leaked_bytes\": 1e300, \"seconds\": "
        "\"x\"}",
        "{\"status\": \"clean\", \"backing\": {\"name\": 1}, \"virtual_size\": true, \"strip\": 5}",
        "{\"status\": \"clean\", \"backing\": {\"name\": \"a\", \"state\": \"b\", \"path\": 9, \"dev\": "
        "\"d\"}}",
    };
    struct vd_auditdb *db = begin("db", &plain_run, NULL);
    struct vd_farm farm = {0};
    struct vd_err err = VD_ERR_INIT;

    for (size_t i = 0; i < VD_ARRAY_SIZE(texts); i++) {
        char path[16];

        snprintf(path, sizeof(path), "/%zu", i);
        put(db, path, i, json_loads(texts[i], 0, NULL));
    }
    end(db, "complete");
    must(vd_farm_add(&farm, "db", &err), &err);
    must(vd_farm_settle(&farm, &err), &err);
    ck_assert_uint_eq(farm.images.n, VD_ARRAY_SIZE(texts));
    vd_farm_free(&farm);
}
END_TEST

START_TEST(old_results_go_and_the_newest_of_each_image_stays)
{
    struct vd_auditdb *db;
    struct vd_err err = VD_ERR_INIT;

    for (int i = 0; i < 3; i++)
        run_once("db", "/a", "clean", NULL);
    db = begin("db", &plain_run, NULL);
    put(db, "/b", 2, result("clean", NULL));
    must(vd_auditdb_forget(db, 30, &err), &err);
    ck_assert_int_eq(number("db", "SELECT count(*) FROM result"), 4);
    ck_assert_int_eq(number("db", "UPDATE result SET checked_at = 1000") +
                         number("db", "UPDATE run SET started_at = 1000 WHERE id < 3"),
                     0);
    must(vd_auditdb_forget(db, 30, &err), &err);
    end(db, "complete");
    ck_assert_int_eq(number("db", "SELECT count(*) FROM result"), 2);
    ck_assert_int_eq(number("db", "SELECT count(*) FROM run WHERE id = 2"), 0);
    ck_assert_int_eq(number("db", "UPDATE run SET started_at = 1000 WHERE id <> 4"), 0);
    db = begin("db", &plain_run, NULL);
    must(vd_auditdb_forget(db, 30, &err), &err);
    end(db, "complete");
    ck_assert_int_eq(number("db", "SELECT count(*) FROM image WHERE path = '/a'"), 0);
    ck_assert_int_eq(number("db", "SELECT count(*) FROM image"), 1);
}
END_TEST

/* ---- farms */

static void text_of(const char *const *paths, size_t n, char text[1000])
{
    struct vd_farm farm = {0};
    struct vd_err err = VD_ERR_INIT;
    size_t at = 0;

    for (size_t i = 0; i < n; i++)
        must(vd_farm_add(&farm, paths[i], &err), &err);
    must(vd_farm_settle(&farm, &err), &err);
    text[0] = '\0';
    for (size_t i = 0; i < farm.images.n; i++) {
        const struct vd_farm_image *image = &farm.images.v[i];

        at += (size_t)snprintf(text + at, 1000 - at, "%s:%s %s<%s%s%s; ", image->host, image->path,
                               image->newest.status, image->before.run ? image->before.status : "",
                               image->is_new ? " new" : "", image->is_changed ? " changed" : "");
    }
    for (size_t i = 0; i < farm.notes.n; i++)
        at += (size_t)snprintf(text + at, 1000 - at, "%s; ", farm.notes.v[i]);
    vd_farm_free(&farm);
}

START_TEST(news_are_what_the_last_run_found_otherwise)
{
    const char *db = "db";
    struct vd_auditdb *last;
    char text[1000];

    run_once(db, "/a", "clean", NULL);
    text_of(&db, 1, text);
    ck_assert_str_eq(text, "h:/a clean<; ");
    run_once(db, "/a", "damaged", "x.y");
    text_of(&db, 1, text);
    ck_assert_str_eq(text, "h:/a damaged<clean changed; ");
    run_once(db, "/a", "damaged", "x.y");
    text_of(&db, 1, text);
    ck_assert_str_eq(text, "h:/a damaged<damaged; ");
    last = begin(db, &plain_run, NULL);
    put(last, "/a", 1, result("damaged", "x.z"));
    put(last, "/b", 2, result("clean", NULL));
    end(last, "complete");
    text_of(&db, 1, text);
    ck_assert_str_eq(text, "h:/a damaged<damaged changed; h:/b clean< new; ");
}
END_TEST

START_TEST(what_a_run_found_that_was_cut_off_is_news_in_the_next)
{
    struct vd_auditdb *db;
    const char *path = "db";
    struct vd_err err = VD_ERR_INIT;
    char text[1000];

    run_once(path, "/a", "clean", NULL);
    db = begin(path, &plain_run, NULL);
    put(db, "/a", 1, result("damaged", "x.y"));
    put(db, "/b", 2, result("clean", NULL));
    vd_auditdb_close(db);
    for (int again = 0; again < 2; again++) {
        db = begin(path, &plain_run, NULL);
        must(vd_auditdb_unchanged(db, vd_auditdb_find(db, "/a"), &err), &err);
        must(vd_auditdb_unchanged(db, vd_auditdb_find(db, "/b"), &err), &err);
        end(db, "complete");
        text_of(&path, 1, text);
        ck_assert_str_eq(text, again ? "h:/a damaged<clean; h:/b clean<; "
                                     : "h:/a damaged<clean changed; h:/b clean< new; ");
    }
}
END_TEST

START_TEST(what_is_gone_is_told_no_more_also_where_an_older_file_has_it)
{
    const char *both[] = {"old", "db"};
    struct vd_auditdb *db;
    struct vd_err err = VD_ERR_INIT;
    char text[1000];

    run_once("old", "/a", "damaged", "x.y");
    run_once("db", "/a", "clean", NULL);
    db = begin("db", &plain_run, NULL);
    must(vd_auditdb_gone(db, vd_auditdb_find(db, "/a"), &err), &err);
    end(db, "complete");
    text_of(both, 2, text);
    ck_assert_str_eq(text, "");
}
END_TEST

static void make_shard(const char *path, unsigned shard, unsigned shards, const char *image)
{
    struct vd_run_row row = plain_run;
    struct vd_auditdb *db;

    row.shard = shard;
    row.shards = shards;
    db = begin(path, &row, NULL);
    put(db, image, shard, result("clean", NULL));
    end(db, "complete");
}

START_TEST(merging_does_not_depend_on_order_or_number)
{
    static const char *const orders[][6] = {
        {"1",    "2",    "3", "more", NULL, NULL},
        {"3",    "more", "2", "1",    NULL, NULL},
        {"2",    "2",    "1", "more", "3",  "1" },
        {"more", "more", "3", "1",    "2",  "2" },
    };
    char first[1000], text[1000];

    make_shard("1", 1, 3, "/a");
    make_shard("2", 2, 3, "/b");
    make_shard("3", 3, 3, "/c");
    run_once("more", "/a", "damaged", "x.y");
    make_shard("3", 3, 3, "/c");
    for (size_t i = 0; i < VD_ARRAY_SIZE(orders); i++) {
        size_t n = 0;

        while (n < 6 && orders[i][n])
            n++;
        text_of(orders[i], n, i ? text : first);
        ck_assert_str_eq(i ? text : first, first);
    }
    ck_assert_ptr_nonnull(strstr(first, "h:/a damaged<clean"));
}
END_TEST

START_TEST(a_missing_shard_and_one_of_another_audit_are_named)
{
    const char *paths[] = {"1", "3", "other"};
    char text[1000];

    make_shard("other", 1, 2, "/x");
    make_shard("1", 1, 3, "/a");
    make_shard("3", 3, 3, "/c");
    text_of(paths, 3, text);
    ck_assert_msg(strstr(text, "shard 2 of 3 is missing; "), "%s", text);
    ck_assert_msg(strstr(text, "(shard 1 of 2) is of another audit; "), "%s", text);
    ck_assert_ptr_null(strstr(text, "shard 1 of 3"));
}
END_TEST

/* What a kill in the middle of a large transaction leaves. */
static void cut_off_a_write(const char *path)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        sqlite3 *db = NULL;

        if (sqlite3_open(path, &db) == SQLITE_OK)
            (void)sqlite3_exec(
                db,
                "PRAGMA cache_size=2; BEGIN; UPDATE image SET path = '/wrong';"
                " CREATE TABLE filler(x); WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1"
                " FROM n WHERE i < 1000) INSERT INTO filler SELECT randomblob(500) FROM n",
                NULL, NULL, NULL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

START_TEST(a_write_that_was_cut_off_is_taken_back_by_the_next_reader)
{
    const char *path = "db";
    char text[1000];

    run_once(path, "/a", "clean", NULL);
    cut_off_a_write(path);
    ck_assert_int_eq(access("db-journal", F_OK), 0);
    text_of(&path, 1, text);
    ck_assert_str_eq(text, "h:/a clean<; ");
}
END_TEST

START_TEST(a_stranger_cannot_run_anything_by_a_view)
{
    struct vd_farm farm = {0};
    struct vd_err err = VD_ERR_INIT;

    run_once("db", "/a", "clean", NULL);
    (void)number("db", "ALTER TABLE finding RENAME TO f");
    (void)number(
        "db",
        "CREATE VIEW finding AS WITH RECURSIVE r(result_id, finding, severity, level, note, places, count,"
        " bytes) AS (SELECT 1,1,1,1,1,1,1,1 UNION ALL SELECT 1,1,1,1,1,1,1,1 FROM r) SELECT * FROM r");
    must_fail(vd_farm_add(&farm, "db", &err), &err, VD_ERR_IO);
    vd_farm_free(&farm);
}
END_TEST

UNIT_TESTS("auditdb", what_was_kept_is_there_in_the_next_run, names_of_any_bytes_come_back_as_they_were,
           a_second_audit_is_told_that_there_is_one, a_run_has_one_result_of_an_image_the_last,
           what_a_repair_would_do_away_with_is_known,
           a_database_of_something_else_or_of_a_newer_version_is_refused,
           an_older_database_is_read_as_it_is_and_migrated_by_the_next_audit,
           the_next_version_is_refused_and_left_as_it_is, only_the_last_run_of_the_same_kind_is_gone_on_with,
           what_a_worker_says_can_be_anything, old_results_go_and_the_newest_of_each_image_stays,
           news_are_what_the_last_run_found_otherwise, what_a_run_found_that_was_cut_off_is_news_in_the_next,
           what_is_gone_is_told_no_more_also_where_an_older_file_has_it,
           merging_does_not_depend_on_order_or_number, a_missing_shard_and_one_of_another_audit_are_named,
           a_write_that_was_cut_off_is_taken_back_by_the_next_reader,
           a_stranger_cannot_run_anything_by_a_view)
