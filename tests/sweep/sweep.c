/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/sweep/sweep.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "formats/base/bytes.h"
#include "formats/base/span.h"
#include "formats/registry.h"

/* ---- the case at hand */

enum { SECONDS_A_CASE = 60, EXTENT_MAX = 1 << 20 };

static char case_name[512];

static void tell_case(void)
{
    static const char head[] = "the case at hand: ";

    if (write(STDERR_FILENO, head, sizeof(head) - 1) < 0 ||
        write(STDERR_FILENO, case_name, strlen(case_name)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
        return;
}

static void on_signal(int number)
{
    tell_case();
    signal(number, SIG_DFL);
    raise(number);
}

/* A sanitizer is to end the process by a signal that comes by here. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}

const char *__ubsan_default_options(void)
{
    return "abort_on_error=1:print_stacktrace=1";
}

static void watch(void)
{
    static bool is_watching;

    if (is_watching)
        return;
    is_watching = true;
    signal(SIGALRM, on_signal);
    signal(SIGABRT, on_signal);
}

void sweep_case(const char *fmt, ...)
{
    va_list ap;

    watch();
    va_start(ap, fmt);
    vsnprintf(case_name, sizeof(case_name), fmt, ap);
    va_end(ap);
    alarm(SECONDS_A_CASE);
}

const char *sweep_case_name(void)
{
    return case_name;
}

void sweep_fail_(const char *file, int line, const char *condition, const char *fmt, ...)
{
    char story[1400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(story, sizeof(story), fmt, ap);
    va_end(ap);
    ck_abort_msg("%s: %s (%s:%d: %s)", case_name, story, file, line, condition);
}

bool sweep_is_long(void)
{
    const char *word = getenv("VDCHECK_LONG");

    return word && *word && strcmp(word, "0") != 0;
}

uint64_t sweep_seed(uint64_t fixed)
{
    const char *word = getenv("VDCHECK_SEED");
    uint64_t seed = fixed;

    if (word && *word)
        seed = strtoull(word, NULL, 0);
    else if (sweep_is_long())
        seed = (uint64_t)time(NULL) * 1000003 + fixed;
    printf("VDCHECK_SEED=%" PRIu64 "\n", seed);
    fflush(stdout);
    return seed;
}

/* splitmix64 */
uint64_t sweep_next(struct sweep_random *random)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sweep_below(struct sweep_random *random, uint64_t n)
{
    return n ? sweep_next(random) % n : 0;
}

int sweep_run(const char *name, const struct sweep_test *tests, size_t n)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    SRunner *runner;
    int failed;

    tcase_set_timeout(tcase, sweep_is_long() ? 24 * 3600 : 600);
    for (size_t i = 0; i < n; i++)
        tcase_add_loop_test(tcase, tests[i].test, 0, tests[i].times);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- images */

static struct BlockDriverState *memory(const void *bytes, size_t len)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *node = vd_memory_new("image", bytes, len, &err);

    sweep_must(node, "%s", err.story);
    return node;
}

struct sweep_image sweep_create(const struct BlockDriver *drv, const struct vd_create_options *opts,
                                struct BlockDriverState *backing)
{
    struct vd_err err = VD_ERR_INIT;
    struct sweep_image image = {
        .drv = drv, .file = memory(NULL, 0), .backing = backing ? bdrv_ref(backing) : NULL};

    sweep_must(drv->bdrv_co_create(image.file, opts, &err) == 0, "create: %s", err.story);
    return image;
}

struct BlockDriverState *sweep_backing(int64_t bytes)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) file = memory(NULL, (size_t)bytes);
    struct BlockDriverState *bs;
    size_t len;
    uint8_t *p = vd_memory_bytes(file, &len);

    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(0x80 | ((i >> 9) % 127));
    bs = bdrv_open_node(vd_driver_by_name("raw"), file, 0, &err);
    sweep_must(bs, "backing file: %s", err.story);
    return bs;
}

struct sweep_image sweep_clone(const struct sweep_image *image)
{
    size_t len;
    const uint8_t *bytes = vd_memory_bytes(image->file, &len);

    return (struct sweep_image){image->drv, memory(bytes, len),
                                image->backing ? bdrv_ref(image->backing) : NULL, image->deep};
}

