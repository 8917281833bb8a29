/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making an empty qcow2 image. All that it has lies in a row:
 *
 *     header | refcount table | refcount blocks | L1 table | L2 tables | data clusters
 *
 * The last two are there only where they are preallocated. The header is written last, so that a file that
 * was left half made is no image.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/text.h"
#include "formats/qcow2/qcow2.h"

enum preallocation { PREALLOCATE_OFF, PREALLOCATE_METADATA, PREALLOCATE_FULL };

/* What is to be made; numbers of clusters in the order of the drawing. */
struct plan {
    struct qcow2_header h;
    struct qcow2_geometry g;
    enum preallocation preallocation;
    const char *backing_file, *backing_format; /* NULL: none */
    uint64_t reftable_n, blocks_n, l1_n, l2_n, data_n;
    uint64_t total; /* clusters */
};

enum { WORDS = 512 };

/* ---- options */

static bool take_switch(const char *value, uint64_t *flags, uint64_t bit)
{
    static const struct {
        const char *word;
        bool is_on;
    } words[] = {
        {"on",    true },
        {"yes",   true },
        {"true",  true },
        {"off",   false},
        {"no",    false},
        {"false", false}
    };

    for (size_t i = 0; i < VD_ARRAY_SIZE(words); i++) {
        if (strcmp(value, words[i].word) != 0)
            continue;
        *flags = words[i].is_on ? *flags | bit : *flags & ~bit;
        return true;
    }
    return false;
}

/* The index of value among n words; n where it is none of them. */
static size_t index_of(const char *value, const char *const *words, size_t n)
{
    size_t i = 0;

    while (i < n && strcmp(value, words[i]) != 0)
        i++;
    return i;
}

static bool take_compat(struct plan *plan, const char *value)
{
    static const char *const words[] = {"0.10", "v2", "1.1", "v3"};
    size_t i = index_of(value, words, VD_ARRAY_SIZE(words));

    plan->h.version = i < 2 ? 2 : 3;
    return i < VD_ARRAY_SIZE(words);
}

static bool take_cluster_size(struct plan *plan, const char *value)
{
    int64_t bytes;

    if (!vd_text_parse_size(value, &bytes) || !vd_is_power_of_2((uint64_t)bytes))
        return false;
    plan->h.cluster_bits = vd_log2((uint64_t)bytes);
    return plan->h.cluster_bits >= QCOW2_MIN_CLUSTER_BITS && plan->h.cluster_bits <= QCOW2_MAX_CLUSTER_BITS;
}

static bool take_refcount_bits(struct plan *plan, const char *value)
{
    int64_t bits;

    if (!vd_text_parse_size(value, &bits) || !vd_is_power_of_2((uint64_t)bits))
        return false;
    plan->h.refcount_order = vd_log2((uint64_t)bits);
    return plan->h.refcount_order <= QCOW2_MAX_REFCOUNT_ORDER;
}

static bool take_lazy_refcounts(struct plan *plan, const char *value)
{
    return take_switch(value, &plan->h.compatible_features, QCOW2_COMPAT_LAZY_REFCOUNTS);
}

static bool take_extended_l2(struct plan *plan, const char *value)
{
    return take_switch(value, &plan->h.incompatible_features, QCOW2_INCOMPAT_EXTENDED_L2);
}

static bool take_compression_type(struct plan *plan, const char *value)
{
    static const char *const words[] = {[QCOW2_DEFLATE] = "zlib", [QCOW2_ZSTD] = "zstd"};
    size_t i = index_of(value, words, VD_ARRAY_SIZE(words));

    plan->h.compression_type = (uint8_t)i;
    if (i == QCOW2_ZSTD)
        plan->h.incompatible_features |= QCOW2_INCOMPAT_COMPRESSION;
    else
        plan->h.incompatible_features &= ~(uint64_t)QCOW2_INCOMPAT_COMPRESSION;
    return i < VD_ARRAY_SIZE(words);
}

/* "falloc" is "full": the one way to get space from every file system is to write. */
static bool take_preallocation(struct plan *plan, const char *value)
{
    static const char *const words[] = {"off", "metadata", "full", "falloc"};
    size_t i = index_of(value, words, VD_ARRAY_SIZE(words));

    plan->preallocation = i < PREALLOCATE_FULL ? (enum preallocation)i : PREALLOCATE_FULL;
    return i < VD_ARRAY_SIZE(words);
}

