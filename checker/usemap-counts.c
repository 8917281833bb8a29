/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A map of one byte a cluster: how many claims, and what the claims say of that themselves.
 *
 *     7        6        5 ... 0
 *     a claim  a claim  how many claims; 63: the table of large counts has it
 *     says     says
 *     "shared" "only"
 *
 * With the claims' word in the same byte a stored count, the count and the flags are compared in one pass.
 */
#include "checker/usemap-inside.h"

#include <stdlib.h>

#include "formats/base/span.h"

enum { COUNT = 63, SAID_ONLY = 0x40, SAID_SHARED = 0x80, FIRST_ROOM = 64 };

/* ---- counts that a byte cannot hold */

static size_t slot_of(const struct vd_usemap *map, uint64_t cluster)
{
    size_t i = (size_t)(cluster * 0x9e3779b97f4a7c15U >> 32) & (map->large_room - 1);

    while (map->large[i].count && map->large[i].cluster != cluster)
        i = (i + 1) & (map->large_room - 1);
    return i;
}

static int grow_large(struct vd_usemap *map, struct vd_err *err)
{
    struct vd_large_count *old = map->large;
    size_t old_room = map->large_room, room = old_room ? 2 * old_room : FIRST_ROOM;
    struct vd_large_count *grown = vd_usemap_take(map, room * sizeof(*grown), err);

    if (!grown)
        return -1;
    map->large = grown;
    map->large_room = room;
    for (size_t i = 0; i < old_room; i++)
        if (old[i].count)
            map->large[slot_of(map, old[i].cluster)] = old[i];
    free(old);
    vd_budget_give(map->budget, old_room * sizeof(*old));
    map->taken -= old_room * sizeof(*old);
    return 0;
}

static int add_large(struct vd_usemap *map, uint8_t *byte, uint64_t cluster, uint64_t weight,
                     struct vd_err *err)
{
    struct vd_large_count *large;
    uint64_t now = *byte & COUNT;

    if (map->large_n >= map->large_room / 2 && grow_large(map, err) < 0)
        return -1;
    large = &map->large[slot_of(map, cluster)];
    map->large_n += !large->count;
    large->cluster = cluster;
    large->count = vd_add_sat(large->count ? large->count : now, weight);
    *byte |= COUNT;
    return 0;
}

static uint64_t count_of(const struct vd_usemap *map, uint8_t byte, uint64_t cluster)
{
    return (byte & COUNT) < COUNT ? byte & COUNT : map->large[slot_of(map, cluster)].count;
}

/* ---- bits beside the counts */

static int set_bit(struct vd_usemap *map, struct vd_plane *plane, uint64_t cluster, bool *was,
                   struct vd_err *err)
{
    uint64_t page = cluster >> PAGE_BITS, in = cluster % PAGE_CLUSTERS, bit = (uint64_t)1 << (in % 64);

    if (!plane->pages)
        plane->pages = vd_usemap_take(map, (map->pages_n + 1) * sizeof(*plane->pages), err);
    if (plane->pages && !plane->pages[page])
        plane->pages[page] = vd_usemap_take(map, PAGE_WORDS * sizeof(uint64_t), err);
    if (!plane->pages || !plane->pages[page])
        return -1;
    *was = plane->pages[page][in / 64] & bit;
    plane->pages[page][in / 64] |= bit;
    return 0;
}

static bool has_bit(const struct vd_plane *plane, uint64_t cluster)
{
    const uint64_t *page = plane->pages ? plane->pages[cluster >> PAGE_BITS] : NULL;

    return page && (page[cluster % PAGE_CLUSTERS / 64] >> (cluster % 64) & 1);
}

static void free_plane(struct vd_usemap *map, struct vd_plane *plane)
{
    for (uint64_t i = 0; plane->pages && i < map->pages_n; i++)
        free(plane->pages[i]);
    free(plane->pages);
}

/* The cluster has more than one owner, and should not. */
static int note_conflict(struct vd_usemap *map, uint64_t cluster, struct vd_err *err)
{
    bool was;

    return set_bit(map, &map->conflict, cluster, &was, err);
}

int vd_usemap_note_owner(struct vd_usemap *map, enum vd_kind kind, uint64_t cluster, bool again,
                         bool *is_conflict, struct vd_err *err)
{
    bool was_compressed = has_bit(&map->compressed, cluster), was;

    *is_conflict = again && !(kind == VD_KIND_COMPRESSED && was_compressed);
    if (*is_conflict && note_conflict(map, cluster, err) < 0)
        return -1;
    if (kind == VD_KIND_COMPRESSED && set_bit(map, &map->compressed, cluster, &was, err) < 0)
        return -1;
    return set_bit(map, &map->placed, cluster, &was, err);
}

/* ---- claims */

static int add(struct vd_usemap *map, uint64_t cluster, uint64_t weight, bool *again, struct vd_err *err)
{
    uint8_t *page = vd_usemap_page(map, cluster, err), *byte;

    if (!page)
        return -1;
    byte = &page[cluster % PAGE_CLUSTERS];
    *again = *byte & COUNT;
    if (vd_add_sat(*byte & COUNT, weight) >= COUNT)
        return add_large(map, byte, cluster, weight, err);
    *byte = (uint8_t)(*byte + weight);
    return 0;
}

/* As far ahead as in a map of bits: the bytes of a large image are larger than the near caches. */
enum { PREFETCH_AHEAD = 64 };

