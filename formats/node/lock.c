/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "formats/base/auto.h"

enum {
    USES = 100,
    DENIES = 200,
    /* permissions, as QEMU numbers them */
    READ = 0,
    WRITE = 1,
    RESIZE = 3,
};

struct lock_rows {
    int held[8]; /* ended by 0 */
    int tested[8];
};

/* Who takes what, and what is then tested: one row for each mode. */
static const struct lock_rows rows[] = {
    [VD_LOCK_SHARE] = {.held = {USES + READ},                                                               .tested = {DENIES + READ}                             },
    [VD_LOCK_READ] = {.held = {USES + READ, DENIES + WRITE, DENIES + RESIZE},
                       .tested = {DENIES + READ, USES + WRITE, USES + RESIZE}                                                                                     },
    [VD_LOCK_WRITE] = {.held = {USES + READ, USES + WRITE, USES + RESIZE, DENIES + WRITE, DENIES + RESIZE},
                       .tested = {DENIES + READ, DENIES + WRITE, DENIES + RESIZE, USES + WRITE,
                                  USES + RESIZE}                                                                                                                  },
    [VD_LOCK_GENTLE] = {.held = {USES + READ},                                                               .tested = {DENIES + READ, USES + WRITE, USES + RESIZE}},
};

static int lock_byte(int fd, int byte, short type)
{
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int rc;

    do
        rc = fcntl(fd, F_OFD_SETLK, &fl);
    while (rc < 0 && errno == EINTR);
    return rc;
}

static int is_held_by_others(int fd, int byte, int *held)
{
    struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
        return -1;
    *held = fl.l_type != F_UNLCK;
    return 0;
}

static void release_all(int fd)
{
    struct flock fl = {
        .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = USES, .l_len = DENIES + 100 - USES};

    (void)fcntl(fd, F_OFD_SETLK, &fl);
}

static int means_no_locks(int errnum)
{
    return errnum == EINVAL || errnum == ENOLCK || errnum == ENOTSUP || errnum == ENOSYS;
}

static int busy(const char *path, int byte, struct vd_err *err)
{
    static const char *const why[] = {[READ] = "reading", [WRITE] = "writing", [RESIZE] = "resizing"};

    return vd_fail(err, VD_ERR_BUSY, 0, "%s: another program has the image open (%s %s; lock byte %d)", path,
                   byte >= DENIES ? "it allows no" : "it is", why[byte % 100], byte);
}

enum vd_lock_result vd_lock_take(int fd, enum vd_lock_mode mode, const char *path, struct vd_err *err)
{
    const struct lock_rows *row = &rows[mode];

    release_all(fd);
    for (const int *byte = row->held; *byte; byte++) {
        if (lock_byte(fd, *byte, F_RDLCK) == 0)
            continue;
        if (means_no_locks(errno))
            return VD_LOCK_NONE_HERE;
        if (errno == EAGAIN || errno == EACCES)
            busy(path, *byte, err);
        else
            vd_fail(err, VD_ERR_IO, errno, "%s: cannot lock byte %d", path, *byte);
        release_all(fd);
        return VD_LOCK_FAILED;
    }
    for (const int *byte = row->tested; *byte; byte++) {
        int held = 0;

        if (is_held_by_others(fd, *byte, &held) < 0)
            vd_fail(err, VD_ERR_IO, errno, "%s: cannot test the lock of byte %d", path, *byte);
        else if (held)
            busy(path, *byte, err);
        else
            continue;
        release_all(fd);
        return VD_LOCK_FAILED;
    }
    return VD_LOCK_TAKEN;
}

int vd_lock_still_quiet(int fd, const char *path, struct vd_err *err)
{
    static const int bytes[] = {USES + WRITE, USES + RESIZE};
    int held = 0;

    for (size_t i = 0; i < VD_ARRAY_SIZE(bytes); i++)
        if (is_held_by_others(fd, bytes[i], &held) == 0 && held)
            return busy(path, bytes[i], err);
    return 0;
}

bool vd_lock_has_writer(int fd)
{
    int held = 0;

    return is_held_by_others(fd, USES + WRITE, &held) == 0 && held;
}
