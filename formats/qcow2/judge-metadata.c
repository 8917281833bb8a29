/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots, bitmaps and the encryption header, judged in the order in which the repairs of one do not move
 * what the next one looks at.
 */
#include "formats/qcow2/qcow2.h"

static int judge_crypt_claims(struct vd_check *ck, const struct qcow2_snapshots *s,
                              const struct qcow2_bitmaps *b, struct vd_err *err)
{
    (void)s;
    (void)b;
    return qcow2_judge_crypt_claims(ck, err);
}

static int judge_snapshots(struct vd_check *ck, const struct qcow2_snapshots *s,
                           const struct qcow2_bitmaps *b, struct vd_err *err)
{
    (void)b;
    return qcow2_judge_snapshots(ck, s, err);
}

static int judge_snapshot_claims(struct vd_check *ck, const struct qcow2_snapshots *s,
                                 const struct qcow2_bitmaps *b, struct vd_err *err)
{
    (void)b;
    return qcow2_judge_snapshot_claims(ck, s, err);
}

static int judge_bitmaps(struct vd_check *ck, const struct qcow2_snapshots *s, const struct qcow2_bitmaps *b,
                         struct vd_err *err)
{
    (void)s;
    return qcow2_judge_bitmaps(ck, b, err);
}

static int judge_bitmap_claims(struct vd_check *ck, const struct qcow2_snapshots *s,
                               const struct qcow2_bitmaps *b, struct vd_err *err)
{
    (void)s;
    return qcow2_judge_bitmap_claims(ck, b, err);
}

int qcow2_judge_metadata(struct vd_check *ck, const struct qcow2_snapshots *s, const struct qcow2_bitmaps *b,
                         struct vd_err *err)
{
    static int (*const steps[])(struct vd_check *, const struct qcow2_snapshots *,
                                const struct qcow2_bitmaps *, struct vd_err *) = {
        judge_crypt_claims, judge_snapshots, judge_snapshot_claims, judge_bitmaps, judge_bitmap_claims};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        bool had_changed = ck->has_changed;

        if (steps[i](ck, s, b, err) < 0)
            return -1;
        if (ck->has_changed && !had_changed)
            return 0;
    }
    return 0;
}
