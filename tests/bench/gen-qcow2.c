/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes a mapped qcow2 image (version 3, counts of 16 bits) for the bench and says in one line of JSON what
 * is in it.
 *
 *     | header | refcount table | refcount blocks | L1 | L2 tables | data clusters, and lone leaked ones
 * between them |
 *
 * Tables and blocks are written whole; data clusters are holes. In the layout "contig" data stands in guest
 * order, in "random" every data cluster has a random place. The same options give the same bytes.
 */
#include "gen.h"

#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SMALLEST_CLUSTER = 512,
    LARGEST_CLUSTER = 2 << 20,
    COUNT_BYTES = 2,
    REFCOUNT_ORDER = 4,
    HEADER_BYTES = 104,
    SECTOR = 512,
};

struct image {
    uint64_t cluster_size, guest_size, mapped, seed; /* as asked for */
    bool is_random;

    uint64_t table_entries, tables; /* of L2; worked out */
    uint64_t reftable_clusters, blocks, l1_clusters;
    uint64_t file_clusters;
    struct gen_data data; /* its leaks as asked for */
};

struct qcow2_header {
    uint32_t magic, version;
    uint64_t backing_file_offset;
    uint32_t backing_file_size, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_size;
    uint64_t l1_table_offset, refcount_table_offset;
    uint32_t refcount_table_clusters, nb_snapshots;
    uint64_t snapshots_offset, incompatible_features, compatible_features, autoclear_features;
    uint32_t refcount_order, header_length;
};
_Static_assert(sizeof(struct qcow2_header) == HEADER_BYTES, "the header has no padding");

