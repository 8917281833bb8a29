/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The snapshot table: entries of any length in a row, read as long as they can be entries.
 *
 *     header: nb_snapshots, snapshots_offset
 *        |
 *        v      40 bytes            8-aligned
 *     [ fixed part | extra data | id | name |pad][ fixed part | ...
 *          |
 *          +-- l1_table_offset: a copy of the active L1 table; behind the disk's entries, those of the VM
 * state
 *
 * Nothing tells the length of the table, and each entry's length stands in the entry. So what is no entry
 * ends the reading: the lengths in it are not to be believed. One damaged number does not make an entry a
 * stranger; three do. Where only the length of the extra data is impossible, the one that gives an id and a
 * name is taken.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/text.h"
#include "formats/qcow2/qcow2.h"

#define VD_LAYOUT_TYPE qcow2_snapshot_entry
VD_DEFINE_LAYOUT(qcow2_snapshot_entry, QCOW2_SNAPSHOT, QCOW2_SNAPSHOT_BYTES)

enum {
    TOO_STRANGE = 3, /* so many faults make no entry */
    NSEC_END = 1000000000,
};

/* An entry on its way into the list. */
struct draft {
    const struct qcow2_geometry *g;
    struct qcow2_snapshot_entry fixed;
    uint64_t off;
    const uint8_t
        *bytes;     /* of the whole entry, from its fixed part on, with the largest extra data believed */
    uint32_t extra; /* as it is believed */
};

static uint64_t strings_len(const struct draft *d)
{
    return (uint64_t)d->fixed.id_str_size + d->fixed.name_size;
}

static uint64_t draft_len(const struct draft *d, uint64_t extra)
{
    return QCOW2_SNAPSHOT_BYTES + extra + strings_len(d);
}

/* With that much extra data: is there an id, and is it and the name text, with zeroes behind it? */
static bool reads_as_text(const struct draft *d, uint32_t extra)
{
    const uint8_t *id = d->bytes + QCOW2_SNAPSHOT_BYTES + extra, *end = id + strings_len(d);
    uint64_t len = draft_len(d, extra), pad = vd_align_up_sat(len, 8) - len;

    return d->fixed.id_str_size && vd_text_is_plain((const char *)id, (size_t)(end - id)) &&
           vd_is_zero(end, pad);
}

/* The one size of extra data that programs write and that makes text of the strings; false where none or
 * several do. */
static bool believe_extra(struct draft *d)
{
    static const uint32_t written[] = {0, 16, 24};
    unsigned n = 0;

    d->extra = d->fixed.extra_data_size;
    if (d->extra <= QCOW2_MAX_SNAPSHOT_EXTRA)
        return true;
    for (size_t i = 0; i < VD_ARRAY_SIZE(written); i++)
        if (reads_as_text(d, written[i])) {
            d->extra = written[i];
            n++;
        }
    if (n != 1)
        d->extra = 0;
    return n == 1;
}

static bool l1_is_somewhere(const struct draft *d)
{
    return d->fixed.l1_table_offset && vd_is_aligned(d->fixed.l1_table_offset, d->g->cluster_size) &&
           d->fixed.l1_table_offset < d->g->file_end;
}

/* How many of its numbers are not those of an entry? */
static unsigned strangeness(const struct draft *d, bool has_extra)
{
    const uint8_t *id = d->bytes + QCOW2_SNAPSHOT_BYTES + d->extra;

    return !l1_is_somewhere(d) + (!d->fixed.l1_size || d->fixed.l1_size > QCOW2_MAX_L1_ENTRIES) +
           (d->fixed.date_nsec >= NSEC_END) + !has_extra +
           (!strings_len(d) || (has_extra && !vd_text_is_plain((const char *)id, d->fixed.id_str_size)));
}

/* The copy of len bytes as a string; its memory is asked of the budget by the caller. */
static char *text_of(const uint8_t *bytes, size_t len)
{
    char *text = calloc(1, len + 1);

    if (text)
        memcpy(text, bytes, len);
    return text;
}

static bool is_l1_sound(const struct qcow2_geometry *g, const struct qcow2_snapshot *sn)
{
    return sn->l1_off && vd_is_aligned(sn->l1_off, g->cluster_size) && sn->l1_n &&
           sn->l1_n <= QCOW2_MAX_L1_ENTRIES && vd_span_within(qcow2_snapshot_l1(sn), g->file_end);
}

static struct qcow2_snapshot snapshot_of(const struct draft *d)
{
    const uint8_t *extra = d->bytes + QCOW2_SNAPSHOT_BYTES;
    struct qcow2_snapshot sn = {
        .entry_off = d->off,
        .entry_bytes = draft_len(d, d->extra),
        .l1_off = d->fixed.l1_table_offset,
        .l1_n = d->fixed.l1_size,
        .disk_size = d->extra >= 16 ? vd_get_be64(extra + 8) : d->g->size,
        .vm_state_size = d->extra >= 8 ? vd_get_be64(extra) : d->fixed.vm_state_size,
        .extra_said = d->fixed.extra_data_size,
        .extra_bytes = d->extra,
        .date_sec = d->fixed.date_sec,
        .date_nsec = d->fixed.date_nsec,
        .vm_clock_nsec = d->fixed.vm_clock_nsec,
        .id_len = d->fixed.id_str_size,
        .name_len = d->fixed.name_size,
        .overlap = VD_NOWHERE,
    };

    sn.l1_is_sound = is_l1_sound(d->g, &sn);
    return sn;
}

static int keep(struct qcow2_snapshots *out, const struct draft *d, struct vd_err *err)
{
    struct qcow2_snapshot sn = snapshot_of(d);
    uint64_t cost = sizeof(sn) + strings_len(d) + 2;
    const uint8_t *id = d->bytes + QCOW2_SNAPSHOT_BYTES + d->extra;

    if (vd_budget_take(out->budget, cost, "the snapshot table", err) < 0)
        return -1;
    out->taken += cost;
    sn.id = text_of(id, sn.id_len);
    sn.name = text_of(id + sn.id_len, sn.name_len);
    if (!sn.id || !sn.name || qcow2_snapshot_vec_push(&out->list, sn) < 0) {
        free(sn.id);
        free(sn.name);
        return vd_fail_memory(err);
    }
    out->table_bytes = vd_span_end((struct vd_span){sn.entry_off, sn.entry_bytes}) - out->table_off;
    return 0;
}

/* Reads the entry at off; *is_one is false where none can stand there. */
static int read_entry(struct BlockDriverState *bs, struct qcow2_record_window *w, struct qcow2_snapshots *out,
                      uint64_t off, bool *is_one, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct draft d = {.g = &q->g, .off = off};
    bool has_extra;

    *is_one = false;
    if (off >= q->g.file_end)
        return 0;
    if (qcow2_record_at(bs, w, off, QCOW2_SNAPSHOT_BYTES, &d.bytes, err) < 0)
        return -1;
    vd_decode(&qcow2_snapshot_entry_layout, d.bytes, &d.fixed);
    out->ends_blank = vd_is_zero(d.bytes, QCOW2_SNAPSHOT_BYTES);
    if (qcow2_record_at(bs, w, off, draft_len(&d, QCOW2_MAX_SNAPSHOT_EXTRA) + 8, &d.bytes, err) < 0)
        return -1;
    has_extra = believe_extra(&d);
    if (strangeness(&d, has_extra) >= TOO_STRANGE || !has_extra ||
        !vd_span_within((struct vd_span){off, draft_len(&d, d.extra)}, q->g.file_end))
        return 0;
    out->is_too_large = off + draft_len(&d, d.extra) - out->table_off > QCOW2_MAX_SNAPSHOT_TABLE;
    if (out->is_too_large)
        return 0;
    *is_one = true;
    return keep(out, &d, err);
}

int qcow2_parse_snapshots(struct BlockDriverState *bs, struct vd_budget *budget, uint64_t off, uint64_t n,
                          struct qcow2_snapshots *out, struct vd_err *err)
{
    struct qcow2_record_window w = {0};
    int rc = 0;

    *out = (struct qcow2_snapshots){.table_off = off, .budget = budget};
    for (uint64_t at = off; rc == 0 && out->list.n < n && !out->is_cut;) {
        bool is_one;

        rc = vd_budget_go_on(budget, err) < 0 ? -1 : read_entry(bs, &w, out, at, &is_one, err);
        out->is_cut = rc == 0 && !is_one;
        at = off + vd_align_up_sat(out->table_bytes, 8);
    }
    qcow2_record_window_done(&w);
    if (rc < 0)
        qcow2_snapshots_done(out);
    return rc < 0 ? vd_while(err, "snapshot table at 0x%" PRIx64, off) : 0;
}

int qcow2_read_snapshots(struct BlockDriverState *bs, struct vd_budget *budget, struct qcow2_snapshots *out,
                         struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t off = q->header.snapshots_offset;

    *out = (struct qcow2_snapshots){.budget = budget};
    if (!q->header.nb_snapshots || !q->g.is_usable)
        return 0;
    if (!off || off >= q->g.file_end || !vd_is_aligned(off, q->g.cluster_size)) {
        out->is_cut = true;
        return 0;
    }
    return qcow2_parse_snapshots(bs, budget, off, vd_min(q->header.nb_snapshots, QCOW2_MAX_SNAPSHOTS), out,
                                 err);
}

void qcow2_snapshots_done(struct qcow2_snapshots *s)
{
    for (size_t i = 0; i < s->list.n; i++) {
        free(s->list.v[i].id);
        free(s->list.v[i].name);
    }
    qcow2_snapshot_vec_done(&s->list);
    if (s->budget)
        vd_budget_give(s->budget, s->taken);
    *s = (struct qcow2_snapshots){0};
}

int qcow2_snapshot_list(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct qcow2_snapshots s;

    if (qcow2_read_snapshots(bs, &budget, &s, err) < 0)
        return -1;
    for (size_t i = 0; i < s.list.n; i++) {
        const struct qcow2_snapshot *sn = &s.list.v[i];

        vd_tell_item(info, "snapshots");
        vd_tell_text(info, "id", sn->id);
        vd_tell_text(info, "name", sn->name);
        vd_tell_number(info, "vm-state-size", VD_INFO_BYTES, sn->vm_state_size);
        vd_tell_number(info, "disk-size", VD_INFO_BYTES, sn->disk_size);
        vd_tell_number(info, "date-sec", VD_INFO_NUMBER, sn->date_sec);
        vd_tell_number(info, "date-nsec", VD_INFO_NUMBER, sn->date_nsec);
        vd_tell_number(info, "vm-clock-sec", VD_INFO_NUMBER, sn->vm_clock_nsec / NSEC_END);
        vd_tell_number(info, "vm-clock-nsec", VD_INFO_NUMBER, sn->vm_clock_nsec % NSEC_END);
    }
    qcow2_snapshots_done(&s);
    return 0;
}

static void show(struct BlockDriverState *bs, const struct qcow2_snapshot *sn)
{
    struct qcow2 *q = bs->opaque;

    q->g.l1_off = sn->l1_off;
    q->g.l1_n = sn->l1_n;
    q->g.size = vd_align_down(vd_min(sn->disk_size, INT64_MAX), QCOW2_SECTOR);
    bs->total_bytes = (int64_t)q->g.size;
    q->l1.n = q->l2.n = 0;
}

int qcow2_snapshot_load_tmp(struct BlockDriverState *bs, uint64_t i, struct vd_snapshot_names *names,
                            struct vd_err *err)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct qcow2_snapshots s;
    int rc = 1;

    if (qcow2_read_snapshots(bs, &budget, &s, err) < 0)
        return -1;
    if (i < s.list.n) {
        snprintf(names->id, sizeof(names->id), "%s", s.list.v[i].id);
        snprintf(names->name, sizeof(names->name), "%s", s.list.v[i].name);
        rc = s.list.v[i].l1_is_sound || qcow2_snapshot_is_empty(&s.list.v[i]) ? 0 : 2;
        if (rc == 0)
            show(bs, &s.list.v[i]);
    }
    qcow2_snapshots_done(&s);
    return rc;
}
