/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From counts to findings: the entries and tables that the walk found wrong are read again, named, and
 * judged.
 *
 * What a repair would write is decided here, before the sink is asked, from what this image proves: an orphan
 * that is the only one for the only bad slot, bits whose masking leaves a cluster that nobody has, a write
 * that the format itself says never completed. Everything less is level `all` or none.
 */
#include "formats/qed/qed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "formats/base/bytes.h"
#include "formats/node/scan.h"

/* References to shared clusters beyond this many are counted, not kept; another round gets to them. */
enum { MOST_REFERENCES = 1 << 20 };

/* Bytes that copies may always take. */
#define LITTLE_COPIED ((uint64_t)256 << 20)

VD_VEC(u64_vec, uint64_t)

struct judge {
    struct vd_check *ck;
    struct qed_walk *walk;
    const struct qed_geometry *g;
    struct vd_runs *free_clusters;
    struct qed_orphan_vec *orphans;
    uint64_t image_size;
    bool need_check, has_backing;
    uint64_t room;           /* bytes that clones may still take */
    uint64_t shared_told;    /* references to clusters that something else claims */
    uint64_t grown_end;      /* where the file ends with all that was promised so far */
    uint64_t past_end;       /* the lowest place behind the file's end that an entry names which may stay */
    uint64_t past_kept;      /* the same of entries that stay at every level of this round */
    struct vd_runs orphaned; /* clusters of orphaned tables, and what those name */
    struct u64_vec masked;   /* where misaligned entries would point with their stray bits masked; sorted */
};

/* Guest bytes of a range that are on the guest's disk. */
static uint64_t guest_bytes(const struct judge *j, uint64_t guest, uint64_t bytes)
{
    return guest >= j->image_size ? 0 : vd_min(bytes, j->image_size - guest);
}

/*
 * The level of a repair that writes into a table; NULL is the L1 table. Where a guest's data lies at the same
 * place, it would be written into that: the guest gets its copy first, and then the table is one like others.
 * While parts of the tables cannot be read, nobody knows whether that is so. Level 0 is that of the finding.
 */
static enum vd_level level_inside(const struct judge *j, const struct qed_table *table, enum vd_level level)
{
    return j->ck->map_is_incomplete || (table ? table->meets_data : j->walk->l1_meets_data) ? VD_LEVEL_NONE
                                                                                            : level;
}

/*
 * The level of a repair that makes the file longer. An entry that points past the end would lead into what is
 * appended, and read as data that is not its own; so only level `all`, which clears such entries first, lets
 * the file grow over what they name, and none where it does not clear them.
 */
static enum vd_level level_of_growth(struct judge *j, uint64_t end)
{
    if (end > j->past_kept)
        return VD_LEVEL_NONE;
    if (end > j->past_end)
        return VD_LEVEL_ALL;
    j->grown_end = vd_max(j->grown_end, end);
    return VD_LEVEL_SAFE;
}

/* An entry names from and more, behind the end of the file; level is that of its repair. */
static void note_past_end(struct judge *j, uint64_t from, enum vd_level level)
{
    from = vd_max(from, j->g->file_end);
    j->past_end = vd_min(j->past_end, from);
    if (level == VD_LEVEL_NONE)
        j->past_kept = vd_min(j->past_kept, from);
}

/* The level of a repair that needs new clusters: none where a device has no room for them. */
static enum vd_level level_of_clone(struct judge *j, uint64_t bytes)
{
    if (bytes > j->room || j->ck->map_is_incomplete)
        return VD_LEVEL_NONE;
    j->room -= bytes;
    return bdrv_is_fixed_length(j->ck->bs) ? VD_LEVEL_SAFE : level_of_growth(j, j->grown_end + bytes);
}

/* What copies for all that is shared would take, in bytes. */
static uint64_t need_of_clones(const struct qed_walk *walk)
{
    uint64_t need = vd_mul_sat(walk->shared, walk->g.cluster_size);

    for (size_t i = 0; i < walk->bad_slots.n; i++) {
        const struct qed_table *owner = walk->bad_slots.v[i].why == QED_L1_ENTRY_SHARED
                                            ? qed_walk_find(walk, walk->bad_slots.v[i].entry)
                                            : NULL;

        if (owner)
            need = vd_add_sat(need, walk->g.table_bytes + vd_mul_sat(owner->used, walk->g.cluster_size));
    }
    return need;
}

/*
 * Bytes that clones may take. A few tables can name one cluster, or each other, so often that copies for all
 * would fill any disk: copies are made only where they take no more than twice what the image holds, or
 * little.
 */
static uint64_t room_of_clones(struct vd_check *ck, const struct qed_walk *walk)
{
    uint64_t holds =
        vd_add_sat(vd_mul_sat(walk->allocated - vd_min(walk->shared, walk->allocated), walk->g.cluster_size),
                   vd_mul_sat(walk->tables.n, walk->g.table_bytes));
    uint64_t need = need_of_clones(walk);

    return need > LITTLE_COPIED && need > vd_mul_sat(holds, 2) ? 0 : qed_append_room(ck);
}

