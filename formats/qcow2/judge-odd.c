/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is legal and odd: entries behind the end of the disk, a disk that ends before its data, tables in
 * holes of the file. Warnings; nothing is written.
 */
#include "formats/qcow2/judge.h"

struct odd {
    struct judge *j;
    uint64_t beyond; /* entries behind the end of the disk */
};

/* What a program keeps behind the end of the disk while it takes a snapshot of a running guest. */
static bool has_vm_state(const struct qcow2_snapshots *s)
{
    for (size_t i = 0; i < s->list.n; i++)
        if (s->list.v[i].vm_state_size)
            return true;
    return false;
}

static int on_beyond(void *opaque, const struct qcow2_seen *seen, struct vd_err *err)
{
    struct odd *odd = opaque;
    struct judge *j = odd->j;
    uint64_t guest = qcow2_guest(j->g, seen->table->slot, seen->i);

    (void)err;
    if (guest < j->g->size)
        return 0;
    odd->beyond++;
    VD_AT(j->ck, "L2", seen->i);
    vd_found(j->ck, QCOW2_L2_ENTRY_BEYOND_SIZE, .host = seen->table->off + seen->i * j->g->entry_bytes,
             .guest = guest, .found = seen->word);
    return 0;
}

static int judge_beyond(struct odd *odd, const struct qcow2_table *t, struct vd_err *err)
{
    struct judge *j = odd->j;

    VD_AT(j->ck, "L1", t->slot);
    if (qcow2_guest(j->g, t->slot, 0) < j->g->size)
        return t->has_beyond ? qcow2_each_entry(j, t, on_beyond, odd, err) : 0;
    odd->beyond += t->used;
    vd_found(j->ck, QCOW2_L1_ENTRY_BEYOND_SIZE, .host = t->ref_off, .guest = qcow2_guest(j->g, t->slot, 0),
             .found = t->off);
    return 0;
}

/* A table whose cluster the file system never wrote: a copy of the file may have lost it. */
static void judge_hole(const struct judge *j, const struct qcow2_table *t)
{
    if (t->used || t->is_unreadable ||
        !bdrv_is_hole(j->ck->bs->file, (int64_t)t->off, (int64_t)j->g->cluster_size))
        return;
    VD_AT(j->ck, "L1", t->slot);
    vd_found(j->ck, QCOW2_HOLE_IN_METADATA, .host = t->off, .host_bytes = j->g->cluster_size,
             .guest = qcow2_guest(j->g, t->slot, 0));
}

int qcow2_judge_odd(struct judge *j, struct vd_err *err)
{
    struct odd odd = {.j = j};
    bool is_state = has_vm_state(&j->s->snapshots);

    for (size_t i = 0; i < j->walk->tables.n; i++) {
        const struct qcow2_table *t = &j->walk->tables.v[i];

        judge_hole(j, t);
        if (!(t->trees & 1) || qcow2_is_mass_damage(t->bad, t->used) || is_state)
            continue;
        if (judge_beyond(&odd, t, err) < 0)
            return -1;
    }
    if (odd.beyond)
        vd_found(j->ck, QCOW2_SIZE_SHORT, .host = 24, .guest = j->g->size,
                 .guest_bytes = j->walk->max_guest - vd_min(j->walk->max_guest, j->g->size),
                 .found = j->g->size, .expected = j->walk->max_guest);
    return 0;
}
