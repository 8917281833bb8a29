/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clusters whose owners exclude each other: two guest positions, a guest and metadata, data and compressed
 * data.
 *
 * Raising a reference count would make such a cluster look sound, and a write to one address would go on
 * changing what the other reads. Here the later owner gets a copy: both addresses read on as they did.
 */
#include <stdlib.h>

#include "formats/qcow2/judge.h"

enum { MOST_REFERENCES = 1 << 20 };

struct reference {
    uint64_t cluster;
    uint64_t guest;
    uint64_t off; /* of the entry */
    uint64_t word;
    uint64_t trees;
    uint32_t weight;
    uint32_t slot;
    uint32_t i;
    bool is_packed;
};

VD_VEC(reference_vec, struct reference)

struct gather {
    struct judge *j;
    struct reference_vec refs;
};

static int note(struct gather *gather, const struct qcow2_seen *seen, const struct qcow2_entry *e,
                uint64_t cluster, struct vd_err *err)
{
    const struct judge *j = gather->j;
    struct reference ref = {.cluster = cluster,
                            .guest = qcow2_guest(j->g, seen->table->slot, seen->i),
                            .off = seen->table->off + seen->i * j->g->entry_bytes,
                            .word = seen->word,
                            .trees = seen->table->trees,
                            .weight = seen->table->weight,
                            .slot = seen->table->slot,
                            .i = (uint32_t)seen->i,
                            .is_packed = e->type == QCOW2_PACKED};

    if (gather->refs.n >= MOST_REFERENCES || !vd_refs_at(j->ck, cluster).is_conflicted)
        return 0;
    return reference_vec_push(&gather->refs, ref) < 0 ? vd_fail_memory(err) : 0;
}

static int on_entry(void *opaque, const struct qcow2_seen *seen, struct vd_err *err)
{
    struct gather *gather = opaque;
    const struct qcow2_geometry *g = gather->j->g;
    struct qcow2_entry e =
        qcow2_parse_entry(g, seen->word, seen->bitmap, qcow2_guest(g, seen->table->slot, seen->i));
    struct vd_span touched;

    if ((e.faults & QCOW2_F_CLAIMS_NOTHING) || (e.type != QCOW2_PACKED && !e.host))
        return 0;
    if (e.type != QCOW2_PACKED)
        return note(gather, seen, &e, e.host, err);
    touched = qcow2_touched(g, &e);
    for (uint64_t at = touched.off; at < vd_span_end(touched); at += g->cluster_size)
        if (note(gather, seen, &e, at, err) < 0)
            return -1;
    return 0;
}

static int by_cluster_then_guest(const void *a, const void *b)
{
    const struct reference *x = a, *y = b;

    if (x->cluster != y->cluster)
        return x->cluster < y->cluster ? -1 : 1;
    if (x->guest != y->guest)
        return x->guest < y->guest ? -1 : 1;
    return (x->off > y->off) - (x->off < y->off);
}

/* All references to one cluster. */
struct group {
    struct judge *j;
    const struct reference *ref;
    size_t n;
    struct vd_refs claims;
    uint64_t stored;
    bool is_meta, has_packed;
};

static enum qcow2_finding finding_of(const struct group *grp, const struct reference *ref)
{
    if (grp->is_meta)
        return QCOW2_L2_ENTRY_OVERLAP_METADATA;
    if (grp->has_packed)
        return QCOW2_L2_ENTRY_OVERLAP_COMPRESSED;
    return ref->trees & grp->ref[0].trees ? QCOW2_L2_ENTRY_SHARED : QCOW2_L2_ENTRY_CROSSLINKED;
}

/* Counts that fit, and no word that there is one owner: sound as far as it goes, and the scar of an earlier
 * repair. */
static bool is_consistent(const struct group *grp)
{
    return !grp->is_meta && !grp->has_packed && grp->stored == grp->claims.count && !grp->claims.said_only;
}

/* LUKS encrypts by host offset: a copy elsewhere would read as something else. */
static enum vd_level level_of(const struct group *grp, const struct reference *ref)
{
    /* That an entry leads into its own table is no hindrance: the copy is of the table as it was. */
    bool is_own = grp->n == 1 && vd_align_down(ref->off, grp->j->g->cluster_size) == ref->cluster;

    if (!is_own && qcow2_level_inside(grp->j->ck, ref->off, VD_LEVEL_SAFE) == VD_LEVEL_NONE)
        return VD_LEVEL_NONE;
    if (ref->is_packed || grp->j->q->header.crypt_method == QCOW2_CRYPT_LUKS || !qcow2_can_append(grp->j->ck))
        return VD_LEVEL_NONE;
    return is_consistent(grp) ? VD_LEVEL_ALL : VD_LEVEL_SAFE;
}

