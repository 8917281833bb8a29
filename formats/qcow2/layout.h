/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The records of a qcow2 image, field by field. All numbers are big-endian.
 */
#ifndef VD_QCOW2_LAYOUT_H
#define VD_QCOW2_LAYOUT_H

#include "formats/layout.h"

#define QCOW2_HEADER(F)                                                                                      \
    F(BE32, 0, magic)                  /* "QFI\xfb" */                                                       \
    F(BE32, 4, version)                /* 2 or 3 */                                                          \
    F(BE64, 8, backing_file_offset)    /* bytes; 0: there is no backing file */                              \
    F(BE32, 16, backing_file_size)     /* bytes, without NUL; at most 1023 */                                \
    F(BE32, 20, cluster_bits)          /* log2 of the cluster size; 9 to 21 */                               \
    F(BE64, 24, size)                  /* guest bytes */                                                     \
    F(BE32, 32, crypt_method)          /* 0 none, 1 AES, 2 LUKS */                                           \
    F(BE32, 36, l1_size)               /* entries of the active L1 table */                                  \
    F(BE64, 40, l1_table_offset)       /* bytes; a multiple of the cluster size */                           \
    F(BE64, 48, refcount_table_offset) /* bytes; a multiple of the cluster size */                           \
    F(BE32, 56, refcount_table_clusters)                                                                     \
    F(BE32, 60, nb_snapshots)                                                                                \
    F(BE64, 64, snapshots_offset) /* bytes; a multiple of the cluster size */                                \
    /* what follows is there from version 3 on; version 2 implies 0, 0, 0, 4 and 72 */                       \
    F(BE64, 72, incompatible_features) /* unknown bits forbid to open */                                     \
    F(BE64, 80, compatible_features)   /* unknown bits are kept */                                           \
    F(BE64, 88, autoclear_features)    /* unknown bits are cleared before the first write */                 \
    F(BE32, 96, refcount_order)        /* log2 of the bits of a reference count; 0 to 6 */                   \
    F(BE32, 100, header_length)        /* bytes; extensions follow */                                        \
    F(U8, 104, compression_type)       /* 0 deflate, 1 zstd; only where header_length is above 104 */

VD_DECLARE_LAYOUT(qcow2_header, QCOW2_HEADER)

/* The fixed part of an entry of the snapshot table; extra data, id and name follow. */
#define QCOW2_SNAPSHOT(F)                                                                                    \
    F(BE64, 0, l1_table_offset)                                                                              \
    F(BE32, 8, l1_size)                                                                                      \
    F(BE16, 12, id_str_size)                                                                                 \
    F(BE16, 14, name_size)                                                                                   \
    F(BE32, 16, date_sec)                                                                                    \
    F(BE32, 20, date_nsec)                                                                                   \
    F(BE64, 24, vm_clock_nsec)                                                                               \
    F(BE32, 32, vm_state_size)                                                                               \
    F(BE32, 36, extra_data_size)

VD_DECLARE_LAYOUT(qcow2_snapshot_entry, QCOW2_SNAPSHOT)

/* The data of the bitmaps extension. */
#define QCOW2_BITMAPS_EXTENSION(F)                                                                           \
    F(BE32, 0, nb_bitmaps)                                                                                   \
    F(BE32, 4, reserved32)                                                                                   \
    F(BE64, 8, bitmap_directory_size) /* bytes */                                                            \
    F(BE64, 16, bitmap_directory_offset)

VD_DECLARE_LAYOUT(qcow2_bitmaps_extension, QCOW2_BITMAPS_EXTENSION)

/* The fixed part of an entry of the bitmap directory; extra data and the name follow. */
#define QCOW2_BITMAP(F)                                                                                      \
    F(BE64, 0, bitmap_table_offset)                                                                          \
    F(BE32, 8, bitmap_table_size) /* entries */                                                              \
    F(BE32, 12, flags)                                                                                       \
    F(U8, 16, type)                                                                                          \
    F(U8, 17, granularity_bits)                                                                              \
    F(BE16, 18, name_size)                                                                                   \
    F(BE32, 20, extra_data_size)

VD_DECLARE_LAYOUT(qcow2_bitmap_entry, QCOW2_BITMAP)

/* The data of the extension that points to the LUKS header. */
#define QCOW2_CRYPT_EXTENSION(F)                                                                             \
    F(BE64, 0, offset)                                                                                       \
    F(BE64, 8, length)

VD_DECLARE_LAYOUT(qcow2_crypt_extension, QCOW2_CRYPT_EXTENSION)

/* The header of LUKS version 1, as far as it bounds itself; eight key slots follow. */
#define QCOW2_LUKS(F)                                                                                        \
    F(BE32, 0, magic)                                                                                        \
    F(BE16, 4, magic_end)                                                                                    \
    F(BE16, 6, version)                                                                                      \
    F(BE32, 104, payload_sector)                                                                             \
    F(BE32, 108, key_bytes)

VD_DECLARE_LAYOUT(qcow2_luks, QCOW2_LUKS)