void sweep_drop(struct sweep_image *image)
{
    bdrv_unref(image->file);
    bdrv_unref(image->backing);
    *image = (struct sweep_image){0};
}

struct BlockDriverState *sweep_open(const struct sweep_image *image, struct BlockDriverState *file, int flags,
                                    struct vd_err *err)
{
    struct BlockDriverState *bs = bdrv_open_node(image->drv, file, flags, err);

    if (bs && bs->backing_file && image->backing)
        bs->backing = bdrv_ref(image->backing);
    return bs;
}

struct BlockDriverState *sweep_open_live(const struct sweep_image *image)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *bs = sweep_open(image, image->file, BDRV_O_RDWR, &err);

    sweep_must(bs, "live open: %s", err.story);
    return bs;
}

void sweep_close_live(struct BlockDriverState *bs)
{
    struct vd_err err = VD_ERR_INIT;

    sweep_must(bdrv_inactivate(bs, &err) == 0, "close: %s", err.story);
    bdrv_unref(bs);
}

void sweep_write(struct BlockDriverState *bs, int64_t offset, int64_t bytes, uint8_t pattern)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem uint8_t *buf = malloc((size_t)bytes);

    sweep_must(buf, "memory");
    memset(buf, pattern, (size_t)bytes);
    sweep_must(bdrv_pwrite(bs, offset, bytes, buf, VD_STAGE_NEW, &err) == 0, "write: %s", err.story);
}

static uint8_t *bytes_at(const struct sweep_image *image, uint64_t offset, size_t n)
{
    size_t len;
    uint8_t *bytes = vd_memory_bytes(image->file, &len);

    sweep_must(offset + n <= len, "offset %" PRIu64 " in %zu bytes", offset, len);
    return bytes + offset;
}

uint64_t sweep_get64(const struct sweep_image *image, uint64_t offset)
{
    return vd_get_le64(bytes_at(image, offset, 8));
}

uint32_t sweep_get32(const struct sweep_image *image, uint64_t offset)
{
    return vd_get_le32(bytes_at(image, offset, 4));
}

void sweep_put64(struct sweep_image *image, uint64_t offset, uint64_t value)
{
    vd_put_le64(bytes_at(image, offset, 8), value);
}

void sweep_put32(struct sweep_image *image, uint64_t offset, uint32_t value)
{
    vd_put_le32(bytes_at(image, offset, 4), value);
}

bool sweep_same_bytes(struct BlockDriverState *a, struct BlockDriverState *b)
{
    size_t a_len, b_len;
    const uint8_t *x = vd_memory_bytes(a, &a_len), *y = vd_memory_bytes(b, &b_len);

    return a_len == b_len && memcmp(x, y, a_len) == 0;
}

void sweep_must_be_same(struct BlockDriverState *a, struct BlockDriverState *b, const char *what)
{
    size_t a_len, b_len, at = 0;
    const uint8_t *x = vd_memory_bytes(a, &a_len), *y = vd_memory_bytes(b, &b_len);

    if (sweep_same_bytes(a, b))
        return;
    while (at < a_len && at < b_len && x[at] == y[at])
        at++;
    sweep_must(false, "%s: the bytes differ from %#zx on; %zu bytes, expected %zu", what, at, a_len, b_len);
}

/* ---- what the guest reads */

/* One extent's bytes; a grain that is cut by the end of the disk has what is there. */
static void note_bytes(struct sweep_guest *guest, struct BlockDriverState *bs, uint64_t at, uint64_t bytes)
{
    vd_auto_mem uint8_t *buf = malloc(bytes);
    struct vd_err err = VD_ERR_INIT;

    sweep_must(buf, "memory");
    if (bdrv_pread(bs, (int64_t)at, (int64_t)bytes, buf, &err) < 0)
        return;
    sweep_must(vd_runs_add(&guest->readable, at, bytes) == 0, "memory");
    for (uint64_t done = 0; done < bytes; done += SWEEP_GRAIN) {
        uint64_t n = vd_min(SWEEP_GRAIN, bytes - done);
        struct sweep_grain grain = {at + done, 0};

        if (vd_is_zero(buf + done, n))
            continue;
        grain.hash = XXH3_64bits(buf + done, n);
        sweep_must(sweep_grain_vec_push(&guest->grains, grain) == 0, "memory");
    }
}

