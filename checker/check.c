/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/check.h"

#include <stdlib.h>

#include "formats/node/file.h"

struct run {
    struct vd_check ck;
    const struct vd_check_options *opts;
    struct vd_ledger *ledger; /* NULL: a scratch check, which forgets */
    struct vd_usemap *map;
    struct vd_runs given_up;
    uint64_t would_fix;
};

static struct run *run_of(struct vd_check *ck)
{
    return ck->sink_data;
}

static enum vd_verdict sink_found(struct vd_check *ck, const struct vd_finding_kind *kind,
                                  const struct vd_found_args *args)
{
    struct run *run = run_of(ck);
    enum vd_severity severity = args->severity ? args->severity : kind->severity;
    enum vd_level level = args->level ? args->level : kind->level;
    enum vd_verdict verdict = VD_LEAVE;
    const char *reason = NULL;
    struct vd_group *group;

    if (!run->ledger)
        return VD_LEAVE;
    group = vd_ledger_enter(run->ledger, kind, args, severity, level, ck);
    if (run->opts->decide)
        verdict = run->opts->decide(run->opts->decide_opaque, ck, kind, args, severity, level, &reason);
    if (group && reason)
        group->reason = reason;
    run->would_fix += verdict == VD_FIX;
    return verdict;
}

static int sink_begin_map(struct vd_check *ck, enum vd_map_kind kind, unsigned cluster_bits,
                          uint64_t clusters, struct vd_err *err)
{
    struct run *run = run_of(ck);

    if (run->map)
        vd_usemap_free(run->map);
    run->map = vd_usemap_new(kind, cluster_bits, clusters, ck->budget, err);
    if (run->ledger && run->opts->current_map)
        *run->opts->current_map = run->map;
    return run->map ? 0 : -1;
}

static void learn_end(struct vd_check *ck)
{
    ck->image_end = vd_usemap_end(run_of(ck)->map) * ck->cluster_size;
}

static int sink_claim(struct vd_check *ck, enum vd_kind kind, struct vd_span host, uint64_t reference,
                      uint64_t weight, uint64_t *shared, struct vd_err *err)
{
    uint64_t first = host.off / ck->cluster_size, end = vd_div_up(vd_span_end(host), ck->cluster_size);
    struct vd_claim claim = {kind, reference, weight};
    uint64_t ignored;
    int rc = vd_usemap_claim(run_of(ck)->map, &claim, first, end - first, shared ? shared : &ignored, err);

    learn_end(ck);
    return rc;
}

static int sink_claim_batch(struct vd_check *ck, const struct vd_claim_batch *batch,
                            struct vd_claim_result *result, struct vd_err *err)
{
    int rc = vd_usemap_claim_batch(run_of(ck)->map, batch, result, err);

    learn_end(ck);
    return rc;
}

static int sink_count_batch(struct vd_check *ck, const struct vd_count_batch *batch,
                            struct vd_count_result *result, struct vd_err *err)
{
    int rc = vd_usemap_count_batch(run_of(ck)->map, batch, result, err);

    learn_end(ck);
    return rc;
}

static size_t sink_compare(struct vd_check *ck, uint64_t first, const uint64_t *stored, size_t n,
                           uint32_t *odd)
{
    return vd_usemap_compare(run_of(ck)->map, first, stored, n, odd);
}

static struct vd_refs sink_refs_at(struct vd_check *ck, uint64_t host)
{
    return vd_usemap_refs_of(run_of(ck)->map, host / ck->cluster_size);
}

static uint64_t sink_next_claimed(struct vd_check *ck, uint64_t cluster)
{
    return vd_usemap_next_used(run_of(ck)->map, cluster);
}

static enum vd_kind sink_kind_at(struct vd_check *ck, uint64_t host, uint64_t *start)
{
    const struct vd_meta_run *meta;
    enum vd_kind kind = vd_usemap_kind(run_of(ck)->map, host / ck->cluster_size, &meta);

    if (start)
        *start = meta ? meta->first * ck->cluster_size : vd_align_down(host, ck->cluster_size);
    return kind;
}

static bool sink_is_shared(struct vd_check *ck, uint64_t host)
{
    return vd_usemap_is_shared(run_of(ck)->map, host / ck->cluster_size);
}

static uint64_t sink_count_free(struct vd_check *ck)
{
    return vd_usemap_count_free(run_of(ck)->map);
}

static int sink_free_runs(struct vd_check *ck, struct vd_runs *out, struct vd_err *err)
{
    return vd_usemap_free_runs(run_of(ck)->map, out, err);
}

static void sink_gave_up(struct vd_check *ck, struct vd_span host)
{
    struct run *run = run_of(ck);

    if (vd_runs_add(&run->given_up, host.off / ck->cluster_size, vd_div_up(host.len, ck->cluster_size)) < 0 &&
        run->ledger)
        run->ledger->is_out_of_memory = true;
}

static struct vd_check *sink_scratch(struct vd_check *ck, struct vd_err *err);
static void sink_scratch_done(struct vd_check *scratch);

static const struct vd_sink sink = {
    .found = sink_found,
    .begin_map = sink_begin_map,
    .claim = sink_claim,
    .claim_batch = sink_claim_batch,
    .count_batch = sink_count_batch,
    .compare = sink_compare,
    .refs_at = sink_refs_at,
    .next_claimed = sink_next_claimed,
    .kind_at = sink_kind_at,
    .is_shared = sink_is_shared,
    .count_free = sink_count_free,
    .free_runs = sink_free_runs,
    .gave_up = sink_gave_up,
    .scratch = sink_scratch,
    .scratch_done = sink_scratch_done,
};

