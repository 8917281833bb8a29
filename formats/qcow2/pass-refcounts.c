/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "refcounts": what is stored against what was counted.
 *
 * Blocks are compared whole; only where one differs are its clusters looked at, and equal neighbours are told
 * in one finding. Wrong counts are patched where they stand; a block is written anew only where it is lost,
 * and all of them only where the table is. A count that is too low is never raised to make double use
 * consistent: clusters whose owners exclude each other are the business of the judges before. Leaves behind:
 * the leaked clusters, for the pass "leaks".
 */
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/node/scan.h"
#include "formats/qcow2/qcow2.h"

enum { COUNTS = 4096 };

/* Neighbours with the same stored and counted number. */
struct stretch {
    uint64_t first, n;
    uint64_t stored, count;
    bool is_conflicted;
};

struct counts {
    struct vd_check *ck;
    struct qcow2_state *s;
    const struct qcow2 *q;
    struct stretch at;
    uint64_t *stored; /* COUNTS */
    uint32_t *odd;    /* COUNTS */
    struct vd_runs *leaked;
    bool judges_nothing;  /* only the leaked clusters are wanted */
    bool is_misfit;       /* the stored count of a claimed cluster is not what was counted */
    bool keeps_unclaimed; /* where counts are written anew, clusters that nobody claims are not free */
    struct vd_runs lost;  /* clusters whose counts are lost */
};

static bool has_evidence(const struct vd_check *ck)
{
    return ck->flags & VD_EVIDENCE;
}

/* ---- one stretch of wrong counts */

/* Where the count of a cluster is stored. */
static uint64_t count_off(const struct counts *c, uint64_t cluster)
{
    uint64_t block = 0;
    struct vd_err err = VD_ERR_INIT;

    if (qcow2_block_of(c->ck->bs, cluster, &block, &err) < 0 || !block)
        return VD_NOWHERE;
    return block + ((cluster % c->q->g.block_n) << c->q->g.refcount_order) / 8;
}

static enum qcow2_finding finding_of(const struct counts *c, const struct stretch *t)
{
    if (t->count > c->q->g.max_count)
        return QCOW2_REFCOUNT_OVERFLOW;
    if (t->stored < t->count)
        return t->stored ? QCOW2_REFCOUNT_LOW : QCOW2_REFCOUNT_ZERO;
    return t->first >= c->s->map_clusters ? QCOW2_REFCOUNT_BEYOND_EOF : QCOW2_REFCOUNT_HIGH;
}

/* Did an earlier repair keep one of these counts? */
static bool was_kept(const struct counts *c)
{
    struct vd_runs *kept = c->ck->kept_leaks;
    size_t i = kept ? vd_runs_find(kept, c->at.first) : 0;

    return kept && i < kept->n && kept->v[i].first < c->at.first + c->at.n;
}

/* Where damage elsewhere, now or before an earlier repair, may have lost the reference that a count stands
 * for, it is kept. */
static enum vd_level level_of(const struct counts *c, enum qcow2_finding finding)
{
    if (finding == QCOW2_REFCOUNT_OVERFLOW)
        return VD_LEVEL_NONE;
    if (finding == QCOW2_REFCOUNT_HIGH || finding == QCOW2_REFCOUNT_BEYOND_EOF)
        return has_evidence(c->ck) || was_kept(c) ? VD_LEVEL_ALL : VD_LEVEL_LEAKS;
    return c->ck->map_is_incomplete ? VD_LEVEL_NONE : VD_LEVEL_SAFE;
}

static int judge_stretch(struct counts *c, struct vd_err *err)
{
    const struct stretch *t = &c->at;
    struct vd_run run = {t->first, t->n};
    struct vd_runs clusters = {.v = &run, .n = 1};
    enum qcow2_finding finding;

    if (!t->n || t->stored == t->count)
        return 0;
    c->is_misfit |= t->count != 0;
    if (!c->judges_nothing)
        c->s->odd_counts += t->n;
    if (!t->count && t->first < c->s->map_clusters)
        return vd_runs_add(c->leaked, t->first, t->n) < 0 ? vd_fail_memory(err) : 0;
    if (c->judges_nothing)
        return 0;
    if (t->is_conflicted && t->stored < t->count)
        return 0;
    finding = finding_of(c, t);
    VD_AT(c->ck, "cluster", t->first);
    if (vd_found(c->ck, finding, .host = count_off(c, t->first), .found = t->stored, .expected = t->count,
                 .count = t->n, .level = level_of(c, finding),
                 .overcounted = t->stored > t->count ? &clusters : NULL) == VD_FIX)
        return qcow2_fix_counts(c->ck, t->first, t->n, t->count, err);
    return 0;
}

