/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk that counts: L1, then every L2 table in order of host offset, each once however many entries name
 * it.
 *
 * It claims what it sees in the check's map and notes which tables have something wrong; it names no place
 * and judges nothing. What is wrong is looked at again by the judges, in the few tables concerned. Promise:
 * work and memory are bounded by the file's length, for tables that overlap are walked once and tables in
 * holes are passed over.
 */
#include "formats/qed/qed.h"

#include <stdlib.h>

#include "formats/base/bytes.h"
#include "formats/node/scan.h"

enum {
    MOST_BAD_SLOTS = 1 << 20, /* bad L1 entries beyond this many are counted, not kept */
    MOST_OVERLAPS_READ = 64,  /* of more overlapping tables the later one is taken for wrong, unread */
};

struct l1_entry {
    uint64_t off;
    uint32_t slot;
};

VD_VEC(l1_entry_vec, struct l1_entry)

struct l1_scan {
    struct vd_check *ck;
    struct qed_walk *walk;
    uint64_t image_size;
    struct l1_entry_vec good;
};

static void words_to_host(uint8_t *bytes, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    (void)bytes;
    (void)n;
#else
    for (size_t i = 0; i < n; i++) {
        uint64_t v = vd_get_le64(bytes + 8 * i);

        memcpy(bytes + 8 * i, &v, 8);
    }
#endif
}

bool qed_is_mass_damage(uint64_t bad, uint64_t used)
{
    return bad > 8 && bad >= vd_div_up(used, 8);
}

static int note_bad_slot(struct qed_walk *walk, uint32_t slot, uint64_t entry, enum qed_finding why,
                         struct vd_err *err)
{
    walk->bad_slots_n++;
    if (walk->bad_slots.n >= MOST_BAD_SLOTS) {
        walk->bad_slots_more[why]++;
        return 0;
    }
    return qed_bad_slot_vec_push(&walk->bad_slots, (struct qed_bad_slot){entry, slot, why}) < 0
               ? vd_fail_memory(err)
               : 0;
}

static bool is_excluded(const struct qed_walk *walk, uint32_t slot)
{
    for (size_t i = 0; i < walk->excluded.n; i++)
        if (walk->excluded.v[i].slot == slot)
            return true;
    return false;
}

static int take_l1_entry(struct l1_scan *scan, uint32_t slot, uint64_t entry, struct vd_err *err)
{
    static const enum qed_finding why[] = {[QED_ENTRY_RESERVED_VALUE] = QED_L1_ENTRY_MISALIGNED,
                                           [QED_ENTRY_MISALIGNED] = QED_L1_ENTRY_MISALIGNED,
                                           [QED_ENTRY_IN_HEADER] = QED_L1_ENTRY_IN_HEADER,
                                           [QED_ENTRY_IN_L1] = QED_L1_ENTRY_INTO_L1,
                                           [QED_ENTRY_PARTIAL] = QED_L1_ENTRY_STRADDLES_EOF,
                                           [QED_ENTRY_OUT_OF_FILE] = QED_L1_ENTRY_OUT_OF_FILE};
    struct qed_walk *walk = scan->walk;
    enum qed_entry_kind kind = qed_l1_entry_kind(&walk->g, entry);

    walk->used_slots++;
    if (kind == QED_ENTRY_IN_HEADER)
        walk->in_header++;
    if (kind != QED_ENTRY_GOOD)
        return note_bad_slot(walk, slot, entry, why[kind], err);
    if (is_excluded(walk, slot))
        return note_bad_slot(walk, slot, entry, QED_L1_ENTRY_OVERLAP, err);
    return l1_entry_vec_push(&scan->good, (struct l1_entry){entry, slot}) < 0 ? vd_fail_memory(err) : 0;
}

static int stop_early(const struct qed_walk *walk, struct vd_err *err)
{
    if (walk->stops_early && (walk->bad_slots_n || walk->bad || walk->shared))
        return vd_fail(err, VD_ERR_REFUSED, 0, "this geometry does not fit");
    return 0;
}

/* Guest bytes of a range that are on the guest's disk. */
static uint64_t on_disk(uint64_t guest, uint64_t bytes, uint64_t image_size)
{
    return guest >= image_size ? 0 : vd_min(bytes, image_size - guest);
}

