/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/audit-job.h"

#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "formats/node/file.h"
#include "repair/undofile.h"
#include "report/render.h"
#include "report/strip.h"

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- what it stands on */

static enum vd_gate_answer find_base(struct BlockDriverState *bs, char **path)
{
    const struct vd_gate gate = {0};
    struct vd_err ignored = VD_ERR_INIT;

    return vd_gate_find(&gate, bs->filename, bs->backing_file, bs->backing_file_len, path, &ignored);
}

static void set_backing(json_t *object, struct BlockDriverState *bs)
{
    static const char *const states[] = {
        [VD_GATE_OPEN] = "found", [VD_GATE_MISSING] = "missing", [VD_GATE_REFUSED] = "refused"};
    vd_auto_mem char *path = NULL;
    json_t *backing = json_object();
    struct stat st;

    json_object_set_new(object, "backing", backing);
    if (!bs->backing_file)
        return;
    vd_json_set_text(backing, "name", bs->backing_file, bs->backing_file_len);
    json_object_set_new(backing, "state", json_string(states[find_base(bs, &path)]));
    if (!path)
        return;
    vd_json_set_text(backing, "path", path, strlen(path));
    if (stat(path, &st) < 0)
        return;
    json_object_set_new(backing, "dev", json_integer((json_int_t)st.st_dev));
    json_object_set_new(backing, "ino", json_integer((json_int_t)st.st_ino));
}

void vd_audit_job_look(void *opaque, const struct vd_candidate *image, FILE *out)
{
    /* Only a name is read: whoever has the image open may go on. */
    struct vd_open_options open = vd_cli_open_options(opaque, BDRV_O_FORCE_SHARE | BDRV_O_DROP_BEHIND);
    struct vd_chain_vec chain = {0};
    struct vd_err ignored = VD_ERR_INIT;
    vd_auto_mem char *path = NULL;

    open.throttle = (struct vd_throttle_limits){0};
    open.format = image->is_raw ? "raw" : NULL;
    if (vd_open_chain(image->path, &open, true, 1, &chain, &ignored) == 0 && chain.v[0].bs->backing_file &&
        find_base(chain.v[0].bs, &path) == VD_GATE_OPEN)
        fputs(path, out);
    vd_chain_free(&chain);
}

void vd_audit_job_elsewhere(void *opaque, const struct vd_candidate *image, FILE *out)
{
    (void)opaque;
    vd_undofile_print_others(image->path, out);
}

/* ---- the check */

struct vd_throttle_limits vd_audit_job_share(const struct vd_cli *cli)
{
    struct vd_throttle_limits all = cli->throttle;

    return (struct vd_throttle_limits){
        .bps = all.bps ? all.bps / cli->jobs + 1 : 0,
        .iops = all.iops ? all.iops / cli->jobs + 1 : 0,
    };
}

/* The limit is the audit's: what a small image read faster than that is rested for after it. */
static uint64_t rest_after(const struct vd_throttle_limits *limits, const struct vd_answer *answer,
                           double seconds)
{
    double due = 0, by_requests;

    if (!answer->chain.n)
        return 0;
    if (limits->bps)
        due = (double)answer->chain.v[0].io->bytes_read / (double)limits->bps;
    by_requests = limits->iops ? (double)answer->chain.v[0].io->reads / (double)limits->iops : 0;
    if (by_requests > due)
        due = by_requests;
    return due > seconds ? (uint64_t)((due - seconds) * 1e9) : 0;
}

static bool has_changed_meanwhile(const struct vd_answer *answer)
{
    const struct vd_ledger *ledger = answer->files.n ? answer->files.v[0].work.before.ledger : NULL;

    for (size_t i = 0; ledger && i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->kind == &vd_image_findings[VD_IMAGE_CHANGED_WHILE_READ - VD_IMAGE_FINDINGS])
            return true;
    return false;
}

/* Between the search and the check another file may have taken the name. */
static bool is_another(const struct vd_answer *answer, const struct vd_candidate *image)
{
    struct BlockDriverState *file = answer->files.n ? bdrv_protocol(answer->files.v[0].bs) : NULL;

    return file && file->drv == &vd_file_driver &&
           (vd_file_stat(file)->st_dev != image->id.dev || vd_file_stat(file)->st_ino != image->id.ino);
}

static void run(const struct vd_cli *cli, const struct vd_candidate *image, struct vd_budget *budget,
                struct vd_answer *answer, struct vd_err *err)
{
    struct vd_request req = {.open = vd_cli_open_options(cli, BDRV_O_GENTLE | BDRV_O_DROP_BEHIND),
                             .budget = budget};

    req.open.format = image->is_raw ? "raw" : NULL;
    req.open.throttle = vd_audit_job_share(cli);
    (void)vd_request_run(image->path, &req, answer, err);
    if (!err->kind && is_another(answer, image))
        vd_fail(err, VD_ERR_IO, 0, "%s: another file has taken this name while the audit ran", image->path);
}

static void set_strip(json_t *object, const struct vd_check_result *result)
{
    char letters[VD_STRIP_MAX + 1];

    vd_strip_of(result, VD_STRIP_KEPT, letters);
    json_object_set_new(object, "strip", json_string(letters));
}

json_t *vd_audit_job_object(const struct vd_answer *answer, const struct vd_image_report *r)
{
    const struct vd_ledger *ledger = r->out ? r->out->work.before.ledger : NULL;
    json_t *object = vd_json_image(r), *findings = json_object_get(object, "findings");
    static const char changing[] = "the image changed while it was read, twice";

    for (size_t i = 0; ledger && i < ledger->groups.n; i++)
        if (ledger->groups.v[i]->severity == VD_LEAK)
            json_object_set_new(json_array_get(findings, i), "bytes",
                                vd_json_number(ledger->groups.v[i]->bytes));
    if (answer->files.n && !r->err->kind)
        set_backing(object, answer->files.v[0].bs);
    if (r->out && r->out->work.before.map)
        set_strip(object, &r->out->work.before);
    /* What lies in another file may change without a trace in this one. */
    if (answer->files.n && answer->files.v[0].bs->data_file)
        json_object_set_new(object, "is_volatile", json_true());
    if (!r->err->kind && has_changed_meanwhile(answer))
        json_object_set_new(object, "error", json_string(changing));
    return object;
}

uint64_t vd_audit_job_check(void *opaque, const struct vd_candidate *image, FILE *out)
{
    struct vd_cli *cli = opaque;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_throttle_limits limits = vd_audit_job_share(cli);
    struct vd_answer answer;
    struct vd_err err = VD_ERR_INIT;
    struct vd_image_report r = {.path = image->path, .err = &err};
    double start = now();
    uint64_t rest;
    json_t *object;

    budget.memory = (uint64_t)cli->farm.max_memory;
    run(cli, image, &budget, &answer, &err);
    if (!err.kind && has_changed_meanwhile(&answer)) {
        vd_answer_free(&answer);
        run(cli, image, &budget, &answer, &err);
    }
    r.seconds = now() - start;
    /* What was found before a writer came is no verdict. */
    r.out = answer.files.n && err.kind != VD_ERR_BUSY ? &answer.files.v[0] : NULL;
    r.status = vd_status_of(r.out, &err, false);
    object = vd_audit_job_object(&answer, &r);
    (void)json_dumpf(object, out, JSON_COMPACT);
    json_decref(object);
    rest = rest_after(&limits, &answer, r.seconds);
    vd_answer_free(&answer);
    return rest;
}
