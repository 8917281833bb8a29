/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every registered driver promises, whatever the format: a format that is added is tested by being
 * listed in drivers.def. A test that needs a callback passes over the drivers that do not have it.
 */
#include <inttypes.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/span.h"
#include "formats/registry.h"
#include "tests/sweep/sweep.h"

enum {
    SECTOR = 512,
    DISK = 3 * 1024 * 1024 + 3 * SECTOR,
    PROBE_BYTES = 2048,
    SOME_WRITES = 60,
    SOME_CUTS = 160, /* lengths that a small image is cut to, in a short run */
};

/* ---- drivers and images of them */

/* Runs fn for each driver that makes and writes images; with a check, where needs_check. */
static void for_each_driver(bool needs_check, void (*fn)(const struct BlockDriver *drv))
{
    for (size_t i = 0; vd_driver_at(i); i++) {
        const struct BlockDriver *drv = vd_driver_at(i);

        if (!drv->bdrv_co_create || !drv->bdrv_co_pwritev || (needs_check && !drv->bdrv_co_check))
            continue;
        sweep_case("%s", drv->format_name);
        fn(drv);
    }
}

/* A small image; with small clusters, where the format lets one choose. */
static struct sweep_image new_image(const struct BlockDriver *drv, struct BlockDriverState *backing)
{
    bool takes_clusters = drv->create_options && strstr(drv->create_options, "cluster_size");
    const char *const pairs[] = {"cluster_size=4k", NULL};
    struct vd_create_options opts = {.size = DISK,
                                     .backing_file = backing ? "base.raw" : NULL,
                                     .backing_format = backing ? "raw" : NULL,
                                     .pairs = takes_clusters ? pairs : NULL};

    return sweep_create(drv, &opts, backing);
}

static void must_check_clean(const struct sweep_image *image)
{
    struct vd_err err = VD_ERR_INIT;
    struct sweep_report report;

    if (!image->drv->bdrv_co_check)
        return;
    sweep_must(sweep_check(image, &report, &err) == 0, "check: %s", err.story);
    sweep_must(!report.ledger->groups.n, "found: %s", sweep_findings(report.ledger));
    sweep_report_done(&report);
}

/* ---- a model of the guest's disk */

struct model {
    uint8_t *bytes;
    uint64_t size;
};

static struct model new_model(const struct sweep_image *image)
{
    struct model model = {malloc(2 * DISK), DISK};
    struct vd_err err = VD_ERR_INIT;

    sweep_must(model.bytes, "memory");
    memset(model.bytes, 0, 2 * DISK);
    if (image->backing)
        sweep_must(bdrv_pread_padded(image->backing, 0, DISK, model.bytes, &err) == 0, "%s", err.story);
    return model;
}

static void model_write(struct model *model, struct BlockDriverState *bs, uint64_t at, uint64_t n,
                        struct sweep_random *random)
{
    struct vd_err err = VD_ERR_INIT;

    for (uint64_t i = 0; i < n; i++)
        model->bytes[at + i] = (uint8_t)(sweep_next(random) | 1);
    sweep_must(bdrv_pwrite(bs, (int64_t)at, (int64_t)n, model->bytes + at, VD_STAGE_NEW, &err) == 0,
               "write of %" PRIu64 " at %#" PRIx64 ": %s", n, at, err.story);
}

static void model_zero(struct model *model, struct BlockDriverState *bs, uint64_t at, uint64_t n)
{
    struct vd_err err = VD_ERR_INIT;

    memset(model->bytes + at, 0, n);
    sweep_must(bdrv_pwrite_zeroes(bs, (int64_t)at, (int64_t)n, VD_STAGE_NEW, &err) == 0,
               "zero write of %" PRIu64 " at %#" PRIx64 ": %s", n, at, err.story);
}

static void must_read_as(const struct model *model, struct BlockDriverState *bs, uint64_t at, uint64_t n)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem uint8_t *buf = malloc(n + 1);

    sweep_must(buf, "memory");
    sweep_must(bdrv_pread(bs, (int64_t)at, (int64_t)n, buf, &err) == 0, "read: %s", err.story);
    for (uint64_t i = 0; i < n; i++)
        sweep_must(buf[i] == model->bytes[at + i], "guest byte %#" PRIx64 " is %#x, expected %#x", at + i,
                   buf[i], model->bytes[at + i]);
}

