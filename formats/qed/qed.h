/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to formats/qed: the parsed image, and what its files share. README.md has the drawing.
 */
#ifndef VD_QED_H
#define VD_QED_H

#include "formats/base/span.h"
#include "formats/base/vec.h"
#include "formats/check.h"
#include "formats/node/block.h"
#include "formats/node/window.h"
#include "formats/qed/layout.h"

#define F(symbol, ...) symbol,
enum qed_finding {
#include "formats/qed/findings.def"
    QED_FINDINGS_END
};
#undef F

/* What follows from the header. Only meaningful where is_usable says so. */
struct qed_geometry {
    bool is_usable;        /* cluster and table size are legal */
    uint64_t cluster_size; /* bytes */
    unsigned cluster_bits;
    uint64_t table_bytes; /* of one L1 or L2 table */
    uint64_t table_n;     /* entries of one table */
    unsigned l1_shift;    /* guest bytes of one L2 table, as a shift */
    uint64_t size_limit;  /* guest bytes that the tables can map, at most 2^63 - 512 */
    uint64_t header_end;  /* bytes; what the header area really is (see qed_derive) */
    uint64_t l1_off;
    uint64_t file_size; /* bytes */
    uint64_t
        file_end; /* the end of the last whole cluster; one that lacks less than a sector counts as whole */
};

struct qed {
    struct qed_header header;
    struct qed_geometry g;
    bool has_header; /* the file is long enough for one */
    /* a live open only */
    struct vd_window l1, l2;
    uint64_t alloc_end; /* where the next cluster is allocated; 0 until qed_find_alloc_end() */
    bool need_check_is_ours;
    bool is_frozen; /* a write failed half-way: no more writes, and need-check stays */
};

/* ---- header.c */

/* The geometry that a header gives in a file of that size. */
struct qed_geometry qed_derive(const struct qed_header *header, uint64_t file_size);

/* Reads the header and derives the geometry; a file too short is no error (has_header). */
int qed_read_header(struct BlockDriverState *bs, struct vd_err *err);

/* Writes the 64 bytes of the header, unknown autoclear bits cleared; the rest of its sector stays. */
int qed_write_header(struct BlockDriverState *bs, const struct qed_header *header, enum vd_stage stage,
                     struct vd_err *err);

/* A rule that a header must keep. */
struct qed_rule {
    enum qed_finding finding;
    bool (*is_broken)(const struct qed_header *h, const struct qed_geometry *g);
    const char *field; /* of the layout: what is told as found */
    unsigned flags;
};

enum {
    QED_REFUSES_OPEN = 1, /* QEMU and a live open refuse it */
    QED_STOPS_WALK = 2,   /* no table can be found */
    QED_CAN_REBUILD = 4,  /* the geometry is searched for (rebuild.c) */
};

/* All rules, in the order of QEMU's tests; ended by a NULL is_broken. */
extern const struct qed_rule qed_rules[];

/* Do QEMU's own numbers overflow, so that it cannot open the image? */
bool qed_geometry_overflows(const struct qed_geometry *g);

/* Can tables be found by this header? */
bool qed_can_walk(const struct qed_header *h, const struct qed_geometry *g);

/* Reads the backing file's name into bs->backing_file, where the header has a readable one. */
int qed_read_backing_name(struct BlockDriverState *bs, struct vd_err *err);

/* ---- entry.c: what a table word means; no I/O */

enum qed_entry_kind {
    QED_ENTRY_NONE,
    QED_ENTRY_ZERO,
    QED_ENTRY_GOOD,
    QED_ENTRY_RESERVED_VALUE, /* 2 to 4095; 1 in an L1 table */
    QED_ENTRY_MISALIGNED,
    QED_ENTRY_IN_HEADER,
    QED_ENTRY_IN_L1,
    QED_ENTRY_PARTIAL, /* begins in the file and ends behind it */
    QED_ENTRY_OUT_OF_FILE,
};

enum qed_entry_kind qed_l1_entry_kind(const struct qed_geometry *g, uint64_t entry);
enum qed_entry_kind qed_l2_entry_kind(const struct qed_geometry *g, uint64_t entry);

/* The bytes of a table in the file, where its last cluster may lack less than a sector: what is missing reads
 * as zeroes, and is not to be scanned. */
static inline struct vd_span qed_table_span(const struct qed_geometry *g, uint64_t off)
{
    return (struct vd_span){off, vd_min(g->table_bytes, vd_align_down(g->file_size - off, 8))};
}

static inline uint64_t qed_slot_bytes(const struct qed_geometry *g)
{
    return (uint64_t)1 << g->l1_shift;
}

/* Guest offset of entry i of the table in an L1 slot. */
static inline uint64_t qed_guest(const struct qed_geometry *g, uint64_t slot, uint64_t i)
{
    /* Of the largest geometries most of the L1 table maps what no disk can have. */
    return slot >> (64 - g->l1_shift) ? UINT64_MAX : (slot << g->l1_shift) + (i << g->cluster_bits);
}