/* ---- L1 entries */

/* Does the orphan's mapping end on the guest's disk when it is put into this slot? */
static bool orphan_fits(const struct judge *j, const struct qed_orphan *orphan, uint32_t slot)
{
    return qed_guest(j->g, slot, orphan->last) < j->image_size;
}

/* Is every cluster that nobody names part of this orphan, and every table a table? Else something else is
 * lost, too, and the orphan may be its. */
static bool explains_all(const struct judge *j, const struct qed_orphan *orphan)
{
    for (size_t i = 0; i < j->walk->tables.n; i++)
        if (qed_is_mass_damage(j->walk->tables.v[i].bad, j->walk->tables.v[i].used))
            return false;
    return vd_runs_total(j->free_clusters) == (j->g->table_bytes >> j->g->cluster_bits) + orphan->targets;
}

/* Is what stands in the bad slot, but for stray low bits, a table that another slot names? Then it may be
 * that one's entry that is wrong, and which of the two lost its table is open. */
static bool names_anothers(const struct judge *j, const struct qed_bad_slot *bad)
{
    uint64_t masked = vd_align_down(bad->entry, j->g->cluster_size);

    for (size_t i = 0; bad->why == QED_L1_ENTRY_MISALIGNED && i < j->walk->tables.n; i++)
        if (j->walk->tables.v[i].off == masked)
            return true;
    return false;
}

/* The one orphan that proves itself for this bad slot, or NULL. */
static const struct qed_orphan *proven_orphan(const struct judge *j, const struct qed_bad_slot *bad)
{
    struct qed_orphan_vec *orphans = j->orphans;

    if (bad->why == QED_L1_ENTRY_SHARED || j->walk->bad_slots_n != 1 || orphans->n != 1 ||
        !orphans->is_complete || !orphans->are_distinct || orphans->v[0].odd || j->ck->map_is_incomplete ||
        !orphan_fits(j, &orphans->v[0], bad->slot) || !explains_all(j, &orphans->v[0]) ||
        names_anothers(j, bad))
        return NULL;
    orphans->v[0].is_proven = true;
    return &orphans->v[0];
}

/* The offset under stray low bits, where it is that of an orphaned table; else 0. */
static uint64_t masked_table(const struct judge *j, const struct qed_bad_slot *bad)
{
    uint64_t masked = vd_align_down(bad->entry, j->g->cluster_size);
    struct qed_orphan *orphan = NULL;
    unsigned named = 0;

    if (bad->why != QED_L1_ENTRY_MISALIGNED || !j->orphans->are_distinct || j->ck->map_is_incomplete ||
        j->walk->bad_slots_n > j->walk->bad_slots.n)
        return 0;
    for (size_t i = 0; i < j->orphans->n; i++)
        if (j->orphans->v[i].off == masked && orphan_fits(j, &j->orphans->v[i], bad->slot))
            orphan = &j->orphans->v[i];
    for (size_t i = 0; orphan && i < j->walk->bad_slots.n && named < 2; i++)
        named += vd_align_down(j->walk->bad_slots.v[i].entry, j->g->cluster_size) == masked;
    if (named != 1)
        return 0;
    orphan->is_proven = true;
    return masked;
}

/* Does a whole table lie where this one would? Then that one is the lost one, and the entry strays. */
static bool meets_orphan(const struct judge *j, uint64_t entry)
{
    for (size_t i = 0; i < j->orphans->n; i++)
        if (vd_spans_meet((struct vd_span){entry, j->g->table_bytes},
                          (struct vd_span){j->orphans->v[i].off, j->g->table_bytes}))
            return true;
    return false;
}

/* Is the part of a table that is in the file unclaimed and sound? */
static int sound_straddler(const struct judge *j, const struct qed_bad_slot *bad, bool *is_sound,
                           struct vd_err *err)
{
    /* A torn last entry reads as if zeroes followed. */
    uint64_t there = vd_align_up_sat(j->g->file_size - bad->entry, 8),
             n = (j->g->file_end - bad->entry) >> j->g->cluster_bits;
    uint64_t wrong = 0, used = 0;

    *is_sound = false;
    if (meets_orphan(j, bad->entry) ||
        (n && !vd_runs_has_all(j->free_clusters, bad->entry >> j->g->cluster_bits, n)))
        return 0;
    if (qed_table_fit(j->ck->bs, j->g, bad->entry, there, &wrong, &used, err) < 0)
        return -1;
    *is_sound = used && !wrong && !bdrv_is_fixed_length(j->ck->bs);
    return 0;
}

/* The table and what it names are reached by nothing any more, where a round before this one took them for
 * used. */
