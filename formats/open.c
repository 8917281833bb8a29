/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/open.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/text.h"
#include "formats/node/file.h"
#include "formats/registry.h"

enum { PROBE_BYTES = 2048 };

static int stack(struct BlockDriverState **top, struct BlockDriverState *filter)
{
    if (!filter)
        return -1;
    bdrv_unref(*top);
    *top = filter;
    return 0;
}

static struct BlockDriverState *with_filters(struct BlockDriverState *file,
                                             const struct vd_open_options *opts, struct vd_err *err)
{
    vd_auto(BlockDriverState) top = file;

    if (opts->fault) {
        if (stack(&top, vd_fault_new(top, err)) < 0 || vd_fault_add(top, opts->fault, err) < 0)
            return NULL;
    }
    if ((opts->throttle.bps || opts->throttle.iops) &&
        stack(&top, vd_throttle_new(top, &opts->throttle, err)) < 0)
        return NULL;
    if (opts->stats && stack(&top, vd_stats_new(top, opts->stats, err)) < 0)
        return NULL;
    return vd_take(&top);
}

struct BlockDriverState *vd_open_file(const char *path, const struct vd_open_options *opts,
                                      struct vd_err *err)
{
    struct BlockDriverState *file = vd_file_open(path, opts->flags, err);

    return file ? with_filters(file, opts, err) : NULL;
}

const struct BlockDriver *vd_choose_driver(struct BlockDriverState *file, const char *name, int *score,
                                           struct vd_err *err)
{
    const struct BlockDriver *drv;
    uint8_t bytes[PROBE_BYTES];
    int64_t len = bdrv_getlength(file, err), n;

    *score = 100;
    if (len < 0)
        return NULL;
    if (name) {
        drv = vd_driver_by_name(name);
        if (!drv)
            vd_fail(err, VD_ERR_USAGE, 0,
                    "'%s' is no format that vdcheck knows (`vdcheck formats` lists them)", name);
        return drv;
    }
    n = len < PROBE_BYTES ? len : PROBE_BYTES;
    if (bdrv_pread(file, 0, n, bytes, err) < 0)
        return NULL;
    drv = vd_driver_probe(bytes, (size_t)n, len, score);
    if (!drv)
        vd_fail(err, VD_ERR_UNSUPPORTED, 0,
                "%s: no format that vdcheck knows (a raw disk needs --format=raw, and an image whose first "
                "bytes are lost its --format, too)",
                file->filename);
    return drv;
}

static const struct BlockDriver *backing_driver(struct BlockDriverState *bs, struct BlockDriverState *file,
                                                struct vd_err *err)
{
    struct vd_err why = VD_ERR_INIT;
    const struct BlockDriver *drv;
    int score;

    if (bs->backing_format)
        return vd_choose_driver(file, bs->backing_format, &score, err);
    drv = vd_choose_driver(file, NULL, &score, &why);
    /* As in QEMU: what no format knows is raw. A half-sure answer is none. */
    if (!drv && why.kind != VD_ERR_UNSUPPORTED) {
        *err = why;
        return NULL;
    }
    return drv && score == 100 ? drv : vd_driver_by_name("raw");
}

/* Which file is the backing file of bs? Asked before it is opened: our own locks would be in the way. */
static bool find_backing(struct BlockDriverState *bs, const struct vd_gate *gate, struct stat *st)
{
    vd_auto_mem char *path = NULL;
    struct vd_err ignored = VD_ERR_INIT;

    return vd_gate_find(gate, bs->filename, bs->backing_file, bs->backing_file_len, &path, &ignored) ==
               VD_GATE_OPEN &&
           stat(path, st) == 0;
}

static bool is_file(struct BlockDriverState *bs, const struct stat *st)
{
    struct BlockDriverState *file = bdrv_protocol(bs);

    return file->drv == &vd_file_driver && vd_file_stat(file)->st_dev == st->st_dev &&
           vd_file_stat(file)->st_ino == st->st_ino;
}

static int fail_loop(struct BlockDriverState *bs, struct vd_err *err)
{
    char name[160];

    return vd_fail(err, VD_ERR_FORMAT, 0, "'%s' is already part of the chain",
                   vd_text_copy(name, sizeof(name), bs->backing_file, bs->backing_file_len));
}

/* Was only writing refused? Then there is still something to look at, and a repair that needs no write there.
 */
static bool refuses_writing(const struct vd_open_options *opts, const struct vd_err *err)
{
    return (opts->flags & BDRV_O_RDWR) && err->kind == VD_ERR_IO &&
           (err->errnum == EACCES || err->errnum == EPERM || err->errnum == EROFS);
}

