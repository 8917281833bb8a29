/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* Keys beyond this many of a group are not kept: a comparison then falls back on counts. */
enum { MOST_KEYS = 4 << 20 };

struct vd_ledger *vd_ledger_new(void)
{
    struct vd_ledger *ledger = calloc(1, sizeof(*ledger));

    if (ledger)
        ledger->places_kept = VD_PLACES_KEPT;
    return ledger;
}

static void free_group(struct vd_group *group)
{
    vd_place_vec_done(&group->places);
    vd_key_vec_done(&group->keys);
    vd_runs_done(&group->clusters);
    free(group);
}

void vd_ledger_free(struct vd_ledger *ledger)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        free_group(ledger->groups.v[i]);
    vd_group_vec_done(&ledger->groups);
    vd_runs_done(&ledger->guest);
    vd_runs_done(&ledger->leaked);
    vd_runs_done(&ledger->overcounted);
    free(ledger);
}

static struct vd_group *group_of(struct vd_ledger *ledger, const struct vd_finding_kind *kind,
                                 enum vd_severity severity, enum vd_level level)
{
    struct vd_group *group;

    for (size_t i = 0; i < ledger->groups.n; i++) {
        group = ledger->groups.v[i];
        if (group->kind == kind && group->severity == severity && group->level == level)
            return group;
    }
    group = calloc(1, sizeof(*group));
    if (!group)
        return NULL;
    *group = (struct vd_group){.kind = kind, .severity = severity, .level = level};
    if (vd_group_vec_push(&ledger->groups, group) < 0) {
        free(group);
        return NULL;
    }
    return group;
}

static void tell(char text[VD_PLACE_TEXT], const char *words, uint64_t number)
{
    if (words)
        snprintf(text, VD_PLACE_TEXT, "%.*s%s", VD_PLACE_TEXT - 4, words,
                 strlen(words) > VD_PLACE_TEXT - 4 ? "..." : "");
    else if (number != VD_NOWHERE)
        snprintf(text, VD_PLACE_TEXT, "0x%" PRIx64, number);
    else
        text[0] = '\0';
}

static struct vd_place place_of(const struct vd_found_args *args, const struct vd_check *ck)
{
    struct vd_place place = {
        .host = args->host,
        .host_bytes = args->host_bytes,
        .guest = args->guest,
        .guest_bytes = args->guest_bytes,
        .other_guest = args->other_guest,
        .other_host = args->other_host,
        .count = args->count ? args->count : 1,
    };

    if (ck->tree)
        snprintf(place.tree, sizeof(place.tree), "%s", ck->tree);
    tell(place.found, args->found_text, args->found);
    tell(place.expected, args->expected_text, args->expected);
    place.depth = ck->depth < VD_WHERE_DEPTH ? ck->depth : VD_WHERE_DEPTH;
    memcpy(place.where, ck->where, place.depth * sizeof(place.where[0]));
    return place;
}

static uint64_t key_of(uint64_t host, uint64_t guest)
{
    /* A reference is known by where it stands; what it leads to may change and be wrong still. */
    uint64_t where[2] = {host, host == VD_NOWHERE ? guest : 0};

    return XXH3_64bits(where, sizeof(where));
}

uint64_t vd_place_key(const struct vd_place *place)
{
    return key_of(place->host, place->guest);
}

