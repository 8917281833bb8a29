/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing the guest's data. A range is cut into runs of clusters that are written alike:
 *
 *     in place    the entry's own cluster holds data there: nothing but the data is written
 *     reuse       the entry's own cluster is there, but not what it holds: data, flush, entry
 *     fresh       no cluster, one shared with a snapshot, or a compressed one: a new cluster, then as above
 *
 * An external data file has a place for every cluster, which nobody else can have: nothing is fresh there.
 *
 * What a run does not overwrite of its clusters (of its subclusters, where L2 entries are extended) is filled
 * with what the guest read there before. A write that fails freezes the image: what the tables say is then
 * still true of the disk.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "formats/qcow2/live.h"

/* ---- before a write */

int qcow2_begin_write(struct BlockDriverState *bs, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    if (!(bs->open_flags & BDRV_O_RDWR))
        return vd_fail(err, VD_ERR_IO, EROFS, "%s: opened read-only", bs->filename);
    if (q->header.crypt_method)
        return vd_fail(err, VD_ERR_UNSUPPORTED, ENOTSUP, "%s: the guest's data is encrypted", bs->filename);
    if (!qcow2_data_node(bs, err))
        return -1;
    if (q->live && q->live->is_frozen)
        return vd_fail(err, VD_ERR_IO, EIO, "%s: a write failed before; nothing more is written",
                       bs->filename);
    return qcow2_live_load(bs, err) < 0 ? qcow2_freeze(bs) : 0;
}

int qcow2_freeze(struct BlockDriverState *bs)
{
    struct qcow2 *q = bs->opaque;

    if (q->live)
        q->live->is_frozen = true;
    q->l1.n = q->l2.n = q->inflated.len = 0;
    return -1;
}

int qcow2_prepare_header(struct BlockDriverState *bs, bool changes_tables, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct qcow2_header h = q->header;
    bool is_lazy = h.compatible_features & QCOW2_COMPAT_LAZY_REFCOUNTS;

    /* Bitmaps do not follow what is written here, and what unknown bits stand for does not either. */
    h.autoclear_features &= qcow2_has_raw_data(q) ? QCOW2_AUTOCLEAR_DATA_FILE_RAW : 0;
    if (changes_tables && is_lazy)
        h.incompatible_features |= QCOW2_INCOMPAT_DIRTY;
    if (h.autoclear_features == q->header.autoclear_features &&
        h.incompatible_features == q->header.incompatible_features)
        return 0;
    q->live->dirty_is_ours |= h.incompatible_features != q->header.incompatible_features;
    if (qcow2_write_fields(bs, &h, "incompatible_features", "autoclear_features", VD_STAGE_FLAG, err) < 0)
        return -1;
    return bdrv_flush(bs->file, err);
}

int qcow2_may_write(struct BlockDriverState *bs, int64_t offset, int64_t bytes, struct vd_err *err)
{
    if (offset > bs->total_bytes || bytes > bs->total_bytes - offset)
        return vd_fail(err, VD_ERR_IO, ENOSPC,
                       "%s: %" PRId64 " bytes at 0x%" PRIx64 " reach past the end of the disk", bs->filename,
                       bytes, (uint64_t)offset);
    return qcow2_begin_write(bs, err);
}

/* ---- runs */

enum how { IN_PLACE, REUSE, FRESH };

/* Guest bytes that are written alike, all in one L2 table. */
struct run {
    uint64_t guest, bytes;
    enum how how;
    uint64_t host; /* of the first cluster; the others follow it */
    uint64_t n;    /* clusters */
    struct qcow2_entry *old;
};

static uint64_t run_start(const struct qcow2_geometry *g, const struct run *run)
{
    return vd_align_down(run->guest, g->cluster_size);
}

uint32_t qcow2_subclusters(const struct qcow2_geometry *g, uint64_t cluster_guest, uint64_t guest,
                           uint64_t bytes)
{
    uint64_t size = g->cluster_size / QCOW2_SUBCLUSTERS,
             from = guest > cluster_guest ? (guest - cluster_guest) / size : 0,
             to = vd_min(vd_div_up(guest + bytes - cluster_guest, size), QCOW2_SUBCLUSTERS);

    if (!g->has_extended_l2)
        return QCOW2_ALL_SUBCLUSTERS;
    return (uint32_t)((((uint64_t)1 << to) - 1) & ~(((uint64_t)1 << from) - 1));
}

/* Which subclusters hold data of their own in the entry's cluster? */
static uint32_t holds_data(const struct qcow2_geometry *g, const struct qcow2_entry *e)
{
    if (e->type == QCOW2_PACKED)
        return QCOW2_ALL_SUBCLUSTERS;
    if (e->type != QCOW2_NORMAL)
        return 0;
    return g->has_extended_l2 ? (uint32_t)e->bitmap : QCOW2_ALL_SUBCLUSTERS;
}