static int take_odd(struct counts *c, uint64_t cluster, uint64_t stored, struct vd_err *err)
{
    struct vd_refs refs = vd_refs_at(c->ck, cluster << c->q->g.cluster_bits);
    struct stretch *t = &c->at;

    if (!c->judges_nothing && !refs.is_conflicted &&
        ((refs.said_only && refs.count != 1) || (refs.said_shared && refs.count == 1)))
        c->s->walk.odd_copied_n++;
    if (t->n && t->first + t->n == cluster && t->stored == stored && t->count == refs.count &&
        t->is_conflicted == refs.is_conflicted &&
        (cluster < c->s->map_clusters) == (t->first < c->s->map_clusters)) {
        t->n++;
        return 0;
    }
    if (judge_stretch(c, err) < 0)
        return -1;
    *t = (struct stretch){cluster, 1, stored, refs.count, refs.is_conflicted};
    return 0;
}

/* n stored counts, of clusters from first on; NULL: all of them are 0. */
static int compare(struct counts *c, const uint8_t *bytes, uint64_t in_bytes, uint64_t first, uint64_t n,
                   struct vd_err *err)
{
    while (n) {
        uint64_t k = vd_min(n, COUNTS);
        size_t odd;

        if (bytes)
            qcow2_unpack_counts(&c->q->g, bytes, in_bytes, k, c->stored);
        else
            memset(c->stored, 0, k * sizeof(*c->stored));
        odd = vd_compare_counts(c->ck, first, c->stored, k, c->odd);
        for (size_t i = 0; i < odd; i++)
            if (take_odd(c, first + c->odd[i], c->stored[c->odd[i]], err) < 0)
                return -1;
        in_bytes += k;
        first += k;
        n -= k;
    }
    return 0;
}

/* Counts that the file system never wrote, of clusters in use. Where none is in use the counts are 0, and a
 * copy of the file may have a hole for them. */
static void judge_hole(struct counts *c, const struct vd_scan_piece *piece)
{
    struct vd_span host = {piece->table->span.off + piece->at, piece->len};
    uint64_t first = piece->table->cookie * c->q->g.block_n + (piece->at * 8 >> c->q->g.refcount_order),
             n = (uint64_t)piece->len * 8 >> c->q->g.refcount_order, used = vd_next_claimed(c->ck, first);

    if (c->judges_nothing || used == VD_NOWHERE || used >= first + n ||
        (piece->bytes && !vd_is_zero(piece->bytes, piece->len)) ||
        !bdrv_is_hole(c->ck->bs->file, (int64_t)host.off, (int64_t)host.len))
        return;
    VD_AT(c->ck, "reftable", piece->table->cookie);
    vd_found(c->ck, QCOW2_HOLE_IN_METADATA, .host = host.off, .host_bytes = host.len);
}

static int on_block_piece(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct counts *c = opaque;
    const struct qcow2_geometry *g = &c->q->g;
    uint64_t index = piece->table->cookie, first = index * g->block_n + (piece->at * 8 >> g->refcount_order),
             n = (uint64_t)piece->len * 8 >> g->refcount_order;

    if (piece->why) {
        if (c->judges_nothing)
            return 0;
        VD_AT(c->ck, "reftable", index);
        vd_found(c->ck, QCOW2_REFBLOCK_UNREADABLE, .host = piece->table->span.off + piece->at,
                 .host_bytes = piece->len, .found_text = piece->why->story);
        return 0;
    }
    judge_hole(c, piece);
    return compare(c, piece->bytes, 0, first, n, err);
}

