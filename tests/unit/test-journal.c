/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal, invariant by invariant; their numbers stand at the head of repair/journal.c. */
#include "repair/journal.h"

#include <sqlite3.h>
#include <sys/wait.h>

#include "formats/node/fault.h"
#include "formats/node/file.h"
#include "formats/node/memory.h"
#include "formats/node/overlay.h"
#include "tests/unit/unit.h"

enum { BLOCK = VD_OVERLAY_BLOCK, SECTOR = 512, OLD_BLOCKS = 64 };

/* An image, a repair of it worked out on an overlay, and the bytes before and after. */
struct repair {
    struct BlockDriverState *disk, *file, *over; /* memory; faults and a recording over it; the overlay */
    struct vd_journal *journal;
    struct vd_fault_log *log;
    uint8_t *old, *new;
    size_t old_len, new_len;
    struct vd_overlay_block *blocks;
    size_t blocks_n;
};

static void change(struct repair *r, int64_t offset, size_t len, enum vd_stage stage, uint64_t seed)
{
    struct vd_err err = VD_ERR_INIT;
    uint8_t bytes[3 * BLOCK];

    vd_unit_noise(bytes, len, seed);
    must(bdrv_pwrite(r->over, offset, (int64_t)len, bytes, stage, &err), &err);
}

static struct repair begin(size_t old_len)
{
    struct vd_err err = VD_ERR_INIT;
    struct repair r = {.old = calloc(1, old_len), .old_len = old_len};

    /* Every second block is noise, the others are zeroes: compressible and not. */
    for (size_t at = 0; at + BLOCK <= old_len; at += 2 * BLOCK)
        vd_unit_noise(r.old + at, BLOCK, at);
    r.disk = vd_memory_new("image", r.old, old_len, &err);
    must_have(r.disk, &err);
    r.file = vd_fault_new(r.disk, &err);
    must_have(r.file, &err);
    r.over = vd_overlay_new(r.file, NULL, &err);
    must_have(r.over, &err);
    return r;
}

/* Fills the journal at path with what the overlay holds. The state is not set. */
static void fill(struct repair *r, const char *path)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    uint64_t writes, bytes;

    r->new_len = (size_t)bdrv_getlength(r->over, &err);
    r->new = malloc(r->new_len + 1);
    must(bdrv_pread(r->over, 0, (int64_t)r->new_len, r->new, &err), &err);
    r->blocks = vd_overlay_list(r->over, &r->blocks_n, &err);
    r->log = calloc(1, sizeof(*r->log));
    vd_fault_record(r->file, r->log);
    r->journal = vd_journal_create(path, NULL, &err);
    must_have(r->journal, &err);
    must(vd_journal_fill(r->journal, r->file, r->over, &budget, &writes, &bytes, &err), &err);
}

static void set_state(struct repair *r, enum vd_journal_state state)
{
    struct vd_err err = VD_ERR_INIT;

    must(vd_journal_set_state(r->journal, state, &err), &err);
}

static void done(struct repair *r)
{
    if (r->journal)
        vd_journal_close(r->journal);
    if (r->log)
        vd_fault_log_free(r->log);
    free(r->log);
    bdrv_unref(r->over);
    bdrv_unref(r->file);
    bdrv_unref(r->disk);
    free(r->old);
    free(r->new);
    free(r->blocks);
}

/* A repair of every stage that makes the file longer. */
static struct repair growing(const char *path)
{
    struct repair r = begin(OLD_BLOCKS * BLOCK);

    change(&r, OLD_BLOCKS * BLOCK, 3 * BLOCK, VD_STAGE_NEW, 100);
    change(&r, 10 * BLOCK + 8, 8, VD_STAGE_TABLE, 101);
    change(&r, 11 * BLOCK, 2 * BLOCK, VD_STAGE_TABLE, 102);
    change(&r, 20 * BLOCK + 1000, 3000, VD_STAGE_NEW, 103);
    change(&r, BLOCK + 40, 8, VD_STAGE_ROOT, 104);
    change(&r, 16, 8, VD_STAGE_FLAG, 105);
    fill(&r, path);
    return r;
}

/* One that cuts it off, not at a block's border, with changes on both sides of the cut. */
static struct repair cutting(const char *path)
{
    struct repair r = begin(OLD_BLOCKS * BLOCK);
    struct vd_err err = VD_ERR_INIT;

    change(&r, 50 * BLOCK, 100, VD_STAGE_NEW, 200);
    change(&r, 10 * BLOCK + 8, 8, VD_STAGE_TABLE, 201);
    change(&r, 16, 8, VD_STAGE_FLAG, 202);
    must(bdrv_truncate(r.over, 40 * BLOCK + 100, &err), &err);
    fill(&r, path);
    return r;
}

/* One whose first round cut the tail off and whose second used part of it again. */
static struct repair regrowing(const char *path)
{
    struct repair r = begin(OLD_BLOCKS * BLOCK);
    struct vd_err err = VD_ERR_INIT;

    must(bdrv_truncate(r.over, 20 * BLOCK + 77, &err), &err);
    change(&r, 30 * BLOCK + 5, 10, VD_STAGE_NEW, 300);
    change(&r, 10 * BLOCK, 8, VD_STAGE_TABLE, 301);
    change(&r, 16, 8, VD_STAGE_FLAG, 302);
    must(bdrv_truncate(r.over, 50 * BLOCK, &err), &err);
    fill(&r, path);
    return r;
}

typedef struct repair make_fn(const char *path);

static make_fn *const makers[] = {growing, cutting, regrowing};

static void set_disk(struct repair *r, const uint8_t *bytes, size_t len)
{
    struct vd_err err = VD_ERR_INIT;

    must(bdrv_truncate(r->disk, 0, &err), &err);
    must(bdrv_pwrite(r->disk, 0, (int64_t)len, bytes, VD_STAGE_NEW, &err), &err);
}

