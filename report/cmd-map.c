/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck map IMAGE: what the clusters of the file hold, drawn as a strip and listed as runs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checker/alone.h"
#include "checker/store.h"
#include "formats/base/text.h"
#include "report/cli.h"
#include "report/render.h"
#include "report/strip.h"

enum { STRIP = 64, RUNS_SHOWN = 40 };

struct map_run {
    uint64_t first, count;
    enum vd_kind kind;
    uint64_t refs;
};

VD_VEC(run_vec, struct map_run)

struct map_run_vec {
    struct run_vec all;
    bool counts; /* see struct vd_strip */
};

static int keep_run(void *opaque, uint64_t first, uint64_t count, enum vd_kind kind, uint64_t refs)
{
    struct map_run_vec *runs = opaque;

    return run_vec_push(&runs->all, (struct map_run){first, count, kind, refs});
}

static bool has_tail(const struct map_run_vec *runs)
{
    return runs->all.n && runs->all.v[runs->all.n - 1].kind == VD_KIND_TAIL;
}

static void print_legend(const struct map_run_vec *runs)
{
    printf("\n  H header   1 L1 table   2 L2 table   %s%s\n\n",
           runs->counts ? "R r refcounts   S s snapshots   B b d bitmaps   E encryption"
                          "\n  # data   c compressed   _ unused"
                        : "# data   . leaked   ! claimed more than once",
           has_tail(runs) ? "   - unused tail" : "");
}

static void draw(const struct map_run_vec *runs, const struct vd_check_result *result)
{
    char letters[VD_STRIP_MAX + 1];
    size_t len;

    print_legend(runs);
    vd_strip_of(result, VD_STRIP_MAX, letters);
    len = strlen(letters);
    for (size_t at = 0; at < len; at += STRIP)
        printf("  %.*s\n", STRIP, letters + at);
}

static void print_sums(const struct map_run_vec *runs, uint64_t cluster_size)
{
    uint64_t sums[VD_KINDS_END] = {0};
    char size[VD_TEXT_SIZE_MAX];

    for (size_t i = 0; i < runs->all.n; i++)
        sums[runs->all.v[i].kind] += runs->all.v[i].count;
    putchar('\n');
    for (enum vd_kind k = 0; k < VD_KINDS_END; k++) {
        if (sums[k])
            printf("  %-18s %12" PRIu64 " clusters  %12s\n", vd_strip_kind_name(k, runs->counts), sums[k],
                   vd_text_size(size, sums[k] * cluster_size));
    }
}

static void print_runs(const struct map_run_vec *runs, uint64_t cluster_size, bool all)
{
    size_t shown = all ? runs->all.n : vd_min(runs->all.n, RUNS_SHOWN);
    char size[VD_TEXT_SIZE_MAX];

    printf("\n  %-18s %-18s %12s  %-18s %s\n", "from", "to", "", "kind", "references");
    for (size_t i = 0; i < shown; i++) {
        const struct map_run *run = &runs->all.v[i];

        printf("  0x%-16" PRIx64 " 0x%-16" PRIx64 " %12s  %-18s %s\n", run->first * cluster_size,
               (run->first + run->count) * cluster_size - 1, vd_text_size(size, run->count * cluster_size),
               vd_strip_kind_name(run->kind, runs->counts),
               run->refs > 1 ? "more than one"
               : run->refs   ? "1"
                             : "0");
    }
    if (shown < runs->all.n)
        printf("  ... %zu runs more (--verbose lists them)\n", runs->all.n - shown);
}

/* ---- owners */

struct owners {
    json_t *list; /* NULL: they are printed */
};