static int give_up_table(const struct judge *j, uint64_t off, struct vd_err *err)
{
    vd_auto_mem uint64_t *entry = NULL;

    if (!vd_span_within((struct vd_span){off, j->g->table_bytes}, j->g->file_end) ||
        !vd_is_aligned(off, j->g->cluster_size))
        return 0;
    entry = malloc(VD_WINDOW * sizeof(*entry));
    if (!entry)
        return vd_fail_memory(err);
    vd_gave_up(j->ck, (struct vd_span){off, j->g->table_bytes});
    for (uint64_t first = 0; first < j->g->table_n; first += VD_WINDOW) {
        uint64_t n = vd_min(VD_WINDOW, j->g->table_n - first);

        if (vd_budget_go_on(j->ck->budget, err) < 0)
            return -1;
        if (qed_read_entries(j->ck->bs, off, first, n, entry, NULL) < 0)
            continue; /* the walk has reported it */
        for (uint64_t i = 0; i < n; i++)
            if (qed_l2_entry_kind(j->g, entry[i]) == QED_ENTRY_GOOD)
                vd_gave_up(j->ck, (struct vd_span){entry[i], j->g->cluster_size});
    }
    return 0;
}

/* Behind the end of the disk nobody reads the range: there the entry is cleared, for a copy would be waste. A
 * copy of a table that has wrong entries would double them, so these come first. */
static enum vd_level level_of_table_clone(struct judge *j, const struct qed_table *owner,
                                          uint64_t guest_bytes)
{
    if (!guest_bytes)
        return VD_LEVEL_ALL;
    if (!owner || owner->is_unreadable)
        return VD_LEVEL_NONE;
    return (enum vd_level)vd_max(
        level_of_clone(j, j->g->table_bytes + ((uint64_t)owner->used << j->g->cluster_bits)),
        owner->bad ? VD_LEVEL_ALL : VD_LEVEL_SAFE);
}

static int judge_shared_slot(struct judge *j, const struct qed_bad_slot *bad, struct vd_err *err)
{
    const struct qed_table *owner = qed_walk_find(j->walk, bad->entry);
    uint64_t guest = qed_guest(j->g, bad->slot, 0), bytes = guest_bytes(j, guest, qed_slot_bytes(j->g));

    if (vd_found(j->ck, QED_L1_ENTRY_SHARED, .host = j->g->l1_off + 8 * (uint64_t)bad->slot, .guest = guest,
                 .guest_bytes = bytes, .found = bad->entry,
                 .level = level_inside(j, NULL, level_of_table_clone(j, owner, bytes)),
                 .note = owner && owner->bad ? "the table has wrong entries itself, which a copy would double"
                                             : NULL,
                 .other_guest = owner ? qed_guest(j->g, owner->slot, 0) : VD_NOWHERE,
                 .other_host = owner ? j->g->l1_off + 8 * (uint64_t)owner->slot : VD_NOWHERE) == VD_LEAVE)
        return 0;
    return bytes ? qed_fix_clone_table(j->ck, bad->slot, bad->entry, err)
                 : qed_fix_l1_entry(j->ck, bad->slot, 0, err);
}

/* No crash of a program leaves such a table, only a file that lost its end: what the missing part mapped
 * reads as unallocated afterwards, which may be a base's old data. */
static int judge_straddler(struct judge *j, const struct qed_bad_slot *bad, struct vd_err *err)
{
    uint64_t guest = qed_guest(j->g, bad->slot, 0), end = bad->entry + j->g->table_bytes;
    enum vd_level level = level_inside(j, NULL, (enum vd_level)vd_max(level_of_growth(j, end), VD_LEVEL_ALL));

    /* What a lower level appended would be the missing part of the table. */
    note_past_end(j, bad->entry, level);
    if (vd_found(j->ck, bad->why, .host = j->g->l1_off + 8 * (uint64_t)bad->slot, .guest = guest,
                 .guest_bytes = guest_bytes(j, guest, qed_slot_bytes(j->g)), .found = bad->entry,
                 .level = level) == VD_FIX)
        return qed_fix_extend(j->ck, end, err);
    return 0;
}

