/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On-disk records as rows.
 *
 * A format lists the fields of a record beside the words of its specification:
 *
 *     #define QED_HEADER(F) F(LE32, 0, magic) F(LE32, 4, cluster_size) ...
 *     VD_DECLARE_LAYOUT(qed_header, QED_HEADER)      in a header: struct qed_header, host order
 *     VD_DEFINE_LAYOUT(qed_header, QED_HEADER, 64)   in one .c file: the rows, and how long the record is
 *
 * The same rows decode, encode, print and find a field by name. No bytes are ever cast to a struct.
 */
#ifndef VD_LAYOUT_H
#define VD_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vd_encoding { VD_U8, VD_LE16, VD_LE32, VD_LE64, VD_BE16, VD_BE32, VD_BE64 };

typedef uint8_t vd_host_U8;
typedef uint16_t vd_host_LE16, vd_host_BE16;
typedef uint32_t vd_host_LE32, vd_host_BE32;
typedef uint64_t vd_host_LE64, vd_host_BE64;

struct vd_field {
    const char *name;
    enum vd_encoding encoding;
    uint16_t offset; /* bytes into the record, on disk */
    uint16_t member; /* bytes into the struct */
};

struct vd_layout {
    const char *name;
    const struct vd_field *fields;
    size_t n;
    size_t disk_size; /* bytes */
};

#define VD_LAYOUT_MEMBER(encoding, offset, name) vd_host_##encoding name;
#define VD_DECLARE_LAYOUT(type, ROWS)                                                                        \
    struct type {                                                                                            \
        ROWS(VD_LAYOUT_MEMBER)                                                                               \
    };                                                                                                       \
    extern const struct vd_layout type##_layout;

#define VD_LAYOUT_ROW(encoding, offset, name)                                                                \
    {#name, VD_##encoding, offset, offsetof(struct VD_LAYOUT_TYPE, name)},

/* VD_LAYOUT_TYPE is defined by the caller as the struct's name, for offsetof. */
#define VD_DEFINE_LAYOUT(type, ROWS, size)                                                                   \
    static const struct vd_field type##_fields[] = {ROWS(VD_LAYOUT_ROW)};                                    \
    const struct vd_layout type##_layout = {#type, type##_fields,                                            \
                                            sizeof(type##_fields) / sizeof(type##_fields[0]), size};

/* Bytes of a field on disk. */
unsigned vd_field_bytes(const struct vd_field *field);

/* Fills the struct from disk_size bytes. */
void vd_decode(const struct vd_layout *layout, const uint8_t *bytes, void *record);

/* Writes the struct's fields into disk_size bytes; bytes that no row covers stay. */
void vd_encode(const struct vd_layout *layout, const void *record, uint8_t *bytes);

/* The field of a name, or NULL. */
const struct vd_field *vd_layout_find(const struct vd_layout *layout, const char *name);

/* A field's value in the struct. */
uint64_t vd_field_get(const struct vd_field *field, const void *record);

/* The first field in which `then` differs, with its value there, for people: "l1_size 0x10". NULL: in none.
 */
enum { VD_DIFFERENCE_TEXT = 64 };
const char *vd_layout_difference(const struct vd_layout *layout, const void *now, const void *then,
                                 char text[VD_DIFFERENCE_TEXT]);

#endif
