/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk that counts: all L1 tables, then every L2 table in order of host offset, each once however many
 * entries of however many trees name it.
 *
 * A table that k L1 entries name stands for k paths, so its clusters are counted k times. Sharing between
 * trees is legal at one guest position only: where trees have different tables for one position, these are
 * read side by side, and a cluster that both name there has one position still. Anything else that meets a
 * second time is noted as misplaced and looked at again by the judges. Promise: work and memory are bounded
 * by the file's length.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/node/scan.h"
#include "formats/qcow2/qcow2.h"

enum {
    MOST_BAD_SLOTS = 1 << 16, /* bad L1 entries beyond this many are counted, not kept */
    SIDE_BY_SIDE = 512,       /* entries of tables of one position that are read together */
    LAST_TREE_BIT = 63,
};

/* An L1 entry that is good by itself. */
struct reference {
    uint64_t off;
    uint64_t ref_off;
    uint32_t slot;
    uint32_t tree;
    bool is_copied;
};

VD_VEC(reference_vec, struct reference)

struct walker {
    struct vd_check *ck;
    const struct qcow2 *q;
    const struct qcow2_geometry *g;
    struct qcow2_walk *walk;
    struct reference_vec refs;
    uint64_t *words;                 /* VD_SCAN_PIECE bytes: what a piece of a table claims */
    const struct qcow2_table *table; /* whose pieces come now */
    uint64_t next;                   /* see struct vd_count_result */
};

static int note_bad_slot(struct qcow2_walk *walk, const struct reference *ref, uint64_t word,
                         enum qcow2_finding why, struct vd_err *err)
{
    walk->bad_slots_n++;
    if (walk->stops_early)
        return vd_fail(err, VD_ERR_REFUSED, 0, "this header does not fit");
    if (walk->bad_slots.n >= MOST_BAD_SLOTS)
        return 0;
    return qcow2_bad_slot_vec_push(&walk->bad_slots,
                                   (struct qcow2_bad_slot){ref->ref_off, word, ref->slot, ref->tree, why}) < 0
               ? vd_fail_memory(err)
               : 0;
}

/* What is appended there would be read as that entry's. */
static void note_behind(struct walker *w, uint64_t host)
{
    host = vd_max(host, w->g->file_end);
    if (!w->walk->named_behind || host < w->walk->named_behind)
        w->walk->named_behind = host;
}

/* ---- L1 */

struct l1_scan {
    struct walker *w;
    const struct qcow2_tree *tree;
};

static int take_l1_word(struct l1_scan *scan, uint32_t slot, uint64_t word, struct vd_err *err)
{
    struct walker *w = scan->w;
    unsigned faults = qcow2_l1_faults(w->g, word);
    struct reference ref = {.off = word & QCOW2_OFFSET_MASK,
                            .ref_off = scan->tree->l1_off + 8 * (uint64_t)slot,
                            .slot = slot,
                            .tree = scan->tree->number,
                            .is_copied = word & QCOW2_COPIED};

    if (!scan->tree->number)
        w->walk->used_slots++;
    if (faults & QCOW2_F_MISALIGNED)
        return note_bad_slot(w->walk, &ref, word, QCOW2_L1_ENTRY_MISALIGNED, err);
    if (faults & QCOW2_F_OUT_OF_FILE) {
        note_behind(w, ref.off);
        return note_bad_slot(w->walk, &ref, word, QCOW2_L1_ENTRY_OUT_OF_FILE, err);
    }
    if ((faults & QCOW2_F_RESERVED) && note_bad_slot(w->walk, &ref, word, QCOW2_L1_ENTRY_RESERVED, err) < 0)
        return -1;
    if ((faults & QCOW2_F_PARTIAL_TAIL) &&
        note_bad_slot(w->walk, &ref, word, QCOW2_L1_ENTRY_PARTIAL, err) < 0)
        return -1;
    if (!ref.off)
        return 0;
    if (vd_budget_take(w->ck->budget, sizeof(ref), "L1 entries", err) < 0)
        return -1;
    return reference_vec_push(&w->refs, ref) < 0 ? vd_fail_memory(err) : 0;
}

