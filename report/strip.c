/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/strip.h"

#include <string.h>

static const char leaked[] = "leaked", shared[] = "claimed more than once";

enum { LEAKED = '.', SHARED = '!' };

static const char letter_of_kind[VD_KINDS_END] = {[VD_KIND_FREE] = '_',
                                                  [VD_KIND_HEADER] = 'H',
                                                  [VD_KIND_L1] = '1',
                                                  [VD_KIND_L2] = '2',
                                                  [VD_KIND_REFCOUNT_TABLE] = 'R',
                                                  [VD_KIND_REFCOUNT_BLOCK] = 'r',
                                                  [VD_KIND_SNAPSHOT_TABLE] = 'S',
                                                  [VD_KIND_SNAPSHOT_L1] = 's',
                                                  [VD_KIND_BITMAP_DIRECTORY] = 'B',
                                                  [VD_KIND_BITMAP_TABLE] = 'b',
                                                  [VD_KIND_BITMAP_DATA] = 'd',
                                                  [VD_KIND_ENCRYPTION_HEADER] = 'E',
                                                  [VD_KIND_COMPRESSED] = 'c',
                                                  [VD_KIND_DATA] = '#',
                                                  [VD_KIND_TAIL] = '-'};

const char *vd_strip_kind_name(enum vd_kind kind, bool counts)
{
    return kind == VD_KIND_FREE && !counts ? leaked : vd_kind_name(kind);
}

const char *vd_strip_meaning(char letter)
{
    if (letter == LEAKED)
        return leaked;
    if (letter == SHARED)
        return shared;
    for (enum vd_kind k = 0; k < VD_KINDS_END; k++)
        if (letter_of_kind[k] == letter)
            return vd_kind_name(k);
    return NULL;
}

void vd_strip_begin(struct vd_strip *strip, uint64_t clusters, size_t most, bool counts)
{
    strip->clusters = clusters;
    strip->cells = clusters < most ? (size_t)clusters : most;
    strip->counts = counts;
    memset(strip->v, 0, strip->cells * sizeof(*strip->v));
}

/* First cluster of a cell. */
static uint64_t start_of(const struct vd_strip *strip, size_t cell)
{
    return (uint64_t)((unsigned __int128)strip->clusters * cell / strip->cells);
}

/* The cell of a cluster: the last one that does not start behind it. */
static size_t cell_of(const struct vd_strip *strip, uint64_t cluster)
{
    return (size_t)((((unsigned __int128)cluster + 1) * strip->cells - 1) / strip->clusters);
}

void vd_strip_add(struct vd_strip *strip, uint64_t first, uint64_t count, enum vd_kind kind, uint64_t refs)
{
    uint64_t end = vd_min(first + count, strip->clusters);

    if (first >= end)
        return;
    for (size_t cell = cell_of(strip, first); cell < strip->cells && start_of(strip, cell) < end; cell++) {
        uint64_t from = vd_max(first, start_of(strip, cell)), to = vd_min(end, start_of(strip, cell + 1));

        strip->v[cell].clusters[kind] += to - from;
        strip->v[cell].is_shared |= refs > 1 && !strip->counts;
    }
}

/* What weighs most in a cell decides its letter; damage beats everything. */
static char letter_of(const struct vd_strip *strip, const struct vd_strip_cell *cell)
{
    enum vd_kind most = VD_KIND_FREE;

    if (cell->is_shared)
        return SHARED;
    for (enum vd_kind k = 0; k < VD_KINDS_END; k++)
        if (cell->clusters[k] > cell->clusters[most])
            most = k;
    /* A table is small, and what people look for. */
    for (enum vd_kind k = VD_KIND_HEADER; k < VD_KIND_COMPRESSED; k++)
        if (cell->clusters[k])
            most = k;
    return most == VD_KIND_FREE && !strip->counts ? LEAKED : letter_of_kind[most];
}

void vd_strip_letters(const struct vd_strip *strip, char letters[VD_STRIP_MAX + 1])
{
    for (size_t i = 0; i < strip->cells; i++)
        letters[i] = letter_of(strip, &strip->v[i]);
    letters[strip->cells] = '\0';
}

static int add_run(void *opaque, uint64_t first, uint64_t count, enum vd_kind kind, uint64_t refs)
{
    vd_strip_add(opaque, first, count, kind, refs);
    return 0;
}

void vd_strip_of(const struct vd_check_result *result, size_t most, char letters[VD_STRIP_MAX + 1])
{
    struct vd_strip strip;

    vd_strip_begin(&strip, vd_usemap_clusters(result->map), most, vd_usemap_counts_refs(result->map));
    (void)vd_check_each_run(result, add_run, &strip);
    vd_strip_letters(&strip, letters);
}
