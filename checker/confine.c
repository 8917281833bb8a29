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
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
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

static int allow_all(int set, const char *folder, const char *file, struct vd_err *err)
{
    int fd = open(folder, O_PATH | O_CLOEXEC | O_DIRECTORY), rc;

    if (fd < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot open the folder", folder);
    rc = allow(set, fd, FS_READ_FILE | FS_READ_DIR, err);
    close(fd);
    fd = rc == 0 && file ? open(file, O_PATH | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (fd < 0)
        return rc;
    rc = allow(set, fd, FS_READ_FILE, err);
    close(fd);
    return rc;
}

static int restrict_files(const char *folder, const char *file, struct vd_err *err)
{
    long version = syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);
    struct ruleset all = all_of(version);
    int set, rc;

    if (version < 1)
        return 0; /* not built in, or not switched on */
    set = (int)syscall(CREATE_RULESET, &all, size_of(version), 0);
    if (set < 0)
        return vd_fail(err, VD_ERR_IO, errno, "cannot confine the worker (--no-sandbox goes without)");
    rc = allow_all(set, folder, file, err);
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

/* Two jumps a call; machines that never had the old ones have no numbers for them. */
#define ALLOW(call)                                                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/*
 * What a check needs: reading, memory, time. What is not here answers EPERM, so that a library that asks for
 * more does without.
 */
static struct sock_filter filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    ALLOW(read),
    ALLOW(pread64),
    ALLOW(readv),
    ALLOW(preadv),
    ALLOW(write), /* to what is open: the parent, standard error */
    ALLOW(writev),
    ALLOW(openat),
    ALLOW(openat2),
    ALLOW(close),
    ALLOW(fstat),
    ALLOW(newfstatat),
    ALLOW(statx),
    ALLOW(statfs),
    ALLOW(fstatfs),
    ALLOW(lseek),
    ALLOW(fcntl),
    ALLOW(fadvise64),
    ALLOW(faccessat),
    ALLOW(faccessat2),
    ALLOW(readlinkat),
    ALLOW(getcwd),
    ALLOW(getdents64),
    ALLOW(mmap),
    ALLOW(munmap),
    ALLOW(mremap),
    ALLOW(mprotect),
    ALLOW(madvise),
    ALLOW(brk),
    ALLOW(futex),
    ALLOW(sched_yield),
    ALLOW(clock_gettime),
    ALLOW(clock_nanosleep),
    ALLOW(nanosleep),
    ALLOW(gettimeofday),
    ALLOW(getrandom),
    ALLOW(getpid),
    ALLOW(gettid),
    ALLOW(getuid),
    ALLOW(geteuid),
    ALLOW(getgid),
    ALLOW(getegid),
    ALLOW(getrlimit),
    ALLOW(getrusage),
    ALLOW(uname),
    ALLOW(rt_sigaction),
    ALLOW(rt_sigprocmask),
    ALLOW(rt_sigreturn),
    ALLOW(sigaltstack),
    ALLOW(restart_syscall),
    ALLOW(exit),
    ALLOW(exit_group),
#ifdef SYS_open
    ALLOW(open),
    ALLOW(stat),
    ALLOW(lstat),
    ALLOW(access),
    ALLOW(readlink),
    ALLOW(time),
#endif
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
};

static int restrict_calls(struct vd_err *err)
{
    struct sock_fprog program = {.len = VD_ARRAY_SIZE(filter), .filter = filter};

    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
        return 0;
    if (errno == EINVAL || errno == ENOSYS)
        return 0; /* not built in */
    return vd_fail(err, VD_ERR_IO, errno,
                   "cannot confine the worker's system calls (--no-sandbox goes without)");
}

#else

static int restrict_calls(struct vd_err *err)
{
    (void)err;
    return 0;
}

#endif

int vd_confine(const char *folder, const char *file, struct vd_err *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "cannot confine the worker (--no-sandbox goes without)");
    return restrict_files(folder, file, err) < 0 ? -1 : restrict_calls(err);
}

void vd_confine_be_last(void)
{
    enum { IOPRIO_WHO_PROCESS = 1, IOPRIO_CLASS_IDLE = 3, IOPRIO_CLASS_SHIFT = 13 };

    (void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT);
    (void)setpriority(PRIO_PROCESS, 0, 19);
}
