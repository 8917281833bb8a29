/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as an image. Opened live and read, checked, and repaired on an overlay, at a
 * level that the last byte says; after a repair that is accepted a second check must not be worse, and
 * nothing may crash, leak or run away.
 */
#include <stdlib.h>

#include "formats/node/memory.h"
#include "formats/open.h"
#include "formats/registry.h"
#include "repair/transaction.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_some(struct BlockDriverState *file, const struct BlockDriver *drv)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) bs = bdrv_open_node(drv, file, 0, &err);
    uint8_t buf[4096];

    for (int64_t at = 0; bs && at < bs->total_bytes && at < 1 << 20; at += 65536) {
        int64_t n = bs->total_bytes - at < (int64_t)sizeof(buf) ? bs->total_bytes - at : (int64_t)sizeof(buf);

        (void)bdrv_pread(bs, at, n, buf, NULL);
    }
}

static void repair(struct BlockDriverState *file, const struct BlockDriver *drv, enum vd_level level)
{
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_transaction_options opts = {.plan = {.level = level}, .budget = &budget};
    struct vd_work work = {.file = file, .drv = drv};
    struct vd_err err = VD_ERR_INIT;

    budget.memory = 64 << 20;
    if (vd_work_prepare(&work, &opts, &err) == 0)
        (void)vd_work_settle(&work, &err);
    vd_work_done(&work);
}

/* The driver that knows the image by its magic; where none does, what is asked for as any of them. */
static bool is_for(const struct BlockDriver *drv, const struct BlockDriver *known)
{
    return drv->bdrv_co_check && (!known || !known->bdrv_co_check || drv == known);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    vd_auto(BlockDriverState) file = vd_memory_new("fuzz", data, size, NULL);
    const struct BlockDriver *drv, *known = NULL;
    /* One level an input: the fuzzer has many of each. */
    enum vd_level level =
        (enum vd_level)(VD_LEVEL_LEAKS + (size ? data[size - 1] : 0) % (VD_LEVEL_ALL - VD_LEVEL_LEAKS + 1));
    int score;

    if (file)
        known = vd_choose_driver(file, NULL, &score, NULL);
    for (size_t i = 0; file && (drv = vd_driver_at(i)); i++) {
        if (!is_for(drv, known))
            continue;
        read_some(file, drv);
        repair(file, drv, level);
    }
    return 0;
}
