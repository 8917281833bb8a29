/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Invariants of the journal; tests name them by their numbers.
 *
 * J1: While the state is EMPTY, no byte of the image has been written.
 * J2: The state becomes PREPARED in the same SQLite transaction that holds all records, and that transaction
 * is on stable storage, with the entry of the file in its folder, before J3 begins. J3: No byte of the image
 * is written before its old and its new content are in a PREPARED journal. J4: While the state is PREPARED or
 * UNDOING, every 512-byte sector of a recorded block is the old or the new one; so both rolling forward and
 * rolling back lead to a whole image, from any point, any number of times. J5: The state becomes COMMITTED
 * (UNDONE) only after a flush behind the last write of the new (old) bytes. J6: A record is used only if its
 * XXH3 fits and no record is missing; nothing is written from a journal that is damaged, and none that was
 * ever prepared is taken for an empty one. J7: Before rolling, every sector of every
 * record is compared (J4); anything else refuses, and nothing is written. J8: Writes of stage n + 1 begin
 * after a flush behind the writes of stage n; the file is cut off after the tables and before the flags.
 *
 * The order of J8 is for readers who do not know of the journal; J1 to J7 do not rely on it.
 * SQLite runs with journal_mode=DELETE and synchronous=EXTRA: with FULL a power cut may bring its deleted
 * rollback journal back, and the transaction would be gone although it was reported.
 */
#include "repair/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>

#include "checker/database.h"
#include "formats/base/bytes.h"
#include "formats/base/span.h"
#include "formats/node/file.h"
#include "formats/node/overlay.h"

enum {
    RECORD_MAX = 256 * 1024, /* bytes of one record */
    SECTOR = 512,
    APPLICATION_ID = 0x76644a31, /* "vdJ1" */
};

struct vd_journal {
    sqlite3 *db;
    char *path;
    bool in_transaction;
    uint8_t *old, *new, *now; /* RECORD_MAX bytes each; NULL until records are used */
};

static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE record(id INTEGER PRIMARY KEY, stage INTEGER NOT NULL, offset INTEGER NOT NULL,"
    " old_len INTEGER NOT NULL, old BLOB, old_xxh INTEGER NOT NULL,"
    " new_len INTEGER NOT NULL, new BLOB, new_xxh INTEGER NOT NULL, row_xxh INTEGER NOT NULL);"
    "CREATE TABLE kept_leak(first INTEGER NOT NULL, count INTEGER NOT NULL);";

static int db_fail(struct vd_journal *journal, struct vd_err *err)
{
    return vd_db_fail(journal->db, journal->path, err);
}

static int run_sql(struct vd_journal *journal, const char *sql, struct vd_err *err)
{
    return vd_db_run(journal->db, journal->path, sql, err);
}

static int begin(struct vd_journal *journal, struct vd_err *err)
{
    if (journal->in_transaction)
        return 0;
    if (run_sql(journal, "BEGIN IMMEDIATE", err) < 0)
        return -1;
    journal->in_transaction = true;
    return 0;
}

int vd_journal_sync_folder(const char *path, struct vd_err *err)
{
    vd_auto_mem char *folder = strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    int fd, rc;

    if (!folder)
        return vd_fail_memory(err);
    if (slash)
        slash[slash == folder ? 1 : 0] = '\0';
    fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0)
        close(fd);
    /* Some file systems cannot sync a folder; they say so by EINVAL. */
    if (rc < 0 && errno != EINVAL)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot sync the folder", path);
    return 0;
}

static int commit(struct vd_journal *journal, struct vd_err *err)
{
    if (run_sql(journal, "COMMIT", err) < 0)
        return -1;
    journal->in_transaction = false;
    return strcmp(journal->path, ":memory:") == 0 ? 0 : vd_journal_sync_folder(journal->path, err);
}

static struct vd_journal *open_db(const char *path, int flags, struct vd_err *err)
{
    struct vd_journal *journal = calloc(1, sizeof(*journal));

    if (journal)
        journal->path = strdup(path);
    if (!journal || !journal->path) {
        free(journal);
        vd_fail_memory(err);
        return NULL;
    }
    journal->db = vd_db_open(path, flags, 2000, err);
    if (!journal->db) {
        vd_journal_close(journal);
        return NULL;
    }
    return journal;
}

/* The file is made before SQLite opens it, so that nobody but the image's owner ever reads guest data from
 * it. */