static int on_l1_piece(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct l1_scan *scan = opaque;
    const uint64_t *entry = (const uint64_t *)(const void *)piece->bytes;

    if (piece->why) {
        uint64_t guest = (piece->at / 8) << scan->walk->g.l1_shift;

        scan->walk->l1_unreadable = true;
        vd_found(scan->ck, QED_L1_TABLE_UNREADABLE, .host = piece->table->span.off + piece->at,
                 .host_bytes = piece->len, .found_text = piece->why->story, .guest = guest,
                 .guest_bytes =
                     on_disk(guest, (uint64_t)(piece->len / 8) << scan->walk->g.l1_shift, scan->image_size));
        return 0;
    }
    if (!piece->bytes)
        return 0;
    words_to_host(piece->bytes, piece->len / 8);
    for (uint32_t i = 0; i < piece->len / 8; i++)
        if (entry[i] && take_l1_entry(scan, (uint32_t)(piece->at / 8 + i), entry[i], err) < 0)
            return -1;
    return 0;
}

static int by_offset_then_slot(const void *a, const void *b)
{
    const struct l1_entry *x = a, *y = b;

    if (x->off != y->off)
        return x->off < y->off ? -1 : 1;
    return (x->slot > y->slot) - (x->slot < y->slot);
}

int qed_table_fit(struct BlockDriverState *bs, const struct qed_geometry *g, uint64_t off, uint64_t len,
                  uint64_t *bad, uint64_t *used, struct vd_err *err)
{
    vd_auto_mem uint64_t *entry = malloc(VD_WINDOW * sizeof(*entry));

    *bad = *used = 0;
    if (!entry)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < len / 8; first += VD_WINDOW) {
        uint64_t n = vd_min(VD_WINDOW, len / 8 - first);

        if (qed_read_entries(bs, off, first, n, entry, NULL) < 0) {
            ++*bad; /* the walk itself reports what cannot be read */
            return 0;
        }
        for (uint64_t i = 0; i < n; i++) {
            enum qed_entry_kind kind = qed_l2_entry_kind(g, entry[i]);

            *used += kind != QED_ENTRY_NONE;
            *bad += kind > QED_ENTRY_GOOD;
        }
    }
    return 0;
}

/* Of two tables that overlap, does the later one in the file fit worse? With equal fit the lower slot stays.
 */
static int second_is_wrong(struct vd_check *ck, struct qed_walk *walk, const struct l1_entry *first,
                           const struct l1_entry *second, bool *is_wrong, struct vd_err *err)
{
    const struct qed_geometry *g = &walk->g;
    uint64_t bad[2], used[2];

    *is_wrong = true;
    if (walk->overlaps_read++ >= MOST_OVERLAPS_READ)
        return 0;
    if (qed_table_fit(ck->bs, g, first->off, g->table_bytes, &bad[0], &used[0], err) < 0 ||
        qed_table_fit(ck->bs, g, second->off, g->table_bytes, &bad[1], &used[1], err) < 0)
        return -1;
    *is_wrong = bad[1] > bad[0] || (bad[1] == bad[0] && second->slot > first->slot);
    return 0;
}

/*
 * From the L1 entries that are good by themselves to the tables: of several entries with one table the lowest
 * slot keeps it, and of tables that overlap the one that reads as a table.
 */
static int settle_tables(struct l1_scan *scan, struct vd_err *err)
{
    struct qed_walk *walk = scan->walk;
    struct l1_entry_vec *good = &scan->good;
    size_t kept = 0;

    if (!good->n)
        return 0;
    qsort(good->v, good->n, sizeof(*good->v), by_offset_then_slot);
    for (size_t i = 1; i < good->n; i++) {
        struct l1_entry *last = &good->v[kept], *next = &good->v[i];
        bool next_is_wrong;

        if (next->off - last->off >= walk->g.table_bytes) {
            good->v[++kept] = *next;
            continue;
        }
        /* Who only asks whether all is well has the answer. */
        if (walk->stops_early)
            return note_bad_slot(walk, next->slot, next->off, QED_L1_ENTRY_OVERLAP, err);
        if (next->off == last->off) {
            if (note_bad_slot(walk, next->slot, next->off, QED_L1_ENTRY_SHARED, err) < 0)
                return -1;
            continue;
        }
        if (second_is_wrong(scan->ck, walk, last, next, &next_is_wrong, err) < 0 ||
            note_bad_slot(walk, next_is_wrong ? next->slot : last->slot,
                          next_is_wrong ? next->off : last->off, QED_L1_ENTRY_OVERLAP, err) < 0)
            return -1;
        if (!next_is_wrong)
            *last = *next;
    }
    good->n = kept + 1;
    return 0;
}

