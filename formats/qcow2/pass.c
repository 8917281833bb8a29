/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of a qcow2 image, as a table of passes (at the end of the file).
 */
#include "formats/qcow2/qcow2.h"

/* To be replaced by the walk: claims no more than what the tables of snapshots and bitmaps can overlap. */
static int claim_some(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2 *q = ck->bs->opaque;
    const struct qcow2_geometry *g = &q->g;
    uint64_t word;

    if (vd_begin_map(ck, VD_MAP_COUNTS, g->cluster_bits, g->file_end >> g->cluster_bits, err) < 0 ||
        vd_claim(ck, VD_KIND_HEADER, (struct vd_span){0, g->cluster_size}, VD_NOWHERE, NULL, err) < 0 ||
        vd_claim(ck, VD_KIND_L1, (struct vd_span){g->l1_off, 8 * g->l1_n}, 40, NULL, err) < 0)
        return -1;
    for (uint64_t i = 0; i < g->l1_n; i++) {
        if (qcow2_read_words(ck->bs, g->l1_off, i, 1, &word, err) < 0)
            return -1;
        word &= QCOW2_OFFSET_MASK;
        if (word && word < g->file_end &&
            vd_claim(ck, VD_KIND_L2, (struct vd_span){word, g->cluster_size}, g->l1_off + 8 * i, NULL, err) <
                0)
            return -1;
    }
    return 0;
}

static int judge_all(struct vd_check *ck, const struct qcow2_snapshots *s, const struct qcow2_bitmaps *b,
                     struct vd_err *err)
{
    if (claim_some(ck, err) < 0 || qcow2_claim_snapshots(ck, s, err) < 0 ||
        qcow2_claim_bitmaps(ck, b, err) < 0 || qcow2_claim_crypt(ck, err) < 0)
        return -1;
    if (qcow2_judge_snapshots(ck, s, err) < 0 || (!ck->has_changed && qcow2_judge_bitmaps(ck, b, err) < 0))
        return -1;
    if (ck->has_changed)
        return 0;
    if (qcow2_judge_snapshot_claims(ck, s, err) < 0 || qcow2_judge_crypt_claims(ck, err) < 0)
        return -1;
    return ck->has_changed ? 0 : qcow2_judge_bitmap_claims(ck, b, err);
}

static int pass_metadata(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_snapshots s = {0};
    struct qcow2_bitmaps b = {0};
    int rc = qcow2_judge_extensions(ck, err);

    if (rc < 0 || ck->has_changed)
        return rc;
    if (qcow2_read_snapshots(ck->bs, ck->budget, &s, err) < 0 ||
        qcow2_read_bitmaps(ck->bs, ck->budget, &b, err) < 0)
        rc = -1;
    if (rc == 0)
        rc = judge_all(ck, &s, &b, err);
    qcow2_snapshots_done(&s);
    qcow2_bitmaps_done(&b);
    return rc;
}

static const struct vd_pass passes[] = {
    {"header",   qcow2_pass_header, VD_ALWAYS, "the geometry is trusted from here on"},
    {"metadata", pass_metadata, VD_ALWAYS, "snapshots, bitmaps and the encryption header are in the map"},
    {0         },
};

int qcow2_co_check(struct BlockDriverState *bs, struct vd_check *check, int fix, struct vd_err *err)
{
    (void)bs;
    (void)fix;
    return vd_run_passes(check, passes, err);
}