static int make_file(const char *path, const struct stat *like, struct vd_err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot create the undo file", path);
    if (like) {
        /* Not being allowed to give the file away leaves it stricter, not wider. */
        bool is_theirs = fchown(fd, like->st_uid, like->st_gid) == 0 ||
                         (like->st_uid == geteuid() && fchown(fd, (uid_t)-1, like->st_gid) == 0);

        /* A read-only image does not make its undo file one. */
        (void)fchmod(fd, 0600 | (is_theirs ? like->st_mode & 0666 : 0));
    }
    close(fd);
    return 0;
}

struct vd_journal *vd_journal_create(const char *path, const struct stat *like, struct vd_err *err)
{
    bool in_memory = strcmp(path, ":memory:") == 0;
    vd_auto(vd_journal) journal = NULL;

    if (!in_memory && make_file(path, like, err) < 0)
        return NULL;
    journal = open_db(path, SQLITE_OPEN_READWRITE, err);
    if (!journal ||
        run_sql(journal, "PRAGMA page_size=16384; PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA",
                err) < 0 ||
        begin(journal, err) < 0 || run_sql(journal, schema, err) < 0 ||
        run_sql(journal, "PRAGMA application_id=1986284081; PRAGMA user_version=1", err) < 0) {
        if (!in_memory)
            (void)unlink(path);
        return NULL;
    }
    _Static_assert(APPLICATION_ID == 1986284081, "the pragma has the number in decimal");
    return vd_take(&journal);
}

/* -1: it cannot be had. */
static int64_t ask_number(struct vd_journal *journal, const char *sql)
{
    int64_t number = -1;

    (void)vd_db_number(journal->db, journal->path, sql, &number, NULL);
    return number;
}

/* A process was killed in the middle of a transaction: SQLite must take it back before anybody can read, and
 * that writes (to the journal's own file alone). */
static bool needs_rollback(struct vd_journal *journal)
{
    return ask_number(journal, "PRAGMA application_id") < 0 &&
           sqlite3_extended_errcode(journal->db) == SQLITE_READONLY_ROLLBACK;
}

/* Made, and never prepared: all of the first transaction is there, or nothing. */
static bool is_blank(struct vd_journal *journal)
{
    return ask_number(journal, "PRAGMA application_id") == 0 &&
           ask_number(journal, "SELECT count(*) FROM sqlite_master") == 0;
}

struct vd_journal *vd_journal_open(const char *path, bool writable, struct vd_err *err)
{
    vd_auto(vd_journal) journal = open_db(path, writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY, err);

    if (!journal)
        return NULL;
    if (!writable && needs_rollback(journal)) {
        vd_journal_close(vd_take(&journal));
        return vd_journal_open(path, true, err);
    }
    /* SQLite opens what may not be written for reading, whatever it was asked for. */
    if (writable && needs_rollback(journal)) {
        vd_fail(err, VD_ERR_REFUSED, 0,
                "%s: a repair was cut off while it wrote this undo file, which must be written to be read",
                path);
        return NULL;
    }
    if (writable && run_sql(journal, "PRAGMA synchronous=EXTRA", err) < 0)
        return NULL;
    if (is_blank(journal))
        return vd_take(&journal);
    if (ask_number(journal, "PRAGMA application_id") != APPLICATION_ID ||
        ask_number(journal, "PRAGMA user_version") != 1) {
        vd_fail(err, VD_ERR_FORMAT, 0, "%s: not an undo file of this version of vdcheck", path);
        return NULL;
    }
    return vd_take(&journal);
}

void vd_journal_close(struct vd_journal *journal)
{
    sqlite3_close(journal->db);
    free(journal->path);
    free(journal->old);
    free(journal->new);
    free(journal->now);
    free(journal);
}

const char *vd_journal_path(const struct vd_journal *journal)
{
    return journal->path;
}

int vd_journal_set(struct vd_journal *journal, const char *key, const char *value, struct vd_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    if (begin(journal, err) < 0)
        return -1;
    rc = sqlite3_prepare_v2(journal->db, "INSERT OR REPLACE INTO meta VALUES(?1, ?2)", -1, &stmt, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
        sqlite3_bind_text(stmt, 2, value, -1, SQLITE_STATIC);
        rc = sqlite3_step(stmt);
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? 0 : db_fail(journal, err);
}

int vd_journal_set_number(struct vd_journal *journal, const char *key, int64_t value, struct vd_err *err)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64, value);
    return vd_journal_set(journal, key, text, err);
}

