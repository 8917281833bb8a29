/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From what the walk noted to findings: L1 entries, and the entries of the few L2 tables in which something
 * is wrong.
 *
 * A bad pointer is never turned into "unallocated" below level `all`. Stray bits are cleared where the masked
 * offset is aligned, in the file and named by nothing else.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "formats/base/inflate.h"
#include "formats/qcow2/judge.h"

enum { MOST_CLONED_TABLES = 8 };

/* ---- L1 */

/* Does the slot lead to no table at all? */
static bool is_lost_slot(const struct qcow2_bad_slot *bad)
{
    return bad->why == QCOW2_L1_ENTRY_MISALIGNED || bad->why == QCOW2_L1_ENTRY_OUT_OF_FILE ||
           bad->why == QCOW2_L1_ENTRY_OVERLAP;
}

/* Is what stands in the bad slot, but for stray low bits, a table that another slot names? Then it may be
 * that one's entry that is wrong. */
static bool names_anothers(const struct judge *j, const struct qcow2_bad_slot *bad)
{
    uint64_t masked = vd_align_down(bad->word & QCOW2_OFFSET_MASK, j->g->cluster_size);

    for (size_t i = 0; bad->why == QCOW2_L1_ENTRY_MISALIGNED && i < j->walk->tables.n; i++)
        if (j->walk->tables.v[i].off == masked)
            return true;
    return false;
}

/* The one orphan that a bad slot of the active table must have led to: its entries say so, or there is no
 * other bad slot and no other orphan. */
static const struct qcow2_orphan *proven_orphan(const struct judge *j, const struct qcow2_bad_slot *bad)
{
    const struct qcow2_orphans *o = &j->s->orphans;

    if (j->g->has_data_file)
        return bad->tree || !o->is_complete || j->ck->map_is_incomplete ? NULL
                                                                        : qcow2_orphan_of_slot(o, bad->slot);
    if (bad->tree || j->lost_slots != 1 || o->list.n != 1 || o->list.v[0].odd || !o->are_distinct ||
        !o->is_complete || j->ck->map_is_incomplete ||
        qcow2_guest(j->g, bad->slot, o->list.v[0].last) >= j->g->size || names_anothers(j, bad))
        return NULL;
    return &o->list.v[0];
}

/* The orphan in whose middle a misaligned entry, and no other one, strays: its low bits alone are wrong. */
static const struct qcow2_orphan *masked_orphan(const struct judge *j, const struct qcow2_bad_slot *bad)
{
    const struct qcow2_orphans *o = &j->s->orphans;
    const struct qcow2_orphan *found = NULL;
    uint64_t off = vd_align_down(bad->word & QCOW2_OFFSET_MASK, j->g->cluster_size);

    if (bad->tree || bad->why != QCOW2_L1_ENTRY_MISALIGNED || !o->are_distinct || j->ck->map_is_incomplete ||
        qcow2_is_mass_damage(j->lost_slots, j->walk->used_slots))
        return NULL;
    for (size_t i = 0; i < o->list.n; i++)
        if (o->list.v[i].off == off && qcow2_guest(j->g, bad->slot, o->list.v[i].last) < j->g->size &&
            (!j->g->has_data_file || o->list.v[i].slot == bad->slot))
            found = &o->list.v[i];
    for (size_t i = 0; found && i < j->walk->bad_slots.n; i++) {
        const struct qcow2_bad_slot *other = &j->walk->bad_slots.v[i];

        if (other != bad && is_lost_slot(other) &&
            vd_align_down(other->word & QCOW2_OFFSET_MASK, j->g->cluster_size) == off)
            return NULL;
    }
    return found;
}

/* The word that a repair writes into a bad slot; false where there is none. */
static bool fixed_slot(struct judge *j, const struct qcow2_bad_slot *bad, uint64_t *word,
                       enum vd_level *level)
{
    const struct qcow2_orphan *orphan = masked_orphan(j, bad);

