/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A qcow2 image that is written to, and the power that fails: with any part of what was not flushed lost, no
 * count is below the references, what was flushed reads as it was written, and snapshots read as ever.
 */
#include <inttypes.h>
#include <string.h>

#include "formats/base/span.h"
#include "formats/registry.h"
#include "tests/crash/census.h"
#include "tests/crash/disk.h"

enum { DISK = 3 * 1024 * 1024 + 512 * 5, ROOM = 2 * DISK, OPERATIONS = 50, SOME_CUTS = 40 };

/* What images are written to. */
static const struct variant {
    const char *name;
    const char *pairs[4];
    bool has_backing, has_snapshot;
} variants[] = {
    {"4k",            {"cluster_size=4k"},                                              false, false},
    {"4k backing",    {"cluster_size=4k"},                                              true,  false},
    {"4k snapshot",   {"cluster_size=4k"},                                              false, true },
    {"both",          {"cluster_size=8k"},                                              true,  true },
    {"narrow",        {"cluster_size=4k", "refcount_bits=1"},                           false, false},
    {"small",         {"cluster_size=512", "refcount_bits=64"},                         false, false},
    {"small backing", {"cluster_size=512", "refcount_bits=16"},                         true,  false},
    {"v2",            {"cluster_size=4k", "compat=0.10"},                               true,  false},
    {"v2 snapshot",   {"cluster_size=4k", "compat=0.10"},                               false, true },
    {"extended",      {"cluster_size=16k", "extended_l2=on"},                           false, false},
    {"extended both", {"cluster_size=16k", "extended_l2=on"},                           true,  true },
    {"preallocated",  {"cluster_size=4k", "preallocation=metadata"},                    false, false},
    {"extended full", {"cluster_size=32k", "extended_l2=on", "preallocation=metadata"}, true,  false},
    {"lazy",          {"cluster_size=4k", "lazy_refcounts=on"},                         true,  false},
};

enum { VARIANTS_N = VD_ARRAY_SIZE(variants) };

/* ---- what the guest's disk should be */

/* The disk as it was when a flush had come back. */
struct epoch {
    size_t event; /* of the log: behind the flush */
    uint64_t size;
    uint8_t *bytes; /* ROOM of them */
};

/* Guest bytes that an operation changes. */
struct touch {
    size_t event; /* of the log, at the start of the operation */
    uint64_t from, to;
};

VD_VEC(epoch_vec, struct epoch)
VD_VEC(touch_vec, struct touch)

struct work {
    const struct variant *variant;
    struct sweep_image image;  /* being written to */
    struct sweep_image before; /* a copy of it, before that */
    struct BlockDriverState *bs;
    struct vd_fault_log log;
    struct sweep_random random;
    uint8_t *model;
    uint64_t size;
    struct epoch_vec epochs;
    struct touch_vec touches;
    struct BlockDriverState *disk;
    uint64_t leaks; /* seen at cuts */
};

static uint8_t *room(const uint8_t *from)
{
    uint8_t *bytes = calloc(1, ROOM);

    sweep_must(bytes, "memory");
    if (from)
        memcpy(bytes, from, ROOM);
    return bytes;
}

static void note_touch(struct work *w, uint64_t from, uint64_t to)
{
    sweep_must(touch_vec_push(&w->touches, (struct touch){w->log.n, from, to}) == 0, "memory");
}

static void note_epoch(struct work *w)
{
    struct epoch epoch = {.event = w->log.n, .size = w->size, .bytes = room(w->model)};

    sweep_must(epoch_vec_push(&w->epochs, epoch) == 0, "memory");
}

/* ---- operations */

static uint64_t some_range(struct work *w, uint64_t *n)
{
    uint64_t unit = sweep_below(&w->random, 3) ? 512 : 1, at = sweep_below(&w->random, w->size / unit) * unit;

    *n = (1 + sweep_below(&w->random, sweep_below(&w->random, 4) ? 9000 : 300000) / unit) * unit;
    *n = vd_min(*n, w->size - at);
    return at;
}

static void do_write(struct work *w, struct vd_err *err)
{
    uint64_t n, at = some_range(w, &n);

    note_touch(w, at, at + n);
    for (uint64_t i = 0; i < n; i++)
        w->model[at + i] = (uint8_t)(sweep_next(&w->random) | 1);
    sweep_must(bdrv_pwrite(w->bs, (int64_t)at, (int64_t)n, w->model + at, VD_STAGE_NEW, err) == 0,
               "write: %s", err->story);
}

