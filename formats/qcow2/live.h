/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to the writing side of formats/qcow2: what an image that is written to keeps in memory.
 *
 * Every change goes to the file at once; nothing here is dirty. What waits is only the lowering of counts:
 * a cluster is given up when the table that no longer names it is on the disk, so after the next flush.
 */
#ifndef VD_QCOW2_LIVE_H
#define VD_QCOW2_LIVE_H

#include "formats/base/runs.h"
#include "formats/qcow2/qcow2.h"

enum { QCOW2_CACHED_BLOCKS = 4 };

/* A refcount block, as it stands in the file. */
struct qcow2_open_block {
    uint64_t i;     /* of the refcount table; UINT64_MAX: holds nothing */
    uint8_t *bytes; /* one cluster, or NULL */
};

VD_VEC(qcow2_run_vec, struct vd_run)

struct qcow2_live {
    bool is_loaded;
    bool is_frozen;     /* a write failed; nothing more is written */
    bool dirty_is_ours; /* the dirty bit was set here, and a clean close clears it */
    uint64_t *reftable; /* offsets of the refcount blocks; 0: none */
    uint64_t reftable_n;
    struct qcow2_open_block block[QCOW2_CACHED_BLOCKS];
    unsigned next_block;           /* which is given up next */
    uint64_t hint;                 /* no cluster below is free */
    struct vd_runs metadata;       /* clusters: header, L1 table, refcount table and blocks */
    struct vd_runs tables;         /* clusters: the L2 tables that the L1 table names */
    struct qcow2_run_vec released; /* clusters whose counts are lowered by one after the next flush */
};

/* ---- live.c */

/* Reads the tables that writing needs, at the first call. An image whose tables contradict themselves is not
 * written to. */
int qcow2_live_load(struct BlockDriverState *bs, struct vd_err *err);

/* Forgets what was read, but not whether the image is frozen or dirty. */
void qcow2_live_forget(struct qcow2_live *live);

/* A structure of n clusters at host joins or leaves those that data must not meet. */
int qcow2_add_clusters(struct BlockDriverState *bs, struct vd_runs *runs, uint64_t host, uint64_t n,
                       struct vd_err *err);
int qcow2_drop_clusters(struct BlockDriverState *bs, struct vd_runs *runs, uint64_t host, uint64_t n,
                        struct vd_err *err);

/* Does the set have one of n clusters? */
bool qcow2_meets(struct vd_runs *runs, uint64_t first, uint64_t n);

/* What was read at a host offset cannot be true; returns -1. */
int qcow2_contradicts(struct BlockDriverState *bs, uint64_t host, const char *what, struct vd_err *err);

/* ---- alloc.c */

/* Brings everything written to the disk, then lowers the counts of what was released. */
int qcow2_live_flush(struct BlockDriverState *bs, struct vd_err *err);

/* Takes min to max free clusters in a row, counted 1 each: the offset of the first to *host, their number to
 * *n. What they held does not matter to anybody. */
int qcow2_allocate(struct BlockDriverState *bs, uint64_t min, uint64_t max, uint64_t *host, uint64_t *n,
                   struct vd_err *err);

/* The n clusters from host on have one reference less; counted after the next flush. */
int qcow2_release(struct BlockDriverState *bs, uint64_t host, uint64_t n, struct vd_err *err);

/* Do these clusters belong to one entry alone, so that they can be written in place? The COPIED bit says so;
 * the counts and the other tables must agree. */
int qcow2_check_owned(struct BlockDriverState *bs, uint64_t host, uint64_t n, bool is_table,
                      struct vd_err *err);

/* ---- table.c */

/* Refuses a bad L1 word. */
int qcow2_judge_l1(struct BlockDriverState *bs, uint64_t slot, uint64_t word, struct vd_err *err);

/* Looks an entry up for writing: any fault that is not merely odd is an error. */
int qcow2_lookup_sound(struct BlockDriverState *bs, uint64_t guest, struct qcow2_entry *entry,
                       uint64_t *table_off, uint64_t *index, struct vd_err *err);

/* Flushes, so that counts and data are on the disk, then makes the n entries from guest on (in one L2 table)
 * what words say. A table that is missing or shared becomes one of its own first. */
int qcow2_publish(struct BlockDriverState *bs, uint64_t guest, uint64_t n, const struct qcow2_words *words,
                  struct vd_err *err);

/* Releases what an entry that is gone has named. */
int qcow2_release_entry(struct BlockDriverState *bs, const struct qcow2_entry *entry, struct vd_err *err);

/* The file's length has changed, and what was read of tables is stale. */
int qcow2_refresh(struct BlockDriverState *bs, struct vd_err *err);

/* ---- write.c */

/* Refuses what cannot be written at all, and loads what writing needs. */
int qcow2_begin_write(struct BlockDriverState *bs, struct vd_err *err);

/* The same, for guest bytes that must lie on the disk. */
int qcow2_may_write(struct BlockDriverState *bs, int64_t offset, int64_t bytes, struct vd_err *err);

/* Nothing more is written; returns -1. */
int qcow2_freeze(struct BlockDriverState *bs);

/* What a header must say before the first write: no autoclear bits; before tables change, the dirty bit where
 * refcounts are lazy. */
int qcow2_prepare_header(struct BlockDriverState *bs, bool changes_tables, struct vd_err *err);

/* Writes as much of the range as can be done in one go; how many bytes to *done. */
int qcow2_write_some(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, const uint8_t *buf,
                     uint64_t *done, struct vd_err *err);

/* The subclusters that a range touches, as bits, of the cluster at cluster_guest; of one without subclusters
 * all. */
#define QCOW2_ALL_SUBCLUSTERS UINT32_MAX
uint32_t qcow2_subclusters(const struct qcow2_geometry *g, uint64_t cluster_guest, uint64_t guest,
                           uint64_t bytes);

/* ---- zero.c */

/* Makes guest bytes zero, also behind the end of the disk. */
int qcow2_zero_range(struct BlockDriverState *bs, uint64_t guest, uint64_t bytes, struct vd_err *err);

#endif
