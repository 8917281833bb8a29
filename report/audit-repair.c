/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a worker of an audit does with an image that is to be repaired: what `vdcheck --repair` does, with the
 * undo file in the audit's folder. The object has only what is left as findings; what was done stands in
 * "repair".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checker/cancel.h"
#include "checker/pool.h"
#include "report/audit-job.h"
#include "report/render.h"

/* Without a stub beside the image nobody would find a repair that was cut off. */
static int refuse_folder(const char *path, struct vd_err *err)
{
    const char *slash = strrchr(path, '/');
    vd_auto_mem char *folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));

    if (!folder)
        return vd_fail_memory(err);
    if (faccessat(AT_FDCWD, folder, W_OK, AT_EACCESS) == 0)
        return 0;
    return vd_fail(err, VD_ERR_IO, errno,
                   "%s: the folder cannot be written, so a repair that is cut off could not be found again",
                   folder);
}

static void run(const struct vd_cli *cli, const struct vd_candidate *image, struct vd_answer *answer,
                struct vd_budget *budget, struct vd_err *err)
{
    struct vd_request req = {
        .open = vd_cli_open_options(cli, BDRV_O_DROP_BEHIND),
        .budget = budget,
        .level = cli->level,
        .undo_folder = cli->farm.undo_folder,
        .dev = image->id.dev,
        .ino = image->id.ino,
        .commits = vd_pool_need_time,
    };

    *answer = (struct vd_answer){0};
    req.open.throttle = vd_audit_job_share(cli);
    if (refuse_folder(image->path, err) < 0)
        return;
    /* One that was cut off is finished, or taken back, before anything else. */
    if (image->has_repair_files)
        vd_pool_need_time();
    (void)vd_request_run(image->path, &req, answer, err);
}

/* ---- the object */

static json_int_t number_of(json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static json_t *fixed_part(json_t *finding)
{
    static const char *const keys[] = {"id", "severity", "level", "note", "places"};
    json_t *part = json_object();

    for (size_t i = 0; i < VD_ARRAY_SIZE(keys); i++)
        if (json_object_get(finding, keys[i]))
            json_object_set(part, keys[i], json_object_get(finding, keys[i]));
    json_object_set_new(part, "count", json_integer(number_of(finding, "fixed")));
    return part;
}

/* Findings that are away go from those of the image to what the repair did. */
static json_t *take_fixed(json_t *findings)
{
    json_t *fixed = json_array(), *finding;

    for (size_t i = 0; (finding = json_array_get(findings, i));) {
        json_int_t left = number_of(finding, "count") - number_of(finding, "fixed");

        if (number_of(finding, "fixed"))
            json_array_append_new(fixed, fixed_part(finding));
        json_object_set_new(finding, "count", json_integer(left));
        if (left)
            i++;
        else
            json_array_remove(findings, i);
    }
    return fixed;
}

static void keep_left_counts(json_t *counts)
{
    static const char *const keys[][2] = {
        {"corruptions", "corruptions_fixed"},
        {"leaks",       "leaks_fixed"      },
        {"states",      "states_fixed"     }
    };

    for (size_t i = 0; i < VD_ARRAY_SIZE(keys); i++)
        json_object_set_new(counts, keys[i][0],
                            json_integer(number_of(counts, keys[i][0]) - number_of(counts, keys[i][1])));
}

/* Also of a repair that had nothing to do, so that it is not tried again while all is as it is. */
static void set_repair(json_t *object, const struct vd_cli *cli)
{
    json_t *repair = json_object_get(object, "repair");

    if (!json_is_object(repair)) {
        repair = json_pack("{s:s, s:n}", "level", vd_level_name(cli->level), "undo_file");
        json_object_set_new(object, "repair", repair);
    }
    json_object_set_new(repair, "fixed", take_fixed(json_object_get(object, "findings")));
    keep_left_counts(json_object_get(object, "counts"));
}

/* Where the repair did not even begin (somebody has the image open, say), what a check finds that keeps
 * nobody out holds all the same. */
static json_t *checked_object(struct vd_cli *cli, const struct vd_candidate *image, enum vd_status status,
                              const struct vd_err *err)
{
    vd_auto_mem char *bytes = NULL;
    size_t len = 0;
    FILE *checked = open_memstream(&bytes, &len);
    json_t *object = NULL;

    if (checked) {
        (void)vd_audit_job_check(cli, image, checked);
        if (fclose(checked) == 0)
            object = json_loadb(bytes, len, 0, NULL);
    }
    if (!object)
        object = json_object();
    json_object_set_new(object, "status", json_string(vd_status_name(status)));
    vd_json_set_text(object, "error", err->story, strlen(err->story));
    return object;
}

uint64_t vd_audit_job_repair(void *opaque, const struct vd_candidate *image, FILE *out)
{
    struct vd_cli *cli = opaque;
    struct vd_budget budget = VD_BUDGET_INIT;
    struct vd_answer answer;
    struct vd_err err = VD_ERR_INIT;
    struct vd_image_report r = {.path = image->path, .err = &err, .level = cli->level};
    json_t *object;

    budget.memory = (uint64_t)cli->farm.max_memory;
    budget.cancelled = vd_cancel_flag();
    run(cli, image, &answer, &budget, &err);
    r.out = answer.files.n ? &answer.files.v[0] : NULL;
    r.recovered = answer.recovered.undo_file ? &answer.recovered : NULL;
    r.is_verified = answer.is_verified;
    r.status = vd_status_of(r.out, &err, false);
    object = r.out && r.status != VD_STATUS_BUSY ? vd_audit_job_object(&answer, &r)
                                                 : checked_object(cli, image, r.status, &err);
    set_repair(object, cli);
    if (err.kind == VD_ERR_CANCELLED)
        json_object_set_new(object, "is_cancelled", json_true());
    (void)json_dumpf(object, out, JSON_COMPACT);
    json_decref(object);
    vd_answer_free(&answer);
    return 0;
}