static int compare_blocks(struct counts *c, struct vd_err *err)
{
    const struct qcow2_geometry *g = &c->q->g;
    const struct qcow2_block_vec *blocks = &c->s->reftable.blocks;
    vd_auto_mem struct vd_scan_table *list = calloc(blocks->n + 1, sizeof(*list));

    if (!list)
        return vd_fail_memory(err);
    for (size_t i = 0; i < blocks->n; i++) {
        uint64_t there = vd_min(g->cluster_size, g->file_size - blocks->v[i].off),
                 first = blocks->v[i].index * g->block_n, n = there * 8 >> g->refcount_order;

        list[i] = (struct vd_scan_table){
            .span = {blocks->v[i].off, there},
              .cookie = blocks->v[i].index
        };
        /* What the end of the file cuts off are zeroes. */
        if (n < g->block_n && compare(c, NULL, 0, first + n, g->block_n - n, err) < 0)
            return -1;
    }
    if (vd_scan(c->ck->bs->file, list, blocks->n, c->ck->budget, on_block_piece, c, err) < 0)
        return -1;
    return judge_stretch(c, err);
}

/* ---- blocks that count nothing */

static int is_blank(struct counts *c, uint64_t block, bool *blank, struct vd_err *err)
{
    const struct qcow2_geometry *g = &c->q->g;
    vd_auto_mem uint8_t *bytes = malloc(g->cluster_size);

    if (!bytes)
        return vd_fail_memory(err);
    *blank = bdrv_pread_padded(c->ck->bs->file, (int64_t)block, (int64_t)g->cluster_size, bytes, NULL) == 0 &&
             vd_is_zero(bytes, g->cluster_size);
    return vd_budget_go_on(c->ck->budget, err);
}

