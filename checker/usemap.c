/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/usemap-inside.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    SLAB_PAGES = 64, /* 4 Mi clusters: smaller maps stay in the near caches anyway */
    HUGE_PAGE = 2 << 20,
    MOST_SLAB_PAGES = 1 << 16, /* 4 Gi clusters */
};

/* More clusters than this are no image: 256 TiB of 4 KiB. The directory costs address space, not memory. */
#define MOST_CLUSTERS ((uint64_t)1 << 36)

/*
 * A large map is marked at random, and then the time goes into address translation: its pages stand side by
 * side in memory that the kernel may back with huge pages. Address space costs nothing, and what is not
 * touched is not there.
 */
static void reserve_slab(struct vd_usemap *map)
{
    size_t bytes = vd_align_up_sat(map->pages_n * map->ops->page_bytes, HUGE_PAGE) + HUGE_PAGE;
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

struct vd_usemap *vd_usemap_new(enum vd_map_kind kind, unsigned cluster_bits, uint64_t clusters,
                                struct vd_budget *budget, struct vd_err *err)
{
    vd_auto(vd_usemap) map = calloc(1, sizeof(*map));

    if (!map) {
        vd_fail_memory(err);
        return NULL;
    }
    map->ops = kind == VD_MAP_COUNTS ? &vd_usemap_counts : &vd_usemap_bits;
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
    for (uint64_t i = 0; map->pages && i < map->pages_n; i++) {
        if (map->pages[i] && map->ops->free_page)
            map->ops->free_page(map->pages[i]);
        if (!map->slab)
            free(map->pages[i]);
    }
    if (map->slab)
        munmap(map->mapping, map->mapping_bytes);
    if (map->ops->done)
        map->ops->done(map);
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

void *vd_usemap_take(struct vd_usemap *map, size_t bytes, struct vd_err *err)
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

void *vd_usemap_page(struct vd_usemap *map, uint64_t cluster, struct vd_err *err)
{
    uint64_t i = cluster >> PAGE_BITS;

    if (map->pages[i])
        return map->pages[i];
    if (!map->slab) {
        map->pages[i] = vd_usemap_take(map, map->ops->page_bytes, err);
        return map->pages[i];
    }
    if (vd_budget_take(map->budget, map->ops->page_bytes, "the cluster-usage map", err) < 0)
        return NULL;
    map->taken += map->ops->page_bytes;
    map->pages[i] = map->slab + i * map->ops->page_bytes;
    return map->pages[i];
}

int vd_usemap_claim(struct vd_usemap *map, const struct vd_claim *claim, uint64_t first, uint64_t count,
                    uint64_t *shared, struct vd_err *err)
{
    assert(first <= map->clusters && count <= map->clusters - first);
    *shared = 0;
    for (uint64_t c = first; c < first + count; c++) {
        bool again = false;

        if (map->ops->add(map, c, claim->weight, &again, err) < 0)
            return -1;
        if (map->ops == &vd_usemap_counts &&
            vd_usemap_note_owner(map, claim->kind, c, again, &again, err) < 0)
            return -1;
        *shared += again;
    }
    map->end = vd_max(map->end, first + count);
    if (vd_kind_is_data(claim->kind))
        return 0;
    map->meta_is_sorted = false;
    return meta_vec_push(&map->meta, (struct vd_meta_run){first, count, claim->reference, claim->kind}) < 0
               ? vd_fail_memory(err)
               : 0;
}

bool vd_usemap_counts_refs(const struct vd_usemap *map)
{
    return map->ops == &vd_usemap_counts;
}

uint64_t vd_usemap_refs(const struct vd_usemap *map, uint64_t cluster)
{
    const void *page = vd_usemap_page_at(map, cluster);

    return page ? map->ops->refs(map, page, cluster) : 0;
}

bool vd_usemap_is_used(const struct vd_usemap *map, uint64_t cluster)
{
    return vd_usemap_refs(map, cluster) != 0;
}

bool vd_usemap_is_shared(const struct vd_usemap *map, uint64_t cluster)
{
    return vd_usemap_refs(map, cluster) > 1;
}

static enum vd_kind plain_kind(const struct vd_usemap *map, uint64_t cluster, uint64_t refs)
{
    if (!refs)
        return VD_KIND_FREE;
    return map->compressed.pages && vd_usemap_refs_of(map, cluster).is_compressed ? VD_KIND_COMPRESSED
                                                                                  : VD_KIND_DATA;
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
    return plain_kind(map, cluster, vd_usemap_refs(map, cluster));
}

uint64_t vd_usemap_end(const struct vd_usemap *map)
{
    return map->end;
}

/* The first cluster behind at, and not behind to, that has another number of claims. */
static uint64_t run_end(const struct vd_usemap *map, uint64_t at, uint64_t to)
{
    uint64_t like = vd_usemap_refs(map, at);

    while (at < to) {
        const void *page = vd_usemap_page_at(map, at);
        uint64_t page_end = vd_min(to, (at | (PAGE_CLUSTERS - 1)) + 1), end = page_end;

        if (page && map->ops->refs(map, page, at) != like)
            return at;
        if (!page && like)
            return at;
        if (page)
            end = map->ops->run_end(map, page, at, page_end);
        if (end < page_end)
            return end;
        at = end;
    }
    return to;
}

uint64_t vd_usemap_next_used(const struct vd_usemap *map, uint64_t cluster)
{
    if (cluster < map->clusters && !vd_usemap_is_used(map, cluster))
        cluster = run_end(map, cluster, map->clusters);
    return cluster < map->clusters ? cluster : VD_NOWHERE;
}

/* The free clusters, and in how many runs they lie. */
static uint64_t count_free(const struct vd_usemap *map, size_t *runs)
{
    uint64_t n = 0;

    *runs = 0;
    for (uint64_t at = 0, end; at < map->clusters; at = end) {
        end = run_end(map, at, map->clusters);
        if (!vd_usemap_is_used(map, at)) {
            n += end - at;
            ++*runs;
        }
    }
    return n;
}

uint64_t vd_usemap_count_free(const struct vd_usemap *map)
{
    size_t runs;

    return count_free(map, &runs);
}

int vd_usemap_free_runs(const struct vd_usemap *map, struct vd_runs *out, struct vd_err *err)
{
    size_t runs;

    /* The list of a million leaks is most of what a check needs: no room is made for more than there are. */
    (void)count_free(map, &runs);
    if (vd_runs_reserve(out, runs) < 0)
        return vd_fail_memory(err);
    for (uint64_t at = 0, end; at < map->clusters; at = end) {
        end = run_end(map, at, map->clusters);
        if (!vd_usemap_is_used(map, at) && vd_runs_add(out, at, end - at) < 0)
            return vd_fail_memory(err);
    }
    return 0;
}

/* Data and free stretches between two metadata runs. */
static int each_plain_run(struct vd_usemap *map, uint64_t at, uint64_t to, vd_usemap_run_fn *fn, void *opaque)
{
    while (at < to) {
        uint64_t refs = vd_usemap_refs(map, at), end = run_end(map, at, to);
        enum vd_kind kind = plain_kind(map, at, refs);

        for (uint64_t c = at; map->compressed.pages && refs && c < end; c++)
            if (plain_kind(map, c, refs) != kind)
                end = c;
        if (fn(opaque, at, end - at, kind, refs) < 0)
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
            uint64_t stop = run_end(map, at, end);

            if (fn(opaque, at, stop - at, meta[i].kind, vd_usemap_refs(map, at)) < 0)
                return -1;
            at = stop;
        }
    }
    return each_plain_run(map, at, map->clusters, fn, opaque);
}