char *vd_journal_get(struct vd_journal *journal, const char *key)
{
    sqlite3_stmt *stmt = NULL;
    char *value = NULL;

    if (sqlite3_prepare_v2(journal->db, "SELECT value FROM meta WHERE key = ?1", -1, &stmt, NULL) ==
        SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
        if (sqlite3_step(stmt) == SQLITE_ROW && sqlite3_column_text(stmt, 0))
            value = strdup((const char *)sqlite3_column_text(stmt, 0));
    }
    sqlite3_finalize(stmt);
    return value;
}

int64_t vd_journal_get_number(struct vd_journal *journal, const char *key, int64_t otherwise)
{
    vd_auto_mem char *text = vd_journal_get(journal, key);

    return text ? strtoll(text, NULL, 10) : otherwise;
}

/* ---- filling */

struct fill {
    struct vd_journal *journal;
    struct BlockDriverState *file, *overlay;
    int64_t old_length, new_length;
    sqlite3_stmt *insert;
    uint64_t records_xxh;
    uint8_t *old, *new, *packed;
    uint64_t writes, bytes;
};

/* What a row says beside its bytes. */
static sqlite3_int64 row_hash(int stage, int64_t offset, uint64_t old_xxh, size_t old_len, uint64_t new_xxh,
                              size_t new_len)
{
    uint64_t row[] = {(uint64_t)stage, (uint64_t)offset, old_xxh, old_len, new_xxh, new_len};

    return (sqlite3_int64)XXH3_64bits(row, sizeof(row));
}

/* The hash of all rows, from the first one on: that of those before, and the next one's. */
static uint64_t chain_hash(uint64_t before, sqlite3_int64 row_xxh)
{
    uint64_t link[] = {before, (uint64_t)row_xxh};

    return XXH3_64bits(link, sizeof(link));
}

/* Binds bytes, compressed where that makes them shorter. Their XXH3 is that of the plain bytes. */
static int bind_bytes(struct fill *f, int column, const uint8_t *bytes, size_t len, uint8_t *packed)
{
    uLongf packed_len = compressBound(RECORD_MAX);

    sqlite3_bind_int64(f->insert, column, (sqlite3_int64)len);
    sqlite3_bind_int64(f->insert, column + 2, (sqlite3_int64)XXH3_64bits(bytes, len));
    if (len && compress2(packed, &packed_len, bytes, len, 1) == Z_OK && packed_len < len)
        return sqlite3_bind_blob64(f->insert, column + 1, packed, packed_len, SQLITE_TRANSIENT);
    return sqlite3_bind_blob64(f->insert, column + 1, bytes, len, SQLITE_STATIC);
}

static size_t bytes_before(int64_t end, int64_t offset, size_t len)
{
    return offset >= end ? 0 : (size_t)vd_min(len, (uint64_t)(end - offset));
}

static int put_record(struct fill *f, enum vd_stage stage, int64_t offset, size_t len, struct vd_err *err)
{
    size_t old_len = bytes_before(f->old_length, offset, len),
           new_len = bytes_before(f->new_length, offset, len);
    sqlite3_int64 row_xxh;
    int rc;

    if (bdrv_pread(f->file, offset, (int64_t)old_len, f->old, err) < 0 ||
        bdrv_pread(f->overlay, offset, (int64_t)new_len, f->new, err) < 0)
        return -1;
    if (old_len == new_len && memcmp(f->old, f->new, old_len) == 0)
        return 0;
    sqlite3_reset(f->insert);
    sqlite3_bind_int(f->insert, 1, stage);
    sqlite3_bind_int64(f->insert, 2, offset);
    rc = bind_bytes(f, 3, f->old, old_len, f->packed);
    if (rc == SQLITE_OK)
        rc = bind_bytes(f, 6, f->new, new_len, f->packed);
    row_xxh =
        row_hash(stage, offset, XXH3_64bits(f->old, old_len), old_len, XXH3_64bits(f->new, new_len), new_len);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(f->insert, 9, row_xxh);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(f->insert);
    if (rc != SQLITE_DONE)
        return db_fail(f->journal, err);
    f->records_xxh = chain_hash(f->records_xxh, row_xxh);
    if (new_len) {
        f->writes++;
        f->bytes += new_len;
    }
    return 0;
}

