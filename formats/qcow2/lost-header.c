/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A header of which too little is left to find any table by it.
 *
 * Each cluster size and width of counts is tried. A refcount table is known by its first block, which counts
 * the header, the table and itself; an L1 table by L2 tables that its entries lead to. What is found together
 * must then fit, cluster by cluster: the counts are a checksum over all of it. Where one header fits better
 * than all others it is told, and taken at level `all`. Images with snapshots are not found in this way, for
 * their counts say more than the active tables.
 */
#include <stdlib.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

/* A file made for it could make the search read without end. */
#define MOST_BYTES_READ ((uint64_t)16 << 30)

enum {
    MOST_PLACES = 1 << 16,   /* clusters from the beginning of the file: QEMU puts first tables there */
    MOST_L1_CLUSTERS = 4096, /* of one table */
    LENGTHS_TRIED = 8,
    PROBED_BYTES = 4096, /* what a look costs at least */
    MOST_L1_PIECE = 32 << 10,
    MOST_FITTED = 256, /* readings that are compared with all counts */
    USUAL_LENGTH = QCOW2_HEADER_BYTES,
};

VD_VEC(offset_vec, uint64_t)

struct search {
    struct vd_check *ck;
    struct qcow2 *q;
    struct qcow2_header base; /* what the image has, with what cannot be believed left out */
    struct qcow2_header best;
    struct qcow2_fit best_fit;
    unsigned best_n, fitted;
    uint64_t bytes_read;
    struct offset_vec reftables; /* clusters whose first word could name a refcount block */
};

/* The image is read by this header until the next one. */
static void read_by(struct search *s, const struct qcow2_header *h)
{
    s->q->header = *h;
    s->q->g = qcow2_derive(h, s->q->g.file_size);
    s->q->l1.n = s->q->l2.n = 0;
}

static uint64_t places(const struct search *s)
{
    return vd_min(s->q->g.file_end >> s->q->g.cluster_bits, MOST_PLACES);
}

/* ---- the end of the guest's data */

static int last_entry(struct search *s, uint64_t table, uint64_t *last, struct vd_err *err)
{
    uint64_t word[512], words = s->q->g.entry_bytes / 8, total = s->q->g.table_n * words;

    *last = 0;
    for (uint64_t first = 0; first < total; first += 512) {
        uint64_t n = vd_min(512, total - first);

        if (qcow2_read_words(s->ck->bs, table, first, n, word, err) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++)
            if (word[i])
                *last = (first + i) / words;
    }
    return 0;
}

/* Sets the size where the header's cannot be right, and the L1 size, for a table with n entries of which
 * `used` is the last that leads somewhere. False: the disk needs more entries than there are. */
static bool set_sizes(struct search *s, struct qcow2_header *h, uint64_t n, uint64_t used, uint64_t table)
{
    struct vd_err ignored = VD_ERR_INIT;
    uint64_t last, end;

    if (last_entry(s, table, &last, &ignored) < 0)
        return false;
    end = qcow2_guest(&s->q->g, used, last) + s->q->g.cluster_size;
    if (h->size < end || h->size % QCOW2_SECTOR)
        h->size = end;
    h->l1_size = (uint32_t)vd_max(used + 1, vd_div_up(h->size, qcow2_slot_bytes(&s->q->g)));
    return h->l1_size <= n;
}

/* ---- one reading */

/* Is a better than b? The one that leaves less over, or else explains more of the file: where counts are
 * narrow those of every other cluster may read as zeroes, and then half of the image fits. */
static int compare(const struct qcow2_fit *a, unsigned a_bits, const struct qcow2_fit *b, unsigned b_bits)
{
    uint64_t a_left = a->leaked << a_bits, b_left = b->leaked << b_bits, a_data = a->mapped << a_bits,
             b_data = b->mapped << b_bits;

    if (a_left != b_left)
        return a_left < b_left ? 1 : -1;
    return (a_data > b_data) - (a_data < b_data);
}

static int weigh(struct search *s, const struct qcow2_header *h, struct vd_err *err)
{
    struct qcow2_fit fit;
    int better;

    if (s->fitted++ >= MOST_FITTED)
        return 0;
    if (qcow2_try_header(s->ck, h, &fit, err) < 0)
        return -1;
    /* Subclusters are believed where there is a map of them; and what leaves half of the file over explains
     * nothing. */
    if (!fit.is_fit || ((h->incompatible_features & QCOW2_INCOMPAT_EXTENDED_L2) && !fit.has_maps) ||
        2 * fit.leaked > s->q->g.file_end >> s->q->g.cluster_bits)
        return 0;
    better = s->best_n ? compare(&fit, h->cluster_bits, &s->best_fit, s->best.cluster_bits) : 1;
    if (better < 0)
        return 0;
    s->best_n = better ? 1 : s->best_n + 1;
    s->best = *h;
    s->best_fit = fit;
    return 0;
}

/* ---- the L1 table */

/* How far a table is followed, cluster by cluster. */
struct table {
    uint64_t off;
    uint64_t n;    /* entries */
    uint64_t used; /* the last entry that leads somewhere, and the table there; 0: none does */
    uint64_t leads_to;
};

