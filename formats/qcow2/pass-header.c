/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pass "header": every rule of the header that is broken is a finding. Leaves behind: a geometry that the
 * walk can trust, or an end of the check.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/base/bytes.h"
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

/* What a repair of a rule writes. */
struct header_plan {
    struct qcow2_header fixed;
    enum vd_level level;   /* none where there is no such value, and 0 where it is the row's */
    const char *from, *to; /* the fields that are written */
    bool finds_tables;     /* the guest reads what it could not, all over the disk */
    bool ends_extensions;  /* an end of the extensions is written behind the header, where there are none */
};

/* Is the other header's L1 table this one, with nothing in what it has more? Then it may be the disk's size
 * that is wrong. */
static bool maps_no_more(struct BlockDriverState *bs, const struct qcow2_header *other)
{
    const struct qcow2 *q = bs->opaque;
    struct vd_err ignored = VD_ERR_INIT;
    uint64_t word[512];

    if (other->l1_table_offset != q->header.l1_table_offset)
        return false;
    for (uint64_t first = q->header.l1_size; first < other->l1_size; first += 512) {
        uint64_t n = vd_min(512, other->l1_size - first);

        if (qcow2_read_words(bs, other->l1_table_offset, first, n, word, &ignored) < 0 ||
            !vd_is_zero((const uint8_t *)word, 8 * n))
            return false;
    }
    return true;
}

/* The last field that a header of this version and length has: behind it stand extensions. */
static const char *last_field(const struct qcow2_header *h)
{
    return h->version == 2                      ? "snapshots_offset"
           : h->header_length > QCOW2_V3_HEADER ? "compression_type"
                                                : "header_length";
}

/* Where one field is not enough to find the tables again, all of the header may be found by them. */
static int plan_lost_header(struct vd_check *ck, struct header_plan *plan, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;

    if (qcow2_search_lost_header(ck, &plan->fixed, &plan->level, err) < 0)
        return -1;
    if (plan->level == VD_LEVEL_NONE)
        return 0;
    if (q->g.is_usable && maps_no_more(ck->bs, &plan->fixed)) {
        plan->level = VD_LEVEL_NONE;
        return 0;
    }
    plan->finds_tables = true;
    plan->from = q->g.is_usable ? "size" : "magic";
    plan->to = q->g.is_usable ? "l1_table_offset" : last_field(&plan->fixed);
    /* Extensions stand where they stood, but behind a header of which nothing was believed. */
    plan->ends_extensions =
        plan->fixed.version != q->header.version || plan->fixed.header_length != q->header.header_length;
    return 0;
}

/* What stands behind a header that was lost are extensions, or what it was lost to. */
static int end_extensions(struct vd_check *ck, uint32_t at, struct vd_err *err)
{
    uint8_t first[8];

    if (bdrv_pread_padded(ck->bs->file, at, sizeof(first), first, err) < 0)
        return -1;
    if (qcow2_is_known_extension(vd_get_be32(first)))
        return 0;
    memset(first, 0, sizeof(first));
    return bdrv_pwrite(ck->bs->file, at, sizeof(first), first, VD_STAGE_ROOT, err);
}

static int plan_search(struct vd_check *ck, enum qcow2_finding finding, struct header_plan *plan,
                       struct vd_err *err)
{
    if (qcow2_search_header(ck, finding, &plan->fixed, &plan->level, err) < 0)
        return -1;
    return plan->level == VD_LEVEL_NONE && finding == QCOW2_HEADER_CLUSTER_BITS
               ? plan_lost_header(ck, plan, err)
               : 0;
}

static int plan_header(struct vd_check *ck, const struct qcow2_rule *rule, struct header_plan *plan,
                       struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_header *fixed = &plan->fixed;
    enum vd_level *level = &plan->level;

    *plan = (struct header_plan){.fixed = q->header, .from = rule->field, .to = rule->field};
    switch ((int)rule->finding) {
    case QCOW2_HEADER_MAGIC:
        fixed->magic = QCOW2_MAGIC;
        /* Else it is another format's, or no header at all. */
        *level = q->g.is_usable && (q->header.version == 2 || q->header.version == 3) ? 0 : VD_LEVEL_NONE;
        return 0;
    case QCOW2_HEADER_VERSION:
        /* Of a header without a cluster size more than the version may be lost. */
        fixed->version = q->g.version;
        *level = q->g.is_usable ? 0 : VD_LEVEL_NONE;
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
        return plan_search(ck, rule->finding, plan, err);
    case QCOW2_SIZE_EXCEEDS_L1:
        return plan_lost_header(ck, plan, err);
    default:
        *level = VD_LEVEL_NONE;
        return 0;
    }
}

static int judge_rule(struct vd_check *ck, const struct qcow2_rule *rule, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    const struct vd_field *field = vd_layout_find(&qcow2_header_layout, rule->field);
    struct header_plan plan;
    uint64_t now = vd_field_get(field, &q->header), then;
    char text[VD_DIFFERENCE_TEXT];

    if (plan_header(ck, rule, &plan, err) < 0)
        return -1;
    then = plan.level == VD_LEVEL_NONE ? now : vd_field_get(field, &plan.fixed);
    if (vd_found(ck, rule->finding, .host = field->offset, .found = now,
                 .expected = then != now ? then : VD_NOWHERE,
                 .expected_text =
                     then == now && plan.level != VD_LEVEL_NONE
                         ? vd_layout_difference(&qcow2_header_layout, &q->header, &plan.fixed, text)
                         : NULL,
                 .guest = plan.finds_tables ? 0 : VD_NOWHERE,
                 .guest_bytes = plan.finds_tables ? vd_min(plan.fixed.size, INT64_MAX) : 0,
                 .level = plan.level) == VD_LEAVE)
        return 0;
    ck->has_changed = true;
    if (plan.ends_extensions && end_extensions(ck, plan.fixed.header_length, err) < 0)
        return -1;
    return qcow2_write_fields(ck->bs, &plan.fixed, plan.from, plan.to, VD_STAGE_ROOT, err);
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
