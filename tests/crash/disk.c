/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/crash/disk.h"

#include "formats/base/span.h"

enum { SECTOR = 512, SOME_LOSSES = 8, MANY_LOSSES = 64, FEW_REQUESTS = 8 };

static void write_part(struct BlockDriverState *disk, const struct vd_fault_event *event, uint64_t from,
                       uint64_t to)
{
    struct vd_err err = VD_ERR_INIT;
    uint64_t start = (uint64_t)event->offset, end = start + (uint64_t)event->bytes;
    uint64_t first = vd_max(from, start), stop = vd_min(to, end);

    if (first < stop)
        sweep_must(bdrv_pwrite(disk, (int64_t)first, (int64_t)(stop - first), event->data + (first - start),
                               VD_STAGE_NEW, &err) == 0,
                   "%s", err.story);
}

static void set_length(struct BlockDriverState *disk, int64_t length)
{
    struct vd_err err = VD_ERR_INIT;

    sweep_must(bdrv_truncate(disk, length, &err) == 0, "%s", err.story);
}

static uint64_t sectors_start(const struct vd_fault_event *event)
{
    return vd_align_down((uint64_t)event->offset, SECTOR);
}

uint64_t crash_sectors(const struct vd_fault_event *event)
{
    if (event->op != VD_FAULT_WRITE)
        return 0;
    return vd_div_up((uint64_t)event->offset + (uint64_t)event->bytes - sectors_start(event), SECTOR);
}

static void arrive(struct BlockDriverState *disk, const struct vd_fault_event *event)
{
    if (event->op == VD_FAULT_WRITE)
        write_part(disk, event, 0, UINT64_MAX);
    else if (event->op == VD_FAULT_TRUNCATE)
        set_length(disk, event->offset);
}

/* A file system may bring the new length to the disk before the data that needs it. */
static void perhaps_grow(struct BlockDriverState *disk, const struct vd_fault_event *event,
                         struct sweep_random *random)
{
    struct vd_err err = VD_ERR_INIT;
    int64_t end = event->offset + event->bytes;

    if (bdrv_getlength(disk, &err) < end && sweep_below(random, 2))
        set_length(disk, end);
}

/* Whole, or by sectors, or not at all. */
static void arrive_in_part(struct BlockDriverState *disk, const struct vd_fault_event *event,
                           struct sweep_random *random)
{
    uint64_t start = sectors_start(event), n = crash_sectors(event);

    switch (sweep_below(random, 3)) {
    case 0:
        arrive(disk, event);
        break;
    case 1:
        for (uint64_t i = 0; i < n; i++)
            if (sweep_below(random, 2))
                write_part(disk, event, start + i * SECTOR, start + (i + 1) * SECTOR);
        /* fall through */
    default:
        if (event->op == VD_FAULT_WRITE)
            perhaps_grow(disk, event, random);
        break;
    }
}

static size_t last_flush(const struct vd_fault_log *log, size_t event)
{
    while (event > 0 && log->v[event - 1].op != VD_FAULT_FLUSH)
        event--;
    return event;
}

size_t crash_unflushed(const struct vd_fault_log *log, size_t event)
{
    return event - last_flush(log, event);
}

struct BlockDriverState *crash_disk_new(void)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *disk = vd_memory_new("disk", NULL, 0, &err);

    sweep_must(disk, "%s", err.story);
    return disk;
}

void crash_copy(struct BlockDriverState *disk, struct BlockDriverState *from)
{
    struct vd_err err = VD_ERR_INIT;
    size_t len;
    const uint8_t *bytes = vd_memory_bytes(from, &len);

    sweep_must(vd_memory_fill(disk, bytes, len, &err) == 0, "%s", err.story);
}

void crash_disk_at(struct BlockDriverState *disk, struct BlockDriverState *before,
                   const struct vd_fault_log *log, const struct crash_cut *cut)
{
    struct sweep_random random = {cut->lost};
    size_t flushed = last_flush(log, cut->event);

    crash_copy(disk, before);
    for (size_t i = 0; i < cut->event; i++) {
        if (i >= flushed && cut->dropped >> vd_min(i - flushed, 63) & 1)
            continue;
        if (i < flushed || !cut->lost)
            arrive(disk, &log->v[i]);
        else
            arrive_in_part(disk, &log->v[i], &random);
    }
    if (cut->event < log->n && cut->torn)
        write_part(disk, &log->v[cut->event], 0, sectors_start(&log->v[cut->event]) + cut->torn * SECTOR);
}

static void each_tear(const struct vd_fault_log *log, size_t event,
                      void (*fn)(void *opaque, const struct crash_cut *cut), void *opaque)
{
    uint64_t n = crash_sectors(&log->v[event]);
    const uint64_t some[] = {1, n / 2, n - 1};

    if (n < 2)
        return;
    if (sweep_is_long()) {
        for (uint64_t torn = 1; torn < n; torn++)
            fn(opaque, &(struct crash_cut){.event = event, .torn = torn});
        return;
    }
    for (size_t i = 0; i < VD_ARRAY_SIZE(some); i++)
        if (some[i] && (i == 0 || some[i] != some[i - 1]))
            fn(opaque, &(struct crash_cut){.event = event, .torn = some[i]});
}

static void each_loss(const struct vd_fault_log *log, size_t event,
                      void (*fn)(void *opaque, const struct crash_cut *cut), void *opaque)
{
    uint64_t seeds = sweep_is_long() ? MANY_LOSSES : SOME_LOSSES;
    size_t n = crash_unflushed(log, event);

    for (uint64_t seed = 1; n && seed <= seeds; seed++)
        fn(opaque, &(struct crash_cut){.event = event, .lost = seed + 1000 * event});
    for (uint64_t bits = 1; sweep_is_long() && n <= FEW_REQUESTS && bits < 1u << n; bits++)
        fn(opaque, &(struct crash_cut){.event = event, .dropped = bits});
}

void crash_each_cut(const struct vd_fault_log *log, void (*fn)(void *opaque, const struct crash_cut *cut),
                    void *opaque)
{
    for (size_t event = 0; event <= log->n; event++) {
        fn(opaque, &(struct crash_cut){.event = event});
        each_loss(log, event, fn, opaque);
        if (event < log->n)
            each_tear(log, event, fn, opaque);
    }
}

struct crash_cut crash_some_cut(const struct vd_fault_log *log, struct sweep_random *random)
{
    struct crash_cut cut = {.event = sweep_below(random, log->n + 1)};

    if (cut.event < log->n && sweep_below(random, 2))
        cut.torn = sweep_below(random, crash_sectors(&log->v[cut.event]));
    if (sweep_below(random, 2))
        cut.lost = 1 + sweep_below(random, UINT32_MAX);
    return cut;
}