static inline __attribute__((always_inline)) void prefetch_byte(const struct vd_usemap *map, uint64_t word)
{
    uint64_t cluster = word >> map->cluster_bits;
    const uint8_t *page = vd_usemap_page_at(map, cluster);

    if (page)
        __builtin_prefetch(&page[cluster % PAGE_CLUSTERS], 1);
}

/* One reference of a table that is not the only one to its cluster, or stands for several. */
static int count_slowly(struct vd_usemap *map, uint64_t cluster, const struct vd_count_batch *batch,
                        struct vd_count_result *result, struct vd_err *err)
{
    bool again = false;

    if (add(map, cluster, batch->weight, &again, err) < 0)
        return -1;
    if (batch->has_places || !again)
        return 0;
    result->misplaced++;
    return note_conflict(map, cluster, err);
}

static int place(struct vd_usemap *map, uint64_t word, uint64_t cluster, struct vd_count_result *result,
                 struct vd_err *err)
{
    bool was = false;

    if (word & VD_WORD_SAME_PLACE)
        return 0;
    if (set_bit(map, &map->placed, cluster, &was, err) < 0)
        return -1;
    if (!was)
        return 0;
    result->misplaced++;
    return note_conflict(map, cluster, err);
}

int vd_usemap_count_batch(struct vd_usemap *map, const struct vd_count_batch *batch,
                          struct vd_count_result *result, struct vd_err *err)
{
    const uint64_t size = (uint64_t)1 << map->cluster_bits, room = batch->hi - batch->lo;
    uint64_t next = result->next, end = map->end, counted = 0, runs = next != 0;

    for (size_t i = 0; i < batch->n; i++) {
        uint64_t word = batch->words[i], off = word & ~(uint64_t)VD_WORD_FLAGS;
        uint64_t cluster = off >> map->cluster_bits;
        uint8_t *page, *byte;

        if (!word)
            continue;
        if ((off & (size - 1)) || off - batch->lo >= room) {
            result->bad++;
            continue;
        }
        if (i + PREFETCH_AHEAD < batch->n)
            prefetch_byte(map, batch->words[i + PREFETCH_AHEAD]);
        counted++;
        runs += off != next;
        next = off + size;
        end = vd_max(end, cluster + 1);
        page = map->pages[cluster >> PAGE_BITS];
        if (!page && !(page = vd_usemap_page(map, cluster, err)))
            return -1;
        byte = &page[cluster % PAGE_CLUSTERS];
        if (batch->tells_only)
            *byte |= word & VD_WORD_ONLY ? SAID_ONLY : SAID_SHARED;
        if (batch->weight == 1 && !(*byte & COUNT))
            ++*byte;
        else if (count_slowly(map, cluster, batch, result, err) < 0)
            return -1;
        if (batch->has_places && place(map, word, cluster, result, err) < 0)
            return -1;
    }
    map->end = end;
    result->next = next;
    result->counted += counted;
    result->fragmented += runs ? runs - 1 : 0;
    return 0;
}

/* ---- looking */

static uint64_t refs(const struct vd_usemap *map, const void *page, uint64_t cluster)
{
    return count_of(map, ((const uint8_t *)page)[cluster % PAGE_CLUSTERS], cluster);
}

static uint64_t run_end(const struct vd_usemap *map, const void *page, uint64_t at, uint64_t to)
{
    uint64_t like = refs(map, page, at);

    while (at < to && refs(map, page, at) == like)
        at++;
    return at;
}

struct vd_refs vd_usemap_refs_of(const struct vd_usemap *map, uint64_t cluster)
{
    const uint8_t *page = vd_usemap_page_at(map, cluster);
    uint8_t byte = page ? page[cluster % PAGE_CLUSTERS] : 0;

    return (struct vd_refs){.count = count_of(map, byte, cluster),
                            .said_only = byte & SAID_ONLY,
                            .said_shared = byte & SAID_SHARED,
                            .is_compressed = cluster < map->clusters && has_bit(&map->compressed, cluster),
                            .is_conflicted = cluster < map->clusters && has_bit(&map->conflict, cluster)};
}

/* Is a cluster with these claims what is stored, and what its claims say? */
static bool is_odd(const struct vd_usemap *map, uint8_t byte, uint64_t cluster, uint64_t stored)
{
    uint64_t count = count_of(map, byte, cluster);

    return count != stored || ((byte & SAID_ONLY) && count != 1) || ((byte & SAID_SHARED) && count == 1);
}

size_t vd_usemap_compare(const struct vd_usemap *map, uint64_t first, const uint64_t *stored, size_t n,
                         uint32_t *odd)
{
    size_t found = 0;

    for (size_t i = 0; i < n; i++) {
        const uint8_t *page = vd_usemap_page_at(map, first + i);
        uint8_t byte = page ? page[(first + i) % PAGE_CLUSTERS] : 0;

        /* One claim that says so, which is nearly every cluster of nearly every image. */
        if (stored[i] == 1 && byte == (SAID_ONLY | 1))
            continue;
        if (is_odd(map, byte, first + i, stored[i]))
            odd[found++] = (uint32_t)i;
    }
    return found;
}

static void done(struct vd_usemap *map)
{
    free_plane(map, &map->placed);
    free_plane(map, &map->compressed);
    free_plane(map, &map->conflict);
    free(map->large);
}

const struct vd_usemap_ops vd_usemap_counts = {
    .page_bytes = PAGE_CLUSTERS,
    .add = add,
    .refs = refs,
    .run_end = run_end,
    .done = done,
};
