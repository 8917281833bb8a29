/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A map of two bits a cluster: "seen" and "seen twice".
 */
#include "checker/usemap-inside.h"

#include <stdlib.h>

#include "formats/base/span.h"

struct page {
    uint64_t seen[PAGE_WORDS];
    uint64_t *twice; /* PAGE_WORDS, or NULL while nothing here is shared */
};

static int mark_twice(struct vd_usemap *map, struct page *page, uint64_t in, struct vd_err *err)
{
    if (!page->twice)
        page->twice = vd_usemap_take(map, PAGE_WORDS * sizeof(*page->twice), err);
    if (!page->twice)
        return -1;
    page->twice[in / 64] |= (uint64_t)1 << (in % 64);
    return 0;
}

static int add(struct vd_usemap *map, uint64_t cluster, uint64_t weight, bool *again, struct vd_err *err)
{
    struct page *page = vd_usemap_page(map, cluster, err);
    uint64_t in = cluster % PAGE_CLUSTERS, bit = (uint64_t)1 << (in % 64);

    if (!page)
        return -1;
    *again = page->seen[in / 64] & bit;
    page->seen[in / 64] |= bit;
    return *again || weight > 1 ? mark_twice(map, page, in, err) : 0;
}

/* Marks a stretch of clusters in a row, a word of the bitmap at a time. */
static int mark_stretch(struct vd_usemap *map, uint64_t first, uint64_t count, uint64_t *shared,
                        struct vd_err *err)
{
    while (count) {
        uint64_t in = first % PAGE_CLUSTERS, n = vd_min(count, 64 - in % 64);
        uint64_t bits = (n == 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1) << (in % 64);
        struct page *page = vd_usemap_page(map, first, err);
        uint64_t again;

        if (!page)
            return -1;
        again = page->seen[in / 64] & bits;
        page->seen[in / 64] |= bits;
        for (; again; again &= again - 1) {
            ++*shared;
            if (mark_twice(map, page, in / 64 * 64 + (uint64_t)__builtin_ctzll(again), err) < 0)
                return -1;
        }
        first += n;
        count -= n;
    }
    return 0;
}

/* How far ahead the bitmap's words of scattered entries are asked for: the map of a large image is larger
 * than the near caches, and 16 ahead was measured to bring nothing. */
enum { PREFETCH_AHEAD = 48 };

/* Inline by force: gcc takes a function that only prefetches for one without effect, and drops the call. */
static inline __attribute__((always_inline)) void prefetch_word(const struct vd_usemap *map, uint64_t offset)
{
    uint64_t cluster = offset >> map->cluster_bits;
    const struct page *page = vd_usemap_page_at(map, cluster);

    if (page)
        __builtin_prefetch(&page->seen[cluster % PAGE_CLUSTERS / 64], 1);
}

/* What mark_stretch() does for the commonest stretch of a scattered table, one cluster not seen before; false
 * where it is something else. */
static inline bool mark_fresh(struct vd_usemap *map, uint64_t cluster)
{
    struct page *page = map->pages[cluster >> PAGE_BITS];
    uint64_t *word, bit = (uint64_t)1 << (cluster % 64);

    if (!page)
        return false;
    word = &page->seen[cluster % PAGE_CLUSTERS / 64];
    if (*word & bit)
        return false;
    *word |= bit;
    return true;
}

/* Ends the stretch of offsets [start, next); 0 where there was none. */
static inline int end_stretch(struct vd_usemap *map, uint64_t start, uint64_t next,
                              struct vd_claim_result *result, struct vd_err *err)
{
    uint64_t first = start >> map->cluster_bits, count = (next - start) >> map->cluster_bits;

    if (!next || (count == 1 && mark_fresh(map, first)))
        return 0;
    return mark_stretch(map, first, count, &result->shared, err);
}

/*
 * Entries that ascend by one cluster are gathered into a stretch and marked together: in order, the common
 * layout, a table of 32 Ki entries becomes 512 operations on words.
 */
int vd_usemap_claim_batch(struct vd_usemap *map, const struct vd_claim_batch *batch,
                          struct vd_claim_result *result, struct vd_err *err)
{
    const uint64_t size = (uint64_t)1 << map->cluster_bits, mask = size - 1, room = batch->hi - batch->lo;
    uint64_t start = result->next, next = start, bad = 0, none = 0, zeroes = 0, stretches = start != 0,
             end = map->end << map->cluster_bits;

    for (size_t i = 0; i < batch->n; i++) {
        uint64_t e = batch->offsets[i];

        if (e == next && e < batch->hi && e) {
            next = e + size;
            continue;
        }
        if (e <= batch->zero) {
            none++;
            zeroes += e && e == batch->zero;
            continue;
        }
        if ((e & mask) || e - batch->lo >= room) {
            bad++;
            continue;
        }
        if (i + PREFETCH_AHEAD < batch->n)
            prefetch_word(map, batch->offsets[i + PREFETCH_AHEAD]);
        if (end_stretch(map, start, next, result, err) < 0)
            return -1;
        end = vd_max(end, next);
        stretches++;
        start = e;
        next = e + size;
    }
    if (end_stretch(map, start, next, result, err) < 0)
        return -1;
    map->end = vd_max(end, next) >> map->cluster_bits;
    result->next = next;
    result->bad += bad;
    result->zeroes += zeroes;
    result->allocated += batch->n - none - bad;
    result->fragmented += stretches ? stretches - 1 : 0;
    return 0;
}

static uint64_t refs(const struct vd_usemap *map, const void *page, uint64_t cluster)
{
    const struct page *p = page;
    uint64_t in = cluster % PAGE_CLUSTERS;

    (void)map;
    return (p->seen[in / 64] >> (in % 64) & 1) + (p->twice ? p->twice[in / 64] >> (in % 64) & 1 : 0);
}

/* The first cluster of the page from `from` on, before `to`, whose bit is `bit`; `to` where there is none. */
static uint64_t find_bit(const uint64_t *words, uint64_t from, uint64_t to, bool bit)
{
    while (from < to) {
        uint64_t word = words ? words[from % PAGE_CLUSTERS / 64] : 0;

        word = (bit ? word : ~word) >> (from % 64);
        if (word)
            return vd_min(to, from + (uint64_t)__builtin_ctzll(word));
        from = (from | 63) + 1;
    }
    return to;
}

static uint64_t run_end(const struct vd_usemap *map, const void *page, uint64_t at, uint64_t to)
{
    const struct page *p = page;
    uint64_t like = refs(map, page, at), end = find_bit(p->seen, at, to, like == 0);

    return like ? find_bit(p->twice, at, end, like == 1) : end;
}

static void free_page(void *page)
{
    free(((struct page *)page)->twice);
}

const struct vd_usemap_ops vd_usemap_bits = {
    .page_bytes = sizeof(struct page),
    .add = add,
    .refs = refs,
    .run_end = run_end,
    .free_page = free_page,
};
