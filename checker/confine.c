/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Three walls, each of which holds alone for what it is for: no new privileges (set-user-ID programs stay
 * shut), Landlock (files), seccomp (everything else). No library: the kernel's interfaces are stable, and the
 * headers of the build machine may be older than the kernel at hand.
 */
#include "checker/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "formats/base/auto.h"

/* ---- Landlock, as linux/landlock.h has it */

enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 }; /* the same on all machines */

enum {
    ASK_VERSION = 1,
    PATH_BENEATH = 1,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_REG = 1 << 8,
    FS_ALL_V1 = (1 << 13) - 1,
    FS_REFER = 1 << 13,     /* version 2 */
    FS_TRUNCATE = 1 << 14,  /* version 3 */
    FS_IOCTL_DEV = 1 << 15, /* version 5 */
    NET_ALL = 3,            /* version 4 */
    SCOPE_ALL = 3,          /* version 6: sockets without a file, signals */
};

struct ruleset {
    uint64_t fs, net, scope;
};

struct path_beneath {
    uint64_t allowed;
    int32_t folder;
} __attribute__((packed));

static struct ruleset all_of(long version)
{
    return (struct ruleset){
        .fs = FS_ALL_V1 | (version >= 2 ? FS_REFER : 0u) | (version >= 3 ? FS_TRUNCATE : 0u) |
              (version >= 5 ? FS_IOCTL_DEV : 0u),
        .net = version >= 4 ? NET_ALL : 0,
        .scope = version >= 6 ? SCOPE_ALL : 0,
    };
}

static size_t size_of(long version)
{
    return version >= 6   ? sizeof(struct ruleset)
           : version >= 4 ? offsetof(struct ruleset, scope)
                          : offsetof(struct ruleset, net);
}

static int allow(int set, int what, uint64_t rights, struct vd_err *err)
{
    struct path_beneath rule = {.allowed = rights, .folder = what};

    if (syscall(ADD_RULE, set, PATH_BENEATH, &rule, 0) == 0)
        return 0;
    return vd_fail(err, VD_ERR_IO, errno, "cannot confine the worker (--no-sandbox goes without)");
}

static int allow_folder(int set, const char *folder, uint64_t rights, struct vd_err *err)
{
    int fd = open(folder, O_PATH | O_CLOEXEC | O_DIRECTORY), rc;

    if (fd < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot open the folder", folder);
    rc = allow(set, fd, rights, err);
    close(fd);
    return rc;
}

static int allow_file(int set, const char *file, struct vd_err *err)
{
    int fd = open(file, O_PATH | O_CLOEXEC | O_NOFOLLOW), rc;

    if (fd < 0)
        return 0;
    rc = allow(set, fd, FS_READ_FILE, err);
    close(fd);
    return rc;
}

static int allow_all(int set, const struct vd_walls *walls, uint64_t writing, struct vd_err *err)
{
    if (allow_folder(set, walls->folder, FS_READ_FILE | FS_READ_DIR, err) < 0)
        return -1;
    for (size_t i = 0; i < walls->files_n; i++)
        if (allow_file(set, walls->files[i], err) < 0)
            return -1;
    for (size_t i = 0; i < walls->writable_n; i++)
        if (allow_folder(set, walls->writable[i], writing, err) < 0)
            return -1;
    return 0;
}

static int restrict_files(const struct vd_walls *walls, struct vd_err *err)
{
    long version = syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);
    struct ruleset all = all_of(version);
    uint64_t writing =
        FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_MAKE_REG | FS_REMOVE_FILE | (all.fs & FS_TRUNCATE);
    int set, rc;

    if (version < 1)
        return 0; /* not built in, or not switched on */
    set = (int)syscall(CREATE_RULESET, &all, size_of(version), 0);
    if (set < 0)
        return vd_fail(err, VD_ERR_IO, errno, "cannot confine the worker (--no-sandbox goes without)");
    rc = allow_all(set, walls, writing, err);
    if (rc == 0 && syscall(RESTRICT_SELF, set, 0) < 0)
        rc = vd_fail(err, VD_ERR_IO, errno,
                     "cannot confine the worker to its folder (--no-sandbox goes without)");
    close(set);
    return rc;
}

