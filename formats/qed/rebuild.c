/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A header that the tables prove.
 *
 * Each legal value of a doubtful field is tried by a walk on the side. A reading fits when every entry is
 * aligned and in the file and nothing is named twice; it is proven when it is the only one that also leaves
 * no cluster of the file unexplained. Where one reading is merely better than all others, taking it is a
 * choice (level `all`).
 */
#include "formats/qed/qed.h"

#include <stdlib.h>
#include <string.h>

/* So many places for the L1 table are looked at. */
enum { MOST_L1_PLACES = 1 << 16 };

struct trial {
    bool fits;
    bool is_complete; /* all tables could be read */
    uint64_t data;    /* clusters that are mapped */
    uint64_t leaks;   /* clusters */
    uint64_t in_header;
    uint64_t max_guest; /* bytes: the end of what is mapped */
};

struct rebuild {
    struct vd_check *ck;
    struct qed_header base;
    uint64_t file_size;
    struct qed_header best;
    uint64_t best_leaks, best_guest;
    unsigned best_n; /* how many readings are as good as the best */
};

/* Walks by another header. Only what stops the search is an error; that a reading does not fit is an answer.
 */
static int try_header(struct vd_check *ck, const struct qed_header *h, uint64_t file_size, bool stops_early,
                      struct trial *trial, struct vd_err *err)
{
    struct qed_geometry g = qed_derive(h, file_size);
    struct qed_walk walk = {.stops_early = stops_early};
    struct vd_err why = VD_ERR_INIT;
    struct vd_check *scratch;
    int rc;

    *trial = (struct trial){0};
    if (!qed_can_walk(h, &g))
        return 0;
    scratch = vd_scratch_new(ck, err);
    if (!scratch)
        return -1;
    rc = qed_walk(scratch, &g, h->image_size, &walk, &why);
    if (rc == 0) {
        trial->in_header = walk.in_header;
        trial->is_complete = !scratch->map_is_incomplete;
        trial->fits = !walk.bad && !walk.shared && !walk.bad_slots_n && !scratch->map_is_incomplete;
        trial->data = walk.allocated;
        trial->max_guest = walk.max_guest;
        trial->leaks = vd_count_free(scratch);
    }
    vd_scratch_done(scratch);
    qed_walk_done(&walk);
    if (rc < 0 && why.kind != VD_ERR_REFUSED) {
        *err = why;
        return -1;
    }
    return 0;
}

static void weigh(struct rebuild *r, const struct qed_header *h, const struct trial *trial)
{
    /* What leaves more over than half of what it maps explains nothing. */
    if (!trial->fits || 2 * trial->leaks > trial->data)
        return;
    if (r->best_n && trial->leaks > r->best_leaks)
        return;
    if (r->best_n && trial->leaks == r->best_leaks) {
        r->best_n += memcmp(h, &r->best, sizeof(*h)) != 0;
        return;
    }
    r->best = *h;
    r->best_leaks = trial->leaks;
    r->best_guest = trial->max_guest;
    r->best_n = 1;
}

static int try_one(struct rebuild *r, const struct qed_header *h, struct vd_err *err)
{
    struct trial trial;

    if (try_header(r->ck, h, r->file_size, true, &trial, err) < 0)
        return -1;
    weigh(r, h, &trial);
    return 0;
}

/* Could the first words at this place be those of an L1 table with at least one entry? */
static bool looks_like_l1(struct vd_check *ck, const struct qed_geometry *g)
{
    uint64_t entry[512], used = 0, n = vd_min(512, g->table_n);

    if (!vd_span_within((struct vd_span){g->l1_off, g->table_bytes}, g->file_end) ||
        bdrv_is_hole(ck->bs->file, (int64_t)g->l1_off, (int64_t)(8 * n)) ||
        qed_read_entries(ck->bs, g->l1_off, 0, n, entry, NULL) < 0)
        return false;
    for (uint64_t i = 0; i < n; i++) {
        enum qed_entry_kind kind = qed_l1_entry_kind(g, entry[i]);

        if (kind != QED_ENTRY_NONE && kind != QED_ENTRY_GOOD)
            return false;
        used += kind == QED_ENTRY_GOOD;
    }
    return used > 0;
}