/* Leaks are told as runs of clusters, everything else as keys. */
static int remember(struct vd_ledger *ledger, struct vd_group *group, const struct vd_found_args *args,
                    const struct vd_check *ck)
{
    if (args->overcounted && vd_runs_add_all(&ledger->overcounted, args->overcounted) < 0)
        return -1;
    if (group->severity == VD_LEAK && args->clusters) {
        if (vd_runs_add_all(&ledger->leaked, args->clusters) < 0 ||
            vd_runs_add_all(&group->clusters, args->clusters) < 0)
            return -1;
    } else if (group->severity == VD_LEAK && args->host != VD_NOWHERE && ck->cluster_size) {
        uint64_t first = args->host / ck->cluster_size, n = vd_div_up(args->host_bytes, ck->cluster_size);

        if (vd_runs_add(&ledger->leaked, first, n) < 0 || vd_runs_add(&group->clusters, first, n) < 0)
            return -1;
    } else if (group->keys.n < MOST_KEYS &&
               vd_key_vec_push(&group->keys, key_of(args->host, args->guest)) < 0) {
        return -1;
    }
    if (group->severity != VD_WARNING && args->guest != VD_NOWHERE && args->guest_bytes) {
        if (vd_runs_add(&ledger->guest, args->guest, args->guest_bytes) < 0)
            return -1;
        if (args->other_guest != VD_NOWHERE)
            return vd_runs_add(&ledger->guest, args->other_guest, args->guest_bytes);
    }
    return 0;
}

static bool keeps_more_places(const struct vd_ledger *ledger, const struct vd_group *group)
{
    return group->places.n < ledger->places_kept;
}

/* Of a million findings most are only counted: their places are not even made. */
static int push_place(struct vd_ledger *ledger, struct vd_group *group, const struct vd_found_args *args,
                      const struct vd_check *ck)
{
    return keeps_more_places(ledger, group) ? vd_place_vec_push(&group->places, place_of(args, ck)) : 0;
}

/* A place for each stretch of the clusters; the guest's range goes with the one that the finding names. */
static int push_stretches(struct vd_ledger *ledger, struct vd_group *group, const struct vd_found_args *args,
                          const struct vd_check *ck)
{
    uint64_t cluster = args->host / ck->cluster_size;
    size_t named = 0;

    while (named < args->clusters->n &&
           args->clusters->v[named].first + args->clusters->v[named].count <= cluster)
        named++;
    for (size_t i = 0; i <= args->clusters->n && keeps_more_places(ledger, group); i++) {
        size_t k = i ? i - 1 : named;
        struct vd_place place = place_of(args, ck);

        if ((i && k == named) || k >= args->clusters->n)
            continue;
        place.host = args->clusters->v[k].first * ck->cluster_size;
        place.host_bytes = args->clusters->v[k].count * ck->cluster_size;
        place.count = args->clusters->v[k].count;
        if (k != named) {
            place.guest = VD_NOWHERE;
            place.guest_bytes = 0;
        }
        if (vd_place_vec_push(&group->places, place) < 0)
            return -1;
    }
    return 0;
}

struct vd_group *vd_ledger_enter(struct vd_ledger *ledger, const struct vd_finding_kind *kind,
                                 const struct vd_found_args *args, enum vd_severity severity,
                                 enum vd_level level, const struct vd_check *ck)
{
    struct vd_group *group = group_of(ledger, kind, severity, level);
    bool kept = group != NULL;

    if (kept) {
        group->count += args->count ? args->count : 1;
        group->bytes += args->host_bytes;
        group->only_counts |= args->count > 1 && args->host == VD_NOWHERE && args->guest == VD_NOWHERE;
        if (args->note)
            group->note = args->note;
        kept = (args->clusters && ck->cluster_size ? push_stretches(ledger, group, args, ck)
                                                   : push_place(ledger, group, args, ck)) == 0;
        if (ledger->keeps_keys && remember(ledger, group, args, ck) < 0)
            kept = false;
    }
    if (!kept)
        ledger->is_out_of_memory = true;
    ledger->flags |= vd_finding_flags(kind, severity);
    return group;
}

static void add_to(struct vd_counts *counts, enum vd_severity severity, uint64_t n)
{
    switch (severity) {
    case VD_CORRUPTION:
        counts->corruptions += n;
        break;
    case VD_LEAK:
        counts->leaks += n;
        break;
    case VD_STATE:
        counts->states += n;
        break;
    case VD_WARNING:
        counts->warnings += n;
        break;
    case VD_ERROR:
        counts->errors += n;
        break;
    }
}