/* Behind the end of the backing file the guest reads zeroes, and those may be many. */
static bool reads_zeroes(struct BlockDriverState *bs, int status, uint64_t at)
{
    if (status & (BDRV_BLOCK_ZERO | BDRV_BLOCK_DATA))
        return status & BDRV_BLOCK_ZERO;
    return bs->backing && at >= (uint64_t)bs->backing->total_bytes;
}

/* Takes in the extent at `at` and returns its length. */
static uint64_t note_extent(struct sweep_guest *guest, struct BlockDriverState *bs, uint64_t at)
{
    int64_t left = (int64_t)(guest->size - at), pnum = 0;
    int status = bdrv_block_status(bs, (int64_t)at, left, &pnum, NULL, NULL);

    if (status < 0)
        return vd_min((uint64_t)left, SWEEP_GRAIN - at % SWEEP_GRAIN);
    sweep_must(pnum > 0 && pnum <= left, "block status tells %" PRId64 " bytes", pnum);
    if (reads_zeroes(bs, status, at)) {
        sweep_must(vd_runs_add(&guest->readable, at, (uint64_t)pnum) == 0, "memory");
        return (uint64_t)pnum;
    }
    if (!(status & BDRV_BLOCK_DATA) && !bs->backing)
        return (uint64_t)pnum;
    pnum = (int64_t)vd_min((uint64_t)pnum, EXTENT_MAX);
    note_bytes(guest, bs, at, (uint64_t)pnum);
    return (uint64_t)pnum;
}

void sweep_read_guest(const struct sweep_image *image, uint64_t limit, struct sweep_guest *guest)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = sweep_open(image, image->file, BDRV_O_CHECK, &err);

    *guest = (struct sweep_guest){0};
    sweep_must(bs, "open for reading: %s", err.story);
    guest->size = vd_min((uint64_t)bs->total_bytes, limit);
    for (uint64_t at = 0; at < guest->size;)
        at += note_extent(guest, bs, at);
}

void sweep_guest_done(struct sweep_guest *guest)
{
    vd_runs_done(&guest->readable);
    sweep_grain_vec_done(&guest->grains);
    *guest = (struct sweep_guest){0};
}

static bool overlaps(struct vd_runs *runs, uint64_t first, uint64_t count)
{
    size_t i = vd_runs_find(runs, first);

    return i < runs->n && runs->v[i].first < first + count;
}

void sweep_must_read_same(struct sweep_guest *before, struct sweep_guest *after, struct vd_runs *named)
{
    struct vd_runs unnamed = {0}, lost = {0};
    const struct sweep_grain *x = before->grains.v, *y = after->grains.v;
    size_t i = 0, k = 0;

    sweep_must(vd_runs_minus(&before->readable, named, &unnamed) == 0 &&
                   vd_runs_minus(&unnamed, &after->readable, &lost) == 0,
               "memory");
    sweep_must(!lost.n, "guest bytes at %#" PRIx64 " can no longer be read, and no finding names them",
               lost.v[0].first);
    while (i < before->grains.n || k < after->grains.n) {
        uint64_t old = i < before->grains.n ? x[i].guest : UINT64_MAX;
        uint64_t new = k < after->grains.n ? y[k].guest : UINT64_MAX, at = vd_min(old, new);
        bool is_same = old == new &&x[i].hash == y[k].hash;

        sweep_must(is_same || !overlaps(&unnamed, at, 1),
                   "guest bytes at %#" PRIx64 " read otherwise, and no finding names them", at);
        i += old == at;
        k += new == at;
    }
    vd_runs_done(&unnamed);
    vd_runs_done(&lost);
}

/* ---- check and repair */

static uint64_t hash_of(struct BlockDriverState *node)
{
    size_t len;
    const uint8_t *bytes = vd_memory_bytes(node, &len);

    return XXH3_64bits(bytes, len);
}

