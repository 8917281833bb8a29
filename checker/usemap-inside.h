/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to checker/usemap*.c: what the two kinds of map share.
 *
 * A map that only tells one claim from several keeps two bits a cluster (usemap-bits.c); one that is compared
 * with stored reference counts keeps a byte (usemap-counts.c). Both keep them in pages of 64 Ki clusters that
 * come into being when a claim touches them.
 */
#ifndef VD_USEMAP_INSIDE_H
#define VD_USEMAP_INSIDE_H

#include "checker/usemap.h"
#include "formats/base/auto.h"
#include "formats/base/vec.h"

enum { PAGE_BITS = 16, PAGE_CLUSTERS = 1 << PAGE_BITS, PAGE_WORDS = PAGE_CLUSTERS / 64 };

VD_VEC(meta_vec, struct vd_meta_run)

/* What the kind of map decides. */
struct vd_usemap_ops {
    size_t page_bytes;
    /* Adds a claim of that weight to one cluster; *again is whether it had one. */
    int (*add)(struct vd_usemap *map, uint64_t cluster, uint64_t weight, bool *again, struct vd_err *err);
    /* Claims on a cluster whose page is there; a map of bits says 2 for "several". */
    uint64_t (*refs)(const struct vd_usemap *map, const void *page, uint64_t cluster);
    /* The first cluster behind at, and not behind to, that has another number of claims; all in one page. */
    uint64_t (*run_end)(const struct vd_usemap *map, const void *page, uint64_t at, uint64_t to);
    void (*free_page)(void *page);
    void (*done)(struct vd_usemap *map);
};

extern const struct vd_usemap_ops vd_usemap_bits, vd_usemap_counts;

/* One bit a cluster, in pages that are there where a bit is set. */
struct vd_plane {
    uint64_t **pages; /* NULL: no bit is set */
};

/* A count that a byte cannot hold. */
struct vd_large_count {
    uint64_t cluster;
    uint64_t count; /* 0: the slot is free */
};

struct vd_usemap {
    const struct vd_usemap_ops *ops;
    unsigned cluster_bits;
    uint64_t clusters;
    uint64_t end;
    void **pages;
    uint64_t pages_n;
    struct meta_vec meta;
    bool meta_is_sorted;
    uint64_t taken; /* of the budget */
    uint8_t *slab;  /* a large map's pages come from one stretch of memory; NULL: each by itself */
    void *mapping;  /* that the slab lies in */
    size_t mapping_bytes;
    struct vd_budget *budget;
    /* a map of counts only */
    struct vd_plane placed;       /* clusters that have an owner or a guest position already */
    struct vd_plane compressed;   /* clusters that hold compressed data */
    struct vd_plane conflict;     /* clusters that have more than one, and should not */
    struct vd_large_count *large; /* a hash table of large_room slots */
    size_t large_n, large_room;
};

/* Notes who owns a cluster of a map of counts; *is_conflict where somebody else does, other than compressed
 * data beside compressed data. */
int vd_usemap_note_owner(struct vd_usemap *map, enum vd_kind kind, uint64_t cluster, bool again,
                         bool *is_conflict, struct vd_err *err);

/* Zeroed memory out of the map's budget; NULL on error. It goes with the map. */
void *vd_usemap_take(struct vd_usemap *map, size_t bytes, struct vd_err *err);

/* The cluster's page, made where it is not there. */
void *vd_usemap_page(struct vd_usemap *map, uint64_t cluster, struct vd_err *err);

static inline const void *vd_usemap_page_at(const struct vd_usemap *map, uint64_t cluster)
{
    return cluster < map->clusters ? map->pages[cluster >> PAGE_BITS] : NULL;
}

#endif
