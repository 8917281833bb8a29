/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts while a repair is written: the invariants J1 to J8 at the head of repair/journal.c.
 *
 * Images with each kind of damage are repaired over a disk that records every write; for each cut point the
 * disk is built anew, and rolled forward and back, once more with a second cut in the middle of the rolling.
 */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "formats/base/span.h"
#include "formats/registry.h"
#include "tests/crash/roll.h"

/* ---- damaged images */

static uint64_t field_at(const struct sweep_image *image, const char *name)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = sweep_open(image, image->file, BDRV_O_CHECK, &err);
    uint64_t offset = 0;
    unsigned bytes;

    sweep_must(bs && image->drv->bdrv_find_field(bs, name, &offset, &bytes, &err) == 0, "%s", err.story);
    return offset;
}

static uint64_t get(const struct sweep_image *image, const char *name)
{
    return sweep_get64(image, field_at(image, name));
}

static void put(struct sweep_image *image, const char *name, uint64_t value)
{
    sweep_put64(image, field_at(image, name), value);
}

static void change_length(struct sweep_image *image, int64_t by)
{
    struct vd_err err = VD_ERR_INIT;

    sweep_must(bdrv_truncate(image->file, bdrv_getlength(image->file, &err) + by, &err) == 0, "%s",
               err.story);
}

static void share_a_cluster(struct sweep_image *image)
{
    put(image, "L1[0].L2[1]", get(image, "L1[0].L2[0]"));
}

static void point_into_a_table(struct sweep_image *image)
{
    put(image, "L1[0].L2[1]", get(image, "L1[1]"));
}

static void add_stray_bits(struct sweep_image *image)
{
    put(image, "L1[0].L2[2]", get(image, "L1[0].L2[2]") + 512);
}

static void lose_a_table(struct sweep_image *image)
{
    put(image, "L1[3]", get(image, "L1[3]") + 0x7fff0000);
}

static void reserve_an_entry(struct sweep_image *image)
{
    put(image, "L1[0].L2[2]", 0x700);
}

static void cut_the_last_cluster(struct sweep_image *image)
{
    change_length(image, -1000);
}

static void leak_clusters(struct sweep_image *image)
{
    put(image, "L1[0].L2[0]", 0);
    put(image, "L1[0].L2[1]", 0);
    put(image, "L1[1].L2[5]", 0);
}

static void leak_the_tail(struct sweep_image *image)
{
    change_length(image, 3 * (int64_t)sweep_get32(image, field_at(image, "header.cluster_size")));
}

static void lose_the_header_size(struct sweep_image *image)
{
    sweep_put32(image, field_at(image, "header.header_size"), 0);
}

static void lose_the_cluster_size(struct sweep_image *image)
{
    sweep_put32(image, field_at(image, "header.cluster_size"), 0);
}

static void need_a_check(struct sweep_image *image)
{
    put(image, "header.features", get(image, "header.features") | 2);
}

static void set_autoclear_bits(struct sweep_image *image)
{
    put(image, "header.autoclear_features", 5);
    need_a_check(image);
}

static void share_a_table(struct sweep_image *image)
{
    put(image, "L1[2]", get(image, "L1[0]"));
}

static void leak_here_and_there(struct sweep_image *image)
{
    leak_clusters(image);
    leak_the_tail(image);
    set_autoclear_bits(image);
}

static void share_all(struct sweep_image *image)
{
    share_a_cluster(image);
    add_stray_bits(image);
    cut_the_last_cluster(image);
    need_a_check(image);
}

static void break_much(struct sweep_image *image)
{
    share_a_table(image);
    put(image, "L1[1].L2[1]", 0x700);
    put(image, "L1[1].L2[6]", 0);
    set_autoclear_bits(image);
}

struct damage {
    const char *name;
    void (*make)(struct sweep_image *image);
    enum vd_level level;
    const char *cluster_size;
};

