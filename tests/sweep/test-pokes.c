/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every byte of a QED image's metadata, wrong: each byte of the header and of the tables is set to 0x00, to
 * 0xff and to its complement, and entries are set to what is wrong in an interesting way; then the image is
 * checked, and repaired at every level.
 *
 * `make check` takes a sample from a fixed seed, a long run everything.
 */
#include "tests/sweep/sweep.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/base/span.h"
#include "formats/registry.h"

enum {
    SAMPLE_BYTES = 60, /* poked bytes of each image, in a short run */
    SAMPLE_MIXES = 60, /* mixes of wrong entries of each image, in a short run */
    LONG_MIXES = 2000, /* the same in a long run */
    ZEROES_POKED = 4,  /* entries of each table that are 0 and poked all the same */
    BACKING_BYTES = 1 << 20,
};

struct shape {
    const char *cluster_size, *table_size;
    bool has_backing, needs_check;
};

static const struct shape shapes[] = {
    {"cluster_size=4k",  "table_size=1", false, false},
    {"cluster_size=4k",  "table_size=1", false, true },
    {"cluster_size=4k",  "table_size=1", true,  false},
    {"cluster_size=4k",  "table_size=2", false, false},
    {"cluster_size=4k",  "table_size=2", true,  true },
    {"cluster_size=4k",  "table_size=4", false, false},
    {"cluster_size=4k",  "table_size=4", false, true },
    {"cluster_size=4k",  "table_size=4", true,  false},
    {"cluster_size=64k", "table_size=4", false, false},
    {"cluster_size=64k", "table_size=4", true,  true },
};

enum { F_NEED_CHECK = 2, AT_FEATURES = 16, AT_L1 = 40, HEADER_BYTES = 64 };

/* ---- an image, and where its entries stand */

VD_VEC(offset_vec, uint64_t)

struct subject {
    struct sweep_image image;
    uint64_t cluster_size, table_bytes, guest_size;
    struct sweep_guest truth;  /* what the undamaged image reads as */
    struct offset_vec entries; /* host offsets of the entries that are poked; L1 entries first */
    size_t l1_entries;
    char name[96];
};

static void note_entry(struct subject *s, uint64_t off)
{
    sweep_must(offset_vec_push(&s->entries, off) == 0, "memory");
}

/* The entries of a table that are not 0, and a few that are: the last one, and some anywhere. */
static void note_table(struct subject *s, uint64_t table_off, struct sweep_random *random)
{
    uint64_t n = s->table_bytes / 8;

    for (uint64_t i = 0; i < n; i++)
        if (sweep_get64(&s->image, table_off + 8 * i))
            note_entry(s, table_off + 8 * i);
    for (unsigned i = 0; i < ZEROES_POKED; i++) {
        uint64_t off = table_off + 8 * (i ? sweep_below(random, n) : n - 1);

        if (!sweep_get64(&s->image, off))
            note_entry(s, off);
    }
}

static void note_entries(struct subject *s)
{
    struct sweep_random random = {1};
    uint64_t l1 = sweep_get64(&s->image, AT_L1);

    note_table(s, l1, &random);
    s->l1_entries = s->entries.n;
    for (uint64_t i = 0; i < s->table_bytes / 8; i++)
        if (sweep_get64(&s->image, l1 + 8 * i))
            note_table(s, sweep_get64(&s->image, l1 + 8 * i), &random);
}

/* Data, zero clusters and gaps under three L2 tables; the disk ends inside a cluster. */
static void fill(struct subject *s)
{
    struct BlockDriverState *bs = sweep_open_live(&s->image);
    int64_t cs = (int64_t)s->cluster_size, slot = cs * (int64_t)(s->table_bytes / 8);
    struct vd_err err = VD_ERR_INIT;

    sweep_write(bs, 0, 3 * cs, 1);
    sweep_write(bs, slot + cs, cs, 2);
    sweep_write(bs, 6 * cs + 512, 1024, 3);
    sweep_must(bdrv_pwrite_zeroes(bs, 4 * cs, cs, VD_STAGE_NEW, &err) == 0, "%s", err.story);
    sweep_write(bs, slot - cs, cs, 4);
    sweep_write(bs, slot + 5 * cs, 2 * cs, 5);
    sweep_write(bs, 3 * slot, 512, 6);
    sweep_close_live(bs);
}