static int try_l1_places(struct rebuild *r, const struct qed_header *base, struct vd_err *err)
{
    struct qed_header h = *base;
    uint64_t places = vd_min(r->file_size / h.cluster_size, MOST_L1_PLACES);

    for (uint64_t i = 1; i < places; i++) {
        struct qed_geometry g;

        h.l1_table_offset = i * h.cluster_size;
        g = qed_derive(&h, r->file_size);
        if (h.header_size * (uint64_t)h.cluster_size > h.l1_table_offset || !looks_like_l1(r->ck, &g))
            continue;
        if (vd_budget_go_on(r->ck->budget, err) < 0 || try_one(r, &h, err) < 0)
            return -1;
    }
    return 0;
}

static bool is_broken(enum qed_finding finding, const struct qed_header *h, const struct qed_geometry *g)
{
    for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++)
        if (rule->finding == finding)
            return rule->is_broken(h, g);
    return false;
}

static bool l1_is_doubtful(const struct qed_header *h, const struct qed_geometry *g)
{
    return is_broken(QED_L1_OFFSET_MISALIGNED, h, g) || is_broken(QED_L1_OFFSET_IN_HEADER, h, g) ||
           is_broken(QED_L1_OFFSET_OUT_OF_FILE, h, g);
}

static bool header_size_is_doubtful(const struct qed_header *h, const struct qed_geometry *g)
{
    return is_broken(QED_HEADER_SIZE_ZERO, h, g) || is_broken(QED_HEADER_SIZE_OUT_OF_FILE, h, g) ||
           is_broken(QED_HEADER_SIZE_OVERLAP, h, g);
}

/* The header area must go on holding the backing file's name. */
bool qed_holds_name(const struct qed_header *h)
{
    return !(h->features & QED_F_BACKING_FILE) ||
           (uint64_t)h->backing_filename_offset + h->backing_filename_size <=
               (uint64_t)h->header_size * h->cluster_size;
}

/* The L1 table lies in the header area, and a smaller area leaves clusters unexplained: it may be the table's
 * offset that is wrong. Which of the two is a choice; the one that explains more is taken. */
static int doubt_header_size(struct rebuild *r, const struct trial *trial, struct qed_rebuild *out,
                             struct vd_err *err)
{
    if (try_l1_places(r, &r->base, err) < 0)
        return -1;
    if (r->best_n || trial->leaks >= trial->data)
        out->level = VD_LEVEL_ALL;
    if (r->best_n == 1 && (!trial->fits || r->best_leaks < trial->leaks))
        out->header = r->best;
    return 0;
}

/*
 * The header's size alone is wrong: what lies before the first table or data cluster. Other damage does not
 * matter, as long as no entry points into the area that is left.
 */
static int rebuild_header_size(struct rebuild *r, struct qed_rebuild *out, struct vd_err *err)
{
    struct vd_check *ck = r->ck;
    struct qed *qed = ck->bs->opaque;
    bool covers_l1 = is_broken(QED_HEADER_SIZE_OVERLAP, &qed->header, &qed->g);
    uint32_t sizes[] = {(uint32_t)(qed->g.header_end >> qed->g.cluster_bits), 1};

    for (size_t i = 0; i < VD_ARRAY_SIZE(sizes); i++) {
        struct trial trial;

        out->header = qed->header;
        out->header.header_size = sizes[i];
        if (!sizes[i] || !qed_holds_name(&out->header))
            continue;
        if (try_header(ck, &out->header, r->file_size, false, &trial, err) < 0)
            return -1;
        if (!trial.in_header && trial.is_complete) {
            out->level = VD_LEVEL_SAFE;
            return covers_l1 && trial.leaks ? doubt_header_size(r, &trial, out, err) : 0;
        }
    }
    return 0;
}