static void expect_disk(struct repair *r, const uint8_t *bytes, size_t len)
{
    size_t now_len;
    const uint8_t *now = vd_memory_bytes(r->disk, &now_len);

    ck_assert_uint_eq(now_len, len);
    ck_assert_msg(memcmp(now, bytes, len) == 0, "the image has other bytes than expected");
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- another program looks at the journal, or spoils it */

static int64_t ask_sql(const char *path, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *stmt = NULL;
    int64_t answer = -1;

    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
        answer = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return answer;
}

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db;

    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    ck_assert_int_gt(sqlite3_changes(db), 0);
    sqlite3_close(db);
}

/* Goes on with a copy of the journal file "undo" on which the statement was run. */
static void spoil(struct repair *r, const char *sql)
{
    struct vd_err err = VD_ERR_INIT;
    static uint8_t bytes[2 << 20];
    int fd = open("undo", O_RDONLY);
    ssize_t n = read(fd, bytes, sizeof(bytes));

    ck_assert(n > 0 && n < (ssize_t)sizeof(bytes));
    close(fd);
    vd_journal_close(r->journal);
    vd_unit_write_file("spoiled", bytes, (size_t)n);
    run_sql("spoiled", sql);
    r->journal = vd_journal_open("spoiled", true, &err);
    must_have(r->journal, &err);
}

static enum vd_journal_state state_of(const char *path)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(vd_journal) journal = vd_journal_open(path, false, &err);
    enum vd_journal_state state;

    must_have(journal, &err);
    must(vd_journal_state(journal, &state, &err), &err);
    return state;
}

/* ---- making and opening */