static int claim_tables(struct l1_scan *scan, struct vd_err *err)
{
    struct qed_walk *walk = scan->walk;
    const struct qed_geometry *g = &walk->g;

    for (size_t i = 0; i < scan->good.n; i++) {
        struct l1_entry e = scan->good.v[i];
        struct qed_table table = {.off = e.off, .slot = e.slot};

        if (qed_table_vec_push(&walk->tables, table) < 0)
            return vd_fail_memory(err);
        if (vd_claim(scan->ck, VD_KIND_L2, (struct vd_span){e.off, g->table_bytes},
                     g->l1_off + 8 * (uint64_t)e.slot, NULL, err) < 0)
            return -1;
    }
    return 0;
}

static int walk_l1(struct vd_check *ck, struct qed_walk *walk, uint64_t image_size, struct vd_err *err)
{
    struct l1_scan scan = {.ck = ck, .walk = walk, .image_size = image_size};
    struct vd_scan_table table = {.span = qed_table_span(&walk->g, walk->g.l1_off)};
    int rc = vd_scan(ck->bs->file, &table, 1, ck->budget, on_l1_piece, &scan, err);

    if (rc == 0)
        rc = settle_tables(&scan, err);
    if (rc == 0)
        rc = stop_early(walk, err);
    if (rc == 0)
        rc = claim_tables(&scan, err);
    l1_entry_vec_done(&scan.good);
    return rc;
}

struct l2_scan {
    struct vd_check *ck;
    struct qed_walk *walk;
    uint64_t image_size;
    uint64_t image_clusters;           /* guest clusters of the disk */
    const struct vd_scan_table *table; /* whose pieces come now */
    uint64_t next;                     /* see struct vd_claim_result */
};

/* Entries behind the end of the disk, and the highest mapped guest cluster. */
static void look_at_guest_end(struct l2_scan *scan, struct qed_table *table, const uint64_t *entry,
                              uint64_t first, uint32_t n)
{
    const struct qed_geometry *g = &scan->walk->g;
    uint64_t base = ((uint64_t)table->slot << (g->l1_shift - g->cluster_bits)) + first;

    if (base + n <= scan->image_clusters && scan->walk->max_guest >= (base + n) << g->cluster_bits)
        return;
    for (uint32_t i = n; i > 0; i--) {
        enum qed_entry_kind kind = qed_l2_entry_kind(g, entry[i - 1]);

        if (kind != QED_ENTRY_GOOD && kind != QED_ENTRY_PARTIAL)
            continue;
        scan->walk->max_guest = vd_max(scan->walk->max_guest, (base + i) << g->cluster_bits);
        if (base + i <= scan->image_clusters)
            return;
        scan->walk->beyond++;
        table->has_beyond = true;
    }
}

static int on_l2_piece(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct l2_scan *scan = opaque;
    struct qed_walk *walk = scan->walk;
    struct qed_table *table = &walk->tables.v[piece->table->cookie];
    const struct qed_geometry *g = &walk->g;
    struct vd_claim_result result = {0};
    struct vd_claim_batch batch = {.n = piece->len / 8,
                                   .zero = QED_ZERO_CLUSTER,
                                   .lo = g->header_end,
                                   .hi = vd_max(g->file_end, g->header_end)};

    if (piece->why) {
        uint64_t guest = qed_guest(g, table->slot, piece->at / 8);

        table->is_unreadable = true;
        VD_AT(scan->ck, "L1", table->slot);
        vd_found(scan->ck, QED_L2_TABLE_UNREADABLE, .host = piece->table->span.off + piece->at,
                 .host_bytes = piece->len, .found_text = piece->why->story, .guest = guest,
                 .guest_bytes =
                     on_disk(guest, (uint64_t)(piece->len / 8) << g->cluster_bits, scan->image_size));
        return 0;
    }
    if (!piece->bytes)
        return 0;
    words_to_host(piece->bytes, batch.n);
    batch.offsets = (const uint64_t *)(const void *)piece->bytes;
    result.next = piece->table == scan->table ? scan->next : 0;
    if (vd_claim_table(scan->ck, &batch, &result, err) < 0)
        return -1;
    scan->table = piece->table;
    scan->next = result.next;
    table->bad += (uint32_t)result.bad;
    table->used += (uint32_t)(result.allocated + result.zeroes + result.bad);
    walk->bad += result.bad;
    walk->shared += result.shared;
    walk->allocated += result.allocated;
    walk->zeroes += result.zeroes;
    walk->fragmented += result.fragmented;
    look_at_guest_end(scan, table, batch.offsets, piece->at / 8, (uint32_t)batch.n);
    return stop_early(walk, err);
}

