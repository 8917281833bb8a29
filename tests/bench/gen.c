/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gen.h"

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512 };

/* A number with a suffix k, M, G or T. */
static uint64_t number(const char *text)
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

static bool layout_is_random(const char *text)
{
    if (strcmp(text, "random") && strcmp(text, "contig"))
        errx(GEN_EXIT_USAGE, "not a layout: %s", text);
    return text[0] == 'r';
}

__attribute__((noreturn)) static void usage(const char *name, bool has_table_size)
{
    fprintf(stderr,
            "usage: %s [-c CLUSTER_SIZE]%s [-s GUEST_SIZE] [-l contig|random]\n"
            "       [-k LEAKS] [-m MAPPED_CLUSTERS] [-S SEED] OUT\n"
            "Numbers take the suffixes k, M, G, T. Without -m every guest cluster is mapped, else the first "
            "ones.\n",
            name, has_table_size ? " [-t TABLE_SIZE]" : "");
    exit(GEN_EXIT_USAGE);
}

/* False for a letter that is no option. */
static bool take_option(struct gen_options *asked, int opt, const char *arg)
{
    const struct {
        int opt;
        uint64_t *place;
    } numbers[] = {
        {'c', &asked->cluster_size},
        {'t', &asked->table_size  },
        {'s', &asked->guest_size  },
        {'k', &asked->leaks       },
        {'m', &asked->mapped      },
        {'S', &asked->seed        }
    };

    if (opt == 'l') {
        asked->is_random = layout_is_random(arg);
        return true;
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (numbers[i].opt == opt) {
            *numbers[i].place = number(arg);
            return true;
        }
    return false;
}

struct gen_options gen_parse(int argc, char **argv, bool has_table_size)
{
    struct gen_options asked = {.cluster_size = 64 << 10,
                                .table_size = 4,
                                .guest_size = UINT64_C(1) << 40,
                                .mapped = UINT64_MAX,
                                .seed = 1};
    int opt;

    while ((opt = getopt(argc, argv, has_table_size ? "c:t:s:l:k:m:S:" : "c:s:l:k:m:S:")) != -1)
        if (!take_option(&asked, opt, optarg))
            usage(argv[0], has_table_size);
    if (argc != optind + 1)
        usage(argv[0], has_table_size);
    if (asked.guest_size == 0 || asked.guest_size % SECTOR)
        errx(GEN_EXIT_USAGE, "the guest size is a multiple of 512 above 0");
    asked.out = argv[optind];
    return asked;
}

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Fisher-Yates: a permutation of 0 .. n-1 */
static uint32_t *shuffled(uint64_t n, uint64_t seed)
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

struct gen_data gen_plan_data(const struct gen_options *asked, uint64_t guest_clusters)
{
    struct gen_data data = {.cluster_size = asked->cluster_size,
                            .clusters = asked->mapped < guest_clusters ? asked->mapped : guest_clusters,
                            .leaks = asked->leaks};

    if (data.clusters > UINT32_MAX)
        errx(GEN_EXIT_USAGE, "too many clusters of data");
    if (data.clusters == 0 || data.leaks >= data.clusters)
        errx(GEN_EXIT_USAGE,
             "there must be more mapped clusters than leaked ones, for each leak lies between two");
    if (asked->is_random)
        data.order = shuffled(data.clusters, asked->seed);
    return data;
}

void gen_data_done(struct gen_data *data)
{
    free(data->order);
    data->order = NULL;
}

/*
 * Leak j follows the first (j + 1) * clusters / (leaks + 1) of them: with fewer leaks than clusters no two
 * leaks touch, and none is at an end of the data area. Both factors are at most 2^32 - 1, so the product
 * fits.
 */
uint64_t gen_data_off(const struct gen_data *data, uint64_t guest_cluster)
{
    uint64_t rank;

    if (guest_cluster >= data->clusters)
        return 0;
    rank = data->order ? data->order[guest_cluster] : guest_cluster;
    return data->first_off +
           (rank + ((rank + 1) * (data->leaks + 1) - 1) / data->clusters) * data->cluster_size;
}

uint64_t gen_data_end(const struct gen_data *data)
{
    return data->first_off + (data->clusters + data->leaks) * data->cluster_size;
}

bool gen_is_power_of_two_within(uint64_t n, uint64_t least, uint64_t most)
{
    return n >= least && n <= most && (n & (n - 1)) == 0;
}

uint64_t *gen_table(uint64_t n)
{
    uint64_t *table = calloc(n, sizeof(*table));

    if (!table)
        err(EXIT_FAILURE, "no memory for a table");
    return table;
}

int gen_create(const char *path, uint64_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0 || ftruncate(fd, (off_t)length) < 0)
        err(EXIT_FAILURE, "%s", path);
    return fd;
}

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

void gen_close(int fd)
{
    if (close(fd) < 0)
        err(EXIT_FAILURE, "close");
}

void gen_tell(const struct gen_data *data, uint64_t tables)
{
    printf("{\"clusters\": %" PRIu64 ", \"leaks\": %" PRIu64 ", \"tables\": %" PRIu64
           ", \"file_size\": %" PRIu64 "}\n",
           data->clusters, data->leaks, tables, gen_data_end(data));
}
