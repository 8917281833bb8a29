/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who owns which cluster: every reference of the image, told one by one. References that lead nowhere are
 * passed over.
 */
#include <stdlib.h>

#include "formats/qcow2/qcow2.h"

struct teller {
    struct BlockDriverState *bs;
    const struct qcow2_geometry *g;
    vd_claim_fn *tell;
    void *opaque;
    const struct vd_owner *owner; /* of what is told now */
    struct vd_err *err;
};

static int tell(const struct teller *t, struct vd_span host, enum vd_kind kind, uint64_t reference,
                uint64_t guest)
{
    struct vd_named_span claim = {host.off, host.len, (int)kind, reference, guest, t->owner};
    int rc = host.len ? t->tell(t->opaque, &claim) : 0;

    return rc >= 0 || t->err->kind ? rc : vd_fail(t->err, VD_ERR_LIMIT, 0, "the listing of owners was ended");
}

static int tell_entry(const struct teller *t, uint64_t entry_off, uint64_t word, uint64_t bitmap,
                      uint64_t guest)
{
    struct qcow2_entry e = qcow2_parse_entry(t->g, word, bitmap, guest);

    if ((e.faults & QCOW2_F_CLAIMS_NOTHING) || t->g->has_data_file)
        return 0;
    if (e.type == QCOW2_PACKED)
        return tell(t, qcow2_touched(t->g, &e), VD_KIND_COMPRESSED, entry_off, guest);
    return e.host ? tell(t, (struct vd_span){e.host, e.bytes}, VD_KIND_DATA, entry_off, guest) : 0;
}

static int tell_table(const struct teller *t, uint64_t table_off, uint64_t slot)
{
    uint64_t words = t->g->entry_bytes / 8, per_read = 512 / words, word[512];

    for (uint64_t first = 0; first < t->g->table_n; first += per_read) {
        uint64_t n = vd_min(per_read, t->g->table_n - first);

        if (qcow2_read_words(t->bs, table_off, first * words, n * words, word, NULL) < 0)
            continue;
        for (uint64_t i = 0; i < n; i++)
            if (tell_entry(t, table_off + (first + i) * t->g->entry_bytes, word[i * words],
                           words > 1 ? word[i * words + 1] : 0, qcow2_guest(t->g, slot, first + i)) < 0)
                return -1;
    }
    return 0;
}

static int tell_tree(const struct teller *t, struct vd_span l1, enum vd_kind kind, uint64_t reference)
{
    uint64_t word[512];

    int below = tell(t, l1, kind, reference, VD_NOWHERE);

    if (below)
        return below < 0 ? -1 : 0;
    for (uint64_t first = 0; first < l1.len / 8; first += 512) {
        uint64_t n = vd_min(512, l1.len / 8 - first);

        if (qcow2_read_words(t->bs, l1.off, first, n, word, NULL) < 0)
            continue;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t off = word[i] & QCOW2_OFFSET_MASK, slot = first + i;

            if (!off || (qcow2_l1_faults(t->g, word[i]) & (QCOW2_F_MISALIGNED | QCOW2_F_OUT_OF_FILE)))
                continue;
            below = tell(t, (struct vd_span){off, t->g->cluster_size}, VD_KIND_L2, l1.off + 8 * slot,
                         slot << t->g->l1_shift);
            if (below < 0 || (!below && tell_table(t, off, slot) < 0))
                return -1;
        }
    }
    return 0;
}

static int tell_refcounts(const struct teller *t)
{
    uint64_t word[512];

    if (!vd_is_aligned(t->g->reftable_off, t->g->cluster_size) ||
        tell(t, (struct vd_span){t->g->reftable_off, 8 * t->g->reftable_n}, VD_KIND_REFCOUNT_TABLE, 48,
             VD_NOWHERE) < 0)
        return t->err->kind ? -1 : 0;
    for (uint64_t first = 0; first < t->g->reftable_n; first += 512) {
        uint64_t n = vd_min(512, t->g->reftable_n - first);

        if (qcow2_read_words(t->bs, t->g->reftable_off, first, n, word, NULL) < 0)
            continue;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t off = word[i] & QCOW2_REFTABLE_MASK;

            if (off && vd_is_aligned(off, t->g->cluster_size) && off < t->g->file_end &&
                tell(t, (struct vd_span){off, t->g->cluster_size}, VD_KIND_REFCOUNT_BLOCK,
                     t->g->reftable_off + 8 * (first + i), VD_NOWHERE) < 0)
                return -1;
        }
    }
    return 0;
}

