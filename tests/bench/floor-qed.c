/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The floor under every check of a QED image: reads header, L1 and all L2 tables and sums their words.
 *
 * It judges nothing, so no checker that reads the same metadata can be faster. Preads of 256 KiB go into one
 * reused buffer that stays in the cache; neighbouring tables are joined. It trusts the image: only for what
 * gen-qed wrote.
 */
#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BUFFER = 256 << 10,
    HEADER = 64,
    MAGIC = 0x00444551,
    AT_MAGIC = 0, /* in 32-bit words */
    AT_CLUSTER = 1,
    AT_TABLE = 2,
    AT_L1 = 5, /* in 64-bit words */
    LARGEST_TABLE = 1 << 30,
};

static void pread_all(int fd, void *buf, uint64_t len, uint64_t off)
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

static uint64_t sum_words(const uint64_t *words, uint64_t n)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < n; i++)
        sum += le64toh(words[i]);
    return sum;
}

static uint64_t sum_range(int fd, uint64_t off, uint64_t len)
{
    uint64_t buf[BUFFER / sizeof(uint64_t)];
    uint64_t sum = 0;

    while (len) {
        uint64_t n = len < BUFFER ? len : BUFFER;

        pread_all(fd, buf, n, off);
        sum += sum_words(buf, n / sizeof(uint64_t));
        off += n;
        len -= n;
    }
    return sum;
}

static uint64_t sum_l2_tables(int fd, const uint64_t *l1, uint64_t table_bytes)
{
    uint64_t sum = 0, off = 0, len = 0;

    for (uint64_t i = 0; i < table_bytes / sizeof(*l1); i++) {
        uint64_t table_off = le64toh(l1[i]);

        if (!table_off)
            continue;
        if (table_off != off + len) {
            sum += sum_range(fd, off, len);
            off = table_off;
            len = 0;
        }
        len += table_bytes;
    }
    return sum + sum_range(fd, off, len);
}

static uint64_t sum_image(int fd)
{
    union {
        uint32_t w32[HEADER / 4];
        uint64_t w64[HEADER / 8];
    } header;
    uint64_t table_bytes, sum, *l1;

    pread_all(fd, &header, sizeof(header), 0);
    table_bytes = (uint64_t)le32toh(header.w32[AT_CLUSTER]) * le32toh(header.w32[AT_TABLE]);
    if (le32toh(header.w32[AT_MAGIC]) != MAGIC || table_bytes == 0 || table_bytes > LARGEST_TABLE)
        errx(EXIT_FAILURE, "not a QED image");
    l1 = malloc(table_bytes);
    if (!l1)
        err(EXIT_FAILURE, "no memory for the L1 table");
    pread_all(fd, l1, table_bytes, le64toh(header.w64[AT_L1]));
    sum = sum_words(header.w64, HEADER / 8) + sum_words(l1, table_bytes / sizeof(*l1));
    sum += sum_l2_tables(fd, l1, table_bytes);
    free(l1);
    return sum;
}

int main(int argc, char **argv)
{
    int fd;

    if (argc != 2)
        errx(EXIT_FAILURE, "usage: floor-qed IMAGE");
    fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err(EXIT_FAILURE, "%s", argv[1]);
    printf("%" PRIu64 "\n", sum_image(fd));
    close(fd);
    return 0;
}
