/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The floor under every check of a qcow2 image: reads header, refcount table and blocks, L1 and all L2 tables
 * and sums their words. It judges nothing and trusts the image: only for what gen-qcow2 wrote.
 */
#include "floor.h"

#include <endian.h>
#include <err.h>
#include <stdint.h>
#include <stdlib.h>

enum {
    HEADER = 104,
    MAGIC = 0x514649fb,
    AT_MAGIC = 0, /* in 32-bit words */
    AT_CLUSTER_BITS = 5,
    AT_L1_SIZE = 9,
    AT_REFTABLE_CLUSTERS = 14,
    AT_L1 = 5, /* in 64-bit words */
    AT_REFTABLE = 6,
    MOST_CLUSTER_BITS = 21,
};

static const uint64_t offset_mask = 0x00fffffffffffe00;

/* The n tables that a table at off leads to, of one cluster each, and the table itself. */
static uint64_t sum_level(int fd, uint64_t off, uint64_t n, uint64_t cluster_size)
{
    uint64_t *table = calloc(n ? n : 1, sizeof(*table)), sum;
    struct floor_run run = {0};

    if (!table)
        err(EXIT_FAILURE, "no memory for a table");
    floor_pread(fd, table, n * sizeof(*table), off);
    sum = floor_sum_words(table, n);
    for (uint64_t i = 0; i < n; i++)
        if (table[i])
            floor_add_table(fd, &run, be64toh(table[i]) & offset_mask, cluster_size);
    free(table);
    return sum + floor_end_run(fd, &run);
}

static uint64_t sum_image(int fd)
{
    union {
        uint32_t w32[HEADER / 4];
        uint64_t w64[HEADER / 8];
    } header;
    uint64_t cluster_size;

    floor_pread(fd, &header, sizeof(header), 0);
    if (be32toh(header.w32[AT_MAGIC]) != MAGIC || be32toh(header.w32[AT_CLUSTER_BITS]) > MOST_CLUSTER_BITS)
        errx(EXIT_FAILURE, "not a qcow2 image");
    cluster_size = UINT64_C(1) << be32toh(header.w32[AT_CLUSTER_BITS]);
    return sum_level(fd, be64toh(header.w64[AT_REFTABLE]),
                     be32toh(header.w32[AT_REFTABLE_CLUSTERS]) * cluster_size / 8, cluster_size) +
           sum_level(fd, be64toh(header.w64[AT_L1]), be32toh(header.w32[AT_L1_SIZE]), cluster_size);
}

int main(int argc, char **argv)
{
    return floor_main(argc, argv, sum_image);
}
