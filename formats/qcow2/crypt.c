/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The LUKS header in the image: where an extension says that it lies, and how far it reaches by its own
 * words.
 *
 * It is the only copy of the keys to all guest data. So its length is not taken from the extension alone: the
 * key slots say where their areas end, and that much is claimed whatever the extension says.
 */
#include <inttypes.h>
#include <string.h>

#include "formats/base/bytes.h"
#include "formats/qcow2/qcow2.h"

#define VD_LAYOUT_TYPE qcow2_crypt_extension
VD_DEFINE_LAYOUT(qcow2_crypt_extension, QCOW2_CRYPT_EXTENSION, QCOW2_CRYPT_BYTES)
#undef VD_LAYOUT_TYPE
#define VD_LAYOUT_TYPE qcow2_luks
VD_DEFINE_LAYOUT(qcow2_luks, QCOW2_LUKS, QCOW2_LUKS_FIRST_SLOT)
#undef VD_LAYOUT_TYPE
#define VD_LAYOUT_TYPE qcow2_luks_slot
VD_DEFINE_LAYOUT(qcow2_luks_slot, QCOW2_LUKS_SLOT, QCOW2_LUKS_SLOT_BYTES)

enum {
    MOST_KEY_BYTES = 512,
    MOST_STRIPES = 65536,
    MOST_SLACK = 1 << 20, /* bytes between the last key slot and the payload */
};

/* The slots' own limits: where the last one ends, and whether each is possible. */
static bool parse_slots(const uint8_t *bytes, const struct qcow2_luks *luks, struct qcow2_crypt *out)
{
    for (size_t i = 0; i < QCOW2_LUKS_SLOTS; i++) {
        struct qcow2_luks_slot slot;
        uint64_t end;

        vd_decode(&qcow2_luks_slot_layout, bytes + QCOW2_LUKS_FIRST_SLOT + i * (size_t)QCOW2_LUKS_SLOT_BYTES,
                  &slot);
        if ((slot.active != QCOW2_LUKS_ACTIVE && slot.active != QCOW2_LUKS_INACTIVE) || !slot.stripes ||
            slot.stripes > MOST_STRIPES || slot.key_sector < vd_div_up(QCOW2_LUKS_BYTES, QCOW2_SECTOR))
            return false;
        out->active += slot.active == QCOW2_LUKS_ACTIVE;
        end = (uint64_t)slot.key_sector * QCOW2_SECTOR + (uint64_t)slot.stripes * luks->key_bytes;
        out->need = vd_max(out->need, end);
    }
    return true;
}

/* Programs write the payload's offset as the length: it is the slots' end rounded up. */
static uint64_t true_length(const struct qcow2_luks *luks, uint64_t need)
{
    uint64_t payload = (uint64_t)luks->payload_sector * QCOW2_SECTOR;

    return payload >= need && payload - need < MOST_SLACK ? payload : vd_align_up_sat(need, QCOW2_SECTOR);
}

static void parse_luks(const struct qcow2_geometry *g, const uint8_t *bytes, struct qcow2_crypt *out)
{
    struct qcow2_luks luks;

    vd_decode(&qcow2_luks_layout, bytes, &luks);
    out->has_magic = luks.magic == QCOW2_LUKS_MAGIC && luks.magic_end == QCOW2_LUKS_MAGIC_END;
    if (!out->has_magic || luks.version != 1 || !luks.key_bytes || luks.key_bytes > MOST_KEY_BYTES ||
        !parse_slots(bytes, &luks, out))
        return;
    out->length = true_length(&luks, out->need);
    out->is_sane = vd_span_within((struct vd_span){out->ext.offset, out->need}, g->file_end);
}