static const struct {
    const char *key;
    bool (*take)(struct plan *plan, const char *value);
    const char *expected;
} options[] = {
    {"compat",           take_compat,           "0.10, 1.1, v2 or v3"          },
    {"cluster_size",     take_cluster_size,     "a power of two from 512 to 2M"},
    {"refcount_bits",    take_refcount_bits,    "a power of two from 1 to 64"  },
    {"lazy_refcounts",   take_lazy_refcounts,   "on or off"                    },
    {"extended_l2",      take_extended_l2,      "on or off"                    },
    {"compression_type", take_compression_type, "zlib or zstd"                 },
    {"preallocation",    take_preallocation,    "off, metadata, falloc or full"},
};

static int take_pair(const char *pair, struct plan *plan, struct vd_err *err)
{
    const char *equals = strchr(pair, '=');
    size_t key = equals ? (size_t)(equals - pair) : strlen(pair);

    for (size_t i = 0; i < VD_ARRAY_SIZE(options); i++) {
        if (strlen(options[i].key) != key || strncmp(options[i].key, pair, key) != 0)
            continue;
        if (!equals || !options[i].take(plan, equals + 1))
            return vd_fail(err, VD_ERR_USAGE, 0, "'%s': %s expected", pair, options[i].expected);
        return 0;
    }
    return vd_fail(err, VD_ERR_USAGE, 0, "'%s': no such option of qcow2", pair);
}

static int judge_options(const struct plan *plan, struct vd_err *err)
{
    const struct qcow2_header *h = &plan->h;
    bool extended = h->incompatible_features & QCOW2_INCOMPAT_EXTENDED_L2;

    if (h->version == 2 && (h->incompatible_features || h->compatible_features ||
                            h->refcount_order != QCOW2_DEFAULT_REFCOUNT_ORDER))
        return vd_fail(err, VD_ERR_USAGE, 0,
                       "compat 0.10: version 2 of the format has reference counts of 16 bits, and neither "
                       "lazy_refcounts nor extended_l2 nor another compression than zlib");
    if (extended && h->cluster_bits < QCOW2_MIN_EXTENDED_BITS)
        return vd_fail(err, VD_ERR_USAGE, 0, "extended_l2: clusters of at least 16k expected");
    if (plan->backing_file && plan->preallocation != PREALLOCATE_OFF && !extended)
        return vd_fail(err, VD_ERR_USAGE, 0,
                       "preallocation: the clusters would hide the backing file; only extended_l2 has both");
    if (plan->backing_file && strlen(plan->backing_file) > QCOW2_MAX_BACKING_NAME)
        return vd_fail(err, VD_ERR_USAGE, ENAMETOOLONG, "backing file name of %zu bytes",
                       strlen(plan->backing_file));
    if (plan->backing_format && strlen(plan->backing_format) > QCOW2_MAX_BACKING_FORMAT)
        return vd_fail(err, VD_ERR_USAGE, ENAMETOOLONG, "backing format '%s'", plan->backing_format);
    return 0;
}

/* ---- where everything goes */

/* Refcount table and blocks count themselves: their numbers grow until they cover all. */
static void count_clusters(struct plan *plan)
{
    const struct qcow2_geometry *g = &plan->g;
    uint64_t others = 1 + plan->l1_n + plan->l2_n + plan->data_n, before;

    plan->reftable_n = plan->blocks_n = 1;
    do {
        before = plan->total;
        plan->total = others + plan->reftable_n + plan->blocks_n;
        plan->blocks_n = vd_div_up(plan->total, g->block_n);
        plan->reftable_n = vd_div_up(plan->blocks_n * 8, g->cluster_size);
    } while (plan->total != before);
}

static int lay_out(struct plan *plan, struct vd_err *err)
{
    const struct qcow2_geometry *g = &plan->g;
    struct qcow2_header *h = &plan->h;

    plan->g = qcow2_derive(h, 0);
    if (g->l1_need > QCOW2_MAX_L1_ENTRIES)
        return vd_fail(err, VD_ERR_USAGE, EFBIG, "with these clusters an image has at most %" PRIu64 " bytes",
                       (uint64_t)QCOW2_MAX_L1_ENTRIES << g->l1_shift);
    plan->l1_n = vd_div_up(8 * g->l1_need, g->cluster_size);
    if (plan->preallocation != PREALLOCATE_OFF) {
        plan->l2_n = g->l1_need;
        plan->data_n = vd_div_up(h->size, g->cluster_size);
    }
    count_clusters(plan);
    if (plan->reftable_n * g->cluster_size > QCOW2_MAX_REFTABLE_BYTES ||
        plan->total > (uint64_t)INT64_MAX >> g->cluster_bits)
        return vd_fail(err, VD_ERR_USAGE, EFBIG,
                       "preallocation: these clusters are more than can be counted");
    h->refcount_table_offset = g->cluster_size;
    h->refcount_table_clusters = (uint32_t)plan->reftable_n;
    h->l1_size = (uint32_t)g->l1_need;
    h->l1_table_offset = plan->l1_n ? (1 + plan->reftable_n + plan->blocks_n) << g->cluster_bits : 0;
    return 0;
}

