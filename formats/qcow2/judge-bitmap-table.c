/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What bitmaps' tables say, judged once everything in the image is claimed.
 *
 * Words are only written into a table that nothing else claims: a wrong offset in the directory may well lead
 * to guest data, and "all ones" would destroy it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

enum {
    FIELD_FLAGS = 12,
    FIELD_GRANULARITY = 17,
    GARBAGE = 8 /* bad words, in a table of which they are an eighth */
};

struct judge {
    struct vd_check *ck;
    const struct qcow2_geometry *g;
    const struct qcow2_bitmaps *b;
    bool is_garbage;    /* most of the table at hand is no table */
    uint64_t bad, used; /* words of the table at hand */
};

static struct vd_span table_of(const struct qcow2_bitmap *bm)
{
    return (struct vd_span){bm->table_off, 8 * (uint64_t)bm->table_n};
}

/* The first cluster of the span that has more claims than its own one; VD_NOWHERE: there is none. */
static uint64_t first_contested(const struct judge *j, struct vd_span host)
{
    for (uint64_t at = host.off; at < vd_span_end(host); at += j->g->cluster_size)
        if (vd_refs_at(j->ck, at).count > 1)
            return at;
    return VD_NOWHERE;
}

/* ---- words */

static int count_word(void *opaque, const struct qcow2_bitmap *bm, uint64_t i, uint64_t word,
                      struct vd_err *err)
{
    struct judge *j = opaque;

    (void)bm;
    (void)i;
    (void)err;
    j->used += word != 0;
    j->bad += qcow2_bitmap_word_kind(j->g, word) >= QCOW2_BITMAP_WORD_RESERVED;
    return 0;
}

static int judge_word(void *opaque, const struct qcow2_bitmap *bm, uint64_t i, uint64_t word,
                      struct vd_err *err)
{
    static const enum qcow2_finding findings[] = {
        [QCOW2_BITMAP_CLUSTER] = QCOW2_BITMAP_DATA_OVERLAP,
        [QCOW2_BITMAP_WORD_RESERVED] = QCOW2_BITMAP_ENTRY_RESERVED,
        [QCOW2_BITMAP_WORD_OUT_OF_FILE] = QCOW2_BITMAP_DATA_OUT_OF_FILE,
    };
    const struct judge *j = opaque;
    enum qcow2_bitmap_word kind = qcow2_bitmap_word_kind(j->g, word);
    uint64_t host = bm->table_off + 8 * i, guest, bytes;

    if (kind < QCOW2_BITMAP_CLUSTER ||
        (kind == QCOW2_BITMAP_CLUSTER && !vd_is_shared(j->ck, word & QCOW2_OFFSET_MASK)))
        return 0;
    bytes = vd_mul_sat(j->g->cluster_size * 8, (uint64_t)1 << vd_min(bm->granularity_bits, 40));
    guest = vd_mul_sat(i, bytes);
    VD_AT(j->ck, "table", i);
    if (vd_found(j->ck, findings[kind], .host = host, .guest = guest < j->g->size ? guest : VD_NOWHERE,
                 .found = word, .expected = 1, .level = j->is_garbage ? VD_LEVEL_ALL : 0) == VD_FIX)
        return qcow2_patch(j->ck, host, 8, 1, VD_STAGE_TABLE, err);
    return 0;
}

/* ---- bits behind the end */

/* Is a bit set in the last cluster behind bit n of the bitmap? */
static bool has_bit_behind(const uint8_t *cluster, uint64_t cluster_size, uint64_t n)
{
    uint64_t in = n % (cluster_size * 8), byte = in / 8;

    if (n && !in)
        return false;
    if (cluster[byte] >> (in % 8))
        return true;
    return !vd_is_zero(cluster + byte + 1, cluster_size - byte - 1);
}

/* Would a finer granularity need as many words, and have all bits on the disk? */
static bool other_granularity_fits(const struct judge *j, const struct qcow2_bitmap *bm,
                                   const uint8_t *cluster)
{
    for (unsigned bits = QCOW2_MIN_GRANULARITY_BITS; bits < bm->granularity_bits; bits++)
        if (qcow2_bitmap_need(j->g, bits) == bm->table_n &&
            !has_bit_behind(cluster, j->g->cluster_size, vd_div_up(j->g->size, (uint64_t)1 << bits)))
            return true;
    return false;
}

static int zero_tail(struct vd_check *ck, const struct qcow2_geometry *g, uint64_t off, uint8_t *cluster,
                     uint64_t n, struct vd_err *err)
{
    uint64_t in = n % (g->cluster_size * 8), byte = in / 8;

    ck->has_changed = true;
    if (qcow2_clear_unknown_autoclear(ck->bs, err) < 0)
        return -1;
    cluster[byte] &= (uint8_t)((1U << (in % 8)) - 1);
    memset(cluster + byte + 1, 0, g->cluster_size - byte - 1);
    return bdrv_pwrite(ck->bs->file, (int64_t)(off + byte), (int64_t)(g->cluster_size - byte), cluster + byte,
                       VD_STAGE_NEW, err);
}

