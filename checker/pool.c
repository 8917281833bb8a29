/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/pool.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "formats/base/auto.h"
#include "formats/base/text.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER 0
#endif

enum {
    TICK_MS = 1000,
    READ_BYTES = 65536,
    MEMORY_KEPT = 4 << 20, /* bytes, by a worker */
    GRACE_MS = 30000,      /* after a signal, for a worker that has not asked for more */
};

enum message { RESULT, STORY, NEEDS_TIME };

/* Before the bytes of a result. A worker that could not begin tells its story as the bytes; one that needs
 * time has none. */
struct head {
    uint64_t len, rest_ns;
    uint64_t message; /* enum message */
};

struct worker {
    pid_t pid; /* 0: no process */
    int fd;
    bool is_busy, needs_time;
    size_t job, group;
    uint64_t due_ms;  /* when the job has taken too long; 0: never */
    uint64_t free_ms; /* no other job before */
    char *bytes;      /* what came so far: a head, then its bytes */
    size_t n, room;
};

struct pool {
    const struct vd_pool_options *opts;
    struct worker *workers;
    struct pollfd *polled;
    size_t next, done;
    bool is_ending; /* a signal came, and jobs under way are waited for */
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static size_t group_of(const struct pool *pool, size_t job)
{
    return pool->opts->group ? pool->opts->group(pool->opts->opaque, job) : 0;
}

/* ---- in the worker */

static bool write_all(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool read_job(int fd, uint64_t *job)
{
    char *p = (char *)job;

    for (size_t got = 0; got < sizeof(*job);) {
        ssize_t n = read(fd, p + got, sizeof(*job) - got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static void limit_memory(uint64_t bytes)
{
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes}, no_core = {0, 0};

    /* An image's guest data does not belong in a core file. */
    (void)setrlimit(RLIMIT_CORE, &no_core);
    /* A sanitizer's own memory would count. */
    if (bytes && !HAS_SANITIZER)
        (void)setrlimit(RLIMIT_DATA, &limit);
}

/* What one small image gave back the next one wants at once: it is not given to the kernel and asked of it
 * again, page by page. */
static void keep_freed_memory(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, MEMORY_KEPT);
    (void)mallopt(M_TRIM_THRESHOLD, MEMORY_KEPT);
    (void)mallopt(M_TOP_PAD, MEMORY_KEPT / 4);
#endif
}

/* Only the parent decides when there is an end; and no worker outlives it. */
static void settle_in(pid_t parent, int fd, bool ends_gently)
{
    static const int left_to_parent[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};

    for (size_t i = 0; i < VD_ARRAY_SIZE(left_to_parent); i++)
        if (!ends_gently || left_to_parent[i] != SIGTERM)
            signal(left_to_parent[i], SIG_IGN);
    prctl(PR_SET_PDEATHSIG, ends_gently ? SIGTERM : SIGKILL);
    if (getppid() != parent)
        _exit(0);
    /* What a worker would print, the parent has not said: it only spoils the worker's own result. */
    (void)dup2(fd, STDIN_FILENO);
    (void)dup2(fd, STDOUT_FILENO);
    /* Databases, other workers: nothing that is open is for a worker, but where its errors go. */
    if (fd > 3)
        (void)syscall(SYS_close_range, 3, (unsigned)fd - 1, 0);
    (void)syscall(SYS_close_range, (unsigned)fd + 1, ~0u, 0);
}

static bool tell_story(int fd, const struct vd_err *err)
{
    struct head head = {.len = strlen(err->story), .message = STORY};

    return write_all(fd, &head, sizeof(head)) && write_all(fd, err->story, (size_t)head.len);
}

void vd_pool_need_time(void)
{
    struct head head = {.message = NEEDS_TIME};

    /* Standard output is the way to the parent (settle_in). */
    (void)write_all(STDOUT_FILENO, &head, sizeof(head));
}

static bool do_job(const struct vd_pool_options *opts, int fd, size_t job)
{
    struct vd_err err = VD_ERR_INIT;
    struct head head = {0};
    vd_auto_mem char *bytes = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&bytes, &len);

    if (!out)
        return vd_fail_memory(&err), tell_story(fd, &err);
    head.rest_ns = opts->work(opts->opaque, job, out);
    if (fclose(out) != 0)
        return vd_fail_memory(&err), tell_story(fd, &err);
    head.len = len;
    return write_all(fd, &head, sizeof(head)) && write_all(fd, bytes, len);
}

static void be_worker(const struct vd_pool_options *opts, pid_t parent, int fd)
{
    struct vd_err err = VD_ERR_INIT;
    bool has_begun = !opts->begin;
    uint64_t job;

    settle_in(parent, fd, opts->ends_gently);
    limit_memory(opts->max_memory);
    keep_freed_memory();
    while (read_job(fd, &job)) {
        if (!has_begun && opts->begin(opts->opaque, (size_t)job, &err) < 0) {
            tell_story(fd, &err);
            break;
        }
        has_begun = true;
        if (!do_job(opts, fd, (size_t)job))
            break;
    }
    _exit(0);
}

/* ---- in the parent */

static int start(struct pool *pool, struct worker *w, struct vd_err *err)
{
    pid_t parent = getpid();
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "no channel to a worker");
    fflush(NULL);
    w->pid = fork();
    if (w->pid == 0)
        be_worker(pool->opts, parent, ends[1]);
    close(ends[1]);
    if (w->pid < 0) {
        w->pid = 0;
        close(ends[0]);
        return vd_fail(err, VD_ERR_IO, errno, "no worker can be started");
    }
    w->fd = ends[0];
    return 0;
}

/* Ends the process, which has no job or is given up, by force: it may have been taken over by an image, and
 * not want to go. Or buries one that has ended. Answers how it ended. */
static int stop(struct worker *w, bool by_force)
{
    int status = 0;

    if (!w->pid)
        return 0;
    if (by_force)
        kill(w->pid, SIGKILL);
    close(w->fd);
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
        ;
    w->pid = 0;
    w->n = 0;
    return status;
}

static int give(struct pool *pool, struct worker *w, struct vd_err *err)
{
    uint64_t job = pool->next;
    size_t group = group_of(pool, pool->next);

    if (w->pid && w->group != group)
        stop(w, true);
    if (!w->pid && start(pool, w, err) < 0)
        return -1;
    w->group = group;
    w->job = pool->next++;
    w->is_busy = true;
    w->needs_time = false;
    w->n = 0;
    w->due_ms = pool->opts->timeout_s ? now_ms() + (uint64_t)pool->opts->timeout_s * 1000 : 0;
    /* Where it is gone already, that is seen when its answer is read. */
    (void)send(w->fd, &job, sizeof(job), MSG_NOSIGNAL);
    return 0;
}

static int finish(struct pool *pool, struct worker *w, const struct vd_pool_result *result,
                  struct vd_err *err)
{
    w->is_busy = false;
    pool->done++;
    return pool->opts->done(pool->opts->opaque, w->job, result, err);
}

static void say_end(char *reason, size_t room, int status)
{
    if (WIFSIGNALED(status))
        snprintf(reason, room, "the worker died of signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(reason, room, "the worker ended before its job did (status %d)", WEXITSTATUS(status));
}

/* What ended, or was ended, with a reason for its job. */
static int give_up(struct pool *pool, struct worker *w, const char *reason, struct vd_err *err)
{
    struct vd_pool_result result = {0};
    int status = stop(w, reason != NULL);

    if (reason)
        snprintf(result.reason, sizeof(result.reason), "%s", reason);
    else
        say_end(result.reason, sizeof(result.reason), status);
    return finish(pool, w, &result, err);
}

static int take_result(struct pool *pool, struct worker *w, const struct head *head, struct vd_err *err)
{
    struct vd_pool_result result = {.bytes = w->bytes + sizeof(*head), .len = (size_t)head->len};
    int rc;

    w->bytes[w->n] = '\0';
    /* What a worker says of its pause is not believed beyond a minute: it may be an image that speaks. */
    w->free_ms = now_ms() + (head->rest_ns < 60000000000u ? head->rest_ns / 1000000 : 60000);
    if (head->message == STORY) {
        snprintf(result.reason, sizeof(result.reason), "%.*s", (int)sizeof(result.reason) - 1, result.bytes);
        result.bytes = NULL;
        stop(w, true);
        return finish(pool, w, &result, err);
    }
    rc = finish(pool, w, &result, err);
    w->n = 0;
    /* What one large result took is not kept for the others. */
    if (w->room > 16 * READ_BYTES) {
        free(w->bytes);
        w->bytes = NULL;
        w->room = 0;
    }
    return rc;
}

/* Takes what a worker says before its result out of what came. However often it says so, it counts once. */
static void hear_notices(struct worker *w)
{
    uint64_t due = now_ms() + VD_POOL_MORE_S * (uint64_t)1000;
    struct head head;

    for (; w->n >= sizeof(head); memmove(w->bytes, w->bytes + sizeof(head), w->n)) {
        memcpy(&head, w->bytes, sizeof(head));
        if (head.message != NEEDS_TIME || head.len)
            return;
        w->n -= sizeof(head);
        if (!w->needs_time && w->due_ms && w->due_ms < due)
            w->due_ms = due;
        w->needs_time = true;
    }
}

static bool make_room(struct worker *w)
{
    size_t want = w->n + READ_BYTES + 1;
    char *grown;

    if (want <= w->room)
        return true;
    want = want > 2 * w->room ? want : 2 * w->room;
    grown = realloc(w->bytes, want);
    if (!grown)
        return false;
    w->bytes = grown;
    w->room = want;
    return true;
}

/* Reads what there is, without waiting. */
static int hear(struct pool *pool, struct worker *w, struct vd_err *err)
{
    struct head head;
    ssize_t n;

    if (!make_room(w))
        return give_up(pool, w, "no memory for its result", err);
    n = recv(w->fd, w->bytes + w->n, w->room - 1 - w->n, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n <= 0)
        return give_up(pool, w, NULL, err);
    w->n += (size_t)n;
    hear_notices(w);
    if (w->n < sizeof(head))
        return 0;
    memcpy(&head, w->bytes, sizeof(head));
    if (head.len > VD_POOL_RESULT_MAX || w->n - sizeof(head) > head.len)
        return give_up(pool, w, "its result is larger than 64 MiB, or makes no sense", err);
    return w->n - sizeof(head) == head.len ? take_result(pool, w, &head, err) : 0;
}

static int give_jobs(struct pool *pool, struct vd_err *err)
{
    uint64_t now = now_ms();

    for (unsigned i = 0; i < pool->opts->workers && pool->next < pool->opts->jobs_n; i++)
        if (!pool->workers[i].is_busy && pool->workers[i].free_ms <= now &&
            give(pool, &pool->workers[i], err) < 0)
            return -1;
    return 0;
}

/* Until something must be done although nobody speaks. */
static int patience(const struct pool *pool)
{
    uint64_t now = now_ms(), until = now + TICK_MS;

    for (unsigned i = 0; i < pool->opts->workers; i++) {
        const struct worker *w = &pool->workers[i];
        uint64_t at = w->is_busy ? w->due_ms : pool->next < pool->opts->jobs_n ? w->free_ms : 0;

        if (at && at < until)
            until = at;
    }
    return until > now ? (int)(until - now) : 0;
}

static int end_late(struct pool *pool, struct worker *w, struct vd_err *err)
{
    char reason[100];

    if (!w->is_busy || !w->due_ms || now_ms() < w->due_ms)
        return 0;
    if (pool->is_ending)
        snprintf(reason, sizeof(reason), "it did not end after a signal");
    else
        snprintf(reason, sizeof(reason), "it took longer than %u s%s",
                 w->needs_time ? VD_POOL_MORE_S : pool->opts->timeout_s,
                 w->needs_time ? " to write a repair" : " (--timeout)");
    return give_up(pool, w, reason, err);
}

static int wait_and_hear(struct pool *pool, struct vd_err *err)
{
    for (unsigned i = 0; i < pool->opts->workers; i++)
        pool->polled[i] =
            (struct pollfd){.fd = pool->workers[i].is_busy ? pool->workers[i].fd : -1, .events = POLLIN};
    if (poll(pool->polled, pool->opts->workers, patience(pool)) < 0 && errno != EINTR)
        return vd_fail(err, VD_ERR_IO, errno, "cannot wait for the workers");
    for (unsigned i = 0; i < pool->opts->workers; i++)
        if ((pool->polled[i].revents && hear(pool, &pool->workers[i], err) < 0) ||
            end_late(pool, &pool->workers[i], err) < 0)
            return -1;
    return 0;
}

static bool is_any_busy(const struct pool *pool)
{
    for (unsigned i = 0; i < pool->opts->workers; i++)
        if (pool->workers[i].is_busy)
            return true;
    return false;
}

/* After a signal: what is under way comes to its end, or takes itself back. */
static int end_gently(struct pool *pool, struct vd_err *err)
{
    pool->is_ending = true;
    for (unsigned i = 0; i < pool->opts->workers; i++) {
        struct worker *w = &pool->workers[i];
        uint64_t due = now_ms() + (w->needs_time ? VD_POOL_MORE_S * (uint64_t)1000 : GRACE_MS);

        if (!w->is_busy)
            continue;
        kill(w->pid, SIGTERM);
        w->due_ms = w->due_ms && w->due_ms < due ? w->due_ms : due;
    }
    while (is_any_busy(pool))
        if (wait_and_hear(pool, err) < 0)
            return -1;
    return 0;
}

static int run_all(struct pool *pool, struct vd_err *err)
{
    while (pool->done < pool->opts->jobs_n) {
        if (pool->opts->budget && vd_budget_go_on(pool->opts->budget, err) < 0) {
            struct vd_err why = VD_ERR_INIT;

            if (pool->opts->ends_gently && end_gently(pool, &why) < 0)
                *err = why;
            return -1;
        }
        if (give_jobs(pool, err) < 0 || wait_and_hear(pool, err) < 0)
            return -1;
        if (pool->opts->tick && pool->opts->tick(pool->opts->opaque, err) < 0)
            return -1;
    }
    return 0;
}

int vd_pool_run(const struct vd_pool_options *opts, struct vd_err *err)
{
    vd_auto_mem struct worker *workers = calloc(opts->workers, sizeof(*workers));
    vd_auto_mem struct pollfd *polled = calloc(opts->workers, sizeof(*polled));
    struct pool pool = {.opts = opts, .workers = workers, .polled = polled};
    int rc;

    if (!workers || !polled)
        return vd_fail_memory(err);
    rc = run_all(&pool, err);
    for (unsigned i = 0; i < opts->workers; i++) {
        stop(&workers[i], true);
        free(workers[i].bytes);
    }
    return rc;
}
