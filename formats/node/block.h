/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Block nodes: what an image looks like from the inside of vdcheck.
 *
 *     qed                     a format node: guest addresses above, host offsets below
 *      |
 *     overlay, stats, ...     filter nodes: no driver knows that one is there
 *      |
 *     file                    a protocol node: bytes of a file or a device
 *
 * Names follow QEMU's block layer. I/O is synchronous (`co_` is kept for the name's sake); offsets and
 * lengths are bytes in int64_t. A callback that is NULL is answered by the node below (filters) or refused
 * (formats, protocols).
 */
#ifndef VD_NODE_BLOCK_H
#define VD_NODE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/base/auto.h"
#include "formats/base/err.h"

struct BlockDriver;
struct BlockDriverState;
struct vd_check;
struct vd_finding_kind;
struct vd_info;
struct vd_layout;

/* How a node is opened. */
enum {
    BDRV_O_RDWR = 1 << 0,
    BDRV_O_CHECK = 1 << 1,       /* open parses and refuses nothing that a check can judge */
    BDRV_O_FORCE_SHARE = 1 << 2, /* read although another program writes (-U) */
    BDRV_O_DIRTY_OK = 1 << 3,    /* a live open that has seen to the need-check or dirty flag itself */
    BDRV_O_GENTLE = 1 << 5,      /* read without keeping anybody from writing; busy where somebody does */
    BDRV_O_DROP_BEHIND = 1 << 6, /* leave the page cache as it was */
    BDRV_O_SALVAGE = 1 << 4,     /* read what is left of a table that the end of the file cuts off */
};

/*
 * What a write is, for the order in which a commit brings it to the disk: new clusters before the tables that
 * point at them, tables before the top table or header, flags last.
 */
enum vd_stage { VD_STAGE_NEW, VD_STAGE_TABLE, VD_STAGE_ROOT, VD_STAGE_FLAG };

/* A snapshot of an image, as people name it. */
enum { BDRV_SNAPSHOT_TEXT = 128 };
struct vd_snapshot_names {
    char id[BDRV_SNAPSHOT_TEXT], name[BDRV_SNAPSHOT_TEXT];
};

enum {
    BDRV_BLOCK_DATA = 1,         /* has bytes of its own */
    BDRV_BLOCK_ZERO = 2,         /* reads as zeroes */
    BDRV_BLOCK_OFFSET_VALID = 4, /* *map is the offset in the node below */
    BDRV_BLOCK_ALLOCATED = 8,    /* decided here, not in the backing file */
};

struct BlockDriverInfo {
    int64_t cluster_size; /* bytes; 0: no clusters */
    bool is_dirty;        /* the image's own flag: it was not closed cleanly */
};

/* What `create` was asked for; strings are borrowed for the call. */
struct vd_create_options {
    int64_t size;               /* guest bytes */
    const char *backing_file;   /* NULL: none */
    const char *backing_format; /* NULL: probed */
    const char *const *pairs;   /* "key=value", ended by NULL; may be NULL */
};

/* Something in an image beside the active disk that has clusters of its own. */
struct vd_owner {
    const char *what; /* "snapshot", "bitmap" */
    const char *id;   /* by which it is known; borrowed for the call */
    const char *name; /* or NULL */
    size_t number;    /* from 1 on; no other owner of the image has it */
};

/* "snapshot 2": escaped, cut to room where it is too long. Returns dst. */
enum { VD_OWNER_TEXT = 320 };
const char *vd_owner_text(char *dst, size_t room, const struct vd_owner *owner);

/* A reference of an image. */
struct vd_named_span {
    uint64_t host, bytes;         /* what it names, in bytes of the file */
    int kind;                     /* what lies there: an enum vd_kind */
    uint64_t reference;           /* where the reference stands, in bytes of the file; UINT64_MAX: nowhere */
    uint64_t guest;               /* the guest bytes that it serves; UINT64_MAX: none */
    const struct vd_owner *owner; /* NULL: the active disk, or the image as a whole */
};

/* See bdrv_each_claim. -1 ends the telling; VD_SKIP_BELOW: what only this table names need not be told. */
enum { VD_SKIP_BELOW = 1 };
typedef int vd_claim_fn(void *opaque, const struct vd_named_span *claim);

/* Options of bdrv_co_create, "key=value" each. */
enum { VD_MOST_PAIRS = 8, VD_PAIR_TEXT = 48 };
typedef char vd_pair[VD_PAIR_TEXT];

