/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to formats/qcow2: the parsed image, and what its files share. README.md has the drawing.
 */
#ifndef VD_QCOW2_H
#define VD_QCOW2_H

#include "formats/base/span.h"
#include "formats/base/vec.h"
#include "formats/check.h"
#include "formats/info.h"
#include "formats/node/block.h"
#include "formats/node/window.h"
#include "formats/qcow2/layout.h"

#define F(symbol, ...) symbol,
enum qcow2_finding {
#include "formats/qcow2/findings.def"
    QCOW2_FINDINGS_END
};
#undef F

/* What follows from the header. Only meaningful where is_usable says so. */
struct qcow2_geometry {
    bool is_usable; /* the cluster size is legal */
    unsigned version;
    unsigned cluster_bits;
    uint64_t cluster_size; /* bytes */
    bool has_extended_l2;
    bool has_data_file;
    unsigned entry_bytes; /* of an L2 entry: 8 or 16 */
    uint64_t table_n;     /* entries of an L2 table */
    unsigned l1_shift;    /* guest bytes of one L2 table, as a shift */
    uint64_t l1_need;     /* L1 entries that the disk needs */
    uint64_t l1_off;      /* bytes */
    uint64_t l1_n;        /* entries of the active L1 that are looked at: as the header says, within bounds */
    unsigned refcount_order;
    uint64_t block_n;      /* counts in one refcount block */
    uint64_t max_count;    /* the largest that a stored count can be */
    uint64_t reftable_off; /* bytes */
    uint64_t reftable_n;   /* entries that are looked at: as the header says, within bounds */
    uint64_t file_size;    /* bytes */
    uint64_t file_end;     /* file_size rounded up to a cluster: what is missing there reads as zeroes */
    uint64_t size;         /* guest bytes: whole sectors */
};

struct qcow2_extension {
    uint32_t type;
    uint32_t len; /* bytes of its data, without padding */
    uint64_t off; /* of its data, in the file */
};

enum { QCOW2_MOST_EXTENSIONS = 64 };

/* The header extensions, as far as they could be parsed. */
struct qcow2_extensions {
    struct qcow2_extension v[QCOW2_MOST_EXTENSIONS];
    size_t n;
    uint64_t area_end; /* bytes; where the area ends: at the backing file's name or with the cluster */
    uint64_t end;      /* bytes; behind the end marker, or where parsing stopped */
    bool has_end;      /* there is an end marker */
    bool overruns;     /* the one at `end` is longer than the area */
    uint32_t overrun_type, overrun_len;
};

/* One compressed cluster, kept from the last read. */
struct qcow2_cached_cluster {
    uint64_t host, len; /* of the compressed extent, in bytes; len 0: holds nothing */
    uint8_t *bytes;     /* one cluster */
};

/* What stands in the header's cluster beside fields and extensions. Offsets are of the first byte that is not
 * zero; 0: there is none. */
struct qcow2_rest {
    uint32_t fitting_length; /* the header's length at which the extensions parse; 0: none is known */
    bool fits_by_extension;  /* and an extension that is known says so, not only an end marker */
    bool is_misread;         /* so what stands at the header's length are no extensions */
    uint64_t padding;        /* the seven bytes behind the compression type */
    uint64_t unknown_field;  /* offset, behind the known fields */
    uint64_t after_end;      /* offset, behind the end marker of the extensions */
    bool looks_like_v3;      /* version 2, and the fields that version 3 added stand behind its header */
    char *lost_backing; /* text where the backing file's name would stand, and no name is said to; or NULL */
};

struct qcow2 {
    struct qcow2_header header; /* version 2 with the values that it implies */
    struct qcow2_geometry g;
    struct qcow2_extensions ext;
    bool has_header; /* the file is long enough for one */
    struct qcow2_rest rest;
    char *backing_format;
    char *data_file; /* what the header names; NULL: nothing */
    struct vd_window l1, l2;
    struct qcow2_cached_cluster inflated;
    struct qcow2_live *live; /* of alloc.c; NULL where nothing was written */
};

/* ---- header.c */

/* The geometry that a header gives in a file of that size. */
struct qcow2_geometry qcow2_derive(const struct qcow2_header *header, uint64_t file_size);

/* Clears the autoclear bits that are not known; to be done before anything else is written. */
int qcow2_clear_unknown_autoclear(struct BlockDriverState *bs, struct vd_err *err);

/* Reads the header, its extensions and names, and derives the geometry; a file too short is no error. */
int qcow2_read_header(struct BlockDriverState *bs, struct vd_err *err);

/* Decodes a header from QCOW2_HEADER_BYTES bytes; what a version lacks gets the value that it implies. */
void qcow2_decode_header(const uint8_t *bytes, struct qcow2_header *header);

/* The fields [from, to] of the header are written as they stand in *header: by names of the layout. Unknown
 * autoclear bits are cleared first, where there are any. Nothing else of the cluster is touched. */
int qcow2_write_fields(struct BlockDriverState *bs, const struct qcow2_header *header, const char *from,
                       const char *to, enum vd_stage stage, struct vd_err *err);

/* ---- header-rest.c */

bool qcow2_is_known_extension(uint32_t type);