int sweep_check(const struct sweep_image *image, struct sweep_report *report, struct vd_err *err)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_check_options opts = {.budget = &budget, .keeps_keys = true, .deep = image->deep};
    struct vd_check_result result = {0};
    vd_auto(BlockDriverState) bs = NULL;
    uint64_t hash = hash_of(image->file);
    int rc;

    *report = (struct sweep_report){0};
    bs = sweep_open(image, image->file, BDRV_O_CHECK, err);
    if (!bs)
        return -1;
    rc = vd_check_run(bs, &opts, &result, err);
    sweep_must(hash_of(image->file) == hash, "a check wrote to the image");
    report->cluster_size = result.cluster_size;
    report->has_walked = result.map != NULL;
    report->is_complete = result.map && !result.map_is_incomplete;
    report->counts_refs = result.map && vd_usemap_counts_refs(result.map);
    report->ledger = vd_take(&result.ledger);
    vd_check_result_free(&result);
    sweep_must(budget.memory == VD_BUDGET_MEMORY, "a check kept %" PRIu64 " bytes of its budget",
               VD_BUDGET_MEMORY - budget.memory);
    return rc;
}

void sweep_report_done(struct sweep_report *report)
{
    if (report->ledger)
        vd_ledger_free(report->ledger);
    *report = (struct sweep_report){0};
}

bool sweep_has(const struct vd_ledger *ledger, const char *id)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        if (strcmp(ledger->groups.v[i]->kind->id, id) == 0)
            return true;
    return false;
}

const char *sweep_findings(const struct vd_ledger *ledger)
{
    static char text[1024];
    size_t at = 0;

    snprintf(text, sizeof(text), "nothing");
    for (size_t i = 0; i < ledger->groups.n && at < sizeof(text); i++) {
        const struct vd_group *group = ledger->groups.v[i];

        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s %" PRIu64 " (%s)", i ? ", " : "",
                               group->kind->id, group->count, vd_level_name(group->level));
    }
    return text;
}

enum sweep_status sweep_status(const struct vd_ledger *ledger)
{
    struct vd_counts left = vd_ledger_left(ledger);

    if (left.corruptions || left.errors)
        return SWEEP_DAMAGED;
    if (left.states)
        return SWEEP_DIRTY;
    return left.leaks ? SWEEP_LEAKING : SWEEP_CLEAN;
}

void sweep_add_named(const struct vd_ledger *ledger, struct vd_runs *named)
{
    sweep_must(vd_runs_add_all(named, &ledger->guest) == 0, "memory");
}

int sweep_prepare(struct sweep_repair *repair, const struct sweep_image *image, struct BlockDriverState *file,
                  enum vd_level level, struct vd_journal *earlier)
{
    struct vd_transaction_options opts = {
        .plan = {.level = level}, .budget = &repair->budget, .deep = image->deep};
    uint64_t cluster_size;

    *repair = (struct sweep_repair){
        .work = {.file = file, .drv = image->drv},
          .budget = VD_BUDGET_INIT, .err = VD_ERR_INIT
    };
    if (earlier)
        sweep_must(vd_journal_kept_leaks(earlier, &repair->work.kept_leaks, &cluster_size, &repair->err) == 0,
                   "kept leaks: %s", repair->err.story);
    return vd_work_prepare(&repair->work, &opts, &repair->err);
}

void sweep_journal(struct sweep_repair *repair)
{
    struct vd_journal *journal = vd_journal_create(":memory:", NULL, &repair->err);

    sweep_must(journal, "journal: %s", repair->err.story);
    sweep_must(vd_work_write_journal(&repair->work, journal, &repair->budget, &repair->err) == 0,
               "journal: %s", repair->err.story);
    sweep_must(vd_journal_set_state(journal, VD_JOURNAL_PREPARED, &repair->err) == 0, "journal: %s",
               repair->err.story);
}

void sweep_commit(struct sweep_repair *repair)
{
    sweep_must(vd_work_apply(&repair->work, &repair->err) == 0, "apply: %s", repair->err.story);
    sweep_must(vd_journal_set_state(repair->work.journal, VD_JOURNAL_COMMITTED, &repair->err) == 0,
               "journal: %s", repair->err.story);
}

void sweep_repair_done(struct sweep_repair *repair)
{
    vd_work_done(&repair->work);
    sweep_must(repair->budget.memory == VD_BUDGET_MEMORY, "a repair kept %" PRIu64 " bytes of its budget",
               VD_BUDGET_MEMORY - repair->budget.memory);
}