    if (!orphan && is_lost_slot(bad))
        orphan = proven_orphan(j, bad);
    *level = j->ck->bs->drv->findings[bad->why].level;
    if (orphan) {
        *word = orphan->off | QCOW2_COPIED;
        /* Through an entry that leads to something else the guest can read, and reads what is not its own. */
        if (bad->why != QCOW2_L1_ENTRY_OVERLAP)
            *level = VD_LEVEL_SAFE;
        return true;
    }
    switch ((int)bad->why) {
    case QCOW2_L1_ENTRY_RESERVED:
        *word = bad->word & ~QCOW2_L1_RESERVED;
        return true;
    case QCOW2_L1_ENTRY_MISALIGNED:
    case QCOW2_L1_ENTRY_OUT_OF_FILE:
    case QCOW2_L1_ENTRY_OVERLAP:
        *word = 0;
        return true;
    default:
        return false;
    }
}

/* A few slots may each get a table of their own: the data clusters, which both tables name then, are cloned
 * as any that are shared. Many are no mirrored ranges but an L1 table full of something else. */
static bool can_clone_table(const struct judge *j, const struct qcow2_bad_slot *bad,
                            const struct qcow2_table *owner)
{
    const struct qcow2_orphans *o = &j->s->orphans;

    return owner && bad->why == QCOW2_L1_ENTRY_SHARED && o->is_complete && !o->list.n && !bad->tree &&
           owner->trees == 1 && !owner->bad && !owner->is_unreadable && !owner->is_foreign &&
           j->walk->bad_slots_n <= MOST_CLONED_TABLES && qcow2_may_grow(j->ck, 2);
}

static int clone_table(struct judge *j, const struct qcow2_bad_slot *bad, struct vd_err *err)
{
    struct vd_span table = {bad->word & QCOW2_OFFSET_MASK, j->g->cluster_size};
    uint64_t copy;

    if (qcow2_fix_copy(j->ck, table, &copy, err) < 0)
        return -1;
    return qcow2_fix_word(j->ck, bad->ref_off, copy | QCOW2_COPIED, VD_STAGE_ROOT, err);
}

static int judge_slot(struct judge *j, const struct qcow2_bad_slot *bad, struct vd_err *err)
{
    uint64_t guest = (uint64_t)bad->slot << j->g->l1_shift, word = 0, bytes = qcow2_slot_bytes(j->g);
    enum vd_level level;
    bool has_fix = fixed_slot(j, bad, &word, &level), is_odd = bad->why == QCOW2_L1_ENTRY_RESERVED;
    const struct qcow2_table *owner =
        bad->why == QCOW2_L1_ENTRY_SHARED ? qcow2_find_table(j->walk, bad->word & QCOW2_OFFSET_MASK) : NULL;
    bool is_cloned = !has_fix && can_clone_table(j, bad, owner);

    name_tree(j, bad->tree);
    VD_AT(j->ck, "L1", bad->slot);
    if (vd_found(j->ck, bad->why, .host = bad->ref_off, .guest = guest,
                 .guest_bytes =
                     is_odd || bad->why == QCOW2_L1_ENTRY_PARTIAL ? 0 : on_disk(j, bad->tree, guest, bytes),
                 .found = bad->word, .expected = has_fix ? word : VD_NOWHERE,
                 .level = has_fix || is_cloned || bad->why != QCOW2_L1_ENTRY_SHARED
                              ? qcow2_level_inside(j->ck, bad->ref_off, level)
                              : VD_LEVEL_NONE,
                 .other_guest = owner ? qcow2_guest(j->g, owner->slot, 0) : VD_NOWHERE,
                 .other_host = owner ? owner->ref_off : VD_NOWHERE) == VD_LEAVE)
        return 0;
    if (bad->why == QCOW2_L1_ENTRY_PARTIAL)
        return qcow2_fix_extend(j->ck, j->g->file_end, err);
    if (is_cloned)
        return clone_table(j, bad, err);
    return qcow2_fix_word(j->ck, bad->ref_off, word, VD_STAGE_ROOT, err);
}

