/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts while a guest writes: random work through each driver that can write, cut off at a random
 * request, torn, with parts of what was not flushed lost; then the image is repaired.
 *
 *     op 1   op 2   flush   op 3   op 4 | op 5
 *     \_______________/     \_________/   \_ never begun
 *      must be there         each sector as after op 2, or as one of these left it
 *
 * Nothing here knows a format. A sector of the guest is written whole, with the number of its op.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/span.h"
#include "formats/registry.h"
#include "tests/crash/disk.h"

enum {
    SECTOR = 512,
    SECTORS = 2048,
    DISK = SECTORS * SECTOR,
    MOST_OPS = 40,
    SOME_HISTORIES = 6, /* of each driver, with and without a backing file, in a short run */
    MANY_HISTORIES = 100,
    PARTS = 10,    /* of a driver's histories, a test each: Check cannot count more than half an hour */
    SOME_CUTS = 8, /* of each history */
    MANY_CUTS = 60,
    JUDGED = 4, /* one cut in so many is held to all that holds for a damaged image, too */
};

enum op_kind { OP_WRITE, OP_ZERO, OP_FLUSH, OP_REOPEN };

struct op {
    enum op_kind kind;
    uint64_t first, n; /* sectors */
    size_t begin, end; /* events of the log: [begin, end) are this op's */
};

struct history {
    struct sweep_image image; /* as it was before the first op */
    struct vd_fault_log log;
    struct op ops[MOST_OPS];
    size_t ops_n;
    struct sweep_random random;
    char name[120];
};

/* ---- making one */

/* What a sector holds after the op, or before all of them where op is SIZE_MAX. */
static void fill_sector(const struct history *h, size_t op, uint64_t sector, uint8_t buf[SECTOR])
{
    struct vd_err err = VD_ERR_INIT;

    memset(buf, 0, SECTOR);
    if (op == SIZE_MAX && h->image.backing)
        sweep_must(bdrv_pread_padded(h->image.backing, (int64_t)(sector * SECTOR), SECTOR, buf, &err) == 0,
                   "%s", err.story);
    if (op != SIZE_MAX && h->ops[op].kind == OP_WRITE)
        for (unsigned at = 0; at < SECTOR; at += 8)
            vd_put_le64(buf + at, (op + 1) << 32 | (sector << 8) | (at / 8 + 1));
}

static void do_write(struct history *h, struct BlockDriverState *bs, size_t i)
{
    const struct op *op = &h->ops[i];
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem uint8_t *buf = malloc(op->n * SECTOR);

    sweep_must(buf, "memory");
    for (uint64_t k = 0; k < op->n; k++)
        fill_sector(h, i, op->first + k, buf + k * SECTOR);
    sweep_must(bdrv_pwrite(bs, (int64_t)(op->first * SECTOR), (int64_t)(op->n * SECTOR), buf, VD_STAGE_NEW,
                           &err) == 0,
               "%s", err.story);
}

static struct BlockDriverState *reopen(struct history *h, struct BlockDriverState *bs,
                                       struct BlockDriverState *disk)
{
    struct vd_err err = VD_ERR_INIT;

    if (bs)
        sweep_close_live(bs);
    bs = sweep_open(&h->image, disk, BDRV_O_RDWR, &err);
    sweep_must(bs, "live open: %s", err.story);
    return bs;
}

/* Small writes and large ones, near each other more often than not. */
static struct op some_op(struct history *h)
{
    static const enum op_kind kinds[] = {OP_WRITE, OP_WRITE, OP_WRITE, OP_WRITE,
                                         OP_WRITE, OP_ZERO,  OP_ZERO,  OP_FLUSH};
    struct op op = {.kind = kinds[sweep_below(&h->random, VD_ARRAY_SIZE(kinds))]};
    uint64_t most = sweep_below(&h->random, 3) ? 12 : 100;
    uint64_t within = sweep_below(&h->random, 2) ? SECTORS / 8 : SECTORS;

    if (!sweep_below(&h->random, 25))
        op.kind = OP_REOPEN;
    op.first = sweep_below(&h->random, within);
    op.n = vd_min(1 + sweep_below(&h->random, most), SECTORS - op.first);
    return op;
}

static struct BlockDriverState *do_op(struct history *h, struct BlockDriverState *bs,
                                      struct BlockDriverState *disk, size_t i)
{
    const struct op *op = &h->ops[i];
    struct vd_err err = VD_ERR_INIT;

