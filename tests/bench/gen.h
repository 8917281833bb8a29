/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the generators of bench images share. No code of vdcheck: what a generator puts in is what vdcheck's
 * answer is compared with. All of these end the program where something fails.
 */
#ifndef BENCH_GEN_H
#define BENCH_GEN_H

#include <stdbool.h>
#include <stdint.h>

enum { GEN_EXIT_USAGE = 2 };

/* Data clusters in a row, with lone leaked ones between them. */
struct gen_data {
    uint64_t first_data; /* host cluster */
    uint64_t clusters;   /* of data; below 2^32 */
    uint64_t leaks;      /* fewer */
};

/* The host cluster of the data cluster that stands at `rank` among the data clusters of the file. */
uint64_t gen_host_cluster(const struct gen_data *data, uint64_t rank);

/* A permutation of 0 .. n-1. Owned by the caller. */
uint32_t *gen_shuffled(uint64_t n, uint64_t seed);

void gen_pwrite(int fd, const void *buf, uint64_t len, uint64_t off);
bool gen_is_power_of_two_within(uint64_t n, uint64_t least, uint64_t most);

/* A number with a suffix k, M, G or T. */
uint64_t gen_number(const char *text);
/* "random" or "contig" */
bool gen_layout_is_random(const char *text);

/* The line of JSON that a generator ends with. */
void gen_tell(const struct gen_data *data, uint64_t tables, uint64_t file_size);

#endif
