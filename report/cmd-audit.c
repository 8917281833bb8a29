/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck audit PATH...
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checker/farm.h"
#include "report/audit-job.h"
#include "report/parse.h"
#include "report/paths.h"
#include "report/report.h"

static void complain(void *opaque, const struct vd_err *err)
{
    (void)opaque;
    (void)vd_cli_fail(err);
}

/* `--repair safe` is a repair of all below "safe". */
static bool is_stray_level(const struct vd_cli *cli)
{
    enum vd_level level;

    return cli->level && cli->words_n && vd_level_parse(cli->words[0], &level) &&
           access(cli->words[0], F_OK) < 0;
}

static int refuse_repair(const struct vd_cli *cli)
{
    const char *dir = cli->farm.undo_dir;

    if (cli->level == VD_LEVEL_ALL)
        return vd_cli_usage(cli,
                            "--repair=all gives things up, and somebody has to look at each of them first:"
                            " an audit goes up to safe, `vdcheck --repair=all IMAGE` does the rest");
    if (is_stray_level(cli))
        return vd_cli_usage(cli, "nothing is named '%s' here; a level is given as --repair=%s", cli->words[0],
                            cli->words[0]);
    if (dir && !cli->level)
        return vd_cli_usage(cli, "--undo-dir goes with --repair");
    if (dir && (!dir[0] || strcmp(dir, "/dev") == 0 || strncmp(dir, "/dev/", 5) == 0))
        return vd_cli_usage(cli, "--undo-dir=%s: no folder for undo files", dir);
    return 0;
}

/* Which part of the farm, where it is not said. */
static int name_shard(struct vd_cli *cli)
{
    struct vd_farm_cli *farm = &cli->farm;

    if (farm->shards)
        return 0;
    farm->shard = farm->shards = 1;
    if (vd_parse_array_task(&farm->shard, &farm->shards) < 0)
        return vd_cli_usage(
            cli, "the variables of the job array make no sense; --shard=I/N says which part this is");
    return 0;
}

static int refuse_words(struct vd_cli *cli)
{
    const struct vd_farm_cli *farm = &cli->farm;
    const char *db = farm->db;
    int status = refuse_repair(cli);

    if (status)
        return status;
    if (!cli->words_n && !farm->files_from)
        return vd_cli_usage(cli, "no path named");
    if (farm->null_separated && !farm->files_from)
        return vd_cli_usage(cli, "--null goes with --files-from");
    /* SQLite has meanings of its own for such names: a database in memory, an address. */
    if (db && (!db[0] || db[0] == ':' || strncmp(db, "file:", 5) == 0))
        return vd_cli_usage(cli, "--db=%s: no plain file name", db);
    if (farm->host && !farm->host[0])
        return vd_cli_usage(cli, "--host=: a name expected");
    return name_shard(cli);
}

static int run(struct vd_cli *cli, const char *db, const struct vd_path_vec *paths, const char *host,
               struct vd_audit_sums *sums, struct vd_err *err)
{
    const struct vd_farm_cli *farm = &cli->farm;
    struct vd_progress progress = {.image = "audit"};
    struct vd_budget budget = vd_cli_budget(cli, &progress);
    struct vd_audit_options opts = {
        .db = db,
        .host = host,
        .paths = (const char *const *)paths->v,
        .paths_n = paths->n,
        .discover = {.include = farm->include.v,
                     .include_n = farm->include.n,
                     .exclude = farm->exclude.v,
                     .exclude_n = farm->exclude.n,
                     .raw = farm->raw,
                     .one_file_system = farm->one_file_system},
        .workers = cli->jobs,
        .timeout_s = farm->timeout_s,
        .max_memory = (uint64_t)farm->max_memory,
        .is_full = farm->is_full,
        .resumes = farm->resumes,
        .has_no_walls = farm->no_sandbox,
        .shard = farm->shard,
        .shards = farm->shards,
        .keep_days = farm->keep_days,
        .budget = &budget,
        .repair_level = cli->level ? vd_level_name(cli->level) : NULL,
        .undo_folder = farm->undo_folder,
        .check = vd_audit_job_check,
        .repair = vd_audit_job_repair,
        .look = vd_audit_job_look,
        .elsewhere = vd_audit_job_elsewhere,
        .complain = complain,
        .opaque = cli,
    };
    int rc = vd_audit_run(&opts, sums, err);

    vd_progress_clear(&progress);
    return rc;
}

int vd_cmd_audit(struct vd_cli *cli)
{
    struct vd_path_vec paths = {0};
    struct vd_audit_sums sums = {0};
    struct vd_err err = VD_ERR_INIT;
    vd_auto_mem char *db = NULL, *undo_folder = NULL;
    char host[256] = "localhost";
    int status = refuse_words(cli);

    if (status)
        return status;
    (void)gethostname(host, sizeof(host) - 1);
    db = vd_paths_db(cli, &err);
    if (db)
        cli->farm.undo_folder = undo_folder = vd_paths_undo(cli, db, cli->level != 0, &err);
    if (!db || err.kind || vd_paths_gather(cli, &paths, &err) < 0 ||
        run(cli, db, &paths, cli->farm.host ? cli->farm.host : host, &sums, &err) < 0)
        status = vd_cli_fail(&err);
    /* A database that is in use is no image that is. */
    if (status == VD_EXIT_BUSY)
        status = VD_EXIT_ERROR;
    vd_paths_free(&paths);
    cli->farm.undo_folder = NULL;
    if (sums.unreadable)
        status |= VD_EXIT_ERROR;
    /* What was finished is told, also where a signal ended it. */
    return err.kind && err.kind != VD_ERR_CANCELLED ? status : status | vd_report_after_audit(cli, db, &sums);
}
