/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cluster-usage map: which host clusters of the file are claimed, and which more than once.
 *
 * Two bits a cluster ("seen", "seen twice"), in pages of 64 Ki clusters that come into being when a claim
 * touches them: 4 MiB for 1 TiB of 64 KiB clusters, and a sparse file of many TiB costs what its claims
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
struct vd_usemap *vd_usemap_new(unsigned cluster_bits, uint64_t clusters, struct vd_budget *budget,
                                struct vd_err *err);
void vd_usemap_free(struct vd_usemap *map);
VD_DEFINE_AUTO(vd_usemap, vd_usemap_free)

unsigned vd_usemap_cluster_bits(const struct vd_usemap *map);
uint64_t vd_usemap_clusters(const struct vd_usemap *map);

/* Marks count clusters from first on; *shared is how many were marked before. */
int vd_usemap_claim(struct vd_usemap *map, enum vd_kind kind, uint64_t first, uint64_t count,
                    uint64_t reference, uint64_t *shared, struct vd_err *err);

/* Marks the good references of a table as data; see vd_claim_table(). */
int vd_usemap_claim_batch(struct vd_usemap *map, const struct vd_claim_batch *batch,
                          struct vd_claim_result *result, struct vd_err *err);

bool vd_usemap_is_used(const struct vd_usemap *map, uint64_t cluster);
bool vd_usemap_is_shared(const struct vd_usemap *map, uint64_t cluster);

/* What holds the cluster: the metadata that claimed it (the first, where several did), data or nothing.
 * *meta, where not NULL, is set to the metadata's run or NULL. */
enum vd_kind vd_usemap_kind(struct vd_usemap *map, uint64_t cluster, const struct vd_meta_run **meta);

/* The metadata runs in order of their first cluster; *n of them. */
const struct vd_meta_run *vd_usemap_meta(struct vd_usemap *map, size_t *n);

/* Adds all free clusters to out, in order. */
int vd_usemap_free_runs(const struct vd_usemap *map, struct vd_runs *out, struct vd_err *err);

/* The highest claimed cluster plus one. */
uint64_t vd_usemap_end(const struct vd_usemap *map);

/* Runs of equal clusters (kind, and 0, 1 or 2 for "more than one" references) in order, told to fn until it
 * says -1. */
typedef int vd_usemap_run_fn(void *opaque, uint64_t first, uint64_t count, enum vd_kind kind, unsigned refs);
int vd_usemap_each_run(struct vd_usemap *map, vd_usemap_run_fn *fn, void *opaque);

#endif