static void do_zero(struct work *w, struct vd_err *err)
{
    uint64_t n, at = some_range(w, &n);

    note_touch(w, at, at + n);
    memset(w->model + at, 0, n);
    sweep_must(bdrv_pwrite_zeroes(w->bs, (int64_t)at, (int64_t)n, VD_STAGE_NEW, err) == 0, "zero write: %s",
               err->story);
}

static void do_flush(struct work *w, struct vd_err *err)
{
    sweep_must(bdrv_flush(w->bs, err) == 0, "flush: %s", err->story);
    note_epoch(w);
}

static void do_resize(struct work *w, struct vd_err *err)
{
    uint64_t size = (DISK / 2 + sweep_below(&w->random, ROOM - DISK / 2)) / 512 * 512;

    if (w->variant->has_snapshot && (size < w->size || strncmp(w->variant->name, "v2", 2) == 0))
        return;
    note_touch(w, vd_min(size, w->size), ROOM);
    sweep_must(bdrv_truncate(w->bs, (int64_t)size, err) == 0, "truncate: %s", err->story);
    if (size < w->size)
        memset(w->model + size, 0, ROOM - size);
    w->size = size;
}

static void do_something(struct work *w)
{
    struct vd_err err = VD_ERR_INIT;

    switch (sweep_below(&w->random, 12)) {
    case 0:
    case 1:
        do_zero(w, &err);
        break;
    case 2:
    case 3:
        do_flush(w, &err);
        break;
    case 4:
        do_resize(w, &err);
        break;
    default:
        do_write(w, &err);
        break;
    }
}

/* ---- an image and its history */

static void must_read(const struct sweep_image *image, const uint8_t *bytes, uint64_t size)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = sweep_open(image, image->file, 0, &err);
    vd_auto_mem uint8_t *read = malloc(size);

    sweep_must(bs && read, "open: %s", err.story);
    sweep_must((uint64_t)bs->total_bytes == size, "the disk has %" PRId64 " bytes, expected %" PRIu64,
               bs->total_bytes, size);
    sweep_must(bdrv_pread(bs, 0, (int64_t)size, read, &err) == 0, "read: %s", err.story);
    for (uint64_t i = 0; i < size; i++)
        sweep_must(read[i] == bytes[i], "guest byte 0x%" PRIx64 " is 0x%x, expected 0x%x", i, read[i],
                   bytes[i]);
}

static void fill_at_first(struct work *w)
{
    struct vd_err err = VD_ERR_INIT;

    w->bs = sweep_open_live(&w->image);
    for (unsigned i = 0; i < 12; i++)
        do_write(w, &err);
    do_zero(w, &err);
    sweep_close_live(w->bs);
    w->touches.n = 0;
    sweep_must(census_leaks(&w->image) == 0, "leaks");
    must_read(&w->image, w->model, w->size);
    if (w->variant->has_snapshot) {
        census_take_snapshot(&w->image);
        sweep_must(census_leaks(&w->image) == 0, "leaks of the snapshot");
    }
}

static void begin(struct work *w, const struct variant *variant, uint64_t seed)
{
    const struct BlockDriver *drv = vd_driver_by_name("qcow2");
    vd_auto(BlockDriverState) backing = variant->has_backing ? sweep_backing(DISK + 70000) : NULL;
    struct vd_create_options opts = {.size = DISK,
                                     .backing_file = backing ? "base.raw" : NULL,
                                     .backing_format = backing ? "raw" : NULL,
                                     .pairs = variant->pairs};
    struct vd_err err = VD_ERR_INIT;

    sweep_case("qcow2 %s, seed %" PRIu64, variant->name, seed);
    *w = (struct work){.variant = variant, .random = {seed}, .size = DISK, .model = room(NULL)};
    if (backing)
        sweep_must(bdrv_pread(backing, 0, DISK, w->model, &err) == 0, "%s", err.story);
    w->image = sweep_create(drv, &opts, backing);
    w->disk = crash_disk_new();
    fill_at_first(w);
    w->before = sweep_clone(&w->image);
    note_epoch(w);
}

static void done(struct work *w)
{
    for (size_t i = 0; i < w->epochs.n; i++)
        free(w->epochs.v[i].bytes);
    epoch_vec_done(&w->epochs);
    touch_vec_done(&w->touches);
    vd_fault_log_free(&w->log);
    bdrv_unref(w->disk);
    sweep_drop(&w->image);
    sweep_drop(&w->before);
    free(w->model);
}