/* Blocks of one stage that stand side by side make one record. */
static int put_blocks(struct fill *f, struct vd_budget *budget, struct vd_err *err)
{
    size_t n;
    struct vd_err why = VD_ERR_INIT;
    vd_auto_mem struct vd_overlay_block *block = vd_overlay_list(f->overlay, &n, &why);

    if (!block && why.kind) {
        *err = why;
        return -1;
    }
    for (size_t i = 0, k; i < n; i = k) {
        if (vd_budget_go_on(budget, err) < 0)
            return -1;
        for (k = i + 1; k < n && block[k].stage == block[i].stage &&
                        block[k].offset - block[i].offset == (k - i) * VD_OVERLAY_BLOCK &&
                        (k - i) * VD_OVERLAY_BLOCK < RECORD_MAX;
             k++)
            ;
        if (put_record(f, block[i].stage, (int64_t)block[i].offset, (k - i) * VD_OVERLAY_BLOCK, err) < 0)
            return -1;
        vd_budget_progress(budget, "blocks of the undo file", k, n);
    }
    return 0;
}

/* How much of the file from `at` on may still have to be recorded; 0: *skip bytes are in blocks above. What
 * was cut off and is part of the overlay again reads as zeroes between its blocks. */
static int64_t bytes_to_record(struct fill *f, int64_t at, int64_t *skip, struct vd_err *err)
{
    int64_t pnum = 0;
    int status;

    if (at >= f->new_length)
        return (int64_t)vd_min((uint64_t)(f->old_length - at), (uint64_t)1 << 40);
    status = bdrv_block_status(f->overlay, at,
                               (int64_t)vd_min((uint64_t)f->old_length, (uint64_t)f->new_length) - at, &pnum,
                               NULL, err);
    if (status < 0)
        return -1;
    *skip = pnum;
    return status & BDRV_BLOCK_DATA ? 0 : pnum;
}

/* What was cut off and is not in a block above; holes come back as holes. */
static int put_tail(struct fill *f, struct vd_budget *budget, struct vd_err *err)
{
    int64_t cut = (int64_t)vd_min((uint64_t)f->new_length, (uint64_t)vd_overlay_low_water(f->overlay));
    int64_t at = (int64_t)vd_align_up_sat((uint64_t)cut, VD_OVERLAY_BLOCK);

    /* Where the cut is inside a block that was not written, its rest is recorded with the block. */
    if (cut % VD_OVERLAY_BLOCK && cut < f->old_length &&
        put_record(f, VD_STAGE_TABLE, at - VD_OVERLAY_BLOCK, VD_OVERLAY_BLOCK, err) < 0)
        return -1;
    while (at < f->old_length) {
        int64_t pnum = 0, most = bytes_to_record(f, at, &pnum, err);
        int status = most > 0 ? bdrv_block_status(f->file, at, most, &pnum, NULL, err) : (int)most;

        if (status < 0 || vd_budget_go_on(budget, err) < 0)
            return -1;
        if (most && !(status & BDRV_BLOCK_ZERO)) {
            pnum = (int64_t)vd_min((uint64_t)pnum, RECORD_MAX);
            if (put_record(f, VD_STAGE_TABLE, at, (size_t)pnum, err) < 0)
                return -1;
        }
        at += pnum;
        vd_budget_progress(budget, "MiB cut off", (uint64_t)at >> 20, (uint64_t)f->old_length >> 20);
    }
    return 0;
}

/* What a journal says of all its records together. */
struct extent {
    int64_t old_length, new_length, records_xxh;
};

static int64_t extent_hash(const struct extent *extent)
{
    return (int64_t)XXH3_64bits(extent, sizeof(*extent));
}

static int set_extent(struct vd_journal *journal, const struct extent *extent, struct vd_err *err)
{
    if (vd_journal_set_number(journal, "old_length", extent->old_length, err) < 0 ||
        vd_journal_set_number(journal, "new_length", extent->new_length, err) < 0 ||
        vd_journal_set_number(journal, "records_xxh", extent->records_xxh, err) < 0)
        return -1;
    return vd_journal_set_number(journal, "extent_xxh", extent_hash(extent), err);
}

/* What is missing reads as 0, and the hash tells it. */
static int get_extent(struct vd_journal *journal, struct extent *extent, struct vd_err *err)
{
    static const char sql[] = "SELECT (SELECT value FROM meta WHERE key = 'old_length'),"
                              " (SELECT value FROM meta WHERE key = 'new_length'),"
                              " (SELECT value FROM meta WHERE key = 'records_xxh'),"
                              " (SELECT value FROM meta WHERE key = 'extent_xxh')";
    sqlite3_stmt *stmt = NULL;
    int64_t hash = 0;
    int rc = sqlite3_prepare_v2(journal->db, sql, -1, &stmt, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        extent->old_length = sqlite3_column_int64(stmt, 0);
        extent->new_length = sqlite3_column_int64(stmt, 1);
        extent->records_xxh = sqlite3_column_int64(stmt, 2);
        hash = sqlite3_column_int64(stmt, 3);
    } else {
        db_fail(journal, err);
    }
    sqlite3_finalize(stmt);
    if (rc != SQLITE_ROW)
        return -1;
    if (extent->old_length < 0 || extent->new_length < 0 || hash != extent_hash(extent))
        return vd_fail(err, VD_ERR_FORMAT, 0,
                       "%s: the journal does not say soundly how long the image was and what it holds",
                       journal->path);
    return 0;
}