/* Looks at the header's cluster, which has cluster_size bytes, beside what was parsed. */
int qcow2_read_rest(struct qcow2 *q, const uint8_t *cluster, struct vd_err *err);

/* ---- header.c: rules */

/* A rule that a header must keep. */
struct qcow2_rule {
    enum qcow2_finding finding;
    bool (*is_broken)(const struct qcow2 *q);
    const char *field; /* of the layout: what is told as found */
    unsigned flags;
};

enum {
    QCOW2_REFUSES_OPEN = 1,      /* QEMU and a live open refuse it */
    QCOW2_STOPS_WALK = 2,        /* no table can be found */
    QCOW2_UNSUPPORTED = 4,       /* something that this driver does not know */
    QCOW2_JUDGED_LATER = 8,      /* by the pass over the counts, which can repair it */
    QCOW2_JUDGED_ELSEWHERE = 16, /* by a pass of its own */
};

/* All rules, in the order of QEMU's tests; ended by a NULL is_broken. */
extern const struct qcow2_rule qcow2_rules[];

/* The extension of that type that programs use (the last one), or NULL. */
const struct qcow2_extension *qcow2_find_extension(const struct qcow2 *q, uint32_t type);

static inline bool qcow2_has_corrupt_bit(const struct qcow2 *q)
{
    return q->header.incompatible_features & QCOW2_INCOMPAT_CORRUPT;
}

/* Is the external data file a raw disk by itself, so that it must hold what the guest reads at every offset?
 */
static inline bool qcow2_has_raw_data(const struct qcow2 *q)
{
    return q->g.has_data_file && (q->header.autoclear_features & QCOW2_AUTOCLEAR_DATA_FILE_RAW);
}

/* ---- entry.c: what a table word means; no I/O */

enum qcow2_cluster {
    QCOW2_UNALLOCATED,    /* the backing file, or zeroes */
    QCOW2_ZERO_PLAIN,     /* zeroes, and no host cluster */
    QCOW2_ZERO_ALLOCATED, /* zeroes, and a host cluster whose content is ignored */
    QCOW2_NORMAL,
    QCOW2_PACKED, /* compressed */
};

/* What is wrong with a word; several can be. */
enum {
    QCOW2_F_RESERVED = 1,
    QCOW2_F_MISALIGNED = 1 << 1,
    QCOW2_F_ZERO_MISALIGNED = 1 << 2,
    QCOW2_F_OUT_OF_FILE = 1 << 3,
    QCOW2_F_PARTIAL_TAIL = 1 << 4,
    QCOW2_F_COPIED_ALONE = 1 << 5, /* COPIED without an offset */
    QCOW2_F_ZERO_V2 = 1 << 6,
    QCOW2_F_ZERO_EXTENDED = 1 << 7,
    QCOW2_F_PACKED_COPIED = 1 << 8,
    QCOW2_F_PACKED_OUT_OF_FILE = 1 << 9,
    QCOW2_F_PACKED_OVERSIZED = 1 << 10,
    QCOW2_F_PACKED_RESERVED = 1 << 11,
    QCOW2_F_PACKED_DATA_FILE = 1 << 12,
    QCOW2_F_PACKED_BITMAP = 1 << 13,
    QCOW2_F_SUB_CONFLICT = 1 << 14,  /* a subcluster is both data and zero */
    QCOW2_F_SUB_NO_OFFSET = 1 << 15, /* subclusters are data, and there is no cluster */
    QCOW2_F_DATA_FILE_OFFSET = 1 << 16,
    QCOW2_F_DATA_FILE_COPIED = 1 << 17,
    QCOW2_F_OFFSET_UNUSED = 1 << 18, /* a cluster of which no subcluster is data or zero */
    /* the guest's read fails */
    QCOW2_F_UNREADABLE = QCOW2_F_MISALIGNED | QCOW2_F_OUT_OF_FILE | QCOW2_F_ZERO_V2 |
                         QCOW2_F_PACKED_OUT_OF_FILE | QCOW2_F_PACKED_DATA_FILE | QCOW2_F_SUB_CONFLICT |
                         QCOW2_F_SUB_NO_OFFSET | QCOW2_F_DATA_FILE_OFFSET,
    /* no cluster of the file is named */
    QCOW2_F_CLAIMS_NOTHING = QCOW2_F_MISALIGNED | QCOW2_F_ZERO_MISALIGNED | QCOW2_F_OUT_OF_FILE |
                             QCOW2_F_PACKED_OUT_OF_FILE | QCOW2_F_PACKED_DATA_FILE,
    /* legal, and odd at most */
    QCOW2_F_ODD = QCOW2_F_PARTIAL_TAIL | QCOW2_F_COPIED_ALONE | QCOW2_F_ZERO_EXTENDED | QCOW2_F_OFFSET_UNUSED,
};

/* An L2 entry as it stands in a table; the bitmap is 0 where entries have one word. */
struct qcow2_words {
    uint64_t word, bitmap;
};

/* An L2 entry, read as the format says it. */
struct qcow2_entry {
    enum qcow2_cluster type;
    uint64_t host;   /* bytes: the cluster, or the first byte of a compressed extent; 0: none */
    uint64_t bytes;  /* of a compressed extent, by its sectors; else the cluster size */
    uint64_t bitmap; /* extended L2: the second word */
    bool is_copied;
    unsigned faults;
};