/* ---- writing it */

/* n entries of a table: the first word of each ascends from `first` by step, a second one is zero. */
static int write_words(struct BlockDriverState *file, uint64_t off, uint64_t n, uint64_t first, uint64_t step,
                       unsigned entry_bytes, struct vd_err *err)
{
    uint8_t bytes[WORDS * 16] = {0};

    for (uint64_t done = 0; done < n;) {
        uint64_t some = vd_min(n - done, WORDS);

        for (uint64_t i = 0; i < some; i++)
            vd_put_be64(bytes + i * entry_bytes, first + (done + i) * step);
        if (bdrv_pwrite(file, (int64_t)(off + done * entry_bytes), (int64_t)(some * entry_bytes), bytes,
                        VD_STAGE_NEW, err) < 0)
            return -1;
        done += some;
    }
    return 0;
}

static int write_refcounts(struct BlockDriverState *file, const struct plan *plan, struct vd_err *err)
{
    const struct qcow2_geometry *g = &plan->g;
    uint64_t blocks_off = (1 + plan->reftable_n) << g->cluster_bits;
    vd_auto_mem uint8_t *block = calloc(1, g->cluster_size);

    if (!block)
        return vd_fail_memory(err);
    for (uint64_t i = 0; i < plan->blocks_n; i++) {
        uint64_t n = vd_min(g->block_n, plan->total - i * g->block_n);

        memset(block, 0, g->cluster_size);
        for (uint64_t k = 0; k < n; k++)
            qcow2_pack_count(g, block, k, 1);
        if (bdrv_pwrite(file, (int64_t)(blocks_off + (i << g->cluster_bits)), (int64_t)g->cluster_size, block,
                        VD_STAGE_NEW, err) < 0)
            return -1;
    }
    return write_words(file, g->cluster_size, plan->blocks_n, blocks_off, g->cluster_size, 8, err);
}

static int write_mapping(struct BlockDriverState *file, const struct plan *plan, struct vd_err *err)
{
    const struct qcow2_geometry *g = &plan->g;
    uint64_t l1_off = plan->h.l1_table_offset, l2_off = l1_off + (plan->l1_n << g->cluster_bits),
             data_off = l2_off + (plan->l2_n << g->cluster_bits),
             end = data_off + (plan->data_n << g->cluster_bits);

    if (!plan->l2_n)
        return 0;
    if (write_words(file, l1_off, plan->l2_n, QCOW2_COPIED | l2_off, g->cluster_size, 8, err) < 0 ||
        write_words(file, l2_off, plan->data_n, QCOW2_COPIED | data_off, g->cluster_size, g->entry_bytes,
                    err) < 0)
        return -1;
    if (plan->preallocation == PREALLOCATE_FULL) {
        vd_auto_mem uint8_t *zeroes = calloc(1, g->cluster_size);

        if (!zeroes)
            return vd_fail_memory(err);
        for (uint64_t at = data_off; at < end; at += g->cluster_size)
            if (bdrv_pwrite(file, (int64_t)at, (int64_t)g->cluster_size, zeroes, VD_STAGE_NEW, err) < 0)
                return -1;
    }
    return 0;
}

/* Appends an extension to the header cluster. */
static void put_extension(uint8_t *cluster, uint64_t *at, uint32_t type, const void *data, size_t len)
{
    vd_put_be32(cluster + *at, type);
    vd_put_be32(cluster + *at + 4, (uint32_t)len);
    if (len)
        memcpy(cluster + *at + 8, data, len);
    *at += 8 + vd_align_up_sat(len, 8);
}

