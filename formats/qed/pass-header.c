/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "header": every rule of the header that is broken is a finding, and what can be repaired is written
 * anew from what the tables prove. Leaves behind: a geometry that the walk can trust, or an end of the check.
 */
#include "formats/qed/qed.h"

#include <inttypes.h>
#include <stdio.h>

struct header_judge {
    struct vd_check *ck;
    struct qed *qed;
    struct qed_rebuild rebuild;
    bool is_rebuilt; /* rebuild was worked out */
};

/* Does anything but this rule keep the image from being opened? */
static bool breaks_others(const struct qed *qed, enum qed_finding but)
{
    for (const struct qed_rule *rule = qed_rules; rule->is_broken; rule++)
        if ((rule->flags & QED_REFUSES_OPEN) && rule->finding != but &&
            rule->is_broken(&qed->header, &qed->g))
            return true;
    return false;
}

/* Would the image be whole without the unknown feature bits? */
static int features_alone_are_wrong(struct vd_check *ck, bool *alone, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    struct vd_check *scratch;
    struct qed_walk walk = {.stops_early = true};
    struct vd_err why = VD_ERR_INIT;

    *alone = false;
    if (breaks_others(qed, QED_FEATURE_UNKNOWN))
        return 0;
    scratch = vd_scratch_new(ck, err);
    if (!scratch)
        return -1;
    if (qed_walk(scratch, &qed->g, qed->header.image_size, &walk, &why) == 0)
        *alone = !walk.bad && !walk.bad_slots_n && !walk.shared && !scratch->map_is_incomplete;
    vd_scratch_done(scratch);
    qed_walk_done(&walk);
    return 0;
}

/* A size too large for the tables can only be cut to what they map, and that takes a walk. 1: it is not
 * known, for not all of them can be read. */
static int largest_mapped(struct vd_check *ck, uint64_t *size, struct vd_err *err)
{
    struct qed *qed = ck->bs->opaque;
    struct qed_walk walk = {0};
    struct vd_check *scratch = vd_scratch_new(ck, err);
    int rc;

    if (!scratch)
        return -1;
    rc = qed_walk(scratch, &qed->g, qed->g.size_limit, &walk, err);
    if (rc == 0 && scratch->map_is_incomplete)
        rc = 1;
    if (rc == 0)
        *size = vd_min(walk.max_guest, qed->g.size_limit);
    vd_scratch_done(scratch);
    qed_walk_done(&walk);
    return rc;
}

static int plan_size(struct header_judge *j, struct qed_header *fixed, enum vd_level *level,
                     struct vd_err *err)
{
    int rc = 1;

    *level = VD_LEVEL_SAFE;
    if (fixed->image_size <= j->qed->g.size_limit)
        return 0;
    if (qed_can_walk(&j->qed->header, &j->qed->g))
        rc = largest_mapped(j->ck, &fixed->image_size, err);
    *level = rc == 0 ? VD_LEVEL_ALL : VD_LEVEL_NONE;
    return rc < 0 ? -1 : 0;
}

/* The header that a finding's repair would write, and at which level. */
static int plan_header(struct header_judge *j, const struct qed_rule *rule, struct qed_header *fixed,
                       enum vd_level *level, struct vd_err *err)
{
    const struct qed_header *h = &j->qed->header;
    bool alone;

    *fixed = *h;
    *level = j->ck->bs->drv->findings[rule->finding].level;
    switch ((int)rule->finding) {
    case QED_HEADER_MAGIC:
        fixed->magic = QED_MAGIC;
        if (breaks_others(j->qed, QED_HEADER_MAGIC))
            *level = VD_LEVEL_NONE;
        return 0;
    case QED_FEATURE_UNKNOWN:
        fixed->features &= QED_F_KNOWN;
        if (features_alone_are_wrong(j->ck, &alone, err) < 0)
            return -1;
        *level = alone ? VD_LEVEL_ALL : VD_LEVEL_NONE;
        return 0;
    case QED_IMAGE_SIZE_INVALID:
        fixed->image_size = vd_align_up_sat(h->image_size, QED_SECTOR);
        return plan_size(j, fixed, level, err);
    case QED_BACKING_NAME_OUT_OF_HEADER:
        fixed->features &= ~(uint64_t)(QED_F_BACKING_FILE | QED_F_BACKING_FORMAT_NO_PROBE);
        return 0;
    case QED_BACKING_FMT_WITHOUT_BACKING:
        fixed->features &= ~(uint64_t)QED_F_BACKING_FORMAT_NO_PROBE;
        return 0;
    default:
        break;
    }
    if (!(rule->flags & QED_CAN_REBUILD))
        return 0;
    if (!j->is_rebuilt && qed_rebuild_header(j->ck, &j->rebuild, err) < 0)
        return -1;
    j->is_rebuilt = true;
    *level = j->rebuild.level;
    if (j->rebuild.level != VD_LEVEL_NONE)
        *fixed = j->rebuild.header;
    return 0;
}