/* Random operations over a disk that records them. */
static void operate(struct work *w)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) fault = vd_fault_new(w->image.file, &err);

    sweep_must(fault, "%s", err.story);
    vd_fault_record(fault, &w->log);
    w->bs = sweep_open(&w->image, fault, BDRV_O_RDWR, &err);
    sweep_must(w->bs, "live open: %s", err.story);
    for (unsigned i = 0; i < OPERATIONS; i++)
        do_something(w);
    sweep_close_live(w->bs);
    vd_fault_record(fault, NULL);
    note_epoch(w);
}

/* What the guest of a snapshot reads is what the disk was when it was taken. */
static void must_keep_snapshot(struct work *w, const struct sweep_image *image)
{
    struct sweep_image snapshot;

    if (!w->variant->has_snapshot)
        return;
    snapshot = census_snapshot(image);
    must_read(&snapshot, w->epochs.v[0].bytes, w->epochs.v[0].size);
    sweep_drop(&snapshot);
}

/* ---- cuts */

/* Guest sectors that no operation since the flush has touched. */
static void must_read_flushed(struct work *w, const struct sweep_image *image, const struct crash_cut *cut)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = sweep_open(image, image->file, BDRV_O_DIRTY_OK, &err);
    vd_auto_mem uint8_t *read = room(NULL);
    struct vd_runs touched = {0};
    const struct epoch *e = w->epochs.v;
    uint64_t size;

    sweep_must(bs, "open: %s", err.story);
    for (size_t i = 1; i < w->epochs.n && w->epochs.v[i].event <= cut->event; i++)
        e = &w->epochs.v[i];
    for (size_t i = 0; i < w->touches.n; i++)
        if (w->touches.v[i].event >= e->event && w->touches.v[i].event <= cut->event)
            sweep_must(
                vd_runs_add(&touched, w->touches.v[i].from, w->touches.v[i].to - w->touches.v[i].from) == 0,
                "memory");
    size = vd_min((uint64_t)bs->total_bytes, e->size);
    sweep_must(size == e->size || vd_runs_has(&touched, size), "the disk has another size");
    sweep_must(bdrv_pread(bs, 0, (int64_t)size, read, &err) == 0, "read: %s", err.story);
    for (uint64_t i = 0; i < size; i++)
        sweep_must(read[i] == e->bytes[i] || vd_runs_has(&touched, i),
                   "guest byte 0x%" PRIx64 " is 0x%x, expected 0x%x", i, read[i], e->bytes[i]);
    vd_runs_done(&touched);
}

/* Life goes on, and space is all that was lost. */
static void must_go_on(const struct sweep_image *image)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = sweep_open(image, image->file, BDRV_O_RDWR | BDRV_O_DIRTY_OK, &err);

    sweep_must(bs, "open after the cut: %s", err.story);
    sweep_write(bs, 1000, 100000, 0x77);
    sweep_close_live(bs);
    census_leaks(image);
}

static void judge_cut(void *opaque, const struct crash_cut *cut)
{
    struct work *w = opaque;
    struct sweep_image image = {.drv = w->image.drv, .file = w->disk, .backing = w->image.backing};

    sweep_case("qcow2 %s, cut at event %zu of %zu, torn %" PRIu64 ", lost %" PRIu64, w->variant->name,
               cut->event, w->log.n, cut->torn, cut->lost);
    crash_disk_at(w->disk, w->before.file, &w->log, cut);
    w->leaks += census_leaks(&image);
    must_read_flushed(w, &image, cut);
    must_keep_snapshot(w, &image);
    must_go_on(&image);
}

START_TEST(a_power_cut_costs_space_at_most)
{
    struct work w;

    begin(&w, &variants[_i], sweep_seed(17));
    operate(&w);
    sweep_must(census_leaks(&w.image) == 0, "leaks after a clean close");
    must_read(&w.image, w.model, w.size);
    must_keep_snapshot(&w, &w.image);
    if (sweep_is_long())
        crash_each_cut(&w.log, judge_cut, &w);
    for (unsigned i = 0; i < SOME_CUTS; i++) {
        struct crash_cut cut = crash_some_cut(&w.log, &w.random);

        judge_cut(&w, &cut);
    }
    /* So the cuts were in the middle of something. */
    sweep_must(w.leaks > 0 || strcmp(w.variant->name, "preallocated") == 0, "no cut lost anything");
    done(&w);
}
END_TEST

/* ---- other things that writers do */

static uint64_t dirty_bit(const struct sweep_image *image)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverInfo info;
    vd_auto(BlockDriverState) bs = sweep_open(image, image->file, BDRV_O_CHECK, &err);

    sweep_must(bs && bs->drv->bdrv_get_info(bs, &info, &err) == 0, "%s", err.story);
    return info.is_dirty;
}