static int walk_l2(struct vd_check *ck, struct qed_walk *walk, uint64_t image_size, struct vd_err *err)
{
    struct l2_scan scan = {.ck = ck, .walk = walk};
    vd_auto_mem struct vd_scan_table *list = NULL;
    const struct qed_geometry *g = &walk->g;

    scan.image_size = image_size;
    scan.image_clusters = vd_div_up(image_size, g->cluster_size);
    if (!walk->tables.n)
        return 0;
    list = calloc(walk->tables.n, sizeof(*list));
    if (!list)
        return vd_fail_memory(err);
    for (size_t i = 0; i < walk->tables.n; i++)
        list[i] = (struct vd_scan_table){.span = qed_table_span(g, walk->tables.v[i].off), .cookie = i};
    return vd_scan(ck->bs->file, list, walk->tables.n, ck->budget, on_l2_piece, &scan, err);
}

static bool meets_data(struct vd_check *ck, const struct qed_geometry *g, uint64_t table_off)
{
    for (uint64_t at = 0; at < g->table_bytes; at += g->cluster_size)
        if (vd_is_shared(ck, table_off + at))
            return true;
    return false;
}

static void find_tables_on_data(struct vd_check *ck, struct qed_walk *walk)
{
    if (!walk->shared)
        return;
    walk->l1_meets_data = meets_data(ck, &walk->g, walk->g.l1_off);
    for (size_t i = 0; i < walk->tables.n; i++)
        walk->tables.v[i].meets_data = meets_data(ck, &walk->g, walk->tables.v[i].off);
}

int qed_walk(struct vd_check *ck, const struct qed_geometry *g, uint64_t image_size, struct qed_walk *walk,
             struct vd_err *err)
{
    uint64_t ignored;

    walk->g = *g;
    if (vd_begin_map(ck, VD_MAP_BITS, g->cluster_bits, g->file_end >> g->cluster_bits, err) < 0 ||
        vd_claim(ck, VD_KIND_HEADER, (struct vd_span){0, vd_min(g->header_end, g->file_end)}, VD_NOWHERE,
                 &ignored, err) < 0 ||
        vd_claim(ck, VD_KIND_L1, (struct vd_span){g->l1_off, g->table_bytes}, 40, &ignored, err) < 0)
        return -1;
    walk->l1_is_hole = bdrv_is_hole(ck->bs->file, (int64_t)g->l1_off, (int64_t)g->table_bytes);
    if (walk_l1(ck, walk, image_size, err) < 0 || walk_l2(ck, walk, image_size, err) < 0)
        return -1;
    find_tables_on_data(ck, walk);
    return 0;
}

const struct qed_table *qed_walk_find(const struct qed_walk *walk, uint64_t off)
{
    size_t lo = 0, hi = walk->tables.n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (walk->tables.v[mid].off < off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < walk->tables.n && walk->tables.v[lo].off == off ? &walk->tables.v[lo] : NULL;
}

void qed_walk_done(struct qed_walk *walk)
{
    qed_table_vec_done(&walk->tables);
    qed_bad_slot_vec_done(&walk->bad_slots);
    qed_bad_slot_vec_done(&walk->excluded);
}

int qed_read_entries(struct BlockDriverState *bs, uint64_t table_off, uint64_t first, uint64_t n,
                     uint64_t *entry, struct vd_err *err)
{
    if (bdrv_pread_padded(bs->file, (int64_t)(table_off + 8 * first), (int64_t)(8 * n), entry, err) < 0)
        return -1;
    words_to_host((uint8_t *)entry, n);
    return 0;
}
