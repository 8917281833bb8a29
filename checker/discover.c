/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/discover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "formats/base/auto.h"
#include "formats/registry.h"

enum {
    PROBE_BYTES = 2048,
    DEPTH_MAX = 500, /* folders in folders, each an open descriptor; ours */
};

/* What our own programs leave beside images. */
static const char undo_mark[] = ".vdcheck-undo", stub_mark[] = ".vdcheck-stub";
static const char sqlite_magic[16] = "SQLite format 3";

struct search {
    const struct vd_discover_options *opts;
    struct vd_candidate_vec *found;
    struct vd_err *err; /* of what ends the search */
    dev_t dev;          /* of the path at hand */
    uint8_t *head;      /* VD_HEAD_BYTES */
    bool was_cold;      /* something of the file at hand was not in the page cache */
};

VD_VEC(name_vec, char *)

static void free_names(struct name_vec *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->v[i]);
    name_vec_done(names);
}

static void complain(struct search *s, const char *path, const char *what, int errnum)
{
    struct vd_err why = VD_ERR_INIT;

    vd_fail(&why, VD_ERR_IO, errnum, "%s: %s", path, what);
    if (s->opts->complain)
        s->opts->complain(s->opts->opaque, &why);
}

/* ---- patterns */

static bool fits(const char *const *patterns, size_t n, const char *path)
{
    const char *slash = strrchr(path, '/');

    for (size_t i = 0; i < n; i++)
        if (fnmatch(patterns[i], strchr(patterns[i], '/') || !slash ? path : slash + 1, 0) == 0)
            return true;
    return false;
}

static bool is_left_out(const struct search *s, const char *path)
{
    return fits(s->opts->exclude, s->opts->exclude_n, path);
}

static bool is_wanted(const struct search *s, const char *path)
{
    return !s->opts->include_n || fits(s->opts->include, s->opts->include_n, path);
}

static bool is_ours(const char *path)
{
    size_t len = strlen(path), stub = sizeof(stub_mark) - 1;
    const char *slash = strrchr(path, '/');

    return strstr(slash ? slash : path, undo_mark) ||
           (len > stub && strcmp(path + len - stub, stub_mark) == 0);
}

/* ---- one file */

