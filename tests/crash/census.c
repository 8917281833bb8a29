/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/crash/census.h"

#include <inttypes.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/span.h"

#define OFFSET ((uint64_t)0x00fffffffffffe00)
#define COPIED ((uint64_t)1 << 63)
#define PACKED ((uint64_t)1 << 62)

enum { SNAPSHOT_BYTES = 40 + 16 + 2 };

/* The image's bytes, and what its header says. */
struct census {
    uint8_t *p;
    size_t len;
    unsigned bits; /* of a cluster */
    uint64_t cs, clusters;
    unsigned entry_bytes;
    unsigned order; /* of a count */
    uint64_t *refs;
    uint8_t *copied; /* named by an entry with COPIED, in the active tree */
};

static uint64_t word_at(const struct census *c, uint64_t off)
{
    uint8_t bytes[8] = {0};

    if (off < c->len)
        memcpy(bytes, c->p + off, vd_min(8, c->len - off));
    return vd_get_be64(bytes);
}

static uint32_t half_at(const struct census *c, uint64_t off)
{
    return (uint32_t)(word_at(c, off) >> 32);
}

static struct census begin(const struct sweep_image *image)
{
    struct census c = {0};

    c.p = vd_memory_bytes(image->file, &c.len);
    sweep_must(c.len >= 72 && half_at(&c, 0) == 0x514649fb, "no header");
    c.bits = half_at(&c, 20);
    c.cs = (uint64_t)1 << c.bits;
    c.clusters = vd_div_up(c.len, c.cs);
    c.entry_bytes = half_at(&c, 4) > 2 && word_at(&c, 72) & 16 ? 16 : 8;
    c.order = half_at(&c, 4) > 2 ? half_at(&c, 96) : 4;
    return c;
}

static uint64_t count_of(const struct census *c, uint64_t cluster)
{
    uint64_t per_block = c->cs * 8 >> c->order, i = cluster / per_block, k = cluster % per_block, block;
    unsigned bits = 1u << c->order;

    if (i >= half_at(c, 56) * c->cs / 8)
        return 0;
    block = word_at(c, word_at(c, 48) + 8 * i);
    if (!block)
        return 0;
    if (c->order < 3)
        return word_at(c, block + k * bits / 8) >> 56 >> (k * bits % 8) & ((1u << bits) - 1);
    return word_at(c, block + k * bits / 8) >> (64 - bits);
}

static void refer(struct census *c, uint64_t off, uint64_t bytes, bool copied, const char *what)
{
    sweep_must(bytes == 0 || off % c->cs == 0, "%s at 0x%" PRIx64 " is not aligned", what, off);
    for (uint64_t i = off / c->cs; i < vd_div_up(off + bytes, c->cs); i++) {
        sweep_must(i < c->clusters, "%s at 0x%" PRIx64 " lies behind the end", what, off);
        c->refs[i]++;
        c->copied[i] |= copied;
    }
}

static void refer_packed(struct census *c, uint64_t word)
{
    unsigned x = 70 - c->bits;
    uint64_t off = word & (((uint64_t)1 << x) - 1), n = ((word & ~PACKED) >> x) + 1,
             end = off / 512 * 512 + n * 512;

    sweep_must(off < c->len, "compressed data at 0x%" PRIx64 " lies behind the end", off);
    end = vd_min(end, c->clusters * c->cs);
    for (uint64_t i = off / c->cs; i < vd_div_up(end, c->cs); i++)
        c->refs[i]++;
}

static void refer_tree(struct census *c, uint64_t l1_off, uint64_t l1_n, bool is_active)
{
    refer(c, l1_off, 8 * l1_n, false, "L1");
    for (uint64_t i = 0; i < l1_n; i++) {
        uint64_t l1 = word_at(c, l1_off + 8 * i), l2_off = l1 & OFFSET;

        if (!l2_off)
            continue;
        refer(c, l2_off, c->cs, is_active && l1 & COPIED, "L2");
        for (uint64_t at = l2_off; at < l2_off + c->cs; at += c->entry_bytes) {
            uint64_t word = word_at(c, at);

            if (word & PACKED)
                refer_packed(c, word);
            else if (word & OFFSET)
                refer(c, word & OFFSET, c->cs, is_active && word & COPIED, "data");
        }
    }
}