int vd_journal_fill(struct vd_journal *journal, struct BlockDriverState *file,
                    struct BlockDriverState *overlay, struct vd_budget *budget, uint64_t *writes,
                    uint64_t *bytes, struct vd_err *err)
{
    struct fill f = {.journal = journal, .file = file, .overlay = overlay};
    vd_auto_mem uint8_t *old = malloc(RECORD_MAX);
    vd_auto_mem uint8_t *new = malloc(RECORD_MAX);
    vd_auto_mem uint8_t *packed = malloc(compressBound(RECORD_MAX));
    int rc = 0;

    if (!old || !new || !packed)
        return vd_fail_memory(err);
    f.old = old;
    f.new = new;
    f.packed = packed;
    f.old_length = bdrv_getlength(file, err);
    f.new_length = bdrv_getlength(overlay, err);
    if (f.old_length < 0 || f.new_length < 0 || begin(journal, err) < 0)
        return -1;
    if (sqlite3_prepare_v2(
            journal->db,
            "INSERT INTO record(stage, offset, old_len, old, old_xxh, new_len, new, new_xxh, row_xxh)"
            " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            -1, &f.insert, NULL) != SQLITE_OK)
        return db_fail(journal, err);
    if (put_blocks(&f, budget, err) < 0 || put_tail(&f, budget, err) < 0)
        rc = -1;
    sqlite3_finalize(f.insert);
    if (rc == 0)
        rc = set_extent(journal, &(struct extent){f.old_length, f.new_length, (int64_t)f.records_xxh}, err);
    *writes = f.writes;
    *bytes = f.bytes;
    if (rc < 0 || vd_journal_set_number(journal, "writes", (int64_t)f.writes, err) < 0)
        return -1;
    return vd_journal_set_number(journal, "bytes_written", (int64_t)f.bytes, err);
}

int vd_journal_keep_leaks(struct vd_journal *journal, const struct vd_runs *clusters, uint64_t cluster_size,
                          struct vd_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = SQLITE_DONE;

    if (vd_journal_set_number(journal, "cluster_size", (int64_t)cluster_size, err) < 0)
        return -1;
    if (sqlite3_prepare_v2(journal->db, "INSERT INTO kept_leak VALUES(?1, ?2)", -1, &stmt, NULL) != SQLITE_OK)
        return db_fail(journal, err);
    for (size_t i = 0; rc == SQLITE_DONE && i < clusters->n; i++) {
        sqlite3_reset(stmt);
        sqlite3_bind_int64(stmt, 1, (sqlite3_int64)clusters->v[i].first);
        sqlite3_bind_int64(stmt, 2, (sqlite3_int64)clusters->v[i].count);
        rc = sqlite3_step(stmt);
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? 0 : db_fail(journal, err);
}

int vd_journal_kept_leaks(struct vd_journal *journal, struct vd_runs *clusters, uint64_t *cluster_size,
                          struct vd_err *err)
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    *cluster_size = (uint64_t)vd_journal_get_number(journal, "cluster_size", 0);
    if (sqlite3_prepare_v2(journal->db, "SELECT first, count FROM kept_leak ORDER BY first", -1, &stmt,
                           NULL) != SQLITE_OK)
        return db_fail(journal, err);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        if (sqlite3_column_int64(stmt, 0) >= 0 && sqlite3_column_int64(stmt, 1) > 0 &&
            vd_runs_add(clusters, (uint64_t)sqlite3_column_int64(stmt, 0),
                        (uint64_t)sqlite3_column_int64(stmt, 1)) < 0)
            break;
    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? 0 : db_fail(journal, err);
}

/* ---- states */

static const char *const state_names[] = {[VD_JOURNAL_EMPTY] = "empty",
                                          [VD_JOURNAL_PREPARED] = "prepared",
                                          [VD_JOURNAL_COMMITTED] = "committed",
                                          [VD_JOURNAL_UNDOING] = "undoing",
                                          [VD_JOURNAL_UNDONE] = "undone"};

int vd_journal_set_state(struct vd_journal *journal, enum vd_journal_state state, struct vd_err *err)
{
    if (vd_journal_set(journal, "state", state_names[state], err) < 0)
        return -1;
    return commit(journal, err);
}

/* NULL in *name where nothing is on the disk yet. Anything else without a state is damaged (J2); an empty
 * journal is thrown away. */
static int read_state(struct vd_journal *journal, char **name, struct vd_err *err)
{
    sqlite3_stmt *stmt = NULL;
    const char *text;
    int rc;

    if (is_blank(journal))
        return 0;
    rc = sqlite3_prepare_v2(journal->db, "SELECT value FROM meta WHERE key = 'state'", -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        text = (const char *)sqlite3_column_text(stmt, 0);
        *name = text ? strdup(text) : NULL;
        if (!*name)
            rc = SQLITE_NOMEM;
    }
    if (rc == SQLITE_DONE && !journal->in_transaction)
        vd_fail(err, VD_ERR_FORMAT, 0, "%s: the journal has lost its state", journal->path);
    else if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        db_fail(journal, err);
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW || (rc == SQLITE_DONE && journal->in_transaction) ? 0 : -1;
}

int vd_journal_state(struct vd_journal *journal, enum vd_journal_state *state, struct vd_err *err)
{
    vd_auto_mem char *name = NULL;

    *state = VD_JOURNAL_EMPTY;
    if (read_state(journal, &name, err) < 0)
        return -1;
    for (size_t i = 0; name && i < VD_ARRAY_SIZE(state_names); i++)
        if (strcmp(name, state_names[i]) == 0) {
            *state = (enum vd_journal_state)i;
            return 0;
        }
    return name ? vd_fail(err, VD_ERR_FORMAT, 0, "%s: unknown state '%s'", journal->path, name) : 0;
}

/* ---- using the records */

struct record {
    enum vd_stage stage;
    int64_t offset;
    size_t old_len, new_len;
    uint8_t *old, *new; /* RECORD_MAX bytes each */
};

typedef int record_fn(struct vd_journal *journal, struct BlockDriverState *file, struct record *record,
                      void *opaque, struct vd_err *err);

/* J6: what does not hash as it should is not used. */
static int unpack(struct vd_journal *journal, sqlite3_stmt *stmt, int column, uint8_t *bytes, size_t *len,
                  struct vd_err *err)
{
    sqlite3_int64 plain = sqlite3_column_int64(stmt, column);
    const void *blob = sqlite3_column_blob(stmt, column + 1);
    int blob_len = sqlite3_column_bytes(stmt, column + 1);
    uLongf got = RECORD_MAX;

    *len = 0;
    if (plain < 0 || plain > RECORD_MAX || blob_len > plain)
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: a record of the journal is damaged", journal->path);
    if (blob_len == plain && plain)
        memcpy(bytes, blob, (size_t)plain);
    else if (plain && (uncompress(bytes, &got, blob, (uLong)blob_len) != Z_OK || got != (uLongf)plain))
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: a record of the journal is damaged", journal->path);
    if ((sqlite3_int64)XXH3_64bits(bytes, (size_t)plain) != sqlite3_column_int64(stmt, column + 2))
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: a record of the journal does not match its hash",
                       journal->path);
    *len = (size_t)plain;
    return 0;
}

static int use_row(struct vd_journal *journal, sqlite3_stmt *stmt, struct BlockDriverState *file,
                   struct record *record, record_fn *fn, void *opaque, struct vd_err *err)
{
    record->stage = (enum vd_stage)sqlite3_column_int(stmt, 0);
    record->offset = sqlite3_column_int64(stmt, 1);
    if (record->offset < 0 || record->offset > INT64_MAX - RECORD_MAX)
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: a record of the journal is damaged", journal->path);
    if (unpack(journal, stmt, 2, record->old, &record->old_len, err) < 0 ||
        unpack(journal, stmt, 5, record->new, &record->new_len, err) < 0)
        return -1;
    if (sqlite3_column_int64(stmt, 8) != row_hash((int)record->stage, record->offset,
                                                  (uint64_t)sqlite3_column_int64(stmt, 4), record->old_len,
                                                  (uint64_t)sqlite3_column_int64(stmt, 7), record->new_len))
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: a record of the journal does not match its hash",
                       journal->path);
    return fn(journal, file, record, opaque, err);
}