static enum how how_to_write(const struct qcow2_geometry *g, const struct qcow2_entry *e,
                             uint32_t subclusters)
{
    if (!g->has_data_file && (e->type == QCOW2_PACKED || !e->host || !e->is_copied))
        return FRESH;
    return subclusters & ~holds_data(g, e) ? REUSE : IN_PLACE;
}

/* Looks at the entries from guest on, as long as they are written alike. The caller frees run->old. */
static int find_run(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, struct run *run,
                    struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t start = vd_align_down(guest, g->cluster_size), table_off, index, most;

    most = vd_min(vd_div_up(guest + bytes - start, g->cluster_size),
                  g->table_n - ((guest & (qcow2_slot_bytes(g) - 1)) >> g->cluster_bits));
    *run = (struct run){.guest = guest, .old = malloc(most * sizeof(*run->old))};
    if (!run->old)
        return vd_fail_memory(err);
    for (uint64_t at = start; run->n < most; at += g->cluster_size, run->n++) {
        struct qcow2_entry *e = &run->old[run->n];
        enum how how;
        uint64_t host;

        if (qcow2_lookup_sound(bs, at, e, &table_off, &index, err) < 0)
            return -1;
        how = how_to_write(g, e, qcow2_subclusters(g, at, guest, bytes));
        host = g->has_data_file ? at : e->host;
        if (run->n && (how != run->how || (how != FRESH && host != run->host + at - start)))
            break;
        run->how = how;
        if (!run->n)
            run->host = host;
    }
    run->bytes = vd_min(bytes, start + run->n * g->cluster_size - guest);
    return 0;
}

/* A run that needs new clusters gets as many as lie in a row. */
static int allocate_run(struct BlockDriverState *bs, struct run *run, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    if (q->g.has_data_file)
        return 0;
    if (run->how != FRESH)
        return qcow2_check_owned(bs, run->host, run->n, false, err);
    if (qcow2_allocate(bs, 1, run->n, &run->host, &run->n, err) < 0)
        return -1;
    run->bytes = vd_min(run->bytes, run_start(&q->g, run) + (run->n << q->g.cluster_bits) - run->guest);
    return 0;
}

/* ---- the data */

/* Where it goes. An external data file is open: qcow2_begin_write() has seen to that. */
static struct BlockDriverState *data_node(const struct BlockDriverState *bs)
{
    const struct qcow2 *q = bs->opaque;

    return q->g.has_data_file ? bs->data : bs->file;
}

/* Subclusters of cluster k of the run that must hold data when it is written. */
static uint32_t to_fill(const struct qcow2_geometry *g, const struct run *run, uint64_t k)
{
    uint32_t now = qcow2_subclusters(g, run_start(g, run) + (k << g->cluster_bits), run->guest, run->bytes),
             before = holds_data(g, &run->old[k]);

    return run->how == FRESH ? now | before : now & ~before;
}

/* Where the bytes to be filled in before the data begin, and those behind it end; guest offsets. */
static uint64_t fill_from(const struct qcow2_geometry *g, const struct run *run)
{
    uint32_t bits = to_fill(g, run, 0);
    uint64_t at = run_start(g, run);

    if (bits && g->has_extended_l2)
        at += (uint64_t)__builtin_ctz(bits) * (g->cluster_size / QCOW2_SUBCLUSTERS);
    return bits ? vd_min(at, run->guest) : run->guest;
}

static uint64_t fill_to(const struct qcow2_geometry *g, const struct run *run)
{
    uint32_t bits = to_fill(g, run, run->n - 1);
    uint64_t end = run_start(g, run) + (run->n << g->cluster_bits);

    if (bits && g->has_extended_l2)
        end -= (uint64_t)__builtin_clz(bits) * (g->cluster_size / QCOW2_SUBCLUSTERS);
    return bits ? vd_max(end, run->guest + run->bytes) : run->guest + run->bytes;
}

/* Guest bytes as they read now, into the run's clusters; at most a cluster of them. */
static int fill(struct BlockDriverState *bs, const struct run *run, uint64_t guest, uint64_t end,
                struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    vd_auto_mem uint8_t *bytes = NULL;

    if (guest >= end)
        return 0;
    bytes = malloc(end - guest);
    if (!bytes)
        return vd_fail_memory(err);
    if (qcow2_co_preadv(bs, (int64_t)guest, (int64_t)(end - guest), bytes, err) < 0)
        return -1;
    return bdrv_pwrite(data_node(bs), (int64_t)(run->host + guest - run_start(&q->g, run)),
                       (int64_t)(end - guest), bytes, VD_STAGE_NEW, err);
}