struct vd_counts vd_ledger_counts(const struct vd_ledger *ledger)
{
    struct vd_counts counts = {0};

    for (size_t i = 0; i < ledger->groups.n; i++)
        add_to(&counts, ledger->groups.v[i]->severity, ledger->groups.v[i]->count);
    return counts;
}

struct vd_counts vd_ledger_left(const struct vd_ledger *ledger)
{
    struct vd_counts counts = {0};

    for (size_t i = 0; i < ledger->groups.n; i++)
        add_to(&counts, ledger->groups.v[i]->severity,
               ledger->groups.v[i]->count - ledger->groups.v[i]->fixed);
    return counts;
}

uint64_t vd_group_bytes_left(const struct vd_group *group)
{
    return group->fixed ? group->bytes / group->count * (group->count - group->fixed) : group->bytes;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void sort_keys(struct vd_group *group)
{
    if (group->keys.n)
        qsort(group->keys.v, group->keys.n, sizeof(*group->keys.v), by_number);
}

void vd_ledger_settle(struct vd_ledger *ledger)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        sort_keys(ledger->groups.v[i]);
    vd_runs_settle(&ledger->leaked);
    vd_runs_settle(&ledger->guest);
}

static bool has_key(const struct vd_group *group, uint64_t key)
{
    return group->keys.n && bsearch(&key, group->keys.v, group->keys.n, sizeof(key), by_number);
}

bool vd_ledger_has_key(const struct vd_ledger *ledger, const struct vd_group *like, uint64_t key)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->kind == like->kind && ledger->groups.v[i]->severity == like->severity &&
            has_key(ledger->groups.v[i], key))
            return true;
    return false;
}

bool vd_ledger_has_place(const struct vd_ledger *ledger, enum vd_severity severity, uint64_t key)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->severity == severity && has_key(ledger->groups.v[i], key))
            return true;
    return false;
}

/* The reasons that a plan gave belong to groups of the same level. */
static void take_reasons(struct vd_ledger *ledger, const struct vd_group *theirs)
{
    for (size_t i = 0; i < ledger->groups.n; i++) {
        struct vd_group *ours = ledger->groups.v[i];

        if (ours->kind == theirs->kind && ours->severity == theirs->severity &&
            ours->level == theirs->level && theirs->reason)
            ours->reason = theirs->reason;
    }
}

/* What a place decides for the guest may be known only once other damage is repaired. */
static void take_guests(struct vd_group *ours, const struct vd_group *theirs)
{
    for (size_t i = 0; i < ours->places.n; i++)
        for (size_t k = 0; ours->places.v[i].guest == VD_NOWHERE && k < theirs->places.n; k++)
            if (theirs->places.v[k].host == ours->places.v[i].host) {
                ours->places.v[i].guest = theirs->places.v[k].guest;
                ours->places.v[i].guest_bytes = theirs->places.v[k].guest_bytes;
            }
}

/* Adds what more holds to ours; the keys are in no order then. */
static void append(struct vd_ledger *ledger, struct vd_group *ours, const struct vd_group *more)
{
    ours->count += more->count;
    ours->bytes += more->bytes;
    ours->only_counts |= more->only_counts;
    for (size_t k = 0; k < more->places.n && ours->places.n < ledger->places_kept; k++)
        if (vd_place_vec_push(&ours->places, more->places.v[k]) < 0)
            ledger->is_out_of_memory = true;
    for (size_t k = 0; k < more->keys.n && ours->keys.n < MOST_KEYS; k++)
        if (vd_key_vec_push(&ours->keys, more->keys.v[k]) < 0)
            ledger->is_out_of_memory = true;
    if (vd_runs_add_all(&ours->clusters, &more->clusters) < 0)
        ledger->is_out_of_memory = true;
}

