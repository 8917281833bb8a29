/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Workers: what they do and what they suffer is the result of a job, and nothing else.
 */
#include "checker/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/unit/unit.h"

enum { JOBS_MAX = 600 };

struct told {
    char text[JOBS_MAX][200]; /* what each job's worker wrote, or "!" and the reason */
    unsigned n[JOBS_MAX];
    pid_t *pids; /* shared: who did each */
    void (*job)(size_t job, FILE *out);
    volatile sig_atomic_t cancelled;
    unsigned cancel_after;
    unsigned done;
};

static uint64_t work(void *opaque, size_t job, FILE *out)
{
    struct told *told = opaque;

    told->pids[job] = getpid();
    told->job(job, out);
    return 0;
}

static int done(void *opaque, size_t job, const struct vd_pool_result *result, struct vd_err *err)
{
    struct told *told = opaque;

    (void)err;
    told->n[job]++;
    told->done++;
    if (told->cancel_after && told->done == told->cancel_after)
        told->cancelled = 1;
    snprintf(told->text[job], sizeof(told->text[job]), "%s%.190s", result->bytes ? "" : "!",
             result->bytes ? result->bytes : result->reason);
    return 0;
}

static struct told *new_told(void (*job)(size_t job, FILE *out))
{
    struct told *told = calloc(1, sizeof(*told));