static int write_data(struct BlockDriverState *bs, const struct run *run, const uint8_t *buf,
                      struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t host = run->host + run->guest - run_start(g, run), end = run->guest + run->bytes;

    if (run->how != IN_PLACE && (fill(bs, run, fill_from(g, run), run->guest, err) < 0 ||
                                 fill(bs, run, end, fill_to(g, run), err) < 0))
        return -1;
    return bdrv_pwrite(data_node(bs), (int64_t)host, (int64_t)run->bytes, buf, VD_STAGE_NEW, err);
}

/* ---- the entries */

static struct qcow2_words new_words(const struct qcow2_geometry *g, const struct run *run, uint64_t k)
{
    const struct qcow2_entry *old = &run->old[k];
    uint32_t data = holds_data(g, old) |
                    qcow2_subclusters(g, run_start(g, run) + (k << g->cluster_bits), run->guest, run->bytes),
             zero = old->type == QCOW2_PACKED ? 0 : (uint32_t)(old->bitmap >> 32) & ~data;

    return (struct qcow2_words){
        .word = QCOW2_COPIED | (run->host + (k << g->cluster_bits)),
        .bitmap = g->has_extended_l2 ? (uint64_t)zero << 32 | data : 0,
    };
}

static int link_run(struct BlockDriverState *bs, const struct run *run, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    vd_auto_mem struct qcow2_words *words = malloc(run->n * sizeof(*words));

    if (!words)
        return vd_fail_memory(err);
    for (uint64_t k = 0; k < run->n; k++)
        words[k] = new_words(&q->g, run, k);
    if (qcow2_publish(bs, run_start(&q->g, run), run->n, words, err) < 0)
        return -1;
    for (uint64_t k = 0; run->how == FRESH && k < run->n; k++)
        if (qcow2_release_entry(bs, &run->old[k], err) < 0)
            return -1;
    return 0;
}

static int write_run(struct BlockDriverState *bs, struct run *run, const uint8_t *buf, struct vd_err *err)
{
    if (qcow2_prepare_header(bs, run->how != IN_PLACE, err) < 0 || allocate_run(bs, run, err) < 0 ||
        write_data(bs, run, buf, err) < 0)
        return -1;
    return run->how == IN_PLACE ? 0 : link_run(bs, run, err);
}

int qcow2_write_some(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, const uint8_t *buf,
                     uint64_t *done, struct vd_err *err)
{
    struct run run;
    int rc = find_run(bs, guest, bytes, &run, err);

    if (rc == 0)
        rc = write_run(bs, &run, buf, err);
    *done = run.bytes;
    free(run.old);
    return rc;
}

int qcow2_co_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                     enum vd_stage stage, struct vd_err *err)
{
    const uint8_t *p = buf;

    (void)stage;
    if (qcow2_may_write(bs, offset, bytes, err) < 0)
        return -1;
    while (bytes > 0) {
        uint64_t done = 0;

        if (qcow2_write_some(bs, (uint64_t)offset, (uint64_t)bytes, p, &done, err) < 0)
            return qcow2_freeze(bs);
        p += done;
        offset += (int64_t)done;
        bytes -= (int64_t)done;
    }
    return 0;
}

/* ---- a clean close */

/* All that was released is given up, and then the dirty bit is cleared, where it is ours. */
static int settle(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qcow2 *q = bs->opaque;
    struct qcow2_header h = q->header;
    bool clears;

    if (!q->live || q->live->is_frozen)
        return 0;
    if (qcow2_live_flush(bs, err) < 0 || bdrv_flush_below(bs, err) < 0)
        return qcow2_freeze(bs);
    clears = q->live->dirty_is_ours;
    h.incompatible_features &= ~(uint64_t)QCOW2_INCOMPAT_DIRTY;
    if (clears && (qcow2_write_fields(bs, &h, "incompatible_features", "incompatible_features", VD_STAGE_FLAG,
                                      err) < 0 ||
                   bdrv_flush(bs->file, err) < 0))
        return qcow2_freeze(bs);
    q->live->dirty_is_ours = false;
    return 0;
}

int qcow2_co_inactivate(struct BlockDriverState *bs, struct vd_err *err)
{
    return bs->open_flags & BDRV_O_RDWR ? settle(bs, err) : 0;
}

/* What was written to just now will soon be written to again. */
enum { QUIET_MS = 5000 };

int qcow2_co_idle(struct BlockDriverState *bs, int64_t quiet_ms, struct vd_err *err)
{
    return quiet_ms >= QUIET_MS ? settle(bs, err) : 0;
}
