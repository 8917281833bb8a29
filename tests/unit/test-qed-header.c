/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The QED header: its bytes, what follows from it, and each rule. */
#include "formats/base/bytes.h"
#include "formats/node/memory.h"
#include "formats/qed/qed.h"
#include "formats/registry.h"
#include "tests/unit/unit.h"

enum { C = 65536, FILE_SIZE = 5 * C };

/* The first bytes of an empty image of 64 MiB with the defaults, as QEMU writes them. */
static const uint8_t plain[QED_HEADER_BYTES] = {
    0x51, 0x45, 0x44, 0x00, 0x00, 0x00, 0x01, 0x00, 0x04, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};

/* The same over the raw file "base.raw" of 1 MiB. */
static const uint8_t with_backing[QED_HEADER_BYTES + 8] = {
    0x51, 0x45, 0x44, 0x00, 0x00, 0x00, 0x01, 0x00, 0x04, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00,
    0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00,
    0x08, 0x00, 0x00, 0x00, 0x62, 0x61, 0x73, 0x65, 0x2e, 0x72, 0x61, 0x77,
};

static const struct BlockDriver *qed(void)
{
    return vd_driver_by_name("qed");
}

/* ---- bytes */

START_TEST(the_bytes_of_an_empty_image_are_decoded)
{
    struct qed_header h;

    vd_decode(&qed_header_layout, plain, &h);
    ck_assert_uint_eq(h.magic, QED_MAGIC);
    ck_assert_uint_eq(h.cluster_size, C);
    ck_assert_uint_eq(h.table_size, 4);
    ck_assert_uint_eq(h.header_size, 1);
    ck_assert_uint_eq(h.features | h.compat_features | h.autoclear_features, 0);
    ck_assert_uint_eq(h.l1_table_offset, C);
    ck_assert_uint_eq(h.image_size, 64 << 20);
    ck_assert_uint_eq(h.backing_filename_offset | h.backing_filename_size, 0);
    vd_decode(&qed_header_layout, with_backing, &h);
    ck_assert_uint_eq(h.features, QED_F_BACKING_FILE | QED_F_BACKING_FORMAT_NO_PROBE);
    ck_assert_uint_eq(h.image_size, 1 << 20);
    ck_assert_uint_eq(h.backing_filename_offset, 64);
    ck_assert_uint_eq(h.backing_filename_size, 8);
}
END_TEST

START_TEST(decoded_bytes_are_encoded_to_the_same)
{
    uint8_t noise[QED_HEADER_BYTES], again[QED_HEADER_BYTES];
    struct qed_header h;

    vd_decode(&qed_header_layout, plain, &h);
    vd_encode(&qed_header_layout, &h, again);
    ck_assert_mem_eq(again, plain, sizeof(again));
    vd_unit_noise(noise, sizeof(noise), 1); /* every byte belongs to a field */
    vd_decode(&qed_header_layout, noise, &h);
    memset(again, 0, sizeof(again));
    vd_encode(&qed_header_layout, &h, again);
    ck_assert_mem_eq(again, noise, sizeof(again));
    ck_assert_uint_eq(qed_header_layout.disk_size, QED_HEADER_BYTES);
}
END_TEST

static struct BlockDriverState *create(int64_t size, const char *backing, const char *format,
                                       const char *const *pairs)
{
    struct vd_err err = VD_ERR_INIT;
    struct BlockDriverState *file = vd_memory_new("image.qed", NULL, 0, &err);
    struct vd_create_options opts = {
        .size = size, .backing_file = backing, .backing_format = format, .pairs = pairs};

    must_have(file, &err);
    must(qed()->bdrv_co_create(file, &opts, &err), &err);
    return file;
}