/* Joins a group into an equal one that stands before it; true where there was one. */
static bool join_group(struct vd_ledger *ledger, struct vd_group *group, size_t before)
{
    for (size_t i = 0; i < before; i++) {
        struct vd_group *first = ledger->groups.v[i];

        if (first->kind != group->kind || first->severity != group->severity || first->level != group->level)
            continue;
        append(ledger, first, group);
        free_group(group);
        return true;
    }
    return false;
}

void vd_ledger_raise(struct vd_ledger *ledger, enum vd_level level)
{
    size_t kept = 0;

    for (size_t i = 0; i < ledger->groups.n; i++) {
        struct vd_group *group = ledger->groups.v[i];

        if (group->level < level)
            group->level = level;
        if (!join_group(ledger, group, kept))
            ledger->groups.v[kept++] = group;
    }
    ledger->groups.n = kept;
}

void vd_ledger_mark_later(struct vd_ledger *ledger)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        for (size_t k = 0; k < ledger->groups.v[i]->places.n; k++)
            ledger->groups.v[i]->places.v[k].is_later = true;
}

/* The places of a leak that is told in part already are the stretches that are left of it. */
static int place_by_runs(struct vd_ledger *ledger, struct vd_group *group, const struct vd_runs *clusters,
                         uint64_t cluster_size)
{
    bool is_later = group->places.n && group->places.v[0].is_later;

    group->places.n = 0;
    for (size_t i = 0; i < clusters->n && group->places.n < ledger->places_kept; i++) {
        struct vd_place place = {
            .host = clusters->v[i].first * cluster_size,
            .host_bytes = clusters->v[i].count * cluster_size,
            .guest = VD_NOWHERE,
            .other_guest = VD_NOWHERE,
            .other_host = VD_NOWHERE,
            .count = clusters->v[i].count,
            .is_later = is_later,
        };

        if (vd_place_vec_push(&group->places, place) < 0)
            return -1;
    }
    return 0;
}

/*
 * A leaked cluster is told once, by whichever id it was found first: what a repair leaves of an orphan may be
 * found again as plain clusters. Cuts the group down to what is new; *is_new is false where nothing is.
 */
static int keep_new_leaks(struct vd_ledger *ledger, struct vd_group *group, bool *is_new)
{
    struct vd_runs fresh = {0};
    uint64_t n, cluster_size = group->bytes / group->count;

    if (vd_runs_minus(&group->clusters, &ledger->leaked, &fresh) < 0 ||
        vd_runs_add_all(&ledger->leaked, &fresh) < 0) {
        vd_runs_done(&fresh);
        return -1;
    }
    n = vd_runs_total(&fresh);
    *is_new = n > 0;
    if (n && n < group->count && cluster_size) {
        int rc = place_by_runs(ledger, group, &fresh, cluster_size);

        group->count = n;
        group->bytes = n * cluster_size;
        vd_runs_done(&group->clusters);
        group->clusters = fresh;
        return rc;
    }
    vd_runs_done(&fresh);
    return 0;
}

/* Takes a group over from other, where it is number i. */
static int take_group(struct vd_ledger *ledger, struct vd_ledger *other, size_t i, struct vd_err *err)
{
    struct vd_group *group = other->groups.v[i];

    if (vd_group_vec_push(&ledger->groups, group) < 0)
        return vd_fail_memory(err);
    other->groups.v[i] = other->groups.v[--other->groups.n];
    if (join_group(ledger, group, ledger->groups.n - 1))
        ledger->groups.n--;
    return 0;
}

int vd_ledger_take_leaks(struct vd_ledger *ledger, struct vd_ledger *other, struct vd_err *err)
{
    for (size_t i = 0; i < other->groups.n; i++) {
        struct vd_group *theirs = other->groups.v[i];
        bool is_new;

        if (theirs->severity != VD_LEAK || !theirs->clusters.n)
            continue;
        if (keep_new_leaks(ledger, theirs, &is_new) < 0)
            return vd_fail_memory(err);
        if (is_new && take_group(ledger, other, i--, err) < 0)
            return -1;
    }
    return 0;
}