/* Guest bytes of a range that are on the active disk; a snapshot's VM state lies behind its own. */
static uint64_t on_disk(const struct walker *w, bool is_active, uint64_t guest, uint64_t bytes)
{
    return !is_active || guest >= w->g->size ? 0 : vd_min(bytes, w->g->size - guest);
}

static int on_l1_piece(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct l1_scan *scan = opaque;
    uint64_t guest = (piece->at / 8) << scan->w->g->l1_shift;

    if (piece->why) {
        vd_found(scan->w->ck, QCOW2_L1_TABLE_UNREADABLE, .host = piece->table->span.off + piece->at,
                 .host_bytes = piece->len, .found_text = piece->why->story, .guest = guest,
                 .guest_bytes = on_disk(scan->w, !scan->tree->number, guest,
                                        (uint64_t)(piece->len / 8) << scan->w->g->l1_shift));
        return 0;
    }
    for (uint32_t i = 0; piece->bytes && i < piece->len / 8; i++) {
        uint64_t word = vd_get_be64(piece->bytes + 8 * (size_t)i);

        if (word && take_l1_word(scan, (uint32_t)(piece->at / 8 + i), word, err) < 0)
            return -1;
    }
    return 0;
}

static int scan_l1(struct walker *w, const struct qcow2_tree *tree, struct vd_err *err)
{
    struct l1_scan scan = {w, tree};
    uint64_t bytes =
        vd_min(8 * tree->l1_n, vd_align_down(w->g->file_size - vd_min(w->g->file_size, tree->l1_off), 8));
    struct vd_scan_table table = {
        .span = {tree->l1_off, bytes}
    };

    if (!bytes)
        return 0;
    return vd_scan(w->ck->bs->file, &table, 1, w->ck->budget, on_l1_piece, &scan, err);
}

/* Two snapshots with one L1 table: it is walked once, for each of them. */
static int scan_trees(struct walker *w, const struct qcow2_snapshots *snapshots, struct vd_err *err)
{
    struct qcow2_tree active = {.l1_off = w->g->l1_off, .l1_n = w->g->l1_n};

    if (scan_l1(w, &active, err) < 0)
        return -1;
    for (size_t i = 0; i < snapshots->list.n; i++) {
        const struct qcow2_snapshot *s = &snapshots->list.v[i];
        struct qcow2_tree tree = {s->l1_off, s->l1_n, (uint32_t)i + 1};

        w->ck->tree = s->id;
        if (s->l1_is_sound && scan_l1(w, &tree, err) < 0)
            return -1;
    }
    w->ck->tree = NULL;
    return 0;
}

/* ---- from L1 entries to tables */

static int by_offset_slot_tree(const void *a, const void *b)
{
    const struct reference *x = a, *y = b;

    if (x->off != y->off)
        return x->off < y->off ? -1 : 1;
    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return (x->tree > y->tree) - (x->tree < y->tree);
}

static uint64_t tree_bit(uint32_t tree)
{
    return (uint64_t)1 << vd_min(tree, LAST_TREE_BIT);
}

static uint64_t word_of(const struct reference *ref)
{
    return ref->off | (ref->is_copied ? QCOW2_COPIED : 0);
}