START_TEST(a_new_image_has_exactly_these_bytes)
{
    vd_auto(BlockDriverState) a = create(64 << 20, NULL, NULL, NULL);
    vd_auto(BlockDriverState) b = create(1 << 20, "base.raw", "raw", NULL);
    vd_auto(BlockDriverState) c = create((1 << 20) - 511, "base.qed", NULL, NULL);
    const uint8_t *bytes;
    size_t len;

    bytes = vd_memory_bytes(a, &len);
    ck_assert_uint_eq(len, FILE_SIZE);
    ck_assert_mem_eq(bytes, plain, sizeof(plain));
    ck_assert(vd_is_zero(bytes + sizeof(plain), len - sizeof(plain)));
    bytes = vd_memory_bytes(b, &len);
    ck_assert_uint_eq(len, FILE_SIZE);
    ck_assert_mem_eq(bytes, with_backing, sizeof(with_backing));
    ck_assert(vd_is_zero(bytes + sizeof(with_backing), len - sizeof(with_backing)));
    bytes = vd_memory_bytes(c, &len);
    ck_assert_uint_eq(vd_get_le64(bytes + 16), 1);       /* a format other than raw is probed */
    ck_assert_uint_eq(vd_get_le64(bytes + 48), 1 << 20); /* rounded up to a sector */
}
END_TEST

START_TEST(options_that_make_no_image_are_refused)
{
    static const char *const bad[] = {"cluster_size=2048", "cluster_size=98304", "cluster_size=128M",
                                      "table_size=0",      "table_size=3",       "table_size=32",
                                      "cluster_size=4G",   "colour=1",           "cluster_size",
                                      "cluster_size=x",    "cluster=65536",      "=1"};
    struct vd_err err;

    for (size_t i = 0; i < VD_ARRAY_SIZE(bad); i++) {
        vd_auto(BlockDriverState) file = vd_memory_new("image.qed", NULL, 0, &err);
        const char *const pairs[] = {bad[i], NULL};
        struct vd_create_options opts = {.size = 1 << 20, .pairs = pairs};

        must_fail(qed()->bdrv_co_create(file, &opts, &err), &err, VD_ERR_USAGE);
        ck_assert_int_eq(bdrv_getlength(file, &err), 0);
    }
}
END_TEST

START_TEST(an_image_is_no_larger_than_its_tables)
{
    static const char *const small[] = {"cluster_size=4k", "table_size=1", NULL};
    vd_auto(BlockDriverState) file = NULL;
    vd_auto(BlockDriverState) most = create((int64_t)1 << 30, NULL, NULL, small);
    struct vd_create_options opts = {.size = ((int64_t)1 << 30) + 1, .pairs = small};
    struct vd_err err = VD_ERR_INIT;

    ck_assert_int_eq(bdrv_getlength(most, &err), 8192);
    file = vd_memory_new("image.qed", NULL, 0, &err);
    must_fail(qed()->bdrv_co_create(file, &opts, &err), &err, VD_ERR_USAGE);
}
END_TEST

/* ---- what follows from a header */

START_TEST(the_default_geometry)
{
    struct qed_header h;
    struct qed_geometry g;

    vd_decode(&qed_header_layout, plain, &h);
    g = qed_derive(&h, FILE_SIZE + 100);
    ck_assert(g.is_usable);
    ck_assert_uint_eq(g.cluster_bits, 16);
    ck_assert_uint_eq(g.table_bytes, 4 * C);
    ck_assert_uint_eq(g.table_n, 32768);
    ck_assert_uint_eq(g.l1_shift, 31);
    ck_assert_uint_eq(g.size_limit, (uint64_t)64 << 40);
    ck_assert_uint_eq(g.header_end, C);
    ck_assert_uint_eq(g.l1_off, C);
    ck_assert_uint_eq(g.file_size, FILE_SIZE + 100);
    ck_assert_uint_eq(g.file_end, FILE_SIZE);
}
END_TEST

START_TEST(every_legal_geometry_has_a_limit_that_does_not_wrap)
{
    for (unsigned cb = 12; cb <= 26; cb++)
        for (unsigned tb = 0; tb <= 4; tb++) {
            struct qed_header h = {.cluster_size = 1u << cb, .table_size = 1u << tb, .header_size = 1};
            struct qed_geometry g = qed_derive(&h, (uint64_t)1 << 40);
            unsigned bits = 3 * cb + 2 * tb - 6;

            ck_assert(g.is_usable);
            ck_assert_uint_eq(g.l1_shift, 2 * cb + tb - 3);
            ck_assert_uint_eq(g.size_limit, bits >= 63 ? ((uint64_t)1 << 63) - 512 : (uint64_t)1 << bits);
        }
}
END_TEST

