/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Persistent dirty bitmaps: the extension, the directory that it names, and the tables that the directory
 * names.
 *
 *     extension in the header: nb_bitmaps, directory size, directory offset
 *        |
 *        v         24 bytes            8-aligned
 *     directory [ fixed part | extra data | name |pad][ fixed part | ...
 *                     |
 *                     v
 *     table     [ word, word, ... ]   a cluster of bits, or: all of them 0, all of them 1
 *
 * They are in force only where the autoclear bit says so. Else a program that does not know bitmaps has
 * written to the image since; then they say nothing, and their clusters are nobody's.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/text.h"
#include "formats/qcow2/qcow2.h"

#define VD_LAYOUT_TYPE qcow2_bitmaps_extension
VD_DEFINE_LAYOUT(qcow2_bitmaps_extension, QCOW2_BITMAPS_EXTENSION, QCOW2_BITMAPS_BYTES)
#undef VD_LAYOUT_TYPE
#define VD_LAYOUT_TYPE qcow2_bitmap_entry
VD_DEFINE_LAYOUT(qcow2_bitmap_entry, QCOW2_BITMAP, QCOW2_BITMAP_BYTES)

enum { TOO_STRANGE = 3, /* so many faults make no entry of a directory */ WORDS = 4096 };

uint64_t qcow2_bitmap_need(const struct qcow2_geometry *g, unsigned granularity_bits)
{
    uint64_t bits = granularity_bits < 64 ? vd_div_up(g->size, (uint64_t)1 << granularity_bits) : 1;

    return vd_div_up(vd_div_up(bits, 8), g->cluster_size);
}

enum qcow2_bitmap_word qcow2_bitmap_word_kind(const struct qcow2_geometry *g, uint64_t word)
{
    uint64_t off = word & QCOW2_OFFSET_MASK;

    if ((word & QCOW2_BITMAP_RESERVED) || (off && (word & 1)) || !vd_is_aligned(off, g->cluster_size))
        return QCOW2_BITMAP_WORD_RESERVED;
    if (!off)
        return word & 1 ? QCOW2_BITMAP_ALL_ONE : QCOW2_BITMAP_ALL_ZERO;
    return off < g->file_end ? QCOW2_BITMAP_CLUSTER : QCOW2_BITMAP_WORD_OUT_OF_FILE;
}

int qcow2_bitmap_words(struct BlockDriverState *bs, const struct qcow2_bitmap *bm, qcow2_bitmap_word_fn *fn,
                       void *opaque, struct vd_err *err)
{
    vd_auto_mem uint64_t *word = malloc(WORDS * sizeof(*word));

    if (!word)
        return vd_fail_memory(err);
    for (uint64_t first = 0; first < bm->table_n; first += WORDS) {
        uint64_t n = vd_min(WORDS, bm->table_n - first);

        if (qcow2_read_words(bs, bm->table_off, first, n, word, err) < 0)
            return vd_while(err, "bitmap table at 0x%" PRIx64, bm->table_off);
        for (uint64_t i = 0; i < n; i++)
            if (fn(opaque, bm, first + i, word[i], err) < 0)
                return -1;
    }
    return 0;
}

/* ---- the directory */

/* How many of its numbers are not those of an entry? */
static unsigned strangeness(const struct qcow2_geometry *g, const struct qcow2_bitmap_entry *e)
{
    return (!e->bitmap_table_offset || !vd_is_aligned(e->bitmap_table_offset, g->cluster_size) ||
            e->bitmap_table_offset >= g->file_end) +
           (!e->bitmap_table_size || e->bitmap_table_size > QCOW2_MAX_BITMAP_TABLE) + (e->flags > 7) +
           (e->type != 1) +
           (e->granularity_bits < QCOW2_MIN_GRANULARITY_BITS ||
            e->granularity_bits > QCOW2_MAX_GRANULARITY_BITS) +
           (!e->name_size || e->name_size > QCOW2_MAX_BITMAP_NAME);
}

static bool is_table_sound(const struct qcow2_geometry *g, const struct qcow2_bitmap *bm)
{
    return bm->table_off && vd_is_aligned(bm->table_off, g->cluster_size) && bm->table_n &&
           bm->table_n <= QCOW2_MAX_BITMAP_TABLE &&
           vd_span_within((struct vd_span){bm->table_off, 8 * (uint64_t)bm->table_n}, g->file_end);
}

static int keep(struct qcow2_bitmaps *out, struct qcow2_bitmap bm, const uint8_t *name, struct vd_err *err)
{
    uint64_t cost = sizeof(bm) + bm.name_len + 1;

    if (vd_budget_take(out->budget, cost, "the bitmap directory", err) < 0)
        return -1;
    out->taken += cost;
    bm.name = calloc(1, bm.name_len + 1U);
    if (bm.name)
        memcpy(bm.name, name, bm.name_len);
    if (!bm.name || qcow2_bitmap_vec_push(&out->list, bm) < 0) {
        free(bm.name);
        return vd_fail_memory(err);
    }
    return 0;
}

/* Reads the entry at off, which ends before end; *is_one is false where none can stand there. */
static int read_entry(struct BlockDriverState *bs, struct qcow2_record_window *w, struct qcow2_bitmaps *out,
                      uint64_t off, uint64_t end, bool *is_one, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    struct qcow2_bitmap_entry e;
    struct qcow2_bitmap bm;
    const uint8_t *bytes;
    uint64_t name;

    *is_one = false;
    if (!vd_span_within((struct vd_span){off, QCOW2_BITMAP_BYTES}, end))
        return 0;
    if (qcow2_record_at(bs, w, off, QCOW2_BITMAP_BYTES, &bytes, err) < 0)
        return -1;
    vd_decode(&qcow2_bitmap_entry_layout, bytes, &e);
    name = off + QCOW2_BITMAP_BYTES + e.extra_data_size;
    bm = (struct qcow2_bitmap){
        .entry_off = off,
        .entry_bytes = vd_align_up_sat(QCOW2_BITMAP_BYTES + (uint64_t)e.extra_data_size + e.name_size, 8),
        .table_off = e.bitmap_table_offset,
        .table_n = e.bitmap_table_size,
        .flags = e.flags,
        .type = e.type,
        .granularity_bits = e.granularity_bits,
        .extra_bytes = e.extra_data_size,
        .name_len = e.name_size,
    };
    if (strangeness(&q->g, &e) >= TOO_STRANGE || !vd_span_within((struct vd_span){off, bm.entry_bytes}, end))
        return 0;
    bm.table_is_sound = is_table_sound(&q->g, &bm);
    if (qcow2_record_at(bs, w, name, bm.name_len, &bytes, err) < 0)
        return -1;
    *is_one = true;
    return keep(out, bm, bytes, err);
}

/* Up to n entries before end; *bytes is what they take. */
static int read_entries(struct BlockDriverState *bs, struct qcow2_bitmaps *out, uint64_t n, uint64_t end,
                        uint64_t *bytes, struct vd_err *err)
{
    uint64_t from = out->ext.bitmap_directory_offset, at = from;
    struct qcow2_record_window w = {0};
    bool is_one = true;
    int rc = 0;

    while (rc == 0 && is_one && out->list.n < n) {
        rc = vd_budget_go_on(out->budget, err) < 0 ? -1 : read_entry(bs, &w, out, at, end, &is_one, err);
        if (rc == 0 && is_one)
            at += out->list.v[out->list.n - 1].entry_bytes;
    }
    qcow2_record_window_done(&w);
    *bytes = at - from;
    return rc < 0 ? vd_while(err, "bitmap directory") : 0;
}

static void forget_entries(struct qcow2_bitmaps *b)
{
    for (size_t i = 0; i < b->list.n; i++)
        free(b->list.v[i].name);
    qcow2_bitmap_vec_done(&b->list);
    if (b->budget)
        vd_budget_give(b->budget, b->taken);
    b->taken = 0;
}

/* The entries that the directory's size holds; and, where that is not what the count says, where as many
 * entries as the count says would end. */
static int read_directory(struct BlockDriverState *bs, struct qcow2_bitmaps *out, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint64_t from = out->ext.bitmap_directory_offset, n = out->ext.nb_bitmaps;

    if (read_entries(bs, out, n, vd_min(q->g.file_end, vd_add_sat(from, QCOW2_MAX_BITMAP_DIRECTORY)),
                     &out->true_bytes, err) < 0)
        return -1;
    if (out->list.n != n)
        out->true_bytes = 0;
    if (out->true_bytes == out->ext.bitmap_directory_size) {
        out->dir_bytes = out->true_bytes;
        return 0;
    }
    forget_entries(out);
    return read_entries(bs, out, QCOW2_MAX_BITMAPS, from + out->ext.bitmap_directory_size, &out->dir_bytes,
                        err);
}

/* Tables of different bitmaps are different: all of them together fit the file. What is more than that is not
 * looked at, so that work is bounded by the file. */
static void bound_tables(const struct qcow2_geometry *g, struct qcow2_bitmaps *b)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < b->list.n; i++) {
        struct qcow2_bitmap *bm = &b->list.v[i];

        if (!bm->table_is_sound)
            continue;
        sum += vd_align_up_sat(8 * (uint64_t)bm->table_n, g->cluster_size);
        bm->is_too_much = sum > g->file_end;
        bm->table_is_sound = !bm->is_too_much;
    }
}