static uint64_t div_up(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

static uint64_t l1_cluster(const struct image *image)
{
    return 1 + image->reftable_clusters + image->blocks;
}

static uint64_t l2_cluster(const struct image *image)
{
    return l1_cluster(image) + image->l1_clusters;
}

static void write_header(int fd, const struct image *image)
{
    struct qcow2_header header = {
        .magic = htobe32(0x514649fb),
        .version = htobe32(3),
        .cluster_bits = htobe32((uint32_t)__builtin_ctzll(image->cluster_size)),
        .size = htobe64(image->guest_size),
        .l1_size =
            htobe32((uint32_t)div_up(div_up(image->guest_size, image->cluster_size), image->table_entries)),
        .l1_table_offset = htobe64(l1_cluster(image) * image->cluster_size),
        .refcount_table_offset = htobe64(image->cluster_size),
        .refcount_table_clusters = htobe32((uint32_t)image->reftable_clusters),
        .refcount_order = htobe32(REFCOUNT_ORDER),
        .header_length = htobe32(HEADER_BYTES),
    };

    gen_pwrite(fd, &header, sizeof(header), 0);
}

/* n words that lead to clusters in a row. */
static void write_leads(int fd, const struct image *image, uint64_t at, uint64_t n, uint64_t first,
                        uint64_t flags, uint64_t clusters)
{
    uint64_t *table = calloc(clusters, image->cluster_size);

    if (!table)
        err(EXIT_FAILURE, "no memory for a table");
    for (uint64_t i = 0; i < n; i++)
        table[i] = htobe64((first + i) * image->cluster_size | flags);
    gen_pwrite(fd, table, clusters * image->cluster_size, at * image->cluster_size);
    free(table);
}

/* Every cluster of the file counts 1, leaked ones too. */
static void write_blocks(int fd, const struct image *image)
{
    uint64_t per_block = image->cluster_size / COUNT_BYTES;
    uint16_t *block = calloc(per_block, sizeof(*block));

    if (!block)
        err(EXIT_FAILURE, "no memory for a refcount block");
    for (uint64_t i = 0; i < image->blocks; i++) {
        for (uint64_t k = 0; k < per_block; k++)
            block[k] = i * per_block + k < image->file_clusters ? htobe16(1) : 0;
        gen_pwrite(fd, block, image->cluster_size, (1 + image->reftable_clusters + i) * image->cluster_size);
    }
    free(block);
}

static void write_l2(int fd, const struct image *image, const uint32_t *order, uint64_t index,
                     uint64_t *table)
{
    const uint64_t copied = UINT64_C(1) << 63;
    uint64_t guest = index * image->table_entries;

    for (uint64_t i = 0; i < image->table_entries; i++, guest++) {
        if (guest < image->data.clusters)
            table[i] = htobe64(
                gen_host_cluster(&image->data, order ? order[guest] : guest) * image->cluster_size | copied);
        else
            table[i] = 0;
    }
    gen_pwrite(fd, table, image->cluster_size, (l2_cluster(image) + index) * image->cluster_size);
}

static void write_image(const char *path, const struct image *image)
{
    const uint64_t copied = UINT64_C(1) << 63;
    uint32_t *order = image->is_random ? gen_shuffled(image->data.clusters, image->seed) : NULL;
    uint64_t *table = calloc(image->table_entries, sizeof(*table));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (!table)
        err(EXIT_FAILURE, "no memory for a table");
    if (fd < 0 || ftruncate(fd, (off_t)(image->file_clusters * image->cluster_size)) < 0)
        err(EXIT_FAILURE, "%s", path);
    write_header(fd, image);
    write_leads(fd, image, 1, image->blocks, 1 + image->reftable_clusters, 0, image->reftable_clusters);
    write_blocks(fd, image);
    write_leads(fd, image, l1_cluster(image), image->tables, l2_cluster(image), copied, image->l1_clusters);
    for (uint64_t i = 0; i < image->tables; i++)
        write_l2(fd, image, order, i, table);
    if (close(fd) < 0)
        err(EXIT_FAILURE, "%s", path);
    free(table);
    free(order);
}

/* The blocks count themselves and their table: both grow until they cover all. */
static void plan_counts(struct image *image, uint64_t others)
{
    uint64_t per_block = image->cluster_size / COUNT_BYTES, before;

    do {
        before = image->blocks;
        image->reftable_clusters = div_up(8 * (before ? before : 1), image->cluster_size);
        image->blocks = div_up(others + before + image->reftable_clusters, per_block);
    } while (image->blocks != before);
}

/* Works out the sizes; refuses what the format does not allow or the arithmetic does not hold for. */
static void plan(struct image *image)
{
    struct gen_data *data = &image->data;
    uint64_t guest_clusters;

    if (!gen_is_power_of_two_within(image->cluster_size, SMALLEST_CLUSTER, LARGEST_CLUSTER))
        errx(GEN_EXIT_USAGE, "the cluster size is a power of two from 512 to 2M");
    if (image->guest_size == 0 || image->guest_size % SECTOR)
        errx(GEN_EXIT_USAGE, "the guest size is a multiple of 512 above 0");
    image->table_entries = image->cluster_size / 8;
    guest_clusters = div_up(image->guest_size, image->cluster_size);
    if (guest_clusters > UINT32_MAX || div_up(guest_clusters, image->table_entries) > 4 << 20)
        errx(GEN_EXIT_USAGE, "the guest size is too large for this geometry");
    data->clusters = image->mapped < guest_clusters ? image->mapped : guest_clusters;
    if (data->clusters == 0 || data->leaks >= data->clusters)
        errx(GEN_EXIT_USAGE,
             "there must be more mapped clusters than leaked ones, for each leak lies between two");

    image->tables = div_up(data->clusters, image->table_entries);
    image->l1_clusters = div_up(8 * div_up(guest_clusters, image->table_entries), image->cluster_size);
    plan_counts(image, 1 + image->l1_clusters + image->tables + data->clusters + data->leaks);
    data->first_data = l2_cluster(image) + image->tables;
    image->file_clusters = data->first_data + data->clusters + data->leaks;
}

__attribute__((noreturn)) static void usage(void)
{
    fputs("usage: gen-qcow2 [-c CLUSTER_SIZE] [-s GUEST_SIZE] [-l contig|random] [-k LEAKS]\n"
          "                 [-m MAPPED_CLUSTERS] [-S SEED] OUT\n"
          "Numbers take the suffixes k, M, G, T. Without -m every guest cluster is mapped, else the first "
          "ones.\n",
          stderr);
    exit(GEN_EXIT_USAGE);
}

static void set_option(struct image *image, int opt, const char *arg)
{
    switch (opt) {
    case 'c':
        image->cluster_size = gen_number(arg);
        break;
    case 's':
        image->guest_size = gen_number(arg);
        break;
    case 'l':
        image->is_random = gen_layout_is_random(arg);
        break;
    case 'k':
        image->data.leaks = gen_number(arg);
        break;
    case 'm':
        image->mapped = gen_number(arg);
        break;
    case 'S':
        image->seed = gen_number(arg);
        break;
    default:
        usage();
    }
}

int main(int argc, char **argv)
{
    struct image image = {
        .cluster_size = 64 << 10, .guest_size = UINT64_C(1) << 40, .mapped = UINT64_MAX, .seed = 1};
    int opt;

    while ((opt = getopt(argc, argv, "c:s:l:k:m:S:")) != -1)
        set_option(&image, opt, optarg);
    if (argc != optind + 1)
        usage();
    plan(&image);
    write_image(argv[optind], &image);
    gen_tell(&image.data, image.tables, image.file_clusters * image.cluster_size);
    return 0;
}
