/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "formats/base/span.h"
#include "formats/base/vec.h"

/*
 * Block number -> slot, by open addressing; slot -> bytes, in pages of memory first, then in the spill file.
 * Slots are only ever added: a block cut off by truncate is marked dead by an offset of its own (DEAD).
 */
#define DEAD UINT64_MAX

enum {
    BLOCK = VD_OVERLAY_BLOCK,
    FEW_SLOTS = 1024,
    PAGE_BLOCKS = 64,
    MEMORY_BLOCKS = (32 << 20) / VD_OVERLAY_BLOCK,
};

struct slot {
    uint64_t block; /* offset / BLOCK, or DEAD */
    uint8_t stage;
};

VD_VEC(slot_vec, struct slot)
VD_VEC(page_vec, uint8_t *)

struct overlay {
    struct slot_vec slots;
    struct page_vec pages;
    uint32_t *index; /* slot + 1, or 0 */
    size_t index_size;
    size_t live;
    int spill;
    const char *spill_dir;
    int64_t length;
    int64_t low_water;
    vd_may_write_fn *may_write;
    void *ask_opaque;
};

static struct overlay *overlay_of(struct BlockDriverState *bs)
{
    return bs->opaque;
}

static size_t hash_of(const struct overlay *o, uint64_t block)
{
    return (size_t)((block * 0x9e3779b97f4a7c15u) >> 20) & (o->index_size - 1);
}

static void index_put(struct overlay *o, uint64_t block, uint32_t slot)
{
    size_t at = hash_of(o, block);

    while (o->index[at])
        at = (at + 1) & (o->index_size - 1);
    o->index[at] = slot + 1;
}

static bool index_find(const struct overlay *o, uint64_t block, uint32_t *slot)
{
    size_t at;

    if (!o->live)
        return false;
    for (at = hash_of(o, block); o->index[at]; at = (at + 1) & (o->index_size - 1)) {
        *slot = o->index[at] - 1;
        if (o->slots.v[*slot].block == block)
            return true;
    }
    return false;
}

static int index_grow(struct overlay *o, struct vd_err *err)
{
    size_t size = o->index_size ? o->index_size * 2 : 1024;
    uint32_t *index;

    if (o->slots.n < o->index_size / 2)
        return 0;
    index = calloc(size, sizeof(*index));
    if (!index || o->slots.n >= UINT32_MAX / 2) {
        free(index);
        return vd_fail_memory(err);
    }
    free(o->index);
    o->index = index;
    o->index_size = size;
    for (size_t i = 0; i < o->slots.n; i++)
        if (o->slots.v[i].block != DEAD)
            index_put(o, o->slots.v[i].block, (uint32_t)i);
    return 0;
}

static int open_spill(struct BlockDriverState *bs, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);

    o->spill = open(o->spill_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (o->spill < 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: no temporary file in %s for a repair larger than %d MiB",
                       bs->filename, o->spill_dir, MEMORY_BLOCKS / 256);
    return 0;
}

static int spill_io(struct BlockDriverState *bs, uint32_t slot, void *buf, bool is_write, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);
    off_t at = (off_t)(slot - MEMORY_BLOCKS) * BLOCK;
    uint8_t *p = buf;
    size_t left = BLOCK;

    while (left) {
        ssize_t n = is_write ? pwrite(o->spill, p, left, at) : pread(o->spill, p, left, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return vd_fail(err, VD_ERR_IO, n < 0 ? errno : EIO, "%s: temporary file of the repair",
                           bs->filename);
        p += n;
        at += n;
        left -= (size_t)n;
    }
    return 0;
}

static uint8_t *slot_memory(struct overlay *o, uint32_t slot)
{
    return o->pages.v[slot / PAGE_BLOCKS] + (size_t)(slot % PAGE_BLOCKS) * BLOCK;
}

static bool is_in_memory(const struct overlay *o, uint32_t slot)
{
    return !o->spill_dir || slot < MEMORY_BLOCKS;
}

