/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/registry.h"

#include <string.h>

#include "formats/base/auto.h"
#include "formats/finding.h"
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

const struct vd_finding_kind *vd_finding_row(size_t i)
{
    const struct BlockDriver *drv;

    for (size_t d = 0; (drv = vd_driver_at(d)); d++) {
        if (i < drv->findings_n)
            return &drv->findings[i];
        i -= drv->findings_n;
    }
    return i < vd_image_findings_n ? &vd_image_findings[i] : NULL;
}

const struct vd_finding_kind *vd_finding_by_id(const char *id)
{
    const struct vd_finding_kind *row;

    for (size_t i = 0; (row = vd_finding_row(i)); i++)
        if (strcmp(row->id, id) == 0)
            return row;
    return NULL;
}