static int tell_owner(void *opaque, const struct vd_named_span *claim)
{
    struct owners *owners = opaque;
    char size[VD_TEXT_SIZE_MAX], owner[VD_OWNER_TEXT];

    if (claim->owner)
        vd_owner_text(owner, sizeof(owner), claim->owner);
    if (owners->list) {
        json_t *o = json_object();

        json_object_set_new(o, "offset", vd_json_number(claim->host));
        json_object_set_new(o, "bytes", vd_json_number(claim->bytes));
        json_object_set_new(o, "kind", json_string(vd_kind_name((enum vd_kind)claim->kind)));
        json_object_set_new(o, "reference_offset", vd_json_number(claim->reference));
        json_object_set_new(o, "guest_offset", vd_json_number(claim->guest));
        if (claim->owner)
            json_object_set_new(o, "owner", json_string(owner));
        return json_array_append_new(owners->list, o);
    }
    printf("  0x%-16" PRIx64 " %12s  %-18s", claim->host, vd_text_size(size, claim->bytes),
           vd_kind_name((enum vd_kind)claim->kind));
    if (claim->reference != UINT64_MAX)
        printf(" named at 0x%" PRIx64, claim->reference);
    if (claim->guest != UINT64_MAX)
        printf(", guest 0x%" PRIx64, claim->guest);
    if (claim->owner)
        printf(", %s", owner);
    putchar('\n');
    return 0;
}

static void tell_owners(const struct vd_outcome *out, json_t *list)
{
    struct owners owners = {list};
    struct vd_err err = VD_ERR_INIT;

    if (!list)
        printf("\n  owners:\n");
    if (out->bs->drv->bdrv_each_claim &&
        out->bs->drv->bdrv_each_claim(out->bs, tell_owner, &owners, &err) < 0)
        (void)vd_cli_fail(&err);
}

/* ---- what snapshots and bitmaps hold for themselves */

/* With damage in the tables nobody can say what a deletion gives back. */
static bool is_alone_known(const struct vd_check_result *result)
{
    return !result->map_is_incomplete && vd_ledger_counts(result->ledger).corruptions == 0;
}

static void print_alone(const struct vd_alone_vec *alone)
{
    char size[VD_TEXT_SIZE_MAX], id[VD_OWNER_TEXT], name[VD_OWNER_TEXT];

    if (alone->n)
        printf("\n  %-10s %-10s %-24s %s\n", "", "id", "name", "held alone: deleting it gives back");
    for (size_t i = 0; i < alone->n; i++) {
        const struct vd_alone *a = &alone->v[i];

        vd_text_escape(id, sizeof(id), a->id, strlen(a->id));
        vd_text_escape(name, sizeof(name), a->name ? a->name : "", a->name ? strlen(a->name) : 0);
        printf("  %-10s %-10s %-24s %s\n", a->what, id, name, vd_text_size(size, a->bytes));
    }
}

static json_t *alone_json(const struct vd_alone_vec *alone)
{
    json_t *list = json_array();

    for (size_t i = 0; i < alone->n; i++) {
        const struct vd_alone *a = &alone->v[i];
        json_t *o = json_object();

        json_object_set_new(o, "what", json_string(a->what));
        vd_json_set_text(o, "id", a->id, strlen(a->id));
        vd_json_set_text(o, "name", a->name ? a->name : "", a->name ? strlen(a->name) : 0);
        json_object_set_new(o, "alone_bytes", vd_json_number(a->bytes));
        json_array_append_new(list, o);
    }
    return list;
}

static int count_alone(const struct vd_outcome *out, struct vd_budget *budget, struct vd_alone_vec *alone)
{
    const struct vd_check_result *result = &out->work.before;
    struct vd_err err = VD_ERR_INIT;

    if (!is_alone_known(result) || vd_alone_count(out->bs, vd_usemap_clusters(result->map),
                                                  result->cluster_size, budget, alone, &err) == 0)
        return 0;
    return vd_cli_fail(&err);
}

/* ---- the whole */

static json_t *runs_json(const struct map_run_vec *runs, uint64_t cluster_size)
{
    json_t *list = json_array();

    for (size_t i = 0; i < runs->all.n; i++) {
        const struct map_run *run = &runs->all.v[i];
        json_t *o = json_object();

        json_object_set_new(o, "offset", vd_json_number(run->first * cluster_size));
        json_object_set_new(o, "bytes", vd_json_number(run->count * cluster_size));
        json_object_set_new(o, "kind", json_string(vd_strip_kind_name(run->kind, runs->counts)));
        json_object_set_new(o, "refs", vd_json_number(run->refs));
        json_array_append_new(list, o);
    }
    return list;
}

