/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QED header, field by field. All numbers are little-endian.
 */
#ifndef VD_QED_LAYOUT_H
#define VD_QED_LAYOUT_H

#include "formats/layout.h"

#define QED_HEADER(F)                                                                                        \
    F(LE32, 0, magic)                    /* "QED\0" */                                                       \
    F(LE32, 4, cluster_size)             /* bytes; a power of two from 4 KiB to 64 MiB */                    \
    F(LE32, 8, table_size)               /* clusters of an L1 or L2 table; 1, 2, 4, 8 or 16 */               \
    F(LE32, 12, header_size)             /* clusters of the header area; at least 1 */                       \
    F(LE64, 16, features)                /* incompatible: unknown bits forbid to open */                     \
    F(LE64, 24, compat_features)         /* unknown bits are kept */                                         \
    F(LE64, 32, autoclear_features)      /* unknown bits are cleared before the first write */               \
    F(LE64, 40, l1_table_offset)         /* bytes; a multiple of cluster_size */                             \
    F(LE64, 48, image_size)              /* guest bytes; a multiple of 512 */                                \
    F(LE32, 56, backing_filename_offset) /* bytes from the start of the file */                              \
    F(LE32, 60, backing_filename_size)   /* bytes, without NUL */

VD_DECLARE_LAYOUT(qed_header, QED_HEADER)

enum {
    QED_HEADER_BYTES = 64,
    QED_MAGIC = 0x00444551,
    QED_MIN_CLUSTER_SIZE = 4096,
    QED_MAX_CLUSTER_SIZE = 64 << 20,
    QED_DEFAULT_CLUSTER_SIZE = 65536,
    QED_MAX_TABLE_SIZE = 16,
    QED_DEFAULT_TABLE_SIZE = 4,
    QED_SECTOR = 512,
    QED_MAX_BACKING_NAME = 4096,     /* from this length on no program opens the image */
    QED_PORTABLE_BACKING_NAME = 1024 /* older drivers' bound */
};

enum {
    QED_F_BACKING_FILE = 1,
    QED_F_NEED_CHECK = 2,
    QED_F_BACKING_FORMAT_NO_PROBE = 4,
    QED_F_KNOWN = 7,
};

/* Table entries: 0 is unallocated, 1 a zero cluster (L2 only), all else a host offset. */
enum { QED_UNALLOCATED = 0, QED_ZERO_CLUSTER = 1, QED_RESERVED_MAX = 4095 };

#endif