/* What a lost slot led to may be found among the leaks. */
static int look_for_orphans(struct judge *j, struct vd_err *err)
{
    struct vd_runs leaked = {0};
    bool has_mirrors = false;
    int rc = 0;

    for (size_t i = 0; i < j->walk->bad_slots.n; i++) {
        j->lost_slots += is_lost_slot(&j->walk->bad_slots.v[i]);
        has_mirrors |= j->walk->bad_slots.v[i].why == QCOW2_L1_ENTRY_SHARED;
    }
    if ((j->lost_slots || has_mirrors) && (qcow2_find_leaked(j->ck, &leaked, err) < 0 ||
                                           qcow2_find_orphans(j->ck, &leaked, &j->s->orphans, err) < 0))
        rc = -1;
    vd_runs_done(&leaked);
    return rc;
}

/* Each L1 table by itself. Of a snapshot's the entries in use were not counted: they are no more than all. */
static int judge_mass_damage(struct judge *j, struct vd_err *err)
{
    const struct qcow2_snapshot_vec *list = &j->s->snapshots.list;
    vd_auto_mem uint64_t *lost = calloc(list->n + 1, sizeof(*lost));

    if (!lost)
        return vd_fail_memory(err);
    for (size_t i = 0; i < j->walk->bad_slots.n; i++)
        lost[j->walk->bad_slots.v[i].tree] += is_lost_slot(&j->walk->bad_slots.v[i]);
    if (qcow2_is_mass_damage(lost[0], j->walk->used_slots))
        vd_found(j->ck, QCOW2_L1_TABLE_GARBAGE, .host = j->g->l1_off, .host_bytes = 8 * j->g->l1_n);
    for (size_t i = 0; i < list->n; i++) {
        if (!qcow2_is_mass_damage(lost[i + 1], list->v[i].l1_n))
            continue;
        name_tree(j, (uint32_t)i + 1);
        vd_found(j->ck, QCOW2_L1_TABLE_GARBAGE, .host = list->v[i].l1_off,
                 .host_bytes = 8 * (uint64_t)list->v[i].l1_n);
        name_tree(j, 0);
    }
    return 0;
}

static int judge_slots(struct judge *j, struct vd_err *err)
{
    if (look_for_orphans(j, err) < 0 || judge_mass_damage(j, err) < 0)
        return -1;
    for (size_t i = 0; i < j->walk->bad_slots.n; i++)
        if (judge_slot(j, &j->walk->bad_slots.v[i], err) < 0)
            return -1;
    return 0;
}

/* ---- L2 entries */

struct place {
    const struct qcow2_table *table;
    uint64_t i;
    uint64_t off; /* of the entry */
    uint64_t word, bitmap;
    struct qcow2_entry e;
};

