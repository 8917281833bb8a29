/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the floor programs share: preads of 256 KiB into one reused buffer that stays in the cache, and the
 * sum of the words. All of these end the program where something fails.
 */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include <stdint.h>

void floor_pread(int fd, void *buf, uint64_t len, uint64_t off);

/* The sum of n words, as they stand in the file. */
uint64_t floor_sum_words(const uint64_t *words, uint64_t n);
uint64_t floor_sum_range(int fd, uint64_t off, uint64_t len);

/* The sum of tables of len bytes each: neighbours are read together. */
struct floor_run {
    uint64_t off, len; /* what is still to be read */
    uint64_t sum;
};
void floor_add_table(int fd, struct floor_run *run, uint64_t off, uint64_t len);
uint64_t floor_end_run(int fd, struct floor_run *run);

/* The main() of a floor program: prints the sum of the image that is its only argument. */
int floor_main(int argc, char **argv, uint64_t (*sum_image)(int fd));

#endif