static int load_slot(struct BlockDriverState *bs, uint32_t slot, uint8_t *buf, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);

    if (!is_in_memory(o, slot))
        return spill_io(bs, slot, buf, false, err);
    memcpy(buf, slot_memory(o, slot), BLOCK);
    return 0;
}

static int store_slot(struct BlockDriverState *bs, uint32_t slot, uint8_t *buf, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);

    if (!is_in_memory(o, slot))
        return spill_io(bs, slot, buf, true, err);
    memcpy(slot_memory(o, slot), buf, BLOCK);
    return 0;
}

static int add_slot(struct BlockDriverState *bs, uint64_t block, uint32_t *slot, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);

    if (index_grow(o, err) < 0)
        return -1;
    *slot = (uint32_t)o->slots.n;
    if (is_in_memory(o, *slot) && *slot / PAGE_BLOCKS >= o->pages.n) {
        uint8_t *page = malloc((size_t)PAGE_BLOCKS * BLOCK);

        if (!page || page_vec_push(&o->pages, page) < 0) {
            free(page);
            return vd_fail_memory(err);
        }
    }
    if (!is_in_memory(o, *slot) && o->spill < 0 && open_spill(bs, err) < 0)
        return -1;
    if (slot_vec_push(&o->slots, (struct slot){.block = block}) < 0)
        return vd_fail_memory(err);
    index_put(o, block, *slot);
    o->live++;
    return 0;
}

/* What a block holds without a slot: the base as far as it is still seen, zeroes behind. */
static int read_base(struct BlockDriverState *bs, int64_t offset, int64_t bytes, uint8_t *buf,
                     struct vd_err *err)
{
    int64_t seen = overlay_of(bs)->low_water;
    int64_t there = offset >= seen ? 0 : (int64_t)vd_min((uint64_t)bytes, (uint64_t)(seen - offset));

    memset(buf + there, 0, (size_t)(bytes - there));
    return bdrv_pread(bs->file, offset, there, buf, err);
}

static int overlay_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                          struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);
    uint8_t block[BLOCK], *p = buf;
    int64_t end = offset + bytes;

    if (end > o->length)
        return vd_fail(err, VD_ERR_IO, 0,
                       "%s: the file ends at %#" PRIx64 ", expected %" PRId64 " bytes at %#" PRIx64,
                       bs->filename, (uint64_t)o->length, bytes, (uint64_t)offset);
    while (offset < end) {
        int64_t in = offset % BLOCK, n = (int64_t)vd_min((uint64_t)(BLOCK - in), (uint64_t)(end - offset));
        uint32_t slot;

        if (index_find(o, (uint64_t)offset / BLOCK, &slot)) {
            if (load_slot(bs, slot, block, err) < 0)
                return -1;
            memcpy(p, block + in, (size_t)n);
        } else {
            while (o->live && offset + n < end && !index_find(o, (uint64_t)(offset + n) / BLOCK, &slot))
                n = (int64_t)vd_min((uint64_t)n + BLOCK, (uint64_t)(end - offset));
            if (!o->live)
                n = end - offset;
            if (read_base(bs, offset, n, p, err) < 0)
                return -1;
        }
        p += n;
        offset += n;
    }
    return 0;
}

/* The block's slot, filled with what the block reads as so far. */
static int slot_for_write(struct BlockDriverState *bs, uint64_t block, uint32_t *slot, uint8_t *bytes,
                          struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);
    int64_t at = (int64_t)block * BLOCK;

    if (index_find(o, block, slot))
        return load_slot(bs, *slot, bytes, err);
    if (read_base(bs, at, BLOCK, bytes, err) < 0)
        return -1;
    return add_slot(bs, block, slot, err);
}