/* guest: of the entry's cluster; only an external data file asks. bitmap: 0 where entries have one word. */
struct qcow2_entry qcow2_parse_entry(const struct qcow2_geometry *g, uint64_t word, uint64_t bitmap,
                                     uint64_t guest);

/* The L2 word of a compressed extent of `bytes` bytes from host on. */
uint64_t qcow2_packed_word(const struct qcow2_geometry *g, uint64_t host, uint64_t bytes);

/* What is wrong with the offset in an L1 word (QCOW2_F_RESERVED, _MISALIGNED, _OUT_OF_FILE, _PARTIAL_TAIL).
 */
unsigned qcow2_l1_faults(const struct qcow2_geometry *g, uint64_t word);

static inline uint64_t qcow2_slot_bytes(const struct qcow2_geometry *g)
{
    return (uint64_t)1 << g->l1_shift;
}

/* Guest offset of entry i of the table in an L1 slot. */
static inline uint64_t qcow2_guest(const struct qcow2_geometry *g, uint64_t slot, uint64_t i)
{
    return (slot << g->l1_shift) + (i << g->cluster_bits);
}

/* Host clusters that a compressed extent touches. */
static inline struct vd_span qcow2_touched(const struct qcow2_geometry *g, const struct qcow2_entry *e)
{
    uint64_t from = vd_align_down(e->host, g->cluster_size),
             to = vd_min(vd_align_up_sat(e->host + e->bytes, g->cluster_size), g->file_end);

    return (struct vd_span){from, to - from};
}

/* ---- refcount.c: stored counts */

/* Reads n counts from cluster `first` on, all of one block, into host order. A block that is not there gives
 * zeroes. */
int qcow2_read_counts(struct BlockDriverState *bs, uint64_t first, uint64_t n, uint64_t *count,
                      struct vd_err *err);

/* Unpacks counts [first, first + n) of a block's bytes. */
void qcow2_unpack_counts(const struct qcow2_geometry *g, const uint8_t *block, uint64_t first, uint64_t n,
                         uint64_t *count);

/* Puts one count into a block's bytes. */
void qcow2_pack_count(const struct qcow2_geometry *g, uint8_t *block, uint64_t i, uint64_t count);

/* The block that has the count of this cluster: its offset, 0 where there is none or where its entry is
 * wrong. */
int qcow2_block_of(struct BlockDriverState *bs, uint64_t cluster, uint64_t *block_off, struct vd_err *err);

/* ---- map.c */

/* Reads n words of a table into host order. What lies behind the end of the file is zero. */
int qcow2_read_words(struct BlockDriverState *bs, uint64_t table_off, uint64_t first, uint64_t n,
                     uint64_t *word, struct vd_err *err);

/* The node where the guest's data lies: the image's file, or its external data file. NULL where that is not
 * open. */
struct BlockDriverState *qcow2_data_node(struct BlockDriverState *bs, struct vd_err *err);

/* Looks a guest offset up in the active tables: its entry, the table (0: there is none) and the index in it.
 */
int qcow2_lookup(struct BlockDriverState *bs, uint64_t guest, struct qcow2_entry *entry, uint64_t *table_off,
                 uint64_t *index, struct vd_err *err);

/* Inflates a compressed extent by that method into one cluster. -1 where its stream is broken; *result says
 * how far it went.
 */
struct vd_inflated;
int qcow2_inflate(struct BlockDriverState *bs, const struct qcow2_entry *e, unsigned type, uint8_t *out,
                  struct vd_inflated *result, struct vd_err *err);

int qcow2_co_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                    struct vd_err *err);
int qcow2_co_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                          int64_t *map, struct vd_err *err);
int qcow2_guest_ranges(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                       int (*add)(void *opaque, uint64_t guest, uint64_t bytes), void *opaque,
                       struct vd_err *err);
int qcow2_each_claim(struct BlockDriverState *bs, vd_claim_fn *tell, void *opaque, struct vd_err *err);

/* ---- record.c: records of any length, patches in place */

enum { QCOW2_RECORD_WINDOW = 256 << 10 };

/* Bytes of the file, kept from the last read. A zeroed one is empty. */
struct qcow2_record_window {
    uint8_t *bytes;
    uint64_t off, n;
};

/* *bytes is the len bytes at off (QCOW2_RECORD_WINDOW at most), until the next call. What lies behind the end
 * of the file is zero. */
int qcow2_record_at(struct BlockDriverState *bs, struct qcow2_record_window *w, uint64_t off, uint64_t len,
                    const uint8_t **bytes, struct vd_err *err);
void qcow2_record_window_done(struct qcow2_record_window *w);

/* Writes a number of 1 to 8 bytes, as the repair of a finding. */
int qcow2_patch(struct vd_check *ck, uint64_t off, unsigned bytes, uint64_t value, enum vd_stage stage,
                struct vd_err *err);

/* Sets the counts of those clusters of the span to 0 that have no other claim than the one being dropped. */
int qcow2_free_own(struct vd_check *ck, struct vd_span host, struct vd_err *err);

