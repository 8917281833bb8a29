/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a word of an L1 or L2 table means. No I/O: words and a geometry in, a kind out.
 */
#include "formats/qed/qed.h"

enum qed_entry_kind qed_l1_entry_kind(const struct qed_geometry *g, uint64_t entry)
{
    if (entry == QED_UNALLOCATED)
        return QED_ENTRY_NONE;
    if (!vd_is_aligned(entry, g->cluster_size))
        return entry <= QED_RESERVED_MAX ? QED_ENTRY_RESERVED_VALUE : QED_ENTRY_MISALIGNED;
    if (entry < g->header_end)
        return QED_ENTRY_IN_HEADER;
    if (entry >= g->file_size)
        return QED_ENTRY_OUT_OF_FILE;
    if (entry >= g->l1_off && entry - g->l1_off < g->table_bytes)
        return QED_ENTRY_IN_L1;
    /* Of a table every byte must be there, not only all but a sector's. */
    return vd_span_within((struct vd_span){entry, g->table_bytes}, g->file_size) ? QED_ENTRY_GOOD
                                                                                 : QED_ENTRY_PARTIAL;
}

enum qed_entry_kind qed_l2_entry_kind(const struct qed_geometry *g, uint64_t entry)
{
    if (entry == QED_UNALLOCATED)
        return QED_ENTRY_NONE;
    if (entry == QED_ZERO_CLUSTER)
        return QED_ENTRY_ZERO;
    if (entry <= QED_RESERVED_MAX)
        return QED_ENTRY_RESERVED_VALUE;
    if (!vd_is_aligned(entry, g->cluster_size))
        return QED_ENTRY_MISALIGNED;
    if (entry < g->header_end)
        return QED_ENTRY_IN_HEADER;
    if (entry < g->file_end)
        return QED_ENTRY_GOOD;
    return entry < g->file_size ? QED_ENTRY_PARTIAL : QED_ENTRY_OUT_OF_FILE;
}
