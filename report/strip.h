/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file drawn as a strip: a letter for each of some equal stretches, by what weighs most in it. One set of
 * letters, for `vdcheck map` and for what audits keep.
 */
#ifndef VD_STRIP_H
#define VD_STRIP_H

#include "checker/check.h"

enum {
    VD_STRIP_MAX = 512, /* cells */
    VD_STRIP_KEPT = 64, /* cells of the strip that an audit keeps */
};

struct vd_strip_cell {
    uint64_t clusters[VD_KINDS_END]; /* of each kind */
    bool is_shared;
};

struct vd_strip {
    uint64_t clusters;
    size_t cells; /* not more than there are clusters */
    bool counts;  /* the format keeps counts: free space is no leak, and sharing no damage */
    struct vd_strip_cell v[VD_STRIP_MAX];
};

/* Begins a strip of at most so many cells over a map of so many clusters. */
void vd_strip_begin(struct vd_strip *strip, uint64_t clusters, size_t most, bool counts);

/* Enters a run of the map. */
void vd_strip_add(struct vd_strip *strip, uint64_t first, uint64_t count, enum vd_kind kind, uint64_t refs);

/* Writes the letters of all cells; damage beats everything. */
void vd_strip_letters(const struct vd_strip *strip, char letters[VD_STRIP_MAX + 1]);

/* The letters of a whole check that has a map. */
void vd_strip_of(const struct vd_check_result *result, size_t most, char letters[VD_STRIP_MAX + 1]);

/* What a letter says, for people; NULL where it is none. */
const char *vd_strip_meaning(char letter);

/* The name of a kind. What nothing names is leaked, but for formats that keep counts: there it may be plainly
 * free. */
const char *vd_strip_kind_name(enum vd_kind kind, bool counts);

#endif
