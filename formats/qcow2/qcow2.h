/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to formats/qcow2: the parsed image, and what its files share. README.md has the drawing.
 */
#ifndef VD_QCOW2_H
#define VD_QCOW2_H

#include "formats/base/span.h"
#include "formats/base/vec.h"
#include "formats/check.h"
#include "formats/node/block.h"
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

enum { QCOW2_MOST_EXTENSIONS = 64, QCOW2_WINDOW = 4096 };

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

/* Words of a table, kept from the last read. */
struct qcow2_window {
    uint64_t table_off;
    uint64_t first;
    uint64_t n; /* 0: holds nothing */
    uint64_t word[QCOW2_WINDOW];
};

/* One compressed cluster, kept from the last read. */
struct qcow2_cached_cluster {
    uint64_t host, len; /* of the compressed extent, in bytes; len 0: holds nothing */
    uint8_t *bytes;     /* one cluster */
};

struct qcow2 {
    struct qcow2_header header; /* version 2 with the values that it implies */
    struct qcow2_geometry g;
    struct qcow2_extensions ext;
    bool has_header; /* the file is long enough for one */
    char *backing_format;
    char *data_file; /* what the header names; NULL: nothing */
    struct qcow2_window l1, l2;
    struct qcow2_cached_cluster inflated;
    struct qcow2_live *live; /* of alloc.c; NULL where nothing was written */
};

/* ---- header.c */

/* The geometry that a header gives in a file of that size. */
struct qcow2_geometry qcow2_derive(const struct qcow2_header *header, uint64_t file_size);

/* Reads the header, its extensions and names, and derives the geometry; a file too short is no error. */
int qcow2_read_header(struct BlockDriverState *bs, struct vd_err *err);

/* Decodes a header from QCOW2_HEADER_BYTES bytes; what a version lacks gets the value that it implies. */
void qcow2_decode_header(const uint8_t *bytes, struct qcow2_header *header);

/* The fields [from, to] of the header are written as they stand in *header: by names of the layout. Unknown
 * autoclear bits are cleared first, where there are any. Nothing else of the cluster is touched. */
int qcow2_write_fields(struct BlockDriverState *bs, const struct qcow2_header *header, const char *from,
                       const char *to, enum vd_stage stage, struct vd_err *err);

/* A rule that a header must keep. */
struct qcow2_rule {
    enum qcow2_finding finding;
    bool (*is_broken)(const struct qcow2 *q);
    const char *field; /* of the layout: what is told as found */
    unsigned flags;
};

enum {
    QCOW2_REFUSES_OPEN = 1, /* QEMU and a live open refuse it */
    QCOW2_STOPS_WALK = 2,   /* no table can be found */
    QCOW2_UNSUPPORTED = 4,  /* something that this driver does not know */
};

/* All rules, in the order of QEMU's tests; ended by a NULL is_broken. */
extern const struct qcow2_rule qcow2_rules[];

/* The extension of that type that programs use (the last one), or NULL. */
const struct qcow2_extension *qcow2_find_extension(const struct qcow2 *q, uint32_t type);

static inline bool qcow2_has_corrupt_bit(const struct qcow2 *q)
{
    return q->header.incompatible_features & QCOW2_INCOMPAT_CORRUPT;
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

/* Looks a guest offset up in the active tables: its entry, the table (0: there is none) and the index in it.
 */
int qcow2_lookup(struct BlockDriverState *bs, uint64_t guest, struct qcow2_entry *entry, uint64_t *table_off,
                 uint64_t *index, struct vd_err *err);

/* Inflates a compressed extent into one cluster. -1 where its stream is broken; *result says how far it went.
 */
struct vd_inflated;
int qcow2_inflate(struct BlockDriverState *bs, const struct qcow2_entry *e, uint8_t *out,
                  struct vd_inflated *result, struct vd_err *err);

int qcow2_co_preadv(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                    struct vd_err *err);
int qcow2_co_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                          int64_t *map, struct vd_err *err);
int qcow2_guest_ranges(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                       int (*add)(void *opaque, uint64_t guest, uint64_t bytes), void *opaque,
                       struct vd_err *err);
int qcow2_each_claim(struct BlockDriverState *bs, vd_claim_fn *tell, void *opaque, struct vd_err *err);

/* ---- field.c */

int qcow2_find_field(struct BlockDriverState *bs, const char *name, uint64_t *offset, unsigned *bytes,
                     struct vd_err *err);

/* ---- snapshot.c: the snapshot table */

/* One entry of the table, as far as it could be parsed. */
struct qcow2_snapshot {
    uint64_t entry_off; /* of the entry, in the file */
    uint64_t entry_bytes;
    uint64_t l1_off;    /* bytes */
    uint32_t l1_n;      /* entries, as the entry says */
    uint64_t disk_size; /* guest bytes; the image's where the entry has none */
    uint64_t vm_state_size;
    uint32_t extra_bytes;
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_nsec;
    char *id, *name; /* NUL-terminated; owned by the list. id_len and name_len count the bytes */
    uint16_t id_len, name_len;
    bool l1_is_sound; /* its L1 table lies aligned and whole in the file, and is of a legal size: the walk
                         uses it */
};

VD_VEC(qcow2_snapshot_vec, struct qcow2_snapshot)

struct qcow2_snapshots {
    struct qcow2_snapshot_vec list;
    uint64_t table_bytes; /* of what was parsed */
    bool is_cut;          /* the table could not be parsed to its end; list holds what could */
};

/* Parses the table that the header names; a table that is wrong gives what could be parsed. */
int qcow2_read_snapshots(struct BlockDriverState *bs, struct vd_budget *budget, struct qcow2_snapshots *out,
                         struct vd_err *err);
void qcow2_snapshots_done(struct qcow2_snapshots *snapshots);

/* ---- bitmap.c: persistent dirty bitmaps */

struct qcow2_bitmap {
    uint64_t entry_off;
    uint64_t table_off; /* bytes */
    uint32_t table_n;   /* entries, as the entry says */
    uint32_t flags;
    uint8_t type, granularity_bits;
    uint32_t extra_bytes;
    char *name;
    uint16_t name_len;
    bool table_is_sound; /* aligned, whole in the file, of a legal size */
};

VD_VEC(qcow2_bitmap_vec, struct qcow2_bitmap)

struct qcow2_bitmaps {
    struct qcow2_bitmap_vec list;
    bool has_extension;
    bool is_in_force; /* the extension is there and the autoclear bit says that it is to be believed */
    uint64_t ext_off; /* of the extension's data */
    struct qcow2_bitmaps_extension ext;
    bool dir_is_sound; /* aligned, whole in the file, of a legal size */
    bool is_cut;       /* the directory could not be parsed to its end */
};

int qcow2_read_bitmaps(struct BlockDriverState *bs, struct vd_budget *budget, struct qcow2_bitmaps *out,
                       struct vd_err *err);
void qcow2_bitmaps_done(struct qcow2_bitmaps *bitmaps);

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

int qcow2_pass_header(struct vd_check *ck, struct vd_err *err);
int qcow2_co_check(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err);

#endif