/* References [from, to) name one table. At which slots do they count? */
static int settle_table(struct walker *w, size_t from, size_t to, struct vd_err *err)
{
    const struct reference *r = w->refs.v;
    struct qcow2_table table = {.off = r[from].off, .ref_off = r[from].ref_off, .slot = r[from].slot};
    uint64_t stored = 0;
    bool counts_all = true;

    if (r[to - 1].slot != r[from].slot) {
        /* An earlier repair by QEMU may have raised the counts to fit; then each reference counts. */
        if (qcow2_read_counts(w->ck->bs, table.off >> w->g->cluster_bits, 1, &stored, err) < 0)
            return -1;
        counts_all = stored >= to - from;
    }
    for (size_t i = from; i < to; i++) {
        if (counts_all || r[i].slot == table.slot)
            table.weight++;
        if (r[i].slot == table.slot)
            table.trees |= tree_bit(r[i].tree);
        else if (note_bad_slot(w->walk, &r[i], word_of(&r[i]), QCOW2_L1_ENTRY_SHARED, err) < 0)
            return -1;
    }
    for (size_t i = from; i < to; i++)
        if (r[i].tree == 0 && r[i].slot == table.slot && r[to - 1].slot == table.slot &&
            r[i].is_copied != (table.weight == 1) &&
            qcow2_bad_slot_vec_push(
                &w->walk->odd_copied,
                (struct qcow2_bad_slot){r[i].ref_off, r[i].off, r[i].slot, 0,
                                        r[i].is_copied ? QCOW2_L1_COPIED_SET : QCOW2_L1_COPIED_CLEAR}) < 0)
            return vd_fail_memory(err);
    return qcow2_table_vec_push(&w->walk->tables, table) < 0 ? vd_fail_memory(err) : 0;
}

/* Metadata was claimed before: what names it is no table. */
static bool meets_metadata(struct walker *w, uint64_t off)
{
    return vd_kind_at(w->ck, off, NULL) != VD_KIND_FREE;
}

/* Does this cluster read as an L2 table that has something in it? */
static bool reads_as_table(struct walker *w, uint64_t off)
{
    uint64_t word[SIDE_BY_SIDE], words = w->g->entry_bytes / 8, used = 0;

    for (uint64_t first = 0; first < w->g->table_n * words; first += SIDE_BY_SIDE) {
        uint64_t n = vd_min(SIDE_BY_SIDE, w->g->table_n * words - first);

        if (qcow2_read_words(w->ck->bs, off, first, n, word, NULL) < 0)
            return false;
        for (uint64_t i = 0; i < n; i += words) {
            struct qcow2_entry e = qcow2_parse_entry(w->g, word[i], words > 1 ? word[i + 1] : 0, 0);

            if (qcow2_is_bad(e.faults & ~(unsigned)(QCOW2_F_DATA_FILE_OFFSET | QCOW2_F_DATA_FILE_COPIED)))
                return false;
            used += word[i] != 0;
        }
    }
    return used > 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct reference *x = a, *y = b;

    return (x->off > y->off) - (x->off < y->off);
}

/* An L1 entry and the refcount table name one cluster: what stands there says whose it is. */
static bool is_table(void *opaque, uint64_t off)
{
    struct walker *w = opaque;
    struct reference key = {.off = off};

    return w->refs.n && bsearch(&key, w->refs.v, w->refs.n, sizeof(key), by_offset) && reads_as_table(w, off);
}