/* ---- walk.c: the walk that counts */

struct qed_table {
    uint64_t off;
    uint32_t slot;
    uint32_t bad;  /* invalid entries */
    uint32_t used; /* entries that are not 0 */
    bool is_unreadable;
    bool has_beyond; /* entries behind the end of the guest's disk */
    bool meets_data; /* an L2 entry says that the guest's data lies where this table does */
};

VD_VEC(qed_table_vec, struct qed_table)

/* An L1 entry that leads to no table. */
struct qed_bad_slot {
    uint64_t entry;
    uint32_t slot;
    enum qed_finding why;
};

VD_VEC(qed_bad_slot_vec, struct qed_bad_slot)

struct qed_walk {
    struct qed_geometry g;
    struct qed_table_vec tables; /* in order of offset */
    struct qed_bad_slot_vec bad_slots;
    struct qed_bad_slot_vec excluded;          /* slots that an earlier walk showed to lead to no table */
    uint64_t bad_slots_n;                      /* all, also those that were not kept */
    uint64_t bad_slots_more[QED_FINDINGS_END]; /* not kept */
    uint64_t used_slots;
    uint64_t bad, shared, allocated, zeroes, fragmented;
    uint64_t in_header;      /* entries of either table that point into the header area */
    uint64_t beyond;         /* allocated clusters behind the end of the guest's disk */
    uint64_t max_guest;      /* end of the highest mapped guest cluster; 0: none */
    unsigned overlaps_read;  /* pairs of overlapping tables that were compared by content */
    bool stops_early;        /* the caller only wants to know whether anything is wrong */
    bool tail_is_referenced; /* the fragment of a cluster at the end of the file (told by the judge) */
    bool l1_unreadable;
    bool l1_is_hole;
    bool l1_meets_data; /* as of a table */
};

/* Claims header, tables and data of the image in ck's map, by geometry g, and counts. Findings of severity
 * error (what cannot be read) are reported; all else is for the judges. excluded slots of *walk are passed
 * over. */
int qed_walk(struct vd_check *ck, const struct qed_geometry *g, uint64_t image_size, struct qed_walk *walk,
             struct vd_err *err);
void qed_walk_done(struct qed_walk *walk);

/* Reads n entries of a table into host order. */
int qed_read_entries(struct BlockDriverState *bs, uint64_t table_off, uint64_t first, uint64_t n,
                     uint64_t *entry, struct vd_err *err);

/* Is this garbage rather than a table (rule of mass damage)? */
bool qed_is_mass_damage(uint64_t bad, uint64_t used);

/* How many of a table's entries are used, and how many of those mean nothing? */
int qed_table_fit(struct BlockDriverState *bs, const struct qed_geometry *g, uint64_t off, uint64_t len,
                  uint64_t *bad, uint64_t *used, struct vd_err *err);

/* The table at this offset, or NULL. */
const struct qed_table *qed_walk_find(const struct qed_walk *walk, uint64_t off);

/* ---- orphan.c */

struct qed_orphan {
    uint64_t off;
    uint64_t used;        /* entries that are not 0 */
    uint64_t odd;         /* of these, entries that do not fit: a table may be damaged beside being lost */
    uint64_t targets;     /* data clusters, all unreferenced */
    uint64_t first, last; /* indexes of the first and the last entry that is not 0 */
    bool has_rival; /* another table fits that begins in the midst of this one, or this one in the midst of it
                     */
    bool is_proven; /* a judge found the one slot that it belongs to */
};

struct qed_orphan_vec {
    struct qed_orphan *v;
    size_t n, cap;
    bool are_distinct; /* no two entries of all of them name one cluster */
    bool is_complete;  /* the search was not cut short */
};

/* Finds unreferenced tables in the free clusters. */
int qed_find_orphans(struct vd_check *ck, const struct qed_geometry *g, struct vd_runs *free_clusters,
                     struct qed_orphan_vec *orphans, struct vd_err *err);

/* Adds the clusters of an orphan, table and data, to out; of those in free_clusters. */
int qed_orphan_clusters(struct BlockDriverState *bs, const struct qed_geometry *g,
                        struct vd_runs *free_clusters, const struct qed_orphan *orphan, struct vd_runs *out,
                        struct vd_err *err);

/* ---- judge.c: from counts to findings */

/* Everything about entries and tables that the walk found wrong. */
int qed_judge(struct vd_check *ck, struct qed_walk *walk, struct vd_runs *free_clusters,
              struct qed_orphan_vec *orphans, struct vd_err *err);

/* ---- rebuild.c: a header that the tables prove */

struct qed_rebuild {
    enum vd_level level; /* VD_LEVEL_NONE: nothing was found */
    struct qed_header header;
    uint64_t new_length; /* of the file; 0: as it is */
};

