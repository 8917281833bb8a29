/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/usemap.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "formats/base/vec.h"

enum {
    PAGE_BITS = 16,
    PAGE_CLUSTERS = 1 << PAGE_BITS,
    PAGE_WORDS = PAGE_CLUSTERS / 64,
    SLAB_PAGES = 64, /* 4 Mi clusters: smaller maps stay in the near caches anyway */
    HUGE_PAGE = 2 << 20,
    MOST_SLAB_PAGES = 1 << 16, /* 4 Gi clusters */
};

/* More clusters than this are no image: 256 TiB of 4 KiB. The directory costs address space, not memory. */
#define MOST_CLUSTERS ((uint64_t)1 << 36)

struct page {
    uint64_t seen[PAGE_WORDS];
    uint64_t *twice; /* PAGE_WORDS, or NULL while nothing here is shared */
};

VD_VEC(meta_vec, struct vd_meta_run)

struct vd_usemap {
    unsigned cluster_bits;
    uint64_t clusters;
    uint64_t end;
    struct page **pages;
    uint64_t pages_n;
    struct meta_vec meta;
    bool meta_is_sorted;
    uint64_t taken; /* of the budget */
    uint8_t *slab;  /* a large map's pages come from one stretch of memory; NULL: each by itself */
    void *mapping;  /* that the slab lies in */
    size_t mapping_bytes;
    struct vd_budget *budget;
};

/*
 * A large map is marked at random, and then the time goes into address translation: its pages stand side by
 * side in memory that the kernel may back with huge pages. Address space costs nothing, and what is not
 * touched is not there.
 */
static void reserve_slab(struct vd_usemap *map)
{
    size_t bytes = vd_align_up_sat(map->pages_n * sizeof(struct page), HUGE_PAGE) + HUGE_PAGE;
    void *at;

    if (map->pages_n < SLAB_PAGES || map->pages_n > MOST_SLAB_PAGES)
        return;
    at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return;
    (void)madvise(at, bytes, MADV_HUGEPAGE);
    map->mapping = at;
    map->mapping_bytes = bytes;
    map->slab = (uint8_t *)at + (vd_align_up_sat((uintptr_t)at, HUGE_PAGE) - (uintptr_t)at);
}

struct vd_usemap *vd_usemap_new(unsigned cluster_bits, uint64_t clusters, struct vd_budget *budget,
                                struct vd_err *err)
{
    vd_auto(vd_usemap) map = calloc(1, sizeof(*map));

    if (!map) {
        vd_fail_memory(err);
        return NULL;
    }
    map->budget = budget;
    map->cluster_bits = cluster_bits;
    map->clusters = clusters;
    if (clusters > MOST_CLUSTERS) {
        vd_fail(err, VD_ERR_LIMIT, 0, "the file has %" PRIu64 " clusters, more than the bound of %" PRIu64,
                clusters, MOST_CLUSTERS);
        return NULL;
    }
    map->pages_n = vd_div_up(clusters, PAGE_CLUSTERS);
    map->pages = calloc(map->pages_n ? map->pages_n : 1, sizeof(*map->pages));
    if (!map->pages) {
        vd_fail_memory(err);
        return NULL;
    }
    reserve_slab(map);
    return vd_take(&map);
}

void vd_usemap_free(struct vd_usemap *map)
{
    for (uint64_t i = 0; map->pages && i < map->pages_n; i++)
        if (map->pages[i]) {
            free(map->pages[i]->twice);
            if (!map->slab)
                free(map->pages[i]);
        }
    if (map->slab)
        munmap(map->mapping, map->mapping_bytes);
    vd_budget_give(map->budget, map->taken);
    meta_vec_done(&map->meta);
    free(map->pages);
    free(map);
}

unsigned vd_usemap_cluster_bits(const struct vd_usemap *map)
{
    return map->cluster_bits;
}

uint64_t vd_usemap_clusters(const struct vd_usemap *map)
{
    return map->clusters;
}

static void *take(struct vd_usemap *map, size_t bytes, struct vd_err *err)
{
    void *p;

    if (vd_budget_take(map->budget, bytes, "the cluster-usage map", err) < 0)
        return NULL;
    map->taken += bytes;
    p = calloc(1, bytes);
    if (!p)
        vd_fail_memory(err);
    return p;
}

