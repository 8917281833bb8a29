/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What sweeps over thousands of images share: images in memory, their whole check and repair in one process
 * with the journal in memory, and what their guests read.
 *
 * A helper that cannot do its work ends the test and names the case at hand; so does whatever kills the
 * process within a case. Nothing here knows a format.
 */
#ifndef VD_SWEEP_H
#define VD_SWEEP_H

#include <check.h>

#include "formats/node/memory.h"
#include "repair/transaction.h"

/* ---- the case at hand */

/* Names the case for every failure from now on, and gives it a bound in time. */
void sweep_case(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
const char *sweep_case_name(void);

/* Fails the test with the case's name before the story. Cheap where the condition holds. */
#define sweep_must(condition, ...)                                                                           \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            sweep_fail_(__FILE__, __LINE__, #condition, __VA_ARGS__);                                        \
    } while (0)
void sweep_fail_(const char *file, int line, const char *condition, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), noreturn));

/* Everything, as in `make check-long`? Else a sample that fits into `make check`. */
bool sweep_is_long(void);

/* VDCHECK_SEED, where it is set; else the fixed one, or in a long run one of the clock's. Printed. */
uint64_t sweep_seed(uint64_t fixed);

/* Numbers that look random and come again from the same seed. */
struct sweep_random {
    uint64_t state;
};
uint64_t sweep_next(struct sweep_random *random);
uint64_t sweep_below(struct sweep_random *random, uint64_t n);

/* A test, and how often it runs with another _i. */
struct sweep_test {
    const TTest *test;
    int times;
};

/* `SWEEP_TESTS("name", {test, 1}, ...)` at the end of a file makes it a program. */
#define SWEEP_TESTS(name, ...)                                                                               \
    int main(void)                                                                                           \
    {                                                                                                        \
        const struct sweep_test tests[] = {__VA_ARGS__};                                                     \
        return sweep_run(name, tests, sizeof(tests) / sizeof(tests[0]));                                     \
    }
int sweep_run(const char *name, const struct sweep_test *tests, size_t n);

/* ---- images */

/* An image in memory. Both nodes are held. */
struct sweep_image {
    const struct BlockDriver *drv;
    struct BlockDriverState *file;    /* bytes of the image */
    struct BlockDriverState *backing; /* format node; attached where the image names a backing file */
    bool deep;                        /* checks and repairs read the data, too */
};

/* A new image with the options of vd_create_options; backing may be NULL. */
struct sweep_image sweep_create(const struct BlockDriver *drv, const struct vd_create_options *opts,
                                struct BlockDriverState *backing);

/* A raw disk in memory, opened read-only, filled with bytes that tell their place. */
struct BlockDriverState *sweep_backing(int64_t bytes);

struct sweep_image sweep_clone(const struct sweep_image *image);
void sweep_drop(struct sweep_image *image);

/* Opens the image over any node that holds its bytes; NULL with err. */
struct BlockDriverState *sweep_open(const struct sweep_image *image, struct BlockDriverState *file, int flags,
                                    struct vd_err *err);

/* A live open, and a clean close. */
struct BlockDriverState *sweep_open_live(const struct sweep_image *image);
void sweep_close_live(struct BlockDriverState *bs);

void sweep_write(struct BlockDriverState *bs, int64_t offset, int64_t bytes, uint8_t pattern);

/* Little-endian numbers in the image's bytes. */
uint64_t sweep_get64(const struct sweep_image *image, uint64_t offset);
uint32_t sweep_get32(const struct sweep_image *image, uint64_t offset);
void sweep_put64(struct sweep_image *image, uint64_t offset, uint64_t value);
void sweep_put32(struct sweep_image *image, uint64_t offset, uint32_t value);

/* Do two nodes hold the same bytes? */
bool sweep_same_bytes(struct BlockDriverState *a, struct BlockDriverState *b);

/* Fails where they do not, and says where. */
void sweep_must_be_same(struct BlockDriverState *a, struct BlockDriverState *b, const char *what);

/* ---- what the guest reads */

enum { SWEEP_GRAIN = 4096 };

struct sweep_grain {
    uint64_t guest;
    uint64_t hash;
};

VD_VEC(sweep_grain_vec, struct sweep_grain)

/* Guest bytes [0, size): which can be read, and a hash of each grain of them that is not zero. */
struct sweep_guest {
    uint64_t size;
    struct vd_runs readable;
    struct sweep_grain_vec grains;
};

/* Reads the guest's disk, as far as limit, through an open for checking. */
void sweep_read_guest(const struct sweep_image *image, uint64_t limit, struct sweep_guest *guest);
void sweep_guest_done(struct sweep_guest *guest);

/* Fails where a byte that was readable, and is not among the named ones, is unreadable or another one. */
void sweep_must_read_same(struct sweep_guest *before, struct sweep_guest *after, struct vd_runs *named);

/* ---- check and repair */

struct sweep_report {
    struct vd_ledger *ledger;
    uint64_t cluster_size;
    bool has_walked;  /* there was a way to the guest's data */
    bool is_complete; /* the walk reached all of it */
    bool counts_refs; /* the format keeps counts of its clusters' references */
};

/* Checks the image, and fails where that writes to it or keeps some of its budget. -1 with err. The report is
 * to be freed in both cases. */
int sweep_check(const struct sweep_image *image, struct sweep_report *report, struct vd_err *err);
void sweep_report_done(struct sweep_report *report);

/* Is this id among the findings? */
bool sweep_has(const struct vd_ledger *ledger, const char *id);

/* The ids and counts of all findings, for people; good until the next call. */
const char *sweep_findings(const struct vd_ledger *ledger);

/* 0 clean, then leaking, dirty, damaged: what `status` says. */
enum sweep_status { SWEEP_CLEAN, SWEEP_LEAKING, SWEEP_DIRTY, SWEEP_DAMAGED };
enum sweep_status sweep_status(const struct vd_ledger *ledger);

/* The guest bytes that a report names, to be added to *named. */
void sweep_add_named(const struct vd_ledger *ledger, struct vd_runs *named);

/* A repair, step by step. */
struct sweep_repair {
    struct vd_work work;
    struct vd_budget budget;
    struct vd_err err;
};

/* Works it out; journal, where not NULL, is that of an earlier repair whose kept leaks are kept on. -1 with
 * repair->err. */
int sweep_prepare(struct sweep_repair *repair, const struct sweep_image *image, struct BlockDriverState *file,
                  enum vd_level level, struct vd_journal *earlier);

/* Fills a journal in memory and sets it PREPARED; nothing of the image is written. */
void sweep_journal(struct sweep_repair *repair);

/* Writes the new bytes and sets the journal COMMITTED. */
void sweep_commit(struct sweep_repair *repair);

void sweep_repair_done(struct sweep_repair *repair);

/*
 * Checks the damaged image, repairs it at every level on clones, and fails where a promise of the repair is
 * broken. limit: how far the guest's disk is read. truth: what the guest's disk was before the damage, where
 * the damage is one that leaves no doubt about it; or NULL.
 */
void sweep_judge(const struct sweep_image *damaged, uint64_t limit, struct sweep_guest *truth);

#endif
