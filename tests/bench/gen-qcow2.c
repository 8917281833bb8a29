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
#include <stdint.h>
#include <stdlib.h>

enum {
    SMALLEST_CLUSTER = 512,
    LARGEST_CLUSTER = 2 << 20,
    COUNT_BYTES = 2,
    REFCOUNT_ORDER = 4,
    HEADER_BYTES = 104,
    MOST_L1_ENTRIES = 4 << 20,
};

struct image {
    struct gen_options asked;

    uint64_t table_entries, tables; /* of L2; worked out */
    uint64_t reftable_clusters, blocks, l1_clusters;
    struct gen_data data;
};

static const uint64_t copied = UINT64_C(1) << 63;

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
    uint64_t cluster_size = image->asked.cluster_size;
    struct qcow2_header header = {
        .magic = htobe32(0x514649fb),
        .version = htobe32(3),
        .cluster_bits = htobe32((uint32_t)__builtin_ctzll(cluster_size)),
        .size = htobe64(image->asked.guest_size),
        .l1_size =
            htobe32((uint32_t)div_up(div_up(image->asked.guest_size, cluster_size), image->table_entries)),
        .l1_table_offset = htobe64(l1_cluster(image) * cluster_size),
        .refcount_table_offset = htobe64(cluster_size),
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
    uint64_t cluster_size = image->asked.cluster_size;
    uint64_t *table = gen_table(clusters * image->table_entries);

    for (uint64_t i = 0; i < n; i++)
        table[i] = htobe64((first + i) * cluster_size | flags);
    gen_pwrite(fd, table, clusters * cluster_size, at * cluster_size);
    free(table);
}

/* Every cluster of the file counts 1, leaked ones too. */
static void write_blocks(int fd, const struct image *image)
{
    uint64_t cluster_size = image->asked.cluster_size, per_block = cluster_size / COUNT_BYTES;
    uint64_t file_clusters = gen_data_end(&image->data) / cluster_size;
    uint16_t *block = calloc(per_block, sizeof(*block));

    if (!block)
        err(EXIT_FAILURE, "no memory for a refcount block");
    for (uint64_t i = 0; i < image->blocks; i++) {
        for (uint64_t k = 0; k < per_block; k++)
            block[k] = i * per_block + k < file_clusters ? htobe16(1) : 0;
        gen_pwrite(fd, block, cluster_size, (1 + image->reftable_clusters + i) * cluster_size);
    }
    free(block);
}

static void write_l2(int fd, const struct image *image, uint64_t index, uint64_t *table)
{
    uint64_t cluster_size = image->asked.cluster_size;

    for (uint64_t i = 0; i < image->table_entries; i++) {
        uint64_t off = gen_data_off(&image->data, index * image->table_entries + i);

        table[i] = off ? htobe64(off | copied) : 0;
    }
    gen_pwrite(fd, table, cluster_size, (l2_cluster(image) + index) * cluster_size);
}

static void write_image(const struct image *image)
{
    uint64_t *table = gen_table(image->table_entries);
    int fd = gen_create(image->asked.out, gen_data_end(&image->data));

    write_header(fd, image);
    write_leads(fd, image, 1, image->blocks, 1 + image->reftable_clusters, 0, image->reftable_clusters);
    write_blocks(fd, image);
    write_leads(fd, image, l1_cluster(image), image->tables, l2_cluster(image), copied, image->l1_clusters);
    for (uint64_t i = 0; i < image->tables; i++)
        write_l2(fd, image, i, table);
    gen_close(fd);
    free(table);
}

/* The blocks count themselves and their table: both grow until they cover all. */
static void plan_counts(struct image *image, uint64_t others)
{
    uint64_t cluster_size = image->asked.cluster_size, per_block = cluster_size / COUNT_BYTES, before;

    do {
        before = image->blocks;
        image->reftable_clusters = div_up(8 * (before ? before : 1), cluster_size);
        image->blocks = div_up(others + before + image->reftable_clusters, per_block);
    } while (image->blocks != before);
}

/* Works out the sizes; refuses what the format does not allow or the arithmetic does not hold for. */
static void plan(struct image *image)
{
    uint64_t cluster_size = image->asked.cluster_size, guest_clusters, l1_entries;

    if (!gen_is_power_of_two_within(cluster_size, SMALLEST_CLUSTER, LARGEST_CLUSTER))
        errx(GEN_EXIT_USAGE, "the cluster size is a power of two from 512 to 2M");
    image->table_entries = cluster_size / 8;
    guest_clusters = div_up(image->asked.guest_size, cluster_size);
    l1_entries = div_up(guest_clusters, image->table_entries);
    if (l1_entries > MOST_L1_ENTRIES)
        errx(GEN_EXIT_USAGE, "the guest size is too large for this geometry");
    image->data = gen_plan_data(&image->asked, guest_clusters);

    image->tables = div_up(image->data.clusters, image->table_entries);
    image->l1_clusters = div_up(8 * l1_entries, cluster_size);
    plan_counts(image, 1 + image->l1_clusters + image->tables + image->data.clusters + image->data.leaks);
    image->data.first_off = (l2_cluster(image) + image->tables) * cluster_size;
}

int main(int argc, char **argv)
{
    struct image image = {.asked = gen_parse(argc, argv, false)};

    plan(&image);
    write_image(&image);
    gen_tell(&image.data, image.tables);
    gen_data_done(&image.data);
    return 0;
}