static struct page *page_of(struct vd_usemap *map, uint64_t cluster, struct vd_err *err)
{
    uint64_t i = cluster >> PAGE_BITS;

    if (map->pages[i])
        return map->pages[i];
    if (!map->slab) {
        map->pages[i] = take(map, sizeof(struct page), err);
        return map->pages[i];
    }
    if (vd_budget_take(map->budget, sizeof(struct page), "the cluster-usage map", err) < 0)
        return NULL;
    map->taken += sizeof(struct page);
    map->pages[i] = (struct page *)(void *)(map->slab + i * sizeof(struct page));
    return map->pages[i];
}

static int mark_twice(struct vd_usemap *map, struct page *page, uint64_t in, struct vd_err *err)
{
    if (!page->twice)
        page->twice = take(map, PAGE_WORDS * sizeof(*page->twice), err);
    if (!page->twice)
        return -1;
    page->twice[in / 64] |= (uint64_t)1 << (in % 64);
    return 0;
}

/* Marks one cluster; 1 where it was marked before, -1 on error. */
static int mark(struct vd_usemap *map, uint64_t cluster, struct vd_err *err)
{
    struct page *page = page_of(map, cluster, err);
    uint64_t in = cluster % PAGE_CLUSTERS, bit = (uint64_t)1 << (in % 64);

    if (!page)
        return -1;
    if (page->seen[in / 64] & bit)
        return mark_twice(map, page, in, err) < 0 ? -1 : 1;
    page->seen[in / 64] |= bit;
    return 0;
}

int vd_usemap_claim(struct vd_usemap *map, enum vd_kind kind, uint64_t first, uint64_t count,
                    uint64_t reference, uint64_t *shared, struct vd_err *err)
{
    uint64_t ignored;

    assert(first <= map->clusters && count <= map->clusters - first);
    shared = shared ? shared : &ignored;
    *shared = 0;
    for (uint64_t c = first; c < first + count; c++) {
        int was = mark(map, c, err);

        if (was < 0)
            return -1;
        *shared += (uint64_t)was;
    }
    map->end = vd_max(map->end, first + count);
    if (kind == VD_KIND_DATA)
        return 0;
    map->meta_is_sorted = false;
    return meta_vec_push(&map->meta, (struct vd_meta_run){first, count, reference, kind}) < 0
               ? vd_fail_memory(err)
               : 0;
}

/* Marks a stretch of clusters in a row, a word of the bitmap at a time. */
static int mark_stretch(struct vd_usemap *map, uint64_t first, uint64_t count, uint64_t *shared,
                        struct vd_err *err)
{
    while (count) {
        uint64_t in = first % PAGE_CLUSTERS, n = vd_min(count, 64 - in % 64);
        uint64_t bits = (n == 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1) << (in % 64);
        struct page *page = page_of(map, first, err);
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
    const struct page *page = cluster < map->clusters ? map->pages[cluster >> PAGE_BITS] : NULL;

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
    uint64_t start = 0, next = 0, bad = 0, none = 0, zeroes = 0, stretches = 0,
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
    result->bad += bad;
    result->zeroes += zeroes;
    result->allocated += batch->n - none - bad;
    result->fragmented += stretches ? stretches - 1 : 0;
    return 0;
}

static const struct page *page_at(const struct vd_usemap *map, uint64_t cluster)
{
    return cluster < map->clusters ? map->pages[cluster >> PAGE_BITS] : NULL;
}

bool vd_usemap_is_used(const struct vd_usemap *map, uint64_t cluster)
{
    const struct page *page = page_at(map, cluster);

    return page && (page->seen[cluster % PAGE_CLUSTERS / 64] >> (cluster % 64) & 1);
}

bool vd_usemap_is_shared(const struct vd_usemap *map, uint64_t cluster)
{
    const struct page *page = page_at(map, cluster);

    return page && page->twice && (page->twice[cluster % PAGE_CLUSTERS / 64] >> (cluster % 64) & 1);
}

static int by_first(const void *a, const void *b)
{
    const struct vd_meta_run *x = a, *y = b;

    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return (int)x->kind - (int)y->kind;
}

const struct vd_meta_run *vd_usemap_meta(struct vd_usemap *map, size_t *n)
{
    if (!map->meta_is_sorted && map->meta.n)
        qsort(map->meta.v, map->meta.n, sizeof(*map->meta.v), by_first);
    map->meta_is_sorted = true;
    *n = map->meta.n;
    return map->meta.v;
}

/* Runs of tables overlap only in damaged images, and then by less than a table: looking back over a few is
 * enough. */
enum { LOOK_BACK = 64 };

enum vd_kind vd_usemap_kind(struct vd_usemap *map, uint64_t cluster, const struct vd_meta_run **meta)
{
    size_t n, lo = 0, hi;
    const struct vd_meta_run *v = vd_usemap_meta(map, &n), *found = NULL;