START_TEST(a_new_journal_replaces_nothing_and_belongs_to_the_owner_alone)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_journal *journal;
    struct stat like, st;

    vd_unit_write_file("there", "abc", 3);
    must_be_null(vd_journal_create("there", NULL, &err), &err, VD_ERR_IO);
    ck_assert_int_eq(stat("there", &st), 0);
    ck_assert_int_eq(st.st_size, 3);
    ck_assert_int_eq(symlink("elsewhere", "link"), 0);
    must_be_null(vd_journal_create("link", NULL, &err), &err, VD_ERR_IO);
    ck_assert(!exists("elsewhere"));
    umask(0);
    journal = vd_journal_create("private", NULL, &err);
    must_have(journal, &err);
    ck_assert_str_eq(vd_journal_path(journal), "private");
    vd_journal_close(journal);
    ck_assert_int_eq(stat("private", &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0600);
    ck_assert_int_eq(stat("there", &like), 0);
    like.st_mode = S_IFREG | 0664;
    journal = vd_journal_create("shared", &like, &err);
    must_have(journal, &err);
    vd_journal_close(journal);
    ck_assert_int_eq(stat("shared", &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0664);
}
END_TEST

START_TEST(the_undo_file_has_the_owner_of_the_image)
{
    struct vd_err err = VD_ERR_INIT;
    struct vd_journal *journal;
    struct stat like, st;

    if (geteuid() != 0) {
        printf("skipped: the_undo_file_has_the_owner_of_the_image: needs root\n");
        return;
    }
    vd_unit_write_file("image", "abc", 3);
    ck_assert_int_eq(chown("image", 12345, 54321), 0);
    ck_assert_int_eq(stat("image", &like), 0);
    journal = vd_journal_create("undo", &like, &err);
    must_have(journal, &err);
    vd_journal_close(journal);
    ck_assert_int_eq(stat("undo", &st), 0);
    ck_assert_int_eq(st.st_uid, 12345);
    ck_assert_int_eq(st.st_gid, 54321);
}
END_TEST

START_TEST(what_is_no_journal_is_not_opened)
{
    struct vd_err err;
    uint8_t noise[20000];
    sqlite3 *db;

    must_be_null(vd_journal_open("nothing", false, &err), &err, VD_ERR_IO);
    ck_assert(!exists("nothing"));
    vd_unit_noise(noise, sizeof(noise), 1);
    vd_unit_write_file("noise", noise, sizeof(noise));
    must_be_null(vd_journal_open("noise", true, &err), &err, VD_ERR_FORMAT);
    ck_assert_int_eq(sqlite3_open("other.db", &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, "CREATE TABLE meta(key, value)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    must_be_null(vd_journal_open("other.db", true, &err), &err, VD_ERR_FORMAT);
}
END_TEST

START_TEST(a_journal_of_another_version_is_not_opened)
{
    struct repair r = growing("undo");
    struct vd_err err;

    set_state(&r, VD_JOURNAL_PREPARED);
    vd_journal_close(r.journal);
    r.journal = NULL;
    ck_assert_int_eq(ask_sql("undo", "PRAGMA user_version"), 1);
    run_sql("undo", "UPDATE meta SET value = value; PRAGMA user_version = 2");
    must_be_null(vd_journal_open("undo", true, &err), &err, VD_ERR_FORMAT);
    done(&r);
}
END_TEST

START_TEST(named_values_are_kept)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(vd_journal) journal = vd_journal_create("undo", NULL, &err);
    char *text;

    must_have(journal, &err);
    must(vd_journal_set(journal, "image", "/a/'b'.qed", &err), &err);
    must(vd_journal_set_number(journal, "size", INT64_MAX, &err), &err);
    must(vd_journal_set(journal, "level", "safe", &err), &err);
    must(vd_journal_set(journal, "level", "all", &err), &err);
    must(vd_journal_set_state(journal, VD_JOURNAL_PREPARED, &err), &err);
    vd_journal_close(vd_take(&journal));
    journal = vd_journal_open("undo", false, &err);
    must_have(journal, &err);
    text = vd_journal_get(journal, "image");
    ck_assert_str_eq(text, "/a/'b'.qed");
    free(text);
    text = vd_journal_get(journal, "level");
    ck_assert_str_eq(text, "all");
    free(text);
    ck_assert_int_eq(vd_journal_get_number(journal, "size", 0), INT64_MAX);
    ck_assert_int_eq(vd_journal_get_number(journal, "none", -5), -5);
    ck_assert_ptr_null(vd_journal_get(journal, "none"));
}
END_TEST

START_TEST(each_state_is_kept_over_a_reopen)
{
    static const enum vd_journal_state states[] = {VD_JOURNAL_PREPARED, VD_JOURNAL_COMMITTED,
                                                   VD_JOURNAL_UNDOING, VD_JOURNAL_UNDONE};
    struct repair r = growing("undo");
    struct vd_err err = VD_ERR_INIT;

    for (size_t i = 0; i < VD_ARRAY_SIZE(states); i++) {
        set_state(&r, states[i]);
        vd_journal_close(r.journal);
        ck_assert_int_eq(state_of("undo"), states[i]);
        r.journal = vd_journal_open("undo", true, &err);
        must_have(r.journal, &err);
    }
    ck_assert_int_eq(VD_UNFINISHED, 1 << VD_JOURNAL_PREPARED | 1 << VD_JOURNAL_UNDOING);
    done(&r);
}
END_TEST

START_TEST(kept_leaks_are_kept)
{
    struct repair r = growing("undo");
    struct vd_err err = VD_ERR_INIT;
    struct vd_runs leaks = {0}, back = {0};
    uint64_t cluster_size = 0;

    ck_assert_int_eq(vd_runs_add(&leaks, 7, 3), 0);
    ck_assert_int_eq(vd_runs_add(&leaks, (uint64_t)1 << 40, 1), 0);
    must(vd_journal_keep_leaks(r.journal, &leaks, 65536, &err), &err);
    set_state(&r, VD_JOURNAL_PREPARED);
    vd_journal_close(r.journal);
    r.journal = vd_journal_open("undo", false, &err);
    must(vd_journal_kept_leaks(r.journal, &back, &cluster_size, &err), &err);
    ck_assert_uint_eq(cluster_size, 65536);
    ck_assert_uint_eq(vd_runs_total(&back), 4);
    ck_assert(vd_runs_has_all(&back, 7, 3) && vd_runs_has(&back, (uint64_t)1 << 40));
    vd_runs_done(&leaks);
    vd_runs_done(&back);
    done(&r);
}
END_TEST

/* ---- J1, J2, J3 */

START_TEST(j1_a_journal_that_was_not_prepared_is_empty)
{
    struct repair r = growing("undo");
    enum vd_journal_state state;
    struct vd_err err = VD_ERR_INIT;

    must(vd_journal_state(r.journal, &state, &err), &err);
    ck_assert_int_eq(state, VD_JOURNAL_EMPTY);
    vd_journal_close(r.journal);
    r.journal = NULL;
    ck_assert_int_eq(state_of("undo"), VD_JOURNAL_EMPTY);
    ck_assert_uint_eq(r.log->n, 0);
    done(&r);
    vd_unit_write_file("just-made", "", 0);
    ck_assert_int_eq(state_of("just-made"), VD_JOURNAL_EMPTY);
}
END_TEST

/* So much that SQLite cannot keep it in memory: the file is half written, with a rollback journal beside. */
START_TEST(j1_a_process_killed_while_it_fills_leaves_an_empty_journal)
{
    int status;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct repair r = begin(BLOCK);

        for (int i = 0; i < 1000; i++)
            change(&r, (int64_t)i * 3 * BLOCK, 3 * BLOCK, VD_STAGE_NEW, (uint64_t)i + 7);
        fill(&r, "undo");
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert(exists("undo-journal"));
    ck_assert_int_eq(state_of("undo"), VD_JOURNAL_EMPTY);
}
END_TEST

START_TEST(j2_records_and_state_become_visible_together)
{
    struct repair r = growing("undo");

    ck_assert_int_le(ask_sql("undo", "SELECT count(*) FROM record"), 0);
    set_state(&r, VD_JOURNAL_PREPARED);
    ck_assert(!exists("undo-journal"));
    ck_assert_int_ge(ask_sql("undo", "SELECT count(*) FROM record"), 5);
    ck_assert_int_eq(ask_sql("undo", "SELECT count(*) FROM meta WHERE key = 'state' AND value = 'prepared'"),
                     1);
    ck_assert_int_eq(state_of("undo"), VD_JOURNAL_PREPARED);
    done(&r);
}
END_TEST

START_TEST(j3_preparing_writes_nothing_to_the_image)
{
    struct repair r = growing(":memory:");

    set_state(&r, VD_JOURNAL_PREPARED);
    ck_assert_uint_eq(r.log->n, 0);
    expect_disk(&r, r.old, r.old_len);
    done(&r);
}
END_TEST

/* Every byte that differs is in a record, old and new. */
static void expect_records_cover(struct repair *r)
{
    struct vd_err err = VD_ERR_INIT;

    set_state(r, VD_JOURNAL_PREPARED);
    must(vd_journal_roll_forward(r->journal, r->file, &err), &err);
    expect_disk(r, r->new, r->new_len);
    must(vd_journal_verify(r->journal, r->file, VD_MATCH_NEW, &err), &err);
    must(vd_journal_roll_back(r->journal, r->file, &err), &err);
    expect_disk(r, r->old, r->old_len);
}

START_TEST(j3_old_and_new_bytes_are_all_there)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(makers); i++) {
        struct repair r = makers[i](":memory:");

        expect_records_cover(&r);
        done(&r);
    }
}
END_TEST