/* The first reference is the only one that is left, and says so. */
static int own_alone(struct group *grp, struct vd_err *err)
{
    const struct reference *owner = &grp->ref[0];

    if (grp->is_meta || owner->is_packed || !(owner->trees & 1) || (owner->word & QCOW2_COPIED) ||
        qcow2_level_inside(grp->j->ck, owner->off, VD_LEVEL_SAFE) == VD_LEVEL_NONE)
        return 0;
    return qcow2_fix_word(grp->j->ck, owner->off, owner->word | QCOW2_COPIED, VD_STAGE_TABLE, err);
}

static int clone(struct group *grp, const struct reference *ref, struct vd_err *err)
{
    struct judge *j = grp->j;
    bool fits = grp->stored == grp->claims.count;

    if (qcow2_fix_clone_cluster(j->ck, ref->off, ref->word, ref->weight, err) < 0)
        return -1;
    /* A count that fitted goes on fitting; any other is judged when all is counted again. */
    grp->claims.count -= vd_min(grp->claims.count, ref->weight);
    if (!fits)
        return 0;
    grp->stored = grp->claims.count;
    if (qcow2_fix_counts(j->ck, ref->cluster >> j->g->cluster_bits, 1, grp->stored, err) < 0)
        return -1;
    return grp->stored == 1 ? own_alone(grp, err) : 0;
}

static int judge_reference(struct group *grp, const struct reference *ref, struct vd_err *err)
{
    struct judge *j = grp->j;
    const struct reference *owner = grp->is_meta || grp->has_packed ? NULL : &grp->ref[0];
    uint64_t bytes = on_disk(j, first_tree(ref->trees), ref->guest, j->g->cluster_size);

    name_tree(j, first_tree(ref->trees));
    VD_AT(j->ck, "L1", ref->slot);
    VD_AT(j->ck, "L2", ref->i);
    if (vd_found(j->ck, finding_of(grp, ref), .host = ref->off, .guest = ref->guest, .guest_bytes = bytes,
                 .found = ref->word, .severity = is_consistent(grp) ? VD_WARNING : 0,
                 .level = level_of(grp, ref), .other_guest = owner ? owner->guest : VD_NOWHERE,
                 .other_host = owner ? owner->off : VD_NOWHERE) == VD_FIX)
        return clone(grp, ref, err);
    return 0;
}

static int judge_group(struct judge *j, const struct reference *ref, size_t n, struct vd_err *err)
{
    struct group grp = {.j = j, .ref = ref, .n = n, .claims = vd_refs_at(j->ck, ref->cluster)};
    const struct qcow2_table *t = qcow2_find_table(j->walk, ref->cluster);

    if (t && t->is_foreign)
        return 0;
    if (qcow2_read_counts(j->ck->bs, ref->cluster >> j->g->cluster_bits, 1, &grp.stored, err) < 0)
        return -1;
    grp.is_meta = !vd_kind_is_data(vd_kind_at(j->ck, ref->cluster, NULL));
    for (size_t i = 0; i < n; i++)
        grp.has_packed |= ref[i].is_packed;
    for (size_t i = 0; i < n; i++) {
        if (!grp.is_meta && (grp.has_packed ? ref[i].is_packed : ref[i].guest == ref[0].guest))
            continue;
        if (judge_reference(&grp, &ref[i], err) < 0)
            return -1;
    }
    return 0;
}

int qcow2_judge_conflicts(struct vd_check *ck, struct qcow2_walk *walk, struct vd_err *err)
{
    struct judge j = new_judge(ck, walk);
    struct gather gather = {.j = &j};
    int rc = 0;

    for (size_t i = 0; rc == 0 && walk->misplaced && i < walk->tables.n; i++)
        rc = qcow2_each_entry(&j, &walk->tables.v[i], on_entry, &gather, err);
    if (rc == 0 && gather.refs.n)
        qsort(gather.refs.v, gather.refs.n, sizeof(*gather.refs.v), by_cluster_then_guest);
    for (size_t i = 0, k; rc == 0 && i < gather.refs.n; i = k) {
        for (k = i + 1; k < gather.refs.n && gather.refs.v[k].cluster == gather.refs.v[i].cluster; k++)
            ;
        rc = judge_group(&j, &gather.refs.v[i], k - i, err);
    }
    reference_vec_done(&gather.refs);
    ck->tree = NULL;
    return rc;
}
