/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stored reference counts: from a cluster to its block, and counts of 1 to 64 bits in and out of a block.
 *
 * Counts of less than a byte are packed with the lowest cluster in the lowest bits; wider ones are
 * big-endian.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

void qcow2_unpack_counts(const struct qcow2_geometry *g, const uint8_t *block, uint64_t first, uint64_t n,
                         uint64_t *count)
{
    unsigned bits = 1U << g->refcount_order;

    switch (g->refcount_order) {
    case 6:
        for (uint64_t i = 0; i < n; i++)
            count[i] = vd_get_be64(block + 8 * (first + i));
        break;
    case 5:
        for (uint64_t i = 0; i < n; i++)
            count[i] = vd_get_be32(block + 4 * (first + i));
        break;
    case 4:
        for (uint64_t i = 0; i < n; i++)
            count[i] = vd_get_be16(block + 2 * (first + i));
        break;
    case 3:
        for (uint64_t i = 0; i < n; i++)
            count[i] = block[first + i];
        break;
    default:
        for (uint64_t i = 0; i < n; i++)
            count[i] = block[(first + i) * bits / 8] >> ((first + i) * bits % 8) & ((1U << bits) - 1);
        break;
    }
}

void qcow2_pack_count(const struct qcow2_geometry *g, uint8_t *block, uint64_t i, uint64_t count)
{
    unsigned bits = 1U << g->refcount_order, shift = (unsigned)(i * bits % 8), mask;

    switch (g->refcount_order) {
    case 6:
        vd_put_be64(block + 8 * i, count);
        return;
    case 5:
        vd_put_be32(block + 4 * i, (uint32_t)count);
        return;
    case 4:
        vd_put_be16(block + 2 * i, (uint16_t)count);
        return;
    case 3:
        block[i] = (uint8_t)count;
        return;
    default:
        mask = ((1U << bits) - 1) << shift;
        block[i * bits / 8] = (uint8_t)((block[i * bits / 8] & ~mask) | ((unsigned)count << shift & mask));
        return;
    }
}

int qcow2_block_of(struct BlockDriverState *bs, uint64_t cluster, uint64_t *block_off, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t i = cluster / g->block_n, entry;

    *block_off = 0;
    if (i >= g->reftable_n || !vd_is_aligned(g->reftable_off, g->cluster_size))
        return 0;
    if (qcow2_read_words(bs, g->reftable_off, i, 1, &entry, err) < 0)
        return vd_while(err, "refcount table");
    entry &= QCOW2_REFTABLE_MASK;
    if (vd_is_aligned(entry, g->cluster_size) && entry < g->file_end)
        *block_off = entry;
    return 0;
}

int qcow2_read_counts(struct BlockDriverState *bs, uint64_t first, uint64_t n, uint64_t *count,
                      struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    unsigned bits = 1U << g->refcount_order;
    uint64_t block_off, i = first % g->block_n, from = i * bits / 8, to = vd_div_up((i + n) * bits, 8);
    vd_auto_mem uint8_t *bytes = NULL;

    memset(count, 0, n * sizeof(*count));
    if (qcow2_block_of(bs, first, &block_off, err) < 0)
        return -1;
    if (!block_off)
        return 0;
    bytes = malloc(to - from);
    if (!bytes)
        return vd_fail_memory(err);
    if (bdrv_pread_padded(bs->file, (int64_t)(block_off + from), (int64_t)(to - from), bytes, err) < 0)
        return vd_while(err, "refcount block");
    /* Counts are unpacked relative to a whole byte. */
    qcow2_unpack_counts(g, bytes, i - from * 8 / bits, n, count);
    return 0;
}