/* Takes an extension out of the header, as the repair of a finding: those behind it move up. */
int qcow2_drop_extension(struct vd_check *ck, const struct qcow2_extension *ext, struct vd_err *err);

/* ---- field.c */

int qcow2_find_field(struct BlockDriverState *bs, const char *name, uint64_t *offset, unsigned *bytes,
                     struct vd_err *err);

/* ---- snapshot.c: the snapshot table */

/* One entry of the table. */
struct qcow2_snapshot {
    uint64_t entry_off;     /* of the entry, in the file */
    uint64_t entry_bytes;   /* without the padding behind it */
    uint64_t l1_off;        /* bytes */
    uint32_t l1_n;          /* entries, as the entry says */
    uint64_t disk_size;     /* guest bytes; the image's where the entry has none */
    uint64_t vm_state_size; /* bytes */
    uint32_t extra_said;    /* bytes of extra data, as the entry says */
    uint32_t extra_bytes;   /* and as they are: another number where only that one gives an id and a name */
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    char *id, *name; /* NUL-terminated; owned by the list. id_len and name_len count the bytes */
    uint16_t id_len, name_len;
    bool l1_is_sound; /* its L1 table lies aligned and whole in the file, is of a legal size, and not on what
                         comes before it: the walk uses it */
    uint64_t overlap; /* the cluster where it lies on that; VD_NOWHERE: none */
};

VD_VEC(qcow2_snapshot_vec, struct qcow2_snapshot)

struct qcow2_snapshots {
    struct qcow2_snapshot_vec list;
    uint64_t table_off;   /* bytes; 0: none, or not at a place where a table can be */
    uint64_t table_bytes; /* of what was parsed */
    bool is_cut;          /* fewer than were asked for could be parsed; list holds what could */
    bool ends_blank;      /* and what stands there instead is zeroes */
    bool is_too_large;    /* and the reason is the limit on the table's bytes */
    uint64_t taken;       /* of the budget */
    struct vd_budget *budget;
};

/* Parses the table that the header names; a table that is wrong gives what could be parsed. */
int qcow2_read_snapshots(struct BlockDriverState *bs, struct vd_budget *budget, struct qcow2_snapshots *out,
                         struct vd_err *err);

/* Parses up to n entries from off on: as long as what stands there can be entries. */
int qcow2_parse_snapshots(struct BlockDriverState *bs, struct vd_budget *budget, uint64_t off, uint64_t n,
                          struct qcow2_snapshots *out, struct vd_err *err);
void qcow2_snapshots_done(struct qcow2_snapshots *snapshots);

static inline struct vd_span qcow2_snapshot_l1(const struct qcow2_snapshot *sn)
{
    return (struct vd_span){sn->l1_off, 8 * (uint64_t)sn->l1_n};
}

/* Of a disk without a byte QEMU makes a snapshot without a table, at offset 0. */
static inline bool qcow2_snapshot_is_empty(const struct qcow2_snapshot *sn)
{
    return !sn->l1_n && !sn->disk_size && !sn->vm_state_size;
}

/* L1 entries that the snapshot's disk needs; those behind them hold the VM state. */
static inline uint64_t qcow2_snapshot_need(const struct qcow2_geometry *g, const struct qcow2_snapshot *sn)
{
    return vd_div_up(sn->disk_size, qcow2_slot_bytes(g));
}

int qcow2_snapshot_list(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err);

/* Shows a snapshot's disk: its L1 table and size stand in place of the active ones. */
int qcow2_snapshot_load_tmp(struct BlockDriverState *bs, uint64_t i, struct vd_snapshot_names *names,
                            struct vd_err *err);

/* ---- judge-snapshot.c */

/* Judges the table's entries, once everything is claimed: a repair writes into the table. */
int qcow2_judge_snapshots(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err);

/* Tells a number of snapshots that is wrong, and writes the right one where that is to be. */
int qcow2_judge_snapshot_count(struct vd_check *ck, enum qcow2_finding finding, uint64_t count,
                               enum vd_level level, struct vd_err *err);

/* ---- search-snapshot.c */

enum { QCOW2_MIN_L1_SAMPLE = 512 };

/* Is what lies at off the L1 table of a snapshot that was not deleted: are its n entries empty or names of
 * counted clusters, and is it counted itself? *is_used: it names L2 tables. Needs no map. */
int qcow2_parses_as_l1(struct vd_check *ck, uint64_t off, uint64_t n, bool *parses, bool *is_used,
                       struct vd_err *err);

/* Is the first cluster that the L1 table names an L2 table, and not something that is garbage as one? An
 * empty L1 table may be one. */
int qcow2_names_l2_tables(struct BlockDriverState *bs, struct vd_span l1, bool *does, struct vd_err *err);

/* The one place, in clusters that are counted and that nobody claims, where an L1 table of n entries is; 0
 * where there is none, or several, or where more than one snapshot lacks its own. Needs the whole map. */
int qcow2_search_l1(struct vd_check *ck, const struct qcow2_snapshots *s, uint64_t n, uint64_t *l1_off,
                    struct vd_err *err);