static int64_t nanoseconds(struct timespec ts)
{
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/*
 * A file that changes twice within one tick of its file system's clock has the same time stamp after both. So
 * what changed just now is not yet known for good: two seconds is the coarsest clock there is (FAT), and
 * where the stamp has fractions, a tick of the kernel is.
 */
static bool is_settled(const struct stat *st)
{
    enum { COARSE_NS = 2000000000, FINE_NS = 20000000 };
    int64_t newest = nanoseconds(st->st_ctim), now;
    struct timespec ts;

    if (nanoseconds(st->st_mtim) > newest)
        newest = nanoseconds(st->st_mtim);
    clock_gettime(CLOCK_REALTIME, &ts);
    now = nanoseconds(ts);
    return now - newest > (newest % 1000000000 ? FINE_NS : COARSE_NS);
}

static bool has_beside(const char *path, const char *mark)
{
    char name[PATH_MAX];

    return (size_t)snprintf(name, sizeof(name), "%s%s", path, mark) < sizeof(name) &&
           faccessat(AT_FDCWD, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/*
 * Reads the first bytes as gently as it goes: what is in the page cache is taken from there; what is not is
 * read without what follows, and marked to be dropped again. A farm's heads would push a good part of what
 * the host works with out of memory.
 */
static ssize_t read_head(struct search *s, int fd, const struct stat *st, size_t len)
{
    struct iovec part = {.iov_base = s->head, .iov_len = len};
    ssize_t n, all = st->st_size < (off_t)len ? (ssize_t)st->st_size : (ssize_t)len;

    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    n = preadv2(fd, &part, 1, 0, RWF_NOWAIT);
    if (n == all)
        return n;
    s->was_cold = true;
    do
        n = pread(fd, s->head, len, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

static void learn(struct search *s, int fd, const char *path, const struct stat *st, struct vd_candidate *c)
{
    ssize_t n = read_head(s, fd, st, VD_HEAD_BYTES);

    c->id = (struct vd_identity){.dev = st->st_dev,
                                 .ino = st->st_ino,
                                 .size = (uint64_t)st->st_size,
                                 .mtime_ns = nanoseconds(st->st_mtim),
                                 .ctime_ns = nanoseconds(st->st_ctim),
                                 .head_xxh = XXH3_64bits(s->head, n > 0 ? (size_t)n : 0),
                                 .is_settled = n >= 0 && is_settled(st)};
    c->has_repair_files = has_beside(path, undo_mark) || has_beside(path, stub_mark);
}

static int add(struct search *s, int fd, const char *path, const struct stat *st, bool is_raw)
{
    struct vd_candidate c = {.path = strdup(path), .is_raw = is_raw};

    learn(s, fd, path, st, &c);
    if (c.path && vd_candidate_vec_push(s->found, c) == 0)
        return 0;
    free(c.path);
    return vd_fail_memory(s->err);
}

/* Decides by the first bytes. is_named: the user named this very file. */
static int judge(struct search *s, int fd, const char *path, const struct stat *st, bool is_named)
{
    ssize_t n = read_head(s, fd, st, PROBE_BYTES);
    int score;

    if (n < 0) {
        complain(s, path, "cannot read", errno);
        return 0;
    }
    if ((size_t)n >= sizeof(sqlite_magic) && memcmp(s->head, sqlite_magic, sizeof(sqlite_magic)) == 0)
        return 0;
    if (vd_driver_probe(s->head, (size_t)n, st->st_size, &score))
        return add(s, fd, path, st, false);
    if (s->opts->raw && st->st_size)
        return add(s, fd, path, st, true);
    if (is_named || (s->opts->is_known && s->opts->is_known(s->opts->opaque, path)))
        return add(s, fd, path, st, false);
    return 0;
}

/* As gently as it goes: no time stamp of the read, no wait for whoever holds the other end. */
static int open_below(int folder, const char *name, int flags)
{
    int how = flags | O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
    int fd = openat(folder, name, how | O_NOATIME);

    return fd < 0 && errno == EPERM ? openat(folder, name, how) : fd;
}

static int look_at_file(struct search *s, int folder, const char *name, const char *path, bool is_named)
{
    struct stat st;
    int fd, rc = 0;

    if (is_ours(path) || !is_wanted(s, path))
        return 0;
    s->was_cold = false;
    fd = open_below(folder, name, 0);
    if (fd < 0) {
        /* Gone, or put in place of something else: that is the farm's daily life. */
        if (errno != ENOENT && errno != ELOOP && errno != ENXIO)
            complain(s, path, "cannot open", errno);
        return 0;
    }
    if (fstat(fd, &st) < 0)
        complain(s, path, "cannot stat", errno);
    else if (S_ISREG(st.st_mode) && (!s->opts->one_file_system || is_named || st.st_dev == s->dev))
        rc = judge(s, fd, path, &st, is_named);
    if (s->was_cold)
        (void)posix_fadvise(fd, 0, VD_HEAD_BYTES, POSIX_FADV_DONTNEED);
    close(fd);
    return rc;
}

/* ---- folders */

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All names but "." and "..", in the order of their bytes. What cannot be read to its end is told, and what
 * was read so far is used. */
static int read_names(struct search *s, DIR *dir, const char *path, struct name_vec *names)
{
    struct dirent *entry;

    for (errno = 0; (entry = readdir(dir)); errno = 0) {
        char *copy;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        copy = strdup(entry->d_name);
        if (!copy || name_vec_push(names, copy) < 0) {
            free(copy);
            return vd_fail_memory(s->err);
        }
    }
    if (errno)
        complain(s, path, "cannot read the folder", errno);
    if (names->n)
        qsort(names->v, names->n, sizeof(*names->v), by_bytes);
    return 0;
}

static int walk(struct search *s, int fd, const char *path, unsigned depth);

static int enter(struct search *s, int folder, const char *name, const char *path, unsigned depth)
{
    int fd;

    if (depth == DEPTH_MAX) {
        complain(s, path, "too many folders in each other", 0);
        return 0;
    }
    fd = open_below(folder, name, O_DIRECTORY);
    if (fd >= 0)
        return walk(s, fd, path, depth + 1);
    if (errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
        complain(s, path, "cannot open the folder", errno);
    return 0;
}

static int visit(struct search *s, int folder, const char *name, const char *path, unsigned depth)
{
    struct stat st;

    if (is_left_out(s, path))
        return 0;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            complain(s, path, "cannot stat", errno);
        return 0;
    }
    if (S_ISDIR(st.st_mode) && (!s->opts->one_file_system || st.st_dev == s->dev))
        return enter(s, folder, name, path, depth);
    /* Devices, FIFOs, sockets and links are not even opened. */
    return S_ISREG(st.st_mode) ? look_at_file(s, folder, name, path, false) : 0;
}

/* Takes over fd, an open folder. */
static int walk(struct search *s, int fd, const char *path, unsigned depth)
{
    DIR *dir = fdopendir(fd);
    struct name_vec names = {0};
    char below[PATH_MAX];
    int rc;

    if (!dir) {
        close(fd);
        complain(s, path, "cannot read the folder", errno);
        return 0;
    }
    rc = read_names(s, dir, path, &names);
    for (size_t i = 0; rc == 0 && i < names.n; i++) {
        if (vd_budget_go_on(s->opts->budget, s->err) < 0)
            rc = -1;
        else if ((size_t)snprintf(below, sizeof(below), "%s/%s", path[1] ? path : "", names.v[i]) >=
                 sizeof(below))
            complain(s, path, "a path below is too long", ENAMETOOLONG);
        else
            rc = visit(s, fd, names.v[i], below, depth);
    }
    free_names(&names);
    closedir(dir);
    return rc;
}

/* ---- all paths */

static int look_at_path(struct search *s, const char *path)
{
    char real[PATH_MAX];
    struct stat st;

    if (!realpath(path, real) || stat(real, &st) < 0) {
        complain(s, path, "cannot be found", errno);
        return 0;
    }
    s->dev = st.st_dev;
    if (S_ISDIR(st.st_mode))
        return enter(s, AT_FDCWD, real, real, 0);
    if (S_ISREG(st.st_mode))
        return is_left_out(s, real) ? 0 : look_at_file(s, AT_FDCWD, real, real, true);
    complain(s, path, "neither a folder nor a regular file", 0);
    return 0;
}

static int by_file(const void *a, const void *b)
{
    const struct vd_candidate *x = a, *y = b;

    if (x->id.dev != y->id.dev)
        return x->id.dev < y->id.dev ? -1 : 1;
    if (x->id.ino != y->id.ino)
        return x->id.ino < y->id.ino ? -1 : 1;
    return strcmp(x->path, y->path);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct vd_candidate *)a)->path, ((const struct vd_candidate *)b)->path);
}

/* Of the names of one file the first stays. */
static void count_once(struct vd_candidate_vec *found)
{
    size_t kept = 0;

    if (!found->n)
        return;
    qsort(found->v, found->n, sizeof(*found->v), by_file);
    for (size_t i = 0; i < found->n; i++) {
        struct vd_candidate *last = kept ? &found->v[kept - 1] : NULL;

        if (last && last->id.dev == found->v[i].id.dev && last->id.ino == found->v[i].id.ino) {
            last->is_raw &= found->v[i].is_raw;
            free(found->v[i].path);
        } else
            found->v[kept++] = found->v[i];
    }
    found->n = kept;
    qsort(found->v, found->n, sizeof(*found->v), by_path);
}

int vd_discover(const char *const *paths, size_t n, const struct vd_discover_options *opts,
                struct vd_candidate_vec *found, struct vd_err *err)
{
    struct search s = {.opts = opts, .found = found, .err = err, .head = malloc(VD_HEAD_BYTES)};
    int rc = s.head ? 0 : vd_fail_memory(err);

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = look_at_path(&s, paths[i]);
    free(s.head);
    count_once(found);
    return rc;
}

int vd_candidate_look_again(struct vd_candidate *image, struct vd_err *err)
{
    enum { TRIES = 10 };
    static const struct timespec moment = {.tv_nsec = 5000000};
    struct search s = {.head = malloc(VD_HEAD_BYTES)};
    int fd = s.head ? open_below(AT_FDCWD, image->path, 0) : -1;
    struct stat st;

    for (int i = 0; fd >= 0 && i < TRIES && fstat(fd, &st) == 0; i++) {
        learn(&s, fd, image->path, &st, image);
        if (image->id.is_settled)
            break;
        nanosleep(&moment, NULL);
    }
    if (fd >= 0 && s.was_cold)
        (void)posix_fadvise(fd, 0, VD_HEAD_BYTES, POSIX_FADV_DONTNEED);
    if (fd >= 0)
        close(fd);
    if (!s.head)
        return vd_fail_memory(err);
    free(s.head);
    return 0;
}

void vd_candidates_free(struct vd_candidate_vec *found)
{
    for (size_t i = 0; i < found->n; i++)
        free(found->v[i].path);
    vd_candidate_vec_done(found);
}