/* ---- seccomp */

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef OUR_ARCH

/* What a check needs: reading, memory, time. New machines have no numbers for the old ones. */
static const unsigned reading[] = {
    SYS_read,
    SYS_pread64,
    SYS_readv,
    SYS_preadv,
    SYS_preadv2,
    SYS_write, /* to what is open: the parent, standard error */
    SYS_writev,
    SYS_openat,
    SYS_openat2,
    SYS_close,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_lseek,
    SYS_fcntl,
    SYS_fadvise64,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_readlinkat,
    SYS_getcwd,
    SYS_getdents64,
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    SYS_brk,
    SYS_futex,
    SYS_sched_yield,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_getrandom,
    SYS_getpid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getrlimit,
    SYS_getrusage,
    SYS_uname,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_restart_syscall,
    SYS_exit,
    SYS_exit_group,
#ifdef SYS_open
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_time,
#endif
};

/* And what a repair needs beside it: the image, its journal and SQLite's journal of that. */
static const unsigned writing[] = {
    SYS_pwrite64, SYS_pwritev, SYS_ftruncate, SYS_fsync, SYS_fdatasync, SYS_fchmod, SYS_fchown, SYS_unlinkat,
#ifdef SYS_unlink
    SYS_unlink,
#endif
};

enum { FRAME = 16, FILTER_MAX = FRAME + 2 * (VD_ARRAY_SIZE(reading) + VD_ARRAY_SIZE(writing)) };

struct filter {
    struct sock_filter v[FILTER_MAX];
    unsigned short n;
};

static void add(struct filter *f, struct sock_filter instruction)
{
    f->v[f->n++] = instruction;
}

static void add_calls(struct filter *f, const unsigned *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1));
        add(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
}

/* A limit of our own may be asked for and not be set: a process of 0, no new limit. */
static void add_ask_limit(struct filter *f)
{
    static const unsigned must_be_0[] = {
        offsetof(struct seccomp_data, args[0]),
        offsetof(struct seccomp_data, args[2]),
        offsetof(struct seccomp_data, args[2]) + 4,
    };
    unsigned char left = 2 * VD_ARRAY_SIZE(must_be_0) + 1;

    add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, left));
    for (size_t i = 0; i < VD_ARRAY_SIZE(must_be_0); i++) {
        left -= 2;
        add(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, must_be_0[i]));
        add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, left));
    }
    add(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

/* What is not allowed answers EPERM, so that a library that asks for more does without. */
static void make_filter(struct filter *f, bool writes)
{
    add(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
    add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0));
    add(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    add(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    add_calls(f, reading, VD_ARRAY_SIZE(reading));
    if (writes) {
        add_calls(f, writing, VD_ARRAY_SIZE(writing));
        add_ask_limit(f);
    }
    add(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
}

static int restrict_calls(bool writes, struct vd_err *err)
{
    struct filter filter = {.n = 0};
    struct sock_fprog program = {.filter = filter.v};

    make_filter(&filter, writes);
    program.len = filter.n;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
        return 0;
    if (errno == EINVAL || errno == ENOSYS)
        return 0; /* not built in */
    return vd_fail(err, VD_ERR_IO, errno,
                   "cannot confine the worker's system calls (--no-sandbox goes without)");
}

#else

static int restrict_calls(bool writes, struct vd_err *err)
{
    (void)writes;
    (void)err;
    return 0;
}

#endif

int vd_confine(const struct vd_walls *walls, struct vd_err *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "cannot confine the worker (--no-sandbox goes without)");
    return restrict_files(walls, err) < 0 ? -1 : restrict_calls(walls->writable_n > 0, err);
}

void vd_confine_be_last(void)
{
    enum { IOPRIO_WHO_PROCESS = 1, IOPRIO_CLASS_IDLE = 3, IOPRIO_CLASS_SHIFT = 13 };

    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT);
    (void)setpriority(PRIO_PROCESS, 0, 19);
}
