/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is wrong with the snapshot table and its entries.
 *
 * A snapshot's data is used by nobody but the snapshot: where the table is damaged, all of it looks leaked,
 * and a repair that frees leaks destroys it. So everything here counts as evidence, and what is written is a
 * number that the image proves: a count, a length, an offset. What could only be repaired by dropping a
 * snapshot stays.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/text.h"
#include "formats/qcow2/qcow2.h"

/* Offsets of the fields of an entry that are patched. */
enum { FIELD_L1_OFF = 0, FIELD_L1_SIZE = 8, FIELD_EXTRA_SIZE = 36, ROOM = 96 };

struct judge {
    struct vd_check *ck;
    const struct qcow2_geometry *g;
    const struct qcow2_header *header;
    const struct qcow2_snapshots *s;
};

static int patch_entry(const struct judge *j, const struct qcow2_snapshot *sn, unsigned field, unsigned bytes,
                       uint64_t value, struct vd_err *err)
{
    return qcow2_patch(j->ck, sn->entry_off + field, bytes, value, VD_STAGE_TABLE, err);
}

/* ---- one entry */

/* L1 entries that the disk and the VM state together need. */
static uint64_t whole_need(const struct judge *j, const struct qcow2_snapshot *sn)
{
    return qcow2_snapshot_need(j->g, sn) + vd_div_up(sn->vm_state_size, qcow2_slot_bytes(j->g));
}

static int judge_extra(const struct judge *j, const struct qcow2_snapshot *sn, struct vd_err *err)
{
    if (sn->extra_said != sn->extra_bytes) {
        if (vd_found(j->ck, QCOW2_SNAP_EXTRA_TOO_LARGE, .host = sn->entry_off + FIELD_EXTRA_SIZE,
                     .found = sn->extra_said, .expected = sn->extra_bytes) == VD_FIX)
            return patch_entry(j, sn, FIELD_EXTRA_SIZE, 4, sn->extra_bytes, err);
    } else if (j->g->version != 2 && sn->extra_bytes < 16)
        return qcow2_judge_snapshot_table(j->ck, j->s, QCOW2_SNAP_ENTRY_INCOMPLETE,
                                          sn->entry_off + FIELD_EXTRA_SIZE, sn->extra_bytes, err);
    return 0;
}

/* The L1 table is at no possible place: it may be in a cluster that nobody claims. */
static int judge_l1_place(const struct judge *j, const struct qcow2_snapshot *sn, enum qcow2_finding finding,
                          struct vd_err *err)
{
    uint64_t true_off;

    if (qcow2_search_l1(j->ck, j->s, sn->l1_n, &true_off, err) < 0)
        return -1;
    if (vd_found(j->ck, finding, .host = sn->entry_off + FIELD_L1_OFF, .found = sn->l1_off,
                 .expected = true_off ? true_off : VD_NOWHERE,
                 .level = true_off ? VD_LEVEL_SAFE : VD_LEVEL_NONE) == VD_FIX)
        return patch_entry(j, sn, FIELD_L1_OFF, 8, true_off, err);
    return 0;
}

/* The L1 table has an impossible length: the true one follows from the disk's, where a table of that length
 * stands there. */
static int judge_l1_size(const struct judge *j, const struct qcow2_snapshot *sn, enum qcow2_finding finding,
                         struct vd_err *err)
{
    uint64_t need = whole_need(j, sn);
    bool parses, is_used;

    if (qcow2_parses_as_l1(j->ck, sn->l1_off, need, &parses, &is_used, err) < 0)
        return -1;
    parses &= is_used;
    if (vd_found(j->ck, finding, .host = sn->entry_off + FIELD_L1_SIZE, .found = sn->l1_n,
                 .expected = parses ? need : VD_NOWHERE,
                 .level = parses ? VD_LEVEL_SAFE : VD_LEVEL_NONE) == VD_FIX)
        return patch_entry(j, sn, FIELD_L1_SIZE, 4, need, err);
    return 0;
}

static int judge_l1(const struct judge *j, const struct qcow2_snapshot *sn, struct vd_err *err)
{
    if (qcow2_snapshot_is_empty(sn))
        return 0;
    if (!sn->l1_off)
        return judge_l1_place(j, sn, QCOW2_SNAP_L1_ZERO_OFFSET, err);
    if (!vd_is_aligned(sn->l1_off, j->g->cluster_size))
        return judge_l1_place(j, sn, QCOW2_SNAP_L1_MISALIGNED, err);
    if (sn->l1_n > QCOW2_MAX_L1_ENTRIES)
        return judge_l1_size(j, sn, QCOW2_SNAP_L1_TOO_LARGE, err);
    if (!sn->l1_n && sn->disk_size)
        return judge_l1_size(j, sn, QCOW2_SNAP_L1_ZERO_SIZE, err);
    if (!vd_span_within(qcow2_snapshot_l1(sn), j->g->file_end))
        return judge_l1_place(j, sn, QCOW2_SNAP_L1_OUT_OF_FILE, err);
    return 0;
}

