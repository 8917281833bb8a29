/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "formats/base/span.h"
#include "formats/node/behind.h"
#include "formats/node/lock.h"

struct vd_file {
    int fd;
    bool is_device;
    bool has_no_locks;
    int64_t length;
    struct stat stat;
    struct vd_behind behind; /* on with BDRV_O_DROP_BEHIND */
    struct {
        int64_t start, end; /* a stretch that lseek has told of; empty: none */
        bool is_data;
    } extent;
};

static struct vd_file *file_of(struct BlockDriverState *bs)
{
    return bs->opaque;
}

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFCHR:
        return "a character device";
    default:
        return "no file";
    }
}

static int refuse_kind(const struct stat *st, const char *path, struct vd_err *err)
{
    if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
        return 0;
    return vd_fail(err, VD_ERR_IO, 0, "%s: %s, expected a regular file or a block device", path,
                   kind_of(st->st_mode));
}

/* A device can be opened for writing and take no write: its kernel then refuses each of them. */
static bool is_read_only_device(int fd, const struct stat *st)
{
    int is_read_only = 0;

    return S_ISBLK(st->st_mode) && ioctl(fd, BLKROGET, &is_read_only) == 0 && is_read_only;
}

static int open_fd(const char *path, int flags, struct vd_err *err)
{
    int how = (flags & BDRV_O_RDWR ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    struct stat st;
    int fd = -1;

    if (stat(path, &st) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot open", path);
    if (refuse_kind(&st, path, err) < 0)
        return -1;
    if (!(flags & BDRV_O_RDWR))
        fd = open(path, how | O_NOATIME);
    if (fd < 0)
        fd = open(path, how);
    if (fd < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot open%s", path,
                       flags & BDRV_O_RDWR ? " for writing" : "");
    if ((flags & BDRV_O_RDWR) && is_read_only_device(fd, &st)) {
        close(fd);
        return vd_fail(err, VD_ERR_IO, EROFS, "%s: cannot open for writing", path);
    }
    return fd;
}

static int learn_length(struct BlockDriverState *bs, struct vd_err *err)
{
    struct vd_file *f = file_of(bs);
    uint64_t bytes = 0;

    if (fstat(f->fd, &f->stat) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot stat", bs->filename);
    if (refuse_kind(&f->stat, bs->filename, err) < 0)
        return -1;
    f->is_device = S_ISBLK(f->stat.st_mode);
    f->length = f->stat.st_size;
    if (!f->is_device)
        return 0;
    if (ioctl(f->fd, BLKGETSIZE64, &bytes) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot ask the device for its size", bs->filename);
    f->length = (int64_t)bytes;
    return 0;
}

static int take_locks(struct BlockDriverState *bs, int flags, struct vd_err *err)
{
    enum vd_lock_mode mode = flags & BDRV_O_RDWR          ? VD_LOCK_WRITE
                             : flags & BDRV_O_FORCE_SHARE ? VD_LOCK_SHARE
                             : flags & BDRV_O_GENTLE      ? VD_LOCK_GENTLE
                                                          : VD_LOCK_READ;

    switch (vd_lock_take(file_of(bs)->fd, mode, bs->filename, err)) {
    case VD_LOCK_FAILED:
        return -1;
    case VD_LOCK_NONE_HERE:
        file_of(bs)->has_no_locks = true;
        return 0;
    case VD_LOCK_TAKEN:
        break;
    }
    return 0;
}

struct BlockDriverState *vd_file_open_fd(int fd, const char *path, int flags, struct vd_err *err)
{
    vd_auto(BlockDriverState) bs = bdrv_new(&vd_file_driver, path, NULL, err);

    if (!bs) {
        close(fd);
        return NULL;
    }
    file_of(bs)->fd = fd;
    file_of(bs)->behind.fd = fd;
    if (flags & BDRV_O_DROP_BEHIND)
        vd_behind_begin(&file_of(bs)->behind, fd);
    bs->open_flags = flags;
    if (learn_length(bs, err) < 0 || take_locks(bs, flags, err) < 0 || learn_length(bs, err) < 0)
        return NULL;
    return vd_take(&bs);
}

struct BlockDriverState *vd_file_open(const char *path, int flags, struct vd_err *err)
{
    int fd = open_fd(path, flags, err);

    return fd < 0 ? NULL : vd_file_open_fd(fd, path, flags, err);
}

struct BlockDriverState *vd_file_create(const char *path, bool replace, struct vd_err *err)
{
    vd_auto(BlockDriverState) bs = NULL;
    struct stat st;
    int fd;

    if (replace && stat(path, &st) == 0 && refuse_kind(&st, path, err) < 0)
        return NULL;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (replace ? 0 : O_EXCL), 0666);
    if (fd < 0) {
        vd_fail(err, VD_ERR_IO, errno, "%s: cannot create", path);
        return NULL;
    }
    bs = vd_file_open_fd(fd, path, BDRV_O_RDWR, err);
    if (!bs)
        return NULL;
    if (!file_of(bs)->is_device && bdrv_truncate(bs, 0, err) < 0)
        return NULL;
    return vd_take(&bs);
}

static void file_close(struct BlockDriverState *bs)
{
    vd_behind_end(&file_of(bs)->behind);
    /* The locks go with the descriptor. */
    if (file_of(bs)->fd >= 0)
        close(file_of(bs)->fd);
}

static int file_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                       struct vd_err *err)
{
    uint8_t *p = buf;

    while (bytes > 0) {
        ssize_t n = vd_behind_pread(&file_of(bs)->behind, p, (size_t)bytes, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return vd_fail(err, VD_ERR_IO, errno, "%s: cannot read %" PRId64 " bytes at %#" PRIx64,
                           bs->filename, bytes, (uint64_t)offset);
        if (n == 0)
            return vd_fail(err, VD_ERR_IO, 0,
                           "%s: the file ends at %#" PRIx64 ", expected %" PRId64 " bytes more", bs->filename,
                           (uint64_t)offset, bytes);
        p += n;
        offset += n;
        bytes -= n;
    }
    return 0;
}

static void note_write(struct vd_file *f, int64_t end)
{
    f->extent.start = f->extent.end = 0;
    if (end > f->length)
        f->length = end;
    (void)fstat(f->fd, &f->stat);
}

static int refuse_behind_device(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                                struct vd_err *err)
{
    struct vd_file *f = file_of(bs);

    if (!f->is_device ||
        vd_span_within((struct vd_span){(uint64_t)offset, (uint64_t)bytes}, (uint64_t)f->length))
        return 0;
    return vd_fail(err, VD_ERR_IO, ENOSPC, "%s: the device ends at %#" PRIx64, bs->filename,
                   (uint64_t)f->length);
}

static int file_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                        enum vd_stage stage, struct vd_err *err)
{
    struct vd_file *f = file_of(bs);
    const uint8_t *p = buf;

    (void)stage;
    if (refuse_behind_device(bs, offset, bytes, err) < 0)
        return -1;
    while (bytes > 0) {
        ssize_t n = pwrite(f->fd, p, (size_t)bytes, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return vd_fail(err, VD_ERR_IO, n < 0 ? errno : ENOSPC,
                           "%s: cannot write %" PRId64 " bytes at %#" PRIx64, bs->filename, bytes,
                           (uint64_t)offset);
        p += n;
        offset += n;
        bytes -= n;
        note_write(f, offset);
    }
    return 0;
}

static int file_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    struct vd_file *f = file_of(bs);
    int rc;

    if (f->is_device)
        return size == f->length ? 0
                                 : vd_fail(err, VD_ERR_UNSUPPORTED, 0,
                                           "%s: the length of a device cannot be changed", bs->filename);
    do
        rc = ftruncate(f->fd, size);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot set the length to %" PRId64, bs->filename, size);
    f->length = size;
    note_write(f, 0);
    return 0;
}

/* Holes are left as they are and what lies behind the end is grown, so that zeroes cost space only where they
 * must. */
static int file_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                              struct vd_err *err)
{
    static const uint8_t zeroes[65536];
    struct vd_file *f = file_of(bs);
    int64_t end = offset + bytes;

    if (refuse_behind_device(bs, offset, bytes, err) < 0)
        return -1;
    if (!f->is_device && end > f->length && file_truncate(bs, end, err) < 0)
        return -1;
    while (offset < end) {
        int64_t pnum = 0;
        int status = bdrv_block_status(bs, offset, end - offset, &pnum, NULL, err);

        if (status < 0)
            return -1;
        if (!(status & BDRV_BLOCK_ZERO)) {
            pnum = (int64_t)vd_min((uint64_t)pnum, sizeof(zeroes));
            if (file_pwritev(bs, offset, pnum, zeroes, stage, err) < 0)
                return -1;
        }
        offset += pnum;
    }
    return 0;
}

static void learn_extent(struct vd_file *f, int64_t offset)
{
    off_t data = lseek(f->fd, offset, SEEK_DATA), hole;

    f->extent.start = offset;
    if (data < 0 && errno == ENXIO) {
        f->extent.end = f->length;
        f->extent.is_data = false;
    } else if (data > offset) {
        f->extent.end = data;
        f->extent.is_data = false;
    } else {
        hole = data < 0 ? -1 : lseek(f->fd, offset, SEEK_HOLE);
        f->extent.end = hole > offset ? hole : f->length;
        f->extent.is_data = true;
    }
}

static int file_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                             int64_t *map, struct vd_err *err)
{
    struct vd_file *f = file_of(bs);

    (void)err;
    *map = offset;
    *pnum = bytes;
    if (offset >= f->length)
        return BDRV_BLOCK_ZERO;
    if (!f->is_device) {
        if (offset < f->extent.start || offset >= f->extent.end)
            learn_extent(f, offset);
        *pnum = (int64_t)vd_min((uint64_t)bytes, (uint64_t)(f->extent.end - offset));
        if (!f->extent.is_data)
            return BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID;
    } else {
        *pnum = (int64_t)vd_min((uint64_t)bytes, (uint64_t)(f->length - offset));
    }
    return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID;
}