static struct subject make_subject(const struct shape *shape)
{
    const char *const pairs[] = {shape->cluster_size, shape->table_size, NULL};
    vd_auto(BlockDriverState) backing = shape->has_backing ? sweep_backing(BACKING_BYTES) : NULL;
    struct subject s = {.cluster_size = strstr(shape->cluster_size, "64k") ? 65536 : 4096};
    struct vd_create_options opts = {.pairs = pairs,
                                     .backing_file = shape->has_backing ? "base.raw" : NULL,
                                     .backing_format = shape->has_backing ? "raw" : NULL};

    snprintf(s.name, sizeof(s.name), "%s,%s%s%s", shape->cluster_size, shape->table_size,
             shape->has_backing ? ",backing" : "", shape->needs_check ? ",need-check" : "");
    sweep_case("%s", s.name);
    s.table_bytes = s.cluster_size * strtoull(strchr(shape->table_size, '=') + 1, NULL, 10);
    s.guest_size = 3 * (s.table_bytes / 8) * s.cluster_size + 4096 + 512;
    opts.size = (int64_t)s.guest_size;
    s.image = sweep_create(vd_driver_by_name("qed"), &opts, backing);
    fill(&s);
    if (shape->needs_check)
        sweep_put64(&s.image, AT_FEATURES, sweep_get64(&s.image, AT_FEATURES) | F_NEED_CHECK);
    note_entries(&s);
    sweep_read_guest(&s.image, s.guest_size, &s.truth);
    return s;
}

static void drop_subject(struct subject *s)
{
    sweep_drop(&s->image);
    sweep_guest_done(&s->truth);
    offset_vec_done(&s->entries);
}

/* ---- single bytes */

static void poke_byte(struct subject *s, uint64_t off, uint8_t value)
{
    struct sweep_image damaged = sweep_clone(&s->image);
    size_t len;
    uint8_t *bytes = vd_memory_bytes(damaged.file, &len), old = bytes[off];

    if (value != old) {
        sweep_case("%s: byte %#" PRIx64 " from %#x to %#x", s->name, off, old, value);
        bytes[off] = value;
        sweep_judge(&damaged, 2 * s->guest_size, &s->truth);
    }
    sweep_drop(&damaged);
}

static void poke_offset(struct subject *s, uint64_t off)
{
    size_t len;
    uint8_t old = vd_memory_bytes(s->image.file, &len)[off];

    poke_byte(s, off, 0x00);
    poke_byte(s, off, 0xff);
    if (old != 0x00 && old != 0xff)
        poke_byte(s, off, (uint8_t)~old);
}

/* Byte k of all that are poked: the header's, then those of the entries. */
static uint64_t poked_offset(const struct subject *s, uint64_t k)
{
    return k < HEADER_BYTES ? k : s->entries.v[(k - HEADER_BYTES) / 8] + (k - HEADER_BYTES) % 8;
}

START_TEST(a_wrong_byte_of_metadata_is_survived_repaired_and_taken_back)
{
    struct subject s = make_subject(&shapes[_i]);
    struct sweep_random random = {sweep_seed(0xb17e) + (uint64_t)_i};
    uint64_t n = HEADER_BYTES + 8 * s.entries.n;

    if (sweep_is_long())
        for (uint64_t k = 0; k < n; k++)
            poke_offset(&s, poked_offset(&s, k));
    else
        for (unsigned i = 0; i < SAMPLE_BYTES; i++)
            poke_offset(
                &s, poked_offset(&s, i % 2 ? sweep_below(&random, n) : sweep_below(&random, HEADER_BYTES)));
    drop_subject(&s);
}
END_TEST