/* Where all records were seen: is none missing, and none too many? */
static int judge_chain(struct vd_journal *journal, uint64_t records_xxh, struct vd_err *err)
{
    struct extent extent;

    if (get_extent(journal, &extent, err) < 0)
        return -1;
    if (extent.records_xxh != (int64_t)records_xxh)
        return vd_fail(err, VD_ERR_FORMAT, 0, "%s: records of the journal are missing", journal->path);
    return 0;
}

/* Each roll goes over the records several times. */
static int make_room(struct vd_journal *journal, struct vd_err *err)
{
    uint8_t **rooms[] = {&journal->old, &journal->new, &journal->now};

    for (size_t i = 0; i < VD_ARRAY_SIZE(rooms); i++) {
        if (!*rooms[i])
            *rooms[i] = malloc(RECORD_MAX);
        if (!*rooms[i])
            return vd_fail_memory(err);
    }
    return 0;
}

/* All records, or those of one stage (stage >= 0), in order of offset. */
static int each_record(struct vd_journal *journal, struct BlockDriverState *file, int stage, record_fn *fn,
                       void *opaque, struct vd_err *err)
{
    struct record record = {0};
    sqlite3_stmt *stmt = NULL;
    uint64_t records_xxh = 0;
    int rc = 0, step;

    if (make_room(journal, err) < 0)
        return -1;
    record.old = journal->old;
    record.new = journal->new;
    if (sqlite3_prepare_v2(
            journal->db,
            "SELECT stage, offset, old_len, old, old_xxh, new_len, new, new_xxh, row_xxh FROM record"
            " WHERE ?1 < 0 OR stage = ?1 ORDER BY id",
            -1, &stmt, NULL) != SQLITE_OK)
        return db_fail(journal, err);
    sqlite3_bind_int(stmt, 1, stage);
    while (rc == 0 && (step = sqlite3_step(stmt)) != SQLITE_DONE) {
        if (step == SQLITE_ROW)
            records_xxh = chain_hash(records_xxh, sqlite3_column_int64(stmt, 8));
        rc = step == SQLITE_ROW ? use_row(journal, stmt, file, &record, fn, opaque, err)
                                : db_fail(journal, err);
    }
    sqlite3_finalize(stmt);
    return rc < 0 || stage >= 0 ? rc : judge_chain(journal, records_xxh, err);
}