static int note_used(struct search *s, struct table *t, uint64_t off, struct vd_err *err)
{
    uint64_t word[512], n = s->q->g.cluster_size / 8;

    for (uint64_t at = 0; at < n; at += 512) {
        uint64_t k = vd_min(512, n - at);

        if (qcow2_read_words(s->ck->bs, off, at, k, word, err) < 0)
            return -1;
        for (uint64_t i = 0; i < k; i++)
            if (word[i] & QCOW2_OFFSET_MASK) {
                t->used = t->n + at + i;
                t->leads_to = word[i] & QCOW2_OFFSET_MASK;
            }
    }
    return 0;
}

/* The next cluster of the table: is it counted, does it parse, and does it lead to L2 tables if anywhere? */
static bool goes_on(struct search *s, struct table *t, struct vd_err *why)
{
    uint64_t cs = s->q->g.cluster_size, off = t->off + 8 * t->n;
    bool parses, is_used, leads = true;

    s->bytes_read += PROBED_BYTES + vd_min(cs, MOST_L1_PIECE);
    if (s->bytes_read > MOST_BYTES_READ || t->n + cs / 8 > vd_max(QCOW2_MAX_L1_ENTRIES, cs / 8))
        return false;
    /* Behind its first cluster a table may have holes where it is empty. */
    if ((!t->n && bdrv_is_hole(s->ck->bs->file, (int64_t)off, (int64_t)cs)) ||
        qcow2_parses_as_l1(s->ck, off, cs / 8, &parses, &is_used, why) < 0 || !parses)
        return false;
    if (is_used && (qcow2_names_l2_tables(s->ck->bs, (struct vd_span){off, cs}, &leads, why) < 0 || !leads))
        return false;
    if (note_used(s, t, off, why) < 0)
        return false;
    t->n += cs / 8;
    return true;
}

static int try_table(struct search *s, struct qcow2_header h, const struct table *t, struct vd_err *err)
{
    h.l1_table_offset = t->off;
    return t->leads_to && set_sizes(s, &h, t->n, t->used, t->leads_to) ? weigh(s, &h, err) : 0;
}

/* The table that begins at off: as long as it goes on, and where that fits nothing, a little shorter. */
static int try_l1(struct search *s, const struct qcow2_header *h, uint64_t off, struct vd_err *err)
{
    struct table kept[LENGTHS_TRIED] = {0}, t = {.off = off};
    struct vd_err why = VD_ERR_INIT;
    uint64_t k = 0;

    /* An empty end makes no other table. */
    for (uint64_t i = 0; i < MOST_L1_CLUSTERS && goes_on(s, &t, &why); i++) {
        k += !k || t.leads_to != kept[(k - 1) % LENGTHS_TRIED].leads_to;
        kept[(k - 1) % LENGTHS_TRIED] = t;
    }
    if (why.kind == VD_ERR_CANCELLED)
        return vd_budget_go_on(s->ck->budget, err);
    for (uint64_t i = 0; i < LENGTHS_TRIED && i < k; i++)
        if (try_table(s, *h, &kept[(k - 1 - i) % LENGTHS_TRIED], err) < 0)
            return -1;
    return 0;
}

static int try_l1_places(struct search *s, const struct qcow2_header *h, struct vd_err *err)
{
    for (uint64_t i = 1; i < places(s) && s->bytes_read <= MOST_BYTES_READ; i++)
        if (vd_budget_go_on(s->ck->budget, err) < 0 || try_l1(s, h, i << s->q->g.cluster_bits, err) < 0)
            return -1;
    return 0;
}

/* ---- the refcount table */

static bool is_reftable_known(const struct search *s, const struct qcow2_header *h)
{
    return h->refcount_table_clusters && vd_is_aligned(h->refcount_table_offset, s->q->g.cluster_size) &&
           h->refcount_table_offset && h->refcount_table_offset < s->q->g.file_end;
}

static bool names_block(struct search *s, uint64_t off, uint64_t *block)
{
    const struct qcow2_geometry *g = &s->q->g;
    struct vd_err ignored = VD_ERR_INIT;

    return !bdrv_is_hole(s->ck->bs->file, (int64_t)off, 8) &&
           qcow2_read_words(s->ck->bs, off, 0, 1, block, &ignored) == 0 && *block &&
           vd_is_aligned(*block, g->cluster_size) && *block < g->file_end && *block != off;
}

/* Which clusters could be refcount tables is the same for all widths of counts. */
static int gather_reftables(struct search *s, uint32_t bits, struct vd_err *err)
{
    struct qcow2_header h = s->base;
    uint64_t block;

    h.cluster_bits = bits;
    read_by(s, &h);
    s->reftables.n = 0;
    for (uint64_t i = 1; !is_reftable_known(s, &h) && i < places(s); i++) {
        if (vd_budget_go_on(s->ck->budget, err) < 0)
            return -1;
        if (names_block(s, i << bits, &block) && offset_vec_push(&s->reftables, i << bits) < 0)
            return vd_fail_memory(err);
    }
    return 0;
}

