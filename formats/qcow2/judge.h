/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the judges of tables share; private to formats/qcow2/judge*.c.
 */
#ifndef VD_QCOW2_JUDGE_H
#define VD_QCOW2_JUDGE_H

#include "formats/qcow2/qcow2.h"

struct judge {
    struct vd_check *ck;
    struct qcow2 *q;
    const struct qcow2_geometry *g;
    struct qcow2_state *s;
    struct qcow2_walk *walk;
    uint64_t lost_slots;   /* L1 entries that lead to no table */
    struct vd_runs masked; /* clusters that stray entries were led to in this round */
};

static inline struct judge new_judge(struct vd_check *ck, struct qcow2_walk *walk)
{
    struct qcow2 *q = ck->bs->opaque;

    return (struct judge){.ck = ck, .q = q, .g = &q->g, .s = ck->driver_data, .walk = walk};
}

/* The first of a table's trees: 0 the active one, i + 1 snapshot i. */
static inline uint32_t first_tree(uint64_t trees)
{
    return trees ? (uint32_t)__builtin_ctzll(trees) : 0;
}

/* Places of findings are told as the tree's from now on. */
static inline void name_tree(struct judge *j, uint32_t tree)
{
    j->ck->tree = tree && tree <= j->s->snapshots.list.n ? j->s->snapshots.list.v[tree - 1].id : NULL;
}

/* Guest bytes of a range that are on the tree's disk; a snapshot's VM state lies behind it. */
static inline uint64_t on_disk(const struct judge *j, uint32_t tree, uint64_t guest, uint64_t bytes)
{
    if (tree)
        return 0;
    return guest >= j->g->size ? 0 : vd_min(bytes, j->g->size - guest);
}

/* An entry of an L2 table that is not 0. */
struct qcow2_seen {
    const struct qcow2_table *table;
    uint64_t i;
    uint64_t word, bitmap;
};

typedef int qcow2_entry_fn(void *opaque, const struct qcow2_seen *seen, struct vd_err *err);

/* Tells all entries of a table that are not 0. What cannot be read is passed over: the walk has reported it.
 */
int qcow2_each_entry(struct judge *j, const struct qcow2_table *t, qcow2_entry_fn *fn, void *opaque,
                     struct vd_err *err);

/* ---- judge-odd.c: what is legal, and odd enough to be told */

int qcow2_judge_odd(struct judge *j, struct vd_err *err);

/* ---- judge-truncated.c */

/* Tells that the end of the file was cut off, where counts and entries agree on what stood there. */
int qcow2_judge_truncated(struct judge *j, struct vd_err *err);

#endif