int qcow2_read_bitmaps(struct BlockDriverState *bs, struct vd_budget *budget, struct qcow2_bitmaps *out,
                       struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint8_t bytes[QCOW2_BITMAPS_BYTES];
    struct vd_span dir;

    *out = (struct qcow2_bitmaps){.budget = budget, .where = qcow2_find_extension(q, QCOW2_EXT_BITMAPS)};
    out->has_extension = out->where;
    out->is_in_force =
        out->has_extension && q->g.version != 2 && (q->header.autoclear_features & QCOW2_AUTOCLEAR_BITMAPS);
    if (!out->is_in_force || out->where->len != QCOW2_BITMAPS_BYTES)
        return 0;
    if (bdrv_pread_padded(bs->file, (int64_t)out->where->off, sizeof(bytes), bytes, err) < 0)
        return vd_while(err, "bitmaps extension");
    vd_decode(&qcow2_bitmaps_extension_layout, bytes, &out->ext);
    out->ext_is_sound =
        out->ext.nb_bitmaps && out->ext.nb_bitmaps <= QCOW2_MAX_BITMAPS && !out->ext.reserved32;
    dir = (struct vd_span){out->ext.bitmap_directory_offset, out->ext.bitmap_directory_size};
    out->dir_is_sound = dir.off && dir.len && vd_is_aligned(dir.off, q->g.cluster_size) &&
                        dir.len <= QCOW2_MAX_BITMAP_DIRECTORY && vd_span_within(dir, q->g.file_end);
    if (!out->ext_is_sound || !out->dir_is_sound)
        return 0;
    if (read_directory(bs, out, err) < 0) {
        qcow2_bitmaps_done(out);
        return -1;
    }
    bound_tables(&q->g, out);
    return 0;
}

void qcow2_bitmaps_done(struct qcow2_bitmaps *b)
{
    forget_entries(b);
    *b = (struct qcow2_bitmaps){0};
}

int qcow2_bitmap_list(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct qcow2_bitmaps b;

    if (qcow2_read_bitmaps(bs, &budget, &b, err) < 0)
        return -1;
    for (size_t i = 0; i < b.list.n; i++) {
        const struct qcow2_bitmap *bm = &b.list.v[i];

        vd_tell_item(info, "bitmaps");
        vd_tell_text(info, "name", bm->name);
        vd_tell_number(info, "granularity", VD_INFO_BYTES,
                       bm->granularity_bits < 64 ? (uint64_t)1 << bm->granularity_bits : 0);
        vd_tell_number(info, "in-use", VD_INFO_BOOL, bm->flags & QCOW2_BITMAP_F_IN_USE);
        vd_tell_number(info, "auto", VD_INFO_BOOL, (bm->flags & QCOW2_BITMAP_F_AUTO) != 0);
    }
    qcow2_bitmaps_done(&b);
    return 0;
}