static bool sector_is(const uint8_t *now, const uint8_t *bytes, size_t len, size_t at, size_t n)
{
    /* What lies behind the end of a version reads as zeroes while the file is longer. */
    if (at >= len)
        return vd_is_zero(now + at, n);
    if (at + n > len)
        return memcmp(now + at, bytes + at, len - at) == 0 && vd_is_zero(now + len, at + n - len);
    return memcmp(now + at, bytes + at, n) == 0;
}

static int verify_record(struct vd_journal *journal, struct BlockDriverState *file, struct record *record,
                         void *opaque, struct vd_err *err)
{
    const enum vd_journal_match *match = opaque;
    const uint8_t *now = journal->now;
    size_t len = record->old_len > record->new_len ? record->old_len : record->new_len;

    if (bdrv_pread_padded(file, record->offset, (int64_t)len, journal->now, err) < 0)
        return -1;
    for (size_t at = 0; at < len; at += SECTOR) {
        size_t n = vd_min(SECTOR, len - at);

        if (sector_is(now, record->new, record->new_len, at, n) ||
            (*match == VD_MATCH_EITHER && sector_is(now, record->old, record->old_len, at, n)))
            continue;
        return vd_fail(err, VD_ERR_REFUSED, 0,
                       "%s: the bytes at 0x%" PRIx64
                       " are neither the ones before the repair nor the ones after it;"
                       " somebody wrote to the image since (%s)",
                       file->filename, (uint64_t)record->offset + at, journal->path);
    }
    return 0;
}

int vd_journal_verify(struct vd_journal *journal, struct BlockDriverState *file, enum vd_journal_match match,
                      struct vd_err *err)
{
    int64_t length = bdrv_getlength(file, err);
    struct extent extent;

    if (length < 0 || get_extent(journal, &extent, err) < 0)
        return -1;
    if (length != extent.new_length && (match == VD_MATCH_NEW || length != extent.old_length))
        return vd_fail(err, VD_ERR_REFUSED, 0,
                       "%s: the file has %" PRId64 " bytes, expected %" PRId64
                       " as after the repair; somebody wrote"
                       " to the image since (%s)",
                       file->filename, length, extent.new_length, journal->path);
    return each_record(journal, file, -1, verify_record, &match, err);
}

