/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/base/bytes.h"

unsigned vd_field_bytes(const struct vd_field *field)
{
    static const unsigned bytes[] = {[VD_U8] = 1,   [VD_LE16] = 2, [VD_LE32] = 4, [VD_LE64] = 8,
                                     [VD_BE16] = 2, [VD_BE32] = 4, [VD_BE64] = 8};

    return bytes[field->encoding];
}

static uint64_t get_disk(enum vd_encoding encoding, const uint8_t *p)
{
    switch (encoding) {
    case VD_U8:
        return *p;
    case VD_LE16:
        return vd_get_le16(p);
    case VD_LE32:
        return vd_get_le32(p);
    case VD_LE64:
        return vd_get_le64(p);
    case VD_BE16:
        return vd_get_be16(p);
    case VD_BE32:
        return vd_get_be32(p);
    case VD_BE64:
        return vd_get_be64(p);
    }
    return 0;
}

static void put_disk(enum vd_encoding encoding, uint8_t *p, uint64_t v)
{
    switch (encoding) {
    case VD_U8:
        *p = (uint8_t)v;
        break;
    case VD_LE16:
        vd_put_le16(p, (uint16_t)v);
        break;
    case VD_LE32:
        vd_put_le32(p, (uint32_t)v);
        break;
    case VD_LE64:
        vd_put_le64(p, v);
        break;
    case VD_BE16:
        vd_put_be16(p, (uint16_t)v);
        break;
    case VD_BE32:
        vd_put_be32(p, (uint32_t)v);
        break;
    case VD_BE64:
        vd_put_be64(p, v);
        break;
    }
}

static void put_host(const struct vd_field *field, void *record, uint64_t v)
{
    uint8_t *p = (uint8_t *)record + field->member;
    uint16_t v16 = (uint16_t)v;
    uint32_t v32 = (uint32_t)v;

    switch (vd_field_bytes(field)) {
    case 1:
        *p = (uint8_t)v;
        break;
    case 2:
        memcpy(p, &v16, 2);
        break;
    case 4:
        memcpy(p, &v32, 4);
        break;
    default:
        memcpy(p, &v, 8);
    }
}

uint64_t vd_field_get(const struct vd_field *field, const void *record)
{
    const uint8_t *p = (const uint8_t *)record + field->member;
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;

    switch (vd_field_bytes(field)) {
    case 1:
        return *p;
    case 2:
        memcpy(&v16, p, 2);
        return v16;
    case 4:
        memcpy(&v32, p, 4);
        return v32;
    default:
        memcpy(&v64, p, 8);
        return v64;
    }
}

void vd_decode(const struct vd_layout *layout, const uint8_t *bytes, void *record)
{
    for (size_t i = 0; i < layout->n; i++) {
        const struct vd_field *field = &layout->fields[i];

        put_host(field, record, get_disk(field->encoding, bytes + field->offset));
    }
}

void vd_encode(const struct vd_layout *layout, const void *record, uint8_t *bytes)
{
    for (size_t i = 0; i < layout->n; i++) {
        const struct vd_field *field = &layout->fields[i];

        put_disk(field->encoding, bytes + field->offset, vd_field_get(field, record));
    }
}

const struct vd_field *vd_layout_find(const struct vd_layout *layout, const char *name)
{
    for (size_t i = 0; i < layout->n; i++)
        if (strcmp(layout->fields[i].name, name) == 0)
            return &layout->fields[i];
    return NULL;
}

const char *vd_layout_difference(const struct vd_layout *layout, const void *now, const void *then,
                                 char text[VD_DIFFERENCE_TEXT])
{
    for (size_t i = 0; i < layout->n; i++) {
        const struct vd_field *field = &layout->fields[i];

        if (vd_field_get(field, now) == vd_field_get(field, then))
            continue;
        snprintf(text, VD_DIFFERENCE_TEXT, "%s 0x%" PRIx64, field->name, vd_field_get(field, then));
        return text;
    }
    return NULL;
}