/* Which fault is which finding, in the order in which they are told. */
static const struct {
    unsigned fault;
    enum qcow2_finding finding;
    bool names_guest; /* the guest cannot read, or reads what is not its own */
} rows[] = {
    {QCOW2_F_RESERVED,           QCOW2_L2_ENTRY_RESERVED,           false},
    {QCOW2_F_MISALIGNED,         QCOW2_L2_ENTRY_MISALIGNED,         true },
    {QCOW2_F_ZERO_MISALIGNED,    QCOW2_L2_ZERO_PREALLOC_MISALIGNED, false},
    {QCOW2_F_OUT_OF_FILE,        QCOW2_L2_ENTRY_OUT_OF_FILE,        true },
    {QCOW2_F_ZERO_V2,            QCOW2_L2_ZERO_FLAG_V2,             true },
    {QCOW2_F_PACKED_COPIED,      QCOW2_L2_COMPRESSED_COPIED,        false},
    {QCOW2_F_PACKED_BITMAP,      QCOW2_L2_COMPRESSED_BITMAP,        false},
    {QCOW2_F_PACKED_RESERVED,    QCOW2_L2_COMPRESSED_RESERVED_BITS, false},
    {QCOW2_F_PACKED_OUT_OF_FILE, QCOW2_L2_COMPRESSED_OUT_OF_FILE,   true },
    {QCOW2_F_PACKED_OVERSIZED,   QCOW2_L2_COMPRESSED_OVERSIZED,     false},
    {QCOW2_F_PACKED_DATA_FILE,   QCOW2_L2_COMPRESSED_DATA_FILE,     true },
    {QCOW2_F_SUB_CONFLICT,       QCOW2_EXTL2_ALLOC_ZERO_CONFLICT,   true },
    {QCOW2_F_SUB_NO_OFFSET,      QCOW2_EXTL2_ALLOC_WITHOUT_OFFSET,  true },
    {QCOW2_F_DATA_FILE_OFFSET,   QCOW2_DATAFILE_OFFSET_MISMATCH,    true },
    {QCOW2_F_DATA_FILE_COPIED,   QCOW2_DATAFILE_COPIED_CLEAR,       false},
    {QCOW2_F_PARTIAL_TAIL,       QCOW2_L2_ENTRY_PARTIAL_TAIL,       false},
    {QCOW2_F_COPIED_ALONE,       QCOW2_L2_COPIED_WITHOUT_OFFSET,    false},
    {QCOW2_F_ZERO_EXTENDED,      QCOW2_L2_ZERO_FLAG_EXTL2,          false},
    {QCOW2_F_OFFSET_UNUSED,      QCOW2_EXTL2_OFFSET_UNUSED,         false},
};

/* Does the extent inflate to a whole cluster? *used is how much of it that takes. */
static bool inflates(struct judge *j, const struct qcow2_entry *e, size_t *used)
{
    vd_auto_mem uint8_t *out = malloc(j->g->cluster_size);
    struct vd_inflated result = {0};
    struct vd_err err = VD_ERR_INIT;
    bool whole = out && !j->q->header.crypt_method &&
                 qcow2_inflate(j->ck->bs, e, j->q->header.compression_type, out, &result, &err) == 0;

    *used = result.used;
    return whole;
}

/* The cluster that a misaligned or stray offset means: proven where nothing else names it and it is in use.
 */
static bool is_proven(struct judge *j, uint64_t off, uint64_t claims, enum vd_level *level,
                      struct vd_err *err)
{
    uint64_t cluster = off >> j->g->cluster_bits, stored = 0;

    *level = VD_LEVEL_NONE;
    if (!off || off >= j->g->file_end || vd_refs_at(j->ck, off).count != claims ||
        vd_runs_has(&j->masked, cluster))
        return true;
    if (qcow2_read_counts(j->ck->bs, cluster, 1, &stored, err) < 0)
        return false;
    if (stored)
        *level = VD_LEVEL_SAFE;
    return vd_runs_add(&j->masked, cluster, 1) == 0;
}

