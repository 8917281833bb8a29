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
#include <stdint.h>
#include <stdlib.h>

enum {
    HEADER_CLUSTERS = 1,
    SMALLEST_CLUSTER = 4 << 10,
    LARGEST_CLUSTER = 64 << 20,
    MOST_TABLE_CLUSTERS = 16,
};

struct image {
    struct gen_options asked;

    uint64_t table_bytes, table_entries; /* worked out */
    uint64_t tables;                     /* L2 tables */
    struct gen_data data;
};

struct qed_header {
    uint32_t magic, cluster_size, table_size, header_size;
    uint64_t features, compat_features, autoclear_features, l1_table_offset, image_size;
    uint32_t backing_filename_offset, backing_filename_size;
};
_Static_assert(sizeof(struct qed_header) == 64, "the header has no padding");

static uint64_t l1_off(const struct image *image)
{
    return HEADER_CLUSTERS * image->asked.cluster_size;
}

static uint64_t l2_off(const struct image *image, uint64_t index)
{
    return l1_off(image) + (index + 1) * image->table_bytes;
}

static void write_header(int fd, const struct image *image)
{
    struct qed_header header = {
        .magic = htole32(0x00444551),
        .cluster_size = htole32((uint32_t)image->asked.cluster_size),
        .table_size = htole32((uint32_t)image->asked.table_size),
        .header_size = htole32(HEADER_CLUSTERS),
        .l1_table_offset = htole64(l1_off(image)),
        .image_size = htole64(image->asked.guest_size),
    };

    gen_pwrite(fd, &header, sizeof(header), 0);
}

static void write_l1(int fd, const struct image *image, uint64_t *table)
{
    for (uint64_t i = 0; i < image->table_entries; i++)
        table[i] = i < image->tables ? htole64(l2_off(image, i)) : 0;
    gen_pwrite(fd, table, image->table_bytes, l1_off(image));
}

static void write_l2(int fd, const struct image *image, uint64_t index, uint64_t *table)
{
    for (uint64_t i = 0; i < image->table_entries; i++)
        table[i] = htole64(gen_data_off(&image->data, index * image->table_entries + i));
    gen_pwrite(fd, table, image->table_bytes, l2_off(image, index));
}

static void write_image(const struct image *image)
{
    uint64_t *table = gen_table(image->table_entries);
    int fd = gen_create(image->asked.out, gen_data_end(&image->data));

    write_header(fd, image);
    write_l1(fd, image, table);
    for (uint64_t i = 0; i < image->tables; i++)
        write_l2(fd, image, i, table);
    gen_close(fd);
    free(table);
}

/* Works out the sizes; refuses what the format does not allow or the arithmetic above does not hold for. */
static void plan(struct image *image)
{
    const struct gen_options *asked = &image->asked;
    uint64_t guest_clusters;

    if (!gen_is_power_of_two_within(asked->cluster_size, SMALLEST_CLUSTER, LARGEST_CLUSTER))
        errx(GEN_EXIT_USAGE, "the cluster size is a power of two from 4k to 64M");
    if (!gen_is_power_of_two_within(asked->table_size, 1, MOST_TABLE_CLUSTERS))
        errx(GEN_EXIT_USAGE, "the table size is 1, 2, 4, 8 or 16 clusters");

    image->table_bytes = asked->table_size * asked->cluster_size;
    image->table_entries = image->table_bytes / sizeof(uint64_t);
    guest_clusters = (asked->guest_size - 1) / asked->cluster_size + 1;
    if ((guest_clusters - 1) / image->table_entries >= image->table_entries)
        errx(GEN_EXIT_USAGE, "the guest size is too large for this geometry");
    image->data = gen_plan_data(asked, guest_clusters);
    image->tables = (image->data.clusters - 1) / image->table_entries + 1;
    image->data.first_off = l2_off(image, image->tables);
}

int main(int argc, char **argv)
{
    struct image image = {.asked = gen_parse(argc, argv, true)};

    plan(&image);
    write_image(&image);
    gen_tell(&image.data, image.tables);
    gen_data_done(&image.data);
    return 0;
}
