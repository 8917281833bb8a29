/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fields by the names that recipes use:
 *
 *     header.NAME              reftable[i]      refcount[cluster]
 *     L1[i]    L1[i].L2[k]     L1[i].L2[k].bitmap
 *     snapshot[i].NAME         snapshot[i].L1[k]   snapshot[i].L1[k].L2[m]
 *     ext[i].type   ext[i].length   ext[i].data
 *     bitmaps.NAME  bitmap[i].NAME  bitmap[i].table[k]
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/qcow2/qcow2.h"

struct cursor {
    struct BlockDriverState *bs;
    const char *p;
    uint64_t off;
    unsigned bytes;
    struct vd_err *err;
};

/* Takes a word at the cursor, and "[N]" behind it. */
static bool take(struct cursor *c, const char *word, uint64_t *index)
{
    size_t len = strlen(word);
    char *end;

    if (strncmp(c->p, word, len) != 0)
        return false;
    if (!index) {
        c->p += len;
        return true;
    }
    if (c->p[len] != '[')
        return false;
    *index = strtoull(c->p + len + 1, &end, 0);
    if (end == c->p + len + 1 || *end != ']')
        return false;
    c->p = end + 1;
    return true;
}

static int unknown(struct cursor *c)
{
    return vd_fail(c->err, VD_ERR_USAGE, 0, "'%s' is no field of a qcow2 image", c->p);
}

static int find_in(struct cursor *c, const struct vd_layout *layout, uint64_t base)
{
    const struct vd_field *field = vd_layout_find(layout, c->p);

    if (!field)
        return unknown(c);
    c->off = base + field->offset;
    c->bytes = vd_field_bytes(field);
    return 0;
}

/* "[k]" was taken: the word itself, or on to the L2 table that it names. */
static int find_in_l1(struct cursor *c, uint64_t l1_off, uint64_t slot)
{
    const struct qcow2 *q = c->bs->opaque;
    uint64_t word, i;

    c->off = l1_off + 8 * slot;
    if (!*c->p)
        return 0;
    if (!take(c, ".L2", &i) || qcow2_read_words(c->bs, l1_off, slot, 1, &word, c->err) < 0)
        return unknown(c);
    c->off = (word & QCOW2_OFFSET_MASK) + i * q->g.entry_bytes;
    if (take(c, ".bitmap", NULL))
        c->off += 8;
    return *c->p ? unknown(c) : 0;
}

static int find_refcount(struct cursor *c, uint64_t cluster)
{
    const struct qcow2 *q = c->bs->opaque;
    uint64_t block;

    if (q->g.refcount_order < 3)
        return vd_fail(c->err, VD_ERR_USAGE, 0, "counts of less than a byte have no field");
    if (qcow2_block_of(c->bs, cluster, &block, c->err) < 0)
        return -1;
    c->bytes = 1U << (q->g.refcount_order - 3);
    c->off = block + cluster % q->g.block_n * c->bytes;
    return *c->p ? unknown(c) : 0;
}

static int find_extension_field(struct cursor *c, uint64_t i)
{
    const struct qcow2 *q = c->bs->opaque;

    if (i >= q->ext.n)
        return unknown(c);
    c->bytes = 4;
    c->off = q->ext.v[i].off - 8;
    if (take(c, ".length", NULL))
        c->off += 4;
    else if (take(c, ".data", NULL)) {
        c->off += 8;
        c->bytes = 8;
    } else if (!take(c, ".type", NULL))
        return unknown(c);
    return *c->p ? unknown(c) : 0;
}

/* "snapshot[i]" was taken. */
static int find_snapshot_field(struct cursor *c, uint64_t i)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct qcow2_snapshots s;
    struct qcow2_snapshot sn = {0};
    bool is_one;
    uint64_t slot;

    if (qcow2_read_snapshots(c->bs, &budget, &s, c->err) < 0)
        return -1;
    is_one = i < s.list.n;
    if (is_one)
        sn = s.list.v[i];
    qcow2_snapshots_done(&s);
    if (!is_one)
        return unknown(c);
    if (take(c, ".L1", &slot))
        return find_in_l1(c, sn.l1_off, slot);
    if (strcmp(c->p, ".id") == 0) {
        c->bytes = 1;
        c->off = sn.entry_off + QCOW2_SNAPSHOT_BYTES + sn.extra_bytes;
        return 0;
    }
    if (take(c, ".extra_vm_state_size", NULL) || take(c, ".extra_disk_size", NULL)) {
        bool is_disk = c->p[-strlen("disk_size")] == 'd';

        c->off = sn.entry_off + QCOW2_SNAPSHOT_BYTES + (is_disk ? 8 : 0);
        return *c->p ? unknown(c) : 0;
    }
    return take(c, ".", NULL) ? find_in(c, &qcow2_snapshot_entry_layout, sn.entry_off) : unknown(c);
}

/* "bitmap[i]" was taken. */
static int find_bitmap_field(struct cursor *c, uint64_t i)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct qcow2_bitmaps b;
    struct qcow2_bitmap bm = {0};
    bool is_one;
    uint64_t k;

    if (qcow2_read_bitmaps(c->bs, &budget, &b, c->err) < 0)
        return -1;
    is_one = i < b.list.n;
    if (is_one)
        bm = b.list.v[i];
    qcow2_bitmaps_done(&b);
    if (!is_one)
        return unknown(c);
    if (take(c, ".table", &k)) {
        c->off = bm.table_off + 8 * k;
        return *c->p ? unknown(c) : 0;
    }
    return take(c, ".", NULL) ? find_in(c, &qcow2_bitmap_entry_layout, bm.entry_off) : unknown(c);
}

static int find_bitmaps_field(struct cursor *c)
{
    const struct qcow2_extension *ext = qcow2_find_extension(c->bs->opaque, QCOW2_EXT_BITMAPS);

    return ext ? find_in(c, &qcow2_bitmaps_extension_layout, ext->off) : unknown(c);
}

static int find(struct cursor *c)
{
    const struct qcow2 *q = c->bs->opaque;
    uint64_t i;

    if (take(c, "header.", NULL))
        return find_in(c, &qcow2_header_layout, 0);
    if (take(c, "L1", &i))
        return find_in_l1(c, q->g.l1_off, i);
    if (take(c, "reftable", &i)) {
        c->off = q->g.reftable_off + 8 * i;
        return *c->p ? unknown(c) : 0;
    }
    if (take(c, "refcount", &i))
        return find_refcount(c, i);
    if (take(c, "ext", &i))
        return find_extension_field(c, i);
    if (take(c, "snapshot", &i))
        return find_snapshot_field(c, i);
    if (take(c, "bitmaps.", NULL))
        return find_bitmaps_field(c);
    if (take(c, "bitmap", &i))
        return find_bitmap_field(c, i);
    return unknown(c);
}

int qcow2_find_field(struct BlockDriverState *bs, const char *name, uint64_t *offset, unsigned *bytes,
                     struct vd_err *err)
{
    struct cursor c = {.bs = bs, .p = name, .bytes = 8, .err = err};

    if (find(&c) < 0)
        return -1;
    *offset = c.off;
    *bytes = c.bytes;
    return 0;
}