static void must_read_as_model(const struct model *model, const struct sweep_image *image, int flags)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = sweep_open(image, image->file, flags, &err);

    sweep_must(bs, "open: %s", err.story);
    sweep_must((uint64_t)bs->total_bytes == model->size, "the disk has %" PRId64 " bytes, expected %" PRIu64,
               bs->total_bytes, model->size);
    must_read_as(model, bs, 0, model->size);
}

/* A range somewhere on the disk, of few or many bytes, on sectors or not. */
static uint64_t some_range(const struct model *model, struct sweep_random *random, uint64_t *n)
{
    uint64_t unit = sweep_below(random, 3) ? SECTOR : 1, at;

    *n = (1 + sweep_below(random, sweep_below(random, 4) ? 9000 : 200000) / unit) * unit;
    at = sweep_below(random, model->size / unit) * unit;
    *n = vd_min(*n, model->size - at);
    return at;
}

static void write_somewhere(struct model *model, struct BlockDriverState *bs, struct sweep_random *random)
{
    uint64_t n, at = some_range(model, random, &n);

    switch (sweep_below(random, 5)) {
    case 0:
        model_zero(model, bs, at, n);
        break;
    case 1:
        must_read_as(model, bs, at, n);
        break;
    default:
        model_write(model, bs, at, n, random);
        break;
    }
}

/* ---- rows */

static void judge_row(const struct vd_finding_kind *row, const char *prefix)
{
    sweep_case("%s %s", prefix, row->id ? row->id : "?");
    sweep_must(row->id && strncmp(row->id, prefix, strlen(prefix)) == 0 && row->id[strlen(prefix)] == '.' &&
                   row->id[strlen(prefix) + 1],
               "the id does not begin with the format's name");
    sweep_must(row->message && *row->message, "no message");
    sweep_must(row->repair && *row->repair, "not told what a repair does");
    sweep_must(row->explanation && *row->explanation, "no explanation");
    sweep_must(row->severity >= VD_CORRUPTION && row->severity <= VD_ERROR, "severity");
    sweep_must(row->level >= VD_LEVEL_LEAKS && row->level <= VD_LEVEL_NONE, "level");
    sweep_must(row->severity != VD_WARNING || row->level >= VD_LEVEL_ALL, "a warning is repaired below all");
    sweep_must(vd_finding_by_id(row->id) == row, "the id stands there twice");
}

START_TEST(every_finding_has_an_id_a_message_a_repair_and_an_explanation)
{
    for (size_t i = 0; vd_driver_at(i); i++)
        for (size_t k = 0; k < vd_driver_at(i)->findings_n; k++)
            judge_row(&vd_driver_at(i)->findings[k], vd_driver_at(i)->format_name);
    for (size_t k = 0; k < vd_image_findings_n; k++)
        judge_row(&vd_image_findings[k], "image");
}
END_TEST

/* ---- probing */

static int probe(const struct BlockDriver *drv, const struct sweep_image *image)
{
    size_t len;
    const uint8_t *bytes = vd_memory_bytes(image->file, &len);

    return drv->bdrv_probe ? drv->bdrv_probe(bytes, vd_min(len, PROBE_BYTES), (int64_t)len) : 0;
}

static void judge_probing(const struct BlockDriver *drv)
{
    struct sweep_image image = new_image(drv, NULL);
    int score = 0;
    size_t len;
    const uint8_t *bytes = vd_memory_bytes(image.file, &len);

    for (size_t i = 0; vd_driver_at(i); i++) {
        const struct BlockDriver *other = vd_driver_at(i);

        sweep_case("an image of %s, probed by %s", drv->format_name, other->format_name);
        if (other != drv)
            sweep_must(probe(other, &image) < 100, "another driver is sure of it");
        else if (drv->bdrv_probe)
            sweep_must(probe(drv, &image) == 100, "the driver is not sure of its own image");
    }
    if (drv->bdrv_probe)
        sweep_must(vd_driver_probe(bytes, vd_min(len, PROBE_BYTES), (int64_t)len, &score) == drv &&
                       score == 100,
                   "the registry finds another driver");
    sweep_drop(&image);
}

START_TEST(a_driver_is_sure_of_its_own_images_and_of_no_other)
{
    for_each_driver(false, judge_probing);
}
END_TEST

/* ---- writing and reading */

