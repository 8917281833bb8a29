/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The floor under every check of a QED image: reads header, L1 and all L2 tables and sums their words.
 *
 * It judges nothing, so no checker that reads the same metadata can be faster. It trusts the image: only for
 * what gen-qed wrote.
 */
#include "floor.h"

#include <endian.h>
#include <err.h>
#include <stdint.h>
#include <stdlib.h>

enum {
    HEADER = 64,
    MAGIC = 0x00444551,
    AT_MAGIC = 0, /* in 32-bit words */
    AT_CLUSTER = 1,
    AT_TABLE = 2,
    AT_L1 = 5, /* in 64-bit words */
    LARGEST_TABLE = 1 << 30,
};

static uint64_t sum_l2_tables(int fd, const uint64_t *l1, uint64_t table_bytes)
{
    struct floor_run run = {0};

    for (uint64_t i = 0; i < table_bytes / sizeof(*l1); i++)
        if (l1[i])
            floor_add_table(fd, &run, le64toh(l1[i]), table_bytes);
    return floor_end_run(fd, &run);
}

static uint64_t sum_image(int fd)
{
    union {
        uint32_t w32[HEADER / 4];
        uint64_t w64[HEADER / 8];
    } header;
    uint64_t table_bytes, sum, *l1;

    floor_pread(fd, &header, sizeof(header), 0);
    table_bytes = (uint64_t)le32toh(header.w32[AT_CLUSTER]) * le32toh(header.w32[AT_TABLE]);
    if (le32toh(header.w32[AT_MAGIC]) != MAGIC || table_bytes == 0 || table_bytes > LARGEST_TABLE)
        errx(EXIT_FAILURE, "not a QED image");
    l1 = malloc(table_bytes);
    if (!l1)
        err(EXIT_FAILURE, "no memory for the L1 table");
    floor_pread(fd, l1, table_bytes, le64toh(header.w64[AT_L1]));
    sum = floor_sum_words(header.w64, HEADER / 8) + floor_sum_words(l1, table_bytes / sizeof(*l1));
    sum += sum_l2_tables(fd, l1, table_bytes);
    free(l1);
    return sum;
}

int main(int argc, char **argv)
{
    return floor_main(argc, argv, sum_image);
}
