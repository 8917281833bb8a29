/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cluster-usage map: which host clusters of the file are claimed, and how often.
 *
 * Formats without reference counts need two bits a cluster ("seen", "seen twice"), the others a byte: a
 * count, and what the claims say of it. Both lie in pages of 64 Ki clusters that come into being when a claim
 * touches them: 4 or 16 MiB for 1 TiB of 64 KiB clusters, and a sparse file of many TiB costs what its claims
 * touch. The size comes from the file's real length. What metadata holds is kept beside as sorted spans, for
 * there is little of it.
 */
#ifndef VD_USEMAP_H
#define VD_USEMAP_H

#include "formats/check.h"

struct vd_usemap;

/* A metadata structure's claim; in clusters. */
struct vd_meta_run {
    uint64_t first, count;
    uint64_t reference; /* host offset of the reference, or VD_NOWHERE */
    enum vd_kind kind;
};

/* A map of `clusters` clusters, all free. The budget is borrowed for the map's life. NULL on error. */
struct vd_usemap *vd_usemap_new(enum vd_map_kind kind, unsigned cluster_bits, uint64_t clusters,
                                struct vd_budget *budget, struct vd_err *err);
void vd_usemap_free(struct vd_usemap *map);
VD_DEFINE_AUTO(vd_usemap, vd_usemap_free)

unsigned vd_usemap_cluster_bits(const struct vd_usemap *map);
uint64_t vd_usemap_clusters(const struct vd_usemap *map);

/* A claim on a stretch of clusters. */
struct vd_claim {
    enum vd_kind kind;
    uint64_t reference; /* host offset of the reference, or VD_NOWHERE */
    uint64_t weight;    /* references, where several claim at once; a map of bits knows one and more */
};

/* Marks count clusters from first on; *shared is how many were marked before (for compressed data: by
 * anything else). */
int vd_usemap_claim(struct vd_usemap *map, const struct vd_claim *claim, uint64_t first, uint64_t count,
                    uint64_t *shared, struct vd_err *err);

/* Marks the good references of a table as data; see vd_claim_table(). */
int vd_usemap_claim_batch(struct vd_usemap *map, const struct vd_claim_batch *batch,
                          struct vd_claim_result *result, struct vd_err *err);

/* Counts the references of a table as data; see vd_count_table(). Only in a map of counts. */
int vd_usemap_count_batch(struct vd_usemap *map, const struct vd_count_batch *batch,
                          struct vd_count_result *result, struct vd_err *err);

/* See vd_compare_counts(). Only in a map of counts. */
size_t vd_usemap_compare(const struct vd_usemap *map, uint64_t first, const uint64_t *stored, size_t n,
                         uint32_t *odd);

/* All that a map of counts knows of a cluster's claims; behind the map there are none. */
struct vd_refs vd_usemap_refs_of(const struct vd_usemap *map, uint64_t cluster);

/* Is it a map of counts? */
bool vd_usemap_counts_refs(const struct vd_usemap *map);

/* How many claims the cluster has; a map of bits says 2 for several. */
uint64_t vd_usemap_refs(const struct vd_usemap *map, uint64_t cluster);

bool vd_usemap_is_used(const struct vd_usemap *map, uint64_t cluster);
bool vd_usemap_is_shared(const struct vd_usemap *map, uint64_t cluster);

/* What holds the cluster: the metadata that claimed it (the first, where several did), data or nothing.
 * *meta, where not NULL, is set to the metadata's run or NULL. */
enum vd_kind vd_usemap_kind(struct vd_usemap *map, uint64_t cluster, const struct vd_meta_run **meta);

/* The metadata runs in order of their first cluster; *n of them. */
const struct vd_meta_run *vd_usemap_meta(struct vd_usemap *map, size_t *n);

/* The first claimed cluster at or behind this one, or VD_NOWHERE. */
uint64_t vd_usemap_next_used(const struct vd_usemap *map, uint64_t cluster);

/* How many clusters are free. */
uint64_t vd_usemap_count_free(const struct vd_usemap *map);

/* Adds all free clusters to out, in order. */
int vd_usemap_free_runs(const struct vd_usemap *map, struct vd_runs *out, struct vd_err *err);

/* The highest claimed cluster plus one. */
uint64_t vd_usemap_end(const struct vd_usemap *map);

/* Runs of equal clusters (kind, and claims as vd_usemap_refs() has them) in order, told to fn until it says
 * -1. */
typedef int vd_usemap_run_fn(void *opaque, uint64_t first, uint64_t count, enum vd_kind kind, uint64_t refs);
int vd_usemap_each_run(struct vd_usemap *map, vd_usemap_run_fn *fn, void *opaque);

#endif