/* Only the unused tail of the L1 table is missing: what is there reads as a table, and the disk needs no more
 * of it. Zeroes read as a table anywhere: they count only where nothing lies between header and table. */
static bool can_extend_l1(struct vd_check *ck, const struct qed_header *h, const struct qed_geometry *g)
{
    uint64_t needed = vd_div_up(h->image_size, qed_slot_bytes(g)), there, entry[512];
    bool is_used = false;

    if (!is_broken(QED_L1_OFFSET_OUT_OF_FILE, h, g) || g->l1_off >= g->file_size ||
        h->image_size > g->size_limit)
        return false;
    there = (g->file_size - g->l1_off) / 8;
    if (!needed || needed > there)
        return false;
    for (uint64_t first = 0; first < there; first += 512) {
        uint64_t n = vd_min(512, there - first);

        if (qed_read_entries(ck->bs, g->l1_off, first, n, entry, NULL) < 0)
            return false;
        for (uint64_t i = 0; i < n; i++) {
            if (!vd_is_aligned(entry[i], g->cluster_size) || (entry[i] && first + i >= needed) ||
                (entry[i] && entry[i] < g->header_end))
                return false;
            is_used |= entry[i] != 0;
        }
    }
    return is_used || g->l1_off == g->header_end;
}

/* Is there anything in the header beside sizes and places that can be believed? */
static bool is_sane(const struct qed_header *h)
{
    struct qed_header usual = *h;

    usual.header_size = 1;
    return !(h->features & ~(uint64_t)QED_F_KNOWN) && !h->compat_features &&
           h->image_size % QED_SECTOR == 0 && qed_holds_name(&usual);
}

/* Neither the sizes nor the table's place are known: the table is tried where QEMU puts it, behind a header
 * of one cluster. */
static int try_usual_place(struct rebuild *r, const struct qed_header *base, struct vd_err *err)
{
    struct qed_header h = {
        .magic = QED_MAGIC, .cluster_size = base->cluster_size, .table_size = base->table_size};

    if (is_sane(base)) {
        h.features = base->features;
        h.image_size = base->image_size;
        h.backing_filename_offset = base->backing_filename_offset;
        h.backing_filename_size = base->backing_filename_size;
    }
    h.header_size = 1;
    h.l1_table_offset = h.cluster_size;
    return try_one(r, &h, err);
}