START_TEST(j3_blocks_that_were_written_and_not_changed_need_no_record)
{
    struct repair r = begin(8 * BLOCK);
    struct vd_err err = VD_ERR_INIT;

    must(bdrv_pwrite(r.over, 100, 1000, r.old + 100, VD_STAGE_TABLE, &err), &err);
    fill(&r, "undo");
    set_state(&r, VD_JOURNAL_PREPARED);
    ck_assert_int_eq(ask_sql("undo", "SELECT count(*) FROM record"), 0);
    done(&r);
}
END_TEST

START_TEST(j3_a_tail_cut_off_and_grown_past_the_old_end_is_recorded)
{
    struct repair r = begin(OLD_BLOCKS * BLOCK);
    struct vd_err err = VD_ERR_INIT;

    must(bdrv_truncate(r.over, 20 * BLOCK, &err), &err);
    change(&r, (OLD_BLOCKS + 2) * BLOCK, 10, VD_STAGE_NEW, 301);
    fill(&r, ":memory:");
    expect_records_cover(&r);
    done(&r);
}
END_TEST

START_TEST(bytes_that_compress_are_compressed_and_others_are_not)
{
    struct repair r = begin(64 * BLOCK);
    struct vd_err err = VD_ERR_INIT;

    change(&r, 2 * BLOCK, 2 * BLOCK, VD_STAGE_NEW, 1); /* old: half noise; new: noise */
    must(bdrv_pwrite_zeroes(r.over, 8 * BLOCK, BLOCK, VD_STAGE_NEW, &err), &err);
    fill(&r, "undo");
    set_state(&r, VD_JOURNAL_PREPARED);
    ck_assert_int_eq(ask_sql("undo", "SELECT count(*) FROM record WHERE length(new) = new_len"), 1);
    ck_assert_int_eq(ask_sql("undo", "SELECT count(*) FROM record WHERE length(new) < new_len / 50"), 1);
    ck_assert_int_eq(ask_sql("undo", "SELECT count(*) FROM record WHERE length(old) > old_len"), 0);
    expect_records_cover(&r);
    done(&r);
}
END_TEST

/* ---- J4 */

/* A disk on which each sector of a recorded block is the old or the new one, as the noise has it. */
static void set_mix(struct repair *r, size_t len, uint64_t seed)
{
    size_t most = r->old_len > r->new_len ? r->old_len : r->new_len;
    uint8_t *mix = calloc(1, most), *was = calloc(1, most), *will = calloc(1, most);
    uint8_t *coin = malloc(most / SECTOR + 1);

    memcpy(was, r->old, r->old_len);
    memcpy(will, r->new, r->new_len);
    vd_unit_noise(coin, most / SECTOR + 1, seed);
    for (size_t at = 0; at < most; at += SECTOR)
        memcpy(mix + at, (coin[at / SECTOR] & 1 ? will : was) + at, most - at < SECTOR ? most - at : SECTOR);
    set_disk(r, mix, len);
    free(mix);
    free(was);
    free(will);
    free(coin);
}

static void roll_from_mixes(struct repair *r)
{
    struct vd_err err = VD_ERR_INIT;

    set_state(r, VD_JOURNAL_PREPARED);
    for (uint64_t seed = 0; seed < 40; seed++) {
        size_t len = seed & 1 ? r->old_len : r->new_len;

        set_mix(r, len, seed);
        must(vd_journal_verify(r->journal, r->file, VD_MATCH_EITHER, &err), &err);
        must(vd_journal_roll_forward(r->journal, r->file, &err), &err);
        expect_disk(r, r->new, r->new_len);
        set_mix(r, len, seed);
        must(vd_journal_roll_back(r->journal, r->file, &err), &err);
        expect_disk(r, r->old, r->old_len);
    }
}

START_TEST(j4_any_mix_of_old_and_new_sectors_leads_to_either_image)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(makers); i++) {
        struct repair r = makers[i](":memory:");

        roll_from_mixes(&r);
        done(&r);
    }
}
END_TEST

START_TEST(j4_rolling_twice_is_rolling_once)
{
    struct repair r = cutting(":memory:");
    struct vd_err err = VD_ERR_INIT;

    set_state(&r, VD_JOURNAL_PREPARED);
    for (int i = 0; i < 2; i++)
        must(vd_journal_roll_forward(r.journal, r.file, &err), &err);
    expect_disk(&r, r.new, r.new_len);
    for (int i = 0; i < 2; i++)
        must(vd_journal_roll_back(r.journal, r.file, &err), &err);
    expect_disk(&r, r.old, r.old_len);
    must(vd_journal_roll(r.journal, VD_JOURNAL_PREPARED, r.file, &err), &err);
    expect_disk(&r, r.new, r.new_len);
    must(vd_journal_roll(r.journal, VD_JOURNAL_UNDOING, r.file, &err), &err);
    expect_disk(&r, r.old, r.old_len);
    done(&r);
}
END_TEST

typedef int roll_fn(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err);

/* Cuts the power at each write or truncation of a roll, torn, and goes on in both directions from there. */
static void cut_everywhere(struct repair *r, roll_fn *roll, const uint8_t *from, size_t from_len,
                           enum vd_fault_op op)
{
    struct vd_err err = VD_ERR_INIT;
    bool was_cut = true;

    for (uint64_t n = 0; was_cut && n < 100; n++) {
        struct vd_fault_rule rule = {.op = op, .skip = n, .torn_bytes = (int64_t)(n % 5) * SECTOR};
        vd_auto(BlockDriverState) power = NULL;

        for (int forward = 0; forward < 2; forward++) {
            set_disk(r, from, from_len);
            bdrv_unref(power);
            power = vd_fault_new(r->disk, &err);
            must(vd_fault_add(power, &rule, &err), &err);
            was_cut = roll(r->journal, power, &err) < 0;
            ck_assert_int_eq(was_cut, vd_fault_is_cut(power));
            must(vd_journal_verify(r->journal, r->disk, VD_MATCH_EITHER, &err), &err);
            must((forward ? vd_journal_roll_forward : vd_journal_roll_back)(r->journal, r->disk, &err), &err);
            expect_disk(r, forward ? r->new : r->old, forward ? r->new_len : r->old_len);
        }
        ck_assert(was_cut || n > 0);
    }
}