START_TEST(lazy_refcounts_set_the_dirty_bit_before_a_table_changes_and_clear_it_at_a_clean_close)
{
    const char *const pairs[] = {"cluster_size=4k", "lazy_refcounts=on", NULL};
    struct vd_create_options opts = {.size = DISK, .pairs = pairs};
    struct sweep_image image = sweep_create(vd_driver_by_name("qcow2"), &opts, NULL);
    struct BlockDriverState *bs;

    sweep_case("lazy refcounts");
    bs = sweep_open_live(&image);
    ck_assert(!dirty_bit(&image));
    sweep_write(bs, 5000, 5000, 1);
    ck_assert(dirty_bit(&image));
    sweep_close_live(bs);
    ck_assert(!dirty_bit(&image));
    bs = sweep_open_live(&image);
    sweep_write(bs, 5000, 100, 2); /* in place: no table changes */
    ck_assert(!dirty_bit(&image));
    sweep_close_live(bs);
    sweep_drop(&image);
}
END_TEST

static void judge_emptying(const struct variant *variant)
{
    struct vd_err err = VD_ERR_INIT;
    struct work w;
    uint8_t *bytes;

    begin(&w, variant, 23);
    bytes = room(NULL);
    if (w.image.backing)
        sweep_must(bdrv_pread(w.image.backing, 0, DISK, bytes, &err) == 0, "%s", err.story);
    w.bs = sweep_open_live(&w.image);
    sweep_must(w.bs->drv->bdrv_make_empty(w.bs, &err) == 0, "%s", err.story);
    sweep_write(w.bs, 3000, 3000, 9);
    memset(bytes + 3000, 9, 3000);
    sweep_close_live(w.bs);
    must_read(&w.image, bytes, DISK);
    sweep_must(census_leaks(&w.image) == 0, "leaks");
    must_keep_snapshot(&w, &w.image);
    free(bytes);
    done(&w);
}

START_TEST(an_image_made_empty_shows_its_backing_file_and_leaks_nothing)
{
    judge_emptying(&variants[_i]);
}
END_TEST

/* ---- another backing file */

static const struct base {
    const char *file, *format;
} bases[] = {
    {NULL,                          NULL   },
    {"base.raw",                    "raw"  },
    {"a-base-with-a-longer-name.q", "qcow2"},
    {"base.raw",                    "raw"  },
    {"base.raw",                    NULL   },
    {"another",                     "qcow2"},
    {"base.raw",                    NULL   },
    {NULL,                          NULL   },
};

struct rebase {
    struct sweep_image before;
    struct BlockDriverState *disk;
    const struct vd_fault_log *log;
    const struct base *old, *new;
};

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void judge_rebase(void *opaque, const struct crash_cut *cut)
{
    struct rebase *r = opaque;
    struct sweep_image image = {.drv = r->before.drv, .file = r->disk};
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;

    crash_disk_at(r->disk, r->before.file, r->log, cut);
    bs = sweep_open(&image, r->disk, 0, &err);
    sweep_must(bs, "open: %s", err.story);
    sweep_must(
        (same_text(bs->backing_file, r->old->file) && same_text(bs->backing_format, r->old->format)) ||
            (same_text(bs->backing_file, r->new->file) && same_text(bs->backing_format, r->new->format)),
        "the backing file is '%s' (%s)", bs->backing_file, bs->backing_format);
    bdrv_unref(bs);
}

/* From one base to the next, recorded and cut. */
static void judge_bases(struct sweep_image *image, const struct base *old, const struct base *new)
{
    struct rebase r = {.before = sweep_clone(image), .disk = crash_disk_new(), .old = old, .new = new};
    struct vd_err err = VD_ERR_INIT;
    struct vd_fault_log log = {0};
    struct BlockDriverState *fault = vd_fault_new(image->file, &err), *bs;

    sweep_must(fault, "%s", err.story);
    vd_fault_record(fault, &log);
    bs = sweep_open(image, fault, BDRV_O_RDWR, &err);
    sweep_must(bs && bs->drv->bdrv_change_backing_file(bs, new->file, new->format, &err) == 0, "%s",
               err.story);
    sweep_must(same_text(bs->backing_file, new->file) && same_text(bs->backing_format, new->format),
               "not changed in memory");
    sweep_close_live(bs);
    vd_fault_record(fault, NULL);
    r.log = &log;
    crash_each_cut(&log, judge_rebase, &r);
    judge_rebase(&r, &(struct crash_cut){.event = log.n});
    vd_fault_log_free(&log);
    bdrv_unref(fault);
    bdrv_unref(r.disk);
    sweep_drop(&r.before);
}

