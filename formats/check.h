/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a driver says during a check, and to whom: the sink.
 *
 * A driver walks its metadata in passes. It *claims* the host space that its structures hold, and reports
 * *findings*; it keeps no counts, asks for no mode and prints nothing. checker/ implements the sink: the
 * usage map behind the claims, the ledger behind the findings. The answer to a finding is the whole of the
 * driver's knowledge about repair: VD_FIX means that this one is to be fixed now.
 */
#ifndef VD_CHECK_H
#define VD_CHECK_H

#include "formats/base/budget.h"
#include "formats/base/runs.h"
#include "formats/base/span.h"
#include "formats/finding.h"
#include "formats/node/block.h"

/* What a host cluster holds. */
enum vd_kind {
    VD_KIND_FREE,
    VD_KIND_HEADER,
    VD_KIND_L1,
    VD_KIND_L2,
    VD_KIND_REFCOUNT_TABLE,
    VD_KIND_REFCOUNT_BLOCK,
    VD_KIND_SNAPSHOT_TABLE,
    VD_KIND_SNAPSHOT_L1,
    VD_KIND_BITMAP_DIRECTORY,
    VD_KIND_BITMAP_TABLE,
    VD_KIND_BITMAP_DATA,
    VD_KIND_ENCRYPTION_HEADER,
    VD_KIND_COMPRESSED,
    VD_KIND_DATA,
    VD_KIND_TAIL, /* claimed by nothing: free, behind all that is used of a file that keeps its length */
    VD_KINDS_END,
};

const char *vd_kind_name(enum vd_kind kind);

/* Does the guest's data lie there, and not what leads to it? */
static inline bool vd_kind_is_data(enum vd_kind kind)
{
    return kind == VD_KIND_DATA || kind == VD_KIND_COMPRESSED;
}

enum vd_verdict { VD_LEAVE, VD_FIX };

/* No such number: the default of every place field. */
#define VD_NOWHERE UINT64_MAX

/* How a finding is reported; unset fields are VD_NOWHERE, or 0 where said. All in bytes but count. */
struct vd_found_args {
    uint64_t host;        /* where the wrong reference or structure stands */
    uint64_t host_bytes;  /* how much is leaked or meant; 0: not told */
    uint64_t guest;       /* which guest bytes it touches */
    uint64_t guest_bytes; /* 0: not told */
    uint64_t found, expected;
    const char *found_text, *expected_text; /* instead of the numbers; borrowed for the call */
    uint64_t other_guest, other_host;       /* the other owner of something shared */
    uint64_t count;                         /* 0: one */
    enum vd_severity severity;              /* 0: as the row says; else lower */
    enum vd_level level;                    /* 0: as the row says; else what this image proves */
    const char *note;                       /* a static text that adds to the message; or NULL */
    const struct vd_runs *clusters;         /* leaked, where they are not one stretch from host on; or NULL */
    const struct vd_runs *overcounted;      /* clusters in use that are counted more often; or NULL */
};

/* One entry of the where-am-I stack: "L1[17]". */
struct vd_where {
    const char *name; /* static */
    uint64_t index;
};

enum { VD_WHERE_DEPTH = 4 };

/* A table's references, claimed in one call. */
struct vd_claim_batch {
    const uint64_t *offsets; /* host offsets of clusters, in host byte order */
    size_t n;
    uint64_t zero;   /* values up to this one claim nothing; this one itself, where not 0, is counted as zero
                        cluster */
    uint64_t lo, hi; /* good offsets begin at lo or behind and before hi */
};

struct vd_claim_result {
    uint64_t bad;    /* out of [lo, hi) or unaligned: not claimed */
    uint64_t shared; /* good, but something else claims the cluster too */
    uint64_t allocated, zeroes, fragmented;
    uint64_t
        next; /* where the table's last good reference so far would go on; in: from the piece before, or 0 */
};

/* A map that tells one claim from several, or one that counts them. */
enum vd_map_kind { VD_MAP_BITS, VD_MAP_COUNTS };

/* What stands in the low bits of a word of a counted table. */
enum {
    VD_WORD_ONLY = 1,       /* the reference says that it is the only one */
    VD_WORD_SAME_PLACE = 2, /* the cluster was told at this guest position before, by another tree */
    VD_WORD_FLAGS = 3,
};

/* A table's references to data clusters, in a format that counts them; clusters are 512 bytes or more. */
struct vd_count_batch {
    const uint64_t *words; /* host offset and VD_WORD_ flags; 0 claims nothing */
    size_t n;
    uint64_t weight; /* references that each word stands for; at least 1 */
    uint64_t lo, hi; /* good offsets begin at lo or behind and before hi */
    bool tells_only; /* VD_WORD_ONLY, or its absence, is to be believed */
    bool has_places; /* clusters are watched for a second guest position */
};