/* Then the refusal is none yet: it is told when something has to be written. */
static void forget_refusal(struct vd_err *err)
{
    *err = (struct vd_err)VD_ERR_INIT;
}

/* Opens the backing file that bs names, through the gate. NULL with the answer in *answer. */
static struct BlockDriverState *open_named(struct BlockDriverState *bs, const struct vd_open_options *opts,
                                           enum vd_gate_answer *answer, struct vd_err *err)
{
    vd_auto_mem char *path = NULL;
    struct BlockDriverState *file;

    *answer = vd_gate_find(&opts->gate, bs->filename, bs->backing_file, bs->backing_file_len, &path, err);
    if (*answer != VD_GATE_OPEN)
        return NULL;
    file = vd_gate_open(path, opts->flags & (BDRV_O_RDWR | BDRV_O_FORCE_SHARE | BDRV_O_GENTLE), err);
    if (!file && refuses_writing(opts, err)) {
        forget_refusal(err);
        file = vd_gate_open(path, 0, err);
    }
    return file ? with_filters(file, opts, err) : NULL;
}

int vd_open_data(struct BlockDriverState *bs, const struct vd_open_options *opts, struct vd_err *err)
{
    struct vd_open_options below = *opts;
    vd_auto_mem char *path = NULL;
    struct BlockDriverState *file = NULL;
    struct stat st;

    if (!bs->data_file)
        return 0;
    below.fault = NULL;
    if (vd_gate_find(&opts->gate, bs->filename, bs->data_file, strlen(bs->data_file), &path, err) ==
        VD_GATE_OPEN) {
        if (stat(path, &st) == 0 && is_file(bs, &st))
            vd_fail(err, VD_ERR_FORMAT, 0, "it is the image itself");
        else
            file = vd_gate_open(path, opts->flags & (BDRV_O_RDWR | BDRV_O_FORCE_SHARE | BDRV_O_GENTLE), err);
    }
    bs->data = file ? with_filters(file, &below, err) : NULL;
    return bs->data ? 0 : vd_while(err, "%s: data file", bs->filename);
}

static int open_backing(struct BlockDriverState *bs, struct BlockDriverState *top, unsigned depth,
                        const struct vd_open_options *opts, struct vd_err *err)
{
    struct vd_open_options ro = *opts;
    vd_auto(BlockDriverState) file = NULL;
    const struct BlockDriver *drv;
    enum vd_gate_answer answer;
    struct stat st;

    if (!bs->backing_file)
        return 0;
    if (depth == 0)
        return vd_fail(err, VD_ERR_LIMIT, 0, "%s: the backing chain is longer than %d files", top->filename,
                       VD_BUDGET_DEPTH);
    for (struct BlockDriverState *n = find_backing(bs, &opts->gate, &st) ? top : NULL; n; n = n->backing)
        if (is_file(n, &st)) {
            fail_loop(bs, err);
            return vd_while(err, "%s: backing file", bs->filename);
        }
    ro.flags &= BDRV_O_FORCE_SHARE;
    ro.fault = NULL;
    file = open_named(bs, &ro, &answer, err);
    if (!file)
        return vd_while(err, "%s: backing file", bs->filename);
    drv = backing_driver(bs, file, err);
    if (!drv)
        return -1;
    bs->backing = bdrv_open_node(drv, file, ro.flags, err);
    if (!bs->backing || vd_open_data(bs->backing, &ro, err) < 0)
        return vd_while(err, "%s: backing file", bs->filename);
    return open_backing(bs->backing, top, depth - 1, opts, err);
}

int vd_open_backing(struct BlockDriverState *bs, const struct vd_open_options *opts, struct vd_err *err)
{
    return open_backing(bs, bs, VD_BUDGET_DEPTH, opts, err);
}

struct BlockDriverState *vd_open_image(const char *path, const struct vd_open_options *opts,
                                       struct vd_err *err)
{
    vd_auto(BlockDriverState) file = vd_open_file(path, opts, err);
    vd_auto(BlockDriverState) bs = NULL;
    const struct BlockDriver *drv;
    int score;

    if (!file)
        return NULL;
    drv = vd_choose_driver(file, opts->format, &score, err);
    if (!drv)
        return NULL;
    bs = bdrv_open_node(drv, file, opts->flags, err);
    if (!bs || vd_open_data(bs, opts, err) < 0 || vd_open_backing(bs, opts, err) < 0)
        return NULL;
    return vd_take(&bs);
}