static int judge_slot(struct judge *j, const struct qed_bad_slot *bad, struct vd_err *err)
{
    const struct qed_orphan *orphan = proven_orphan(j, bad);
    uint64_t host = j->g->l1_off + 8 * (uint64_t)bad->slot, guest = qed_guest(j->g, bad->slot, 0);
    uint64_t bytes = guest_bytes(j, guest, qed_slot_bytes(j->g)), masked = masked_table(j, bad);
    enum vd_level level = level_inside(j, NULL, orphan ? VD_LEVEL_SAFE : VD_LEVEL_ALL);

    if (masked) {
        if (vd_found(j->ck, QED_L1_ENTRY_RESERVED, .host = host, .guest = guest, .guest_bytes = bytes,
                     .found = bad->entry, .expected = masked, .level = level_inside(j, NULL, 0)) == VD_FIX)
            return qed_fix_l1_entry(j->ck, bad->slot, masked, err);
        return 0;
    }
    /* More of a table that straddles the end would be there with any growth. */
    if ((bad->why == QED_L1_ENTRY_OUT_OF_FILE || bad->why == QED_L1_ENTRY_STRADDLES_EOF) &&
        level != VD_LEVEL_SAFE)
        note_past_end(j, bad->entry, level);
    if (vd_found(j->ck, bad->why, .host = host, .guest = guest, .guest_bytes = bytes, .found = bad->entry,
                 .expected = orphan ? orphan->off : VD_NOWHERE, .level = level) == VD_LEAVE)
        return 0;
    if (!orphan && give_up_table(j, bad->entry, err) < 0)
        return -1;
    return qed_fix_l1_entry(j->ck, bad->slot, orphan ? orphan->off : 0, err);
}