struct vd_count_result {
    uint64_t bad;       /* out of [lo, hi) or unaligned: not counted */
    uint64_t misplaced; /* counted, but the cluster has another owner or guest position too */
    uint64_t counted, fragmented;
    uint64_t next; /* as in struct vd_claim_result */
};

/* The claims on one cluster. */
struct vd_refs {
    uint64_t count;
    bool said_only;     /* a reference says that it is the only one */
    bool said_shared;   /* a reference says that it is not */
    bool is_compressed; /* compressed data lies there */
    bool is_conflicted; /* it has owners, or guest positions, that exclude each other */
};

/* Cluster counts that a driver tells for the report. */
struct vd_cluster_counts {
    uint64_t total, allocated, fragmented, compressed, zero;
};

/* A file that an image names beside its backing file, looked up and not opened. */
struct vd_named_file {
    enum { VD_FILE_NOT_LOOKED_UP, VD_FILE_FOUND, VD_FILE_MISSING, VD_FILE_REFUSED } state;
    uint64_t size; /* bytes; where it was found */
    char why[256]; /* for people, where it was not */
};

struct vd_check;

struct vd_sink {
    enum vd_verdict (*found)(struct vd_check *ck, const struct vd_finding_kind *kind,
                             const struct vd_found_args *args);
    int (*begin_map)(struct vd_check *ck, enum vd_map_kind kind, unsigned cluster_bits, uint64_t clusters,
                     struct vd_err *err);
    int (*claim)(struct vd_check *ck, enum vd_kind kind, struct vd_span host, uint64_t reference,
                 uint64_t weight, uint64_t *shared, struct vd_err *err);
    int (*claim_batch)(struct vd_check *ck, const struct vd_claim_batch *batch,
                       struct vd_claim_result *result, struct vd_err *err);
    int (*count_batch)(struct vd_check *ck, const struct vd_count_batch *batch,
                       struct vd_count_result *result, struct vd_err *err);
    size_t (*compare)(struct vd_check *ck, uint64_t first, const uint64_t *stored, size_t n, uint32_t *odd);
    struct vd_refs (*refs_at)(struct vd_check *ck, uint64_t host);
    uint64_t (*next_claimed)(struct vd_check *ck, uint64_t cluster);
    enum vd_kind (*kind_at)(struct vd_check *ck, uint64_t host, uint64_t *start);
    bool (*is_shared)(struct vd_check *ck, uint64_t host);
    uint64_t (*count_free)(struct vd_check *ck);
    int (*free_runs)(struct vd_check *ck, struct vd_runs *out, struct vd_err *err);
    void (*gave_up)(struct vd_check *ck, struct vd_span host);
    struct vd_check *(*scratch)(struct vd_check *ck, struct vd_err *err);
    void (*scratch_done)(struct vd_check *scratch);
};

struct vd_check {
    struct BlockDriverState *bs;
    const struct vd_sink *sink;
    void *sink_data;
    struct vd_budget *budget;
    struct vd_cluster_counts clusters;
    uint64_t cluster_size;     /* host bytes, once known */
    uint64_t image_end;        /* end of the highest used cluster */
    bool map_is_incomplete;    /* something could not be read or walked: nothing may be freed */
    bool has_changed;          /* a fix changed the image: the passes are to run again */
    bool was_changed;          /* an earlier round of this repair changed the image */
    bool deep;                 /* the data is read, too */
    unsigned flags;            /* VD_EVIDENCE, ... of all that was found so far */
    uint64_t corruptions_left; /* findings of severity corruption or error that were not answered by VD_FIX */
    const struct vd_named_file *data_file; /* NULL: not looked up */
    struct vd_runs *kept_leaks;            /* clusters and counts that an earlier repair kept; NULL: none */
    const struct vd_runs *given_up; /* clusters that this repair gave up, and does not free; NULL: none */
    void *driver_data;              /* the driver's, for the time of one bdrv_co_check */
    const char
        *tree; /* findings are reached through this snapshot (its id, borrowed); NULL: the active tables */
    struct vd_where where[VD_WHERE_DEPTH];
    unsigned depth;
};

/* Reports a finding of the driver (its enumerator) or of the image (VD_IMAGE_...). */
#define vd_found(ck, finding, ...)                                                                           \
    vd_found_args_((ck), (finding),                                                                          \
                   &(struct vd_found_args){.host = VD_NOWHERE,                                               \
                                           .guest = VD_NOWHERE,                                              \
                                           .found = VD_NOWHERE,                                              \
                                           .expected = VD_NOWHERE,                                           \
                                           .other_guest = VD_NOWHERE,                                        \
                                           .other_host = VD_NOWHERE,                                         \
                                           __VA_ARGS__})
enum vd_verdict vd_found_args_(struct vd_check *ck, unsigned finding, const struct vd_found_args *args);