static int tell_snapshots(struct teller *t)
{
    const struct qcow2 *q = t->bs->opaque;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct qcow2_snapshots s;
    int rc = 0;

    if (qcow2_read_snapshots(t->bs, &budget, &s, t->err) < 0)
        return -1;
    if (s.list.n)
        rc = tell(t, (struct vd_span){q->header.snapshots_offset, s.table_bytes}, VD_KIND_SNAPSHOT_TABLE, 64,
                  VD_NOWHERE);
    for (size_t i = 0; rc >= 0 && i < s.list.n; i++) {
        const struct qcow2_snapshot *sn = &s.list.v[i];
        struct vd_owner owner = {"snapshot", sn->id, sn->name, i + 1};

        t->owner = &owner;
        if (sn->l1_is_sound)
            rc = tell_tree(t, (struct vd_span){sn->l1_off, 8 * (uint64_t)sn->l1_n}, VD_KIND_SNAPSHOT_L1,
                           sn->entry_off);
    }
    t->owner = NULL;
    qcow2_snapshots_done(&s);
    return rc < 0 ? -1 : 0;
}

static int tell_bitmap_word(void *opaque, const struct qcow2_bitmap *bm, uint64_t i, uint64_t word,
                            struct vd_err *err)
{
    const struct teller *t = opaque;

    (void)err;
    if (qcow2_bitmap_word_kind(t->g, word) != QCOW2_BITMAP_CLUSTER)
        return 0;
    return tell(t, (struct vd_span){word & QCOW2_OFFSET_MASK, t->g->cluster_size}, VD_KIND_BITMAP_DATA,
                bm->table_off + 8 * i, VD_NOWHERE);
}

static int tell_bitmap(struct teller *t, const struct qcow2_bitmap *bm, size_t number)
{
    struct vd_owner owner = {"bitmap", bm->name, bm->name, number};
    struct vd_err ignored = VD_ERR_INIT;
    int rc;

    if (!bm->table_is_sound)
        return 0;
    t->owner = &owner;
    rc = tell(t, (struct vd_span){bm->table_off, 8 * (uint64_t)bm->table_n}, VD_KIND_BITMAP_TABLE,
              bm->entry_off, VD_NOWHERE);
    /* A table that cannot be read is passed over. */
    if (rc == 0)
        (void)qcow2_bitmap_words(t->bs, bm, tell_bitmap_word, t, &ignored);
    t->owner = NULL;
    return rc < 0 || t->err->kind ? -1 : 0;
}

static int tell_bitmaps(struct teller *t)
{
    const struct qcow2 *q = t->bs->opaque;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct qcow2_bitmaps b;
    int rc = 0;

    if (qcow2_read_bitmaps(t->bs, &budget, &b, t->err) < 0)
        return -1;
    if (b.list.n)
        rc = tell(t, (struct vd_span){b.ext.bitmap_directory_offset, b.dir_bytes}, VD_KIND_BITMAP_DIRECTORY,
                  b.where->off, VD_NOWHERE);
    for (size_t i = 0; rc >= 0 && i < b.list.n; i++)
        rc = tell_bitmap(t, &b.list.v[i], q->header.nb_snapshots + i + 1);
    qcow2_bitmaps_done(&b);
    return rc < 0 ? -1 : 0;
}

int qcow2_each_claim(struct BlockDriverState *bs, vd_claim_fn *fn, void *opaque, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct teller t = {.bs = bs, .g = &q->g, .tell = fn, .opaque = opaque, .err = err};

    if (!q->g.is_usable)
        return 0;
    if (tell(&t, (struct vd_span){0, q->g.cluster_size}, VD_KIND_HEADER, VD_NOWHERE, VD_NOWHERE) < 0 ||
        tell_refcounts(&t) < 0)
        return -1;
    if (vd_is_aligned(q->g.l1_off, q->g.cluster_size) &&
        tell_tree(&t, (struct vd_span){q->g.l1_off, 8 * q->g.l1_n}, VD_KIND_L1, 40) < 0)
        return -1;
    return tell_snapshots(&t) < 0 ? -1 : tell_bitmaps(&t);
}