struct BlockDriver {
    const char *format_name;
    const char *protocol_name; /* protocol nodes only */
    const char *qemu_name;     /* where QEMU's word is another one */
    const char *description;
    const char *create_options; /* the keys that `create -o` takes, for people */
    bool is_filter;
    bool has_backing;     /* the format can name a backing file */
    size_t instance_size; /* of bs->opaque, zeroed before bdrv_open */
    const struct vd_finding_kind *findings;
    size_t findings_n;

    /* How sure is it, 0 to 100, that these first bytes (and this file length) are the format? 100: the magic;
     * 50: everything but the magic. */
    int (*bdrv_probe)(const uint8_t *buf, size_t len, int64_t file_size);
    int (*bdrv_open)(struct BlockDriverState *bs, int flags, struct vd_err *err);
    void (*bdrv_close)(struct BlockDriverState *bs); /* no flush, no flag: bdrv_co_inactivate does that */

    /* Writes a new empty image into the (empty, writable) protocol node. */
    int (*bdrv_co_create)(struct BlockDriverState *file, const struct vd_create_options *opts,
                          struct vd_err *err);

    int (*bdrv_co_preadv)(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                          struct vd_err *err);
    int (*bdrv_co_pwritev)(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                           enum vd_stage stage, struct vd_err *err);
    int (*bdrv_co_pwrite_zeroes)(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 enum vd_stage stage, struct vd_err *err);
    /* BDRV_BLOCK_ bits of the bytes from offset on, the same for *pnum of them (at most bytes); -1 on error.
     */
    int (*bdrv_co_block_status)(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum,
                                int64_t *map, struct vd_err *err);
    int (*bdrv_co_truncate)(struct BlockDriverState *bs, int64_t size, struct vd_err *err);
    int (*bdrv_co_flush)(struct BlockDriverState *bs, struct vd_err *err);
    int (*bdrv_co_inactivate)(struct BlockDriverState *bs,
                              struct vd_err *err); /* a clean close: flush, clear flags */
    int (*bdrv_co_idle)(struct BlockDriverState *bs, int64_t quiet_ms,
                        struct vd_err *err); /* nothing happened */
    int64_t (*bdrv_getlength)(struct BlockDriverState *bs, struct vd_err *err);
    bool (*bdrv_is_fixed_length)(struct BlockDriverState *bs); /* NULL: it may grow and shrink */
    void (*bdrv_prefetch)(struct BlockDriverState *bs, int64_t offset, int64_t bytes); /* a hint */

    int (*bdrv_get_info)(struct BlockDriverState *bs, struct BlockDriverInfo *info, struct vd_err *err);
    /* The options by which an image like this is made, as far as every program opens such a one;
     * VD_MOST_PAIRS of them at most. Returns how many. */
    size_t (*bdrv_get_create_options)(struct BlockDriverState *bs, vd_pair *pairs);
    int (*bdrv_get_specific_info)(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err);
    int (*bdrv_change_backing_file)(struct BlockDriverState *bs, const char *file, const char *format,
                                    struct vd_err *err);
    int (*bdrv_make_empty)(struct BlockDriverState *bs, struct vd_err *err);
    int (*bdrv_snapshot_list)(struct BlockDriverState *bs, struct vd_info *info, struct vd_err *err);
    /* Shows snapshot i (from 0) read-only in place of the active disk, and tells its names. 1: there is no
     * such snapshot; 2: it cannot be shown. */
    int (*bdrv_snapshot_load_tmp)(struct BlockDriverState *bs, uint64_t i, struct vd_snapshot_names *names,
                                  struct vd_err *err);
    int (*bdrv_co_invalidate_cache)(struct BlockDriverState *bs, struct vd_err *err);

    /* Checks (and, where the sink says so, repairs) the image; formats/check.h has the sink. */
    int (*bdrv_co_check)(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err);
    /* Which guest bytes may read otherwise when the host bytes [offset, offset + bytes) of a table or header
     * do? Tells each range to add(); asked of the image before and after. NULL: none but what
     * bdrv_co_block_status shows. */
    int (*bdrv_guest_ranges)(struct BlockDriverState *bs, int64_t offset, int64_t bytes,
                             int (*add)(void *opaque, uint64_t guest, uint64_t bytes), void *opaque,
                             struct vd_err *err);
    /* Tells every reference of the image to tell(), those of one owner behind each other, a table before what
     * it names. References that lead nowhere are passed over. */
    int (*bdrv_each_claim)(struct BlockDriverState *bs, vd_claim_fn *tell, void *opaque, struct vd_err *err);
    /* A field by the name that recipes use ("header.features", "L1[0].L2[1]"): where it lies and how long it
     * is. */
    int (*bdrv_find_field)(struct BlockDriverState *bs, const char *name, uint64_t *offset, unsigned *bytes,
                           struct vd_err *err);
};

