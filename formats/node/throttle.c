/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/throttle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "formats/base/span.h"
#include "formats/base/text.h"

#define NS_PER_S 1000000000u

/* A request may go once `due` is reached; each request puts `due` later by what it costs. */
struct bucket {
    uint64_t per_second;
    uint64_t due; /* ns */
};

struct throttle {
    struct bucket bytes, requests;
    void (*sleep_ns)(void *opaque, uint64_t ns);
    uint64_t (*now_ns)(void *opaque);
    void *opaque;
};

static uint64_t clock_ns(void *opaque)
{
    struct timespec ts;

    (void)opaque;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void sleep_ns(void *opaque, uint64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

    (void)opaque;
    /* A signal ends the sleep early: it may be the one that cancels. */
    (void)nanosleep(&ts, NULL);
}

/* Books amount and returns how long to wait before it may go. */
static uint64_t book(struct bucket *b, uint64_t now, uint64_t amount)
{
    uint64_t wait;

    if (!b->per_second)
        return 0;
    if (now > NS_PER_S / 10 && b->due < now - NS_PER_S / 10)
        b->due = now - NS_PER_S / 10;
    wait = b->due > now ? b->due - now : 0;
    b->due += (uint64_t)((double)amount * NS_PER_S / (double)b->per_second);
    return wait;
}

static void pace(struct BlockDriverState *bs, int64_t bytes)
{
    struct throttle *t = bs->opaque;
    uint64_t now = t->now_ns(t->opaque);
    uint64_t wait = vd_max(book(&t->bytes, now, (uint64_t)bytes), book(&t->requests, now, 1));

    if (wait)
        t->sleep_ns(t->opaque, wait);
}

static int throttle_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                           struct vd_err *err)
{
    pace(bs, bytes);
    return bdrv_pread(bs->file, offset, bytes, buf, err);
}

static int throttle_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                            enum vd_stage stage, struct vd_err *err)
{
    pace(bs, bytes);
    return bdrv_pwrite(bs->file, offset, bytes, buf, stage, err);
}

/* A hint would read ahead of the limit. */
static void throttle_prefetch(struct BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    (void)bs;
    (void)offset;
    (void)bytes;
}

static const struct BlockDriver throttle_driver = {
    .format_name = "throttle",
    .description = "limits bytes and requests a second",
    .is_filter = true,
    .instance_size = sizeof(struct throttle),
    .bdrv_co_preadv = throttle_preadv,
    .bdrv_co_pwritev = throttle_pwritev,
    .bdrv_prefetch = throttle_prefetch,
};

static int parse_pair(const char *pair, size_t len, struct vd_throttle_limits *limits)
{
    char word[64];
    int64_t v;

    if (len >= sizeof(word))
        return -1;
    memcpy(word, pair, len);
    word[len] = '\0';
    if (strncmp(word, "bps=", 4) == 0 && vd_text_parse_size(word + 4, &v) && v > 0)
        limits->bps = (uint64_t)v;
    else if (strncmp(word, "iops=", 5) == 0 && vd_text_parse_size(word + 5, &v) && v > 0)
        limits->iops = (uint64_t)v;
    else
        return -1;
    return 0;
}

int vd_throttle_parse(const char *text, struct vd_throttle_limits *limits, struct vd_err *err)
{
    const char *p = text;

    do {
        size_t len = strcspn(p, ",");

        if (parse_pair(p, len, limits) < 0)
            return vd_fail(err, VD_ERR_USAGE, 0, "'%s' is no throttle: bps=BYTES,iops=N expected", text);
        p += len;
    } while (*p++ == ',');
    return 0;
}

struct BlockDriverState *vd_throttle_new(struct BlockDriverState *below,
                                         const struct vd_throttle_limits *limits, struct vd_err *err)
{
    struct BlockDriverState *bs = bdrv_new(&throttle_driver, below->filename, below, err);

    if (bs) {
        struct throttle *t = bs->opaque;

        bs->open_flags = below->open_flags;
        t->bytes.per_second = limits->bps;
        t->requests.per_second = limits->iops;
        vd_throttle_set_sleep(bs, NULL, NULL, NULL);
    }
    return bs;
}

void vd_throttle_set_sleep(struct BlockDriverState *bs, void (*sleeper)(void *opaque, uint64_t ns),
                           uint64_t (*now_ns)(void *opaque), void *opaque)
{
    struct throttle *t = bs->opaque;

    t->sleep_ns = sleeper ? sleeper : sleep_ns;
    t->now_ns = now_ns ? now_ns : clock_ns;
    t->opaque = opaque;
}