static const struct damage damages[] = {
    {"a shared cluster is cloned",           share_a_cluster,       VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"a cluster in a table is cloned",       point_into_a_table,    VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"stray bits are masked",                add_stray_bits,        VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"an orphaned table is relinked",        lose_a_table,          VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"an entry is cleared",                  reserve_an_entry,      VD_LEVEL_ALL,   "cluster_size=4k"  },
    {"the last cluster is completed",        cut_the_last_cluster,  VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"clusters are moved into leaks",        leak_clusters,         VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"large clusters are moved into leaks",  leak_clusters,         VD_LEVEL_SAFE,  "cluster_size=256k"},
    {"the tail is cut off",                  leak_the_tail,         VD_LEVEL_LEAKS, "cluster_size=4k"  },
    {"the header's size is found",           lose_the_header_size,  VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"the cluster size is found",            lose_the_cluster_size, VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"need-check is cleared",                need_a_check,          VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"autoclear bits are cleared",           set_autoclear_bits,    VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"a shared table is cloned",             share_a_table,         VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"leaks, tail and flags together",       leak_here_and_there,   VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"clone, mask, completion and flag",     share_all,             VD_LEVEL_SAFE,  "cluster_size=4k"  },
    {"cloned table, cleared entry and flag", break_much,            VD_LEVEL_ALL,   "cluster_size=4k"  },
};

/* Three tables, and behind the last one data that can be moved. */
static struct sweep_image whole_image(const char *cluster_size)
{
    const char *const pairs[] = {cluster_size, "table_size=1", NULL};
    int64_t cs = strstr(cluster_size, "256k") ? 262144 : 4096, slot = cs * cs / 8;
    struct vd_create_options opts = {.size = 3 * slot + 16 * cs, .pairs = pairs};
    struct sweep_image image = sweep_create(vd_driver_by_name("qed"), &opts, NULL);
    struct BlockDriverState *bs = sweep_open_live(&image);

    sweep_write(bs, 0, 3 * cs, 1);
    sweep_write(bs, slot + cs, cs, 2);
    sweep_write(bs, slot + 5 * cs, 2 * cs, 3);
    sweep_write(bs, 3 * slot, cs / 2, 4);
    for (int64_t i = 0; i < 4; i++)
        sweep_write(bs, (9 - 2 * i) * cs, cs, (uint8_t)(5 + i));
    sweep_close_live(bs);
    return image;
}

static struct sweep_image damaged_image(const struct damage *damage)
{
    struct sweep_image image;

    sweep_case("%s", damage->name);
    image = whole_image(damage->cluster_size);
    damage->make(&image);
    return image;
}

static void begin(struct crash_run *run, const struct damage *damage)
{
    struct sweep_image image = damaged_image(damage);

    sweep_must(crash_begin(run, damage->name, &image, damage->level, NULL), "nothing is repaired; found: %s",
               sweep_findings(run->repair.work.before.ledger));
}

START_TEST(J4_every_sector_is_old_or_new_and_both_ways_lead_to_a_whole_image)
{
    struct crash_run run;

    begin(&run, &damages[_i]);
    crash_cut_commit(&run);
    crash_end(&run);
}
END_TEST

START_TEST(J4_an_undo_cut_off_anywhere_can_be_finished_or_taken_back)
{
    struct crash_run run;

    begin(&run, &damages[_i]);
    crash_cut_undo(&run);
    crash_end(&run);
}
END_TEST

/* ---- before the first write */

START_TEST(J1_J3_nothing_is_written_before_the_journal_is_prepared)
{
    struct sweep_image image = damaged_image(&damages[_i]);
    struct sweep_image as_it_was = sweep_clone(&image);
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) recorder = vd_fault_new(image.file, &err);
    enum vd_journal_state state = VD_JOURNAL_UNDONE;
    struct sweep_repair repair;
    struct vd_fault_log log = {0};

    sweep_must(recorder, "%s", err.story);
    vd_fault_record(recorder, &log);
    sweep_must(sweep_prepare(&repair, &image, recorder, damages[_i].level, NULL) == 0, "%s",
               repair.err.story);
    sweep_journal(&repair);
    sweep_must(!log.n, "written before the state was PREPARED");
    sweep_must(vd_journal_state(repair.work.journal, &state, &err) == 0 && state == VD_JOURNAL_PREPARED,
               "state %d", state);
    sweep_must_be_same(image.file, as_it_was.file, "prepared");
    /* J3: the records alone, without the overlay, hold all that the commit writes and all that was there. */
    bdrv_unref(vd_take(&repair.work.overlay));
    sweep_commit(&repair);
    sweep_must(log.n, "nothing was written");
    sweep_must(vd_journal_roll_back(repair.work.journal, image.file, &err) == 0, "%s", err.story);
    sweep_must_be_same(image.file, as_it_was.file, "rolled back");
    vd_fault_log_free(&log);
    sweep_repair_done(&repair);
    sweep_drop(&image);
    sweep_drop(&as_it_was);
}
END_TEST

