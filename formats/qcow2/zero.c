/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing zeroes: by what entries say, where a whole cluster or subcluster becomes zero and the version of
 * the format has a word for it, and as data elsewhere. The host clusters of what becomes zero are kept, so
 * that later writes find them. An external data file that is a raw disk of its own knows no entries: there
 * all zeroes are data.
 */
#include <string.h>

#include "formats/qcow2/live.h"

/* What one entry can say to be zero: a cluster, or a subcluster. */
static uint64_t zero_unit(const struct qcow2_geometry *g)
{
    return g->has_extended_l2 ? g->cluster_size / QCOW2_SUBCLUSTERS : g->cluster_size;
}

/* The entry with these subclusters zero. Its cluster is kept: what it holds does not matter any more. */
static struct qcow2_words zero_words(const struct qcow2_geometry *g, const struct qcow2_entry *e,
                                     uint32_t zero)
{
    bool has_host = e->host || g->has_data_file;
    struct qcow2_words words = {has_host && e->is_copied ? QCOW2_COPIED | e->host : e->host, e->bitmap};

    if (e->type == QCOW2_PACKED)
        words = (struct qcow2_words){0, 0};
    if (g->has_extended_l2)
        words.bitmap = (words.bitmap & ~(uint64_t)zero) | (uint64_t)zero << 32;
    else
        words.word |= QCOW2_ZERO;
    return words;
}

static bool is_zero_already(const struct qcow2_geometry *g, const struct qcow2_entry *e, uint32_t zero)
{
    if (g->has_extended_l2)
        return e->type != QCOW2_PACKED && (zero & ~(uint32_t)(e->bitmap >> 32)) == 0;
    return e->type == QCOW2_ZERO_PLAIN || e->type == QCOW2_ZERO_ALLOCATED;
}

/* Entries of one table that are to say zero. */
struct zeroing {
    uint64_t guest; /* of the first cluster */
    uint64_t n;
    bool has_changes;
    struct qcow2_words *words;
    struct qcow2_entry *old;
};

/* Collects the entries that [guest, guest + bytes) touches; part of a compressed cluster ends the run. */
static int find_zeroing(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, struct zeroing *z,
                        struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t table_off, index, start = vd_align_down(guest, g->cluster_size),
                               most = vd_div_up(guest + bytes - start, g->cluster_size);

    *z = (struct zeroing){
        .guest = start, .words = malloc(most * sizeof(*z->words)), .old = malloc(most * sizeof(*z->old))};
    if (!z->words || !z->old)
        return vd_fail_memory(err);
    for (uint64_t at = start; z->n < most; at += g->cluster_size, z->n++) {
        uint32_t zero = qcow2_subclusters(g, at, guest, bytes);
        struct qcow2_entry *e = &z->old[z->n];

        if (qcow2_lookup_sound(bs, at, e, &table_off, &index, err) < 0)
            return -1;
        if (e->type == QCOW2_PACKED && zero != QCOW2_ALL_SUBCLUSTERS)
            return 0;
        z->words[z->n] = zero_words(g, e, zero);
        /* Without a table and a backing file all is zero as it is. */
        z->has_changes |= !is_zero_already(g, e, zero) && (table_off || bs->backing_file);
    }
    return 0;
}

static int publish_zeroing(struct BlockDriverState *bs, const struct zeroing *z, struct vd_err *err)
{
    if (!z->n || !z->has_changes)
        return 0;
    if (qcow2_prepare_header(bs, true, err) < 0 || qcow2_publish(bs, z->guest, z->n, z->words, err) < 0)
        return -1;
    for (uint64_t k = 0; k < z->n; k++)
        if (z->old[k].type == QCOW2_PACKED && qcow2_release_entry(bs, &z->old[k], err) < 0)
            return -1;
    return 0;
}

/* Whole units, as far as one L2 table goes. 0 bytes are done where the first needs its data written. */
static int zero_entries(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, uint64_t *done,
                        struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    struct zeroing z;
    int rc;

    bytes = vd_min(bytes, qcow2_slot_bytes(g) - (guest & (qcow2_slot_bytes(g) - 1)));
    rc = find_zeroing(bs, guest, bytes, &z, err);
    if (rc == 0)
        rc = publish_zeroing(bs, &z, err);
    *done = z.n ? vd_min(bytes, z.guest + (z.n << g->cluster_bits) - guest) : 0;
    free(z.words);
    free(z.old);
    return rc;
}

/* Zeroes as data, for at most a cluster, where it does not read as zero already. Of a raw data file the
 * entries are not the last word. */
static int zero_data(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    vd_auto_mem uint8_t *zeroes = calloc(1, bytes);
    bool always = qcow2_has_raw_data(q);
    int64_t n = 0, map;

    if (!zeroes)
        return vd_fail_memory(err);
    while (bytes > 0) {
        int status = qcow2_co_block_status(bs, (int64_t)guest, (int64_t)bytes, &n, &map, err);
        uint64_t done = (uint64_t)n;

        if (status < 0)
            return -1;
        if ((always || !(status & BDRV_BLOCK_ZERO)) &&
            qcow2_write_some(bs, guest, done, zeroes, &done, err) < 0)
            return -1;
        guest += done;
        bytes -= done;
    }
    return 0;
}

int qcow2_zero_range(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t unit = zero_unit(g);
    bool by_entries = g->version > 2 && !qcow2_has_raw_data(q);

    while (bytes > 0) {
        /* What lies behind the end of the disk belongs to nobody. */
        bool to_end = guest + bytes == (uint64_t)bs->total_bytes;
        uint64_t whole = to_end ? vd_align_up_sat(bytes, unit) : vd_align_down(bytes, unit), done = 0;

        if (by_entries && vd_is_aligned(guest, unit) && whole &&
            zero_entries(bs, guest, whole, &done, err) < 0)
            return -1;
        if (!done) {
            done = vd_min(bytes, g->cluster_size - (guest & (g->cluster_size - 1)));
            if (by_entries && !vd_is_aligned(guest, unit))
                done = vd_min(bytes, unit - (guest & (unit - 1)));
            if (zero_data(bs, guest, done, err) < 0)
                return -1;
        }
        done = vd_min(done, bytes);
        guest += done;
        bytes -= done;
    }
    return 0;
}

int qcow2_co_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                           struct vd_err *err)
{
    (void)stage;
    if (qcow2_may_write(bs, offset, bytes, err) < 0)
        return -1;
    return qcow2_zero_range(bs, (uint64_t)offset, (uint64_t)bytes, err) < 0 ? qcow2_freeze(bs) : 0;
}
