/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "formats/base/span.h"

struct memory {
    uint8_t *bytes;
    size_t len, cap;
};

enum { LARGEST = 1 << 30 };

static int set_length(struct BlockDriverState *bs, size_t len, struct vd_err *err)
{
    struct memory *m = bs->opaque;

    if (len > LARGEST)
        return vd_fail(err, VD_ERR_LIMIT, ENOSPC, "%s: %zu bytes are too many for a node in memory",
                       bs->filename, len);
    if (len > m->cap) {
        size_t cap = len + len / 4 + 4096;
        uint8_t *grown = realloc(m->bytes, cap);

        if (!grown)
            return vd_fail_memory(err);
        m->bytes = grown;
        m->cap = cap;
    }
    if (len > m->len)
        memset(m->bytes + m->len, 0, len - m->len);
    m->len = len;
    return 0;
}

static int memory_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                         struct vd_err *err)
{
    struct memory *m = bs->opaque;

    if (!vd_span_within((struct vd_span){(uint64_t)offset, (uint64_t)bytes}, m->len))
        return vd_fail(err, VD_ERR_IO, 0,
                       "%s: the file ends at %#zx, expected %" PRId64 " bytes at %#" PRIx64, bs->filename,
                       m->len, bytes, (uint64_t)offset);
    memcpy(buf, m->bytes + offset, (size_t)bytes);
    return 0;
}

static int memory_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                          enum vd_stage stage, struct vd_err *err)
{
    struct memory *m = bs->opaque;

    (void)stage;
    if ((uint64_t)(offset + bytes) > m->len && set_length(bs, (size_t)(offset + bytes), err) < 0)
        return -1;
    memcpy(m->bytes + offset, buf, (size_t)bytes);
    return 0;
}

static int memory_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    return set_length(bs, (size_t)size, err);
}

static int64_t memory_getlength(struct BlockDriverState *bs, struct vd_err *err)
{
    struct memory *m = bs->opaque;

    (void)err;
    return (int64_t)m->len;
}

static void memory_close(struct BlockDriverState *bs)
{
    struct memory *m = bs->opaque;

    free(m->bytes);
}

static int memory_flush(struct BlockDriverState *bs, struct vd_err *err)
{
    (void)bs;
    (void)err;
    return 0;
}

static const struct BlockDriver memory_driver = {
    .format_name = "memory",
    .protocol_name = "memory",
    .description = "an image in memory",
    .instance_size = sizeof(struct memory),
    .bdrv_close = memory_close,
    .bdrv_co_preadv = memory_preadv,
    .bdrv_co_pwritev = memory_pwritev,
    .bdrv_co_truncate = memory_truncate,
    .bdrv_co_flush = memory_flush,
    .bdrv_getlength = memory_getlength,
};

struct BlockDriverState *vd_memory_new(const char *name, const void *bytes, size_t len, struct vd_err *err)
{
    vd_auto(BlockDriverState) bs = bdrv_new(&memory_driver, name, NULL, err);

    if (!bs || vd_memory_fill(bs, bytes, len, err) < 0)
        return NULL;
    bs->open_flags = BDRV_O_RDWR;
    return vd_take(&bs);
}

int vd_memory_fill(struct BlockDriverState *bs, const void *bytes, size_t len, struct vd_err *err)
{
    struct memory *m = bs->opaque;

    if (set_length(bs, len, err) < 0)
        return -1;
    if (bytes && len)
        memcpy(m->bytes, bytes, len);
    return 0;
}

uint8_t *vd_memory_bytes(struct BlockDriverState *bs, size_t *len)
{
    struct memory *m = bs->opaque;

    *len = m->len;
    return m->bytes;
}