/* `VD_AT(ck, "L1", i);` names the place until the end of the scope. */
#define VD_AT(ck, what, number)        VD_AT_(ck, what, number, __LINE__)
#define VD_AT_(ck, what, number, line) VD_AT__(ck, what, number, line)
#define VD_AT__(ck, what, number, line)                                                                      \
    struct vd_check *vd_at_##line __attribute__((cleanup(vd_at_pop_), unused)) =                             \
        vd_at_push_((ck), (what), (number))
struct vd_check *vd_at_push_(struct vd_check *ck, const char *name, uint64_t index);
void vd_at_pop_(struct vd_check **ck);

/* The map covers `clusters` host clusters from now on, and nothing of it is claimed. To be called once a
 * round. */
int vd_begin_map(struct vd_check *ck, enum vd_map_kind kind, unsigned cluster_bits, uint64_t clusters,
                 struct vd_err *err);

/*
 * Claims the clusters that host touches for one structure, whose reference stands at `reference` (VD_NOWHERE:
 * none). *shared is how many of them were claimed before. Spans outside the map are the caller's fault.
 */
int vd_claim(struct vd_check *ck, enum vd_kind kind, struct vd_span host, uint64_t reference,
             uint64_t *shared, struct vd_err *err);

/* The same for a structure that `weight` references lead to, in a map of counts. */
int vd_claim_times(struct vd_check *ck, enum vd_kind kind, struct vd_span host, uint64_t reference,
                   uint64_t weight, uint64_t *shared, struct vd_err *err);

/* Counts a table's references to data clusters, in a map of counts; metadata is claimed before all data. */
int vd_count_table(struct vd_check *ck, const struct vd_count_batch *batch, struct vd_count_result *result,
                   struct vd_err *err);

/*
 * Compares n stored counts, of the clusters from first on, with the claims: writes the indices of those that
 * differ, or whose claims say what is not so, to odd (room for n), and returns how many they are. What lies
 * behind the map has no claims.
 */
size_t vd_compare_counts(struct vd_check *ck, uint64_t first, const uint64_t *stored, size_t n,
                         uint32_t *odd);

/* The claims on the cluster at this host offset, in a map of counts. */
struct vd_refs vd_refs_at(struct vd_check *ck, uint64_t host);

/* The first claimed cluster at or behind this one, or VD_NOWHERE. */
uint64_t vd_next_claimed(struct vd_check *ck, uint64_t cluster);

/* Claims a data cluster for each good reference of a table; metadata is claimed before all data. */
int vd_claim_table(struct vd_check *ck, const struct vd_claim_batch *batch, struct vd_claim_result *result,
                   struct vd_err *err);

/* What metadata holds the cluster at this host offset, or VD_KIND_DATA, or VD_KIND_FREE; *start, where not
 * NULL, is where that structure begins. */
enum vd_kind vd_kind_at(struct vd_check *ck, uint64_t host, uint64_t *start);

/* Is the cluster at this host offset claimed more than once? */
bool vd_is_shared(struct vd_check *ck, uint64_t host);

/* How many clusters of the map nobody claimed. */
uint64_t vd_count_free(struct vd_check *ck);

/* Their numbers, added to out: of a million leaks 16 MiB. */
int vd_free_runs(struct vd_check *ck, struct vd_runs *out, struct vd_err *err);

/* Tells that a fix gave up a reference to host: it becomes a leak that this transaction does not free. */
void vd_gave_up(struct vd_check *ck, struct vd_span host);

/*
 * A check on the side, with a map of its own and findings that are counted (corruptions_left,
 * map_is_incomplete) and forgotten: for trying out whether another reading of a header fits. NULL on error.
 * Done with vd_scratch_done().
 */
struct vd_check *vd_scratch_new(struct vd_check *ck, struct vd_err *err);
void vd_scratch_done(struct vd_check *scratch);

/* A pass; see vd_run_passes(). */
enum vd_when {
    VD_ALWAYS,
    VD_IF_COMPLETE, /* only where the map is complete */
    VD_LAST,        /* only where nothing is left to change */
};

struct vd_pass {
    const char *name;
    int (*run)(struct vd_check *ck, struct vd_err *err);
    enum vd_when when;
    const char *leaves; /* what holds after it, for people */
};

/* What a pass answers beside 0 (go on) and -1 (error): no later pass can do anything. */
enum { VD_STOP = 1 };

/*
 * Runs the passes in order (the table ends with a NULL name). After a pass that changed the image the later
 * ones do not run: the map no longer fits, and the caller runs all of them again.
 */
int vd_run_passes(struct vd_check *ck, const struct vd_pass *passes, struct vd_err *err);

/* Copies bytes of the image's file to new clusters, as a part of a fix. Holes stay holes. */
int vd_copy_bytes(struct vd_check *ck, uint64_t from, uint64_t to, uint64_t bytes, struct vd_err *err);

#endif