    for (hi = n; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;

        if (v[mid].first <= cluster)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (size_t i = lo; i > 0 && lo - i < LOOK_BACK; i--)
        if (cluster - v[i - 1].first < v[i - 1].count)
            found = &v[i - 1];
    if (meta)
        *meta = found;
    if (found)
        return found->kind;
    return vd_usemap_is_used(map, cluster) ? VD_KIND_DATA : VD_KIND_FREE;
}

uint64_t vd_usemap_end(const struct vd_usemap *map)
{
    return map->end;
}

/* The first cluster from `from` on, before `to`, whose bit is `bit`; `to` where there is none. */
static uint64_t find_bit(const struct vd_usemap *map, uint64_t from, uint64_t to, bool bit, bool twice)
{
    while (from < to) {
        const struct page *page = map->pages[from >> PAGE_BITS];
        const uint64_t *words = !page ? NULL : twice ? page->twice : page->seen;
        uint64_t word;

        if (!words) {
            if (!bit)
                return from;
            from = vd_min(to, (from | (PAGE_CLUSTERS - 1)) + 1);
            continue;
        }
        word = words[from % PAGE_CLUSTERS / 64];
        word = (bit ? word : ~word) >> (from % 64);
        if (word)
            return vd_min(to, from + (uint64_t)__builtin_ctzll(word));
        from = (from | 63) + 1;
    }
    return to;
}

int vd_usemap_free_runs(const struct vd_usemap *map, struct vd_runs *out, struct vd_err *err)
{
    uint64_t at = 0;

    while ((at = find_bit(map, at, map->clusters, false, false)) < map->clusters) {
        uint64_t end = find_bit(map, at, map->clusters, true, false);

        if (vd_runs_add(out, at, end - at) < 0)
            return vd_fail_memory(err);
        at = end;
    }
    return 0;
}

/* Data and free stretches between two metadata runs. */
static int each_plain_run(struct vd_usemap *map, uint64_t at, uint64_t to, vd_usemap_run_fn *fn, void *opaque)
{
    while (at < to) {
        bool used = vd_usemap_is_used(map, at), shared = vd_usemap_is_shared(map, at);
        uint64_t end = find_bit(map, at, to, !used, false);

        end = find_bit(map, at, end, !shared, true);
        if (fn(opaque, at, end - at, used ? VD_KIND_DATA : VD_KIND_FREE, used + shared) < 0)
            return -1;
        at = end;
    }
    return 0;
}

int vd_usemap_each_run(struct vd_usemap *map, vd_usemap_run_fn *fn, void *opaque)
{
    size_t n;
    const struct vd_meta_run *meta = vd_usemap_meta(map, &n);
    uint64_t at = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t end = meta[i].first + meta[i].count;

        if (meta[i].first > at && each_plain_run(map, at, meta[i].first, fn, opaque) < 0)
            return -1;
        at = vd_max(at, meta[i].first);
        while (at < end) {
            bool shared = vd_usemap_is_shared(map, at);
            uint64_t stop = find_bit(map, at, end, !shared, true);

            if (fn(opaque, at, stop - at, meta[i].kind, 1 + shared) < 0)
                return -1;
            at = stop;
        }
    }
    return each_plain_run(map, at, map->clusters, fn, opaque);
}
