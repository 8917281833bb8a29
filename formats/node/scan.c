/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/scan.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "formats/node/file.h"

enum {
    WINDOW = 8 << 20,
    NARROW = 4096, /* a piece that cannot be read is read again in pieces of this size: one bad sector costs
                      no more */
    FEW = 16,      /* tables */
};

struct scan {
    struct BlockDriverState *bs;
    const struct vd_scan_table *tables;
    size_t n;
    size_t ahead;         /* the table whose prefetch comes next */
    uint64_t ahead_bytes; /* asked for and not yet read */
    bool looks_for_holes;
    uint8_t *buf;
    vd_scan_fn *fn;
    void *opaque;
};

/* Where the tables claim more bytes than the file occupies, some lie in holes, and reading those would cost
 * time that the file's real length does not bound. Of a few tables it is cheaper to ask than to read. */
static bool is_worth_asking(struct BlockDriverState *bs, const struct vd_scan_table *tables, size_t n)
{
    struct BlockDriverState *protocol = bdrv_protocol(bs);
    uint64_t sum = 0;

    if (protocol->drv != &vd_file_driver)
        return false;
    for (size_t i = 0; i < n; i++)
        sum = vd_add_sat(sum, tables[i].span.len);
    return n <= FEW || sum > vd_file_allocated(protocol);
}

static void look_ahead(struct scan *s)
{
    while (s->ahead < s->n && s->ahead_bytes < WINDOW) {
        struct vd_span want = s->tables[s->ahead++].span;

        while (s->ahead < s->n && s->tables[s->ahead].span.off == want.off + want.len && want.len < WINDOW)
            want.len += s->tables[s->ahead++].span.len;
        bdrv_prefetch(s->bs, (int64_t)want.off, (int64_t)vd_min(want.len, WINDOW));
        s->ahead_bytes += want.len;
    }
}

/* A stretch of small pieces with one fate: read, or refused for the same first reason. */
static int tell_stretch(struct scan *s, struct vd_scan_piece *stretch, const struct vd_err *why,
                        struct vd_err *err)
{
    uint32_t len = stretch->len;

    stretch->why = stretch->bytes ? NULL : why;
    stretch->len = 0;
    if (!len)
        return 0;
    return s->fn(
        s->opaque,
        &(struct vd_scan_piece){stretch->table, stretch->at, len, stretch->bytes, false, stretch->why}, err);
}

/* What a read refused, again in small pieces. */
static int scan_narrow(struct scan *s, const struct vd_scan_table *table, uint64_t at, uint32_t len,
                       struct vd_err *err)
{
    struct vd_scan_piece stretch = {.table = table};
    struct vd_err why = VD_ERR_INIT, first = VD_ERR_INIT;

    for (uint32_t done = 0; done < len;) {
        uint32_t n = (uint32_t)vd_min(NARROW, len - done);
        bool is_read = bdrv_pread(s->bs, (int64_t)(table->span.off + at + done), n, s->buf + done, &why) == 0;

        if (!stretch.len || is_read != (stretch.bytes != NULL)) {
            if (tell_stretch(s, &stretch, &first, err) < 0)
                return -1;
            stretch.at = at + done;
            stretch.bytes = is_read ? s->buf + done : NULL;
            first = why;
        }
        stretch.len += n;
        done += n;
    }
    return tell_stretch(s, &stretch, &first, err);
}

static int scan_bytes(struct scan *s, const struct vd_scan_table *table, uint64_t at, uint32_t len,
                      struct vd_err *err)
{
    struct vd_scan_piece piece = {.table = table, .at = at, .len = len, .bytes = s->buf};

    if (bdrv_pread(s->bs, (int64_t)(table->span.off + at), len, s->buf, NULL) < 0)
        return scan_narrow(s, table, at, len, err);
    return s->fn(s->opaque, &piece, err);
}

/* How much of the file from off on, of len bytes, is alike: in a hole or not. Where nothing is known, it is
 * not. */
static uint32_t stretch_of(struct scan *s, uint64_t off, uint32_t len, bool *is_hole)
{
    int64_t pnum = 0;
    int status = bdrv_block_status(s->bs, (int64_t)off, len, &pnum, NULL, NULL);
    uint64_t n = status < 0 ? 0 : (uint64_t)pnum;

    *is_hole =
        status >= 0 && (status & (BDRV_BLOCK_DATA | BDRV_BLOCK_ZERO)) == BDRV_BLOCK_ZERO && n >= NARROW;
    n = *is_hole && n < len ? vd_align_down(n, NARROW) : vd_align_up_sat(n, NARROW);
    return n ? (uint32_t)vd_min(n, len) : len;
}