static void judge_writing(const struct BlockDriver *drv)
{
    struct sweep_image image = new_image(drv, NULL);
    struct model model = new_model(&image);
    struct sweep_random random = {sweep_seed(1)};
    struct BlockDriverState *bs;

    must_check_clean(&image);
    must_read_as_model(&model, &image, 0);
    bs = sweep_open_live(&image);
    model_write(&model, bs, 0, 100, &random);
    model_write(&model, bs, 70000, 9000, &random);
    model_write(&model, bs, DISK - 5000, 5000, &random);
    sweep_close_live(bs);
    must_read_as_model(&model, &image, 0);
    must_read_as_model(&model, &image, BDRV_O_CHECK);
    must_check_clean(&image);
    free(model.bytes);
    sweep_drop(&image);
}

START_TEST(what_was_written_is_read_back_after_a_clean_close_and_checks_clean)
{
    for_each_driver(false, judge_writing);
}
END_TEST

/* Random work on one image, which is closed and opened again in between. */
static void judge_model(const struct BlockDriver *drv, struct BlockDriverState *backing, uint64_t seed)
{
    struct sweep_image image = new_image(drv, backing);
    struct model model = new_model(&image);
    struct sweep_random random = {seed};

    for (unsigned open = 0; open < 3; open++) {
        struct BlockDriverState *bs = sweep_open_live(&image);

        for (unsigned i = 0; i < SOME_WRITES; i++)
            write_somewhere(&model, bs, &random);
        must_read_as(&model, bs, 0, model.size);
        sweep_close_live(bs);
        must_check_clean(&image);
        must_read_as_model(&model, &image, 0);
    }
    free(model.bytes);
    sweep_drop(&image);
}

static void judge_models(const struct BlockDriver *drv)
{
    uint64_t seed = sweep_seed(0xd15c), n = sweep_is_long() ? 200 : 2;
    vd_auto(BlockDriverState) backing = drv->has_backing ? sweep_backing(DISK / 2 + 700) : NULL;

    for (uint64_t i = 0; i < n; i++) {
        sweep_case("%s, seed %" PRIu64, drv->format_name, seed + i);
        judge_model(drv, NULL, seed + i);
        if (backing)
            judge_model(drv, backing, seed + i);
    }
}

START_TEST(random_reads_and_writes_match_an_array_of_bytes)
{
    for_each_driver(false, judge_models);
}
END_TEST

static void judge_zeroes(const struct BlockDriver *drv)
{
    vd_auto(BlockDriverState) backing = drv->has_backing ? sweep_backing(DISK) : NULL;
    struct sweep_image image = new_image(drv, backing);
    struct model model = new_model(&image);
    struct sweep_random random = {2};
    struct BlockDriverState *bs = sweep_open_live(&image);

    model_write(&model, bs, 100000, 50000, &random);
    model_zero(&model, bs, 110000, 20000); /* over data */
    model_zero(&model, bs, 0, 65536);      /* over nothing, whole clusters */
    model_zero(&model, bs, 300001, 77);    /* over nothing, part of a cluster */
    model_zero(&model, bs, 0, 4096);       /* over zeroes */
    model_write(&model, bs, 2048, 512, &random);
    model_zero(&model, bs, DISK - 1000, 1000);
    must_read_as(&model, bs, 0, DISK);
    sweep_close_live(bs);
    must_read_as_model(&model, &image, 0);
    must_check_clean(&image);
    free(model.bytes);
    sweep_drop(&image);
}

START_TEST(zero_writes_read_as_zeroes_and_hide_the_backing_file)
{
    for_each_driver(false, judge_zeroes);
}
END_TEST

/* ---- what a block status says is what a read gives */

static void judge_extent(const struct sweep_image *image, struct BlockDriverState *bs, int64_t at, int64_t n,
                         int status, int64_t map)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem uint8_t *read = malloc((size_t)n);
    vd_auto_mem uint8_t *other = malloc((size_t)n);

    sweep_must(read && other, "memory");
    sweep_must(bdrv_pread(bs, at, n, read, &err) == 0, "read: %s", err.story);
    if (status & BDRV_BLOCK_ZERO)
        sweep_must(vd_is_zero(read, (size_t)n), "told as zeroes, and is something else");
    if ((status & BDRV_BLOCK_DATA) && (status & BDRV_BLOCK_OFFSET_VALID)) {
        sweep_must(bdrv_pread_padded(image->file, map, n, other, &err) == 0, "%s", err.story);
        sweep_must(memcmp(read, other, (size_t)n) == 0, "the file holds other bytes at %#" PRIx64,
                   (uint64_t)map);
    }
    if (!(status & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED))) {
        sweep_must(image->backing, "told as the backing file's, and there is none");
        sweep_must(bdrv_pread_padded(image->backing, at, n, other, &err) == 0, "%s", err.story);
        sweep_must(memcmp(read, other, (size_t)n) == 0, "the backing file holds other bytes");
    }
}