START_TEST(sizes_that_are_not_legal_give_no_geometry)
{
    static const uint32_t cluster_sizes[] = {0, 1, 2048, 4095, 98304, 1u << 27, 1u << 31, UINT32_MAX};
    static const uint32_t table_sizes[] = {0, 3, 5, 32, 1u << 31, UINT32_MAX};
    struct qed_header h = {.table_size = 4, .header_size = 1};

    for (size_t i = 0; i < VD_ARRAY_SIZE(cluster_sizes); i++) {
        h.cluster_size = cluster_sizes[i];
        ck_assert(!qed_derive(&h, FILE_SIZE).is_usable);
    }
    h.cluster_size = C;
    for (size_t i = 0; i < VD_ARRAY_SIZE(table_sizes); i++) {
        h.table_size = table_sizes[i];
        ck_assert(!qed_derive(&h, FILE_SIZE).is_usable);
    }
}
END_TEST

START_TEST(a_header_size_that_cannot_be_is_bounded_by_the_first_table)
{
    struct qed_header h = {.cluster_size = C, .table_size = 4, .l1_table_offset = 3 * C};

    h.header_size = 3;
    ck_assert_uint_eq(qed_derive(&h, 10 * C).header_end, 3 * C);
    h.header_size = 2;
    ck_assert_uint_eq(qed_derive(&h, 10 * C).header_end, 2 * C);
    h.header_size = 0;
    ck_assert_uint_eq(qed_derive(&h, 10 * C).header_end, 3 * C);
    h.header_size = 4; /* over the table */
    ck_assert_uint_eq(qed_derive(&h, 10 * C).header_end, 3 * C);
    h.header_size = UINT32_MAX;
    ck_assert_uint_eq(qed_derive(&h, 10 * C).header_end, 3 * C);
    h.l1_table_offset = 3 * C + 1; /* no bound either */
    ck_assert_uint_eq(qed_derive(&h, 10 * C).header_end, C);
}
END_TEST

/* ---- rules */

/* Sets fields by name: "features=1 file_size=0x40000"; file_size is the file's. */
static struct qed_header parse_header(const char *text, uint64_t *file_size)
{
    uint8_t bytes[QED_HEADER_BYTES];
    struct qed_header h;
    char name[40];
    unsigned long long v;
    int n;

    memcpy(bytes, plain, sizeof(bytes));
    *file_size = FILE_SIZE;
    for (; sscanf(text, " %39[a-z_0-9]=%lli%n", name, (long long *)&v, &n) == 2; text += n) {
        const struct vd_field *field = vd_layout_find(&qed_header_layout, name);

        if (strcmp(name, "file_size") == 0) {
            *file_size = v;
            continue;
        }
        ck_assert_ptr_nonnull(field);
        if (vd_field_bytes(field) == 4)
            vd_put_le32(bytes + field->offset, (uint32_t)v);
        else
            vd_put_le64(bytes + field->offset, v);
    }
    ck_assert_str_eq(text, "");
    vd_decode(&qed_header_layout, bytes, &h);
    return h;
}

