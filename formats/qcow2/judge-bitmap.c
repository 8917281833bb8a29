/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is wrong with the bitmaps' extension, directory, entries and tables, and what they claim.
 *
 * A bitmap says which guest clusters a backup must copy. One that says too much costs time, one that says too
 * little costs data at the next restore, long after. So a doubtful word becomes "all ones", a doubtful bitmap
 * is never trusted again, and giving bitmaps up is left to level `all`, for a full backup is due then.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/base/text.h"
#include "formats/qcow2/qcow2.h"

/* Offsets of fields, and how much of the list of names is told. */
enum {
    FIELD_TABLE_OFF = 0,
    FIELD_TABLE_SIZE = 8,
    FIELD_FLAGS = 12,
    FIELD_TYPE = 16,
    FIELD_GRANULARITY = 17,
    FIELD_NAME_SIZE = 18,
    FIELD_EXTRA = 20,
    AUTOCLEAR_OFF = 88,
    ROOM = 160,
    MOST_DATA_CLAIMS = 1 << 20, /* data clusters whose place is kept; others are counted */
};

struct judge {
    struct vd_check *ck;
    const struct qcow2_geometry *g;
    const struct qcow2_bitmaps *b;
    bool is_given_up; /* all bitmaps were, in this round */
};

static struct judge judge_of(struct vd_check *ck, const struct qcow2_bitmaps *b)
{
    const struct qcow2 *q = ck->bs->opaque;

    return (struct judge){.ck = ck, .g = &q->g, .b = b};
}

static struct vd_span table_of(const struct qcow2_bitmap *bm)
{
    return (struct vd_span){bm->table_off, 8 * (uint64_t)bm->table_n};
}

/* ---- giving all bitmaps up */

static int free_word(void *opaque, const struct qcow2_bitmap *bm, uint64_t i, uint64_t word,
                     struct vd_err *err)
{
    const struct judge *j = opaque;

    (void)bm;
    (void)i;
    if (qcow2_bitmap_word_kind(j->g, word) != QCOW2_BITMAP_CLUSTER)
        return 0;
    return qcow2_free_own(j->ck, (struct vd_span){word & QCOW2_OFFSET_MASK, j->g->cluster_size}, err);
}

/* Their clusters are free at once: left as leaks, a table of them may be taken for one of the guest's. */
static int free_clusters(struct judge *j, struct vd_err *err)
{
    for (size_t i = 0; i < j->b->list.n; i++) {
        const struct qcow2_bitmap *bm = &j->b->list.v[i];

        if (bm->table_is_sound && (qcow2_bitmap_words(j->ck->bs, bm, free_word, j, err) < 0 ||
                                   qcow2_free_own(j->ck, table_of(bm), err) < 0))
            return -1;
    }
    return qcow2_free_own(j->ck, (struct vd_span){j->b->ext.bitmap_directory_offset, j->b->dir_bytes}, err);
}

static int clear_autoclear_bit(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header fixed = q->header;

    fixed.autoclear_features &= ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
    ck->has_changed = true;
    return qcow2_write_fields(ck->bs, &fixed, "autoclear_features", "autoclear_features", VD_STAGE_ROOT, err);
}

static int give_up(struct judge *j, struct vd_err *err)
{
    j->is_given_up = true;
    if (free_clusters(j, err) < 0 || clear_autoclear_bit(j->ck, err) < 0)
        return -1;
    return qcow2_drop_extension(j->ck, j->b->where, err);
}

/* "gives up 'a', 'b'": what a repair that drops all bitmaps costs. */
static const char *names_of(const struct qcow2_bitmaps *b, char text[ROOM])
{
    size_t at = (size_t)snprintf(text, ROOM, "no bitmaps; given up: ");

    for (size_t i = 0; i < b->list.n; i++) {
        char name[64];

        vd_text_copy(name, sizeof(name), b->list.v[i].name, b->list.v[i].name_len);
        if (at + strlen(name) + 24 > ROOM) {
            snprintf(text + at, ROOM - at, " and %zu more", b->list.n - i);
            return text;
        }
        at += (size_t)snprintf(text + at, ROOM - at, "%s'%s'", i ? ", " : "", name);
    }
    if (!b->list.n)
        snprintf(text + at, ROOM - at, "all of %" PRIu32, b->ext.nb_bitmaps);
    return text;
}