/* Judges what follows the last entry that the header counts. */
int qcow2_judge_forgotten_snapshots(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err);

/* Tells that the table's offset is wrong, and sets it to the one place where the table can be. */
int qcow2_judge_snapshot_table_offset(struct vd_check *ck, struct vd_err *err);

/* ---- rewrite-snapshot.c */

/* Tells a finding that is answered by writing the table anew, in new clusters. */
int qcow2_judge_snapshot_table(struct vd_check *ck, const struct qcow2_snapshots *s,
                               enum qcow2_finding finding, uint64_t host, uint64_t found, struct vd_err *err);

/* ---- claim-snapshot.c */

/* Claims the table, and each L1 table once for each snapshot that names it, behind the active L1 table: one
 * that lies on the active tables is not sound. */
int qcow2_claim_snapshots(struct vd_check *ck, struct qcow2_snapshots *s, struct vd_err *err);

/* Judges what only the map can tell, once everything is claimed: overlaps, snapshots behind the end of the
 * table, a table that is not where the header says. */
int qcow2_judge_snapshot_claims(struct vd_check *ck, const struct qcow2_snapshots *s, struct vd_err *err);

/* ---- bitmap.c: persistent dirty bitmaps */

/* One entry of the directory. */
struct qcow2_bitmap {
    uint64_t entry_off;   /* of the entry, in the file */
    uint64_t entry_bytes; /* with the padding behind it */
    uint64_t table_off;   /* bytes */
    uint32_t table_n;     /* entries, as the entry says */
    uint32_t flags;
    uint8_t type, granularity_bits;
    uint32_t extra_bytes;
    char *name; /* NUL-terminated; owned by the list */
    uint16_t name_len;
    bool table_is_sound; /* aligned, whole in the file, of a legal size */
    bool is_too_much;    /* with those before it the tables are larger than the file: they overlap */
};

VD_VEC(qcow2_bitmap_vec, struct qcow2_bitmap)

struct qcow2_bitmaps {
    struct qcow2_bitmap_vec list;
    bool has_extension;
    bool is_in_force;  /* the extension is there and the autoclear bit says that it is to be believed */
    bool ext_is_sound; /* its length, and the numbers in it that stand alone */
    const struct qcow2_extension *where;
    struct qcow2_bitmaps_extension ext;
    bool dir_is_sound;   /* aligned, whole in the file, of a legal size */
    uint64_t dir_bytes;  /* of what was parsed */
    uint64_t true_bytes; /* what the directory's size must be for nb_bitmaps entries; 0: not known */
    uint64_t taken;      /* of the budget */
    struct vd_budget *budget;
};

int qcow2_read_bitmaps(struct BlockDriverState *bs, struct vd_budget *budget, struct qcow2_bitmaps *out,
                       struct vd_err *err);
void qcow2_bitmaps_done(struct qcow2_bitmaps *bitmaps);

/* ---- walk.c: the walk that counts */

/* An L2 table, once for all L1 entries that name it. */
struct qcow2_table {
    uint64_t off;
    uint64_t ref_off; /* where the first of them stands */
    uint64_t trees;   /* a bit for each tree that it is part of: 0 the active one, i + 1 snapshot i; 63 all
                         later ones */
    uint32_t slot;    /* index in its L1 table */
    uint32_t weight;  /* references that count */
    uint32_t used;    /* entries that are not 0 */
    uint32_t bad;     /* entries that are wrong */
    unsigned faults;  /* of all entries, QCOW2_F_ */
    bool is_unreadable;
    bool has_beyond; /* entries behind the end of the guest's disk */
    bool is_foreign; /* somebody's data: the L1 entry is what is wrong */
};

VD_VEC(qcow2_table_vec, struct qcow2_table)

/* An L1 entry with something wrong. */
struct qcow2_bad_slot {
    uint64_t ref_off; /* where it stands */
    uint64_t word;
    uint32_t slot;
    uint32_t tree; /* 0 the active one, i + 1 snapshot i */
    enum qcow2_finding why;
};

VD_VEC(qcow2_bad_slot_vec, struct qcow2_bad_slot)

struct qcow2_walk {
    struct qcow2_table_vec tables; /* in order of offset */
    struct qcow2_bad_slot_vec bad_slots;
    struct qcow2_bad_slot_vec odd_copied; /* active entries whose COPIED is wrong */
    uint64_t bad_slots_n;                 /* all, also those that were not kept */
    uint64_t used_slots;                  /* of the active L1 */
    uint64_t bad;                         /* L2 entries */
    uint64_t odd_copied_n;                /* clusters whose L2 entries say of the count what is not so */
    uint64_t misplaced; /* clusters with more than one guest position, or with another owner */
    uint64_t allocated, zeroes, compressed, fragmented; /* of the active disk */
    uint64_t raw_n;      /* active entries of an image with a data file that lead to it, and those */
    uint64_t raw_zeroes; /* that read as zeroes */
    uint64_t
        named_behind;   /* the lowest host offset behind the end of the file that an entry names; 0: none */
    uint64_t max_guest; /* end of the highest mapped guest cluster of the active disk */
    bool has_snapshots;
    bool l1_is_hole;
    bool stops_early; /* the caller only wants to know whether anything is wrong */
};