/* Slots whose repair makes the file longer are judged last, behind all that points past its end. */
static int judge_slots(struct judge *j, bool growing, struct vd_err *err)
{
    for (size_t i = 0; i < j->walk->bad_slots.n; i++) {
        const struct qed_bad_slot *bad = &j->walk->bad_slots.v[i];
        bool is_shared = bad->why == QED_L1_ENTRY_SHARED, is_sound = false;
        int rc;

        if (bad->why == QED_L1_ENTRY_STRADDLES_EOF) {
            j->walk->tail_is_referenced = true;
            if (sound_straddler(j, bad, &is_sound, err) < 0)
                return -1;
        }
        if ((is_shared || is_sound) != growing)
            continue;
        VD_AT(j->ck, "L1", bad->slot);
        rc = is_shared  ? judge_shared_slot(j, bad, err)
             : is_sound ? judge_straddler(j, bad, err)
                        : judge_slot(j, bad, err);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* What is too much to be kept place by place is counted. A repair that takes the others has room for it then:
 * each of its rounds looks anew. */
static void found_more(struct judge *j, enum qed_finding finding, uint64_t n)
{
    if (n)
        (void)vd_found(j->ck, finding, .host = VD_NOWHERE, .guest = VD_NOWHERE, .count = n,
                       .level = VD_LEVEL_ALL, .note = "counted, and not told one by one: there are too many");
}

static void judge_all_slots(struct judge *j)
{
    if (qed_is_mass_damage(j->walk->bad_slots_n, j->walk->used_slots))
        vd_found(j->ck, QED_L1_TABLE_GARBAGE, .host = j->g->l1_off, .host_bytes = j->g->table_bytes);
    for (unsigned why = 0; why < QED_FINDINGS_END; why++)
        found_more(j, (enum qed_finding)why, j->walk->bad_slots_more[why]);
}

/* ---- L2 entries that name nothing good */

typedef int entry_fn(struct judge *j, const struct qed_table *table, uint64_t i, uint64_t entry,
                     struct vd_err *err);

/* Calls fn for each entry of a table that is of a kind behind GOOD. */
static int each_bad_entry(struct judge *j, const struct qed_table *table, entry_fn *fn, struct vd_err *err)
{
    vd_auto_mem uint64_t *entry = malloc(VD_WINDOW * sizeof(*entry));

    if (!entry)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < j->g->table_n; first += VD_WINDOW) {
        uint64_t n = vd_min(VD_WINDOW, j->g->table_n - first);

        if (vd_budget_go_on(j->ck->budget, err) < 0)
            return -1;
        if (qed_read_entries(j->ck->bs, table->off, first, n, entry, NULL) < 0)
            continue; /* the walk has reported it */
        for (uint64_t i = 0; i < n; i++)
            if (qed_l2_entry_kind(j->g, entry[i]) > QED_ENTRY_GOOD &&
                fn(j, table, first + i, entry[i], err) < 0)
                return -1;
    }
    return 0;
}

static int note_masked(struct judge *j, const struct qed_table *table, uint64_t i, uint64_t entry,
                       struct vd_err *err)
{
    uint64_t masked = vd_align_down(entry, j->g->cluster_size);

    (void)table;
    (void)i;
    if (qed_l2_entry_kind(j->g, entry) != QED_ENTRY_MISALIGNED || j->masked.n >= MOST_REFERENCES)
        return 0;
    return u64_vec_push(&j->masked, masked) < 0 ? vd_fail_memory(err) : 0;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The cluster under stray low bits, where nobody else has it, names it or might; else 0. */
static uint64_t masked_cluster(struct judge *j, uint64_t entry)
{
    uint64_t masked = vd_align_down(entry, j->g->cluster_size);
    const uint64_t *at;

    if (qed_l2_entry_kind(j->g, masked) != QED_ENTRY_GOOD || j->ck->map_is_incomplete ||
        !vd_runs_has(j->free_clusters, masked >> j->g->cluster_bits) ||
        vd_runs_has(&j->orphaned, masked >> j->g->cluster_bits) || j->masked.n >= MOST_REFERENCES)
        return 0;
    at = bsearch(&masked, j->masked.v, j->masked.n, sizeof(masked), by_number);
    if (!at || (at > j->masked.v && at[-1] == masked) ||
        (at + 1 < j->masked.v + j->masked.n && at[1] == masked))
        return 0;
    return masked;
}

/* How many of the n entries before entry i continue down from it, a cluster each? Counted from the nearest.
 */
static uint64_t run_before(const struct qed_geometry *g, const uint64_t *before, uint64_t n, uint64_t next)
{
    uint64_t fit = 0;

    for (; fit < n && qed_l2_entry_kind(g, before[n - 1 - fit]) == QED_ENTRY_GOOD; fit++)
        if (before[n - 1 - fit] + (fit + 1) * g->cluster_size != next)
            break;
    return fit;
}

/* Is entry i the one that QEMU links too many behind a run of at least cluster_size - 1 clusters? The nearest
 * are asked first, and more each time: where many entries are wrong, each is done after a look. */
static int is_run_overrun(struct judge *j, const struct qed_table *table, uint64_t i, uint64_t entry,
                          bool *is, struct vd_err *err)
{
    uint64_t run = j->g->cluster_size - 1, done = 0, n;
    vd_auto_mem uint64_t *before = NULL;

    *is = false;
    if (i < run || vd_runs_total(j->free_clusters) != 1)
        return 0;
    before = malloc(VD_WINDOW * sizeof(*before));
    if (!before)
        return vd_fail_memory(err);
    for (n = 1; done < run; n = vd_min(2 * n, VD_WINDOW)) {
        n = vd_min(n, run - done);
        if (qed_read_entries(j->ck->bs, table->off, i - done - n, n, before, NULL) < 0 ||
            run_before(j->g, before, n, entry - done * j->g->cluster_size) < n)
            return 0;
        done += n;
    }
    *is = true;
    return 0;
}

/* A write that never completed: the only reading of an entry past the end where nothing else explains it. */
static bool is_lost_write(const struct judge *j)
{
    return j->need_check && !j->has_backing && !j->ck->map_is_incomplete && j->free_clusters->n == 0 &&
           j->walk->bad_slots_n == 0 && j->g->file_size == j->g->file_end;
}

static int judge_past_end(struct judge *j, const struct qed_table *table, uint64_t i, uint64_t entry,
                          uint64_t host, uint64_t guest, uint64_t bytes, struct vd_err *err)
{
    enum vd_level level = level_inside(j, table, is_lost_write(j) ? VD_LEVEL_SAFE : VD_LEVEL_ALL);
    bool is_overrun;

    if (level != VD_LEVEL_SAFE)
        note_past_end(j, entry, level);
    if (is_run_overrun(j, table, i, entry, &is_overrun, err) < 0)
        return -1;
    if (is_overrun) {
        uint64_t orphan = j->free_clusters->v[0].first << j->g->cluster_bits;

        if (vd_found(j->ck, QED_L2_RUN_OVERRUN, .host = host, .guest = guest, .guest_bytes = bytes,
                     .found = entry, .expected = orphan, .level = level_inside(j, table, 0)) == VD_FIX)
            return qed_fix_l2_entry(j->ck, table->off, i, orphan, err);
        return 0;
    }
    if (vd_found(j->ck, QED_L2_ENTRY_OUT_OF_FILE, .host = host, .guest = guest, .guest_bytes = bytes,
                 .found = entry, .level = level) == VD_FIX)
        return qed_fix_l2_entry(j->ck, table->off, i, 0, err);
    return 0;
}

static int judge_entry(struct judge *j, const struct qed_table *table, uint64_t i, uint64_t entry,
                       struct vd_err *err)
{
    uint64_t host = table->off + 8 * i, guest = qed_guest(j->g, table->slot, i), masked = 0;
    uint64_t bytes = guest_bytes(j, guest, j->g->cluster_size);
    enum qed_finding finding = QED_L2_ENTRY_RESERVED;

    VD_AT(j->ck, "L2", i);
    switch (qed_l2_entry_kind(j->g, entry)) {
    case QED_ENTRY_PARTIAL:
        j->walk->tail_is_referenced = true;
        if (vd_found(j->ck, QED_L2_ENTRY_PARTIAL_TAIL, .host = host, .guest = guest, .guest_bytes = bytes,
                     .found = entry,
                     .level = bdrv_is_fixed_length(j->ck->bs)
                                  ? VD_LEVEL_NONE
                                  : level_of_growth(j, entry + j->g->cluster_size)) == VD_FIX)
            return qed_fix_extend(j->ck, entry + j->g->cluster_size, err);
        return 0;
    case QED_ENTRY_OUT_OF_FILE:
        return judge_past_end(j, table, i, entry, host, guest, bytes, err);
    case QED_ENTRY_MISALIGNED:
        finding = QED_L2_ENTRY_MISALIGNED;
        masked = masked_cluster(j, entry);
        break;
    case QED_ENTRY_IN_HEADER:
        finding = QED_L2_ENTRY_IN_HEADER;
        break;
    default:
        break;
    }
    if (vd_found(j->ck, finding, .host = host, .guest = guest, .guest_bytes = bytes, .found = entry,
                 .expected = masked ? masked : VD_NOWHERE,
                 .level = level_inside(j, table, masked ? VD_LEVEL_SAFE : VD_LEVEL_ALL)) == VD_FIX)
        return qed_fix_l2_entry(j->ck, table->off, i, masked, err);
    return 0;
}

static int clear_entry(struct judge *j, const struct qed_table *table, uint64_t i, uint64_t entry,
                       struct vd_err *err)
{
    (void)entry;
    return qed_fix_l2_entry(j->ck, table->off, i, 0, err);
}

static int keep_entry(struct judge *j, const struct qed_table *table, uint64_t i, uint64_t entry,
                      struct vd_err *err)
{
    (void)table;
    (void)i;
    (void)err;
    if (qed_l2_entry_kind(j->g, entry) == QED_ENTRY_OUT_OF_FILE)
        note_past_end(j, entry, VD_LEVEL_NONE);
    return 0;
}

static int judge_garbage(struct judge *j, const struct qed_table *table, struct vd_err *err)
{
    uint64_t guest = qed_guest(j->g, table->slot, 0);
    enum vd_level level = level_inside(j, table, VD_LEVEL_ALL);
    char found[64];

    if (level == VD_LEVEL_NONE && each_bad_entry(j, table, keep_entry, err) < 0)
        return -1;
    snprintf(found, sizeof(found), "%" PRIu32 " of %" PRIu32 " entries invalid", table->bad, table->used);
    if (vd_found(j->ck, QED_L2_TABLE_GARBAGE, .host = table->off, .guest = guest,
                 .guest_bytes = guest_bytes(j, guest, qed_slot_bytes(j->g)), .found_text = found,
                 .level = level, .count = table->bad) == VD_FIX)
        return each_bad_entry(j, table, clear_entry, err);
    return 0;
}

static int judge_bad_tables(struct judge *j, struct vd_err *err)
{
    const struct qed_table_vec *tables = &j->walk->tables;

    for (size_t i = 0; i < tables->n; i++)
        if (tables->v[i].bad && !qed_is_mass_damage(tables->v[i].bad, tables->v[i].used) &&
            each_bad_entry(j, &tables->v[i], note_masked, err) < 0)
            return -1;
    if (j->masked.n) {
        qsort(j->masked.v, j->masked.n, sizeof(*j->masked.v), by_number);
        for (size_t i = 0; i < j->orphans->n; i++)
            if (qed_orphan_clusters(j->ck->bs, j->g, j->free_clusters, &j->orphans->v[i], &j->orphaned, err) <
                0)
                return -1;
    }
    for (size_t i = 0; i < tables->n; i++) {
        const struct qed_table *table = &tables->v[i];
        bool is_garbage = qed_is_mass_damage(table->bad, table->used);

        if (!table->bad)
            continue;
        VD_AT(j->ck, "L1", table->slot);
        if ((is_garbage ? judge_garbage(j, table, err) : each_bad_entry(j, table, judge_entry, err)) < 0)
            return -1;
    }
    return 0;
}

/* ---- clusters that more than one structure claims */

struct reference {
    uint64_t cluster_off;
    uint64_t guest;
    uint64_t entry_off;
    const struct qed_table *table; /* that the entry stands in */
};

VD_VEC(reference_vec, struct reference)

struct gather {
    struct judge *j;
    struct reference_vec refs;
};

static int on_piece(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct gather *gather = opaque;
    const struct judge *j = gather->j;
    const struct qed_table *table = &j->walk->tables.v[piece->table->cookie];

    if (!piece->bytes)
        return 0;
    for (uint32_t i = 0; i < piece->len / 8 && gather->refs.n < MOST_REFERENCES; i++) {
        uint64_t e = vd_get_le64(piece->bytes + 8 * i), index = piece->at / 8 + i;
        struct reference ref = {e, qed_guest(j->g, table->slot, index), table->off + 8 * index, table};

        if (qed_l2_entry_kind(j->g, e) != QED_ENTRY_GOOD || !vd_is_shared(j->ck, e))
            continue;
        if (reference_vec_push(&gather->refs, ref) < 0)
            return vd_fail_memory(err);
    }
    return 0;
}

static int gather_references(struct gather *gather, struct vd_err *err)
{
    const struct judge *j = gather->j;
    const struct qed_table_vec *tables = &j->walk->tables;
    vd_auto_mem struct vd_scan_table *list = calloc(tables->n + 1, sizeof(*list));

    if (!list)
        return vd_fail_memory(err);
    for (size_t i = 0; i < tables->n; i++)
        list[i] = (struct vd_scan_table){.span = qed_table_span(j->g, tables->v[i].off), .cookie = i};
    return vd_scan(j->ck->bs->file, list, tables->n, j->ck->budget, on_piece, gather, err);
}

static int by_cluster_then_guest(const void *a, const void *b)
{
    const struct reference *x = a, *y = b;

    if (x->cluster_off != y->cluster_off)
        return x->cluster_off < y->cluster_off ? -1 : 1;
    return (x->guest > y->guest) - (x->guest < y->guest);
}

static bool leads_into(const struct judge *j, const struct reference *ref, const struct qed_table *table)
{
    return ref->cluster_off >= table->off && ref->cluster_off - table->off < j->g->table_bytes;
}

/* May the entry of reference i be turned to a copy? That it leads into its own table itself is no hindrance,
 * for the copy is of the table as it was; where others do, theirs come first. */
static bool may_turn(const struct judge *j, const struct reference_vec *refs, size_t i)
{
    const struct reference *ref = &refs->v[i];

    if (!ref->table->meets_data)
        return true;
    return refs->n < MOST_REFERENCES && leads_into(j, ref, ref->table) &&
           (i == 0 || !leads_into(j, ref - 1, ref->table)) &&
           (i + 1 == refs->n || !leads_into(j, ref + 1, ref->table));
}

static int judge_reference(struct judge *j, const struct reference *ref, const struct reference *owner,
                           bool may_turn, struct vd_err *err)
{
    static const enum qed_finding into[VD_KINDS_END] = {[VD_KIND_L1] = QED_L2_ENTRY_INTO_L1,
                                                        [VD_KIND_L2] = QED_L2_ENTRY_INTO_L2,
                                                        [VD_KIND_DATA] = QED_L2_ENTRY_SHARED};
    uint64_t slot = ref->guest >> j->g->l1_shift;
    uint64_t i = (ref->guest & (qed_slot_bytes(j->g) - 1)) >> j->g->cluster_bits;
    enum vd_kind kind = vd_kind_at(j->ck, ref->cluster_off, NULL);

    if (kind == VD_KIND_DATA && ref == owner)
        return 0;
    j->shared_told++;
    if (kind != VD_KIND_L1 && kind != VD_KIND_L2)
        kind = VD_KIND_DATA;
    VD_AT(j->ck, "L1", slot);
    VD_AT(j->ck, "L2", i);
    if (vd_found(j->ck, into[kind], .host = ref->entry_off, .guest = ref->guest,
                 .guest_bytes = guest_bytes(j, ref->guest, j->g->cluster_size), .found = ref->cluster_off,
                 .level = may_turn ? level_of_clone(j, j->g->cluster_size) : VD_LEVEL_NONE,
                 .other_guest = kind == VD_KIND_DATA ? owner->guest : VD_NOWHERE,
                 .other_host = kind == VD_KIND_DATA ? owner->entry_off : VD_NOWHERE) == VD_FIX)
        return qed_fix_clone_cluster(j->ck, ref->entry_off - 8 * i, i, ref->cluster_off, err);
    return 0;
}

static int judge_shared(struct judge *j, struct vd_err *err)
{
    struct gather gather = {.j = j};
    const struct reference *owner = NULL;
    int rc = 0;

    if (j->walk->shared)
        rc = gather_references(&gather, err);
    if (rc == 0 && gather.refs.n)
        qsort(gather.refs.v, gather.refs.n, sizeof(*gather.refs.v), by_cluster_then_guest);
    for (size_t i = 0; rc == 0 && i < gather.refs.n; i++) {
        if (!owner || owner->cluster_off != gather.refs.v[i].cluster_off)
            owner = &gather.refs.v[i];
        rc = judge_reference(j, &gather.refs.v[i], owner, may_turn(j, &gather.refs, i), err);
    }
    if (rc == 0 && gather.refs.n == MOST_REFERENCES)
        found_more(j, QED_L2_ENTRY_SHARED, j->walk->shared - vd_min(j->walk->shared, j->shared_told));
    reference_vec_done(&gather.refs);
    return rc;
}

/* ---- what is legal and odd */

static int judge_beyond_entries(struct judge *j, const struct qed_table *table, struct vd_err *err)
{
    vd_auto_mem uint64_t *entry = malloc(VD_WINDOW * sizeof(*entry));

    if (!entry)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < j->g->table_n; first += VD_WINDOW) {
        uint64_t n = vd_min(VD_WINDOW, j->g->table_n - first);

        if (qed_read_entries(j->ck->bs, table->off, first, n, entry, NULL) < 0)
            continue;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t guest = qed_guest(j->g, table->slot, first + i);

            if (guest < j->image_size || qed_l2_entry_kind(j->g, entry[i]) != QED_ENTRY_GOOD)
                continue;
            VD_AT(j->ck, "L2", first + i);
            vd_found(j->ck, QED_L2_ENTRY_BEYOND_SIZE, .host = table->off + 8 * (first + i), .guest = guest,
                     .found = entry[i]);
        }
    }
    return 0;
}