/* A defect that only level `all` answers, by giving all bitmaps up. */
static int found_hopeless(struct judge *j, enum qcow2_finding finding, uint64_t host, uint64_t found,
                          struct vd_err *err)
{
    char names[ROOM];

    if (vd_found(j->ck, finding, .host = host, .found = found, .expected_text = names_of(j->b, names),
                 .level = VD_LEVEL_ALL) == VD_LEAVE ||
        j->is_given_up)
        return 0;
    return give_up(j, err);
}

/* ---- the extension */

static int judge_no_extension(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t features = q->header.autoclear_features;

    if (!(features & QCOW2_AUTOCLEAR_BITMAPS) || q->rest.is_misread)
        return 0;
    if (vd_found(ck, QCOW2_BITMAP_EXT_MISSING, .host = AUTOCLEAR_OFF, .found = features,
                 .expected = features & ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS) == VD_FIX)
        return clear_autoclear_bit(ck, err);
    return 0;
}

static int judge_void(struct judge *j, struct vd_err *err)
{
    if (vd_found(j->ck, j->g->version == 2 ? QCOW2_BITMAP_V2 : QCOW2_BITMAP_VOID,
                 .host = j->b->where->off - 8, .found = QCOW2_EXT_BITMAPS) == VD_FIX)
        return qcow2_drop_extension(j->ck, j->b->where, err);
    return 0;
}

static int judge_extension(struct judge *j, struct vd_err *err)
{
    const struct qcow2_extension *where = j->b->where;

    if (where->len != QCOW2_BITMAPS_BYTES)
        return found_hopeless(j, QCOW2_BITMAP_EXT_INVALID, where->off - 4, where->len, err);
    if (j->b->ext.reserved32)
        return found_hopeless(j, QCOW2_BITMAP_EXT_INVALID, where->off + 4, j->b->ext.reserved32, err);
    return found_hopeless(j, QCOW2_BITMAP_EXT_INVALID, where->off, j->b->ext.nb_bitmaps, err);
}

/* ---- the directory */

static int judge_directory_place(struct judge *j, struct vd_err *err)
{
    const struct qcow2_bitmaps_extension *e = &j->b->ext;
    uint64_t at_size = j->b->where->off + 8, at_off = j->b->where->off + 16;

    if (!e->bitmap_directory_offset || !vd_is_aligned(e->bitmap_directory_offset, j->g->cluster_size))
        return found_hopeless(j, QCOW2_BITMAP_DIR_MISALIGNED, at_off, e->bitmap_directory_offset, err);
    if (e->bitmap_directory_size > QCOW2_MAX_BITMAP_DIRECTORY)
        return found_hopeless(j, QCOW2_BITMAP_DIR_TOO_LARGE, at_size, e->bitmap_directory_size, err);
    if (!e->bitmap_directory_size)
        return found_hopeless(j, QCOW2_BITMAP_DIR_SIZE, at_size, 0, err);
    return found_hopeless(j, QCOW2_BITMAP_DIR_OUT_OF_FILE, at_off, e->bitmap_directory_offset, err);
}

/*
 * The directory's size and the number of bitmaps must end it at the same place. Where one of them does with
 * entries that all parse, the other is wrong.
 */