    switch (op->kind) {
    case OP_WRITE:
        do_write(h, bs, i);
        break;
    case OP_ZERO:
        sweep_must(bdrv_pwrite_zeroes(bs, (int64_t)(op->first * SECTOR), (int64_t)(op->n * SECTOR),
                                      VD_STAGE_NEW, &err) == 0,
                   "%s", err.story);
        break;
    case OP_FLUSH:
        sweep_must(bdrv_flush(bs, &err) == 0, "%s", err.story);
        break;
    default:
        bs = reopen(h, bs, disk);
        break;
    }
    return bs;
}

/* A guest that begins to write at op 0 and, mostly, never comes to an end. */
static void live(struct history *h)
{
    struct sweep_image copy = sweep_clone(&h->image);
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) recorder = vd_fault_new(copy.file, &err);
    struct BlockDriverState *bs;

    sweep_must(recorder, "%s", err.story);
    vd_fault_record(recorder, &h->log);
    bs = reopen(h, NULL, recorder);
    h->ops_n = 1 + sweep_below(&h->random, MOST_OPS);
    for (size_t i = 0; i < h->ops_n; i++) {
        h->ops[i] = some_op(h);
        h->ops[i].begin = h->log.n;
        bs = do_op(h, bs, recorder, i);
        h->ops[i].end = h->log.n;
    }
    bdrv_unref(bs);
    sweep_drop(&copy);
}

static void make_history(struct history *h, const struct BlockDriver *drv, struct BlockDriverState *backing,
                         uint64_t seed)
{
    bool takes_clusters = drv->create_options && strstr(drv->create_options, "cluster_size");
    const char *const pairs[] = {"cluster_size=4k", NULL};
    struct vd_create_options opts = {.size = DISK,
                                     .backing_file = backing ? "base.raw" : NULL,
                                     .backing_format = backing ? "raw" : NULL,
                                     .pairs = takes_clusters ? pairs : NULL};

    *h = (struct history){.random = {seed}};
    snprintf(h->name, sizeof(h->name), "%s%s, seed %" PRIu64, drv->format_name,
             backing ? " with a backing file" : "", seed);
    sweep_case("%s", h->name);
    h->image = sweep_create(drv, &opts, backing);
    live(h);
}

static void drop_history(struct history *h)
{
    vd_fault_log_free(&h->log);
    sweep_drop(&h->image);
}

/* ---- judging one cut */

/* The ops that a flush had brought to the disk: all before this one. */
static size_t flushed_ops(const struct history *h, size_t event)
{
    size_t n = 0;

    for (size_t i = 0; i < h->ops_n && h->ops[i].end <= event; i++)
        if (h->ops[i].kind == OP_FLUSH || h->ops[i].kind == OP_REOPEN)
            n = i;
    return n;
}

static bool writes_sector(const struct op *op, uint64_t sector)
{
    return (op->kind == OP_WRITE || op->kind == OP_ZERO) && sector >= op->first && sector - op->first < op->n;
}

static bool holds(const struct history *h, size_t op, uint64_t sector, const uint8_t *found)
{
    uint8_t expected[SECTOR];

    fill_sector(h, op, sector, expected);
    return memcmp(expected, found, SECTOR) == 0;
}

static void judge_sector(const struct history *h, size_t event, uint64_t sector, const uint8_t *found)
{
    size_t flushed = flushed_ops(h, event), last = SIZE_MAX;

    for (size_t i = 0; i < flushed; i++)
        if (writes_sector(&h->ops[i], sector))
            last = i;
    if (holds(h, last, sector, found))
        return;
    for (size_t i = flushed; i < h->ops_n && h->ops[i].begin <= event; i++)
        if (writes_sector(&h->ops[i], sector) && holds(h, i, sector, found))
            return;
    sweep_must(false,
               "guest sector %" PRIu64 " (%#" PRIx64 "...) is neither what was flushed, by op %zd, "
               "nor anything newer",
               sector, vd_get_le64(found), (ssize_t)last);
}

