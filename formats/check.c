/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/check.h"

#include <assert.h>
#include <stdlib.h>

#include "formats/base/auto.h"
#include "formats/base/span.h"
#include "formats/node/block.h"

const char *vd_kind_name(enum vd_kind kind)
{
    static const char *const names[] = {[VD_KIND_FREE] = "unused",
                                        [VD_KIND_HEADER] = "header",
                                        [VD_KIND_L1] = "L1 table",
                                        [VD_KIND_L2] = "L2 table",
                                        [VD_KIND_REFCOUNT_TABLE] = "refcount table",
                                        [VD_KIND_REFCOUNT_BLOCK] = "refcount block",
                                        [VD_KIND_SNAPSHOT_TABLE] = "snapshot table",
                                        [VD_KIND_SNAPSHOT_L1] = "snapshot L1 table",
                                        [VD_KIND_BITMAP_DIRECTORY] = "bitmap directory",
                                        [VD_KIND_BITMAP_TABLE] = "bitmap table",
                                        [VD_KIND_BITMAP_DATA] = "bitmap data",
                                        [VD_KIND_ENCRYPTION_HEADER] = "encryption header",
                                        [VD_KIND_COMPRESSED] = "compressed data",
                                        [VD_KIND_DATA] = "data",
                                        [VD_KIND_TAIL] = "unused tail"};

    return kind < VD_KINDS_END ? names[kind] : "?";
}

enum vd_verdict vd_found_args_(struct vd_check *ck, unsigned finding, const struct vd_found_args *args)
{
    const struct vd_finding_kind *kind = finding < VD_IMAGE_FINDINGS
                                             ? &ck->bs->drv->findings[finding]
                                             : &vd_image_findings[finding - VD_IMAGE_FINDINGS];
    enum vd_verdict verdict = ck->sink->found(ck, kind, args);
    enum vd_severity severity = args->severity ? args->severity : kind->severity;

    ck->flags |= vd_finding_flags(kind, severity);
    if (severity == VD_ERROR)
        ck->map_is_incomplete = true;
    if (verdict == VD_LEAVE && (severity == VD_CORRUPTION || severity == VD_ERROR) &&
        !(kind->flags & VD_ELSEWHERE))
        ck->corruptions_left++;
    return verdict;
}

struct vd_check *vd_at_push_(struct vd_check *ck, const char *name, uint64_t index)
{
    if (ck->depth < VD_WHERE_DEPTH)
        ck->where[ck->depth] = (struct vd_where){name, index};
    ck->depth++;
    return ck;
}

void vd_at_pop_(struct vd_check **ck)
{
    assert((*ck)->depth > 0);
    (*ck)->depth--;
}

int vd_begin_map(struct vd_check *ck, enum vd_map_kind kind, unsigned cluster_bits, uint64_t clusters,
                 struct vd_err *err)
{
    ck->cluster_size = (uint64_t)1 << cluster_bits;
    ck->image_end = 0;
    return ck->sink->begin_map(ck, kind, cluster_bits, clusters, err);
}

int vd_claim(struct vd_check *ck, enum vd_kind kind, struct vd_span host, uint64_t reference,
             uint64_t *shared, struct vd_err *err)
{
    return ck->sink->claim(ck, kind, host, reference, 1, shared, err);
}

int vd_claim_times(struct vd_check *ck, enum vd_kind kind, struct vd_span host, uint64_t reference,
                   uint64_t weight, uint64_t *shared, struct vd_err *err)
{
    return ck->sink->claim(ck, kind, host, reference, weight, shared, err);
}

int vd_count_table(struct vd_check *ck, const struct vd_count_batch *batch, struct vd_count_result *result,
                   struct vd_err *err)
{
    return ck->sink->count_batch(ck, batch, result, err);
}

size_t vd_compare_counts(struct vd_check *ck, uint64_t first, const uint64_t *stored, size_t n, uint32_t *odd)
{
    return ck->sink->compare(ck, first, stored, n, odd);
}

struct vd_refs vd_refs_at(struct vd_check *ck, uint64_t host)
{
    return ck->sink->refs_at(ck, host);
}

uint64_t vd_next_claimed(struct vd_check *ck, uint64_t cluster)
{
    return ck->sink->next_claimed(ck, cluster);
}

int vd_claim_table(struct vd_check *ck, const struct vd_claim_batch *batch, struct vd_claim_result *result,
                   struct vd_err *err)
{
    return ck->sink->claim_batch(ck, batch, result, err);
}

enum vd_kind vd_kind_at(struct vd_check *ck, uint64_t host, uint64_t *start)
{
    return ck->sink->kind_at(ck, host, start);
}

bool vd_is_shared(struct vd_check *ck, uint64_t host)
{
    return ck->sink->is_shared(ck, host);
}

uint64_t vd_count_free(struct vd_check *ck)
{
    return ck->sink->count_free(ck);
}

int vd_free_runs(struct vd_check *ck, struct vd_runs *out, struct vd_err *err)
{
    return ck->sink->free_runs(ck, out, err);
}

void vd_gave_up(struct vd_check *ck, struct vd_span host)
{
    ck->sink->gave_up(ck, host);
}

struct vd_check *vd_scratch_new(struct vd_check *ck, struct vd_err *err)
{
    return ck->sink->scratch(ck, err);
}

void vd_scratch_done(struct vd_check *scratch)
{
    if (scratch)
        scratch->sink->scratch_done(scratch);
}

static bool may_run(const struct vd_check *ck, enum vd_when when)
{
    return when != VD_IF_COMPLETE || !ck->map_is_incomplete;
}

int vd_run_passes(struct vd_check *ck, const struct vd_pass *passes, struct vd_err *err)
{
    for (const struct vd_pass *pass = passes; pass->name; pass++) {
        int rc;

        if (vd_budget_go_on(ck->budget, err) < 0)
            return -1;
        if (!may_run(ck, pass->when))
            continue;
        rc = pass->run(ck, err);
        if (rc < 0)
            return vd_while(err, "%s: pass \"%s\"", ck->bs->filename, pass->name);
        if (rc == VD_STOP || ck->has_changed)
            return 0;
    }
    return 0;
}

int vd_copy_bytes(struct vd_check *ck, uint64_t from, uint64_t to, uint64_t bytes, struct vd_err *err)
{
    enum { PIECE = 1 << 20 };
    vd_auto_mem uint8_t *buf = malloc(vd_min(bytes, PIECE));

    if (!buf)
        return vd_fail_memory(err);
    for (uint64_t done = 0; done < bytes;) {
        int64_t n = (int64_t)vd_min(PIECE, bytes - done);

        if (!bdrv_is_hole(ck->bs->file, (int64_t)(from + done), n)) {
            if (bdrv_pread_padded(ck->bs->file, (int64_t)(from + done), n, buf, err) < 0 ||
                bdrv_pwrite(ck->bs->file, (int64_t)(to + done), n, buf, VD_STAGE_NEW, err) < 0)
                return -1;
        }
        done += (uint64_t)n;
    }
    return 0;
}