static void judge_status(const struct BlockDriver *drv)
{
    vd_auto(BlockDriverState) backing = drv->has_backing ? sweep_backing(DISK / 3) : NULL;
    struct sweep_image image = new_image(drv, backing);
    struct model model = new_model(&image);
    struct sweep_random random = {3};
    struct BlockDriverState *bs = sweep_open_live(&image);

    for (unsigned i = 0; i < SOME_WRITES; i++)
        write_somewhere(&model, bs, &random);
    for (int64_t at = 0, n; at < DISK; at += n) {
        struct vd_err err = VD_ERR_INIT;
        int64_t map = -1, asked = (int64_t)(1 + sweep_below(&random, (uint64_t)(DISK - at)));
        int status = bdrv_block_status(bs, at, asked, &n, &map, &err);

        sweep_case("%s, block status at %#" PRIx64, drv->format_name, (uint64_t)at);
        sweep_must(status >= 0, "%s", err.story);
        sweep_must(n > 0 && n <= asked, "%" PRId64 " bytes of %" PRId64, n, asked);
        judge_extent(&image, bs, at, n, status, map);
    }
    sweep_close_live(bs);
    free(model.bytes);
    sweep_drop(&image);
}

START_TEST(block_status_says_what_reads_give)
{
    for_each_driver(false, judge_status);
}
END_TEST

/* ---- another size */

static void judge_growing(const struct BlockDriver *drv)
{
    struct sweep_image image = new_image(drv, NULL);
    struct model model = new_model(&image);
    struct sweep_random random = {4};
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = sweep_open_live(&image);

    model_write(&model, bs, DISK - 3000, 3000, &random);
    model.size = DISK + 64 * SECTOR;
    sweep_must(bdrv_truncate(bs, (int64_t)model.size, &err) == 0, "growing: %s", err.story);
    must_read_as(&model, bs, 0, model.size);
    model_write(&model, bs, model.size - 700, 700, &random);
    sweep_close_live(bs);
    must_read_as_model(&model, &image, 0);
    must_check_clean(&image);
    free(model.bytes);
    sweep_drop(&image);
}

static void judge_shrinking(const struct BlockDriver *drv)
{
    struct sweep_image image = new_image(drv, NULL);
    struct model model = new_model(&image);
    struct sweep_random random = {5};
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = sweep_open_live(&image);

    model_write(&model, bs, 0, 100000, &random);
    if (bdrv_truncate(bs, DISK / 2 / SECTOR * SECTOR, &err) == 0)
        model.size = DISK / 2 / SECTOR * SECTOR;
    else
        sweep_must(err.kind == VD_ERR_UNSUPPORTED && *err.story, "refused as if it were an accident: %s",
                   err.story);
    must_read_as(&model, bs, 0, model.size);
    sweep_close_live(bs);
    must_read_as_model(&model, &image, 0);
    must_check_clean(&image);
    free(model.bytes);
    sweep_drop(&image);
}

START_TEST(a_disk_grows_and_keeps_its_bytes)
{
    for_each_driver(false, judge_growing);
}
END_TEST

START_TEST(a_disk_shrinks_or_says_that_it_cannot)
{
    for_each_driver(false, judge_shrinking);
}
END_TEST

/* ---- not closed cleanly */

static bool is_dirty(const struct sweep_image *image)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverInfo info = {0};
    vd_auto(BlockDriverState) bs = sweep_open(image, image->file, BDRV_O_CHECK, &err);

    sweep_must(bs, "open: %s", err.story);
    if (image->drv->bdrv_get_info)
        sweep_must(image->drv->bdrv_get_info(bs, &info, &err) == 0, "%s", err.story);
    return info.is_dirty;
}