/* Sizes against each other; of an L1 table whose length is possible. */
static void judge_sizes(const struct judge *j, const struct qcow2_snapshot *sn)
{
    uint64_t need = qcow2_snapshot_need(j->g, sn), slot = qcow2_slot_bytes(j->g);
    uint64_t size_field = sn->entry_off + QCOW2_SNAPSHOT_BYTES;
    bool is_short = sn->l1_n<need, is_long = sn->l1_n> need && !sn->vm_state_size;

    if (is_short)
        vd_found(j->ck, QCOW2_SNAP_L1_SHORT, .host = sn->entry_off + FIELD_L1_SIZE, .found = sn->l1_n,
                 .expected = need);
    if (sn->disk_size % QCOW2_SECTOR || is_long || (is_short && sn->disk_size > j->g->size))
        vd_found(j->ck, QCOW2_SNAP_DISK_SIZE, .host = size_field + (sn->extra_bytes >= 16 ? 8 : 0),
                 .found = sn->disk_size);
    if (sn->vm_state_size && (is_short || sn->vm_state_size > vd_mul_sat(sn->l1_n - need, slot)))
        vd_found(j->ck, QCOW2_SNAP_VMSTATE_RANGE, .host = size_field, .found = sn->vm_state_size);
}

static void judge_name(const struct judge *j, const struct qcow2_snapshot *sn)
{
    uint64_t host = sn->entry_off + QCOW2_SNAPSHOT_BYTES + sn->extra_bytes;
    char text[ROOM];

    if (!sn->id_len)
        vd_found(j->ck, QCOW2_SNAP_ID_EMPTY, .host = sn->entry_off + 12, .found = 0);
    if (!sn->name_len)
        vd_found(j->ck, QCOW2_SNAP_NAME_INVALID, .host = sn->entry_off + 14, .found = 0);
    else if (!vd_text_is_plain(sn->name, sn->name_len) || !vd_text_is_plain(sn->id, sn->id_len))
        vd_found(j->ck, QCOW2_SNAP_NAME_INVALID, .host = host + sn->id_len,
                 .found_text = vd_text_copy(text, sizeof(text), sn->name, sn->name_len));
}

static int judge_entry(const struct judge *j, const struct qcow2_snapshot *sn, struct vd_err *err)
{
    if (judge_extra(j, sn, err) < 0 || judge_l1(j, sn, err) < 0)
        return -1;
    if (sn->l1_n && sn->l1_n <= QCOW2_MAX_L1_ENTRIES)
        judge_sizes(j, sn);
    judge_name(j, sn);
    return 0;
}

/* ---- equal ids */

static int compare_ids(const struct qcow2_snapshot *a, const struct qcow2_snapshot *b)
{
    int order = (int)a->id_len - (int)b->id_len;

    return order ? order : memcmp(a->id, b->id, a->id_len);
}

static int by_id(const void *a, const void *b)
{
    const struct qcow2_snapshot *const *x = a, *const *y = b;
    int order = compare_ids(*x, *y);

    return order ? order : ((*x)->entry_off > (*y)->entry_off) - ((*x)->entry_off < (*y)->entry_off);
}