struct BlockDriverState {
    const struct BlockDriver *drv;
    void *opaque; /* drv->instance_size bytes */
    char *filename;
    int open_flags;
    unsigned refs;
    struct BlockDriverState *file;    /* the node below; a reference is held */
    struct BlockDriverState *backing; /* the backing file's format node; a reference is held */
    struct BlockDriverState *data;    /* the node of data_file, where it is open; a reference is held */
    char *backing_file;               /* what the image names, as it stands there; NULL: none */
    size_t backing_file_len;          /* bytes, for the name may hold NULs */
    const char *backing_format;       /* what the image says of it; NULL: to be probed */
    const char *data_file; /* the file that the image says has the guest's data; NULL: this one has it.
                              The driver's */
    int64_t total_bytes;   /* guest bytes of a format node */
};

enum { BDRV_CHECK_FIX_LEAKS = 1, BDRV_CHECK_FIX_ERRORS = 2 };
#define BDRV_FIX_LEAKS  BDRV_CHECK_FIX_LEAKS
#define BDRV_FIX_ERRORS BDRV_CHECK_FIX_ERRORS

/* A node of drv over file (NULL for a protocol), of which it takes a reference; not yet opened. NULL: no
 * memory. */
struct BlockDriverState *bdrv_new(const struct BlockDriver *drv, const char *filename,
                                  struct BlockDriverState *file, struct vd_err *err);

/* bdrv_new() and the driver's bdrv_open(); NULL on error. */
struct BlockDriverState *bdrv_open_node(const struct BlockDriver *drv, struct BlockDriverState *file,
                                        int flags, struct vd_err *err);

struct BlockDriverState *bdrv_ref(struct BlockDriverState *bs);

/* Drops a reference; the last one closes the node and drops its own. */
void bdrv_unref(struct BlockDriverState *bs);

VD_DEFINE_AUTO(BlockDriverState, bdrv_unref)

/* Reads exactly bytes; an end of the node inside the range is an error. */
int bdrv_pread(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf, struct vd_err *err);

/* Reads what there is; what lies behind the end of the node is zero. */
int bdrv_pread_padded(struct BlockDriverState *bs, int64_t offset, int64_t bytes, void *buf,
                      struct vd_err *err);

/* Writes exactly bytes; a protocol node grows where they reach past its end. */
int bdrv_pwrite(struct BlockDriverState *bs, int64_t offset, int64_t bytes, const void *buf,
                enum vd_stage stage, struct vd_err *err);
int bdrv_pwrite_zeroes(struct BlockDriverState *bs, int64_t offset, int64_t bytes, enum vd_stage stage,
                       struct vd_err *err);
int bdrv_block_status(struct BlockDriverState *bs, int64_t offset, int64_t bytes, int64_t *pnum, int64_t *map,
                      struct vd_err *err);

/* Does all of the range read as zeroes because nothing is stored there? An error answers no. */
bool bdrv_is_hole(struct BlockDriverState *bs, int64_t offset, int64_t bytes);

int bdrv_truncate(struct BlockDriverState *bs, int64_t size, struct vd_err *err);
/* Brings what was written to the disk: that of a data file first, so that no table names what is not there.
 */
int bdrv_flush(struct BlockDriverState *bs, struct vd_err *err);
/* The same for the nodes below a format node, whatever the format itself still holds back. */
int bdrv_flush_below(struct BlockDriverState *bs, struct vd_err *err);
int bdrv_inactivate(struct BlockDriverState *bs, struct vd_err *err);
int64_t bdrv_getlength(struct BlockDriverState *bs, struct vd_err *err);
void bdrv_prefetch(struct BlockDriverState *bs, int64_t offset, int64_t bytes);

/* Must the length stay as it is, because the node is a device? */
bool bdrv_is_fixed_length(struct BlockDriverState *bs);

/* The protocol node at the bottom. */
struct BlockDriverState *bdrv_protocol(struct BlockDriverState *bs);

#endif
