/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ledger: the findings of one check, grouped and counted.
 *
 * Equal findings (id, severity, level) are one group with a count and its first places. Beside that the
 * ledger keeps a small key of every place, so that two checks can be compared place by place and not by sums.
 */
#ifndef VD_LEDGER_H
#define VD_LEDGER_H

#include "formats/base/auto.h"
#include "formats/base/runs.h"
#include "formats/base/vec.h"
#include "formats/check.h"

enum {
    VD_PLACES_KEPT = 100,
    VD_PLACE_TEXT = 160,
    VD_TREE_TEXT = 40,
};

struct vd_place {
    uint64_t host, host_bytes, guest, guest_bytes, other_guest, other_host;
    char found[VD_PLACE_TEXT];    /* "" : nothing to tell */
    char expected[VD_PLACE_TEXT]; /* "" : nothing to tell */
    struct vd_where where[VD_WHERE_DEPTH];
    unsigned depth;
    uint64_t count;
    bool is_later;           /* came to light when a repair had begun; the check before it does not tell it */
    char tree[VD_TREE_TEXT]; /* id of the snapshot that the place was reached through; "": none */
};

VD_VEC(vd_place_vec, struct vd_place)
VD_VEC(vd_key_vec, uint64_t)

struct vd_group {
    const struct vd_finding_kind *kind;
    enum vd_severity severity;
    enum vd_level level;
    uint64_t count;
    uint64_t fixed;
    uint64_t bytes;     /* leaked, where it is told */
    const char *note;   /* static; or NULL */
    const char *reason; /* why a repair left it; static; or NULL */
    bool only_counts;   /* some of it: no place of these is known */
    bool is_byproduct;  /* a leak that no round of a repair named: it can only go with something else */
    struct vd_place_vec places;
    struct vd_key_vec keys;
    struct vd_runs clusters; /* of a leak, where keys are kept */
};

VD_VEC(vd_group_vec, struct vd_group *)

struct vd_ledger {
    struct vd_group_vec groups;
    bool keeps_keys;            /* set before the first finding where ledgers will be compared */
    size_t places_kept;         /* a group; VD_PLACES_KEPT unless set otherwise */
    unsigned flags;             /* VD_EVIDENCE, VD_HOLD, VD_FREEZE of what was found */
    bool is_out_of_memory;      /* something could not be kept */
    struct vd_runs guest;       /* guest bytes that findings other than warnings name */
    struct vd_runs leaked;      /* clusters that leak findings name */
    struct vd_runs overcounted; /* clusters in use whose counts are too high */
};

struct vd_counts {
    uint64_t corruptions, leaks, states, warnings, errors;
};

struct vd_ledger *vd_ledger_new(void);
void vd_ledger_free(struct vd_ledger *ledger);
VD_DEFINE_AUTO(vd_ledger, vd_ledger_free)

/* Enters a finding; level and severity are decided. Returns its group, or NULL (no memory; remembered). */
struct vd_group *vd_ledger_enter(struct vd_ledger *ledger, const struct vd_finding_kind *kind,
                                 const struct vd_found_args *args, enum vd_severity severity,
                                 enum vd_level level, const struct vd_check *ck);

/* The sums by severity of what was found. */
struct vd_counts vd_ledger_counts(const struct vd_ledger *ledger);

/* The sums of what was found and is not fixed. */
struct vd_counts vd_ledger_left(const struct vd_ledger *ledger);

/* The bytes of a leak that is not fixed: the clusters of a group are all of one size. */
uint64_t vd_group_bytes_left(const struct vd_group *group);

/* The key of a place. */
uint64_t vd_place_key(const struct vd_place *place);

/* Is there a key of this group's kind and severity in the ledger, whatever its level? */
bool vd_ledger_has_key(const struct vd_ledger *ledger, const struct vd_group *like, uint64_t key);

/* Is there a finding of this severity with that key in the ledger, whatever its kind and level? */
bool vd_ledger_has_place(const struct vd_ledger *ledger, enum vd_severity severity, uint64_t key);

/* Brings the keys in order, for vd_ledger_has_key(). */
void vd_ledger_settle(struct vd_ledger *ledger);

/* Raises every group to at least this level: something in the image forbids all that is below. */
void vd_ledger_raise(struct vd_ledger *ledger, enum vd_level level);

/* What the ledger has was found when a repair had begun; to be said before it is moved to that of the check
 * before. */
void vd_ledger_mark_later(struct vd_ledger *ledger);

/* Moves to ledger the leaks of other whose clusters none of its own names: a leaked cluster is told once. */
int vd_ledger_take_leaks(struct vd_ledger *ledger, struct vd_ledger *other, struct vd_err *err);

/* How many defects of the group stand at places that the ledger (its keys in order) has not under its
 * severity, whatever their kind? Not for leaks. */
uint64_t vd_ledger_fresh(const struct vd_ledger *ledger, const struct vd_group *group);

/* Moves to ledger the kinds that other alone has, of leaks the clusters that it alone has, and adds the
 * places that it alone has to kinds of both, with other's reasons. Guest ranges and flags are joined. */
int vd_ledger_merge(struct vd_ledger *ledger, struct vd_ledger *other, struct vd_err *err);

#endif