static int write_new(struct vd_journal *journal, struct BlockDriverState *file, struct record *record,
                     void *opaque, struct vd_err *err)
{
    bool *wrote = opaque;

    (void)journal;
    if (!record->new_len)
        return 0;
    *wrote = true;
    return bdrv_pwrite(file, record->offset, (int64_t)record->new_len, record->new, record->stage, err);
}

static int set_length(struct BlockDriverState *file, int64_t length, bool grows, struct vd_err *err)
{
    int64_t now = bdrv_getlength(file, err);

    if (now < 0)
        return -1;
    if (now == length || (grows && now > length))
        return 0;
    return bdrv_truncate(file, length, err) < 0 ? -1 : bdrv_flush(file, err);
}

static int write_stage(struct vd_journal *journal, struct BlockDriverState *file, enum vd_stage stage,
                       struct vd_err *err)
{
    bool wrote = false;

    if (each_record(journal, file, (int)stage, write_new, &wrote, err) < 0)
        return -1;
    return wrote ? bdrv_flush(file, err) : 0;
}

int vd_journal_roll_forward(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err)
{
    struct extent extent;

    if (get_extent(journal, &extent, err) < 0 || set_length(file, extent.new_length, true, err) < 0)
        return -1;
    for (enum vd_stage stage = VD_STAGE_NEW; stage <= VD_STAGE_ROOT; stage++)
        if (write_stage(journal, file, stage, err) < 0)
            return -1;
    if (set_length(file, extent.new_length, false, err) < 0 ||
        write_stage(journal, file, VD_STAGE_FLAG, err) < 0)
        return -1;
    return bdrv_flush(file, err);
}

static int write_old(struct vd_journal *journal, struct BlockDriverState *file, struct record *record,
                     void *opaque, struct vd_err *err)
{
    (void)journal;
    (void)opaque;
    return record->old_len
               ? bdrv_pwrite(file, record->offset, (int64_t)record->old_len, record->old, record->stage, err)
               : 0;
}

int vd_journal_roll_back(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err)
{
    struct extent extent;

    if (get_extent(journal, &extent, err) < 0 || set_length(file, extent.old_length, true, err) < 0 ||
        each_record(journal, file, -1, write_old, NULL, err) < 0 || bdrv_flush(file, err) < 0 ||
        set_length(file, extent.old_length, false, err) < 0)
        return -1;
    return bdrv_flush(file, err);
}

int vd_journal_roll(struct vd_journal *journal, enum vd_journal_state state, struct BlockDriverState *file,
                    struct vd_err *err)
{
    return state == VD_JOURNAL_UNDOING ? vd_journal_roll_back(journal, file, err)
                                       : vd_journal_roll_forward(journal, file, err);
}

int vd_journal_note_file(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err)
{
    const struct stat *st;

    if (bdrv_protocol(file)->drv != &vd_file_driver)
        return 0;
    st = vd_file_stat(bdrv_protocol(file));
    if (vd_journal_set_number(journal, "dev", (int64_t)st->st_dev, err) < 0 ||
        vd_journal_set_number(journal, "ino", (int64_t)st->st_ino, err) < 0 ||
        vd_journal_set_number(journal, "mtime_s", (int64_t)st->st_mtim.tv_sec, err) < 0)
        return -1;
    return vd_journal_set_number(journal, "mtime_ns", (int64_t)st->st_mtim.tv_nsec, err);
}

int vd_journal_note_before(struct vd_journal *journal, struct BlockDriverState *file, struct vd_err *err)
{
    const struct stat *st;

    if (bdrv_protocol(file)->drv != &vd_file_driver)
        return 0;
    st = vd_file_stat(bdrv_protocol(file));
    if (vd_journal_set_number(journal, "was_mtime_s", (int64_t)st->st_mtim.tv_sec, err) < 0)
        return -1;
    return vd_journal_set_number(journal, "was_mtime_ns", (int64_t)st->st_mtim.tv_nsec, err);
}

bool vd_journal_follows(struct vd_journal *journal, struct vd_journal *older)
{
    static const char *const pairs[][2] = {
        {"dev",          "dev"     },
        {"ino",          "ino"     },
        {"was_mtime_s",  "mtime_s" },
        {"was_mtime_ns", "mtime_ns"}
    };

    for (size_t i = 0; i < VD_ARRAY_SIZE(pairs); i++)
        if (vd_journal_get_number(journal, pairs[i][0], -1) != vd_journal_get_number(older, pairs[i][1], -2))
            return false;
    return true;
}
