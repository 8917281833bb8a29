/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/registry.h"

#include <string.h>

#include "formats/base/auto.h"
#include "formats/node/block.h"

#define VD_DRIVER(name) extern const struct BlockDriver vd_driver_##name;
#include "formats/drivers.def"
#undef VD_DRIVER

#define VD_DRIVER(name) &vd_driver_##name,
static const struct BlockDriver *const drivers[] = {
#include "formats/drivers.def"
};
#undef VD_DRIVER

const struct BlockDriver *vd_driver_at(size_t i)
{
    return i < VD_ARRAY_SIZE(drivers) ? drivers[i] : NULL;
}

const struct BlockDriver *vd_driver_by_name(const char *name)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(drivers); i++) {
        if (strcmp(drivers[i]->format_name, name) == 0)
            return drivers[i];
        if (drivers[i]->qemu_name && strcmp(drivers[i]->qemu_name, name) == 0)
            return drivers[i];
    }
    return NULL;
}

const struct BlockDriver *vd_driver_probe(const uint8_t *buf, size_t len, int64_t file_size, int *score)
{
    const struct BlockDriver *best = NULL;

    *score = 0;
    for (size_t i = 0; i < VD_ARRAY_SIZE(drivers); i++) {
        int sure = drivers[i]->bdrv_probe ? drivers[i]->bdrv_probe(buf, len, file_size) : 0;

        if (sure > *score) {
            *score = sure;
            best = drivers[i];
        }
    }
    return best;
}