static int judge_directory_ends(struct judge *j, struct vd_err *err)
{
    const struct qcow2_bitmaps *b = j->b;
    uint64_t size = b->ext.bitmap_directory_size, at = b->where->off;

    if (b->dir_bytes == size && b->list.n == b->ext.nb_bitmaps)
        return 0;
    if (b->dir_bytes == size) {
        if (vd_found(j->ck, QCOW2_BITMAP_DIR_COUNT, .host = at, .found = b->ext.nb_bitmaps,
                     .expected = b->list.n) == VD_FIX)
            return qcow2_patch(j->ck, at, 4, b->list.n, VD_STAGE_ROOT, err);
        return 0;
    }
    if (!b->true_bytes)
        return found_hopeless(j, QCOW2_BITMAP_DIR_SIZE, at + 8, size, err);
    if (vd_found(j->ck, QCOW2_BITMAP_DIR_SIZE, .host = at + 8, .found = size, .expected = b->true_bytes) ==
        VD_FIX)
        return qcow2_patch(j->ck, at + 8, 8, b->true_bytes, VD_STAGE_ROOT, err);
    return 0;
}

/* ---- entries */

static bool has_unknown_flags(const struct judge *j, const struct qcow2_bitmap *bm)
{
    (void)j;
    return bm->flags &
           ~(uint32_t)(QCOW2_BITMAP_F_IN_USE | QCOW2_BITMAP_F_AUTO | QCOW2_BITMAP_F_EXTRA_COMPATIBLE);
}

static bool has_unknown_type(const struct judge *j, const struct qcow2_bitmap *bm)
{
    (void)j;
    return bm->type != 1;
}

static bool has_bad_granularity(const struct judge *j, const struct qcow2_bitmap *bm)
{
    (void)j;
    return bm->granularity_bits < QCOW2_MIN_GRANULARITY_BITS ||
           bm->granularity_bits > QCOW2_MAX_GRANULARITY_BITS;
}

static bool has_long_name(const struct judge *j, const struct qcow2_bitmap *bm)
{
    (void)j;
    return bm->name_len > QCOW2_MAX_BITMAP_NAME;
}

static bool has_no_table(const struct judge *j, const struct qcow2_bitmap *bm)
{
    (void)j;
    return !bm->table_off || !bm->table_n;
}

static bool has_misaligned_table(const struct judge *j, const struct qcow2_bitmap *bm)
{
    return !vd_is_aligned(bm->table_off, j->g->cluster_size);
}

static bool has_large_table(const struct judge *j, const struct qcow2_bitmap *bm)
{
    (void)j;
    return bm->table_n > QCOW2_MAX_BITMAP_TABLE;
}

static bool has_table_out_of_file(const struct judge *j, const struct qcow2_bitmap *bm)
{
    return bm->table_off && !has_misaligned_table(j, bm) && !has_large_table(j, bm) &&
           !vd_span_within(table_of(bm), j->g->file_end);
}

static bool has_too_much(const struct judge *j, const struct qcow2_bitmap *bm)
{
    (void)j;
    return bm->is_too_much;
}

static bool has_wrong_table_size(const struct judge *j, const struct qcow2_bitmap *bm)
{
    return bm->table_is_sound && !(bm->flags & QCOW2_BITMAP_F_IN_USE) && !has_bad_granularity(j, bm) &&
           bm->table_n != qcow2_bitmap_need(j->g, bm->granularity_bits);
}

/* What an entry must keep; where it does not, only giving the bitmaps up is left. */
static const struct {
    enum qcow2_finding finding;
    bool (*is_broken)(const struct judge *j, const struct qcow2_bitmap *bm);
    unsigned field, bytes;
} rules[] = {
    {QCOW2_BITMAP_ENTRY_FLAGS,       has_unknown_flags,     FIELD_FLAGS,       4},
    {QCOW2_BITMAP_ENTRY_TYPE,        has_unknown_type,      FIELD_TYPE,        1},
    {QCOW2_BITMAP_ENTRY_GRANULARITY, has_bad_granularity,   FIELD_GRANULARITY, 1},
    {QCOW2_BITMAP_ENTRY_NAME,        has_long_name,         FIELD_NAME_SIZE,   2},
    {QCOW2_BITMAP_TABLE_ZERO,        has_no_table,          FIELD_TABLE_OFF,   8},
    {QCOW2_BITMAP_TABLE_MISALIGNED,  has_misaligned_table,  FIELD_TABLE_OFF,   8},
    {QCOW2_BITMAP_TABLE_TOO_LARGE,   has_large_table,       FIELD_TABLE_SIZE,  4},
    {QCOW2_BITMAP_TABLE_OUT_OF_FILE, has_table_out_of_file, FIELD_TABLE_OFF,   8},
    {QCOW2_BITMAP_TABLE_OVERLAP,     has_too_much,          FIELD_TABLE_OFF,   8},
    {QCOW2_BITMAP_TABLE_SIZE,        has_wrong_table_size,  FIELD_TABLE_SIZE,  4},
};