/* The entry that a repair writes for one fault, and at which level. -1 on error. */
static int fixed_entry(struct judge *j, const struct place *p, unsigned fault, uint64_t *word,
                       uint64_t *bitmap, enum vd_level *level, struct vd_err *err)
{
    bool has_backing = j->ck->bs->backing_file;
    const struct vd_named_file *file = j->ck->data_file;
    uint64_t guest = qcow2_guest(j->g, p->table->slot, p->i);
    size_t used;

    *word = p->word;
    *bitmap = p->bitmap;
    switch (fault) {
    case QCOW2_F_RESERVED:
        *word &= ~QCOW2_L2_RESERVED;
        if (p->e.faults & QCOW2_F_CLAIMS_NOTHING || (p->e.host && vd_refs_at(j->ck, p->e.host).is_conflicted))
            *level = VD_LEVEL_NONE;
        return 0;
    case QCOW2_F_MISALIGNED:
        *word = (p->word & ~QCOW2_OFFSET_MASK) | vd_align_down(p->e.host, j->g->cluster_size);
        return is_proven(j, vd_align_down(p->e.host, j->g->cluster_size), 0, level, err) ? 0 : -1;
    case QCOW2_F_ZERO_MISALIGNED:
        *word = j->g->has_extended_l2 ? 0 : QCOW2_ZERO;
        return 0;
    case QCOW2_F_OUT_OF_FILE:
    case QCOW2_F_PACKED_OUT_OF_FILE:
        *word = j->g->has_extended_l2 || j->g->version == 2 ? 0 : QCOW2_ZERO;
        *bitmap = j->g->has_extended_l2 ? (uint64_t)UINT32_MAX << 32 : 0;
        if (j->g->version == 2 && has_backing)
            *level = VD_LEVEL_NONE;
        return 0;
    case QCOW2_F_ZERO_V2:
        *word &= ~QCOW2_ZERO;
        *level = p->e.host || has_backing ? VD_LEVEL_NONE : VD_LEVEL_SAFE;
        return 0;
    case QCOW2_F_PACKED_COPIED:
    case QCOW2_F_COPIED_ALONE:
        *word &= ~QCOW2_COPIED;
        return 0;
    case QCOW2_F_PACKED_BITMAP:
        *bitmap = 0;
        return 0;
    case QCOW2_F_PACKED_RESERVED:
        *word &= ~(((uint64_t)1 << (70 - j->g->cluster_bits)) - 1) | QCOW2_OFFSET_MASK | 0x1ff;
        *level = !(p->e.faults & QCOW2_F_PACKED_OUT_OF_FILE) && inflates(j, &p->e, &used) ? VD_LEVEL_SAFE
                                                                                          : VD_LEVEL_NONE;
        return 0;
    case QCOW2_F_PACKED_OVERSIZED:
        *level =
            inflates(j, &p->e, &used) && p->e.host + used <= j->g->file_size ? VD_LEVEL_SAFE : VD_LEVEL_NONE;
        *word = qcow2_packed_word(j->g, p->e.host, used);
        return 0;
    case QCOW2_F_SUB_CONFLICT:
        *bitmap &= ~(p->bitmap << 32);
        return 0;
    case QCOW2_F_SUB_NO_OFFSET:
        *bitmap = (p->bitmap | p->bitmap << 32) & ~(uint64_t)UINT32_MAX;
        return 0;
    case QCOW2_F_DATA_FILE_OFFSET:
        *word = (p->word & ~QCOW2_OFFSET_MASK) | guest;
        if (!file || file->state != VD_FILE_FOUND || file->size <= guest)
            *level = VD_LEVEL_NONE;
        return 0;
    case QCOW2_F_DATA_FILE_COPIED:
        *word |= QCOW2_COPIED;
        return 0;
    case QCOW2_F_ZERO_EXTENDED:
        *word &= ~QCOW2_ZERO;
        return 0;
    default:
        return 0;
    }
}

static int write_entry(struct judge *j, const struct place *p, uint64_t word, uint64_t bitmap,
                       struct vd_err *err)
{
    if (word != p->word && qcow2_fix_word(j->ck, p->off, word, VD_STAGE_TABLE, err) < 0)
        return -1;
    if (bitmap != p->bitmap && qcow2_fix_word(j->ck, p->off + 8, bitmap, VD_STAGE_TABLE, err) < 0)
        return -1;
    return 0;
}