static void judge_guest(const struct history *h, size_t event, const struct sweep_image *repaired)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem uint8_t *bytes = malloc(DISK);
    vd_auto(BlockDriverState) bs = sweep_open(repaired, repaired->file, 0, &err);

    sweep_must(bytes && bs, "open: %s", err.story);
    sweep_must(bs->total_bytes == DISK, "the disk has %" PRId64 " bytes", bs->total_bytes);
    sweep_must(bdrv_pread(bs, 0, DISK, bytes, &err) == 0, "read: %s", err.story);
    for (uint64_t sector = 0; sector < SECTORS; sector++)
        judge_sector(h, event, sector, bytes + sector * SECTOR);
}

/* Nothing is left but clusters that may be somebody's, for a mapping was damaged. */
static void judge_check(const struct sweep_image *repaired, bool has_evidence)
{
    struct vd_err err = VD_ERR_INIT;
    struct sweep_report report;

    sweep_must(sweep_check(repaired, &report, &err) == 0, "check: %s", err.story);
    sweep_must(sweep_status(report.ledger) <= (has_evidence ? SWEEP_LEAKING : SWEEP_CLEAN), "left: %s",
               sweep_findings(report.ledger));
    sweep_report_done(&report);
}

static void judge_repair(const struct history *h, size_t event, struct sweep_image *image)
{
    struct sweep_image crashed = sweep_clone(image);
    struct sweep_repair repair;
    struct vd_err err = VD_ERR_INIT;
    int rc = sweep_prepare(&repair, image, image->file, VD_LEVEL_SAFE, NULL);

    sweep_must(rc == 0, "the repair was refused: %s", repair.err.story);
    if (repair.work.has_changes) {
        sweep_journal(&repair);
        sweep_commit(&repair);
    }
    judge_check(image, repair.work.before.ledger->flags & VD_EVIDENCE);
    judge_guest(h, event, image);
    if (repair.work.has_changes) {
        sweep_must(vd_journal_verify(repair.work.journal, image->file, VD_MATCH_NEW, &err) == 0 &&
                       vd_journal_roll_back(repair.work.journal, image->file, &err) == 0,
                   "%s", err.story);
        sweep_must_be_same(image->file, crashed.file, "undone");
    }
    sweep_repair_done(&repair);
    sweep_drop(&crashed);
}

static void cut_somewhere(struct history *h)
{
    struct crash_cut cut = crash_some_cut(&h->log, &h->random);
    struct sweep_image image = {.drv = h->image.drv, .file = crash_disk_new()};

    if (h->image.backing)
        image.backing = bdrv_ref(h->image.backing);
    sweep_case("%s: cut at event %zu of %zu, %" PRIu64 " sectors torn, losses %" PRIu64, h->name, cut.event,
               h->log.n, cut.torn, cut.lost);
    crash_disk_at(image.file, h->image.file, &h->log, &cut);
    judge_repair(h, cut.event, &image);
    if (sweep_is_long() || !sweep_below(&h->random, JUDGED))
        sweep_judge(&image, 2 * DISK, NULL);
    sweep_drop(&image);
}

/* ---- all drivers */

static void cut_histories(const struct BlockDriver *drv, struct BlockDriverState *backing, uint64_t seed,
                          unsigned part)
{
    unsigned histories = sweep_is_long() ? MANY_HISTORIES : SOME_HISTORIES;
    unsigned cuts = sweep_is_long() ? MANY_CUTS : SOME_CUTS;

    for (unsigned i = part; i < histories; i += PARTS) {
        struct history h;

        make_history(&h, drv, backing, seed + i);
        for (unsigned k = 0; k < cuts; k++)
            cut_somewhere(&h);
        drop_history(&h);
    }
}

START_TEST(what_a_guest_flushed_is_there_after_a_power_cut_and_a_repair)
{
    const struct BlockDriver *drv = vd_driver_at((size_t)_i / PARTS);
    unsigned part = (unsigned)_i % PARTS;
    vd_auto(BlockDriverState) backing = NULL;

    if (!drv->bdrv_co_create || !drv->bdrv_co_pwritev || !drv->bdrv_co_check)
        return;
    cut_histories(drv, NULL, sweep_seed(0xdead), part);
    if (!drv->has_backing)
        return;
    backing = sweep_backing(DISK / 2 + 700);
    cut_histories(drv, backing, sweep_seed(0xbeef), part);
}
END_TEST

static int parts_n(void)
{
    int n = 0;

    while (vd_driver_at((size_t)n))
        n++;
    return n * PARTS;
}

SWEEP_TESTS("live power cuts", {what_a_guest_flushed_is_there_after_a_power_cut_and_a_repair, parts_n()})