/* Stray entries behind the end are odd; much of the image behind it means that the size is wrong. */
static bool size_is_short(const struct qed_walk *walk)
{
    return walk->beyond > 8 || walk->beyond * 2 > walk->allocated;
}

static int judge_size(struct judge *j, struct vd_err *err)
{
    struct qed *qed = j->ck->bs->opaque;
    struct qed_header fixed = qed->header;

    fixed.image_size = vd_min(j->walk->max_guest, j->g->size_limit);
    if (vd_found(j->ck, QED_IMAGE_SIZE_SHORT, .host = 48, .guest = j->image_size,
                 .guest_bytes = fixed.image_size - vd_min(fixed.image_size, j->image_size),
                 .found = j->image_size, .expected = fixed.image_size,
                 .level = j->ck->map_is_incomplete ? VD_LEVEL_NONE : 0) == VD_FIX)
        return qed_fix_header(j->ck, &fixed, VD_STAGE_ROOT, err);
    return 0;
}

static int judge_odd_table(struct judge *j, const struct qed_table *table, struct vd_err *err)
{
    uint64_t guest = qed_guest(j->g, table->slot, 0), host = j->g->l1_off + 8 * (uint64_t)table->slot;

    VD_AT(j->ck, "L1", table->slot);
    if (guest >= j->image_size)
        vd_found(j->ck, QED_L1_ENTRY_BEYOND_SIZE, .host = host, .guest = guest, .found = table->off);
    else if (table->has_beyond && !size_is_short(j->walk) && judge_beyond_entries(j, table, err) < 0)
        return -1;
    if (table->used || table->is_unreadable)
        return 0;
    if (bdrv_is_hole(j->ck->bs->file, (int64_t)table->off, (int64_t)j->g->table_bytes))
        vd_found(j->ck, QED_SPARSE_METADATA, .host = table->off, .host_bytes = j->g->table_bytes,
                 .guest = guest, .guest_bytes = guest_bytes(j, guest, qed_slot_bytes(j->g)));
    if (vd_found(j->ck, QED_L2_TABLE_EMPTY, .host = host, .guest = guest,
                 .guest_bytes = guest_bytes(j, guest, qed_slot_bytes(j->g)), .found = table->off,
                 .level = level_inside(j, NULL, 0)) == VD_LEAVE)
        return 0;
    /* Where something else claims its clusters then, they are not given back. */
    vd_gave_up(j->ck, (struct vd_span){table->off, j->g->table_bytes});
    return qed_fix_l1_entry(j->ck, table->slot, 0, err);
}