int qcow2_read_crypt(struct BlockDriverState *bs, struct qcow2_crypt *out, struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;
    uint8_t bytes[QCOW2_LUKS_BYTES];

    *out = (struct qcow2_crypt){.where = qcow2_find_extension(q, QCOW2_EXT_CRYPT)};
    if (!out->where || out->where->len != QCOW2_CRYPT_BYTES)
        return 0;
    if (bdrv_pread_padded(bs->file, (int64_t)out->where->off, QCOW2_CRYPT_BYTES, bytes, err) < 0)
        return vd_while(err, "encryption extension");
    vd_decode(&qcow2_crypt_extension_layout, bytes, &out->ext);
    out->is_located = out->ext.offset && vd_is_aligned(out->ext.offset, q->g.cluster_size) &&
                      vd_span_within((struct vd_span){out->ext.offset, QCOW2_LUKS_BYTES}, q->g.file_end);
    if (!out->is_located)
        return 0;
    if (bdrv_pread_padded(bs->file, (int64_t)out->ext.offset, sizeof(bytes), bytes, err) < 0)
        return vd_while(err, "encryption header");
    parse_luks(&q->g, bytes, out);
    return 0;
}

static int read_used_crypt(struct BlockDriverState *bs, struct qcow2_crypt *out, bool *is_used,
                           struct vd_err *err)
{
    const struct qcow2 *q = bs->opaque;

    if (qcow2_read_crypt(bs, out, err) < 0)
        return -1;
    *is_used = out->is_located && (q->header.crypt_method == QCOW2_CRYPT_LUKS || out->has_magic);
    return 0;
}

int qcow2_claim_crypt(struct vd_check *ck, struct vd_err *err)
{
    struct qcow2_crypt crypt;
    bool is_used;

    if (read_used_crypt(ck->bs, &crypt, &is_used, err) < 0)
        return -1;
    if (!is_used || !crypt.is_sane)
        return 0;
    return vd_claim(ck, VD_KIND_ENCRYPTION_HEADER, (struct vd_span){crypt.ext.offset, crypt.need},
                    crypt.where->off, NULL, err);
}

/* A header that cannot be read keeps what nobody else has of the place where it is said to lie. */
static int claim_remains(struct vd_check *ck, const struct qcow2_crypt *crypt, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    uint64_t end = vd_min(vd_add_sat(crypt->ext.offset, crypt->ext.length), q->g.file_end);

    for (uint64_t at = crypt->ext.offset; at < end; at += q->g.cluster_size)
        if (!vd_refs_at(ck, at).count && vd_claim(ck, VD_KIND_ENCRYPTION_HEADER, (struct vd_span){at, 1},
                                                  crypt->where->off, NULL, err) < 0)
            return -1;
    return 0;
}

int qcow2_judge_crypt_claims(struct vd_check *ck, struct vd_err *err)
{
    const struct qcow2 *q = ck->bs->opaque;
    struct qcow2_crypt crypt;
    uint64_t from, end, at;
    bool is_used;

    if (read_used_crypt(ck->bs, &crypt, &is_used, err) < 0)
        return -1;
    if (!is_used)
        return 0;
    if (!crypt.is_sane)
        return claim_remains(ck, &crypt, err);
    from = vd_align_up_sat(crypt.ext.offset + crypt.need, q->g.cluster_size);
    end = vd_add_sat(crypt.ext.offset, crypt.ext.length);
    if (end <= from)
        return 0;
    for (at = from; at < vd_min(end, q->g.file_end) && !vd_refs_at(ck, at).count; at += q->g.cluster_size)
        ;
    if (at >= end) /* room that nobody else has: the header may well be as long as that */
        return vd_claim(ck, VD_KIND_ENCRYPTION_HEADER, (struct vd_span){from, end - from}, crypt.where->off,
                        NULL, err);
    if (vd_found(ck, QCOW2_CRYPT_LENGTH_LONG, .host = crypt.where->off + 8, .found = crypt.ext.length,
                 .expected = crypt.length) == VD_FIX)
        return qcow2_patch(ck, crypt.where->off + 8, 8, crypt.length, VD_STAGE_ROOT, err);
    return 0;
}
