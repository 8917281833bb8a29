/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libFuzzer target: any bytes as an image. Opened live and read, checked, and repaired at every level on an
 * overlay; after a repair that is accepted a second check must not be worse, and nothing may crash, leak or
 * run away.
 */
#include <stdlib.h>

#include "formats/node/memory.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    vd_auto(BlockDriverState) file = vd_memory_new("fuzz", data, size, NULL);
    const struct BlockDriver *drv;

    for (size_t i = 0; file && (drv = vd_driver_at(i)); i++) {
        if (!drv->bdrv_co_check)
            continue;
        read_some(file, drv);
        for (enum vd_level level = VD_LEVEL_LEAKS; level <= VD_LEVEL_ALL; level++)
            repair(file, drv, level);
    }
    return 0;
}
