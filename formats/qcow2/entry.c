/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a word of an L1 or L2 table means. No I/O: words and a geometry in, a reading and its faults out.
 */
#include "formats/qcow2/qcow2.h"

unsigned qcow2_l1_faults(const struct qcow2_geometry *g, uint64_t word)
{
    uint64_t off = word & QCOW2_OFFSET_MASK;
    unsigned faults = word & QCOW2_L1_RESERVED ? QCOW2_F_RESERVED : 0;

    if (!off)
        return faults;
    if (!vd_is_aligned(off, g->cluster_size))
        return faults | QCOW2_F_MISALIGNED;
    if (off >= g->file_end)
        return faults | QCOW2_F_OUT_OF_FILE;
    return off + g->cluster_size > g->file_size ? faults | QCOW2_F_PARTIAL_TAIL : faults;
}

/* An offset field of 70 - cluster_bits bits, and the number of sectors behind the first above it. */
static struct qcow2_entry parse_packed(const struct qcow2_geometry *g, uint64_t word, uint64_t bitmap)
{
    unsigned x = 70 - g->cluster_bits;
    uint64_t host = word & (((uint64_t)1 << x) - 1),
             sectors = ((word >> x) & (((uint64_t)1 << (g->cluster_bits - 8)) - 1)) + 1;
    struct qcow2_entry e = {
        .type = QCOW2_PACKED,
        .host = host & ((QCOW2_OFFSET_MASK | 0x1ff)),
        .bitmap = bitmap,
        .is_copied = word & QCOW2_COPIED,
    };

    e.bytes = sectors * QCOW2_SECTOR - e.host % QCOW2_SECTOR;
    e.faults = (e.is_copied ? QCOW2_F_PACKED_COPIED : 0) | (bitmap ? QCOW2_F_PACKED_BITMAP : 0) |
               (host != e.host ? QCOW2_F_PACKED_RESERVED : 0) |
               (g->has_data_file ? QCOW2_F_PACKED_DATA_FILE : 0);
    if (e.host >= g->file_size)
        e.faults |= QCOW2_F_PACKED_OUT_OF_FILE;
    else if (vd_align_up_sat(e.host + e.bytes, g->cluster_size) > g->file_end)
        e.faults |= QCOW2_F_PACKED_OVERSIZED;
    return e;
}

/* In an external data file every cluster has its place, used or not. */
static unsigned subcluster_faults(const struct qcow2_geometry *g, const struct qcow2_entry *e, bool has_host)
{
    uint32_t data = (uint32_t)e->bitmap, zero = (uint32_t)(e->bitmap >> 32);

    if (data && !has_host)
        return QCOW2_F_SUB_NO_OFFSET;
    if (data & zero)
        return QCOW2_F_SUB_CONFLICT;
    return has_host && !g->has_data_file && !data && !zero ? QCOW2_F_OFFSET_UNUSED : 0;
}

static unsigned offset_faults(const struct qcow2_geometry *g, const struct qcow2_entry *e)
{
    if (!vd_is_aligned(e->host, g->cluster_size))
        return e->type == QCOW2_ZERO_ALLOCATED || (g->has_extended_l2 && !(uint32_t)e->bitmap)
                   ? QCOW2_F_ZERO_MISALIGNED
                   : QCOW2_F_MISALIGNED;
    if (e->host >= g->file_end)
        return QCOW2_F_OUT_OF_FILE;
    return e->host + g->cluster_size > g->file_size ? QCOW2_F_PARTIAL_TAIL : 0;
}

/* In an external data file the guest's offset is the host's. */
static unsigned data_file_faults(const struct qcow2_entry *e, uint64_t guest)
{
    if (e->host != guest)
        return QCOW2_F_DATA_FILE_OFFSET;
    return e->is_copied ? 0 : QCOW2_F_DATA_FILE_COPIED;
}

struct qcow2_entry qcow2_parse_entry(const struct qcow2_geometry *g, uint64_t word, uint64_t bitmap,
                                     uint64_t guest)
{
    struct qcow2_entry e = {.host = word & QCOW2_OFFSET_MASK,
                            .bytes = g->cluster_size,
                            .bitmap = bitmap,
                            .is_copied = word & QCOW2_COPIED};
    bool zero = (word & QCOW2_ZERO) && !g->has_extended_l2, has_host;

    if (word & QCOW2_COMPRESSED)
        return parse_packed(g, word, bitmap);
    has_host = e.host || (g->has_data_file && e.is_copied);
    e.type = zero ? (has_host ? QCOW2_ZERO_ALLOCATED : QCOW2_ZERO_PLAIN)
                  : (has_host ? QCOW2_NORMAL : QCOW2_UNALLOCATED);
    if (word & QCOW2_L2_RESERVED)
        e.faults |= QCOW2_F_RESERVED;
    if ((word & QCOW2_ZERO) && g->has_extended_l2)
        e.faults |= QCOW2_F_ZERO_EXTENDED;
    if (zero && g->version == 2)
        e.faults |= QCOW2_F_ZERO_V2;
    if (g->has_extended_l2)
        e.faults |= subcluster_faults(g, &e, has_host);
    if (g->has_data_file && has_host)
        e.faults |= data_file_faults(&e, guest);
    else if (e.host)
        e.faults |= offset_faults(g, &e);
    else if (e.is_copied)
        e.faults |= QCOW2_F_COPIED_ALONE;
    return e;
}

uint64_t qcow2_packed_word(const struct qcow2_geometry *g, uint64_t host, uint64_t bytes)
{
    uint64_t sectors = vd_div_up(host % QCOW2_SECTOR + vd_max(bytes, 1), QCOW2_SECTOR);

    return QCOW2_COMPRESSED | (sectors - 1) << (70 - g->cluster_bits) | host;
}