/* A header, and the ids of the rules that it breaks, in order and without "qed.". */
static const struct {
    const char *header, *broken;
} cases[] = {
    {"",                                                                                                   ""                                       },
    {"magic=0x01444551",                                                                                   "header-magic"                           },
    {"features=2",                                                                                         ""                                       },
    {"features=8",                                                                                         "feature-unknown"                        },
    {"features=-8",                                                                                        "feature-unknown"                        },
    {"features=4",                                                                                         "backing-fmt-without-backing"            },
    {"cluster_size=0",                                                                                     "cluster-size-invalid"                   },
    {"cluster_size=2048",                                                                                  "cluster-size-invalid"                   },
    {"cluster_size=98304",                                                                                 "cluster-size-invalid"                   },
    {"cluster_size=0x8000000",                                                                             "cluster-size-invalid"                   },
    {"cluster_size=4096",                                                                                  ""                                       },
    {"table_size=0",                                                                                       "table-size-invalid"                     },
    {"table_size=3",                                                                                       "table-size-invalid"                     },
    {"table_size=32",                                                                                      "table-size-invalid"                     },
    {"cluster_size=0 table_size=0",                                                                        "cluster-size-invalid table-size-invalid"},
    {"table_size=1",                                                                                       "table-size-one"                         },
    {"table_size=1 file_size=0x20000",                                                                     "table-size-one"                         },
    {"cluster_size=0x400000 l1_table_offset=0x400000 file_size=0x1400000",                                 "geometry-overflow"                      },
    {"cluster_size=0x200000 l1_table_offset=0x200000 file_size=0xa00000",                                  ""                                       },
    {"cluster_size=0x100000 table_size=16 l1_table_offset=0x100000 file_size=0x1100000",                   ""                                       },
    {"cluster_size=0x4000000 table_size=16 l1_table_offset=0x4000000 file_size=0x44000000",
     "geometry-overflow"                                                                                                                            },
    {"cluster_size=0x400000 l1_table_offset=0x400000 file_size=0x1400000 image_size=0x7ffffffffffffe00",
     "geometry-overflow"                                                                                                                            },
    {"cluster_size=0x400000 l1_table_offset=0x400000 file_size=0x1400000 image_size=-9223372036854775808",
     "geometry-overflow image-size-invalid"                                                                                                         },
    {"image_size=0",                                                                                       ""                                       },
    {"image_size=1000",                                                                                    "image-size-invalid"                     },
    {"image_size=0x400000000000",                                                                          ""                                       },
    {"image_size=0x400000000200",                                                                          "image-size-invalid"                     },
    {"image_size=-512",                                                                                    "image-size-invalid"                     },
    {"l1_table_offset=0x10200",                                                                            "l1-offset-misaligned"                   },
    {"l1_table_offset=1",                                                                                  "l1-offset-misaligned"                   },
    {"l1_table_offset=0",                                                                                  "l1-offset-in-header"                    },
    {"l1_table_offset=0x10000000000",                                                                      "l1-offset-out-of-file"                  },
    {"l1_table_offset=-65536",                                                                             "l1-offset-out-of-file"                  },
    {"l1_table_offset=0x20000",                                                                            "l1-offset-out-of-file"                  },
    {"l1_table_offset=0x20000 file_size=0x60000",                                                          ""                                       },
    {"file_size=0x40000",                                                                                  "l1-offset-out-of-file"                  },
    {"file_size=327169",                                                                                   "l1-offset-out-of-file"                  }, /* lacks less than a sector */
    {"file_size=327168",                                                                                   "l1-offset-out-of-file"                  }, /* lacks one */
    {"header_size=0",                                                                                      "header-size-zero"                       },
    {"header_size=0 l1_table_offset=0",                                                                    "l1-offset-in-header header-size-zero"   },
    {"header_size=2",                                                                                      "header-size-overlap"                    },
    {"header_size=5",                                                                                      "header-size-overlap"                    },
    {"header_size=6",                                                                                      "header-size-out-of-file"                },
    {"header_size=0x1000",                                                                                 "header-size-out-of-file"                },
    {"header_size=0x10000",                                                                                "header-size-out-of-file"                },
    {"header_size=0xffffffff file_size=0x7fffffffffff0000",                                                "header-size-out-of-file"                },
    {"header_size=2 l1_table_offset=0x20000 file_size=0x60000",                                            ""                                       },
    {"features=1",                                                                                         "backing-name-empty"                     },
    {"features=1 backing_filename_offset=64 backing_filename_size=8",                                      ""                                       },
    {"features=5 backing_filename_offset=64 backing_filename_size=8",                                      ""                                       },
    {"features=1 backing_filename_offset=65528 backing_filename_size=8",                                   ""                                       },
    {"features=1 backing_filename_offset=65530 backing_filename_size=8",                                   "backing-name-out-of-header"             },
    {"features=1 backing_filename_offset=0xffffffff backing_filename_size=0xffffffff",
     "backing-name-out-of-header"                                                                                                                   },
    {"backing_filename_offset=0xffffffff backing_filename_size=0xffffffff",
     ""                                                                                                                                             }, /* without the bit they mean nothing */
    {"features=1 backing_filename_offset=64 backing_filename_size=1023",                                   ""                                       },
    {"features=1 backing_filename_offset=64 backing_filename_size=1024",                                   "backing-name-too-long"                  },
    {"features=1 backing_filename_offset=64 backing_filename_size=4096",                                   "backing-name-too-long"                  },
    {"compat_features=0x10000000000",                                                                      "compat-unknown"                         },
    {"autoclear_features=5",                                                                               "autoclear-unknown"                      },
    {"magic=0 features=8 image_size=1 compat_features=1",
     "header-magic feature-unknown image-size-invalid compat-unknown"                                                                               },
};