static void print_json(const struct vd_cli *cli, const struct vd_outcome *out, const struct map_run_vec *runs,
                       const struct vd_alone_vec *alone)
{
    const struct vd_check_result *result = &out->work.before;
    json_t *o = json_object();

    vd_json_set_text(o, "path", cli->words[0], strlen(cli->words[0]));
    json_object_set_new(o, "format", json_string(out->bs->drv->format_name));
    json_object_set_new(o, "cluster_size", vd_json_number(result->cluster_size));
    json_object_set_new(o, "complete", json_boolean(!result->map_is_incomplete));
    json_object_set_new(o, "allocated_clusters", vd_json_number(result->clusters.allocated));
    json_object_set_new(o, "fragmented_clusters", vd_json_number(result->clusters.fragmented));
    json_object_set_new(o, "holders", is_alone_known(result) ? alone_json(alone) : json_null());
    json_object_set_new(o, "runs", runs_json(runs, result->cluster_size));
    if (cli->owners) {
        json_t *list = json_array();

        tell_owners(out, list);
        json_object_set_new(o, "owners", list);
    }
    vd_json_print(stdout, o);
}

static void print_human(const struct vd_cli *cli, const struct vd_outcome *out,
                        const struct map_run_vec *runs, const struct vd_alone_vec *alone)
{
    const struct vd_check_result *result = &out->work.before;
    char path[4096];

    printf("%s: %s%s\n", vd_text_escape(path, sizeof(path), cli->words[0], strlen(cli->words[0])),
           out->bs->drv->format_name,
           result->map_is_incomplete ? "; INCOMPLETE: what looks leaked or unused may be used" : "");
    draw(runs, result);
    print_sums(runs, result->cluster_size);
    printf("\n  %" PRIu64 " of %" PRIu64 " data clusters do not follow the one before them\n",
           result->clusters.fragmented, result->clusters.allocated);
    print_alone(alone);
    print_runs(runs, result->cluster_size, cli->verbose);
    if (cli->owners)
        tell_owners(out, NULL);
}

static int show(const struct vd_cli *cli, struct vd_outcome *out, struct vd_budget *budget)
{
    struct vd_check_result *result = &out->work.before;
    struct vd_alone_vec alone = {0};
    struct map_run_vec runs = {.counts = result->map && vd_usemap_counts_refs(result->map)};
    int status;

    if (!result->map) {
        fprintf(stderr, "vdcheck: %s: no walk was possible, so there is no map (`vdcheck %s` says why)\n",
                cli->words[0], cli->words[0]);
        return VD_EXIT_ERROR;
    }
    status =
        vd_check_each_run(result, keep_run, &runs) < 0 ? VD_EXIT_ERROR : count_alone(out, budget, &alone);
    if (!status && cli->output == VD_OUTPUT_JSON)
        print_json(cli, out, &runs, &alone);
    else if (!status)
        print_human(cli, out, &runs, &alone);
    run_vec_done(&runs.all);
    vd_alone_free(&alone);
    return status | (result->map_is_incomplete ? VD_EXIT_ERROR : 0);
}

static int store(const struct vd_cli *cli, struct vd_outcome *out)
{
    struct vd_err err = VD_ERR_INIT;

    if (!cli->map || !out->work.before.map)
        return 0;
    if (vd_store_image(cli->map, out->bs, &out->work.before, vd_status_name(vd_status_of(out, &err, false)),
                       cli->owners ? VD_STORE_OWNERS : 0, &err) < 0)
        return vd_cli_fail(&err);
    return 0;
}

int vd_cmd_map(struct vd_cli *cli)
{
    struct vd_progress progress = {0};
    struct vd_budget budget = vd_cli_budget(cli, &progress);
    struct vd_request req = {.open = vd_cli_open_options(cli, 0), .budget = &budget};
    struct vd_answer answer;
    struct vd_err err = VD_ERR_INIT;
    int status = 0;

    if (cli->words_n != 1)
        return vd_cli_usage(cli, "one image expected");
    progress.image = cli->words[0];
    if (vd_request_run(cli->words[0], &req, &answer, &err) < 0)
        status = vd_cli_fail(&err);
    else
        status = show(cli, &answer.files.v[0], &budget);
    vd_progress_clear(&progress);
    if (!err.kind)
        status |= store(cli, &answer.files.v[0]);
    vd_answer_free(&answer);
    return status;
}