/* Does the header area hold the backing file's name, where there is one? */
bool qed_holds_name(const struct qed_header *h);

/* Searches the legal values of the fields that the header's broken rules make doubtful. */
int qed_rebuild_header(struct vd_check *ck, struct qed_rebuild *out, struct vd_err *err);

/* Does exactly one other geometry explain the whole file? walk is what the header's own geometry gave. */
int qed_other_geometry(struct vd_check *ck, const struct qed_walk *walk, bool *fits, struct qed_header *other,
                       struct vd_err *err);

/* ---- fix.c: one small function per repair; all write through ck->bs and mark the check as changed */

int qed_fix_header(struct vd_check *ck, const struct qed_header *header, enum vd_stage stage,
                   struct vd_err *err);
int qed_fix_l1_entry(struct vd_check *ck, uint64_t slot, uint64_t value, struct vd_err *err);
int qed_fix_l2_entry(struct vd_check *ck, uint64_t table_off, uint64_t i, uint64_t value, struct vd_err *err);
/* Copies a cluster to the end of the file and points the entry there. */
int qed_fix_clone_cluster(struct vd_check *ck, uint64_t table_off, uint64_t i, uint64_t cluster,
                          struct vd_err *err);
/* Copies a table and all its data clusters to the end of the file and points the L1 entry there. */
int qed_fix_clone_table(struct vd_check *ck, uint64_t slot, uint64_t table_off, struct vd_err *err);
/* Bytes that clones may take: without bound in a file, what is free behind the last cluster on a device. */
uint64_t qed_append_room(struct vd_check *ck);
/* Cuts the file off at length (bytes). */
int qed_fix_cut(struct vd_check *ck, uint64_t length, struct vd_err *err);
/* Makes the file at least length bytes long, by zeroes. */
int qed_fix_extend(struct vd_check *ck, uint64_t length, struct vd_err *err);

/* ---- compact.c */

struct qed_compaction {
    uint64_t new_end;  /* clusters; where the file ends afterwards */
    uint64_t moves;    /* data clusters at or behind new_end */
    uint64_t fill_end; /* leaked clusters below this are filled, those from here to new_end stay */
};

/* What moving data clusters into the leaks gains. leaks: clusters that may be filled or cut off; kept_end:
 * the end of the highest other structure that must stay (tables, leaks that are evidence), all in clusters.
 */
struct qed_compaction qed_plan_compaction(struct vd_runs *leaks, uint64_t kept_end, uint64_t end);

/* Moves the last data clusters into the leaks, points their entries there, and cuts the file off. */
int qed_compact(struct vd_check *ck, const struct qed_walk *walk, struct vd_runs *leaks,
                const struct qed_compaction *plan, struct vd_err *err);

/* ---- pass.c, pass-header.c, pass-leaks.c */

/* What one run of the passes hands from one to the next; hangs on the check's driver_data. */
struct qed_state {
    struct qed_walk walk;
    struct vd_runs free_clusters;
    struct qed_orphan_vec orphans;
};

int qed_pass_header(struct vd_check *ck, struct vd_err *err);
int qed_pass_leaks(struct vd_check *ck, struct vd_err *err);

/* ---- map.c, alloc.c, space.c, create.c, pass.c: callbacks of driver.c */

int qed_co_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf, struct vd_err *err);
int qed_co_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                        int64_t *map, struct vd_err *err);
int qed_guest_ranges(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                     int (*add)(void *opaque, uint64_t guest, uint64_t bytes), void *opaque,
                     struct vd_err *err);

int qed_each_claim(struct BlockDriverState *bs, vd_claim_fn *tell, void *opaque, struct vd_err *err);

/* Looks a guest cluster up: its entry, and where the entry stands (0: there is no L2 table). */
int qed_lookup(struct BlockDriverState *bs, uint64_t guest, uint64_t *entry, uint64_t *table_off,
               uint64_t *index, struct vd_err *err);

/* Sets alloc_end (space.c), once. VD_ERR_FORMAT where an entry reaches behind the last whole cluster of the
 * file, which a new cluster would make its own; a table that cannot be read refuses as well. */
int qed_find_alloc_end(struct BlockDriverState *bs, struct vd_err *err);

int qed_co_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                   enum vd_stage stage, struct vd_err *err);
int qed_co_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                         struct vd_err *err);
int qed_co_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err);
int qed_co_inactivate(struct BlockDriverState *bs, struct vd_err *err);
int qed_co_idle(struct BlockDriverState *bs, int64_t quiet_ms, struct vd_err *err);
int qed_change_backing_file(struct BlockDriverState *bs, const char *file, const char *format,
                            struct vd_err *err);

int qed_co_create(struct BlockDriverState *file, const struct vd_create_options *opts, struct vd_err *err);
int qed_co_check(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err);

#endif