static int judge_oddities(struct judge *j, struct vd_err *err)
{
    const struct qed_walk *walk = j->walk;

    if (walk->beyond && size_is_short(walk) && judge_size(j, err) < 0)
        return -1;
    if (walk->l1_is_hole && j->g->file_end > j->g->l1_off + j->g->table_bytes)
        vd_found(j->ck, QED_SPARSE_METADATA, .host = j->g->l1_off, .host_bytes = j->g->table_bytes);
    for (size_t i = 0; i < walk->tables.n; i++)
        if (judge_odd_table(j, &walk->tables.v[i], err) < 0)
            return -1;
    return 0;
}

int qed_judge(struct vd_check *ck, struct qed_walk *walk, struct vd_runs *free_clusters,
              struct qed_orphan_vec *orphans, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    struct judge j = {
        .ck = ck,
        .walk = walk,
        .g = &walk->g,
        .free_clusters = free_clusters,
        .orphans = orphans,
        .image_size = qed->header.image_size,
        .need_check = qed->header.features & QED_F_NEED_CHECK,
        .has_backing = qed->header.features & QED_F_BACKING_FILE,
        .room = room_of_clones(ck, walk),
        .grown_end = vd_align_up_sat(walk->g.file_size, walk->g.cluster_size),
        /* What was not kept may point anywhere behind the end. */
        .past_end = walk->bad_slots_n > walk->bad_slots.n ? walk->g.file_end : UINT64_MAX,
        .past_kept = UINT64_MAX,
    };
    int rc = judge_slots(&j, false, err);

    if (rc == 0)
        rc = judge_bad_tables(&j, err);
    if (rc == 0)
        rc = judge_slots(&j, true, err);
    judge_all_slots(&j);
    if (rc == 0)
        rc = judge_shared(&j, err);
    if (rc == 0)
        rc = judge_oddities(&j, err);
    u64_vec_done(&j.masked);
    vd_runs_done(&j.orphaned);
    return rc;
}