static int judge_rule(struct header_judge *j, const struct qed_rule *rule, struct vd_err *err)
{
    const struct vd_field *field = vd_layout_find(&qed_header_layout, rule->field);
    const struct qed_header *h = &j->qed->header;
    enum qed_finding finding = rule->finding;
    struct qed_header fixed;
    enum vd_level level;
    struct vd_span guest = {VD_NOWHERE, 0}; /* that reads otherwise by the new value */
    uint64_t now, then;
    char text[VD_DIFFERENCE_TEXT];

    if (plan_header(j, rule, &fixed, &level, err) < 0)
        return -1;
    /* Two fields contradict each other, and it is the other one that is wrong. */
    if (finding == QED_HEADER_SIZE_OVERLAP && fixed.l1_table_offset != h->l1_table_offset) {
        finding = QED_L1_OFFSET_IN_HEADER;
        guest = (struct vd_span){0, vd_min(h->image_size, j->qed->g.size_limit)};
        field = vd_layout_find(&qed_header_layout, "l1_table_offset");
    }
    now = vd_field_get(field, h);
    if (fixed.image_size < h->image_size && j->qed->g.is_usable)
        guest = (struct vd_span){fixed.image_size, vd_min(h->image_size, INT64_MAX) - fixed.image_size};
    then = vd_field_get(field, &fixed);
    if (vd_found(j->ck, finding, .host = field->offset, .found = now, .guest = guest.off,
                 .guest_bytes = guest.len, .expected = then != now ? then : VD_NOWHERE,
                 .expected_text =
                     then == now ? vd_layout_difference(&qed_header_layout, h, &fixed, text) : NULL,
                 .level = level,
                 .severity = rule->finding == QED_BACKING_NAME_TOO_LONG &&
                                     h->backing_filename_size >= QED_MAX_BACKING_NAME
                                 ? VD_CORRUPTION
                                 : 0) == VD_LEAVE)
        return 0;
    if ((rule->flags & QED_CAN_REBUILD) && j->rebuild.new_length &&
        qed_fix_extend(j->ck, j->rebuild.new_length, err) < 0)
        return -1;
    return qed_fix_header(j->ck, &fixed, VD_STAGE_ROOT, err);
}

static int judge_backing_name(struct vd_check *ck)
{
    const struct BlockDriverState *bs = ck->bs;
    const struct qed *qed = bs->opaque;

    for (size_t i = 0; i < bs->backing_file_len; i++)
        if ((unsigned char)bs->backing_file[i] < 0x20 || bs->backing_file[i] == 0x7f) {
            vd_found(ck, QED_BACKING_NAME_NUL, .host = qed->header.backing_filename_offset + i,
                     .found = (unsigned char)bs->backing_file[i]);
            return 0;
        }
    return 0;
}

int qed_pass_header(struct vd_check *ck, struct vd_err *err)
{
    struct header_judge j = {.ck = ck, .qed = ck->bs->opaque};
    bool stops = false;

    if (!j.qed->has_header) {
        char found[64];

        snprintf(found, sizeof(found), "%" PRIu64 " bytes", j.qed->g.file_size);
        vd_found(ck, QED_HEADER_TRUNCATED, .host = 0, .found_text = found,
                 .expected_text = "64 bytes or more");
        ck->map_is_incomplete = true;
        return VD_STOP;
    }
    for (const struct qed_rule *rule = qed_rules; rule->is_broken && !ck->has_changed; rule++) {
        if (!rule->is_broken(&j.qed->header, &j.qed->g))
            continue;
        stops |= (rule->flags & QED_STOPS_WALK) != 0;
        /* Which tables an unknown feature changes cannot be known: what a walk said would be noise. */
        stops |= rule->finding == QED_FEATURE_UNKNOWN;
        if (judge_rule(&j, rule, err) < 0)
            return -1;
    }
    judge_backing_name(ck);
    if (stops && !ck->has_changed)
        ck->map_is_incomplete = true;
    return stops && !ck->has_changed ? VD_STOP : 0;
}
