/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The end of the file is missing. One entry that leads past the end is a stray; where the stored counts go on
 * behind the end as well, and entries lead to clusters that are counted there, the file was longer.
 *
 * Zeroes in place of what is missing bring nothing back. They keep the next allocation from taking the
 * clusters that entries still name. The file is never made longer than counts without a gap and an entry
 * reach.
 */
#include "formats/qcow2/judge.h"

enum { WINDOW = 512 };

struct cut {
    struct judge *j;
    uint64_t
        counted_end; /* cluster behind the last one that is counted, without a gap from the file's end on */
    uint64_t lost, end; /* entries that lead in there, and the cluster behind the last of these */
};

static int find_counted_end(struct cut *cut, struct vd_err *err)
{
    const struct judge *j = cut->j;
    uint64_t count[WINDOW];

    for (cut->counted_end = j->s->map_clusters;;) {
        uint64_t n = vd_min(WINDOW, j->g->block_n - cut->counted_end % j->g->block_n);

        if (vd_budget_go_on(j->ck->budget, err) < 0)
            return -1;
        if (cut->counted_end / j->g->block_n >= j->g->reftable_n ||
            qcow2_read_counts(j->ck->bs, cut->counted_end, n, count, NULL) < 0)
            return 0;
        for (uint64_t i = 0; i < n; i++)
            if (!count[i])
                return 0;
            else
                cut->counted_end++;
    }
}

/* bytes from host on are named by an entry. */
static void take(struct cut *cut, uint64_t host, uint64_t bytes)
{
    const struct qcow2_geometry *g = cut->j->g;
    uint64_t end = vd_div_up(host + bytes, g->cluster_size);

    if (end <= cut->j->s->map_clusters || end > cut->counted_end)
        return;
    cut->lost++;
    cut->end = vd_max(cut->end, end);
}

static int on_lost_entry(void *opaque, const struct qcow2_seen *seen, struct vd_err *err)
{
    struct cut *cut = opaque;
    struct qcow2_entry e = qcow2_parse_entry(cut->j->g, seen->word, seen->bitmap,
                                             qcow2_guest(cut->j->g, seen->table->slot, seen->i));

    (void)err;
    if (e.faults & (QCOW2_F_OUT_OF_FILE | QCOW2_F_PACKED_OUT_OF_FILE))
        take(cut, e.host, e.bytes);
    return 0;
}

static int gather(struct cut *cut, struct vd_err *err)
{
    const struct qcow2_walk *walk = cut->j->walk;

    for (size_t i = 0; i < walk->bad_slots.n; i++)
        if (walk->bad_slots.v[i].why == QCOW2_L1_ENTRY_OUT_OF_FILE)
            take(cut, walk->bad_slots.v[i].word & QCOW2_OFFSET_MASK, cut->j->g->cluster_size);
    for (size_t i = 0; i < walk->tables.n; i++) {
        const struct qcow2_table *t = &walk->tables.v[i];

        if ((t->faults & (QCOW2_F_OUT_OF_FILE | QCOW2_F_PACKED_OUT_OF_FILE)) &&
            !qcow2_is_mass_damage(t->bad, t->used) &&
            qcow2_each_entry(cut->j, t, on_lost_entry, cut, err) < 0)
            return -1;
    }
    return 0;
}

int qcow2_judge_truncated(struct judge *j, struct vd_err *err)
{
    struct cut cut = {.j = j};
    uint64_t length;

    if (j->g->has_data_file || j->s->reftable.is_lost || (!j->walk->bad && !j->walk->bad_slots_n))
        return 0;
    if (find_counted_end(&cut, err) < 0 || (cut.counted_end > j->s->map_clusters && gather(&cut, err) < 0))
        return -1;
    if (!cut.lost)
        return 0;
    length = cut.end << j->g->cluster_bits;
    if (vd_found(j->ck, QCOW2_FILE_TRUNCATED, .host = j->g->file_size, .host_bytes = length - j->g->file_size,
                 .found = j->g->file_size, .expected = length,
                 .level = bdrv_is_fixed_length(j->ck->bs) ? VD_LEVEL_NONE : VD_LEVEL_ALL) == VD_FIX)
        return qcow2_fix_extend(j->ck, length, err);
    return 0;
}