struct qcow2_reftable;

/* The L1 table that a tree begins with. */
struct qcow2_tree {
    uint64_t l1_off;
    uint64_t l1_n;
    uint32_t number; /* 0 the active one, i + 1 snapshot i */
};

/* Claims the refcount blocks, the L2 tables and the data of all trees in ck's map, and counts. What cannot be
 * read is reported; all else is for the judges. */
int qcow2_walk_trees(struct vd_check *ck, const struct qcow2_snapshots *snapshots,
                     struct qcow2_reftable *reftable, struct qcow2_walk *walk, struct vd_err *err);
/* The table at a host offset, or NULL. */
const struct qcow2_table *qcow2_find_table(const struct qcow2_walk *walk, uint64_t off);
void qcow2_walk_done(struct qcow2_walk *walk);

/* Is this garbage rather than a table (rule of mass damage)? */
static inline bool qcow2_is_mass_damage(uint64_t bad, uint64_t used)
{
    return bad > 8 && bad >= vd_div_up(used, 8);
}

/* Damage, and not only odd. */
static inline bool qcow2_is_bad(unsigned faults)
{
    return faults & ~(unsigned)QCOW2_F_ODD;
}

/* ---- reftable.c: where the stored counts lie */

/* A refcount block that can be used. */
struct qcow2_block {
    uint64_t off;
    uint32_t index; /* in the refcount table */
};

VD_VEC(qcow2_block_vec, struct qcow2_block)

/* A refcount table entry that leads to none. */
struct qcow2_bad_block {
    uint64_t word;
    uint32_t index;
    enum qcow2_finding why;
};

VD_VEC(qcow2_bad_block_vec, struct qcow2_bad_block)

struct qcow2_reftable {
    struct qcow2_block_vec blocks; /* in order of offset */
    struct qcow2_bad_block_vec bad;
    uint64_t sound_n; /* entries that are looked at: fewer than the header says where it runs into something
                         else */
    bool is_lost;     /* there is no table that could be used: all counts are to be written anew */
    bool is_cut;      /* the header's size runs into something that is no table */
    bool is_unreadable;
    bool proves_nothing; /* no entry leads to a block */
    struct vd_span span; /* what of it is looked at */
};

/* Reads the refcount table and claims it, but not its blocks. One that proves nothing is claimed when it is
 * known what else lies there. */
int qcow2_walk_reftable(struct vd_check *ck, struct qcow2_reftable *table, struct vd_err *err);
int qcow2_claim_reftable(struct vd_check *ck, const struct qcow2_reftable *table, struct vd_err *err);

/* Claims the blocks, once other metadata is claimed; is_table tells whether an L2 table rightly lies there.
 */
int qcow2_claim_blocks(struct vd_check *ck, struct qcow2_reftable *table,
                       bool (*is_table)(void *opaque, uint64_t off), void *opaque, struct vd_err *err);

/* Does a block that the table names begin in this span of the file? */
bool qcow2_has_block_in(const struct qcow2_reftable *table, struct vd_span span);
void qcow2_reftable_done(struct qcow2_reftable *table);

/* ---- orphan.c */

/* A cluster that parses as an L2 table and that nothing leads to. */
struct qcow2_orphan {
    uint64_t off;
    uint64_t targets; /* entries with data, all unclaimed */
    uint64_t odd;     /* entries that do not fit: a table may be damaged beside being lost */
    uint64_t last;    /* index of the last entry that is not 0 */
    /* Entries of an external data file say to which slot of the L1 table they belong; UINT64_MAX elsewhere.
     */
    uint64_t slot;
};

VD_VEC(qcow2_orphan_vec, struct qcow2_orphan)

struct qcow2_orphans {
    struct qcow2_orphan_vec list;
    bool are_distinct; /* no two entries of all of them name one cluster */
    bool is_complete;  /* the search was not cut short */
    bool was_searched;
};

/* The one orphan, whole, whose entries say that it belongs to this slot; NULL where none or several do. */
const struct qcow2_orphan *qcow2_orphan_of_slot(const struct qcow2_orphans *orphans, uint64_t slot);

int qcow2_find_orphans(struct vd_check *ck, struct vd_runs *leaked, struct qcow2_orphans *orphans,
                       struct vd_err *err);

/* ---- pass.c and the passes */

/* What one run of the passes hands from one to the next; hangs on the check's driver_data. */
struct qcow2_state {
    struct qcow2_snapshots snapshots;
    struct qcow2_bitmaps bitmaps;
    struct qcow2_walk walk;
    struct qcow2_reftable reftable;
    uint64_t promised;        /* clusters that repairs may append (qcow2_may_grow) */
    uint64_t map_clusters;    /* clusters of the file when the walk began */
    struct vd_runs leaked;    /* clusters with a stored count and no claim */
    struct vd_runs uncounted; /* clusters without a claim whose stored counts are lost */
    uint64_t odd_counts;      /* clusters whose stored count is not what was counted */
    struct qcow2_orphans orphans;
};