static void judge_dirt(const struct BlockDriver *drv)
{
    struct sweep_image image = new_image(drv, NULL);
    struct model model = new_model(&image);
    struct sweep_random random = {6};
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = sweep_open_live(&image);

    sweep_must(!is_dirty(&image), "dirty before the first write");
    model_write(&model, bs, 5000, 5000, &random);
    bdrv_unref(bs); /* what a crash leaves */
    if (is_dirty(&image)) {
        bs = sweep_open(&image, image.file, BDRV_O_RDWR, &err);
        sweep_must(!bs && err.kind == VD_ERR_FORMAT, "a dirty image was opened for writing");
        bs = sweep_open(&image, image.file, BDRV_O_RDWR | BDRV_O_DIRTY_OK, &err);
        sweep_must(bs, "an open that has seen to the flag was refused: %s", err.story);
        bdrv_unref(bs);
    }
    must_read_as_model(&model, &image, 0);
    free(model.bytes);
    sweep_drop(&image);
}

START_TEST(a_plain_open_for_writing_of_a_dirty_image_is_refused)
{
    for_each_driver(false, judge_dirt);
}
END_TEST

/* ---- cut off */

/* Data here and there, and a zero cluster. */
static struct sweep_image image_to_cut(const struct BlockDriver *drv)
{
    struct sweep_image image = new_image(drv, NULL);
    struct BlockDriverState *bs = sweep_open_live(&image);
    struct vd_err err = VD_ERR_INIT;

    sweep_write(bs, 0, 10000, 1);
    sweep_must(bdrv_pwrite_zeroes(bs, 40960, 8192, VD_STAGE_NEW, &err) == 0, "%s", err.story);
    sweep_write(bs, DISK - 20000, 9000, 2);
    sweep_close_live(bs);
    return image;
}

/* Nothing found: then nothing but unreferenced bytes were cut off, and the guest reads on. */
static void must_read_on(const struct sweep_image *whole, const struct sweep_image *cut)
{
    struct sweep_guest old, new;
    struct vd_runs nothing = {0};

    sweep_read_guest(whole, 2 * DISK, &old);
    sweep_read_guest(cut, 2 * DISK, &new);
    sweep_must(old.size == new.size, "clean, and the disk has another size");
    sweep_must_read_same(&old, &new, &nothing);
    sweep_guest_done(&old);
    sweep_guest_done(&new);
}

static void judge_cut(const struct sweep_image *whole, int64_t length)
{
    struct sweep_image cut = sweep_clone(whole);
    struct vd_err err = VD_ERR_INIT;
    struct sweep_report report = {0};

    sweep_case("%s, cut off at %" PRId64, whole->drv->format_name, length);
    sweep_must(bdrv_truncate(cut.file, length, &err) == 0, "%s", err.story);
    if (sweep_check(&cut, &report, &err) == 0) {
        if (!report.ledger->groups.n)
            must_read_on(whole, &cut);
        sweep_judge(&cut, 2 * DISK, NULL);
    } else {
        sweep_must(*err.story, "an error without a story");
    }
    sweep_report_done(&report);
    sweep_drop(&cut);
}

static void judge_cuts(const struct BlockDriver *drv)
{
    struct sweep_image whole = image_to_cut(drv);
    struct vd_err err = VD_ERR_INIT;
    int64_t length = bdrv_getlength(whole.file, &err), step = SECTOR;

    must_check_clean(&whole);
    if (!sweep_is_long())
        step = (int64_t)vd_align_up_sat((uint64_t)length / SOME_CUTS, SECTOR);
    for (int64_t at = 0; at < length; at += step) {
        judge_cut(&whole, at);
        judge_cut(&whole, at + step - 1 < length ? at + step - 1 : length - 1);
    }
    sweep_drop(&whole);
}

START_TEST(an_image_cut_off_anywhere_is_never_called_clean_if_something_is_lost)
{
    for_each_driver(true, judge_cuts);
}
END_TEST

SWEEP_TESTS("driver contract", {every_finding_has_an_id_a_message_a_repair_and_an_explanation, 1},
            {a_driver_is_sure_of_its_own_images_and_of_no_other, 1},
            {what_was_written_is_read_back_after_a_clean_close_and_checks_clean, 1},
            {random_reads_and_writes_match_an_array_of_bytes, 1},
            {zero_writes_read_as_zeroes_and_hide_the_backing_file, 1}, {block_status_says_what_reads_give, 1},
            {a_disk_grows_and_keeps_its_bytes, 1}, {a_disk_shrinks_or_says_that_it_cannot, 1},
            {a_plain_open_for_writing_of_a_dirty_image_is_refused, 1},
            {an_image_cut_off_anywhere_is_never_called_clean_if_something_is_lost, 1})