/* ---- chains */

/* Where does the image's data lie, if not in the image? */
static void look_up_data_file(struct vd_chain_link *link, const struct vd_gate *gate)
{
    static const int states[] = {[VD_GATE_OPEN] = VD_FILE_FOUND,
                                 [VD_GATE_MISSING] = VD_FILE_MISSING,
                                 [VD_GATE_REFUSED] = VD_FILE_REFUSED};
    struct vd_named_file *file = &link->data_file;
    vd_auto_mem char *path = NULL;
    struct vd_err why = VD_ERR_INIT;
    struct stat st;

    if (!link->bs->data_file)
        return;
    file->state = states[vd_gate_find(gate, link->bs->filename, link->bs->data_file,
                                      strlen(link->bs->data_file), &path, &why)];
    snprintf(file->why, sizeof(file->why), "%.*s", (int)sizeof(file->why) - 1, why.story);
    if (file->state == VD_FILE_FOUND && stat(path, &st) == 0)
        file->size = (uint64_t)st.st_size;
}

/* Adds a file, opened but not yet counted, to the chain. */
static int add_link(struct vd_chain_vec *chain, struct BlockDriverState *file, const struct BlockDriver *drv,
                    const struct vd_open_options *opts, struct vd_err *err)
{
    struct vd_chain_link link = {.end = VD_CHAIN_IS_BASE, .backing_size = -1};
    vd_auto_mem struct vd_io_stats *io = calloc(1, sizeof(*io));
    vd_auto(BlockDriverState) counted = io ? vd_stats_new(file, io, err) : NULL;

    if (!io)
        return vd_fail_memory(err);
    link.io = io;
    link.bs = counted ? bdrv_open_node(drv, counted, opts->flags | BDRV_O_CHECK, err) : NULL;
    if (!link.bs)
        return -1;
    look_up_data_file(&link, &opts->gate);
    if (vd_chain_vec_push(chain, link) < 0) {
        bdrv_unref(link.bs);
        return vd_fail_memory(err);
    }
    (void)vd_take(&io);
    return 0;
}

static void end_chain(struct vd_chain_link *link, enum vd_chain_end end, const struct vd_err *why)
{
    link->end = end;
    snprintf(link->why, sizeof(link->why), "%.*s", (int)sizeof(link->why) - 1, why->story);
}

static bool comes_back(const struct vd_chain_vec *chain, const struct vd_gate *gate, struct vd_err *why)
{
    struct BlockDriverState *bs = chain->v[chain->n - 1].bs;
    struct stat st;

    if (!find_backing(bs, gate, &st))
        return false;
    for (size_t i = 0; i < chain->n; i++)
        if (is_file(chain->v[i].bs, &st)) {
            fail_loop(bs, why);
            return true;
        }
    return false;
}

static void compare_formats(struct vd_chain_link *link, struct BlockDriverState *file)
{
    struct vd_err ignored = VD_ERR_INIT;
    const struct BlockDriver *drv;
    int score;

    if (!link->bs->backing_format)
        return;
    drv = vd_choose_driver(file, NULL, &score, &ignored);
    if (drv && score == 100 && drv != vd_driver_by_name(link->bs->backing_format))
        link->found_format = drv;
}

/* Follows the last link one step. 1: the chain goes on, 0: it ends here, -1: error. */
static int follow(struct vd_chain_vec *chain, const struct vd_open_options *opts, struct vd_err *err)
{
    struct vd_chain_link *last = &chain->v[chain->n - 1];
    vd_auto(BlockDriverState) file = NULL;
    const struct BlockDriver *drv;
    enum vd_gate_answer answer;
    struct vd_err why = VD_ERR_INIT;

    if (!last->bs->backing_file)
        return 0;
    if (comes_back(chain, &opts->gate, &why)) {
        end_chain(last, VD_CHAIN_LOOP, &why);
        return 0;
    }
    file = open_named(last->bs, opts, &answer, &why);
    if (!file) {
        if (answer == VD_GATE_OPEN) {
            *err = why;
            return -1;
        }
        end_chain(last, answer == VD_GATE_MISSING ? VD_CHAIN_MISSING : VD_CHAIN_REFUSED, &why);
        return 0;
    }
    compare_formats(last, file);
    drv = backing_driver(last->bs, file, err);
    if (!drv || add_link(chain, file, drv, opts, err) < 0)
        return -1;
    last = &chain->v[chain->n - 2];
    last->end = VD_CHAIN_GOES_ON;
    last->backing_size = bdrv_getlength(chain->v[chain->n - 1].bs, err);
    return 1;
}