static int judge_tail(const struct judge *j, const struct qcow2_bitmap *bm, struct vd_err *err)
{
    vd_auto_mem uint8_t *cluster = NULL;
    uint64_t word, off, n;
    bool is_finer;

    if (bm->granularity_bits < QCOW2_MIN_GRANULARITY_BITS ||
        bm->granularity_bits > QCOW2_MAX_GRANULARITY_BITS ||
        bm->table_n != qcow2_bitmap_need(j->g, bm->granularity_bits))
        return 0;
    if (qcow2_read_words(j->ck->bs, bm->table_off, bm->table_n - 1, 1, &word, err) < 0)
        return -1;
    off = word & QCOW2_OFFSET_MASK;
    if (qcow2_bitmap_word_kind(j->g, word) != QCOW2_BITMAP_CLUSTER || vd_is_shared(j->ck, off))
        return 0;
    cluster = malloc(j->g->cluster_size);
    if (!cluster)
        return vd_fail_memory(err);
    if (bdrv_pread_padded(j->ck->bs->file, (int64_t)off, (int64_t)j->g->cluster_size, cluster, err) < 0)
        return vd_while(err, "bitmap data at 0x%" PRIx64, off);
    n = vd_div_up(j->g->size, (uint64_t)1 << bm->granularity_bits);
    if (!has_bit_behind(cluster, j->g->cluster_size, n))
        return 0;
    is_finer = other_granularity_fits(j, bm, cluster);
    if (is_finer)
        vd_found(j->ck, QCOW2_BITMAP_GRANULARITY_SUSPECT, .host = bm->entry_off + FIELD_GRANULARITY,
                 .found = bm->granularity_bits);
    if (vd_found(j->ck, QCOW2_BITMAP_TAIL_BITS, .host = off, .level = is_finer ? VD_LEVEL_NONE : 0) == VD_FIX)
        return zero_tail(j->ck, j->g, off, cluster, n, err);
    return 0;
}

/* ---- a bitmap that a program had open */

static int set_all_ones(void *opaque, const struct qcow2_bitmap *bm, uint64_t i, uint64_t word,
                        struct vd_err *err)
{
    const struct judge *j = opaque;

    if (qcow2_bitmap_word_kind(j->g, word) == QCOW2_BITMAP_CLUSTER &&
        qcow2_free_own(j->ck, (struct vd_span){word & QCOW2_OFFSET_MASK, j->g->cluster_size}, err) < 0)
        return -1;
    return word == 1 ? 0 : qcow2_patch(j->ck, bm->table_off + 8 * i, 8, 1, VD_STAGE_TABLE, err);
}

/* What was written since it was loaded is not in it. "Everything" is always right, where the table can say
 * so. */
static int judge_in_use(struct judge *j, const struct qcow2_bitmap *bm, bool is_alone, struct vd_err *err)
{
    bool can_say = is_alone && bm->table_is_sound && bm->granularity_bits <= QCOW2_MAX_GRANULARITY_BITS &&
                   bm->table_n == qcow2_bitmap_need(j->g, bm->granularity_bits);
    uint64_t flags = bm->flags & ~(uint32_t)QCOW2_BITMAP_F_IN_USE;

    if (!(bm->flags & QCOW2_BITMAP_F_IN_USE))
        return 0;
    if (vd_found(j->ck, QCOW2_BITMAP_IN_USE, .host = bm->entry_off + FIELD_FLAGS, .found = bm->flags,
                 .expected = can_say ? flags : VD_NOWHERE,
                 .level = can_say ? VD_LEVEL_ALL : VD_LEVEL_NONE) == VD_LEAVE)
        return 0;
    if (qcow2_bitmap_words(j->ck->bs, bm, set_all_ones, j, err) < 0)
        return -1;
    return qcow2_patch(j->ck, bm->entry_off + FIELD_FLAGS, 4, flags, VD_STAGE_ROOT, err);
}

/* ---- all of it */

static int judge_table(struct judge *j, const struct qcow2_bitmap *bm, struct vd_err *err)
{
    uint64_t contested = bm->table_is_sound ? first_contested(j, table_of(bm)) : VD_NOWHERE;

    if (bm->table_is_sound && contested == VD_NOWHERE) {
        j->bad = j->used = 0;
        if (vd_budget_go_on(j->ck->budget, err) < 0 ||
            qcow2_bitmap_words(j->ck->bs, bm, count_word, j, err) < 0)
            return -1;
        j->is_garbage = j->bad > GARBAGE && j->bad >= j->used / 8;
        if (qcow2_bitmap_words(j->ck->bs, bm, judge_word, j, err) < 0 || judge_tail(j, bm, err) < 0)
            return -1;
    } else if (contested != VD_NOWHERE)
        return qcow2_judge_lost_bitmaps(j->ck, j->b, QCOW2_BITMAP_TABLE_OVERLAP, bm->entry_off, bm->table_off,
                                        err);
    return judge_in_use(j, bm, contested == VD_NOWHERE, err);
}

int qcow2_judge_bitmap_claims(struct vd_check *ck, const struct qcow2_bitmaps *b, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct judge j = {.ck = ck, .g = &q->g, .b = b};
    struct vd_span dir = {b->ext.bitmap_directory_offset, b->ext.bitmap_directory_size};

    if (!b->is_in_force || !b->ext_is_sound || !b->dir_is_sound)
        return 0;
    if (first_contested(&j, dir) != VD_NOWHERE)
        return qcow2_judge_lost_bitmaps(ck, b, QCOW2_BITMAP_DIR_OVERLAP, b->where->off + 16, dir.off, err);
    for (size_t i = 0; i < b->list.n && !ck->has_changed; i++) {
        VD_AT(ck, "bitmap", i);
        if (judge_table(&j, &b->list.v[i], err) < 0)
            return -1;
    }
    return 0;
}