static int settle_tables(struct walker *w, struct qcow2_reftable *reftable, struct vd_err *err)
{
    struct reference_vec *refs = &w->refs;

    if (refs->n)
        qsort(refs->v, refs->n, sizeof(*refs->v), by_offset_slot_tree);
    if (qcow2_claim_blocks(w->ck, reftable, is_table, w, err) < 0)
        return -1;
    for (size_t i = 0, k; i < refs->n; i = k) {
        for (k = i + 1; k < refs->n && refs->v[k].off == refs->v[i].off; k++)
            ;
        if (!meets_metadata(w, refs->v[i].off)) {
            if (settle_table(w, i, k, err) < 0)
                return -1;
            continue;
        }
        for (size_t n = i; n < k; n++)
            if (note_bad_slot(w->walk, &refs->v[n], word_of(&refs->v[n]), QCOW2_L1_ENTRY_OVERLAP, err) < 0)
                return -1;
    }
    for (size_t i = 0; i < w->walk->tables.n; i++) {
        const struct qcow2_table *t = &w->walk->tables.v[i];

        if (vd_claim_times(w->ck, VD_KIND_L2, (struct vd_span){t->off, w->g->cluster_size}, t->ref_off,
                           t->weight, NULL, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- L2 */

/* Claims the host clusters of a compressed extent; *misplaced where something else holds one of them. */
static int claim_packed(struct walker *w, const struct qcow2_table *t, const struct qcow2_entry *e,
                        uint64_t ref_off, struct vd_err *err)
{
    uint64_t shared = 0;

    if (vd_claim_times(w->ck, VD_KIND_COMPRESSED, qcow2_touched(w->g, e), ref_off, t->weight, &shared, err) <
        0)
        return -1;
    w->walk->misplaced += shared;
    if (t->trees & 1)
        w->walk->compressed++;
    return 0;
}

/* An entry that is not simply a cluster, zeroes or nothing: what it claims is *claims. */
static int take_odd_word(struct walker *w, struct qcow2_table *t, uint64_t i, uint64_t word, uint64_t bitmap,
                         uint64_t *claims, struct vd_err *err)
{
    struct qcow2_entry e = qcow2_parse_entry(w->g, word, bitmap, qcow2_guest(w->g, t->slot, i));

    *claims = 0;
    t->faults |= e.faults;
    if ((e.faults & (QCOW2_F_OUT_OF_FILE | QCOW2_F_PACKED_OUT_OF_FILE)) && !w->g->has_data_file)
        note_behind(w, e.host);
    if (qcow2_is_bad(e.faults)) {
        t->bad++;
        w->walk->bad++;
    }
    if (e.faults & QCOW2_F_CLAIMS_NOTHING)
        return 0;
    if (e.type == QCOW2_PACKED)
        return claim_packed(w, t, &e, t->off + i * w->g->entry_bytes, err);
    if (w->g->has_data_file && (t->trees & 1) && (e.type == QCOW2_NORMAL || e.type == QCOW2_ZERO_ALLOCATED))
        w->walk->allocated++;
    if (w->g->has_data_file && (t->trees & 1) && qcow2_guest(w->g, t->slot, i) < w->g->size) {
        w->walk->raw_n += e.type == QCOW2_NORMAL || e.faults;
        w->walk->raw_zeroes += e.type != QCOW2_NORMAL && !e.faults;
    }
    if (!w->g->has_data_file && e.host)
        *claims = e.host | (e.is_copied ? VD_WORD_ONLY : 0);
    return 0;
}

/* Is the word simply a cluster, zeroes or nothing? Bounds are tested by the batch. */
static inline bool is_plain(const struct qcow2_geometry *g, uint64_t word, uint64_t bitmap)
{
    uint64_t odd = QCOW2_L2_RESERVED | QCOW2_COMPRESSED;

    if (word & (g->version == 2 || g->has_extended_l2 ? odd | QCOW2_ZERO : odd))
        return false;
    return !g->has_data_file && !((uint32_t)bitmap & (uint32_t)(bitmap >> 32)) &&
           ((word & QCOW2_OFFSET_MASK) ? !g->has_extended_l2 || bitmap
                                       : !(word & QCOW2_COPIED) && !(uint32_t)bitmap);
}

static void note_guest_end(struct walker *w, struct qcow2_table *t, uint64_t i)
{
    uint64_t end = qcow2_guest(w->g, t->slot, i + 1);

    if (!(t->trees & 1))
        return;
    w->walk->max_guest = vd_max(w->walk->max_guest, end);
    if (end - w->g->cluster_size >= w->g->size)
        t->has_beyond = true;
}

/* The words that entries [first, first + n) of a table claim. */
static int gather_words(struct walker *w, struct qcow2_table *t, const uint8_t *raw, uint64_t first,
                        uint64_t n, uint64_t *words, struct vd_err *err)
{
    const struct qcow2_geometry *g = w->g;
    uint64_t zeroes = 0, used = 0, last = 0;

    for (uint64_t i = 0; i < n; i++) {
        uint64_t word = vd_get_be64(raw + i * g->entry_bytes),
                 bitmap = g->has_extended_l2 ? vd_get_be64(raw + i * 16 + 8) : 0,
                 off = word & QCOW2_OFFSET_MASK;

        words[i] = 0;
        if (!(word | bitmap))
            continue;
        used++;
        last = i + 1;
        zeroes += word & QCOW2_ZERO;
        if (!is_plain(g, word, bitmap) || !vd_is_aligned(off, g->cluster_size) ||
            (off && off + g->cluster_size > g->file_size)) {
            if (take_odd_word(w, t, first + i, word, bitmap, &words[i], err) < 0)
                return -1;
        } else if (off) {
            words[i] = off | (word & QCOW2_COPIED ? VD_WORD_ONLY : 0);
        }
    }
    t->used += (uint32_t)used;
    if (t->trees & 1)
        w->walk->zeroes += zeroes;
    if (last)
        note_guest_end(w, t, first + last - 1);
    return 0;
}

static int count_words(struct walker *w, struct qcow2_table *t, const uint64_t *words, uint64_t n,
                       struct vd_err *err)
{
    struct vd_count_result result = {0};
    struct vd_count_batch batch = {.words = words,
                                   .n = n,
                                   .weight = t->weight,
                                   .lo = 0,
                                   .hi = w->g->file_end,
                                   .tells_only = t->trees & 1,
                                   .has_places = w->walk->has_snapshots};

    result.next = t == w->table ? w->next : 0;
    if (vd_count_table(w->ck, &batch, &result, err) < 0)
        return -1;
    w->table = t;
    w->next = result.next;
    w->walk->misplaced += result.misplaced;
    if (w->walk->stops_early && (w->walk->misplaced || w->walk->bad))
        return vd_fail(err, VD_ERR_REFUSED, 0, "this header does not fit");
    if (t->trees & 1) {
        w->walk->allocated += result.counted;
        w->walk->fragmented += result.fragmented;
    }
    return 0;
}

static void tell_unreadable(struct walker *w, struct qcow2_table *t, struct vd_span part,
                            const struct vd_err *why)
{
    uint64_t guest = qcow2_guest(w->g, t->slot, (part.off - t->off) / w->g->entry_bytes);

    t->is_unreadable = true;
    VD_AT(w->ck, "L1", t->slot);
    vd_found(w->ck, QCOW2_L2_UNREADABLE, .host = part.off, .host_bytes = part.len, .found_text = why->story,
             .guest = guest,
             .guest_bytes =
                 on_disk(w, t->trees & 1, guest, part.len / w->g->entry_bytes << w->g->cluster_bits));
}

static int on_l2_piece(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct walker *w = opaque;
    struct qcow2_table *t = &w->walk->tables.v[piece->table->cookie];
    uint64_t first = piece->at / w->g->entry_bytes, n = piece->len / w->g->entry_bytes;

    if (piece->why) {
        tell_unreadable(w, t, (struct vd_span){t->off + piece->at, piece->len}, piece->why);
        return 0;
    }
    if (!piece->bytes)
        return 0;
    return gather_words(w, t, piece->bytes, first, n, w->words, err) < 0
               ? -1
               : count_words(w, t, w->words, n, err);
}

/* The bytes of a table in the file: what its last cluster lacks reads as zeroes, and is not scanned. */
static struct vd_span table_span(const struct walker *w, const struct qcow2_table *t)
{
    uint64_t there = vd_align_down(w->g->file_size - t->off, w->g->entry_bytes);

    return (struct vd_span){t->off, vd_min(w->g->cluster_size, there)};
}

/* ---- tables of one guest position, side by side */

struct group {
    struct walker *w;
    size_t *table; /* indices into walk->tables, of one slot */
    size_t n;
    uint8_t *raw;    /* of one table's window */
    uint64_t *words; /* n windows */
};

static int read_window(struct group *grp, size_t k, uint64_t first, uint64_t n, struct vd_err *err)
{
    struct walker *w = grp->w;
    struct qcow2_table *t = &w->walk->tables.v[grp->table[k]];
    struct vd_err why = VD_ERR_INIT;
    uint64_t bytes = n * w->g->entry_bytes, at = t->off + first * w->g->entry_bytes;

    memset(&grp->words[k * SIDE_BY_SIDE], 0, n * sizeof(*grp->words));
    if (bdrv_pread_padded(w->ck->bs->file, (int64_t)at, (int64_t)bytes, grp->raw, &why) < 0) {
        tell_unreadable(w, t, (struct vd_span){at, bytes}, &why);
        return 0;
    }
    return gather_words(w, t, grp->raw, first, n, &grp->words[k * SIDE_BY_SIDE], err);
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* At one position: the first of the tables that name a cluster tells its place, the others say that it is the
 * same. */
static void mark_same_places(struct group *grp, uint64_t i, uint64_t *seen)
{
    size_t n = 0;

    for (size_t k = 0; k < grp->n; k++) {
        uint64_t *word = &grp->words[k * SIDE_BY_SIDE + i], off = *word & ~(uint64_t)VD_WORD_FLAGS;

        if (!off)
            continue;
        /* Few tables are looked through in a row; many are kept in order. */
        if (n < 8) {
            for (size_t m = 0; m < n; m++)
                if (seen[m] == off)
                    *word |= VD_WORD_SAME_PLACE;
        } else if (bsearch(&off, seen, n, sizeof(off), by_number)) {
            *word |= VD_WORD_SAME_PLACE;
        }
        if (*word & VD_WORD_SAME_PLACE)
            continue;
        seen[n++] = off;
        if (n >= 8)
            qsort(seen, n, sizeof(*seen), by_number);
    }
}

static int walk_group(struct group *grp, struct vd_err *err)
{
    struct walker *w = grp->w;
    vd_auto_mem uint64_t *seen = malloc(grp->n * sizeof(*seen));

    if (!seen)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < w->g->table_n; first += SIDE_BY_SIDE) {
        uint64_t n = vd_min(SIDE_BY_SIDE, w->g->table_n - first);

        if (vd_budget_go_on(w->ck->budget, err) < 0)
            return -1;
        for (size_t k = 0; k < grp->n; k++)
            if (read_window(grp, k, first, n, err) < 0)
                return -1;
        for (uint64_t i = 0; i < n; i++)
            mark_same_places(grp, i, seen);
        for (size_t k = 0; k < grp->n; k++)
            if (count_words(w, &w->walk->tables.v[grp->table[k]], &grp->words[k * SIDE_BY_SIDE], n, err) < 0)
                return -1;
    }
    return 0;
}

static int walk_side_by_side(struct walker *w, size_t *table, size_t n, struct vd_err *err)
{
    uint64_t bytes = n * SIDE_BY_SIDE * sizeof(uint64_t);
    vd_auto_mem uint8_t *raw = malloc(SIDE_BY_SIDE * 16);
    vd_auto_mem uint64_t *words = NULL;
    struct group grp = {.w = w, .table = table, .n = n, .raw = raw};
    int rc;

    if (vd_budget_take(w->ck->budget, bytes, "L2 tables of several snapshots", err) < 0)
        return -1;
    words = malloc(bytes);
    grp.words = words;
    rc = raw && words ? walk_group(&grp, err) : vd_fail_memory(err);
    vd_budget_give(w->ck->budget, bytes);
    return rc;
}

struct by_slot {
    uint32_t slot;
    uint32_t table;
};

static int by_slot_then_table(const void *a, const void *b)
{
    const struct by_slot *x = a, *y = b;

    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return (x->table > y->table) - (x->table < y->table);
}

/* Tables that stand alone at their position are scanned in order of offset; the others side by side. */
static int walk_l2(struct walker *w, struct vd_err *err)
{
    struct qcow2_table_vec *tables = &w->walk->tables;
    vd_auto_mem struct by_slot *order = calloc(tables->n + 1, sizeof(*order));
    vd_auto_mem struct vd_scan_table *list = calloc(tables->n + 1, sizeof(*list));
    vd_auto_mem bool *is_grouped = calloc(tables->n + 1, sizeof(*is_grouped));
    vd_auto_mem size_t *grp = calloc(tables->n + 1, sizeof(*grp));
    size_t alone = 0;

    if (!order || !list || !is_grouped || !grp)
        return vd_fail_memory(err);
    for (size_t i = 0; i < tables->n; i++)
        order[i] = (struct by_slot){tables->v[i].slot, (uint32_t)i};
    qsort(order, tables->n, sizeof(*order), by_slot_then_table);
    for (size_t i = 0, k; i < tables->n; i = k) {
        for (k = i; k < tables->n && order[k].slot == order[i].slot; k++)
            grp[k - i] = order[k].table;
        for (size_t m = i; k - i > 1 && m < k; m++)
            is_grouped[order[m].table] = true;
        if (k - i > 1 && walk_side_by_side(w, grp, k - i, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < tables->n; i++)
        if (!is_grouped[i])
            list[alone++] = (struct vd_scan_table){.span = table_span(w, &tables->v[i]), .cookie = i};
    return vd_scan(w->ck->bs->file, list, alone, w->ck->budget, on_l2_piece, w, err);
}

/* What parses as no table, and an L2 entry names as its data, is data: a wrong L1 entry leads there. */
static int find_foreign(struct walker *w, struct vd_err *err)
{
    for (size_t i = 0; i < w->walk->tables.n; i++) {
        struct qcow2_table *t = &w->walk->tables.v[i];
        struct reference ref = {t->off, t->ref_off, t->slot, (uint32_t)__builtin_ctzll(t->trees), false};
        uint64_t word;

        if (!qcow2_is_mass_damage(t->bad, t->used) || vd_refs_at(w->ck, t->off).count <= t->weight)
            continue;
        t->is_foreign = true;
        if (qcow2_read_words(w->ck->bs, t->ref_off, 0, 1, &word, err) < 0 ||
            note_bad_slot(w->walk, &ref, word, QCOW2_L1_ENTRY_OVERLAP, err) < 0)
            return -1;
    }
    return 0;
}

static int by_table_offset(const void *a, const void *b)
{
    const struct qcow2_table *x = a, *y = b;

    return (x->off > y->off) - (x->off < y->off);
}

const struct qcow2_table *qcow2_find_table(const struct qcow2_walk *walk, uint64_t off)
{
    struct qcow2_table key = {.off = off};

    return walk->tables.n ? bsearch(&key, walk->tables.v, walk->tables.n, sizeof(key), by_table_offset)
                          : NULL;
}

int qcow2_walk_trees(struct vd_check *ck, const struct qcow2_snapshots *snapshots,
                     struct qcow2_reftable *reftable, struct qcow2_walk *walk, struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;
    struct walker w = {.ck = ck, .q = q, .g = &q->g, .walk = walk};
    int rc;

    w.words = malloc(VD_SCAN_PIECE);
    if (!w.words)
        return vd_fail_memory(err);
    walk->has_snapshots = snapshots->list.n > 0;
    walk->l1_is_hole =
        w.g->l1_n && bdrv_is_hole(ck->bs->file, (int64_t)w.g->l1_off, (int64_t)(8 * w.g->l1_n));
    rc = scan_trees(&w, snapshots, err);
    if (rc == 0)
        rc = settle_tables(&w, reftable, err);
    if (rc == 0)
        rc = walk_l2(&w, err);
    if (rc == 0)
        rc = find_foreign(&w, err);
    vd_budget_give(ck->budget, w.refs.n * sizeof(*w.refs.v));
    reference_vec_done(&w.refs);
    free(w.words);
    return rc;
}

void qcow2_walk_done(struct qcow2_walk *walk)
{
    qcow2_table_vec_done(&walk->tables);
    qcow2_bad_slot_vec_done(&walk->bad_slots);
    qcow2_bad_slot_vec_done(&walk->odd_copied);
}