static void refer_all(struct census *c)
{
    uint64_t table = word_at(c, 48), table_bytes = half_at(c, 56) * c->cs, snapshots = word_at(c, 64);

    refer(c, 0, c->cs, false, "header");
    refer(c, table, table_bytes, false, "refcount table");
    for (uint64_t at = table; at < table + table_bytes; at += 8)
        if (word_at(c, at))
            refer(c, word_at(c, at), c->cs, false, "refcount block");
    refer_tree(c, word_at(c, 40), half_at(c, 36), true);
    if (half_at(c, 60)) {
        refer(c, snapshots, SNAPSHOT_BYTES, false, "snapshot table");
        refer_tree(c, word_at(c, snapshots), half_at(c, snapshots + 8), false);
    }
}

uint64_t census_leaks(const struct sweep_image *image)
{
    struct census c = begin(image);
    uint64_t leaks = 0;

    c.refs = calloc(c.clusters, sizeof(*c.refs));
    c.copied = calloc(c.clusters, 1);
    sweep_must(c.refs && c.copied, "memory");
    refer_all(&c);
    for (uint64_t i = 0; i < c.clusters; i++) {
        uint64_t count = count_of(&c, i);

        sweep_must(count >= c.refs[i],
                   "cluster %" PRIu64 " has the count %" PRIu64 " and %" PRIu64 " references", i, count,
                   c.refs[i]);
        sweep_must(!c.copied[i] || count == 1, "cluster %" PRIu64 " has COPIED and the count %" PRIu64, i,
                   count);
        leaks += count > c.refs[i];
    }
    free(c.refs);
    free(c.copied);
    return leaks;
}

/* ---- snapshots */

static void set_count(struct census *c, uint64_t cluster, uint64_t count)
{
    uint64_t per_block = c->cs / 2, block = word_at(c, word_at(c, 48) + 8 * (cluster / per_block));

    sweep_must(c->order == 4 && block, "no count for cluster %" PRIu64, cluster);
    vd_put_be16(c->p + block + 2 * (cluster % per_block), (uint16_t)count);
}

static void add_to_count(struct census *c, uint64_t off)
{
    set_count(c, off / c->cs, count_of(c, off / c->cs) + 1);
}

static void share_tree(struct census *c)
{
    uint64_t l1_off = word_at(c, 40);

    for (uint64_t i = 0; i < half_at(c, 36); i++) {
        uint64_t l1 = word_at(c, l1_off + 8 * i), l2_off = l1 & OFFSET;

        if (!l2_off)
            continue;
        vd_put_be64(c->p + l1_off + 8 * i, l1 & ~COPIED);
        add_to_count(c, l2_off);
        for (uint64_t at = l2_off; at < l2_off + c->cs; at += c->entry_bytes) {
            uint64_t word = word_at(c, at);

            sweep_must(!(word & PACKED), "compressed");
            vd_put_be64(c->p + at, word & ~COPIED);
            if (word & OFFSET)
                add_to_count(c, word & OFFSET);
        }
    }
}

void census_take_snapshot(struct sweep_image *image)
{
    struct census c = begin(image);
    uint64_t l1_n = half_at(&c, 36), table = c.clusters * c.cs, l1 = table + c.cs,
             end = l1 + vd_align_up_sat(8 * l1_n, c.cs);
    struct vd_err err = VD_ERR_INIT;

    sweep_must(bdrv_truncate(image->file, (int64_t)end, &err) == 0, "%s", err.story);
    c = begin(image);
    for (uint64_t i = table / c.cs; i < end / c.cs; i++)
        set_count(&c, i, 1);
    memcpy(c.p + l1, c.p + word_at(&c, 40), 8 * l1_n);
    share_tree(&c);
    vd_put_be64(c.p + table, l1);
    vd_put_be32(c.p + table + 8, (uint32_t)l1_n);
    vd_put_be16(c.p + table + 12, 1); /* "1" */
    vd_put_be16(c.p + table + 14, 1); /* "s" */
    vd_put_be32(c.p + table + 36, 16);
    vd_put_be64(c.p + table + 48, word_at(&c, 24));
    c.p[table + 56] = '1';
    c.p[table + 57] = 's';
    vd_put_be64(c.p + 64, table);
    vd_put_be32(c.p + 60, 1);
}

struct sweep_image census_snapshot(const struct sweep_image *image)
{
    struct sweep_image snapshot = sweep_clone(image);
    struct census c = begin(&snapshot);
    uint64_t table = word_at(&c, 64);

    vd_put_be64(c.p + 40, word_at(&c, table));
    vd_put_be32(c.p + 36, half_at(&c, table + 8));
    vd_put_be64(c.p + 24, word_at(&c, table + 48));
    return snapshot;
}