static int overlay_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                           enum vd_stage stage, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);
    const uint8_t *p = buf;
    int64_t end = offset + bytes;

    if (o->may_write && o->may_write(o->ask_opaque, offset, bytes, err) < 0)
        return -1;
    if (end > o->length && bdrv_is_fixed_length(bs))
        return vd_fail(err, VD_ERR_IO, ENOSPC, "%s: the device ends at %#" PRIx64, bs->filename,
                       (uint64_t)o->length);
    while (offset < end) {
        int64_t in = offset % BLOCK, n = (int64_t)vd_min((uint64_t)(BLOCK - in), (uint64_t)(end - offset));
        uint8_t block[BLOCK];
        uint32_t slot;

        if (slot_for_write(bs, (uint64_t)offset / BLOCK, &slot, block, err) < 0)
            return -1;
        memcpy(block + in, p, (size_t)n);
        if (store_slot(bs, slot, block, err) < 0)
            return -1;
        if (o->slots.v[slot].stage < stage)
            o->slots.v[slot].stage = (uint8_t)stage;
        p += n;
        offset += n;
        if (offset > o->length)
            o->length = offset;
    }
    return 0;
}

static void drop_blocks_behind(struct overlay *o, int64_t size)
{
    for (size_t i = 0; i < o->slots.n; i++) {
        if (o->slots.v[i].block == DEAD || (int64_t)(o->slots.v[i].block * BLOCK) < size)
            continue;
        /* The index entry stays and matches nothing any more, so that probing goes on past it. */
        o->slots.v[i].block = DEAD;
        o->live--;
    }
}

static int zero_block_tail(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);
    uint8_t block[BLOCK];
    uint32_t slot;

    if (size % BLOCK == 0 || !index_find(o, (uint64_t)size / BLOCK, &slot))
        return 0;
    if (load_slot(bs, slot, block, err) < 0)
        return -1;
    memset(block + size % BLOCK, 0, (size_t)(BLOCK - size % BLOCK));
    return store_slot(bs, slot, block, err);
}

static int overlay_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);

    if (bdrv_is_fixed_length(bs) && size != o->length)
        return vd_fail(err, VD_ERR_UNSUPPORTED, 0, "%s: the length of a device cannot be changed",
                       bs->filename);
    if (size < o->length) {
        drop_blocks_behind(o, size);
        if (zero_block_tail(bs, size, err) < 0)
            return -1;
        if (size < o->low_water)
            o->low_water = size;
    }
    o->length = size;
    return 0;
}

static int overlay_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 enum vd_stage stage, struct vd_err *err)
{
    static const uint8_t zeroes[BLOCK];
    struct overlay *o = overlay_of(bs);
    int64_t end = offset + bytes;

    if (o->may_write && o->may_write(o->ask_opaque, offset, bytes, err) < 0)
        return -1;
    if (end > o->length && overlay_truncate(bs, end, err) < 0)
        return -1;
    while (offset < end) {
        int64_t pnum = 0;
        int status = bdrv_block_status(bs, offset, end - offset, &pnum, NULL, err);

        if (status < 0)
            return -1;
        if (!(status & BDRV_BLOCK_ZERO)) {
            pnum = (int64_t)vd_min((uint64_t)pnum, BLOCK);
            if (overlay_pwritev(bs, offset, pnum, zeroes, stage, err) < 0)
                return -1;
        }
        offset += pnum;
    }
    return 0;
}

/*
 * From offset on, how many of n bytes lie before the next block of ours? Few blocks are all looked at, for
 * the stretch may be terabytes of a hole; with many, a long stretch is told in pieces.
 */
static int64_t bytes_before_ours(const struct overlay *o, int64_t offset, int64_t n)
{
    uint32_t slot;

    if (o->slots.n <= FEW_SLOTS) {
        for (size_t i = 0; i < o->slots.n; i++)
            if (o->slots.v[i].block != DEAD && (int64_t)(o->slots.v[i].block * BLOCK) > offset)
                n = (int64_t)vd_min((uint64_t)n, o->slots.v[i].block * BLOCK - (uint64_t)offset);
        return n;
    }
    n = (int64_t)vd_min((uint64_t)n, (uint64_t)FEW_SLOTS * BLOCK);
    for (int64_t at = (offset / BLOCK + 1) * BLOCK; at < offset + n; at += BLOCK)
        if (index_find(o, (uint64_t)at / BLOCK, &slot))
            return at - offset;
    return n;
}