START_TEST(each_rule_is_broken_by_what_breaks_it_and_by_nothing_else)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(cases); i++) {
        uint64_t file_size;
        struct qed_header h = parse_header(cases[i].header, &file_size);
        struct qed_geometry g = qed_derive(&h, file_size);
        char broken[300] = "";

        for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++)
            if (rule->is_broken(&h, &g)) {
                size_t at = strlen(broken);

                snprintf(broken + at, sizeof(broken) - at, "%s%s", at ? " " : "",
                         qed()->findings[rule->finding].id + 4);
            }
        ck_assert_msg(strcmp(broken, cases[i].broken) == 0, "'%s' breaks '%s', expected '%s'",
                      cases[i].header, broken, cases[i].broken);
    }
}
END_TEST

START_TEST(every_rule_names_a_field)
{
    for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++)
        ck_assert_ptr_nonnull(vd_layout_find(&qed_header_layout, rule->field));
}
END_TEST

/* ---- opening */

static struct BlockDriverState *image(const char *header)
{
    struct vd_err err = VD_ERR_INIT;
    uint64_t file_size;
    struct qed_header h = parse_header(header, &file_size);
    uint8_t bytes[QED_HEADER_BYTES];
    struct BlockDriverState *file = vd_memory_new("image.qed", NULL, file_size, &err);

    must_have(file, &err);
    vd_encode(&qed_header_layout, &h, bytes);
    must(bdrv_pwrite(file, 0, sizeof(bytes), bytes, VD_STAGE_ROOT, &err), &err);
    return file;
}

START_TEST(a_check_opens_every_header_and_a_live_open_what_qemu_opens)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(cases); i++) {
        uint64_t file_size;
        struct qed_header h = parse_header(cases[i].header, &file_size);
        struct qed_geometry g = qed_derive(&h, file_size);
        vd_auto(BlockDriverState) file = NULL;
        vd_auto(BlockDriverState) check = NULL;
        vd_auto(BlockDriverState) live = NULL;
        struct vd_err err = VD_ERR_INIT;
        bool is_refused = h.features & 1 && h.backing_filename_size >= QED_MAX_BACKING_NAME;

        if (file_size > 1 << 20) /* more than belongs into memory */
            continue;
        file = image(cases[i].header);
        check = bdrv_open_node(qed(), file, BDRV_O_CHECK, &err);
        must_have(check, &err);
        for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++)
            is_refused |= (rule->flags & QED_REFUSES_OPEN) && rule->is_broken(&h, &g);
        live = bdrv_open_node(qed(), file, 0, &err);
        ck_assert_msg((live == NULL) == is_refused, "'%s': %s", cases[i].header, err.story);
        if (!live)
            ck_assert(err.kind == VD_ERR_FORMAT || err.kind == VD_ERR_UNSUPPORTED);
    }
}
END_TEST

START_TEST(an_unknown_feature_is_unsupported_and_not_damage)
{
    vd_auto(BlockDriverState) file = image("features=8");
    struct vd_err err;

    must_be_null(bdrv_open_node(qed(), file, 0, &err), &err, VD_ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.story, "qed.feature-unknown"), "%s", err.story);
}
END_TEST

START_TEST(a_dirty_image_is_not_opened_for_writing)
{
    vd_auto(BlockDriverState) file = image("features=2");
    vd_auto(BlockDriverState) reader = NULL;
    vd_auto(BlockDriverState) writer = NULL;
    struct BlockDriverInfo info;
    struct vd_err err;

    must_be_null(bdrv_open_node(qed(), file, BDRV_O_RDWR, &err), &err, VD_ERR_FORMAT);
    reader = bdrv_open_node(qed(), file, 0, &err);
    must_have(reader, &err);
    must(qed()->bdrv_get_info(reader, &info, &err), &err);
    ck_assert(info.is_dirty);
    ck_assert_int_eq(info.cluster_size, C);
    writer = bdrv_open_node(qed(), file, BDRV_O_RDWR | BDRV_O_DIRTY_OK, &err);
    must_have(writer, &err);
}
END_TEST

