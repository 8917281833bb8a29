/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/throttle.h"

#include "formats/base/auto.h"
#include "formats/node/memory.h"
#include "tests/unit/unit.h"

#define SECOND 1000000000u

/* A clock that moves only when somebody sleeps, or when the test says so. */
struct fake_clock {
    uint64_t now, slept;
    unsigned naps;
};

static void sleep_ns(void *opaque, uint64_t ns)
{
    struct fake_clock *clock = opaque;

    clock->now += ns;
    clock->slept += ns;
    clock->naps++;
}

static uint64_t now_ns(void *opaque)
{
    return ((struct fake_clock *)opaque)->now;
}

static struct BlockDriverState *make(struct fake_clock *clock, struct vd_throttle_limits limits)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) below = vd_memory_new("memory", NULL, 1 << 20, &err);
    struct BlockDriverState *bs = vd_throttle_new(below, &limits, &err);

    must_have(bs, &err);
    *clock = (struct fake_clock){.now = (uint64_t)1000 * SECOND};
    vd_throttle_set_sleep(bs, sleep_ns, now_ns, clock);
    return bs;
}

static void read_bytes(struct BlockDriverState *bs, int64_t bytes, unsigned times)
{
    struct vd_err err = VD_ERR_INIT;
    static uint8_t buf[1 << 20];

    for (unsigned i = 0; i < times; i++)
        must(bdrv_pread(bs, 0, bytes, buf, &err), &err);
}

START_TEST(no_more_bytes_a_second_pass_than_told)
{
    struct fake_clock clock;
    vd_auto(BlockDriverState) bs = make(&clock, (struct vd_throttle_limits){.bps = 100000});

    read_bytes(bs, 10000, 100); /* 1 000 000 bytes: ten seconds */
    ck_assert_uint_ge(clock.slept, (uint64_t)(10 - 1) * SECOND);
    ck_assert_uint_le(clock.slept, (uint64_t)10 * SECOND);
}
END_TEST

START_TEST(no_more_requests_a_second_pass_than_told)
{
    struct fake_clock clock;
    vd_auto(BlockDriverState) bs = make(&clock, (struct vd_throttle_limits){.iops = 50});

    read_bytes(bs, 1, 501);
    ck_assert_uint_ge(clock.slept, (uint64_t)(10 - 1) * SECOND);
    ck_assert_uint_le(clock.slept, (uint64_t)10 * SECOND);
}
END_TEST

START_TEST(the_stricter_of_both_limits_rules)
{
    struct fake_clock clock;
    vd_auto(BlockDriverState) bs = make(&clock, (struct vd_throttle_limits){.bps = 1000000, .iops = 10});

    read_bytes(bs, 100, 101); /* bytes alone: 0.01 s; requests: 10 s */
    ck_assert_uint_ge(clock.slept, (uint64_t)(10 - 1) * SECOND);
    clock.slept = 0;
    read_bytes(bs, 1000000, 11); /* bytes: 10 s more; requests: 1 s */
    ck_assert_uint_ge(clock.slept, (uint64_t)(10 - 1) * SECOND);
}
END_TEST

START_TEST(writes_count_like_reads)
{
    struct fake_clock clock;
    vd_auto(BlockDriverState) bs = make(&clock, (struct vd_throttle_limits){.bps = 100000});
    struct vd_err err = VD_ERR_INIT;
    uint8_t buf[10000] = {0};

    for (int i = 0; i < 51; i++) {
        must(bdrv_pwrite(bs, 0, sizeof(buf), buf, VD_STAGE_NEW, &err), &err);
        must(bdrv_pwrite_zeroes(bs, 0, sizeof(buf), VD_STAGE_NEW, &err), &err);
    }
    ck_assert_uint_ge(clock.slept, (uint64_t)(10 - 1) * SECOND);
}
END_TEST

START_TEST(a_tenth_of_a_second_may_be_saved_up_and_no_more)
{
    struct fake_clock clock;
    vd_auto(BlockDriverState) bs = make(&clock, (struct vd_throttle_limits){.bps = 100000});

    clock.now += (uint64_t)3600 * SECOND;
    read_bytes(bs, 1000, 10); /* a tenth of a second's worth */
    ck_assert_uint_eq(clock.slept, 0);
    read_bytes(bs, 1000, 100);
    ck_assert_uint_ge(clock.slept, (uint64_t)SECOND * 8 / 10);
}
END_TEST

START_TEST(no_limit_never_sleeps)
{
    struct fake_clock clock;
    vd_auto(BlockDriverState) bs = make(&clock, (struct vd_throttle_limits){0});

    read_bytes(bs, 1 << 20, 1000);
    ck_assert_uint_eq(clock.naps, 0);
}
END_TEST

START_TEST(words_for_limits_are_read)
{
    struct vd_throttle_limits limits = {0};
    struct vd_err err = VD_ERR_INIT;

    must(vd_throttle_parse("bps=10M,iops=200", &limits, &err), &err);
    ck_assert_uint_eq(limits.bps, 10 << 20);
    ck_assert_uint_eq(limits.iops, 200);
    limits = (struct vd_throttle_limits){0};
    must(vd_throttle_parse("iops=1k", &limits, &err), &err);
    ck_assert_uint_eq(limits.bps, 0);
    ck_assert_uint_eq(limits.iops, 1024);
}
END_TEST

START_TEST(words_that_are_no_limits_are_refused)
{
    static const char *const words[] = {"",
                                        "bps",
                                        "bps=",
                                        "bps=0",
                                        "bps=-1",
                                        "bps=10,",
                                        ",bps=10",
                                        "kps=10",
                                        "bps=10 ",
                                        "iops=x",
                                        "bps==1",
                                        "bps=1;iops=2",
                                        "bps=10,,iops=2",
                                        "bps=99999999999999999999999999999999999999999999999999999999999999"};
    struct vd_throttle_limits limits;
    struct vd_err err;

    for (size_t i = 0; i < VD_ARRAY_SIZE(words); i++)
        must_fail(vd_throttle_parse(words[i], &limits, &err), &err, VD_ERR_USAGE);
}
END_TEST

START_TEST(a_throttled_node_reads_as_the_one_below)
{
    struct fake_clock clock;
    vd_auto(BlockDriverState) bs = make(&clock, (struct vd_throttle_limits){.bps = 1});
    struct vd_err err = VD_ERR_INIT;
    char buf[3];

    must(bdrv_pwrite(bs, 7, 3, "abc", VD_STAGE_NEW, &err), &err);
    must(bdrv_pread(bs, 7, 3, buf, &err), &err);
    ck_assert_mem_eq(buf, "abc", 3);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 1 << 20);
    must(bdrv_truncate(bs, 5, &err), &err);
    ck_assert_int_eq(bdrv_getlength(bs, &err), 5);
}
END_TEST

UNIT_TESTS("throttle", no_more_bytes_a_second_pass_than_told, no_more_requests_a_second_pass_than_told,
           the_stricter_of_both_limits_rules, writes_count_like_reads,
           a_tenth_of_a_second_may_be_saved_up_and_no_more, no_limit_never_sleeps, words_for_limits_are_read,
           words_that_are_no_limits_are_refused, a_throttled_node_reads_as_the_one_below)
