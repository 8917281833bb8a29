/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/behind.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    PROBE = 65536,     /* bytes that are asked for at once; ours */
    GRAIN = 65536,     /* bytes: the cache may hold so many as one piece, of which no part can be dropped */
    BEHIND = 16 << 20, /* bytes that are kept at least: more than is read ahead */
};

void vd_behind_begin(struct vd_behind *behind, int fd)
{
    *behind = (struct vd_behind){.fd = fd, .is_on = true};
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
}

static void drop(struct vd_behind *behind, struct vd_stretch_vec *stretches)
{
    for (size_t i = 0; i < stretches->n; i++)
        (void)posix_fadvise(behind->fd, stretches->v[i].start, stretches->v[i].end - stretches->v[i].start,
                            POSIX_FADV_DONTNEED);
    stretches->n = 0;
}

/* Two heaps by age: when the newer one is full, the older one has been read. */
static void drop_behind(struct vd_behind *behind)
{
    struct vd_stretch_vec t = behind->older;

    if (behind->newer_bytes < BEHIND)
        return;
    drop(behind, &behind->older);
    behind->older = behind->newer;
    behind->newer = t;
    behind->newer_bytes = 0;
}

/* The range was not in the cache, as far as anybody can tell, and will be. */
static void note_cold(struct vd_behind *behind, int64_t start, int64_t end)
{
    struct vd_stretch_vec *newer = &behind->newer;
    struct vd_stretch cold = {start - start % GRAIN, end + (GRAIN - end % GRAIN) % GRAIN};
    struct vd_stretch *last = newer->n ? &newer->v[newer->n - 1] : NULL;

    if (last && last->start <= cold.start && cold.start <= last->end) {
        if (cold.end <= last->end)
            return;
        cold.start = last->end;
        last->end = cold.end;
    } else if (vd_stretch_vec_push(newer, cold) < 0)
        return; /* it stays in the cache */
    behind->newer_bytes += cold.end - cold.start;
}

static bool is_unknown(int errnum)
{
    return errnum == EOPNOTSUPP || errnum == ENOSYS || errnum == EINVAL || errnum == EPERM;
}

/*
 * Reads what is in the cache from there on, and notes the rest. That rest is on its way into the cache by
 * then: the kernel begins to read what it says it does not have. So a range is asked for once, and what of it
 * lies behind the first page that is missing counts as missing; it is kept short.
 */
static ssize_t read_cached(struct vd_behind *behind, void *buf, size_t len, int64_t offset)
{
    struct iovec part = {.iov_base = buf, .iov_len = len};
    ssize_t n = preadv2(behind->fd, &part, 1, offset, RWF_NOWAIT);

    if (n < 0 && is_unknown(errno))
        behind->is_on = false;
    else if (n < (ssize_t)len && n != 0)
        note_cold(behind, offset + (n > 0 ? n : 0), offset + (int64_t)len);
    return n;
}

ssize_t vd_behind_pread(struct vd_behind *behind, void *buf, size_t len, int64_t offset)
{
    ssize_t n;

    if (!behind->is_on)
        return pread(behind->fd, buf, len, offset);
    len = len < PROBE ? len : PROBE;
    n = read_cached(behind, buf, len, offset);
    drop_behind(behind);
    return n == (ssize_t)len ? n : pread(behind->fd, buf, len, offset);
}

void vd_behind_prefetch(struct vd_behind *behind, int64_t offset, int64_t bytes)
{
    uint8_t scratch[PROBE];
    ssize_t n = 1;

    /* Asking for it is what begins the read. */
    for (int64_t at = offset; n && at < offset + bytes && behind->is_on; at += PROBE)
        n = read_cached(behind, scratch, (size_t)(offset + bytes - at < PROBE ? offset + bytes - at : PROBE),
                        at);
    drop_behind(behind);
    if (!behind->is_on)
        (void)posix_fadvise(behind->fd, offset, bytes, POSIX_FADV_WILLNEED);
}

void vd_behind_end(struct vd_behind *behind)
{
    drop(behind, &behind->older);
    drop(behind, &behind->newer);
    vd_stretch_vec_done(&behind->older);
    vd_stretch_vec_done(&behind->newer);
}