/* 1: the entry was written. */
static int judge_fault(struct judge *j, const struct place *p, size_t row, struct vd_err *err)
{
    uint64_t word, bitmap, guest = qcow2_guest(j->g, p->table->slot, p->i);
    enum vd_level level = j->ck->bs->drv->findings[rows[row].finding].level;
    bool is_bitmap;

    if (fixed_entry(j, p, rows[row].fault, &word, &bitmap, &level, err) < 0)
        return -1;
    if (word != p->word || bitmap != p->bitmap)
        level = qcow2_level_inside(j->ck, p->off, level);
    is_bitmap = bitmap != p->bitmap && word == p->word;
    if (vd_found(j->ck, rows[row].finding, .host = p->off + (is_bitmap ? 8 : 0), .guest = guest,
                 .guest_bytes = rows[row].names_guest
                                    ? on_disk(j, first_tree(p->table->trees), guest, j->g->cluster_size)
                                    : 0,
                 .found = is_bitmap ? p->bitmap : p->word,
                 .expected = level == VD_LEVEL_NONE ? VD_NOWHERE
                             : is_bitmap            ? bitmap
                             : word != p->word      ? word
                                                    : VD_NOWHERE,
                 .level = level) == VD_LEAVE)
        return 0;
    if (rows[row].fault == QCOW2_F_PARTIAL_TAIL)
        return qcow2_fix_extend(j->ck, j->g->file_end, err);
    return write_entry(j, p, word, bitmap, err) < 0 ? -1 : 1;
}

/* Each fault is a finding; where one was repaired, the rest of the entry is for the next round. */
static int judge_entry(struct judge *j, const struct place *p, struct vd_err *err)
{
    VD_AT(j->ck, "L2", p->i);
    for (size_t row = 0; row < VD_ARRAY_SIZE(rows); row++) {
        int rc = p->e.faults & rows[row].fault ? judge_fault(j, p, row, err) : 0;

        if (rc)
            return rc < 0 ? -1 : 0;
    }
    return 0;
}

/* Mass damage: the table is not taken apart. */
static int judge_garbage(struct judge *j, const struct qcow2_table *t)
{
    uint64_t guest = qcow2_guest(j->g, t->slot, 0);

    vd_found(j->ck, QCOW2_L2_TABLE_GARBAGE, .host = t->off, .host_bytes = j->g->cluster_size, .guest = guest,
             .guest_bytes = on_disk(j, first_tree(t->trees), guest, qcow2_slot_bytes(j->g)), .count = t->bad);
    return 0;
}

int qcow2_each_entry(struct judge *j, const struct qcow2_table *t, qcow2_entry_fn *fn, void *opaque,
                     struct vd_err *err)
{
    uint64_t words = j->g->entry_bytes / 8, per_read = VD_WINDOW / words;
    vd_auto_mem uint64_t *word = malloc(VD_WINDOW * sizeof(*word));

    if (!word)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < j->g->table_n; first += per_read) {
        uint64_t n = vd_min(per_read, j->g->table_n - first);

        if (qcow2_read_words(j->ck->bs, t->off, first * words, n * words, word, NULL) < 0)
            continue;
        for (uint64_t i = 0; i < n; i++)
            if (word[i * words] | (words > 1 ? word[i * words + 1] : 0)) {
                struct qcow2_seen seen = {t, first + i, word[i * words], words > 1 ? word[i * words + 1] : 0};

                if (fn(opaque, &seen, err) < 0)
                    return -1;
            }
    }
    return 0;
}

static int on_entry(void *opaque, const struct qcow2_seen *seen, struct vd_err *err)
{
    struct judge *j = opaque;
    struct place p = {.table = seen->table,
                      .i = seen->i,
                      .off = seen->table->off + seen->i * j->g->entry_bytes,
                      .word = seen->word,
                      .bitmap = seen->bitmap};

    p.e = qcow2_parse_entry(j->g, p.word, p.bitmap, qcow2_guest(j->g, seen->table->slot, seen->i));
    return p.e.faults ? judge_entry(j, &p, err) : 0;
}

