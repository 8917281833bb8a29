/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "deep" (--deep): every compressed cluster is inflated, each extent once however many tables name it,
 * in order of host offset.
 *
 * Where nothing inflates by the header's method, the other one is tried before anything is called damaged.
 * Encrypted data cannot be inflated without its key and is passed over.
 */
#include <errno.h>
#include <stdlib.h>

#include "formats/base/inflate.h"
#include "formats/qcow2/judge.h"

enum { SAMPLE = 8 };

struct extent {
    uint64_t host, bytes;
    uint64_t off; /* of the entry */
    uint64_t word;
    uint64_t guest;
    uint64_t trees;
    uint32_t slot;
    uint32_t i;
};

VD_VEC(extent_vec, struct extent)

struct deep {
    struct judge j;
    struct extent_vec extents;
    uint8_t *cluster;
};

static int on_entry(void *opaque, const struct qcow2_seen *seen, struct vd_err *err)
{
    struct deep *d = opaque;
    uint64_t guest = qcow2_guest(d->j.g, seen->table->slot, seen->i);
    struct qcow2_entry e = qcow2_parse_entry(d->j.g, seen->word, seen->bitmap, guest);
    struct extent x = {.host = e.host,
                       .bytes = e.bytes,
                       .off = seen->table->off + seen->i * d->j.g->entry_bytes,
                       .word = seen->word,
                       .guest = guest,
                       .trees = seen->table->trees,
                       .slot = seen->table->slot,
                       .i = (uint32_t)seen->i};

    if (e.type != QCOW2_PACKED || (e.faults & QCOW2_F_CLAIMS_NOTHING))
        return 0;
    if (vd_budget_take(d->j.ck->budget, sizeof(x), "compressed clusters", err) < 0)
        return -1;
    return extent_vec_push(&d->extents, x) < 0 ? vd_fail_memory(err) : 0;
}

static int by_host(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;

    if (x->host != y->host)
        return x->host < y->host ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return (x->off > y->off) - (x->off < y->off);
}

static bool inflates(struct deep *d, const struct extent *x, unsigned type, struct vd_inflated *result,
                     struct vd_err *why)
{
    struct qcow2_entry e = {.type = QCOW2_PACKED, .host = x->host, .bytes = x->bytes};

    return qcow2_inflate(d->j.ck->bs, &e, type, d->cluster, result, why) == 0;
}

/* ---- the method */

static int judge_method(struct deep *d, bool *is_wrong, struct vd_err *err)
{
    struct qcow2_header fixed = d->j.q->header;
    unsigned now = fixed.compression_type, other = now == QCOW2_ZSTD ? QCOW2_DEFLATE : QCOW2_ZSTD;
    size_t tried = vd_min(d->extents.n, SAMPLE), whole = 0;

    for (size_t i = 0; i < tried; i++) {
        struct vd_inflated result;
        struct vd_err why = VD_ERR_INIT;
        const struct extent *x = &d->extents.v[i * d->extents.n / tried];

        if (inflates(d, x, now, &result, &why))
            return 0;
        whole += inflates(d, x, other, &result, &why);
    }
    *is_wrong = tried && whole == tried && d->j.q->header.version > 2;
    if (!*is_wrong)
        return 0;
    fixed.compression_type = (uint8_t)other;
    fixed.incompatible_features ^= QCOW2_INCOMPAT_COMPRESSION;
    if (vd_found(d->j.ck, QCOW2_COMPRESSION_TYPE_SUSPECT, .host = 104, .found = now, .expected = other) ==
        VD_LEAVE)
        return 0;
    return qcow2_fix_fields(d->j.ck, &fixed, "incompatible_features", "compression_type", VD_STAGE_ROOT, err);
}

/* ---- extents */

static int judge_broken(struct deep *d, const struct extent *x, const struct vd_err *why)
{
    vd_found(d->j.ck, QCOW2_L2_COMPRESSED_UNDECODABLE, .host = x->off, .guest = x->guest,
             .guest_bytes = on_disk(&d->j, first_tree(x->trees), x->guest, d->j.g->cluster_size),
             .found_text = why->story);
    return 0;
}