/* ---- journals in files */

static char folder[256], journal_path[300];

static void make_folder(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(folder, sizeof(folder), "%s/vdcheck-crash.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    sweep_must(mkdtemp(folder), "no folder for temporary files");
    snprintf(journal_path, sizeof(journal_path), "%s/journal", folder);
}

static void drop_folder(void)
{
    unlink(journal_path);
    rmdir(folder);
}

/* The state that another process would see; EMPTY where there is nothing of the journal yet. */
static enum vd_journal_state state_seen(void)
{
    struct vd_err err = VD_ERR_INIT;
    enum vd_journal_state state = VD_JOURNAL_EMPTY;
    vd_auto(vd_journal) journal = vd_journal_open(journal_path, false, &err);

    if (journal)
        sweep_must(vd_journal_state(journal, &state, &err) == 0, "%s", err.story);
    return state;
}

static void prepare_in_file(struct sweep_repair *repair, const struct sweep_image *image, enum vd_level level)
{
    struct vd_journal *journal;

    sweep_must(sweep_prepare(repair, image, image->file, level, NULL) == 0, "%s", repair->err.story);
    journal = vd_journal_create(journal_path, NULL, &repair->err);
    sweep_must(journal, "%s", repair->err.story);
    sweep_must(state_seen() == VD_JOURNAL_EMPTY, "made, and not empty");
    sweep_must(vd_work_write_journal(&repair->work, journal, &repair->budget, &repair->err) == 0, "%s",
               repair->err.story);
    sweep_must(state_seen() == VD_JOURNAL_EMPTY, "records are seen before the state is PREPARED");
    sweep_must(vd_journal_set_state(journal, VD_JOURNAL_PREPARED, &repair->err) == 0, "%s",
               repair->err.story);
}

START_TEST(J2_the_records_appear_together_with_the_state_PREPARED)
{
    struct sweep_image image = damaged_image(&damages[_i]);
    struct sweep_image new = sweep_clone(&image), old = sweep_clone(&image);
    struct sweep_repair repair;
    struct vd_err err = VD_ERR_INIT;
    vd_auto(vd_journal) other = NULL;

    make_folder();
    prepare_in_file(&repair, &image, damages[_i].level);
    sweep_must(state_seen() == VD_JOURNAL_PREPARED, "not seen as PREPARED");
    other = vd_journal_open(journal_path, false, &err);
    sweep_must(other, "%s", err.story);
    sweep_must(vd_journal_verify(other, image.file, VD_MATCH_EITHER, &err) == 0, "%s", err.story);
    sweep_must(vd_journal_roll_forward(other, new.file, &err) == 0, "%s", err.story);
    sweep_commit(&repair);
    sweep_must_be_same(image.file, new.file, "written from the file alone");
    sweep_must(state_seen() == VD_JOURNAL_COMMITTED, "not seen as COMMITTED");
    sweep_must(vd_journal_roll_back(other, image.file, &err) == 0, "%s", err.story);
    sweep_must_be_same(image.file, old.file, "rolled back from the file alone");
    sweep_repair_done(&repair);
    drop_folder();
    sweep_drop(&image);
    sweep_drop(&new);
    sweep_drop(&old);
}
END_TEST

START_TEST(J5_rolling_ends_with_a_flush)
{
    struct crash_run run;
    struct vd_fault_log back = {0};

    begin(&run, &damages[_i]);
    crash_copy(run.rolled, run.new.file);
    crash_roll(&run, run.rolled, false, &back);
    sweep_must(run.log.v[run.log.n - 1].op == VD_FAULT_FLUSH, "the last event of a commit is no flush");
    sweep_must(back.v[back.n - 1].op == VD_FAULT_FLUSH, "the last event of an undo is no flush");
    vd_fault_log_free(&back);
    crash_end(&run);
}
END_TEST

/* ---- damaged journals */

static sqlite3 *open_journal_db(void)
{
    sqlite3 *db = NULL;

    sweep_must(sqlite3_open(journal_path, &db) == SQLITE_OK, "%s", sqlite3_errmsg(db));
    return db;
}

/* Over all that the journal's tables hold. */
static uint64_t hash_of_rows(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    uint64_t hash = 0;

    sweep_must(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
    while (sqlite3_step(stmt) == SQLITE_ROW)
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
            const void *bytes = sqlite3_column_blob(stmt, i);

            hash = XXH3_64bits_withSeed(bytes ? bytes : "", (size_t)sqlite3_column_bytes(stmt, i), hash + 1);
        }
    sqlite3_finalize(stmt);
    return hash;
}

static uint64_t hash_of_journal(sqlite3 *db)
{
    return hash_of_rows(db, "SELECT * FROM record ORDER BY id") + hash_of_rows(db, "SELECT * FROM meta");
}

static void change_journal(const char *sql)
{
    sqlite3 *db = open_journal_db();
    uint64_t before = hash_of_journal(db);

    sweep_must(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    sweep_must(hash_of_journal(db) != before, "nothing is changed by it");
    sqlite3_close(db);
}

/* Whatever was done to the journal: it is refused, or it leads to the old and to the new image. */
static bool is_refused_or_right(const struct sweep_image *old, const struct sweep_image *new,
                                struct BlockDriverState *disk)
{
    struct vd_err err = VD_ERR_INIT;
    enum vd_journal_state state = VD_JOURNAL_EMPTY;
    vd_auto(vd_journal) journal = vd_journal_open(journal_path, false, &err);

    if (!journal || vd_journal_state(journal, &state, &err) < 0)
        return true;
    /* An empty journal is thrown away, and the image taken for one that nobody wrote to. */
    sweep_must(state == VD_JOURNAL_PREPARED, "taken for a journal in state %d", state);
    if (vd_journal_verify(journal, old->file, VD_MATCH_EITHER, &err) < 0)
        return true;
    for (int forward = 0; forward < 2; forward++) {
        crash_copy(disk, forward ? old->file : new->file);
        if (vd_journal_verify(journal, disk, VD_MATCH_EITHER, &err) < 0)
            continue;
        sweep_must((forward ? vd_journal_roll_forward(journal, disk, &err)
                            : vd_journal_roll_back(journal, disk, &err)) == 0,
                   "verified, and cannot be rolled: %s", err.story);
        sweep_must_be_same(disk, forward ? new->file : old->file,
                           forward ? "a damaged journal, rolled forward" : "a damaged journal, rolled back");
    }
    return false;
}

/* A prepared journal in a file, and what it leads to. */
static void make_journal(const struct damage *damage, struct sweep_image *old, struct sweep_image *new)
{
    struct vd_err err = VD_ERR_INIT;
    struct sweep_repair repair;

    *old = damaged_image(damage);
    *new = sweep_clone(old);
    make_folder();
    prepare_in_file(&repair, old, damage->level);
    sweep_must(vd_journal_roll_forward(repair.work.journal, new->file, &err) == 0, "%s", err.story);
    sweep_repair_done(&repair);
}

START_TEST(J6_a_record_that_does_not_fit_its_hash_is_refused)
{
    static const char *const changes[] = {
        "UPDATE record SET new = zeroblob(length(new)) WHERE new != zeroblob(length(new))",
        "UPDATE record SET old = zeroblob(length(old)) WHERE old != zeroblob(length(old))",
        "UPDATE record SET offset = offset + 4096 WHERE id = (SELECT max(id) FROM record)",
        "UPDATE record SET stage = (stage + 1) % 4",
        "UPDATE record SET new_len = new_len - 512 WHERE new_len > 512",
        "UPDATE record SET new_xxh = new_xxh + 1",
        "UPDATE meta SET value = value + 4096 WHERE key = 'new_length'",
        "UPDATE meta SET value = value + 4096 WHERE key = 'old_length'",
        "DELETE FROM meta WHERE key = 'new_length'",
        "DELETE FROM record WHERE id = (SELECT max(id) FROM record)",
        "DELETE FROM record WHERE id = (SELECT min(id) FROM record)",
        "DELETE FROM record",
        "UPDATE record SET id = (SELECT max(id) FROM record) + 1 WHERE id = (SELECT min(id) FROM record)",
        "DELETE FROM meta WHERE key = 'state'",
        "INSERT INTO record SELECT id + 1000, stage, offset + 4096, old_len, old, old_xxh, new_len, new,"
        " new_xxh, row_xxh FROM record",
    };
    const struct damage *damage = &damages[VD_ARRAY_SIZE(damages) - 1];
    vd_auto(BlockDriverState) disk = crash_disk_new();

    for (size_t i = 0; i < VD_ARRAY_SIZE(changes); i++) {
        struct sweep_image old, new;

        make_journal(damage, &old, &new);
        sweep_must(!is_refused_or_right(&old, &new, disk), "the journal is refused as it is");
        sweep_case("%s", changes[i]);
        change_journal(changes[i]);
        sweep_must(is_refused_or_right(&old, &new, disk), "a changed journal is believed");
        drop_folder();
        sweep_drop(&old);
        sweep_drop(&new);
    }
}
END_TEST

static void flip(long at, int bits)
{
    FILE *f = fopen(journal_path, "r+b");
    int c;

    sweep_must(f && fseek(f, at, SEEK_SET) == 0 && (c = fgetc(f)) != EOF, "byte %ld", at);
    sweep_must(fseek(f, at, SEEK_SET) == 0 && fputc(c ^ bits, f) != EOF && fclose(f) == 0, "byte %ld", at);
}

START_TEST(J6_no_flipped_bits_of_a_journal_lead_to_another_image)
{
    struct sweep_random random = {sweep_seed(0xf11b) + (uint64_t)_i};
    unsigned times = sweep_is_long() ? 4000 : 25;
    vd_auto(BlockDriverState) disk = crash_disk_new();
    struct sweep_image old, new;
    FILE *f;
    long len;

    make_journal(&damages[_i], &old, &new);
    f = fopen(journal_path, "rb");
    sweep_must(f && fseek(f, 0, SEEK_END) == 0 && (len = ftell(f)) > 0, "the journal's length");
    fclose(f);
    for (unsigned i = 0; i < times; i++) {
        long at = (long)sweep_below(&random, (uint64_t)len);
        int bits = 1 << sweep_below(&random, 8);

        sweep_case("%s: bits %#x of byte %ld of the journal", damages[_i].name, bits, at);
        flip(at, bits);
        is_refused_or_right(&old, &new, disk);
        flip(at, bits);
    }
    drop_folder();
    sweep_drop(&old);
    sweep_drop(&new);
}
END_TEST

/* ---- somebody else's writes */

/* The places that a commit wrote to. */
static void write_elsewhere(struct crash_run *run, const struct vd_fault_event *event)
{
    struct BlockDriverState *disk = run->cut, *as_it_was = run->cut_again;
    struct vd_err err = VD_ERR_INIT;
    int64_t at = event->offset + (int64_t)sweep_below(&run->random, (uint64_t)event->bytes);
    uint8_t old = 0, new = 0, theirs;

    crash_copy(disk, run->old.file);
    if (bdrv_pread_padded(run->old.file, at, 1, &old, &err) < 0 ||
        bdrv_pread_padded(run->new.file, at, 1, &new, &err) < 0)
        sweep_must(false, "%s", err.story);
    for (theirs = 1; theirs == old || theirs == new; theirs++)
        ;
    if (at >= bdrv_getlength(disk, &err))
        return; /* it would be longer: another refusal */
    sweep_case("%s: %#x at %#" PRIx64 " by somebody else", run->name, theirs, (uint64_t)at);
    sweep_must(bdrv_pwrite(disk, at, 1, &theirs, VD_STAGE_NEW, &err) == 0, "%s", err.story);
    crash_copy(as_it_was, disk);
    sweep_must(vd_journal_verify(run->repair.work.journal, disk, VD_MATCH_EITHER, &err) < 0 &&
                   err.kind == VD_ERR_REFUSED,
               "not noticed");
    sweep_must_be_same(disk, as_it_was, "refused");
}

START_TEST(J7_what_somebody_else_wrote_is_refused_and_not_written_over)
{
    struct crash_run run;
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *longer;

    begin(&run, &damages[_i]);
    for (size_t i = 0; i < run.log.n; i++)
        for (unsigned k = 0; run.log.v[i].op == VD_FAULT_WRITE && k < 4; k++)
            write_elsewhere(&run, &run.log.v[i]);
    sweep_case("%s: another length", run.name);
    longer = run.cut;
    crash_copy(longer, run.old.file);
    sweep_must(bdrv_truncate(longer, bdrv_getlength(longer, &err) + 999, &err) == 0, "%s", err.story);
    sweep_must(vd_journal_verify(run.repair.work.journal, longer, VD_MATCH_EITHER, &err) < 0 &&
                   err.kind == VD_ERR_REFUSED,
               "not noticed");
    crash_end(&run);
}
END_TEST

/* ---- the order of stages, told by a filter that sees them */

struct stage_event {
    enum vd_fault_op op;
    enum vd_stage stage;
    int64_t length;
};

VD_VEC(stage_vec, struct stage_event)

struct stages {
    struct stage_vec seen;
};

static int note(struct BlockDriverState *bs, struct stage_event event)
{
    struct stages *stages = bs->opaque;

    sweep_must(stage_vec_push(&stages->seen, event) == 0, "memory");
    return 0;
}

static int stages_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                          enum vd_stage stage, struct vd_err *err)
{
    note(bs, (struct stage_event){.op = VD_FAULT_WRITE, .stage = stage});
    return bdrv_pwrite(bs->file, offset, bytes, buf, stage, err);
}

static int stages_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    note(bs, (struct stage_event){.op = VD_FAULT_TRUNCATE, .length = size});
    return bdrv_truncate(bs->file, size, err);
}

