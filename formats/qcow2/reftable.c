/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The refcount table: which blocks it leads to, and what of it leads nowhere.
 *
 * Nothing is freed and nothing allocated by what it says before the walk has counted for itself. A size in
 * the header that makes the table run into other structures is noticed by what stands there: words that are
 * no table's.
 */
#include <stdlib.h>

#include "formats/qcow2/qcow2.h"

enum { WINDOW = 512 };

/* What is wrong with a word; QCOW2_FINDINGS_END: nothing. */
static enum qcow2_finding judge_word(const struct qcow2_geometry *g, uint64_t word)
{
    uint64_t off = word & QCOW2_REFTABLE_MASK;

    if (word & QCOW2_REFTABLE_RESERVED)
        return vd_is_aligned(off, g->cluster_size) && off < g->file_end && off ? QCOW2_REFTABLE_ENTRY_RESERVED
                                                                               : QCOW2_REFBLOCK_MISALIGNED;
    if (!vd_is_aligned(off, g->cluster_size))
        return QCOW2_REFBLOCK_MISALIGNED;
    return off >= g->file_end ? QCOW2_REFBLOCK_OUT_OF_FILE : QCOW2_FINDINGS_END;
}

static int take_word(struct qcow2_reftable *t, const struct qcow2_geometry *g, uint32_t index, uint64_t word,
                     struct vd_err *err)
{
    enum qcow2_finding why = judge_word(g, word);

    if (why != QCOW2_FINDINGS_END &&
        qcow2_bad_block_vec_push(&t->bad, (struct qcow2_bad_block){word, index, why}) < 0)
        return vd_fail_memory(err);
    /* Stray low bits lead to the block all the same. */
    if (why != QCOW2_FINDINGS_END && why != QCOW2_REFTABLE_ENTRY_RESERVED)
        return 0;
    return qcow2_block_vec_push(&t->blocks, (struct qcow2_block){word & QCOW2_REFTABLE_MASK, index}) < 0
               ? vd_fail_memory(err)
               : 0;
}

/* Is this cluster of the table garbage? Its first is judged by its entries, one by one. */
static bool is_garbage(const struct qcow2_geometry *g, const uint64_t *word, uint64_t n)
{
    uint64_t used = 0, bad = 0;

    for (uint64_t i = 0; i < n; i++) {
        used += word[i] != 0;
        bad += word[i] && judge_word(g, word[i]) != QCOW2_FINDINGS_END;
    }
    return bad && bad >= vd_div_up(used, 8);
}

static int read_cluster(struct vd_check *ck, struct qcow2_reftable *t, uint64_t first, uint64_t n,
                        uint64_t *word, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct vd_err why = VD_ERR_INIT;

    (void)err;
    if (qcow2_read_words(ck->bs, q->g.reftable_off, first, n, word, &why) == 0)
        return 0;
    t->is_unreadable = true;
    vd_found(ck, QCOW2_REFTABLE_UNREADABLE, .host = q->g.reftable_off + 8 * first, .host_bytes = 8 * n,
             .found_text = why.story);
    return -1;
}

static int read_table(struct vd_check *ck, struct qcow2_reftable *t, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t per_cluster = g->cluster_size / 8;
    vd_auto_mem uint64_t *word = malloc(g->cluster_size);

    if (!word)
        return vd_fail_memory(err);
    t->sound_n = g->reftable_n;
    for (uint64_t first = 0; first < g->reftable_n; first += per_cluster) {
        uint64_t n = vd_min(per_cluster, g->reftable_n - first);

        if (read_cluster(ck, t, first, n, word, err) < 0)
            continue;
        if (first && is_garbage(g, word, n)) {
            t->is_cut = true;
            t->sound_n = first;
            return 0;
        }
        for (uint64_t i = 0; i < n; i++)
            if (word[i] && take_word(t, g, (uint32_t)(first + i), word[i], err) < 0)
                return -1;
    }
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct qcow2_block *x = a, *y = b;

    if (x->off != y->off)
        return x->off < y->off ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

/* A block that the table names twice, or that lies on something else, is nobody's: its counts cannot be
 * believed. */
int qcow2_claim_blocks(struct vd_check *ck, struct qcow2_reftable *t,
                       bool (*is_table)(void *opaque, uint64_t off), void *opaque, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    size_t kept = 0;

    if (t->blocks.n)
        qsort(t->blocks.v, t->blocks.n, sizeof(*t->blocks.v), by_offset);
    for (size_t i = 0; i < t->blocks.n; i++) {
        struct qcow2_block b = t->blocks.v[i];
        uint64_t shared = 0;

        if ((kept && t->blocks.v[kept - 1].off == b.off) || vd_refs_at(ck, b.off).count ||
            is_table(opaque, b.off)) {
            if (qcow2_bad_block_vec_push(&t->bad,
                                         (struct qcow2_bad_block){b.off, b.index, QCOW2_REFBLOCK_SHARED}) < 0)
                return vd_fail_memory(err);
            continue;
        }
        if (vd_claim(ck, VD_KIND_REFCOUNT_BLOCK, (struct vd_span){b.off, q->g.cluster_size},
                     q->g.reftable_off + 8 * (uint64_t)b.index, &shared, err) < 0)
            return -1;
        t->blocks.v[kept++] = b;
    }
    t->blocks.n = kept;
    return 0;
}

static bool is_lost(const struct qcow2 *q)
{
    static const enum qcow2_finding why[] = {QCOW2_REFTABLE_MISSING,     QCOW2_REFTABLE_ZERO_OFFSET,
                                             QCOW2_REFTABLE_MISALIGNED,  QCOW2_REFTABLE_TOO_LARGE,
                                             QCOW2_REFTABLE_OUT_OF_FILE, QCOW2_REFCOUNT_ORDER_INVALID};

    for (const struct qcow2_rule *rule = qcow2_rules; rule->is_broken; rule++)
        for (size_t i = 0; i < VD_ARRAY_SIZE(why); i++)
            if (rule->finding == why[i] && rule->is_broken(q))
                return true;
    return false;
}

int qcow2_claim_reftable(struct vd_check *ck, const struct qcow2_reftable *t, struct vd_err *err)
{
    return vd_claim(ck, VD_KIND_REFCOUNT_TABLE, t->span, 48, NULL, err);
}

int qcow2_walk_reftable(struct vd_check *ck, struct qcow2_reftable *t, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_geometry *g = &q->g;

    t->is_lost = is_lost(q);
    if (t->is_lost)
        return 0;
    if (read_table(ck, t, err) < 0)
        return -1;
    t->span = (struct vd_span){g->reftable_off, vd_min(vd_align_up_sat(8 * t->sound_n, g->cluster_size),
                                                       g->file_end - g->reftable_off)};
    t->proves_nothing = !t->blocks.n;
    return t->proves_nothing ? 0 : qcow2_claim_reftable(ck, t, err);
}

bool qcow2_has_block_in(const struct qcow2_reftable *t, struct vd_span span)
{
    for (size_t i = 0; i < t->blocks.n; i++)
        if (t->blocks.v[i].off - span.off < span.len)
            return true;
    return false;
}

void qcow2_reftable_done(struct qcow2_reftable *t)
{
    qcow2_block_vec_done(&t->blocks);
    qcow2_bad_block_vec_done(&t->bad);
}