START_TEST(another_backing_file_is_there_with_its_format_or_not_at_all)
{
    static const struct {
        const char *pairs[3];
    } options[] = {
        {{"cluster_size=512"}},
        {{"cluster_size=4k"}},
        {{"cluster_size=8k"}},
        {{"cluster_size=8k", "compat=0.10"}},
    };

    for (size_t i = 0; i < VD_ARRAY_SIZE(options); i++) {
        struct vd_create_options opts = {.size = DISK, .pairs = options[i].pairs};
        struct sweep_image image = sweep_create(vd_driver_by_name("qcow2"), &opts, NULL);

        for (size_t k = 1; k < VD_ARRAY_SIZE(bases); k++) {
            sweep_case("qcow2 %s, from base %zu to the next", options[i].pairs[0], k - 1);
            judge_bases(&image, &bases[k - 1], &bases[k]);
        }
        sweep_drop(&image);
    }
}
END_TEST

/* ---- damage */

/* An image with something wrong: the write is refused, and so is every later one. */
static void must_freeze(struct sweep_image *image, uint64_t at)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = sweep_open_live(image);
    uint8_t byte = 1;

    sweep_must(bdrv_pwrite(bs, (int64_t)at, 1, &byte, VD_STAGE_NEW, &err) < 0 && *err.story, "was written");
    sweep_must(bdrv_pwrite(bs, DISK - 1, 1, &byte, VD_STAGE_NEW, &err) < 0, "not frozen");
    sweep_must(bdrv_inactivate(bs, &err) == 0, "%s", err.story);
    bdrv_unref(bs);
}

static const struct damage {
    const char *name, *field;
    unsigned bytes;
    uint64_t value;
    uint64_t guest; /* of a write that comes by there */
} damages[] = {
    {"data on the L1 table",     "L1[0].L2[0]", 8, 0x8000000000003000, 100   },
    {"data on a refcount block", "L1[0].L2[0]", 8, 0x8000000000002000, 100   },
    {"data on its L2 table",     "L1[0].L2[0]", 8, 0x8000000000005000, 100   },
    {"a misaligned entry",       "L1[0].L2[0]", 8, 0x8000000000004200, 100   },
    {"an entry out of the file", "L1[0].L2[0]", 8, 0x8000007fff000000, 100   },
    {"COPIED with the count 0",  "refcount[4]", 2, 0,                  100   },
    {"COPIED with the count 2",  "refcount[4]", 2, 2,                  100   },
    {"a table with the count 0", "refcount[5]", 2, 0,                  100000},
    {"an L1 entry on a table",   "L1[0]",       8, 0x8000000000001000, 100   },
    {"an L1 entry twice",        "L1[1]",       8, 0x8000000000005000, 100   },
    {"a misaligned block",       "reftable[0]", 8, 0x2200,             100   },
    {"a block out of the file",  "reftable[1]", 8, 0x7fff000000,       100   },
    {"two blocks in one",        "reftable[1]", 8, 0x2000,             100   },
};

START_TEST(a_damaged_image_is_not_written_to)
{
    const char *const pairs[] = {"cluster_size=4k", NULL};
    struct vd_create_options opts = {.size = DISK, .pairs = pairs};
    struct sweep_image image = sweep_create(vd_driver_by_name("qcow2"), &opts, NULL);
    const struct damage *damage = &damages[_i];
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs;
    uint64_t off = 0;
    unsigned bytes;
    uint8_t word[8];

    sweep_case("%s", damage->name);
    bs = sweep_open_live(&image);
    sweep_write(bs, 0, 4096, 1);
    sweep_must(bs->drv->bdrv_find_field(bs, damage->field, &off, &bytes, &err) == 0, "%s", err.story);
    sweep_close_live(bs);
    for (unsigned i = 0; i < damage->bytes; i++)
        word[i] = (uint8_t)(damage->value >> 8 * (damage->bytes - 1 - i));
    sweep_must(bdrv_pwrite(image.file, (int64_t)off, damage->bytes, word, VD_STAGE_NEW, &err) == 0, "%s",
               err.story);
    must_freeze(&image, damage->guest);
    sweep_drop(&image);
}
END_TEST

SWEEP_TESTS("qcow2 live", {a_power_cut_costs_space_at_most, VARIANTS_N},
            {lazy_refcounts_set_the_dirty_bit_before_a_table_changes_and_clear_it_at_a_clean_close, 1},
            {an_image_made_empty_shows_its_backing_file_and_leaks_nothing, VARIANTS_N},
            {another_backing_file_is_there_with_its_format_or_not_at_all, 1},
            {a_damaged_image_is_not_written_to, VD_ARRAY_SIZE(damages)})