/* A place that is known is known whatever it was called: one wrong reference is counted once. */
static bool is_fresh(const struct vd_ledger *ledger, const struct vd_group *group, uint64_t key)
{
    return !vd_ledger_has_place(ledger, group->severity, key);
}

uint64_t vd_ledger_fresh(const struct vd_ledger *ledger, const struct vd_group *group)
{
    uint64_t n = 0;

    for (size_t i = 0; i < group->keys.n; i++)
        n += is_fresh(ledger, group, group->keys.v[i]);
    /* Few places stand for more than one defect. */
    for (size_t i = 0; i < group->places.n; i++)
        if (is_fresh(ledger, group, vd_place_key(&group->places.v[i])))
            n += group->places.v[i].count - 1;
    return n;
}

/* What comes to light later of a kind that was only counted in part is of what was counted. */
static bool is_counted(const struct vd_ledger *ledger, const struct vd_group *like)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->kind == like->kind && ledger->groups.v[i]->only_counts)
            return true;
    return false;
}

/* Adds the places of a group that are not known yet. Leaks have none: they are compared by their clusters. */
static int take_places(struct vd_ledger *ledger, const struct vd_group *theirs, struct vd_err *err)
{
    struct vd_group more = {.count = vd_ledger_fresh(ledger, theirs)}, *ours;
    int rc = 0;

    if (theirs->severity == VD_LEAK || !more.count || is_counted(ledger, theirs))
        return 0;
    for (size_t i = 0; rc == 0 && i < theirs->places.n; i++)
        if (is_fresh(ledger, theirs, vd_place_key(&theirs->places.v[i])))
            rc = vd_place_vec_push(&more.places, theirs->places.v[i]);
    for (size_t i = 0; rc == 0 && i < theirs->keys.n; i++)
        if (is_fresh(ledger, theirs, theirs->keys.v[i]))
            rc = vd_key_vec_push(&more.keys, theirs->keys.v[i]);
    ours = rc == 0 ? group_of(ledger, theirs->kind, theirs->severity, theirs->level) : NULL;
    if (ours) {
        append(ledger, ours, &more);
        sort_keys(ours);
        ours->note = theirs->note ? theirs->note : ours->note;
        ours->reason = theirs->reason ? theirs->reason : ours->reason;
    }
    vd_place_vec_done(&more.places);
    vd_key_vec_done(&more.keys);
    return ours && !ledger->is_out_of_memory ? 0 : vd_fail_memory(err);
}

static struct vd_group *group_of_kind(const struct vd_ledger *ledger, const struct vd_group *like)
{
    for (size_t i = 0; i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->kind == like->kind && ledger->groups.v[i]->severity == like->severity)
            return ledger->groups.v[i];
    return NULL;
}

int vd_ledger_merge(struct vd_ledger *ledger, struct vd_ledger *other, struct vd_err *err)
{
    vd_ledger_settle(ledger);
    for (size_t i = 0; i < other->groups.n; i++) {
        struct vd_group *theirs = other->groups.v[i], *ours = group_of_kind(ledger, theirs);
        bool is_new = true;

        if (ours) {
            take_reasons(ledger, theirs);
            take_guests(ours, theirs);
            if (take_places(ledger, theirs, err) < 0)
                return -1;
            continue;
        }
        if (theirs->severity == VD_LEAK && theirs->clusters.n && keep_new_leaks(ledger, theirs, &is_new) < 0)
            return vd_fail_memory(err);
        if (is_new && take_group(ledger, other, i--, err) < 0)
            return -1;
    }
    ledger->flags |= other->flags;
    if (vd_runs_add_all(&ledger->guest, &other->guest) < 0)
        return vd_fail_memory(err);
    vd_ledger_settle(ledger);
    return 0;
}