/* Blocks for clusters behind the end of the file. What of their counts is not 0 was told. */
static int judge_unneeded(struct counts *c, struct vd_err *err)
{
    const struct qcow2_block_vec *blocks = &c->s->reftable.blocks;

    for (size_t i = 0; i < blocks->n; i++) {
        uint64_t off = c->q->g.reftable_off + 8 * (uint64_t)blocks->v[i].index;
        bool blank = false;

        if (blocks->v[i].index * c->q->g.block_n < c->s->map_clusters)
            continue;
        if (is_blank(c, blocks->v[i].off, &blank, err) < 0)
            return -1;
        VD_AT(c->ck, "reftable", blocks->v[i].index);
        if (blank &&
            vd_found(c->ck, QCOW2_REFBLOCK_BEYOND_NEED, .host = off, .found = blocks->v[i].off,
                     .expected = 0) == VD_FIX &&
            qcow2_fix_word(c->ck, off, 0, VD_STAGE_TABLE, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- blocks that are not there */

/* New blocks are appended, and count what the whole map says. At worst there is a new table, and each block
 * anew. */
static enum vd_level level_of_rebuild(const struct counts *c, bool all)
{
    uint64_t blocks = c->s->map_clusters / c->q->g.block_n,
             most = all ? 4 + blocks + vd_mul_sat(8, blocks) / c->q->g.cluster_size : 2;

    return c->ck->map_is_incomplete || !qcow2_may_grow(c->ck, most) ? VD_LEVEL_NONE : VD_LEVEL_SAFE;
}

static int judge_rules(struct counts *c, struct vd_err *err)
{
    for (const struct qcow2_rule *rule = qcow2_rules; rule->is_broken && !c->ck->has_changed; rule++) {
        const struct vd_field *field = vd_layout_find(&qcow2_header_layout, rule->field);

        if (!(rule->flags & QCOW2_JUDGED_LATER) || !rule->is_broken(c->q))
            continue;
        if (vd_found(c->ck, rule->finding, .host = field->offset, .found = vd_field_get(field, &c->q->header),
                     .level = level_of_rebuild(c, true)) == VD_FIX)
            return qcow2_fix_rebuild_all(c->ck, c->keeps_unclaimed, err);
    }
    return 0;
}

/* What leads to no block at all is a refcount table only where nothing else lies. */
static int judge_unproven_table(struct counts *c, struct vd_err *err)
{
    struct qcow2_reftable *t = &c->s->reftable;
    bool is_taken = false;

    for (uint64_t at = t->span.off; at < vd_span_end(t->span); at += c->q->g.cluster_size)
        is_taken |= vd_refs_at(c->ck, at).count != 0;
    if (!is_taken || t->is_unreadable)
        return qcow2_claim_reftable(c->ck, t, err);
    t->is_lost = true;
    if (vd_found(c->ck, QCOW2_REFTABLE_OVERLAP, .host = 48, .found = c->q->g.reftable_off,
                 .level = level_of_rebuild(c, true)) == VD_FIX)
        return qcow2_fix_rebuild_all(c->ck, c->keeps_unclaimed, err);
    return 0;
}

/* The header's size makes the table run into something else. */
static int judge_size(struct counts *c, struct vd_err *err)
{
    const struct qcow2_geometry *g = &c->q->g;
    const struct qcow2_reftable *t = &c->s->reftable;
    struct qcow2_header fixed = c->q->header;
    bool is_enough = t->sound_n * g->block_n >= c->s->map_clusters;

    fixed.refcount_table_clusters = (uint32_t)(8 * t->sound_n / g->cluster_size);
    if (vd_found(c->ck, QCOW2_REFTABLE_SIZE_SUSPECT, .host = 56,
                 .found = c->q->header.refcount_table_clusters, .expected = fixed.refcount_table_clusters,
                 .level = is_enough ? VD_LEVEL_SAFE : VD_LEVEL_NONE) == VD_FIX)
        return qcow2_fix_fields(c->ck, &fixed, "refcount_table_clusters", "refcount_table_clusters",
                                VD_STAGE_ROOT, err);
    return 0;
}

static int judge_bad_block(struct counts *c, const struct qcow2_bad_block *bad, struct vd_err *err)
{
    uint64_t off = c->q->g.reftable_off + 8 * (uint64_t)bad->index;
    bool is_masked = bad->why == QCOW2_REFTABLE_ENTRY_RESERVED;
    enum vd_level level = is_masked ? VD_LEVEL_SAFE : level_of_rebuild(c, false);

    VD_AT(c->ck, "reftable", bad->index);
    if (vd_found(c->ck, bad->why, .host = off, .found = bad->word,
                 .expected = is_masked ? bad->word & QCOW2_REFTABLE_MASK : VD_NOWHERE,
                 .level = level) == VD_LEAVE)
        return 0;
    if (is_masked)
        return qcow2_fix_word(c->ck, off, bad->word & QCOW2_REFTABLE_MASK, VD_STAGE_TABLE, err);
    return qcow2_fix_rebuild_block(c->ck, bad->index, c->keeps_unclaimed, err);
}

static int judge_missing_block(struct counts *c, uint64_t index, struct vd_err *err)
{
    const struct qcow2_geometry *g = &c->q->g;
    bool has_room = index < c->s->reftable.sound_n;
    enum vd_level level = level_of_rebuild(c, !has_room);

    VD_AT(c->ck, "reftable", index);
    if (vd_found(c->ck, QCOW2_REFBLOCK_MISSING, .host = has_room ? g->reftable_off + 8 * index : VD_NOWHERE,
                 .found = 0, .level = level) == VD_LEAVE)
        return 0;
    return has_room ? qcow2_fix_rebuild_block(c->ck, index, c->keeps_unclaimed, err)
                    : qcow2_fix_rebuild_all(c->ck, c->keeps_unclaimed, err);
}

static int by_index(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Tells fn the table entries that are 0 though something claims clusters of theirs; until it says other than
 * 0. */
static int each_missing_block(struct counts *c,
                              int (*fn)(struct counts *c, uint64_t index, struct vd_err *err),
                              struct vd_err *err)
{
    const struct qcow2_reftable *t = &c->s->reftable;
    size_t n = t->blocks.n + t->bad.n;
    vd_auto_mem uint32_t *has = calloc(n + 1, sizeof(*has));

    if (!has)
        return vd_fail_memory(err);
    for (size_t i = 0; i < n; i++)
        has[i] = i < t->blocks.n ? t->blocks.v[i].index : t->bad.v[i - t->blocks.n].index;
    qsort(has, n, sizeof(*has), by_index);
    for (uint64_t cluster = 0;
         (cluster = vd_next_claimed(c->ck, cluster)) != VD_NOWHERE && !c->ck->has_changed;) {
        uint64_t index = cluster / c->q->g.block_n;
        uint32_t key = (uint32_t)index;

        if ((index > UINT32_MAX || !bsearch(&key, has, n, sizeof(*has), by_index)) && fn(c, index, err) != 0)
            return -1;
        cluster = (index + 1) * c->q->g.block_n;
    }
    return 0;
}

static int not_one(struct counts *c, uint64_t index, struct vd_err *err)
{
    (void)c;
    (void)index;
    (void)err;
    return -1;
}

static bool has_missing_block(struct counts *c)
{
    struct vd_err err = VD_ERR_INIT;

    return each_missing_block(c, not_one, &err) < 0;
}

/* ---- clusters whose counts are lost with a block, or with the table */

static int note_lost_block(struct counts *c, uint64_t index, struct vd_err *err)
{
    return vd_runs_add(&c->lost, index * c->q->g.block_n, c->q->g.block_n) < 0 ? vd_fail_memory(err) : 0;
}

/* Adds those of them that nobody claims to out. */
static int add_uncounted(struct counts *c, struct vd_runs *out, struct vd_err *err)
{
    const struct qcow2_reftable *t = &c->s->reftable;
    struct vd_runs unclaimed = {0}, counted = {0};
    int rc = 0;

    if (t->is_lost)
        return vd_free_runs(c->ck, out, err);
    for (size_t i = 0; rc == 0 && i < t->bad.n; i++)
        rc = note_lost_block(c, t->bad.v[i].index, err);
    if (rc == 0 && !t->is_unreadable)
        rc = each_missing_block(c, note_lost_block, err);
    vd_runs_settle(&c->lost);
    if (rc == 0 && c->lost.n)
        rc = vd_free_runs(c->ck, &unclaimed, err);
    if (rc == 0 &&
        (vd_runs_minus(&unclaimed, &c->lost, &counted) < 0 || vd_runs_minus(&unclaimed, &counted, out) < 0))
        rc = vd_fail_memory(err);
    vd_runs_done(&c->lost);
    vd_runs_done(&unclaimed);
    vd_runs_done(&counted);
    return rc;
}

/* A table that nothing leads to, among them, says that what is not claimed is not free. */
static int look_at_uncounted(struct counts *c, struct vd_err *err)
{
    struct qcow2_orphans found = {0};
    struct vd_runs *uncounted = &c->s->uncounted;
    int rc = add_uncounted(c, uncounted, err);

    c->keeps_unclaimed = has_evidence(c->ck);
    if (rc == 0 && uncounted->n && !c->keeps_unclaimed) {
        rc = qcow2_find_orphans(c->ck, uncounted, &found, err);
        c->keeps_unclaimed = found.list.n || !found.is_complete;
    }
    qcow2_orphan_vec_done(&found.list);
    return rc;
}

static int judge_structures(struct counts *c, struct vd_err *err)
{
    const struct qcow2_reftable *t = &c->s->reftable;

    if (look_at_uncounted(c, err) < 0 || judge_rules(c, err) < 0)
        return -1;
    if (!t->is_lost && t->proves_nothing && judge_unproven_table(c, err) < 0)
        return -1;
    if (t->is_lost || c->ck->has_changed)
        return 0;
    if (t->is_cut && judge_size(c, err) < 0)
        return -1;
    for (size_t i = 0; i < t->bad.n && !c->ck->has_changed; i++)
        if (judge_bad_block(c, &t->bad.v[i], err) < 0)
            return -1;
    return c->ck->has_changed || t->is_unreadable ? 0 : each_missing_block(c, judge_missing_block, err);
}

static int run(struct counts *c, struct vd_err *err)
{
    vd_auto_mem uint64_t *stored = malloc(COUNTS * sizeof(*stored));
    vd_auto_mem uint32_t *odd = malloc(COUNTS * sizeof(*odd));

    c->stored = stored;
    c->odd = odd;
    return stored && odd ? compare_blocks(c, err) : vd_fail_memory(err);
}

int qcow2_find_leaked(struct vd_check *ck, struct vd_runs *out, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;
    struct counts c = {.ck = ck, .s = s, .q = ck->bs->opaque, .leaked = out, .judges_nothing = true};

    if (!s->reftable.is_lost && run(&c, err) < 0)
        return -1;
    return add_uncounted(&c, out, err);
}

bool qcow2_counts_fit(struct vd_check *ck, struct vd_runs *out, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;
    struct counts c = {.ck = ck, .s = s, .q = ck->bs->opaque, .leaked = out, .judges_nothing = true};

    return run(&c, err) == 0 && !c.is_misfit && !has_missing_block(&c);
}

int qcow2_pass_refcounts(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;
    struct counts c = {.ck = ck, .s = s, .q = ck->bs->opaque, .leaked = &s->leaked};

    if (judge_structures(&c, err) < 0)
        return -1;
    if (s->reftable.is_lost || ck->has_changed)
        return 0;
    return run(&c, err) < 0 ? -1 : judge_unneeded(&c, err);
}