static int stages_flush(struct BlockDriverState *bs, struct vd_err *err)
{
    note(bs, (struct stage_event){.op = VD_FAULT_FLUSH});
    return bdrv_flush(bs->file, err);
}

static void stages_close(struct BlockDriverState *bs)
{
    stage_vec_done(&((struct stages *)bs->opaque)->seen);
}

static const struct BlockDriver stages_driver = {
    .format_name = "stages",
    .is_filter = true,
    .instance_size = sizeof(struct stages),
    .bdrv_close = stages_close,
    .bdrv_co_pwritev = stages_pwritev,
    .bdrv_co_truncate = stages_truncate,
    .bdrv_co_flush = stages_flush,
};

static void judge_order(const struct stage_vec *seen, int64_t old_length)
{
    enum vd_stage highest = VD_STAGE_NEW;
    bool is_flushed = true;

    for (size_t i = 0; i < seen->n; i++) {
        const struct stage_event *e = &seen->v[i];

        if (e->op == VD_FAULT_FLUSH) {
            is_flushed = true;
            continue;
        }
        if (e->op == VD_FAULT_WRITE) {
            sweep_must(e->stage >= highest, "stage %d is written after stage %d", e->stage, highest);
            sweep_must(e->stage == highest || is_flushed, "stage %d begins before stage %d is flushed",
                       e->stage, highest);
            highest = e->stage;
        } else if (e->length < old_length) {
            sweep_must(highest < VD_STAGE_FLAG, "cut off after the flags");
            sweep_must(is_flushed, "cut off before the tables are flushed");
            for (size_t k = i + 1; k < seen->n; k++)
                sweep_must(seen->v[k].op != VD_FAULT_WRITE || seen->v[k].stage == VD_STAGE_FLAG,
                           "stage %d is written after the file was cut off", seen->v[k].stage);
        } else {
            sweep_must(i == 0, "grown after the first write");
        }
        is_flushed = false;
    }
}