    told->job = job;
    told->pids =
        mmap(NULL, JOBS_MAX * sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(told->pids, MAP_FAILED);
    return told;
}

static void free_told(struct told *told)
{
    munmap(told->pids, JOBS_MAX * sizeof(pid_t));
    free(told);
}

static struct vd_pool_options options(struct told *told, size_t n, unsigned workers)
{
    return (struct vd_pool_options){
        .jobs_n = n, .workers = workers, .timeout_s = 60, .work = work, .done = done, .opaque = told};
}

static void no_child_is_left(void)
{
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
}

static void say_number(size_t job, FILE *out)
{
    fprintf(out, "job %zu", job);
}

START_TEST(every_job_is_done_once_by_few_workers)
{
    for (unsigned workers = 1; workers <= 5; workers += 2) {
        struct told *told = new_told(say_number);
        struct vd_pool_options opts = options(told, JOBS_MAX, workers);
        struct vd_err err = VD_ERR_INIT;
        unsigned others = 0;
        char text[32];

        must(vd_pool_run(&opts, &err), &err);
        for (size_t i = 0; i < JOBS_MAX; i++) {
            snprintf(text, sizeof(text), "job %zu", i);
            ck_assert_uint_eq(told->n[i], 1);
            ck_assert_str_eq(told->text[i], text);
            others += told->pids[i] != told->pids[0];
            ck_assert_int_ne(told->pids[i], getpid());
        }
        ck_assert(workers > 1 || others == 0);
        no_child_is_left();
        free_told(told);
    }
}
END_TEST

START_TEST(no_jobs_are_no_work)
{
    struct told *told = new_told(say_number);
    struct vd_pool_options opts = options(told, 0, 2);
    struct vd_err err = VD_ERR_INIT;

    must(vd_pool_run(&opts, &err), &err);
    free_told(told);
}
END_TEST

static void misbehave(size_t job, FILE *out)
{
    switch (job % 6) {
    case 1:
        raise(SIGKILL);
        break;
    case 2:
        _exit(7);
    case 3:
        for (;;)
            pause();
    case 4:
        for (size_t i = 0; i < VD_POOL_RESULT_MAX / 4096 + 2; i++)
            fprintf(out, "%4096s", "");
        break;
    case 5:
        break; /* says nothing */
    default:
        say_number(job, out);
    }
}

START_TEST(whatever_happens_to_a_worker_is_a_result_with_a_reason)
{
    static const char *const expected[] = {"job ",
                                           "!the worker died of signal 9",
                                           "!the worker ended before its job did (status 7)",
                                           "!it took longer than 4 s",
                                           "!its result is larger than 64 MiB",
                                           ""};
    struct told *told = new_told(misbehave);
    struct vd_pool_options opts = options(told, 12, 2);
    struct vd_err err = VD_ERR_INIT;

    opts.timeout_s = 4; /* 64 MiB take a while under a sanitizer */
    must(vd_pool_run(&opts, &err), &err);
    for (size_t i = 0; i < 12; i++) {
        ck_assert_uint_eq(told->n[i], 1);
        ck_assert_msg(strncmp(told->text[i], expected[i % 6], strlen(expected[i % 6])) == 0, "%zu: %s", i,
                      told->text[i]);
    }
    no_child_is_left();
    free_told(told);
}
END_TEST

static void print_aside(size_t job, FILE *out)
{
    say_number(job, out);
    if (job == 1)
        (void)!write(STDOUT_FILENO, "this was not printed by the parent, and is long enough", 54);
}

START_TEST(what_a_worker_prints_spoils_its_own_result_alone)
{
    struct told *told = new_told(print_aside);
    struct vd_pool_options opts = options(told, 3, 1);
    struct vd_err err = VD_ERR_INIT;
    int ends[2], before = dup(STDOUT_FILENO);
    char byte;

    fflush(stdout);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    must(vd_pool_run(&opts, &err), &err);
    dup2(before, STDOUT_FILENO);
    close(ends[1]);
    ck_assert_int_eq(read(ends[0], &byte, 1), 0);
    close(ends[0]);
    close(before);
    ck_assert_str_eq(told->text[0], "job 0");
    ck_assert_int_eq(told->text[1][0], '!');
    ck_assert_str_eq(told->text[2], "job 2");
    free_told(told);
}
END_TEST

static void say_much(size_t job, FILE *out)
{
    for (size_t i = 0; i < 300000; i++)
        fprintf(out, "%zu.", job);
}

static int done_much(void *opaque, size_t job, const struct vd_pool_result *result, struct vd_err *err)
{
    ck_assert_uint_eq(result->len, strlen(result->bytes));
    ck_assert_uint_ge(result->len, 600000);
    return done(opaque, job, result, err);
}

START_TEST(large_results_arrive_whole)
{
    struct told *told = new_told(say_much);
    struct vd_pool_options opts = options(told, 20, 3);
    struct vd_err err = VD_ERR_INIT;

    opts.done = done_much;
    must(vd_pool_run(&opts, &err), &err);
    ck_assert_uint_eq(told->done, 20);
    free_told(told);
}
END_TEST

static void take_time(size_t job, FILE *out)
{
    say_number(job, out);
    if (job >= 3)
        for (;;)
            pause();
}

START_TEST(a_signal_ends_all_and_leaves_what_was_done_and_no_worker)
{
    struct told *told = new_told(take_time);
    struct vd_pool_options opts = options(told, 50, 4);
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_err err = VD_ERR_INIT;

    told->cancel_after = 3;
    budget.cancelled = &told->cancelled;
    opts.budget = &budget;
    must_fail(vd_pool_run(&opts, &err), &err, VD_ERR_CANCELLED);
    ck_assert_uint_eq(told->done, 3);
    no_child_is_left();
    free_told(told);
}
END_TEST

/* ---- what is better not cut off */

static volatile sig_atomic_t was_asked_to_end;

static void note_signal(int sig)
{
    (void)sig;
    was_asked_to_end = 1;
}

static void need_time(size_t job, FILE *out)
{
    if (job == 1) {
        vd_pool_need_time();
        vd_pool_need_time(); /* counts once, and says no more */
    }
    if (job < 2)
        usleep(1500000);
    say_number(job, out);
}

START_TEST(a_job_that_needs_time_gets_it_once)
{
    struct told *told = new_told(need_time);
    struct vd_pool_options opts = options(told, 3, 3);
    struct vd_err err = VD_ERR_INIT;

    opts.timeout_s = 1;
    must(vd_pool_run(&opts, &err), &err);
    ck_assert_int_eq(told->text[0][0], '!');
    ck_assert_ptr_nonnull(strstr(told->text[0], "--timeout"));
    ck_assert_str_eq(told->text[1], "job 1");
    ck_assert_str_eq(told->text[2], "job 2");
    free_told(told);
}
END_TEST

static void wait_for_the_signal(size_t job, FILE *out)
{
    while (job && !was_asked_to_end)
        usleep(1000);
    fprintf(out, "job %zu%s", job, was_asked_to_end ? ", ended" : "");
}

START_TEST(after_a_signal_what_is_under_way_ends_by_itself)
{
    struct told *told = new_told(wait_for_the_signal);
    struct vd_pool_options opts = options(told, 50, 4);
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_err err = VD_ERR_INIT;
    unsigned ended = 0;

    signal(SIGTERM, note_signal);
    told->cancel_after = 1;
    budget.cancelled = &told->cancelled;
    opts.budget = &budget;
    opts.ends_gently = true;
    must_fail(vd_pool_run(&opts, &err), &err, VD_ERR_CANCELLED);
    for (size_t i = 0; i < 50; i++)
        ended += strstr(told->text[i], ", ended") != NULL;
    ck_assert_uint_eq(ended, told->done - 1); /* the first one had no need to wait */
    ck_assert_uint_ge(ended, 1);
    ck_assert_uint_le(ended, 4);
    ck_assert(!was_asked_to_end); /* the parent was not */
    no_child_is_left();
    free_told(told);
}
END_TEST

static int fail_done(void *opaque, size_t job, const struct vd_pool_result *result, struct vd_err *err)
{
    (void)done(opaque, job, result, err);
    return vd_fail(err, VD_ERR_IO, ENOSPC, "the disk");
}

START_TEST(where_a_result_cannot_be_kept_all_ends)
{
    struct told *told = new_told(say_number);
    struct vd_pool_options opts = options(told, 50, 2);
    struct vd_err err = VD_ERR_INIT;

    opts.done = fail_done;
    must_fail(vd_pool_run(&opts, &err), &err, VD_ERR_IO);
    ck_assert_uint_eq(told->done, 1);
    no_child_is_left();
    free_told(told);
}
END_TEST

static size_t by_tens(void *opaque, size_t job)
{
    (void)opaque;
    return job / 10;
}

START_TEST(no_worker_sees_two_groups)
{
    struct told *told = new_told(say_number);
    struct vd_pool_options opts = options(told, 100, 2);
    struct vd_err err = VD_ERR_INIT;

    opts.group = by_tens;
    must(vd_pool_run(&opts, &err), &err);
    for (size_t a = 0; a < 100; a++)
        for (size_t b = 0; b < a; b++)
            ck_assert(told->pids[a] != told->pids[b] || a / 10 == b / 10);
    free_told(told);
}
END_TEST

static int begin_badly(void *opaque, size_t job, struct vd_err *err)
{
    (void)opaque;
    return job % 2 ? 0 : vd_fail(err, VD_ERR_IO, 0, "no walls here");
}

START_TEST(a_worker_that_cannot_begin_says_why)
{
    struct told *told = new_told(say_number);
    struct vd_pool_options opts = options(told, 6, 1);
    struct vd_err err = VD_ERR_INIT;

    opts.begin = begin_badly;
    must(vd_pool_run(&opts, &err), &err);
    ck_assert_str_eq(told->text[0], "!no walls here");
    ck_assert_str_eq(told->text[1], "job 1");
    ck_assert_str_eq(told->text[2], "job 2"); /* by the worker that has begun */
    free_told(told);
}
END_TEST

static int left_open;

static void look_at_descriptors(size_t job, FILE *out)
{
    (void)job;
    fprintf(out, "%s", fcntl(left_open, F_GETFD) < 0 ? "closed" : "open");
}

START_TEST(a_worker_has_none_of_the_parents_files)
{
    struct told *told = new_told(look_at_descriptors);
    struct vd_pool_options opts = options(told, 4, 2);
    struct vd_err err = VD_ERR_INIT;

    left_open = open("file", O_RDWR | O_CREAT, 0644);
    must(vd_pool_run(&opts, &err), &err);
    for (size_t i = 0; i < 4; i++)
        ck_assert_str_eq(told->text[i], "closed");
    close(left_open);
    free_told(told);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
static void take_memory(size_t job, FILE *out)
{
    fprintf(out, "%s", malloc(job ? 64 << 20 : 1 << 20) ? "had" : "none");
}

START_TEST(a_worker_gets_no_more_memory_than_its_limit)
{
    struct told *told = new_told(take_memory);
    struct vd_pool_options opts = options(told, 2, 1);
    struct vd_err err = VD_ERR_INIT;

    opts.max_memory = 32 << 20;
    must(vd_pool_run(&opts, &err), &err);
    ck_assert_str_eq(told->text[0], "had");
    ck_assert_str_eq(told->text[1], "none");
    free_told(told);
}
END_TEST
#else
/* A sanitizer's own memory would count, so there is no limit. */
START_TEST(a_worker_gets_no_more_memory_than_its_limit)
{
}
END_TEST
#endif

UNIT_TESTS("pool", every_job_is_done_once_by_few_workers, no_jobs_are_no_work,
           whatever_happens_to_a_worker_is_a_result_with_a_reason,
           what_a_worker_prints_spoils_its_own_result_alone, large_results_arrive_whole,
           a_signal_ends_all_and_leaves_what_was_done_and_no_worker, a_job_that_needs_time_gets_it_once,
           after_a_signal_what_is_under_way_ends_by_itself, where_a_result_cannot_be_kept_all_ends,
           no_worker_sees_two_groups, a_worker_that_cannot_begin_says_why,
           a_worker_has_none_of_the_parents_files, a_worker_gets_no_more_memory_than_its_limit)
