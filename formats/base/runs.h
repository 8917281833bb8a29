/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A set of numbers as sorted runs {first, count}: leaked clusters, guest ranges that findings name, ...
 *
 * Numbers may be added in any order; the set is brought in order (sorted, joined) when it is first asked.
 * Adding in ascending order, the common case, costs no sorting. The memory is 16 bytes a run.
 */
#ifndef VD_BASE_RUNS_H
#define VD_BASE_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vd_run {
    uint64_t first;
    uint64_t count;
};

struct vd_runs {
    struct vd_run *v; /* in order only after vd_runs_settle() */
    size_t n, cap;
    bool unsettled;
};

/* Adds count numbers from first on (count 0 adds nothing); -1 where memory is out. first + count must not
 * wrap. */
int vd_runs_add(struct vd_runs *runs, uint64_t first, uint64_t count);

/* Makes room for n more runs; -1 where memory is out. */
int vd_runs_reserve(struct vd_runs *runs, size_t n);

/* Adds all of other's runs. */
int vd_runs_add_all(struct vd_runs *runs, const struct vd_runs *other);

/* Sorts and joins the runs, so that v can be read in order. */
void vd_runs_settle(struct vd_runs *runs);

bool vd_runs_has(struct vd_runs *runs, uint64_t number);

/* Are all count numbers from first on in the set? */
bool vd_runs_has_all(struct vd_runs *runs, uint64_t first, uint64_t count);

/* The index of the first run that ends after number, or n. */
size_t vd_runs_find(struct vd_runs *runs, uint64_t number);

/* How many numbers the set has. */
uint64_t vd_runs_total(struct vd_runs *runs);

/* Puts into *out what is in a and not in b; out is not a or b. -1 where memory is out. */
int vd_runs_minus(struct vd_runs *a, struct vd_runs *b, struct vd_runs *out);

/* Frees the memory; the set is empty then. */
void vd_runs_done(struct vd_runs *runs);

#endif
