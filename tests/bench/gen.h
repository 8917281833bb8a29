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

struct gen_options {
    uint64_t cluster_size, guest_size;
    uint64_t table_size; /* in clusters; QED's alone */
    uint64_t mapped;     /* guest clusters, the first ones */
    uint64_t leaks, seed;
    bool is_random;
    const char *out; /* borrowed from argv */
};

/* The options of a generator. */
struct gen_options gen_parse(int argc, char **argv, bool has_table_size);

/* Data clusters in a row, with lone leaked ones between them. */
struct gen_data {
    uint64_t cluster_size;
    uint64_t first_off; /* in the file; for the format to work out */
    uint64_t clusters;  /* of data; below 2^32 */
    uint64_t leaks;     /* fewer */
    uint32_t *order;    /* the rank of each guest cluster among the data of the file; NULL in guest order */
};

/* The data that the options ask for, on a disk of that many clusters; gen_data_done() frees it. */
struct gen_data gen_plan_data(const struct gen_options *asked, uint64_t guest_clusters);
void gen_data_done(struct gen_data *data);

/* Where a guest cluster lies; 0 where it is not mapped. */
uint64_t gen_data_off(const struct gen_data *data, uint64_t guest_cluster);

/* The end of the data, which is that of the file. */
uint64_t gen_data_end(const struct gen_data *data);

bool gen_is_power_of_two_within(uint64_t n, uint64_t least, uint64_t most);

/* n words of zeroes; owned by the caller. */
uint64_t *gen_table(uint64_t n);

/* A new file of that length. */
int gen_create(const char *path, uint64_t length);
void gen_pwrite(int fd, const void *buf, uint64_t len, uint64_t off);
void gen_close(int fd);

/* The line of JSON that a generator ends with. */
void gen_tell(const struct gen_data *data, uint64_t tables);

#endif