static bool has_id(const struct qcow2_snapshot **sorted, size_t n, const char *id)
{
    size_t lo = 0, hi = n;
    struct qcow2_snapshot wanted = {.id = (char *)(uintptr_t)id, .id_len = (uint16_t)strlen(id)};

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = compare_ids(sorted[mid], &wanted);

        if (!order)
            return true;
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* An id of as many digits that no snapshot has, for the place where the old one stands. */
static bool free_id(const struct qcow2_snapshot **sorted, size_t n, size_t len, char id[ROOM])
{
    uint64_t first = 1, end = 1;

    if (!len || len > 9)
        return false;
    for (size_t i = 0; i < len; i++)
        end *= 10;
    first = len > 1 ? end / 10 : 1;
    for (uint64_t v = first; v < vd_min(end, first + n + 1); v++) {
        snprintf(id, ROOM, "%" PRIu64, v);
        if (!has_id(sorted, n, id))
            return true;
    }
    return false;
}

static int judge_duplicate(const struct judge *j, const struct qcow2_snapshot **sorted,
                           const struct qcow2_snapshot *sn, struct vd_err *err)
{
    uint64_t host = sn->entry_off + QCOW2_SNAPSHOT_BYTES + sn->extra_bytes;
    bool has_free;
    char found[ROOM], id[ROOM];

    VD_AT(j->ck, "snapshot", (uint64_t)(sn - j->s->list.v));
    has_free = free_id(sorted, j->s->list.n, sn->id_len, id);
    if (vd_found(j->ck, QCOW2_SNAP_ID_DUPLICATE, .host = host,
                 .found_text = vd_text_copy(found, sizeof(found), sn->id, sn->id_len),
                 .expected_text = has_free ? id : NULL, .level = has_free ? 0 : VD_LEVEL_NONE) == VD_LEAVE)
        return 0;
    j->ck->has_changed = true;
    if (qcow2_clear_unknown_autoclear(j->ck->bs, err) < 0)
        return -1;
    return bdrv_pwrite(j->ck->bs->file, (int64_t)host, sn->id_len, id, VD_STAGE_TABLE, err);
}

static int judge_ids(const struct judge *j, struct vd_err *err)
{
    size_t n = j->s->list.n;
    vd_auto_mem const struct qcow2_snapshot **sorted = n ? malloc(n * sizeof(struct qcow2_snapshot *)) : NULL;

    if (!n)
        return 0;
    if (!sorted)
        return vd_fail_memory(err);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &j->s->list.v[i];
    qsort(sorted, n, sizeof(struct qcow2_snapshot *), by_id);
    /* One at a time, for a new id is one that nobody had. */
    for (size_t i = 1; i < n && !j->ck->has_changed; i++)
        if (sorted[i]->id_len && !compare_ids(sorted[i], sorted[i - 1]) &&
            judge_duplicate(j, sorted, sorted[i], err) < 0)
            return -1;
    return 0;
}

/* ---- the table */

int qcow2_judge_snapshot_count(struct vd_check *ck, enum qcow2_finding finding, uint64_t count,
                               enum vd_level level, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header fixed = q->header;

    fixed.nb_snapshots = (uint32_t)count;
    if (vd_found(ck, finding, .host = 60, .found = q->header.nb_snapshots,
                 .expected = level == VD_LEVEL_NONE ? VD_NOWHERE : count, .level = level) == VD_LEAVE)
        return 0;
    ck->has_changed = true;
    return qcow2_write_fields(ck->bs, &fixed, "nb_snapshots", "nb_snapshots", VD_STAGE_ROOT, err);
}

/*
 * Fewer entries than the header says. Zeroes behind the last one hold no snapshot; anything else there, and a
 * table without a single entry, may be what is left of some.
 */
static int judge_count(const struct judge *j, struct vd_err *err)
{
    const struct qcow2_snapshots *s = j->s;
    enum vd_level level = s->list.n && s->ends_blank ? VD_LEVEL_SAFE : VD_LEVEL_ALL;

    if (j->g->has_data_file)
        return qcow2_judge_snapshot_count(j->ck, QCOW2_DATA_FILE_SNAPSHOTS, s->list.n,
                                          s->list.n ? VD_LEVEL_NONE : VD_LEVEL_SAFE, err);
    if (j->header->nb_snapshots > QCOW2_MAX_SNAPSHOTS)
        return qcow2_judge_snapshot_count(j->ck, QCOW2_SNAP_COUNT_TOO_LARGE, s->list.n, level, err);
    if (!s->is_cut || !s->table_off)
        return 0;
    /* A table beyond 64 MiB, which QEMU refuses, ends where the bound is. */
    return qcow2_judge_snapshot_count(j->ck, QCOW2_SNAP_COUNT_HIGH, s->list.n,
                                      s->is_too_large ? VD_LEVEL_ALL : level, err);
}

static struct judge judge_of(struct vd_check *ck, const struct qcow2_snapshots *s)
{
    const struct qcow2 *q = ck->bs->opaque;

    return (struct judge){.ck = ck, .g = &q->g, .header = &q->header, .s = s};
}

int qcow2_judge_snapshots(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err)
{
    struct judge j = judge_of(ck, s);

    if (!j.header->nb_snapshots)
        return 0;
    if (judge_count(&j, err) < 0)
        return -1;
    for (size_t i = 0; i < s->list.n; i++) {
        VD_AT(ck, "snapshot", i);
        if (judge_entry(&j, &s->list.v[i], err) < 0)
            return -1;
    }
    return judge_ids(&j, err);
}