/* The field of a rule, as it stands in the entry. */
static int read_field(struct vd_check *ck, uint64_t off, unsigned bytes, uint64_t *value, struct vd_err *err)
{
    uint8_t word[8] = {0};

    if (bdrv_pread_padded(ck->bs->file, (int64_t)off, bytes, word, err) < 0)
        return -1;
    *value = vd_get_be64(word) >> (64 - 8 * bytes);
    return 0;
}

static void judge_oddities(const struct judge *j, const struct qcow2_bitmap *bm)
{
    uint64_t at_flags = bm->entry_off + FIELD_FLAGS;

    if (bm->extra_bytes)
        vd_found(j->ck, QCOW2_BITMAP_EXTRA_DATA, .host = bm->entry_off + FIELD_EXTRA,
                 .found = bm->extra_bytes);
    else if (bm->flags & QCOW2_BITMAP_F_EXTRA_COMPATIBLE)
        vd_found(j->ck, QCOW2_BITMAP_ENTRY_FLAGS, .host = at_flags, .found = bm->flags,
                 .severity = VD_WARNING, .level = VD_LEVEL_NONE,
                 .note = "the flag for extra data is set, and there is none: legal, but QEMU refuses it");
    if (!bm->name_len)
        vd_found(j->ck, QCOW2_BITMAP_ENTRY_NAME, .host = bm->entry_off + FIELD_NAME_SIZE, .found = 0,
                 .severity = VD_WARNING, .level = VD_LEVEL_NONE, .note = "the name is empty");
}

static int judge_entry(struct judge *j, const struct qcow2_bitmap *bm, struct vd_err *err)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(rules); i++) {
        uint64_t off = bm->entry_off + rules[i].field, found;

        if (!rules[i].is_broken(j, bm))
            continue;
        if (read_field(j->ck, off, rules[i].bytes, &found, err) < 0 ||
            found_hopeless(j, rules[i].finding, off, found, err) < 0)
            return -1;
    }
    judge_oddities(j, bm);
    return 0;
}

static int compare_names(const struct qcow2_bitmap *a, const struct qcow2_bitmap *b)
{
    int order = (int)a->name_len - (int)b->name_len;

    return order ? order : memcmp(a->name, b->name, a->name_len);
}

static int by_name(const void *a, const void *b)
{
    const struct qcow2_bitmap *const *x = a, *const *y = b;
    int order = compare_names(*x, *y);

    return order ? order : ((*x)->entry_off > (*y)->entry_off) - ((*x)->entry_off < (*y)->entry_off);
}

static int judge_names(struct judge *j, struct vd_err *err)
{
    size_t n = j->b->list.n;
    vd_auto_mem const struct qcow2_bitmap **sorted = malloc((n + 1) * sizeof(struct qcow2_bitmap *));

    if (!sorted)
        return vd_fail_memory(err);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &j->b->list.v[i];
    qsort(sorted, n, sizeof(struct qcow2_bitmap *), by_name);
    for (size_t i = 1; i < n; i++) {
        const struct qcow2_bitmap *bm = sorted[i];

        VD_AT(j->ck, "bitmap", (uint64_t)(bm - j->b->list.v));
        if (!compare_names(bm, sorted[i - 1]) &&
            found_hopeless(j, QCOW2_BITMAP_NAME_DUPLICATE,
                           bm->entry_off + QCOW2_BITMAP_BYTES + bm->extra_bytes, VD_NOWHERE, err) < 0)
            return -1;
    }
    return 0;
}