/* Does the first block that this cluster names count the header, this cluster and itself? */
static bool is_reftable(struct search *s, uint64_t off)
{
    const struct qcow2_geometry *g = &s->q->g;
    struct vd_err ignored = VD_ERR_INIT;
    uint64_t block, count[3], own[] = {0, off >> g->cluster_bits, 0};

    s->bytes_read += PROBED_BYTES;
    if (!names_block(s, off, &block))
        return false;
    own[2] = block >> g->cluster_bits;
    for (size_t i = 0; i < VD_ARRAY_SIZE(own); i++) {
        uint8_t bytes[8];
        uint64_t bit = own[i] << g->refcount_order;

        if (own[i] >= g->block_n)
            continue;
        if (bdrv_pread_padded(s->ck->bs->file, (int64_t)(block + bit / 64 * 8), sizeof(bytes), bytes,
                              &ignored) < 0)
            return false;
        qcow2_unpack_counts(g, bytes, own[i] & ((64 >> g->refcount_order) - 1), 1, &count[i]);
        if (!count[i])
            return false;
    }
    return true;
}

static int try_reftables(struct search *s, struct qcow2_header h, struct vd_err *err)
{
    read_by(s, &h);
    if (is_reftable_known(s, &h))
        return try_l1_places(s, &h, err);
    h.refcount_table_clusters = (uint32_t)vd_div_up(
        vd_div_up(s->q->g.file_end >> s->q->g.cluster_bits, s->q->g.block_n), s->q->g.cluster_size / 8);
    for (size_t i = 0; i < s->reftables.n && s->bytes_read <= MOST_BYTES_READ; i++) {
        if (vd_budget_go_on(s->ck->budget, err) < 0)
            return -1;
        read_by(s, &h);
        if (!is_reftable(s, s->reftables.v[i]))
            continue;
        h.refcount_table_offset = s->reftables.v[i];
        read_by(s, &h);
        if (try_l1_places(s, &h, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- all of them */

static bool is_sane(const struct qcow2_header *h)
{
    return h->version == 2 || (h->version == 3 && h->header_length >= QCOW2_V3_HEADER &&
                               !(h->incompatible_features & ~(uint64_t)QCOW2_INCOMPAT_KNOWN));
}

/* Does it say that there is more than a header that is found has? That must not be written over. */
static bool has_more(const struct qcow2_header *h)
{
    bool is_encrypted = h->crypt_method == QCOW2_CRYPT_AES || h->crypt_method == QCOW2_CRYPT_LUKS;

    return ((h->version == 2 || h->version == 3) && is_encrypted) ||
           (is_sane(h) && (h->crypt_method || h->nb_snapshots));
}

/* What of the header can be believed: where it makes no sense, nothing. */
static struct qcow2_header believable(const struct qcow2_header *h)
{
    struct qcow2_header base = {
        .version = 3, .refcount_order = QCOW2_MAX_REFCOUNT_ORDER + 1, .header_length = USUAL_LENGTH};

    if (is_sane(h))
        base = *h;
    base.magic = QCOW2_MAGIC;
    return base;
}

static int try_orders(struct search *s, uint32_t bits, struct vd_err *err)
{
    bool is_known = s->base.refcount_order <= QCOW2_MAX_REFCOUNT_ORDER;

    for (uint32_t order = 0; order <= QCOW2_MAX_REFCOUNT_ORDER; order++)
        for (unsigned extended = 0; extended < 2; extended++) {
            struct qcow2_header h = s->base;

            if (is_known && order != h.refcount_order)
                continue;
            if (extended && (is_known || bits < QCOW2_MIN_EXTENDED_BITS))
                continue;
            h.cluster_bits = bits;
            h.refcount_order = order;
            if (extended)
                h.incompatible_features |= QCOW2_INCOMPAT_EXTENDED_L2;
            if (try_reftables(s, h, err) < 0)
                return -1;
        }
    return 0;
}

int qcow2_search_lost_header(struct vd_check *ck, struct qcow2_header *fixed, enum vd_level *level,
                             struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header as_it_is = q->header;
    struct search s = {.ck = ck, .q = q, .base = believable(&q->header)};
    bool is_known = q->g.is_usable;
    int rc = 0;

    *level = VD_LEVEL_NONE;
    /* A header with a geometry keeps its other fields, so they must make sense. */
    if (has_more(&q->header) || (is_known && !is_sane(&q->header)))
        return 0;
    for (uint32_t bits = QCOW2_MIN_CLUSTER_BITS; rc == 0 && bits <= QCOW2_MAX_CLUSTER_BITS; bits++)
        if (!is_known || bits == as_it_is.cluster_bits)
            rc = gather_reftables(&s, bits, err) < 0 ? -1 : try_orders(&s, bits, err);
    offset_vec_done(&s.reftables);
    read_by(&s, &as_it_is);
    if (rc < 0 || s.best_n != 1 || s.fitted > MOST_FITTED || s.bytes_read > MOST_BYTES_READ)
        return rc;
    *fixed = s.best;
    *level = VD_LEVEL_ALL;
    return 0;
}