START_TEST(J8_stages_come_in_order_with_a_flush_in_between)
{
    struct sweep_image image = damaged_image(&damages[_i]);
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) stages = bdrv_new(&stages_driver, "stages", image.file, &err);
    int64_t old_length = bdrv_getlength(image.file, &err);
    struct sweep_repair repair;

    sweep_must(stages, "%s", err.story);
    sweep_must(sweep_prepare(&repair, &image, stages, damages[_i].level, NULL) == 0, "%s", repair.err.story);
    sweep_journal(&repair);
    sweep_commit(&repair);
    judge_order(&((struct stages *)stages->opaque)->seen, old_length);
    sweep_repair_done(&repair);
    sweep_drop(&image);
}
END_TEST

#define EACH VD_ARRAY_SIZE(damages)

SWEEP_TESTS("journal", {J1_J3_nothing_is_written_before_the_journal_is_prepared, EACH},
            {J2_the_records_appear_together_with_the_state_PREPARED, EACH},
            {J4_every_sector_is_old_or_new_and_both_ways_lead_to_a_whole_image, EACH},
            {J4_an_undo_cut_off_anywhere_can_be_finished_or_taken_back, EACH},
            {J5_rolling_ends_with_a_flush, EACH}, {J6_a_record_that_does_not_fit_its_hash_is_refused, 1},
            {J6_no_flipped_bits_of_a_journal_lead_to_another_image, EACH},
            {J7_what_somebody_else_wrote_is_refused_and_not_written_over, EACH},
            {J8_stages_come_in_order_with_a_flush_in_between, EACH})