/* As QEMU names them: by these words another program can say what it lacks. */
static void put_feature_names(uint8_t *cluster, uint64_t *at)
{
    static const struct {
        uint8_t field, bit; /* 0 incompatible, 1 compatible, 2 autoclear */
        const char *name;
    } names[] = {
        {0, 0, "dirty bit"          },
        {0, 1, "corrupt bit"        },
        {0, 2, "external data file" },
        {0, 3, "compression type"   },
        {0, 4, "extended L2 entries"},
        {1, 0, "lazy refcounts"     },
        {2, 0, "bitmaps"            },
        {2, 1, "raw external data"  },
    };
    uint8_t data[VD_ARRAY_SIZE(names) * QCOW2_FEATURE_NAME_BYTES] = {0};

    for (size_t i = 0; i < VD_ARRAY_SIZE(names); i++) {
        uint8_t *p = data + i * QCOW2_FEATURE_NAME_BYTES;

        p[0] = names[i].field;
        p[1] = names[i].bit;
        memcpy(p + 2, names[i].name, strlen(names[i].name));
    }
    put_extension(cluster, at, QCOW2_EXT_FEATURE_NAMES, data, sizeof(data));
}

/* QEMU leaves the names out where a cluster has no room for them and the names of files. */
static bool has_feature_names(const struct plan *plan)
{
    return plan->h.version > 2 && plan->g.cluster_size > 4096;
}

/* Bytes of the header cluster that are used. */
static uint64_t header_bytes(const struct plan *plan)
{
    uint64_t n = plan->h.header_length + 8; /* with the end marker */

    if (plan->backing_file)
        n += strlen(plan->backing_file);
    if (plan->backing_file && plan->backing_format)
        n += 8 + vd_align_up_sat(strlen(plan->backing_format), 8);
    return has_feature_names(plan) ? n + 8 + 8 * QCOW2_FEATURE_NAME_BYTES : n;
}

static int write_header(struct BlockDriverState *file, struct plan *plan, struct vd_err *err)
{
    struct qcow2_header *h = &plan->h;
    uint64_t at = h->header_length, used = header_bytes(plan);
    uint8_t fields[QCOW2_HEADER_BYTES] = {0};
    vd_auto_mem uint8_t *cluster = calloc(1, plan->g.cluster_size);

    if (!cluster)
        return vd_fail_memory(err);
    if (used > plan->g.cluster_size)
        return vd_fail(err, VD_ERR_USAGE, ENAMETOOLONG,
                       "a header of %" PRIu64 " bytes with the backing file's name, in clusters of %" PRIu64,
                       used, plan->g.cluster_size);
    if (plan->backing_file && plan->backing_format)
        put_extension(cluster, &at, QCOW2_EXT_BACKING_FORMAT, plan->backing_format,
                      strlen(plan->backing_format));
    if (has_feature_names(plan))
        put_feature_names(cluster, &at);
    put_extension(cluster, &at, QCOW2_EXT_END, NULL, 0);
    if (plan->backing_file) {
        h->backing_file_offset = at;
        h->backing_file_size = (uint32_t)strlen(plan->backing_file);
        memcpy(cluster + at, plan->backing_file, h->backing_file_size);
    }
    vd_encode(&qcow2_header_layout, h, fields);
    memcpy(cluster, fields, h->header_length);
    return bdrv_pwrite(file, 0, (int64_t)used, cluster, VD_STAGE_ROOT, err);
}

int qcow2_co_create(struct BlockDriverState *file, const struct vd_create_options *opts, struct vd_err *err)
{
    struct plan plan = {
        .h = {.magic = QCOW2_MAGIC,
              .version = 3,
              .cluster_bits = QCOW2_DEFAULT_CLUSTER_BITS,
              .size = vd_align_up_sat((uint64_t)opts->size, QCOW2_SECTOR),
              .refcount_order = QCOW2_DEFAULT_REFCOUNT_ORDER},
        .backing_file = opts->backing_file && *opts->backing_file ? opts->backing_file : NULL,
        .backing_format = opts->backing_format,
    };
    uint64_t end;

    for (const char *const *pair = opts->pairs; pair && *pair; pair++)
        if (take_pair(*pair, &plan, err) < 0)
            return -1;
    plan.h.header_length = plan.h.version == 2 ? QCOW2_V2_HEADER : QCOW2_HEADER_BYTES;
    if (judge_options(&plan, err) < 0 || lay_out(&plan, err) < 0)
        return -1;
    /* An L1 table that ends the file ends it with its last word, as QEMU leaves it. */
    end = plan.l1_n && !plan.l2_n ? plan.h.l1_table_offset + 8 * plan.g.l1_need
                                  : plan.total << plan.g.cluster_bits;
    if (bdrv_truncate(file, (int64_t)end, err) < 0 || write_refcounts(file, &plan, err) < 0 ||
        write_mapping(file, &plan, err) < 0 || write_header(file, &plan, err) < 0)
        return -1;
    return bdrv_flush(file, err);
}