int qcow2_pass_header(struct vd_check *ck, struct vd_err *err);
int qcow2_pass_l1_size(struct vd_check *ck, struct vd_err *err);
int qcow2_pass_refcounts(struct vd_check *ck, struct vd_err *err);
int qcow2_pass_deep(struct vd_check *ck, struct vd_err *err);
int qcow2_pass_leaks(struct vd_check *ck, struct vd_err *err);

/* Is the stored count of every claimed cluster what was counted? Adds the clusters with a stored count and no
 * claim to out. */
bool qcow2_counts_fit(struct vd_check *ck, struct vd_runs *out, struct vd_err *err);

/* Compares and judges nothing: adds the clusters with a stored count, or a lost one, and no claim to out. */
int qcow2_find_leaked(struct vd_check *ck, struct vd_runs *out, struct vd_err *err);

void qcow2_state_done(struct qcow2_state *s);

/* ---- suspect.c */

/* The one value of the field that a finding is about (cluster size, width of counts, place of the L1 table)
 * with which nothing in the file is corrupt. *level is safe where it explains every cluster and nothing of it
 * could be read by the old value, else all; none where there is no such value, or where there are several. */
int qcow2_search_header(struct vd_check *ck, enum qcow2_finding finding, struct qcow2_header *fixed,
                        enum vd_level *level, struct vd_err *err);

/* How a header explains the file. */
struct qcow2_fit {
    bool is_fit;     /* every cluster that is named has the count that it should have */
    uint64_t leaked; /* clusters that are counted, and nothing leads to them */
    uint64_t mapped; /* clusters of guest data */
    bool has_maps;   /* there are words that can only be maps of subclusters */
};

/* Tries a header; the image is read by its own again afterwards. */
int qcow2_try_header(struct vd_check *ck, const struct qcow2_header *header, struct qcow2_fit *fit,
                     struct vd_err *err);

/* ---- lost-header.c */

/* A whole header for an image whose own leads to no table. *level is all where one was found, else none. */
int qcow2_search_lost_header(struct vd_check *ck, struct qcow2_header *fixed, enum vd_level *level,
                             struct vd_err *err);

/* Is it the header that is wrong? */
int qcow2_judge_suspect(struct vd_check *ck, struct vd_err *err);

/* Is the external data file, where it was looked up, long enough for what the tables say is in it, and does a
 * raw one hold all of the disk? */
int qcow2_judge_data_file_map(struct vd_check *ck, const struct qcow2_walk *walk);

/* ---- judge.c: from counts of the walk to findings about L1 and L2 entries */

int qcow2_judge(struct vd_check *ck, struct qcow2_walk *walk, struct vd_err *err);

/* COPIED of the active tables, against what was counted. */
int qcow2_judge_copied(struct vd_check *ck, struct qcow2_walk *walk, struct vd_err *err);

/* ---- judge-shared.c: clusters with owners that exclude each other */

int qcow2_judge_conflicts(struct vd_check *ck, struct qcow2_walk *walk, struct vd_err *err);

/* ---- fix.c: one small function per repair; all write through ck->bs and mark the check as changed */

int qcow2_fix_fields(struct vd_check *ck, const struct qcow2_header *header, const char *from, const char *to,
                     enum vd_stage stage, struct vd_err *err);
/* The level of a repair that writes into a table at this offset of the file. Where a guest's data is said to
 * lie there, too, it would be written into that: the guest gets its copy first, and then the table is one
 * like others. While parts of the tables cannot be read, nobody knows whether that is so. */
enum vd_level qcow2_level_inside(struct vd_check *ck, uint64_t off, enum vd_level level);

/* Writes one word of a table. */
int qcow2_fix_word(struct vd_check *ck, uint64_t off, uint64_t word, enum vd_stage stage, struct vd_err *err);
/* Sets the stored counts of clusters [first, first + n) to count; the blocks have to be there. */
int qcow2_fix_counts(struct vd_check *ck, uint64_t first, uint64_t n, uint64_t count, struct vd_err *err);
/* The same for many clusters here and there; each block is written once. */
int qcow2_fix_runs(struct vd_check *ck, struct vd_runs *clusters, uint64_t count, struct vd_err *err);
/* Appends n new clusters at the end of the file, each with a stored count of 1. -1 (VD_ERR_REFUSED) on a
 * device, or where a refcount block would be needed that is not there. */
int qcow2_append(struct vd_check *ck, uint64_t n, uint64_t *off, struct vd_err *err);
/* Can that be done? */
bool qcow2_can_append(struct vd_check *ck);
/* Can a repair append that many clusters more, with all that was asked for before, without coming to a place
 * that an entry already names? What is appended there would be read as that entry's. To be asked after the
 * walk. */
bool qcow2_may_grow(struct vd_check *ck, uint64_t clusters);
/* Copies the data cluster of an entry to the end of the file and points the entry, which `weight` paths lead
 * to, there. */
int qcow2_fix_clone_cluster(struct vd_check *ck, uint64_t entry_off, uint64_t word, uint64_t weight,
                            struct vd_err *err);