/* Without opening it: is the backing file there, may it be followed, and is it another? */
static void look_up(const struct vd_chain_vec *chain, const struct vd_gate *gate)
{
    struct vd_chain_link *link = &chain->v[0];
    vd_auto_mem char *path = NULL;
    struct vd_err why = VD_ERR_INIT;

    if (!link->bs->backing_file)
        return;
    if (comes_back(chain, gate, &why)) {
        end_chain(link, VD_CHAIN_LOOP, &why);
        return;
    }
    switch (vd_gate_find(gate, link->bs->filename, link->bs->backing_file, link->bs->backing_file_len, &path,
                         &why)) {
    case VD_GATE_OPEN:
        link->end = VD_CHAIN_GOES_ON;
        break;
    case VD_GATE_MISSING:
        end_chain(link, VD_CHAIN_MISSING, &why);
        break;
    case VD_GATE_REFUSED:
        end_chain(link, VD_CHAIN_REFUSED, &why);
        break;
    }
}

static struct BlockDriverState *open_first(const char *path, const struct vd_open_options *opts,
                                           struct vd_err *err)
{
    struct vd_open_options ro = *opts;
    struct BlockDriverState *file = vd_open_file(path, opts, err);

    if (file || !refuses_writing(opts, err))
        return file;
    ro.flags &= ~BDRV_O_RDWR;
    forget_refusal(err);
    return vd_open_file(path, &ro, err);
}

int vd_open_chain(const char *path, const struct vd_open_options *opts, bool only_first, unsigned depth,
                  struct vd_chain_vec *chain, struct vd_err *err)
{
    vd_auto(BlockDriverState) file = open_first(path, opts, err);
    struct vd_open_options below = *opts;
    const struct BlockDriver *drv;
    int score, goes_on = 1;

    if (!file)
        return -1;
    drv = vd_choose_driver(file, opts->format, &score, err);
    if (!drv || add_link(chain, file, drv, opts, err) < 0)
        return -1;
    if (only_first) {
        look_up(chain, &opts->gate);
        return 0;
    }
    below.fault = NULL;
    while ((goes_on = follow(chain, &below, err)) > 0)
        if (chain->n > depth)
            return vd_fail(err, VD_ERR_LIMIT, 0, "%s: the backing chain is longer than %u files", path,
                           depth);
    return goes_on;
}

void vd_chain_free(struct vd_chain_vec *chain)
{
    for (size_t i = 0; i < chain->n; i++) {
        bdrv_unref(chain->v[i].bs);
        free(chain->v[i].io);
    }
    vd_chain_vec_done(chain);
}

static void judge_sizes(struct vd_check *ck, const struct vd_chain_link *link)
{
    uint64_t ours = (uint64_t)link->bs->total_bytes, theirs = (uint64_t)link->backing_size;

    if (link->backing_size < 0)
        return;
    if (theirs > ours)
        vd_found(ck, VD_IMAGE_BACKING_LARGER, .found = theirs, .expected = ours);
    if (theirs < ours)
        vd_found(ck, VD_IMAGE_BACKING_SMALLER, .found = theirs, .expected = ours);
}

void vd_judge_link(struct vd_check *ck, const struct vd_chain_link *link, bool whole_chain)
{
    if (link->data_file.state == VD_FILE_REFUSED)
        vd_found(ck, VD_IMAGE_REFERENCE_REFUSED, .found_text = link->data_file.why);
    if (!link->bs->backing_file)
        return;
    switch (link->end) {
    case VD_CHAIN_MISSING:
        vd_found(ck, VD_IMAGE_BACKING_MISSING, .found_text = link->why,
                 .severity = whole_chain ? VD_ERROR : 0);
        break;
    case VD_CHAIN_REFUSED:
        vd_found(ck, VD_IMAGE_REFERENCE_REFUSED, .found_text = link->why,
                 .severity = whole_chain ? VD_ERROR : 0);
        break;
    case VD_CHAIN_LOOP:
        vd_found(ck, VD_IMAGE_BACKING_LOOP, .found_text = link->why);
        break;
    case VD_CHAIN_GOES_ON:
    case VD_CHAIN_IS_BASE:
        break;
    }
    if (link->found_format)
        vd_found(ck, VD_IMAGE_BACKING_FORMAT_MISMATCH, .found_text = link->found_format->format_name,
                 .expected_text = link->bs->backing_format);
    judge_sizes(ck, link);
}