START_TEST(j4_a_roll_cut_off_anywhere_goes_on_in_both_directions)
{

    for (size_t i = 0; i < VD_ARRAY_SIZE(makers); i++) {
        struct repair repair = makers[i](":memory:"), *r = &repair;

        set_state(r, VD_JOURNAL_PREPARED);
        cut_everywhere(r, vd_journal_roll_forward, r->old, r->old_len, VD_FAULT_WRITE);
        cut_everywhere(r, vd_journal_roll_forward, r->old, r->old_len, VD_FAULT_TRUNCATE);
        cut_everywhere(r, vd_journal_roll_forward, r->old, r->old_len, VD_FAULT_FLUSH);
        cut_everywhere(r, vd_journal_roll_back, r->new, r->new_len, VD_FAULT_WRITE);
        cut_everywhere(r, vd_journal_roll_back, r->new, r->new_len, VD_FAULT_TRUNCATE);
        cut_everywhere(r, vd_journal_roll_back, r->new, r->new_len, VD_FAULT_FLUSH);
        done(r);
    }
}
END_TEST

/* ---- J5 */

START_TEST(j5_a_flush_stands_behind_the_last_write)
{
    struct vd_err err = VD_ERR_INIT;

    for (size_t i = 0; i < VD_ARRAY_SIZE(makers); i++) {
        struct repair repair = makers[i](":memory:"), *r = &repair;

        set_state(r, VD_JOURNAL_PREPARED);
        must(vd_journal_roll_forward(r->journal, r->file, &err), &err);
        ck_assert_uint_gt(r->log->n, 5);
        ck_assert_int_eq(r->log->v[r->log->n - 1].op, VD_FAULT_FLUSH);
        must(vd_journal_roll_back(r->journal, r->file, &err), &err);
        ck_assert_int_eq(r->log->v[r->log->n - 1].op, VD_FAULT_FLUSH);
        done(r);
    }
}
END_TEST

START_TEST(j5_a_flush_that_fails_is_no_success)
{
    struct vd_err err = VD_ERR_INIT;
    uint64_t flushes = 0;
    struct repair r = growing(":memory:");

    set_state(&r, VD_JOURNAL_PREPARED);
    must(vd_journal_roll_forward(r.journal, r.file, &err), &err);
    for (size_t i = 0; i < r.log->n; i++)
        flushes += r.log->v[i].op == VD_FAULT_FLUSH;
    for (uint64_t n = 0; n < flushes; n++) {
        struct vd_fault_rule rule = {.op = VD_FAULT_FLUSH, .errnum = 5, .skip = n, .torn_bytes = -1};
        vd_auto(BlockDriverState) file = vd_fault_new(r.disk, &err);

        set_disk(&r, r.old, r.old_len);
        must(vd_fault_add(file, &rule, &err), &err);
        must_fail(vd_journal_roll_forward(r.journal, file, &err), &err, VD_ERR_IO);
    }
    done(&r);
}
END_TEST

/* ---- J6 */

/* What the journal has become is refused before anything is written. */
static void expect_refused(struct repair *r, const char *what)
{
    struct vd_err err = VD_ERR_INIT;
    size_t events = r->log->n;

    ck_assert_msg(vd_journal_verify(r->journal, r->file, VD_MATCH_EITHER, &err) < 0, "taken: %s", what);
    ck_assert_msg(err.kind == VD_ERR_FORMAT, "%s: another kind of error: %s", what, err.story);
    ck_assert_uint_eq(r->log->n, events);
}

/* Changes one byte of a record's blob; place: 0 the first, 1 a middle one, 2 the last. false where it has
 * none. */
static bool spoil_blob(struct repair *r, int record, const char *column, int place)
{
    char sql[500];
    long long len, at;

    snprintf(sql, sizeof(sql), "SELECT length(%s) FROM record WHERE id = %d", column, record);
    len = ask_sql("undo", sql);
    if (len <= 0)
        return false;
    at = place == 0 ? 0 : place == 1 ? len / 2 : len - 1;
    snprintf(sql, sizeof(sql),
             "UPDATE record SET %1$s = CAST(substr(%1$s, 1, %2$lld) ||"
             " CASE WHEN substr(%1$s, %3$lld, 1) = x'00' THEN x'01' ELSE x'00' END ||"
             " substr(%1$s, %4$lld) AS BLOB) WHERE id = %5$d",
             column, at, at + 1, at + 2, record);
    spoil(r, sql);
    return true;
}

START_TEST(j6_a_changed_byte_of_a_blob_is_refused)
{
    struct repair r = growing("undo");
    int spoiled = 0;

    set_state(&r, VD_JOURNAL_PREPARED);
    for (int record = 1; record <= 5; record++)
        for (int place = 0; place < 6; place++)
            if (spoil_blob(&r, record, place < 3 ? "old" : "new", place % 3)) {
                expect_refused(&r, "a changed byte");
                spoiled++;
            }
    ck_assert_int_ge(spoiled, 5 * 3 + 4 * 3);
    done(&r);
}
END_TEST