static int judge_tables(struct judge *j, struct vd_err *err)
{
    for (size_t i = 0; i < j->walk->tables.n; i++) {
        const struct qcow2_table *t = &j->walk->tables.v[i];
        bool is_garbage = qcow2_is_mass_damage(t->bad, t->used);

        if (!t->faults || t->is_foreign)
            continue;
        name_tree(j, first_tree(t->trees));
        VD_AT(j->ck, "L1", t->slot);
        if (is_garbage ? judge_garbage(j, t) : qcow2_each_entry(j, t, on_entry, j, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- COPIED */

static int judge_l1_copied(struct judge *j, struct vd_err *err)
{
    for (size_t i = 0; i < j->walk->odd_copied.n; i++) {
        const struct qcow2_bad_slot *odd = &j->walk->odd_copied.v[i];
        uint64_t word;

        if (qcow2_read_words(j->ck->bs, odd->ref_off, 0, 1, &word, err) < 0)
            return -1;
        VD_AT(j->ck, "L1", odd->slot);
        if (vd_found(j->ck, odd->why, .host = odd->ref_off, .guest = (uint64_t)odd->slot << j->g->l1_shift,
                     .found = word, .expected = word ^ QCOW2_COPIED,
                     .level = qcow2_level_inside(j->ck, odd->ref_off, 0)) == VD_FIX &&
            qcow2_fix_word(j->ck, odd->ref_off, word ^ QCOW2_COPIED, VD_STAGE_ROOT, err) < 0)
            return -1;
    }
    return 0;
}

static int on_copied(void *opaque, const struct qcow2_seen *seen, struct vd_err *err)
{
    struct judge *j = opaque;
    uint64_t guest = qcow2_guest(j->g, seen->table->slot, seen->i),
             off = seen->table->off + seen->i * j->g->entry_bytes;
    struct qcow2_entry e = qcow2_parse_entry(j->g, seen->word, seen->bitmap, guest);
    struct vd_refs refs;

    if (e.type == QCOW2_PACKED || !e.host || (e.faults & QCOW2_F_CLAIMS_NOTHING))
        return 0;
    refs = vd_refs_at(j->ck, e.host);
    if (refs.is_conflicted || e.is_copied == (refs.count == 1))
        return 0;
    VD_AT(j->ck, "L1", seen->table->slot);
    VD_AT(j->ck, "L2", seen->i);
    if (vd_found(j->ck, e.is_copied ? QCOW2_L2_COPIED_SET : QCOW2_L2_COPIED_CLEAR, .host = off,
                 .guest = guest, .found = seen->word, .expected = seen->word ^ QCOW2_COPIED,
                 .level = qcow2_level_inside(j->ck, off, 0)) == VD_FIX)
        return qcow2_fix_word(j->ck, off, seen->word ^ QCOW2_COPIED, VD_STAGE_TABLE, err);
    return 0;
}

int qcow2_judge_copied(struct vd_check *ck, struct qcow2_walk *walk, struct vd_err *err)
{
    struct judge j = new_judge(ck, walk);

    if (judge_l1_copied(&j, err) < 0)
        return -1;
    for (size_t i = 0; walk->odd_copied_n && i < walk->tables.n; i++)
        if ((walk->tables.v[i].trees & 1) && qcow2_each_entry(&j, &walk->tables.v[i], on_copied, &j, err) < 0)
            return -1;
    return 0;
}

int qcow2_judge(struct vd_check *ck, struct qcow2_walk *walk, struct vd_err *err)
{
    struct judge j = new_judge(ck, walk);
    int rc = qcow2_judge_truncated(&j, err);

    if (rc == 0 && !ck->has_changed)
        rc = judge_slots(&j, err);
    if (rc == 0 && !ck->has_changed)
        rc = judge_tables(&j, err);
    ck->tree = NULL;
    if (rc == 0)
        rc = qcow2_judge_odd(&j, err);
    vd_runs_done(&j.masked);
    return rc;
}
