/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a format tells of an image beyond what all formats have: named values, in the order in which they are
 * told, and lists whose items have values of their own (snapshots, bitmaps).
 */
#ifndef VD_INFO_H
#define VD_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vd_info_type { VD_INFO_NUMBER, VD_INFO_BYTES, VD_INFO_OFFSET, VD_INFO_BOOL, VD_INFO_TEXT };

struct vd_info {
    /* Called for each value. text is borrowed for the call; number serves the other types. */
    void (*tell)(void *opaque, const char *name, enum vd_info_type type, uint64_t number, const char *text);
    /* A new item of a list begins, and what is told next belongs to it. */
    void (*begin_item)(void *opaque, const char *list);
    void *opaque;
};

static inline void vd_tell_number(struct vd_info *info, const char *name, enum vd_info_type type,
                                  uint64_t number)
{
    info->tell(info->opaque, name, type, number, NULL);
}

static inline void vd_tell_text(struct vd_info *info, const char *name, const char *text)
{
    info->tell(info->opaque, name, VD_INFO_TEXT, 0, text);
}

static inline void vd_tell_item(struct vd_info *info, const char *list)
{
    info->begin_item(info->opaque, list);
}

#endif