static int overlay_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                                int64_t *map, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);
    uint32_t slot;
    int64_t n;
    int status;

    *map = offset;
    if (index_find(o, (uint64_t)offset / BLOCK, &slot)) {
        *pnum = (int64_t)vd_min((uint64_t)bytes, (uint64_t)(BLOCK - offset % BLOCK));
        return BDRV_BLOCK_DATA | BDRV_BLOCK_ALLOCATED | BDRV_BLOCK_OFFSET_VALID;
    }
    if (offset >= o->low_water) {
        status = BDRV_BLOCK_ZERO | BDRV_BLOCK_OFFSET_VALID;
        n = bytes;
    } else {
        int64_t seen = (int64_t)vd_min((uint64_t)bytes, (uint64_t)(o->low_water - offset));

        status = bdrv_block_status(bs->file, offset, seen, &n, map, err);
        if (status < 0)
            return -1;
    }
    *pnum = n;
    if (!o->live)
        return status;
    *pnum = bytes_before_ours(o, offset, n);
    return status;
}

static int overlay_flush(struct BlockDriverState *bs, struct vd_err *err)
{
    (void)bs;
    (void)err;
    return 0;
}

static int64_t overlay_getlength(struct BlockDriverState *bs, struct vd_err *err)
{
    (void)err;
    return overlay_of(bs)->length;
}

static void overlay_close(struct BlockDriverState *bs)
{
    struct overlay *o = overlay_of(bs);

    for (size_t i = 0; i < o->pages.n; i++)
        free(o->pages.v[i]);
    page_vec_done(&o->pages);
    slot_vec_done(&o->slots);
    free(o->index);
    if (o->spill >= 0)
        close(o->spill);
}

static const struct BlockDriver overlay_driver = {
    .format_name = "overlay",
    .description = "copy-on-write view",
    .is_filter = true,
    .instance_size = sizeof(struct overlay),
    .bdrv_close = overlay_close,
    .bdrv_co_preadv = overlay_preadv,
    .bdrv_co_pwritev = overlay_pwritev,
    .bdrv_co_pwrite_zeroes = overlay_pwrite_zeroes,
    .bdrv_co_block_status = overlay_block_status,
    .bdrv_co_truncate = overlay_truncate,
    .bdrv_co_flush = overlay_flush,
    .bdrv_getlength = overlay_getlength,
};

struct BlockDriverState *vd_overlay_new(struct BlockDriverState *base, const char *spill_dir,
                                        struct vd_err *err)
{
    vd_auto(BlockDriverState) bs = bdrv_new(&overlay_driver, base->filename, base, err);
    int64_t length;

    if (!bs)
        return NULL;
    overlay_of(bs)->spill = -1;
    length = bdrv_getlength(base, err);
    if (length < 0)
        return NULL;
    bs->open_flags = BDRV_O_RDWR;
    overlay_of(bs)->spill_dir = spill_dir;
    overlay_of(bs)->length = overlay_of(bs)->low_water = length;
    return vd_take(&bs);
}

void vd_overlay_ask(struct BlockDriverState *bs, vd_may_write_fn *may_write, void *opaque)
{
    overlay_of(bs)->may_write = may_write;
    overlay_of(bs)->ask_opaque = opaque;
}

size_t vd_overlay_blocks(struct BlockDriverState *bs)
{
    return overlay_of(bs)->live;
}

static int by_offset(const void *a, const void *b)
{
    const struct vd_overlay_block *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

struct vd_overlay_block *vd_overlay_list(struct BlockDriverState *bs, size_t *n, struct vd_err *err)
{
    struct overlay *o = overlay_of(bs);
    struct vd_overlay_block *list;

    *n = 0;
    if (!o->live)
        return NULL;
    list = malloc(o->live * sizeof(*list));
    if (!list) {
        vd_fail_memory(err);
        return NULL;
    }
    for (size_t i = 0; i < o->slots.n; i++)
        if (o->slots.v[i].block != DEAD)
            list[(*n)++] = (struct vd_overlay_block){o->slots.v[i].block * BLOCK, o->slots.v[i].stage};
    qsort(list, *n, sizeof(*list), by_offset);
    return list;
}

int64_t vd_overlay_low_water(struct BlockDriverState *bs)
{
    return overlay_of(bs)->low_water;
}