START_TEST(a_file_too_short_for_a_header_is_opened_by_a_check_alone)
{
    for (size_t len = 0; len < QED_HEADER_BYTES; len += 9) {
        struct vd_err err = VD_ERR_INIT;
        vd_auto(BlockDriverState) file = vd_memory_new("image.qed", plain, len, &err);
        vd_auto(BlockDriverState) bs = bdrv_open_node(qed(), file, BDRV_O_CHECK, &err);

        must_have(bs, &err);
        ck_assert(!((struct qed *)bs->opaque)->has_header);
        must_be_null(bdrv_open_node(qed(), file, 0, &err), &err, VD_ERR_FORMAT);
    }
}
END_TEST

START_TEST(the_backing_name_is_read_as_it_stands)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) file = create(1 << 20, "base.raw", "raw", NULL);
    vd_auto(BlockDriverState) bs = NULL;
    vd_auto(BlockDriverState) nul = NULL;
    vd_auto(BlockDriverState) none = NULL;
    uint8_t size[4];

    bs = bdrv_open_node(qed(), file, BDRV_O_CHECK, &err);
    must_have(bs, &err);
    ck_assert_str_eq(bs->backing_file, "base.raw");
    ck_assert_uint_eq(bs->backing_file_len, 8);
    ck_assert_str_eq(bs->backing_format, "raw");
    ck_assert_int_eq(bdrv_getlength(bs, &err), 1 << 20);
    vd_put_le32(size, 12); /* NULs are part of it */
    must(bdrv_pwrite(file, 60, 4, size, VD_STAGE_ROOT, &err), &err);
    nul = bdrv_open_node(qed(), file, BDRV_O_CHECK, &err);
    ck_assert_uint_eq(nul->backing_file_len, 12);
    ck_assert_mem_eq(nul->backing_file, "base.raw\0\0\0\0", 13);
    vd_put_le32(size, C); /* out of the header */
    must(bdrv_pwrite(file, 60, 4, size, VD_STAGE_ROOT, &err), &err);
    none = bdrv_open_node(qed(), file, BDRV_O_CHECK, &err);
    ck_assert_ptr_null(none->backing_file);
}
END_TEST

START_TEST(writing_a_header_clears_unknown_autoclear_bits_and_keeps_what_stands_behind)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) file = image("autoclear_features=5 compat_features=0x10000000000");
    vd_auto(BlockDriverState) bs = bdrv_open_node(qed(), file, BDRV_O_CHECK, &err);
    struct qed *q = bs->opaque;
    struct qed_header h = q->header;
    const uint8_t *bytes;
    size_t len;

    must(bdrv_pwrite(file, 64, 6, "behind", VD_STAGE_ROOT, &err), &err);
    ck_assert_uint_eq(h.autoclear_features, 5);
    h.features |= QED_F_NEED_CHECK;
    must(qed_write_header(bs, &h, VD_STAGE_FLAG, &err), &err);
    bytes = vd_memory_bytes(file, &len);
    ck_assert_uint_eq(vd_get_le64(bytes + 16), QED_F_NEED_CHECK);
    ck_assert_uint_eq(vd_get_le64(bytes + 24), (uint64_t)1 << 40);
    ck_assert_uint_eq(vd_get_le64(bytes + 32), 0);
    ck_assert_mem_eq(bytes + 64, "behind", 6);
    ck_assert_uint_eq(q->header.features, QED_F_NEED_CHECK);
    ck_assert_uint_eq(q->header.autoclear_features, 0);
}
END_TEST

/* ---- probing */

