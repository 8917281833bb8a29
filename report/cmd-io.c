/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck io [-r] [-f NAME] -c 'COMMAND' [-c ...] FILE: a live open for people and scripts.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "formats/base/text.h"
#include "formats/registry.h"
#include "repair/live.h"
#include "report/cli.h"
#include "report/status.h"

enum { MOST_WORDS = 8, PIECE = 1 << 20 };

struct io {
    struct vd_cli *cli;
    struct BlockDriverState *bs;
    int pattern; /* -1: none */
    int64_t offset, length;
    struct vd_err err;
};

/* ---- the commands; -1 with io->err, or a usage story in it */

static int bad_words(struct io *io, const char *expected)
{
    return vd_fail(&io->err, VD_ERR_USAGE, 0, "expected: %s", expected);
}

/* "[-P BYTE] OFFSET LENGTH" */
static int take_range(struct io *io, char **words, int n)
{
    int64_t pattern;

    io->pattern = -1;
    if (n >= 2 && strcmp(words[0], "-P") == 0) {
        if (!vd_text_parse_size(words[1], &pattern) || pattern > 255)
            return bad_words(io, "-P BYTE, from 0 to 0xff");
        io->pattern = (int)pattern;
        words += 2;
        n -= 2;
    }
    if (n != 2 || !vd_text_parse_size(words[0], &io->offset) || !vd_text_parse_size(words[1], &io->length))
        return bad_words(io, "[-P BYTE] OFFSET LENGTH");
    if (io->offset > io->bs->total_bytes || io->length > io->bs->total_bytes - io->offset)
        return vd_fail(&io->err, VD_ERR_USAGE, 0, "the disk ends at 0x%" PRIx64,
                       (uint64_t)io->bs->total_bytes);
    return 0;
}

static int verify_pattern(struct io *io, const uint8_t *buf, int64_t at, int64_t n)
{
    for (int64_t i = 0; io->pattern >= 0 && i < n; i++)
        if (buf[i] != io->pattern)
            return vd_fail(&io->err, VD_ERR_FORMAT, 0, "guest byte 0x%" PRIx64 " is 0x%02x, expected 0x%02x",
                           (uint64_t)(at + i), buf[i], io->pattern);
    return 0;
}

static int in_pieces(struct io *io, int (*fn)(struct io *io, uint8_t *buf, int64_t at, int64_t n))
{
    vd_auto_mem uint8_t *buf = malloc(PIECE);
    char size[VD_TEXT_SIZE_MAX];

    if (!buf)
        return vd_fail_memory(&io->err);
    memset(buf, io->pattern >= 0 ? io->pattern : 0xcd, PIECE);
    for (int64_t done = 0; done < io->length;) {
        int64_t n = io->length - done < PIECE ? io->length - done : PIECE;

        if (fn(io, buf, io->offset + done, n) < 0)
            return -1;
        done += n;
    }
    if (!io->cli->quiet)
        printf("%s at 0x%" PRIx64 "\n", vd_text_size(size, (uint64_t)io->length), (uint64_t)io->offset);
    return 0;
}

static int read_piece(struct io *io, uint8_t *buf, int64_t at, int64_t n)
{
    return bdrv_pread(io->bs, at, n, buf, &io->err) < 0 ? -1 : verify_pattern(io, buf, at, n);
}

static int write_piece(struct io *io, uint8_t *buf, int64_t at, int64_t n)
{
    return bdrv_pwrite(io->bs, at, n, buf, VD_STAGE_NEW, &io->err);
}

static int do_read(struct io *io, char **words, int n)
{
    return take_range(io, words, n) < 0 ? -1 : in_pieces(io, read_piece);
}

static int do_write(struct io *io, char **words, int n)
{
    return take_range(io, words, n) < 0 ? -1 : in_pieces(io, write_piece);
}

static int do_zero(struct io *io, char **words, int n)
{
    if (take_range(io, words, n) < 0)
        return -1;
    return bdrv_pwrite_zeroes(io->bs, io->offset, io->length, VD_STAGE_NEW, &io->err);
}

static int do_truncate(struct io *io, char **words, int n)
{
    int64_t size;

    if (n != 1 || !vd_text_parse_size(words[0], &size))
        return bad_words(io, "SIZE");
    return bdrv_truncate(io->bs, size, &io->err);
}

static int do_flush(struct io *io, char **words, int n)
{
    (void)words;
    return n ? bad_words(io, "no words") : bdrv_flush(io->bs->file, &io->err);
}

