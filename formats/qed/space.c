/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a live open may put its first new cluster.
 *
 * New clusters come from the end of the file. An entry that names clusters behind that end, or one that the
 * end cuts off, would own what is allocated there, and the damage would look whole. So the entries of all
 * tables are looked at once, before the first allocation, and one that reaches too far refuses it.
 */
#include "formats/qed/qed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "formats/base/bytes.h"
#include "formats/node/scan.h"

VD_VEC(scan_table_vec, struct vd_scan_table)

struct reach {
    const struct BlockDriverState *bs;
    const struct qed_geometry *g;
    struct scan_table_vec l2; /* as the L1 table names them */
};

static int refuse(const struct reach *r, const char *table, uint64_t at, uint64_t entry, struct vd_err *err)
{
    return vd_fail(err, VD_ERR_FORMAT, EINVAL,
                   "%s: the %s entry at 0x%" PRIx64 " is 0x%" PRIx64
                   ", which reaches behind the last whole cluster of the file (0x%" PRIx64
                   "), where new clusters would go; check and repair the image first",
                   r->bs->filename, table, at, entry, r->g->file_end);
}

static int refuse_unread(const struct reach *r, const char *table, const struct vd_scan_piece *piece,
                         struct vd_err *err)
{
    return vd_fail(err, piece->why->kind, piece->why->errnum,
                   "%s: %s table at 0x%" PRIx64 " must be read before a new cluster has a place: %s",
                   r->bs->filename, table, piece->table->span.off, piece->why->story);
}

static bool reaches_too_far(const struct reach *r, uint64_t entry, uint64_t bytes)
{
    return entry > QED_RESERVED_MAX && !vd_span_within((struct vd_span){entry, bytes}, r->g->file_end);
}

static int on_l1(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct reach *r = opaque;

    if (piece->why)
        return refuse_unread(r, "L1", piece, err);
    for (uint32_t i = 0; piece->bytes && i < piece->len; i += 8) {
        uint64_t entry = vd_get_le64(piece->bytes + i);

        if (reaches_too_far(r, entry, r->g->table_bytes))
            return refuse(r, "L1", piece->table->span.off + piece->at + i, entry, err);
        if (qed_l1_entry_kind(r->g, entry) == QED_ENTRY_GOOD &&
            scan_table_vec_push(&r->l2, (struct vd_scan_table){.span = qed_table_span(r->g, entry)}) < 0)
            return vd_fail_memory(err);
    }
    return 0;
}

static int on_l2(void *opaque, const struct vd_scan_piece *piece, struct vd_err *err)
{
    struct reach *r = opaque;

    if (piece->why)
        return refuse_unread(r, "L2", piece, err);
    for (uint32_t i = 0; piece->bytes && i < piece->len; i += 8) {
        uint64_t entry = vd_get_le64(piece->bytes + i);

        if (reaches_too_far(r, entry, r->g->cluster_size))
            return refuse(r, "L2", piece->table->span.off + piece->at + i, entry, err);
    }
    return 0;
}

static int by_offset(const void *pa, const void *pb)
{
    const struct vd_scan_table *a = pa, *b = pb;

    return (a->span.off > b->span.off) - (a->span.off < b->span.off);
}

/* Sorted, and each byte once: several L1 entries may name one table, or tables that overlap. */
static void make_disjoint(struct scan_table_vec *tables)
{
    uint64_t end = 0;
    size_t n = 0;

    if (tables->n)
        qsort(tables->v, tables->n, sizeof(*tables->v), by_offset);
    for (size_t i = 0; i < tables->n; i++) {
        uint64_t from = vd_max(tables->v[i].span.off, end), to = vd_span_end(tables->v[i].span);

        if (from >= to)
            continue;
        tables->v[n++] = (struct vd_scan_table){
            .span = {from, to - from}
        };
        end = to;
    }
    tables->n = n;
}

static int look_at_tables(struct reach *r, struct vd_err *err)
{
    struct vd_scan_table l1 = {.span = qed_table_span(r->g, r->g->l1_off)};
    struct vd_budget budget = VD_BUDGET_INIT;

    if (vd_scan(r->bs->file, &l1, 1, &budget, on_l1, r, err) < 0)
        return -1;
    make_disjoint(&r->l2);
    return vd_scan(r->bs->file, r->l2.v, r->l2.n, &budget, on_l2, r, err);
}

int qed_find_alloc_end(struct BlockDriverState *bs, struct vd_err *err)
{
    struct qed *qed = bs->opaque;
    struct reach r = {.bs = bs, .g = &qed->g};
    int rc;

    if (qed->alloc_end)
        return 0;
    rc = look_at_tables(&r, err);
    scan_table_vec_done(&r.l2);
    if (rc == 0)
        qed->alloc_end = qed->g.file_end;
    return rc;
}