START_TEST(j6_a_record_that_cannot_be_is_refused)
{
    static const char *const updates[] = {
        "UPDATE record SET new_xxh = new_xxh + 1 WHERE id = 2",
        "UPDATE record SET old_xxh = 0 WHERE id = 3",
        "UPDATE record SET new = NULL WHERE id = 2",
        "UPDATE record SET new = x'' WHERE id = 2",
        "UPDATE record SET new = x'00' || new WHERE id = 2",
        "UPDATE record SET new = zeroblob(300000) WHERE id = 2",
        "UPDATE record SET new_len = new_len - 1 WHERE id = 2",
        "UPDATE record SET new_len = new_len + 1 WHERE id = 2",
        "UPDATE record SET new_len = -1 WHERE id = 2",
        "UPDATE record SET new_len = 1 << 40 WHERE id = 2",
        "UPDATE record SET old_len = 'many' WHERE id = 2",
        "UPDATE record SET offset = -4096 WHERE id = 2",
        "UPDATE record SET offset = 9223372036854775807 WHERE id = 2",
        "DELETE FROM meta WHERE key = 'old_length'",
        "DELETE FROM meta WHERE key = 'new_length'",
        "DELETE FROM meta WHERE key = 'records_xxh'",
        "DELETE FROM record WHERE id = 2",
    };

    struct repair r = growing("undo");

    set_state(&r, VD_JOURNAL_PREPARED);
    for (size_t i = 0; i < VD_ARRAY_SIZE(updates); i++) {
        spoil(&r, updates[i]);
        expect_refused(&r, updates[i]);
    }
    done(&r);
}
END_TEST

START_TEST(j6_a_damaged_record_is_never_written)
{
    struct repair r = growing("undo");
    struct vd_err err;

    set_state(&r, VD_JOURNAL_PREPARED);
    spoil(&r, "UPDATE record SET new_xxh = new_xxh + 1, old_xxh = old_xxh + 1");
    must_fail(vd_journal_roll_forward(r.journal, r.file, &err), &err, VD_ERR_FORMAT);
    must_fail(vd_journal_roll_back(r.journal, r.file, &err), &err, VD_ERR_FORMAT);
    for (size_t i = 0; i < r.log->n; i++)
        ck_assert_int_ne(r.log->v[i].op, VD_FAULT_WRITE);
    done(&r);
}
END_TEST

START_TEST(j6_a_state_that_cannot_be_read_is_an_error_and_not_empty)
{
    struct repair r = growing("undo");
    enum vd_journal_state state;
    struct vd_err err = VD_ERR_INIT;
    uint8_t noise[16384];
    int fd;

    set_state(&r, VD_JOURNAL_PREPARED);
    spoil(&r, "UPDATE meta SET value = 'perhaps' WHERE key = 'state'");
    must_fail(vd_journal_state(r.journal, &state, &err), &err, VD_ERR_FORMAT);
    spoil(&r, "DELETE FROM meta WHERE key = 'state'");
    must_fail(vd_journal_state(r.journal, &state, &err), &err, VD_ERR_FORMAT);
    vd_journal_close(r.journal);
    /* The second page of the file is where the first table begins. */
    vd_unit_noise(noise, sizeof(noise), 8);
    fd = open("undo", O_WRONLY);
    ck_assert_int_eq(pwrite(fd, noise, sizeof(noise), sizeof(noise)), sizeof(noise));
    close(fd);
    r.journal = vd_journal_open("undo", false, &err);
    if (r.journal)
        must_fail(vd_journal_state(r.journal, &state, &err), &err, VD_ERR_FORMAT);
    done(&r);
}
END_TEST

/* ---- J7 */

START_TEST(j7_foreign_bytes_in_a_recorded_sector_are_refused)
{
    struct repair r = growing(":memory:");
    struct vd_err err = VD_ERR_INIT;

    set_state(&r, VD_JOURNAL_PREPARED);
    for (size_t i = 0; i < r.blocks_n; i++) {
        size_t at = r.blocks[i].offset + (i * 397) % BLOCK, len;

        set_disk(&r, r.new, r.new_len);
        vd_memory_bytes(r.disk, &len)[at] ^= 0x80;
        must_fail(vd_journal_verify(r.journal, r.file, VD_MATCH_EITHER, &err), &err, VD_ERR_REFUSED);
        must_fail(vd_journal_verify(r.journal, r.file, VD_MATCH_NEW, &err), &err, VD_ERR_REFUSED);
    }
    ck_assert_uint_eq(r.log->n, 0);
    done(&r);
}
END_TEST

START_TEST(j7_a_sector_half_old_and_half_new_is_foreign)
{
    struct repair r = growing(":memory:");
    struct vd_err err = VD_ERR_INIT;

    set_state(&r, VD_JOURNAL_PREPARED);
    set_disk(&r, r.old, r.old_len);
    memcpy(vd_memory_bytes(r.disk, &(size_t){0}) + 11 * BLOCK, r.new + 11 * BLOCK, SECTOR + 100);
    must_fail(vd_journal_verify(r.journal, r.file, VD_MATCH_EITHER, &err), &err, VD_ERR_REFUSED);
    done(&r);
}
END_TEST

START_TEST(j7_another_length_is_refused)
{
    struct vd_err err = VD_ERR_INIT;

    for (size_t i = 0; i < VD_ARRAY_SIZE(makers); i++) {
        struct repair repair = makers[i](":memory:"), *r = &repair;

        set_state(r, VD_JOURNAL_PREPARED);
        set_disk(r, r->new, r->new_len);
        must(bdrv_truncate(r->disk, (int64_t)r->new_len + 1, &err), &err);
        must_fail(vd_journal_verify(r->journal, r->file, VD_MATCH_EITHER, &err), &err, VD_ERR_REFUSED);
        must(bdrv_truncate(r->disk, (int64_t)r->new_len - 1, &err), &err);
        must_fail(vd_journal_verify(r->journal, r->file, VD_MATCH_EITHER, &err), &err, VD_ERR_REFUSED);
        done(r);
    }
}
END_TEST

