/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "floor.h"

#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BUFFER = 256 << 10 };

void floor_pread(int fd, void *buf, uint64_t len, uint64_t off)
{
    char *p = buf;

    while (len) {
        ssize_t n = pread(fd, p, len, (off_t)off);

        if (n < 0)
            err(EXIT_FAILURE, "read at %" PRIu64, off);
        if (n == 0)
            errx(EXIT_FAILURE, "the file ends at %" PRIu64, off);
        p += n;
        off += (uint64_t)n;
        len -= (uint64_t)n;
    }
}

uint64_t floor_sum_words(const uint64_t *words, uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++)
        sum += words[i];
    return sum;
}

uint64_t floor_sum_range(int fd, uint64_t off, uint64_t len)
{
    uint64_t buf[BUFFER / sizeof(uint64_t)];
    uint64_t sum = 0;

    while (len) {
        uint64_t n = len < BUFFER ? len : BUFFER;

        floor_pread(fd, buf, n, off);
        sum += floor_sum_words(buf, n / sizeof(uint64_t));
        off += n;
        len -= n;
    }
    return sum;
}

void floor_add_table(int fd, struct floor_run *run, uint64_t off, uint64_t len)
{
    if (off != run->off + run->len) {
        run->sum += floor_sum_range(fd, run->off, run->len);
        run->off = off;
        run->len = 0;
    }
    run->len += len;
}

uint64_t floor_end_run(int fd, struct floor_run *run)
{
    return run->sum + floor_sum_range(fd, run->off, run->len);
}

int floor_main(int argc, char **argv, uint64_t (*sum_image)(int fd))
{
    int fd;

    if (argc != 2)
        errx(EXIT_FAILURE, "usage: %s IMAGE", argv[0]);
    fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err(EXIT_FAILURE, "%s", argv[1]);
    printf("%" PRIu64 "\n", sum_image(fd));
    close(fd);
    return 0;
}
