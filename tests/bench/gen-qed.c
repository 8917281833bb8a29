/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes a mapped QED image for the bench and says in one line of JSON what is in it.
 *
 *     | header | L1 | L2 table 0 | L2 table 1 | ... | data clusters, and lone leaked ones between them |
 *
 * Every table is written whole; data clusters are holes, so the file costs its metadata. In the layout
 * "contig" data stands in guest order, in "random" every data cluster has a random place. The same options
 * give the same bytes.
 */
#include "gen.h"

#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HEADER_CLUSTERS = 1,
    SMALLEST_CLUSTER = 4 << 10,
    LARGEST_CLUSTER = 64 << 20,
    MOST_TABLE_CLUSTERS = 16,
    SECTOR = 512,
};

struct image {
    uint64_t cluster_size, table_size, guest_size; /* as asked for */
    uint64_t mapped, seed;
    bool is_random;

    uint64_t table_entries; /* worked out */
    uint64_t tables;        /* L2 tables */
    uint64_t file_clusters;
    struct gen_data data; /* its leaks as asked for */
};

struct qed_header {
    uint32_t magic, cluster_size, table_size, header_size;
    uint64_t features, compat_features, autoclear_features, l1_table_offset, image_size;
    uint32_t backing_filename_offset, backing_filename_size;
};
_Static_assert(sizeof(struct qed_header) == 64, "the header has no padding");

static void write_header(int fd, const struct image *image)
{
    struct qed_header header = {
        .magic = htole32(0x00444551),
        .cluster_size = htole32((uint32_t)image->cluster_size),
        .table_size = htole32((uint32_t)image->table_size),
        .header_size = htole32(HEADER_CLUSTERS),
        .l1_table_offset = htole64(HEADER_CLUSTERS * image->cluster_size),
        .image_size = htole64(image->guest_size),
    };

    gen_pwrite(fd, &header, sizeof(header), 0);
}

static void write_l1(int fd, const struct image *image, uint64_t *table)
{
    uint64_t table_bytes = image->table_size * image->cluster_size;
    uint64_t l1_off = HEADER_CLUSTERS * image->cluster_size;

    for (uint64_t i = 0; i < image->table_entries; i++)
        table[i] = i < image->tables ? htole64(l1_off + (i + 1) * table_bytes) : 0;
    gen_pwrite(fd, table, table_bytes, l1_off);
}

static void write_l2(int fd, const struct image *image, const uint32_t *order, uint64_t index,
                     uint64_t *table)
{
    uint64_t table_bytes = image->table_size * image->cluster_size;
    uint64_t guest = index * image->table_entries;

    for (uint64_t i = 0; i < image->table_entries; i++, guest++) {
        if (guest < image->data.clusters)
            table[i] =
                htole64(gen_host_cluster(&image->data, order ? order[guest] : guest) * image->cluster_size);
        else
            table[i] = 0;
    }
    gen_pwrite(fd, table, table_bytes, HEADER_CLUSTERS * image->cluster_size + (index + 1) * table_bytes);
}

static void write_image(const char *path, const struct image *image)
{
    uint32_t *order = image->is_random ? gen_shuffled(image->data.clusters, image->seed) : NULL;
    uint64_t *table = calloc(image->table_entries, sizeof(*table));
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (!table)
        err(EXIT_FAILURE, "no memory for a table");
    if (fd < 0 || ftruncate(fd, (off_t)(image->file_clusters * image->cluster_size)) < 0)
        err(EXIT_FAILURE, "%s", path);
    write_header(fd, image);
    write_l1(fd, image, table);
    for (uint64_t i = 0; i < image->tables; i++)
        write_l2(fd, image, order, i, table);
    if (close(fd) < 0)
        err(EXIT_FAILURE, "%s", path);
    free(table);
    free(order);
}

/* Works out the sizes; refuses what the format does not allow or the arithmetic above does not hold for. */
static void plan(struct image *image)
{
    uint64_t guest_clusters;

    if (!gen_is_power_of_two_within(image->cluster_size, SMALLEST_CLUSTER, LARGEST_CLUSTER))
        errx(GEN_EXIT_USAGE, "the cluster size is a power of two from 4k to 64M");
    if (!gen_is_power_of_two_within(image->table_size, 1, MOST_TABLE_CLUSTERS))
        errx(GEN_EXIT_USAGE, "the table size is 1, 2, 4, 8 or 16 clusters");
    if (image->guest_size == 0 || image->guest_size % SECTOR)
        errx(GEN_EXIT_USAGE, "the guest size is a multiple of 512 above 0");

    image->table_entries = image->table_size * image->cluster_size / sizeof(uint64_t);
    guest_clusters = (image->guest_size - 1) / image->cluster_size + 1;
    if (guest_clusters > UINT32_MAX || (guest_clusters - 1) / image->table_entries >= image->table_entries)
        errx(GEN_EXIT_USAGE, "the guest size is too large for this geometry");
    image->data.clusters = image->mapped < guest_clusters ? image->mapped : guest_clusters;
    if (image->data.clusters == 0 || image->data.leaks >= image->data.clusters)
        errx(GEN_EXIT_USAGE,
             "there must be more mapped clusters than leaked ones, for each leak lies between two");

    image->tables = (image->data.clusters - 1) / image->table_entries + 1;
    image->data.first_data = HEADER_CLUSTERS + (1 + image->tables) * image->table_size;
    image->file_clusters = image->data.first_data + image->data.clusters + image->data.leaks;
}

__attribute__((noreturn)) static void usage(void)
{
    fputs("usage: gen-qed [-c CLUSTER_SIZE] [-t TABLE_SIZE] [-s GUEST_SIZE] [-l contig|random]\n"
          "               [-k LEAKS] [-m MAPPED_CLUSTERS] [-S SEED] OUT\n"
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
    case 't':
        image->table_size = gen_number(arg);
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
    struct image image = {.cluster_size = 64 << 10,
                          .table_size = 4,
                          .guest_size = UINT64_C(1) << 40,
                          .mapped = UINT64_MAX,
                          .seed = 1};
    int opt;

    while ((opt = getopt(argc, argv, "c:t:s:l:k:m:S:")) != -1)
        set_option(&image, opt, optarg);
    if (argc != optind + 1)
        usage();
    plan(&image);
    write_image(argv[optind], &image);
    gen_tell(&image.data, image.tables, image.file_clusters * image.cluster_size);
    return 0;
}