static int try_all(struct rebuild *r, struct vd_err *err)
{
    static const uint32_t table_sizes[] = {1, 2, 4, 8, 16};
    bool cs_is_known = vd_is_power_of_2(r->base.cluster_size) &&
                       r->base.cluster_size >= QED_MIN_CLUSTER_SIZE &&
                       r->base.cluster_size <= QED_MAX_CLUSTER_SIZE;
    bool ts_is_known = vd_is_power_of_2(r->base.table_size) && r->base.table_size <= QED_MAX_TABLE_SIZE;

    for (uint32_t cs = QED_MIN_CLUSTER_SIZE; cs <= QED_MAX_CLUSTER_SIZE; cs *= 2) {
        for (size_t t = 0; t < VD_ARRAY_SIZE(table_sizes); t++) {
            struct qed_header h = r->base;
            struct qed_geometry g;

            h.cluster_size = cs;
            h.table_size = table_sizes[t];
            if ((cs_is_known && cs != r->base.cluster_size) ||
                (ts_is_known && h.table_size != r->base.table_size))
                continue;
            g = qed_derive(&h, r->file_size);
            if (l1_is_doubtful(&h, &g)) {
                if ((cs_is_known && ts_is_known ? try_l1_places : try_usual_place)(r, &h, err) < 0)
                    return -1;
                continue;
            }
            if (header_size_is_doubtful(&h, &g))
                h.header_size = (uint32_t)vd_max(1, g.header_end >> g.cluster_bits);
            if (qed_holds_name(&h) && try_one(r, &h, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* A legal cluster or table size can be the wrong one, too: with another the other fields may all be right. */
static int try_other_sizes(struct rebuild *r, struct vd_err *err)
{
    struct qed_header base = r->base;

    r->base.cluster_size = 0;
    if (try_all(r, err) < 0)
        return -1;
    r->base = base;
    r->base.table_size = 0;
    if (try_all(r, err) < 0)
        return -1;
    r->base = base;
    return 0;
}

/* Were the sizes and the table's place found together? Then the place was not proven against all others, and
 * of such a header little else is left. */
static bool guesses_place(const struct qed_header *from, const struct qed_header *to)
{
    return from->l1_table_offset != to->l1_table_offset &&
           (from->cluster_size != to->cluster_size || from->table_size != to->table_size);
}

static void take_best(const struct rebuild *r, struct qed_rebuild *out)
{
    out->header = r->best;
    out->level = r->best_leaks ? VD_LEVEL_ALL : VD_LEVEL_SAFE;
    if (!guesses_place(&r->base, &r->best))
        return;
    out->level = VD_LEVEL_ALL;
    out->header.image_size = vd_max(r->best.image_size, r->best_guest);
}

int qed_rebuild_header(struct vd_check *ck, struct qed_rebuild *out, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    struct rebuild r = {.ck = ck, .base = qed->header, .file_size = qed->g.file_size};

    *out = (struct qed_rebuild){.level = VD_LEVEL_NONE};
    if (qed->g.is_usable && !l1_is_doubtful(&qed->header, &qed->g))
        return rebuild_header_size(&r, out, err);
    if (try_all(&r, err) < 0)
        return -1;
    /* A table that is cut off is the nearer explanation than one of another size. */
    if (!r.best_n && can_extend_l1(ck, &qed->header, &qed->g)) {
        out->header = qed->header;
        out->new_length = qed->g.l1_off + qed->g.table_bytes;
        out->level = VD_LEVEL_SAFE;
        return 0;
    }
    if (!r.best_n && qed->g.is_usable && try_other_sizes(&r, err) < 0)
        return -1;
    if (r.best_n == 1)
        take_best(&r, out);
    return 0;
}

/*
 * Can this geometry leave nothing over? What the header's own geometry showed bounds it without reading: each
 * table and cluster seen needs its space, and where no more entries become visible it needs exactly that.
 */
static bool may_explain_all(const struct qed_walk *walk, const struct qed_header *h, uint64_t file_size)
{
    struct qed_geometry g = qed_derive(h, file_size);
    uint64_t least;

    if (!qed_can_walk(h, &g))
        return false;
    /* By a wrong geometry even L1 entries are garbage: then it showed nothing. */
    if (walk->bad_slots_n)
        return true;
    least = vd_add_sat(
        vd_add_sat(g.header_end, g.table_bytes),
        vd_add_sat(vd_mul_sat(walk->tables.n, g.table_bytes), vd_mul_sat(walk->allocated, g.cluster_size)));
    return g.table_n <= walk->g.table_n ? least == g.file_end : least <= g.file_end;
}

int qed_other_geometry(struct vd_check *ck, const struct qed_walk *walk, bool *fits, struct qed_header *other,
                       struct vd_err *err)
{
    static const uint32_t table_sizes[] = {1, 2, 4, 8, 16};
    struct qed *qed = ck->bs->opaque;
    unsigned found = 0;

    *fits = false;
    for (uint32_t cs = QED_MIN_CLUSTER_SIZE; cs <= QED_MAX_CLUSTER_SIZE; cs *= 2)
        for (size_t t = 0; t < VD_ARRAY_SIZE(table_sizes); t++) {
            struct qed_header h = qed->header;
            struct trial trial;

            h.cluster_size = cs;
            h.table_size = table_sizes[t];
            if ((cs == qed->header.cluster_size && h.table_size == qed->header.table_size) ||
                !may_explain_all(walk, &h, qed->g.file_size))
                continue;
            if (try_header(ck, &h, qed->g.file_size, true, &trial, err) < 0)
                return -1;
            if (trial.fits && trial.data && !trial.leaks) {
                found++;
                *other = h;
            }
        }
    *fits = found == 1;
    return 0;
}