/* ---- wrong entries, several at once */

static uint64_t wrong_value(const struct subject *s, struct sweep_image *damaged, struct sweep_random *random)
{
    struct vd_err err = VD_ERR_INIT;
    uint64_t length = (uint64_t)bdrv_getlength(damaged->file, &err), cs = s->cluster_size;
    uint64_t other = sweep_get64(damaged, s->entries.v[sweep_below(random, s->entries.n)]);

    switch (sweep_below(random, 12)) {
    case 0:
        return 0;
    case 1:
        return 1;
    case 2:
    case 3:
    case 4:
        return other; /* shared, or into a table */
    case 5:
        return other + 512 * (1 + sweep_below(random, 7));
    case 6:
        return length;
    case 7:
        return length + cs * sweep_below(random, 64);
    case 8:
        return cs * sweep_below(random, length / cs);
    case 9:
        return other + cs;
    case 10:
        return 2 + sweep_below(random, 4094);
    default:
        return sweep_next(random);
    }
}

/* A file that is longer, shorter, or ends inside a cluster. */
static void change_length(const struct subject *s, struct sweep_image *damaged, struct sweep_random *random)
{
    struct vd_err err = VD_ERR_INIT;
    int64_t length = bdrv_getlength(damaged->file, &err), cs = (int64_t)s->cluster_size;

    switch (sweep_below(random, 8)) {
    case 0:
        length += cs * (int64_t)(1 + sweep_below(random, 6));
        break;
    case 1:
        length -= cs * (int64_t)sweep_below(random, 4);
        break;
    case 2:
        length -= (int64_t)sweep_below(random, (uint64_t)cs);
        break;
    case 3:
        length += (int64_t)sweep_below(random, (uint64_t)cs);
        break;
    default:
        return;
    }
    sweep_must(bdrv_truncate(damaged->file, length, &err) == 0, "%s", err.story);
}

static void mix(const struct subject *s, uint64_t seed)
{
    struct sweep_image damaged = sweep_clone(&s->image);
    struct sweep_random random = {seed};
    unsigned wrongs = 1 + (unsigned)sweep_below(&random, 4);
    char told[256] = "";
    size_t at = 0;

    for (unsigned i = 0; i < wrongs; i++) {
        /* L1 entries are few and decide much. */
        uint64_t n = sweep_below(&random, 3) ? s->entries.n : s->l1_entries;
        uint64_t off = s->entries.v[sweep_below(&random, n)], value = wrong_value(s, &damaged, &random);

        sweep_put64(&damaged, off, value);
        at += (size_t)snprintf(told + at, sizeof(told) - at, " %#" PRIx64 "=%#" PRIx64, off, value);
    }
    change_length(s, &damaged, &random);
    sweep_case("%s: mix %" PRIu64 ":%s", s->name, seed, told);
    sweep_judge(&damaged, 2 * s->guest_size, NULL);
    sweep_drop(&damaged);
}

START_TEST(a_mix_of_wrong_entries_is_survived_repaired_and_taken_back)
{
    struct subject s = make_subject(&shapes[_i]);
    uint64_t seed = sweep_seed(0x313) + 100000 * (uint64_t)_i,
             n = sweep_is_long() ? LONG_MIXES : SAMPLE_MIXES;

    for (uint64_t i = 0; i < n; i++)
        mix(&s, seed + i);
    drop_subject(&s);
}
END_TEST

SWEEP_TESTS("pokes", {a_wrong_byte_of_metadata_is_survived_repaired_and_taken_back, VD_ARRAY_SIZE(shapes)},
            {a_mix_of_wrong_entries_is_survived_repaired_and_taken_back, VD_ARRAY_SIZE(shapes)})