/* One piece of one table, alone; where holes are looked for, only what is there is read. */
static int scan_alone(struct scan *s, const struct vd_scan_table *table, uint64_t at, uint32_t len,
                      struct vd_err *err)
{
    for (uint32_t n = len; len; at += n, len -= n) {
        struct vd_scan_piece piece = {.table = table, .at = at};
        int rc;

        if (s->looks_for_holes)
            n = stretch_of(s, table->span.off + at, len, &piece.is_hole);
        piece.len = n;
        rc = piece.is_hole ? s->fn(s->opaque, &piece, err) : scan_bytes(s, table, at, n, err);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int scan_in_pieces(struct scan *s, const struct vd_scan_table *table, struct vd_budget *budget,
                          struct vd_err *err)
{
    for (uint64_t at = 0; at < table->span.len;) {
        uint32_t len = (uint32_t)vd_min(VD_SCAN_PIECE, table->span.len - at);
        int64_t hole = 0, off = (int64_t)(table->span.off + at);

        if (vd_budget_go_on(budget, err) < 0)
            return -1;
        /* A long hole is passed over in one step. */
        if (s->looks_for_holes) {
            int status = bdrv_block_status(s->bs, off, (int64_t)(table->span.len - at), &hole, NULL, NULL);

            if (status >= 0 && (status & BDRV_BLOCK_ZERO) && hole > len) {
                at += vd_align_down((uint64_t)hole, 512);
                continue;
            }
        }
        if (scan_alone(s, table, at, len, err) < 0)
            return -1;
        at += len;
    }
    return 0;
}

/* How many tables from i on stand side by side and fit the buffer? 0: not even the first does. */
static size_t neighbours(const struct scan *s, size_t i, uint64_t *len)
{
    size_t k = i;

    *len = 0;
    while (k < s->n && s->tables[k].span.off == s->tables[i].span.off + *len &&
           s->tables[k].span.len <= VD_SCAN_PIECE - *len)
        *len += s->tables[k++].span.len;
    return k - i;
}

static int scan_joined(struct scan *s, size_t i, size_t count, uint64_t len, struct vd_err *err)
{
    uint64_t at = 0;

    if (s->looks_for_holes ||
        bdrv_pread(s->bs, (int64_t)s->tables[i].span.off, (int64_t)len, s->buf, NULL) < 0) {
        for (size_t k = i; k < i + count; k++)
            if (scan_alone(s, &s->tables[k], 0, (uint32_t)s->tables[k].span.len, err) < 0)
                return -1;
        return 0;
    }
    for (size_t k = i; k < i + count; k++) {
        struct vd_scan_piece piece = {.table = &s->tables[k], .len = (uint32_t)s->tables[k].span.len};

        piece.bytes = s->buf + at;
        at += piece.len;
        if (s->fn(s->opaque, &piece, err) < 0)
            return -1;
    }
    return 0;
}

/* Of a small image the first touch of the buffer, page by page, would be a third of the time. */
static void touch_at_once(uint8_t *buf, size_t n)
{
#ifdef MADV_POPULATE_WRITE
    uintptr_t from = vd_align_up_sat((uintptr_t)buf, NARROW), to = vd_align_down((uintptr_t)buf + n, NARROW);

    if (from < to)
        (void)madvise(buf + (from - (uintptr_t)buf), to - from, MADV_POPULATE_WRITE);
#else
    (void)buf;
    (void)n;
#endif
}

/* How much of the buffer can be needed at all. */
static size_t most_of(const struct vd_scan_table *tables, size_t n)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < n && sum < VD_SCAN_PIECE; i++)
        sum += vd_min(tables[i].span.len, VD_SCAN_PIECE);
    return (size_t)vd_min(sum, VD_SCAN_PIECE);
}

int vd_scan(struct BlockDriverState *bs, const struct vd_scan_table *tables, size_t n,
            struct vd_budget *budget, vd_scan_fn *fn, void *opaque, struct vd_err *err)
{
    vd_auto_mem uint8_t *buf = n ? malloc(VD_SCAN_PIECE) : NULL;
    struct scan s = {.bs = bs, .tables = tables, .n = n, .buf = buf, .fn = fn, .opaque = opaque};

    if (n && !buf)
        return vd_fail_memory(err);
    if (n)
        touch_at_once(buf, most_of(tables, n));
    s.looks_for_holes = is_worth_asking(bs, tables, n);
    for (size_t i = 0; i < n;) {
        uint64_t len;
        size_t count = neighbours(&s, i, &len);
        int rc;

        if (vd_budget_go_on(budget, err) < 0)
            return -1;
        if (!s.looks_for_holes)
            look_ahead(&s);
        rc = count ? scan_joined(&s, i, count, len, err) : scan_in_pieces(&s, &tables[i], budget, err);
        if (rc < 0)
            return -1;
        len = count ? len : tables[i].span.len;
        s.ahead_bytes -= vd_min(s.ahead_bytes, len);
        i += count ? count : 1;
        vd_budget_progress(budget, "tables", i, n);
    }
    return 0;
}