START_TEST(j7_only_the_new_image_matches_a_committed_repair)
{
    struct repair r = cutting(":memory:");
    struct vd_err err = VD_ERR_INIT;

    set_state(&r, VD_JOURNAL_PREPARED);
    must_fail(vd_journal_verify(r.journal, r.file, VD_MATCH_NEW, &err), &err, VD_ERR_REFUSED);
    must(vd_journal_verify(r.journal, r.file, VD_MATCH_EITHER, &err), &err);
    set_disk(&r, r.new, r.new_len);
    must(vd_journal_verify(r.journal, r.file, VD_MATCH_NEW, &err), &err);
    memcpy(vd_memory_bytes(r.disk, &(size_t){0}) + 10 * BLOCK, r.old + 10 * BLOCK, SECTOR);
    must_fail(vd_journal_verify(r.journal, r.file, VD_MATCH_NEW, &err), &err, VD_ERR_REFUSED);
    must(vd_journal_verify(r.journal, r.file, VD_MATCH_EITHER, &err), &err);
    done(&r);
}
END_TEST

START_TEST(j7_an_image_that_cannot_be_read_is_not_taken)
{
    struct repair r = growing(":memory:");
    struct vd_err err = VD_ERR_INIT;
    struct vd_fault_rule rule = {.errnum = 5, .offset = 11 * BLOCK, .bytes = 1};

    set_state(&r, VD_JOURNAL_PREPARED);
    must(vd_fault_add(r.file, &rule, &err), &err);
    must_fail(vd_journal_verify(r.journal, r.file, VD_MATCH_EITHER, &err), &err, VD_ERR_IO);
    done(&r);
}
END_TEST

/* ---- J8 */

/* The stage of the block at this offset; blocks that are none are tables (the tail). */
static enum vd_stage stage_at(const struct repair *r, int64_t offset)
{
    for (size_t i = 0; i < r->blocks_n; i++)
        if ((int64_t)r->blocks[i].offset == offset)
            return r->blocks[i].stage;
    return VD_STAGE_TABLE;
}

static unsigned stages_of(const struct repair *r)
{
    unsigned stages = 0;

    for (size_t i = 0; i < r->blocks_n; i++)
        stages |= 1u << r->blocks[i].stage;
    return stages;
}

START_TEST(j8_each_stage_begins_behind_a_flush)
{
    struct vd_err err = VD_ERR_INIT;

    for (size_t i = 0; i < VD_ARRAY_SIZE(makers); i++) {
        struct repair repair = makers[i](":memory:"), *r = &repair;
        enum vd_stage stage = VD_STAGE_NEW;
        bool is_flushed = true;
        unsigned stages = 0;

        set_state(r, VD_JOURNAL_PREPARED);
        must(vd_journal_roll_forward(r->journal, r->file, &err), &err);
        for (size_t k = 0; k < r->log->n; k++) {
            const struct vd_fault_event *e = &r->log->v[k];

            if (e->op == VD_FAULT_FLUSH)
                is_flushed = true;
            if (e->op != VD_FAULT_WRITE)
                continue;
            ck_assert_int_ge(stage_at(r, e->offset), stage);
            ck_assert(stage_at(r, e->offset) == stage || is_flushed);
            stages |= 1u << stage_at(r, e->offset);
            stage = stage_at(r, e->offset);
            is_flushed = false;
        }
        ck_assert_uint_eq(stages, stages_of(r));
        done(r);
    }
}
END_TEST

START_TEST(j8_the_file_grows_first_and_is_cut_between_tables_and_flags)
{
    struct repair grow = growing(":memory:"), cut = cutting(":memory:");
    struct vd_err err = VD_ERR_INIT;
    int truncations = 0;

    set_state(&grow, VD_JOURNAL_PREPARED);
    must(vd_journal_roll_forward(grow.journal, grow.file, &err), &err);
    ck_assert_int_eq(grow.log->v[0].op, VD_FAULT_TRUNCATE);
    ck_assert_int_eq(grow.log->v[0].offset, (int64_t)grow.new_len);
    set_state(&cut, VD_JOURNAL_PREPARED);
    must(vd_journal_roll_forward(cut.journal, cut.file, &err), &err);
    for (size_t k = 0; k < cut.log->n; k++) {
        const struct vd_fault_event *e = &cut.log->v[k];

        if (e->op == VD_FAULT_WRITE)
            ck_assert_int_eq(truncations, stage_at(&cut, e->offset) == VD_STAGE_FLAG);
        if (e->op != VD_FAULT_TRUNCATE)
            continue;
        truncations++;
        ck_assert_int_eq(e->offset, (int64_t)cut.new_len);
        ck_assert_int_eq(cut.log->v[k - 1].op, VD_FAULT_FLUSH);
        ck_assert_int_eq(cut.log->v[k + 1].op, VD_FAULT_FLUSH);
    }
    ck_assert_int_eq(truncations, 1);
    done(&grow);
    done(&cut);
}
END_TEST

/* ---- on files */

START_TEST(a_tail_comes_back_with_its_length_its_bytes_and_its_holes)
{
    enum { LENGTH = 8 << 20, DATA = 5 << 20 };
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    vd_auto(BlockDriverState) file = vd_file_create("image", false, &err);
    vd_auto(BlockDriverState) over = NULL;
    vd_auto(vd_journal) journal = NULL;
    uint8_t noise[BLOCK], back[BLOCK];
    uint64_t writes, bytes;
    struct stat st;

    must_have(file, &err);
    vd_unit_noise(noise, sizeof(noise), 1);
    must(bdrv_truncate(file, LENGTH, &err), &err);
    must(bdrv_pwrite(file, 0, BLOCK, noise, VD_STAGE_NEW, &err), &err);
    must(bdrv_pwrite(file, DATA, BLOCK, noise, VD_STAGE_NEW, &err), &err);
    over = vd_overlay_new(file, NULL, &err);
    must(bdrv_truncate(over, BLOCK, &err), &err);
    journal = vd_journal_create("undo", NULL, &err);
    must_have(journal, &err);
    must(vd_journal_fill(journal, file, over, &budget, &writes, &bytes, &err), &err);
    ck_assert_uint_eq(writes, 0);
    must(vd_journal_set_state(journal, VD_JOURNAL_PREPARED, &err), &err);
    ck_assert_int_le(ask_sql("undo", "SELECT sum(old_len) FROM record"), 64 << 10);
    must(vd_journal_roll_forward(journal, file, &err), &err);
    ck_assert_int_eq(stat("image", &st), 0);
    ck_assert_int_eq(st.st_size, BLOCK);
    must(vd_journal_verify(journal, file, VD_MATCH_NEW, &err), &err);
    must(vd_journal_roll_back(journal, file, &err), &err);
    ck_assert_int_eq(stat("image", &st), 0);
    ck_assert_int_eq(st.st_size, LENGTH);
    ck_assert_int_lt(st.st_blocks * 512, 1 << 20);
    must(bdrv_pread(file, DATA, BLOCK, back, &err), &err);
    ck_assert_mem_eq(back, noise, BLOCK);
    ck_assert(bdrv_is_hole(file, BLOCK, DATA - BLOCK));
}
END_TEST

