/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "L1 size": an L1 table longer than the disk needs. Legal where the rest is empty or leads to tables;
 * where it is garbage, the number in the header is wrong and the table runs over other things. Leaves behind:
 * a geometry whose L1 table is a table to its end.
 */
#include "formats/qcow2/qcow2.h"

enum { WINDOW = 512 };

/* What stands in the entries behind those that the disk needs. */
struct excess {
    uint64_t used, bad;
};

static int look(struct vd_check *ck, struct excess *x, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t word[WINDOW];

    for (uint64_t first = q->g.l1_need; first < q->g.l1_n; first += WINDOW) {
        uint64_t n = vd_min(WINDOW, q->g.l1_n - first);

        if (qcow2_read_words(ck->bs, q->g.l1_off, first, n, word, NULL) < 0)
            return 0; /* the walk reports what cannot be read */
        if (vd_budget_go_on(ck->budget, err) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++) {
            x->used += word[i] != 0;
            x->bad += (qcow2_l1_faults(&q->g, word[i]) & ~(unsigned)QCOW2_F_PARTIAL_TAIL) != 0;
        }
    }
    return 0;
}

int qcow2_pass_l1_size(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header fixed = q->header;
    bool is_too_large = q->header.l1_size > QCOW2_MAX_L1_ENTRIES;
    struct excess x = {0};
    bool is_garbage;

    if (q->header.l1_size <= q->g.l1_need || q->g.l1_need > QCOW2_MAX_L1_ENTRIES)
        return 0;
    if (look(ck, &x, err) < 0)
        return -1;
    is_garbage = x.bad && x.bad * 8 >= x.used;
    fixed.l1_size = (uint32_t)q->g.l1_need;
    if (is_garbage || is_too_large)
        q->g.l1_n = vd_min(q->g.l1_n, q->g.l1_need);
    if (vd_found(ck, is_too_large ? QCOW2_L1_SIZE_TOO_LARGE : QCOW2_L1_SIZE_EXCESS, .host = 36,
                 .found = q->header.l1_size, .expected = fixed.l1_size,
                 .severity = is_garbage || is_too_large ? VD_CORRUPTION : VD_WARNING,
                 .level = is_garbage || !x.used ? (is_garbage || is_too_large ? VD_LEVEL_SAFE : VD_LEVEL_ALL)
                                                : VD_LEVEL_NONE) == VD_FIX)
        return qcow2_fix_fields(ck, &fixed, "l1_size", "l1_size", VD_STAGE_ROOT, err);
    return 0;
}