#define QCOW2_LUKS_SLOT(F)                                                                                   \
    F(BE32, 0, active)                                                                                       \
    F(BE32, 40, key_sector) /* from the beginning of the LUKS header */                                      \
    F(BE32, 44, stripes)

VD_DECLARE_LAYOUT(qcow2_luks_slot, QCOW2_LUKS_SLOT)

enum {
    QCOW2_V2_HEADER = 72,
    QCOW2_V3_HEADER = 104,
    QCOW2_HEADER_BYTES = 112, /* what is written: with the compression type and its padding */
    QCOW2_MIN_CLUSTER_BITS = 9,
    QCOW2_MAX_CLUSTER_BITS = 21, /* QEMU's bound; the format has none */
    QCOW2_DEFAULT_CLUSTER_BITS = 16,
    QCOW2_MIN_EXTENDED_BITS = 14,
    QCOW2_MAX_REFCOUNT_ORDER = 6,
    QCOW2_DEFAULT_REFCOUNT_ORDER = 4,
    QCOW2_SECTOR = 512,
    QCOW2_SUBCLUSTERS = 32,
    QCOW2_MAX_BACKING_NAME = 1023,
    QCOW2_MAX_BACKING_FORMAT = 15, /* bytes; QEMU's bound */
    QCOW2_MAX_L1_ENTRIES = 4 << 20,
    QCOW2_MAX_REFTABLE_BYTES = 8 << 20,
    QCOW2_MAX_SNAPSHOTS = 65536,
    QCOW2_MAX_SNAPSHOT_TABLE = 64 << 20,
    QCOW2_MAX_SNAPSHOT_EXTRA = 1024,
    QCOW2_SNAPSHOT_BYTES = 40,
    QCOW2_MAX_BITMAPS = 65535,
    QCOW2_BITMAPS_BYTES = 24,
    QCOW2_BITMAP_BYTES = 24,
    QCOW2_MAX_BITMAP_NAME = 1023,
    QCOW2_MAX_BITMAP_TABLE = 0x8000000,
    QCOW2_MIN_GRANULARITY_BITS = 9,
    QCOW2_MAX_GRANULARITY_BITS = 31,
    QCOW2_CRYPT_BYTES = 16,
    QCOW2_LUKS_BYTES = 592,
    QCOW2_LUKS_SLOTS = 8,
    QCOW2_LUKS_FIRST_SLOT = 208, /* bytes */
    QCOW2_LUKS_SLOT_BYTES = 48,
    QCOW2_FEATURE_NAME_BYTES = 48,
};

#define QCOW2_MAGIC                0x514649fbU
#define QCOW2_LUKS_MAGIC           0x4c554b53U
#define QCOW2_LUKS_MAGIC_END       0xbabeU
#define QCOW2_LUKS_ACTIVE          0x00ac71f3U
#define QCOW2_LUKS_INACTIVE        0x0000deadU
#define QCOW2_MAX_BITMAP_DIRECTORY 67107840U

/* Header extensions. */
enum {
    QCOW2_EXT_END = 0,
    QCOW2_EXT_BITMAPS = 0x23852875,
    QCOW2_EXT_CRYPT = 0x0537be77,
    QCOW2_EXT_DATA_FILE = 0x44415441,
    QCOW2_EXT_FEATURE_NAMES = 0x6803f857,
};
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acaU

/* Feature bits. */
enum {
    QCOW2_INCOMPAT_DIRTY = 1,
    QCOW2_INCOMPAT_CORRUPT = 2,
    QCOW2_INCOMPAT_DATA_FILE = 4,
    QCOW2_INCOMPAT_COMPRESSION = 8,
    QCOW2_INCOMPAT_EXTENDED_L2 = 16,
    QCOW2_INCOMPAT_KNOWN = 31,
    QCOW2_COMPAT_LAZY_REFCOUNTS = 1,
    QCOW2_COMPAT_KNOWN = 1,
    QCOW2_AUTOCLEAR_BITMAPS = 1,
    QCOW2_AUTOCLEAR_DATA_FILE_RAW = 2,
    QCOW2_AUTOCLEAR_KNOWN = 3,
};

enum { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };
enum { QCOW2_DEFLATE, QCOW2_ZSTD };
enum { QCOW2_BITMAP_F_IN_USE = 1, QCOW2_BITMAP_F_AUTO = 2, QCOW2_BITMAP_F_EXTRA_COMPATIBLE = 4 };

/* Words of tables. */
#define QCOW2_COPIED            ((uint64_t)1 << 63) /* the reference count is exactly 1 */
#define QCOW2_COMPRESSED        ((uint64_t)1 << 62)
#define QCOW2_ZERO              ((uint64_t)1)
#define QCOW2_OFFSET_MASK       ((uint64_t)0x00fffffffffffe00)
#define QCOW2_L1_RESERVED       ((uint64_t)0x7f000000000001ff)
#define QCOW2_L2_RESERVED       ((uint64_t)0x3f000000000001fe)
#define QCOW2_REFTABLE_RESERVED ((uint64_t)0x1ff)
#define QCOW2_REFTABLE_MASK     (~(uint64_t)0x1ff)
#define QCOW2_BITMAP_RESERVED   ((uint64_t)0xff000000000001fe)

#endif