/* Copies metadata to new clusters, which begin at *to. */
int qcow2_fix_copy(struct vd_check *ck, struct vd_span from, uint64_t *to, struct vd_err *err);
/* Makes the file at least length bytes long, by zeroes; or cuts it off at length. */
int qcow2_fix_extend(struct vd_check *ck, uint64_t length, struct vd_err *err);
int qcow2_fix_cut(struct vd_check *ck, uint64_t length, struct vd_err *err);
/* Writes a refcount block anew, at the end of the file, from the claims. keep_unclaimed: what nobody claims
 * counts 1. */
int qcow2_fix_rebuild_block(struct vd_check *ck, uint64_t index, bool keep_unclaimed, struct vd_err *err);
/* Writes all counts anew, table and blocks, at the end of the file. */
int qcow2_fix_rebuild_all(struct vd_check *ck, bool keep_unclaimed, struct vd_err *err);
/* Entries that a bitmap's table must have for a granularity. */
uint64_t qcow2_bitmap_need(const struct qcow2_geometry *g, unsigned granularity_bits);

/* A bitmap's table is told word by word; -1 ends the telling. */
typedef int qcow2_bitmap_word_fn(void *opaque, const struct qcow2_bitmap *bm, uint64_t i, uint64_t word,
                                 struct vd_err *err);
int qcow2_bitmap_words(struct BlockDriverState *bs, const struct qcow2_bitmap *bm, qcow2_bitmap_word_fn *fn,
                       void *opaque, struct vd_err *err);

enum qcow2_bitmap_word {
    QCOW2_BITMAP_ALL_ZERO,
    QCOW2_BITMAP_ALL_ONE,
    QCOW2_BITMAP_CLUSTER,
    QCOW2_BITMAP_WORD_RESERVED,
    QCOW2_BITMAP_WORD_OUT_OF_FILE
};
enum qcow2_bitmap_word qcow2_bitmap_word_kind(const struct qcow2_geometry *g, uint64_t word);

int qcow2_bitmap_list(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err);

/* ---- judge-bitmap.c */

/* Judges the extension, the directory and its entries, once everything is claimed. */
int qcow2_judge_bitmaps(struct vd_check *ck, const struct qcow2_bitmaps *b, struct vd_err *err);

/* Tells a defect that only level `all` answers: all bitmaps are given up, their clusters become leaks. */
int qcow2_judge_lost_bitmaps(struct vd_check *ck, const struct qcow2_bitmaps *b, enum qcow2_finding finding,
                             uint64_t host, uint64_t found, struct vd_err *err);

/* Claims the directory, the tables and their clusters, where the bitmaps are in force; behind all data. */
int qcow2_claim_bitmaps(struct vd_check *ck, const struct qcow2_bitmaps *b, struct vd_err *err);

/* ---- judge-bitmap-table.c */

/* Judges overlaps and what the tables say, once everything is claimed. */
int qcow2_judge_bitmap_claims(struct vd_check *ck, const struct qcow2_bitmaps *b, struct vd_err *err);

/* ---- judge-metadata.c */

/* All of these judges, to be called once everything is claimed. */
int qcow2_judge_metadata(struct vd_check *ck, const struct qcow2_snapshots *s, const struct qcow2_bitmaps *b,
                         struct vd_err *err);

/* ---- crypt.c: the LUKS header that an extension points to */

struct qcow2_crypt {
    const struct qcow2_extension *where; /* NULL: there is no extension */
    struct qcow2_crypt_extension ext;
    bool is_located; /* the extension is of the right length and points into the file */
    bool has_magic;  /* a LUKS header of version 1 stands there */
    bool is_sane;    /* and its key slots are possible */
    unsigned active; /* key slots in use */
    uint64_t need;   /* bytes to the end of the last key slot; where is_sane */
    uint64_t length; /* what the extension should say; where is_sane */
};

int qcow2_read_crypt(struct BlockDriverState *bs, struct qcow2_crypt *out, struct vd_err *err);

/* Claims the encryption header as far as its key slots reach, where they can be read. */
int qcow2_claim_crypt(struct vd_check *ck, struct vd_err *err);

/* Judges, once everything is claimed, whether the rest of what the extension names belongs to others; claims
 * it where it does not. */
int qcow2_judge_crypt_claims(struct vd_check *ck, struct vd_err *err);

/* ---- judge-extension.c */

/* Judges the header's length, the extensions, and what they say; needs no map. */
int qcow2_judge_extensions(struct vd_check *ck, struct vd_err *err);

/* ---- write.c, resize.c, backing.c, create.c: the live image; live.h has what they share */

int qcow2_co_pwritev(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                     enum vd_stage stage, struct vd_err *err);
int qcow2_co_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                           struct vd_err *err);
int qcow2_co_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err);
int qcow2_co_inactivate(struct BlockDriverState *bs, struct vd_err *err);
int qcow2_co_idle(struct BlockDriverState *bs, int64_t quiet_ms, struct vd_err *err);
int qcow2_make_empty(struct BlockDriverState *bs, struct vd_err *err);
int qcow2_change_backing_file(struct BlockDriverState *bs, const char *file, const char *format,
                              struct vd_err *err);
int qcow2_co_create(struct BlockDriverState *file, const struct vd_create_options *opts, struct vd_err *err);
void qcow2_live_free(struct qcow2_live *live);

/* ---- pass.c */

int qcow2_co_check(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err);

#endif