int qcow2_judge_lost_bitmaps(struct vd_check *ck, const struct qcow2_bitmaps *b, enum qcow2_finding finding,
                             uint64_t host, uint64_t found, struct vd_err *err)
{
    struct judge j = judge_of(ck, b);

    return found_hopeless(&j, finding, host, found, err);
}

int qcow2_judge_bitmaps(struct vd_check *ck, const struct qcow2_bitmaps *b, struct vd_err *err)
{
    struct judge j = judge_of(ck, b);

    if (!b->has_extension)
        return judge_no_extension(ck, err);
    if (!b->is_in_force)
        return judge_void(&j, err);
    if (!b->ext_is_sound)
        return judge_extension(&j, err);
    if (!b->dir_is_sound)
        return judge_directory_place(&j, err);
    if (judge_directory_ends(&j, err) < 0)
        return -1;
    for (size_t i = 0; i < b->list.n; i++) {
        VD_AT(ck, "bitmap", i);
        if (judge_entry(&j, &b->list.v[i], err) < 0)
            return -1;
    }
    return judge_names(&j, err);
}

/* ---- claims */

struct claimer {
    struct vd_check *ck;
    const struct qcow2_geometry *g;
    struct vd_span run; /* clusters in a row, not yet claimed */
    uint64_t reference; /* of its first cluster */
    uint64_t claims;
};

static int claim_run(struct claimer *c, struct vd_err *err)
{
    struct vd_span run = c->run;
    struct vd_count_result result = {0};
    struct vd_count_batch batch = {.words = &run.off, .n = 1, .weight = 1, .lo = 0, .hi = c->g->file_end};

    c->run.len = 0;
    if (!run.len)
        return 0;
    if (c->claims++ < MOST_DATA_CLAIMS)
        return vd_claim(c->ck, VD_KIND_BITMAP_DATA, run, c->reference, NULL, err);
    for (uint64_t end = vd_span_end(run); run.off < end; run.off += c->g->cluster_size)
        if (vd_count_table(c->ck, &batch, &result, err) < 0)
            return -1;
    return 0;
}

static int claim_word(void *opaque, const struct qcow2_bitmap *bm, uint64_t i, uint64_t word,
                      struct vd_err *err)
{
    struct claimer *c = opaque;
    uint64_t off = word & QCOW2_OFFSET_MASK;

    if (qcow2_bitmap_word_kind(c->g, word) != QCOW2_BITMAP_CLUSTER)
        return 0;
    if (c->run.len && off == vd_span_end(c->run)) {
        c->run.len += c->g->cluster_size;
        return 0;
    }
    if (claim_run(c, err) < 0)
        return -1;
    c->run = (struct vd_span){off, c->g->cluster_size};
    c->reference = bm->table_off + 8 * i;
    return 0;
}

int qcow2_claim_bitmaps(struct vd_check *ck, const struct qcow2_bitmaps *b, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct claimer c = {.ck = ck, .g = &q->g};

    if (!b->is_in_force || !b->ext_is_sound || !b->dir_is_sound)
        return 0;
    if (vd_claim(ck, VD_KIND_BITMAP_DIRECTORY,
                 (struct vd_span){b->ext.bitmap_directory_offset, b->ext.bitmap_directory_size},
                 b->where->off + 16, NULL, err) < 0)
        return -1;
    for (size_t i = 0; i < b->list.n; i++) {
        const struct qcow2_bitmap *bm = &b->list.v[i];

        if (bm->table_is_sound &&
            (vd_budget_go_on(ck->budget, err) < 0 ||
             vd_claim(ck, VD_KIND_BITMAP_TABLE, table_of(bm), bm->entry_off, NULL, err) < 0 ||
             qcow2_bitmap_words(ck->bs, bm, claim_word, &c, err) < 0 || claim_run(&c, err) < 0))
            return -1;
    }
    return 0;
}