static struct vd_check *sink_scratch(struct vd_check *ck, struct vd_err *err)
{
    struct run *run = calloc(1, sizeof(*run));

    if (!run) {
        vd_fail_memory(err);
        return NULL;
    }
    run->opts = run_of(ck)->opts;
    run->ck = (struct vd_check){.bs = ck->bs, .sink = &sink, .sink_data = run, .budget = ck->budget};
    return &run->ck;
}

static void sink_scratch_done(struct vd_check *scratch)
{
    struct run *run = run_of(scratch);

    if (run->map)
        vd_usemap_free(run->map);
    vd_runs_done(&run->given_up);
    free(run);
}

/* What concerns the file itself and not its format. */
static int judge_file(struct run *run, struct vd_err *err)
{
    struct BlockDriverState *file = bdrv_protocol(run->ck.bs);

    if (file->drv != &vd_file_driver)
        return 0;
    if (vd_file_has_no_locks(file))
        vd_found(&run->ck, VD_IMAGE_NO_LOCKS, .host = VD_NOWHERE);
    if (file->open_flags & BDRV_O_FORCE_SHARE) {
        if (vd_file_has_writer(file))
            vd_found(&run->ck, VD_IMAGE_IN_USE, .host = VD_NOWHERE);
        return 0;
    }
    /* A guest that started meanwhile was not kept out: what was found is a mix. */
    if ((file->open_flags & BDRV_O_GENTLE) && vd_file_still_quiet(file, err) < 0)
        return -1;
    if (vd_file_has_changed(file))
        vd_found(&run->ck, VD_IMAGE_CHANGED_WHILE_READ, .host = VD_NOWHERE);
    return 0;
}

static int run_all(struct run *run, struct vd_err *err)
{
    struct BlockDriverState *bs = run->ck.bs;

    if (run->opts->is_unfinished)
        vd_found(&run->ck, VD_IMAGE_REPAIR_UNFINISHED, .host = VD_NOWHERE);
    if (run->opts->undo_fault)
        vd_found(&run->ck, VD_IMAGE_UNDO_FILE_UNUSABLE, .host = VD_NOWHERE,
                 .found_text = run->opts->undo_fault);
    if (run->opts->link)
        vd_judge_link(&run->ck, run->opts->link, run->opts->whole_chain);
    /* A missing or refused base says nothing about what this file's tables hold. */
    run->ck.map_is_incomplete = false;
    run->ck.corruptions_left = 0;
    run->ck.flags = run->opts->flags;
    if (bs->drv->bdrv_co_check &&
        bs->drv->bdrv_co_check(bs, &run->ck, run->opts->decide ? BDRV_FIX_LEAKS | BDRV_FIX_ERRORS : 0, err) <
            0)
        return -1;
    if (judge_file(run, err) < 0)
        return -1;
    if (run->ledger->is_out_of_memory)
        return vd_fail_memory(err);
    return 0;
}

int vd_check_run(struct BlockDriverState *bs, const struct vd_check_options *opts,
                 struct vd_check_result *result, struct vd_err *err)
{
    struct run run = {.opts = opts};
    int rc;

    *result = (struct vd_check_result){0};
    run.ledger = vd_ledger_new();
    if (!run.ledger)
        return vd_fail_memory(err);
    run.ledger->keeps_keys = opts->keeps_keys;
    if (opts->places_kept)
        run.ledger->places_kept = opts->places_kept;
    run.ck = (struct vd_check){.bs = bs,
                               .sink = &sink,
                               .sink_data = &run,
                               .budget = opts->budget,
                               .deep = opts->deep,
                               .was_changed = opts->was_changed,
                               .data_file = opts->link ? &opts->link->data_file : NULL,
                               .kept_leaks = opts->kept_leaks,
                               .given_up = opts->given_up};
    rc = run_all(&run, err);
    if (run.ledger->flags & VD_FREEZE)
        vd_ledger_raise(run.ledger, VD_LEVEL_NONE);
    else if (run.ledger->flags & VD_HOLD)
        vd_ledger_raise(run.ledger, VD_LEVEL_ALL);
    vd_ledger_settle(run.ledger);
    *result = (struct vd_check_result){
        .ledger = run.ledger,
        .map = run.map,
        .clusters = run.ck.clusters,
        .cluster_size = run.ck.cluster_size,
        .image_end = run.ck.image_end,
        .map_is_incomplete = run.ck.map_is_incomplete,
        .has_changed = run.ck.has_changed,
        .keeps_length = bdrv_is_fixed_length(bs),
        .would_fix = run.would_fix,
        .given_up = run.given_up,
    };
    return rc;
}

void vd_check_result_free(struct vd_check_result *result)
{
    if (result->ledger)
        vd_ledger_free(result->ledger);
    if (result->map)
        vd_usemap_free(result->map);
    vd_runs_done(&result->given_up);
    *result = (struct vd_check_result){0};
}

bool vd_check_knows_end(const struct vd_check_result *result)
{
    return result->map && !result->map_is_incomplete;
}

struct each_run {
    vd_usemap_run_fn *fn;
    void *opaque;
    uint64_t tail; /* first cluster of it */
};

static int on_run(void *opaque, uint64_t first, uint64_t count, enum vd_kind kind, uint64_t refs)
{
    struct each_run *each = opaque;

    return each->fn(each->opaque, first, count,
                    kind == VD_KIND_FREE && first >= each->tail ? VD_KIND_TAIL : kind, refs);
}

int vd_check_each_run(const struct vd_check_result *result, vd_usemap_run_fn *fn, void *opaque)
{
    struct each_run each = {fn, opaque, result->keeps_length ? vd_usemap_end(result->map) : UINT64_MAX};

    return vd_usemap_each_run(result->map, on_run, &each);
}