START_TEST(what_a_commit_will_write_is_told)
{
    struct repair r = begin(OLD_BLOCKS * BLOCK);
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    uint64_t writes = 0, bytes = 0;

    change(&r, 2 * BLOCK, 8, VD_STAGE_TABLE, 1);
    change(&r, 4 * BLOCK, 2 * BLOCK, VD_STAGE_TABLE, 2);
    r.journal = vd_journal_create(":memory:", NULL, &err);
    must(vd_journal_fill(r.journal, r.file, r.over, &budget, &writes, &bytes, &err), &err);
    ck_assert_uint_eq(writes, 2);
    ck_assert_uint_eq(bytes, 3 * BLOCK);
    done(&r);
}
END_TEST

START_TEST(a_signal_ends_the_filling)
{
    struct repair r = begin(OLD_BLOCKS * BLOCK);
    volatile sig_atomic_t flag = 1;
    struct vd_err err = VD_ERR_INIT;
    struct vd_budget budget = VD_BUDGET_INIT;
    uint64_t writes, bytes;

    budget.cancelled = &flag;
    change(&r, 2 * BLOCK, 8, VD_STAGE_TABLE, 1);
    r.journal = vd_journal_create(":memory:", NULL, &err);
    must_fail(vd_journal_fill(r.journal, r.file, r.over, &budget, &writes, &bytes, &err), &err,
              VD_ERR_CANCELLED);
    done(&r);
}
END_TEST

START_TEST(a_repair_follows_the_one_that_left_the_file_as_it_began)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) file = vd_file_create("image", false, &err);
    vd_auto(vd_journal) first = vd_journal_create("undo", NULL, &err);
    vd_auto(vd_journal) second = vd_journal_create("undo.1", NULL, &err);
    vd_auto(vd_journal) stranger = vd_journal_create("undo.2", NULL, &err);
    struct timespec later[2] = {
        {.tv_nsec = UTIME_OMIT},
        { .tv_sec = 2000000000,         .tv_nsec = 5}
    };

    must(vd_journal_note_before(first, file, &err), &err);
    must(bdrv_pwrite(file, 0, 3, "abc", VD_STAGE_NEW, &err), &err);
    must(vd_journal_note_file(first, file, &err), &err);
    must(vd_journal_note_before(second, file, &err), &err);
    must(vd_journal_note_file(second, file, &err), &err);
    ck_assert(vd_journal_follows(second, first));
    ck_assert_int_eq(utimensat(AT_FDCWD, "image", later, 0), 0);
    bdrv_unref(vd_take(&file));
    file = vd_file_open("image", 0, &err);
    must(vd_journal_note_before(stranger, file, &err), &err);
    must(vd_journal_note_file(stranger, file, &err), &err);
    ck_assert(!vd_journal_follows(stranger, first));
}
END_TEST

UNIT_TESTS("journal", a_new_journal_replaces_nothing_and_belongs_to_the_owner_alone,
           the_undo_file_has_the_owner_of_the_image, what_is_no_journal_is_not_opened,
           a_journal_of_another_version_is_not_opened, named_values_are_kept,
           each_state_is_kept_over_a_reopen, kept_leaks_are_kept, j1_a_journal_that_was_not_prepared_is_empty,
           j1_a_process_killed_while_it_fills_leaves_an_empty_journal,
           j2_records_and_state_become_visible_together, j3_preparing_writes_nothing_to_the_image,
           j3_old_and_new_bytes_are_all_there, j3_blocks_that_were_written_and_not_changed_need_no_record,
           j3_a_tail_cut_off_and_grown_past_the_old_end_is_recorded,
           bytes_that_compress_are_compressed_and_others_are_not,
           j4_any_mix_of_old_and_new_sectors_leads_to_either_image, j4_rolling_twice_is_rolling_once,
           j4_a_roll_cut_off_anywhere_goes_on_in_both_directions, j5_a_flush_stands_behind_the_last_write,
           j5_a_flush_that_fails_is_no_success, j6_a_changed_byte_of_a_blob_is_refused,
           j6_a_record_that_cannot_be_is_refused, j6_a_damaged_record_is_never_written,
           j6_a_state_that_cannot_be_read_is_an_error_and_not_empty,
           j7_foreign_bytes_in_a_recorded_sector_are_refused, j7_a_sector_half_old_and_half_new_is_foreign,
           j7_another_length_is_refused, j7_only_the_new_image_matches_a_committed_repair,
           j7_an_image_that_cannot_be_read_is_not_taken, j8_each_stage_begins_behind_a_flush,
           j8_the_file_grows_first_and_is_cut_between_tables_and_flags,
           a_tail_comes_back_with_its_length_its_bytes_and_its_holes, what_a_commit_will_write_is_told,
           a_signal_ends_the_filling, a_repair_follows_the_one_that_left_the_file_as_it_began)