static int do_map(struct io *io, char **words, int n)
{
    (void)words;
    if (n)
        return bad_words(io, "no words");
    for (int64_t at = 0, pnum; at < io->bs->total_bytes; at += pnum) {
        int64_t map = 0;
        int status = bdrv_block_status(io->bs, at, io->bs->total_bytes - at, &pnum, &map, &io->err);

        if (status < 0)
            return -1;
        printf("0x%" PRIx64 " 0x%" PRIx64 " %s\n", (uint64_t)at, (uint64_t)pnum,
               status & BDRV_BLOCK_DATA   ? "data"
               : status & BDRV_BLOCK_ZERO ? "zero"
                                          : "backing");
    }
    return 0;
}

static int do_rebase(struct io *io, char **words, int n)
{
    if (n > 2)
        return bad_words(io, "[FILE [FORMAT]]");
    if (n > 1 && !vd_driver_by_name(words[1]))
        return vd_fail(&io->err, VD_ERR_USAGE, 0, "'%s' is no format (`vdcheck formats` lists them)",
                       words[1]);
    if (!io->bs->drv->bdrv_change_backing_file)
        return vd_fail(&io->err, VD_ERR_UNSUPPORTED, 0, "%s has no backing file", io->bs->drv->format_name);
    return io->bs->drv->bdrv_change_backing_file(io->bs, n ? words[0] : NULL, n > 1 ? words[1] : NULL,
                                                 &io->err);
}

/* A pause, after which what a quiet image does by itself is done. */
static int do_sleep(struct io *io, char **words, int n)
{
    int64_t ms;
    struct timespec ts;

    if (n != 1 || !vd_text_parse_size(words[0], &ms))
        return bad_words(io, "MILLISECONDS");
    ts = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&ts, NULL);
    return io->bs->drv->bdrv_co_idle ? io->bs->drv->bdrv_co_idle(io->bs, ms, &io->err) : 0;
}

static const struct {
    const char *word;
    int (*run)(struct io *io, char **words, int n);
} io_commands[] = {
    {"read",     do_read    },
    {"write",    do_write   },
    {"zero",     do_zero    },
    {"truncate", do_truncate},
    {"flush",    do_flush   },
    {"map",      do_map     },
    {"rebase",   do_rebase  },
    {"sleep",    do_sleep   }
};

static int run_command(struct io *io, const char *command)
{
    vd_auto_mem char *copy = strdup(command);
    char *words[MOST_WORDS], *save = NULL;
    int n = 0;

    if (!copy)
        return vd_fail_memory(&io->err);
    for (char *w = strtok_r(copy, " \t", &save); w && n < MOST_WORDS; w = strtok_r(NULL, " \t", &save))
        words[n++] = w;
    for (size_t i = 0; n && i < VD_ARRAY_SIZE(io_commands); i++)
        if (strcmp(words[0], io_commands[i].word) == 0)
            return io_commands[i].run(io, words + 1, n - 1) < 0 ? vd_while(&io->err, "%s", command) : 0;
    return vd_fail(&io->err, VD_ERR_USAGE, 0,
                   "'%s': no such io command (read, write, zero, truncate, flush, map,"
                   " rebase, sleep)",
                   command);
}

int vd_cmd_io(struct vd_cli *cli)
{
    struct vd_open_options opts = vd_cli_open_options(cli, cli->read_only ? 0 : BDRV_O_RDWR);
    struct vd_progress progress = {0};
    struct vd_budget budget = vd_cli_budget(cli, &progress);
    struct io io = {.cli = cli};
    struct vd_live_answer answer;
    int status = vd_cli_refuse_undo_file(cli);

    if (status)
        return status;
    if (cli->words_n != 1 || !cli->io_commands.n)
        return vd_cli_usage(cli, "one image and at least one -c 'COMMAND' expected");
    io.bs = vd_live_open(cli->words[0], &opts, cli->undo_file, &budget, &answer, &io.err);
    if (!io.bs)
        return vd_cli_fail(&io.err);
    if (answer.was_repaired && !cli->quiet)
        fprintf(stderr, "vdcheck: the image was not closed cleanly; it was checked and repaired first\n");
    else if (answer.was_dirty && !cli->quiet)
        fprintf(stderr, "vdcheck: the image was not closed cleanly; it is read as it is\n");
    for (size_t i = 0; i < cli->io_commands.n && status == 0; i++)
        if (run_command(&io, cli->io_commands.v[i]) < 0)
            status = vd_cli_fail(&io.err);
    if (vd_live_close(io.bs, &io.err) < 0 && status == 0)
        status = vd_cli_fail(&io.err);
    return status;
}