/* Slack within the last two sectors is what writers leave; more keeps clusters in use for nothing. */
static int judge_slack(struct deep *d, const struct extent *x, const struct vd_inflated *result,
                       struct vd_err *err)
{
    uint64_t need = qcow2_packed_word(d->j.g, x->host, result->used),
             spare = x->bytes - vd_min(x->bytes, result->used);

    if (spare < 2 * QCOW2_SECTOR)
        return 0;
    if (vd_found(d->j.ck, QCOW2_L2_COMPRESSED_SLACK, .host = x->off, .guest = x->guest, .found = x->word,
                 .expected = need, .level = qcow2_level_inside(d->j.ck, x->off, 0)) == VD_FIX)
        return qcow2_fix_word(d->j.ck, x->off, need, VD_STAGE_TABLE, err);
    return 0;
}

/* *end: where the streams before this one end, and *owner the one that does. */
static int judge_extent(struct deep *d, const struct extent *x, uint64_t *end, const struct extent **owner,
                        struct vd_err *err)
{
    struct vd_inflated result = {0};
    struct vd_err why = VD_ERR_INIT;
    bool is_whole = inflates(d, x, d->j.q->header.compression_type, &result, &why);
    uint64_t stop = x->host + (is_whole ? result.used : 0);

    name_tree(&d->j, first_tree(x->trees));
    VD_AT(d->j.ck, "L1", x->slot);
    VD_AT(d->j.ck, "L2", x->i);
    if (!is_whole && why.errnum == ENOMEM) {
        *err = why;
        return -1;
    }
    if (!is_whole)
        judge_broken(d, x, &why);
    else if (judge_slack(d, x, &result, err) < 0)
        return -1;
    if (x->host < *end)
        vd_found(d->j.ck, QCOW2_L2_COMPRESSED_OVERLAP, .host = x->off, .guest = x->guest,
                 .guest_bytes = on_disk(&d->j, first_tree(x->trees), x->guest, d->j.g->cluster_size),
                 .found = x->word, .other_guest = (*owner)->guest, .other_host = (*owner)->off);
    if (stop > *end) {
        *end = stop;
        *owner = x;
    }
    return 0;
}

static int judge_extents(struct deep *d, struct vd_err *err)
{
    const struct extent *owner = NULL;
    uint64_t end = 0;

    for (size_t i = 0; i < d->extents.n; i++) {
        const struct extent *x = &d->extents.v[i];

        if (i && x->host == x[-1].host && x->bytes == x[-1].bytes)
            continue;
        if (vd_budget_go_on(d->j.ck->budget, err) < 0 || judge_extent(d, x, &end, &owner, err) < 0)
            return -1;
        vd_budget_progress(d->j.ck->budget, "compressed clusters", i, d->extents.n);
    }
    return 0;
}

static int run(struct deep *d, struct vd_err *err)
{
    struct qcow2_walk *walk = d->j.walk;
    bool is_wrong = false;

    for (size_t i = 0; i < walk->tables.n; i++)
        if (qcow2_each_entry(&d->j, &walk->tables.v[i], on_entry, d, err) < 0)
            return -1;
    if (!d->extents.n)
        return 0;
    qsort(d->extents.v, d->extents.n, sizeof(*d->extents.v), by_host);
    if (judge_method(d, &is_wrong, err) < 0)
        return -1;
    return is_wrong ? 0 : judge_extents(d, err);
}

int qcow2_pass_deep(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_state *s = ck->driver_data;
    struct deep d = {.j = new_judge(ck, &s->walk)};
    int rc;

    if (!ck->deep || d.j.q->header.crypt_method)
        return 0;
    d.cluster = malloc(d.j.g->cluster_size);
    rc = d.cluster ? run(&d, err) : vd_fail_memory(err);
    vd_budget_give(ck->budget, d.extents.n * sizeof(*d.extents.v));
    extent_vec_done(&d.extents);
    free(d.cluster);
    ck->tree = NULL;
    return rc;
}
