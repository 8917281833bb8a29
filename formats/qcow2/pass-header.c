/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "header": every rule of the header that is broken is a finding. Leaves behind: a geometry that the
 * walk can trust, or an end of the check.
 */
#include <inttypes.h>
#include <stdio.h>

#include "formats/qcow2/qcow2.h"

/* An encryption method that is not known is LUKS where the extension for it leads to a LUKS header. */
static int plan_crypt_method(struct BlockDriverState *bs, struct qcow2_header *fixed, enum vd_level *level,
                             struct vd_err *err)
{
    struct qcow2_crypt crypt;

    if (qcow2_read_crypt(bs, &crypt, err) < 0)
        return -1;
    fixed->crypt_method = QCOW2_CRYPT_LUKS;
    *level = crypt.is_sane ? 0 : VD_LEVEL_NONE;
    return 0;
}

/* What a repair of the rule writes: the field's new value. *level is none where there is no such value, and 0
 * where it is the row's. */
static int plan_header(struct vd_check *ck, enum qcow2_finding finding, struct qcow2_header *fixed,
                       enum vd_level *level, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;

    *fixed = q->header;
    *level = 0;
    switch ((int)finding) {
    case QCOW2_HEADER_MAGIC:
        fixed->magic = QCOW2_MAGIC;
        return 0;
    case QCOW2_HEADER_VERSION:
        fixed->version = q->g.version;
        return 0;
    case QCOW2_HEADER_LENGTH_SHORT:
    case QCOW2_HEADER_LENGTH_LARGE:
    case QCOW2_HEADER_LENGTH_UNALIGNED:
    case QCOW2_HEADER_LENGTH_SUSPECT:
        fixed->header_length = q->rest.fitting_length;
        *level = q->rest.fitting_length ? 0 : VD_LEVEL_NONE;
        return 0;
    case QCOW2_SIZE_UNALIGNED:
        fixed->size = vd_align_up_sat(q->header.size, QCOW2_SECTOR);
        return 0;
    case QCOW2_CRYPT_METHOD_UNKNOWN:
        return plan_crypt_method(ck->bs, fixed, level, err);
    case QCOW2_DATA_FILE_RAW_WITHOUT_FILE:
    case QCOW2_BACKING_WITH_RAW_DATA_FILE:
        fixed->autoclear_features &= ~(uint64_t)QCOW2_AUTOCLEAR_DATA_FILE_RAW;
        return 0;
    case QCOW2_HEADER_CLUSTER_BITS:
    case QCOW2_REFCOUNT_ORDER_INVALID:
    case QCOW2_L1_OFFSET_MISALIGNED:
    case QCOW2_L1_OFFSET_OUT_OF_FILE:
        return qcow2_search_header(ck, finding, fixed, level, err);
    default:
        *level = VD_LEVEL_NONE;
        return 0;
    }
}

static int judge_rule(struct vd_check *ck, const struct qcow2_rule *rule, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct vd_field *field = vd_layout_find(&qcow2_header_layout, rule->field);
    struct qcow2_header fixed;
    enum vd_level level;
    uint64_t now = vd_field_get(field, &q->header), then;

    if (plan_header(ck, rule->finding, &fixed, &level, err) < 0)
        return -1;
    then = level == VD_LEVEL_NONE ? now : vd_field_get(field, &fixed);
    if (vd_found(ck, rule->finding, .host = field->offset, .found = now,
                 .expected = then != now ? then : VD_NOWHERE, .level = level) == VD_LEAVE)
        return 0;
    ck->has_changed = true;
    return qcow2_write_fields(ck->bs, &fixed, rule->field, rule->field, VD_STAGE_ROOT, err);
}

int qcow2_pass_header(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    bool stops = false;

    if (!q->has_header) {
        char found[64];

        snprintf(found, sizeof(found), "%" PRIu64 " bytes", q->g.file_size);
        vd_found(ck, QCOW2_HEADER_TRUNCATED, .host = 0, .found_text = found,
                 .expected_text = "72 bytes or more, in version 3 104 or more");
        ck->map_is_incomplete = true;
        return VD_STOP;
    }
    for (const struct qcow2_rule *rule = qcow2_rules; rule->is_broken && !ck->has_changed; rule++) {
        if ((rule->flags & (QCOW2_JUDGED_LATER | QCOW2_JUDGED_ELSEWHERE)) || !rule->is_broken(q))
            continue;
        stops |= (rule->flags & QCOW2_STOPS_WALK) != 0;
        if (judge_rule(ck, rule, err) < 0)
            return -1;
    }
    if (stops && !ck->has_changed)
        ck->map_is_incomplete = true;
    return stops && !ck->has_changed ? VD_STOP : 0;
}