START_TEST(probing_knows_the_magic_and_a_header_that_only_lacks_it)
{
    uint8_t b[2048] = {0};

    memcpy(b, plain, sizeof(plain));
    ck_assert_int_eq(qed()->bdrv_probe(b, sizeof(b), FILE_SIZE), 100);
    ck_assert_int_eq(qed()->bdrv_probe(b, 4, 4), 100); /* truncated, and still one */
    ck_assert_int_eq(qed()->bdrv_probe(b, 3, 3), 0);
    b[3] = 1;
    ck_assert_int_eq(qed()->bdrv_probe(b, sizeof(b), FILE_SIZE), 50);
    ck_assert_int_eq(qed()->bdrv_probe(b, 63, FILE_SIZE), 0);
    ck_assert_int_eq(qed()->bdrv_probe(b, sizeof(b), FILE_SIZE - C), 0); /* the L1 table is not there */
    memset(b, 0, sizeof(b));
    ck_assert_int_eq(qed()->bdrv_probe(b, sizeof(b), FILE_SIZE), 0);
}
END_TEST

/* ---- fields by name */

START_TEST(fields_are_found_by_the_names_that_recipes_use)
{
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) file = create(64 << 20, NULL, NULL, NULL);
    vd_auto(BlockDriverState) bs = bdrv_open_node(qed(), file, BDRV_O_CHECK, &err);
    uint8_t entry[8];
    uint64_t offset;
    unsigned bytes;

    must(qed()->bdrv_find_field(bs, "header.features", &offset, &bytes, &err), &err);
    ck_assert(offset == 16 && bytes == 8);
    must(qed()->bdrv_find_field(bs, "header.header_size", &offset, &bytes, &err), &err);
    ck_assert(offset == 12 && bytes == 4);
    must(qed()->bdrv_find_field(bs, "L1[3]", &offset, &bytes, &err), &err);
    ck_assert(offset == C + 24 && bytes == 8);
    vd_put_le64(entry, 0x70000);
    must(bdrv_pwrite(file, C + 24, 8, entry, VD_STAGE_TABLE, &err), &err);
    must(qed()->bdrv_find_field(bs, "L1[3].L2[0x10]", &offset, &bytes, &err), &err);
    ck_assert(offset == 0x70080 && bytes == 8);
}
END_TEST

START_TEST(names_that_are_no_field_are_refused)
{
    static const char *const names[] = {"",      "header.",  "header.nothing", "features",     "L1",
                                        "L1[",   "L1[]",     "L1[x]",          "L1[1",         "L1[1]x",
                                        "L2[1]", "L1[1].L2", "L1[1].L2[]",     "L1[1].L2[1]x", "L1[1].L3[1]"};
    struct vd_err err = VD_ERR_INIT;
    vd_auto(BlockDriverState) file = create(64 << 20, NULL, NULL, NULL);
    vd_auto(BlockDriverState) bs = bdrv_open_node(qed(), file, BDRV_O_CHECK, &err);
    uint64_t offset;
    unsigned bytes;

    for (size_t i = 0; i < VD_ARRAY_SIZE(names); i++)
        must_fail(qed()->bdrv_find_field(bs, names[i], &offset, &bytes, &err), &err, VD_ERR_USAGE);
}
END_TEST

UNIT_TESTS("qed header", the_bytes_of_an_empty_image_are_decoded, decoded_bytes_are_encoded_to_the_same,
           a_new_image_has_exactly_these_bytes, options_that_make_no_image_are_refused,
           an_image_is_no_larger_than_its_tables, the_default_geometry,
           every_legal_geometry_has_a_limit_that_does_not_wrap, sizes_that_are_not_legal_give_no_geometry,
           a_header_size_that_cannot_be_is_bounded_by_the_first_table,
           each_rule_is_broken_by_what_breaks_it_and_by_nothing_else, every_rule_names_a_field,
           a_check_opens_every_header_and_a_live_open_what_qemu_opens,
           an_unknown_feature_is_unsupported_and_not_damage, a_dirty_image_is_not_opened_for_writing,
           a_file_too_short_for_a_header_is_opened_by_a_check_alone, the_backing_name_is_read_as_it_stands,
           writing_a_header_clears_unknown_autoclear_bits_and_keeps_what_stands_behind,
           probing_knows_the_magic_and_a_header_that_only_lacks_it,
           fields_are_found_by_the_names_that_recipes_use, names_that_are_no_field_are_refused)