static int file_flush(struct BlockDriverState *bs, struct vd_err *err)
{
    if (!(bs->open_flags & BDRV_O_RDWR))
        return 0;
    if (fdatasync(file_of(bs)->fd) < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot flush", bs->filename);
    (void)fstat(file_of(bs)->fd, &file_of(bs)->stat);
    return 0;
}

static int64_t file_getlength(struct BlockDriverState *bs, struct vd_err *err)
{
    (void)err;
    return file_of(bs)->length;
}

static void file_prefetch(struct BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    vd_behind_prefetch(&file_of(bs)->behind, offset, bytes);
}

bool vd_file_is_device(struct BlockDriverState *bs)
{
    return file_of(bs)->is_device;
}

int vd_file_fd(struct BlockDriverState *bs)
{
    return file_of(bs)->fd;
}

bool vd_file_has_no_locks(struct BlockDriverState *bs)
{
    return file_of(bs)->has_no_locks;
}

bool vd_file_has_writer(struct BlockDriverState *bs)
{
    return vd_lock_has_writer(file_of(bs)->fd);
}

int vd_file_still_quiet(struct BlockDriverState *bs, struct vd_err *err)
{
    return vd_lock_still_quiet(file_of(bs)->fd, bs->filename, err);
}

const struct stat *vd_file_stat(struct BlockDriverState *bs)
{
    return &file_of(bs)->stat;
}

bool vd_file_has_changed(struct BlockDriverState *bs)
{
    struct vd_file *f = file_of(bs);
    struct stat now;

    if (fstat(f->fd, &now) < 0)
        return true;
    return now.st_size != f->stat.st_size || now.st_mtim.tv_sec != f->stat.st_mtim.tv_sec ||
           now.st_mtim.tv_nsec != f->stat.st_mtim.tv_nsec;
}

uint64_t vd_file_allocated(struct BlockDriverState *bs)
{
    struct vd_file *f = file_of(bs);

    return f->is_device ? (uint64_t)f->length : (uint64_t)f->stat.st_blocks * 512;
}

const struct BlockDriver vd_file_driver = {
    .format_name = "file",
    .protocol_name = "file",
    .description = "a regular file or a block device",
    .instance_size = sizeof(struct vd_file),
    .bdrv_close = file_close,
    .bdrv_co_preadv = file_preadv,
    .bdrv_co_pwritev = file_pwritev,
    .bdrv_co_pwrite_zeroes = file_pwrite_zeroes,
    .bdrv_co_block_status = file_block_status,
    .bdrv_co_truncate = file_truncate,
    .bdrv_co_flush = file_flush,
    .bdrv_getlength = file_getlength,
    .bdrv_is_fixed_length = vd_file_is_device,
    .bdrv_prefetch = file_prefetch,
};
