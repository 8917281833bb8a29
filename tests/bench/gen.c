/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gen.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void gen_pwrite(int fd, const void *buf, uint64_t len, uint64_t off)
{
    const char *p = buf;

    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)off);

        if (n < 0)
            err(EXIT_FAILURE, "write at %" PRIu64, off);
        p += n;
        off += (uint64_t)n;
        len -= (uint64_t)n;
    }
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Fisher-Yates */
uint32_t *gen_shuffled(uint64_t n, uint64_t seed)
{
    uint32_t *v = calloc(n, sizeof(*v));

    if (!v)
        err(EXIT_FAILURE, "no memory to shuffle %" PRIu64 " clusters", n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t j = ((next_random(&seed) >> 32) * (i + 1)) >> 32;

        v[i] = v[j];
        v[j] = (uint32_t)i;
    }
    return v;
}

/*
 * Leak j follows the first (j + 1) * clusters / (leaks + 1) of them: with fewer leaks than clusters no two
 * leaks touch, and none is at an end of the data area. Both factors are at most 2^32 - 1, so the product
 * fits.
 */
uint64_t gen_host_cluster(const struct gen_data *data, uint64_t rank)
{
    return data->first_data + rank + ((rank + 1) * (data->leaks + 1) - 1) / data->clusters;
}

bool gen_is_power_of_two_within(uint64_t n, uint64_t least, uint64_t most)
{
    return n >= least && n <= most && (n & (n - 1)) == 0;
}

uint64_t gen_number(const char *text)
{
    static const char suffixes[] = "kMGT";
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    const char *suffix = *end ? strchr(suffixes, *end) : NULL;
    unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;

    if (end == text || *text == '-' || end[suffix ? 1 : 0] || n << shift >> shift != n)
        errx(GEN_EXIT_USAGE, "not a number: %s", text);
    return n << shift;
}

bool gen_layout_is_random(const char *text)
{
    if (strcmp(text, "random") && strcmp(text, "contig"))
        errx(GEN_EXIT_USAGE, "not a layout: %s", text);
    return text[0] == 'r';
}

void gen_tell(const struct gen_data *data, uint64_t tables, uint64_t file_size)
{
    printf("{\"clusters\": %" PRIu64 ", \"leaks\": %" PRIu64 ", \"tables\": %" PRIu64
           ", \"file_size\": %" PRIu64 "}\n",
           data->clusters, data->leaks, tables, file_size);
}
