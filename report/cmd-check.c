/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck [OPTIONS] IMAGE...: check, repair, dry run.
 *
 * With --jobs several images are worked on at once; what is told stays in the order in which they were named.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checker/store.h"
#include "formats/base/text.h"
#include "formats/registry.h"
#include "report/cli.h"
#include "report/render.h"

/* One image of the command line. */
struct job {
    const char *path;
    struct vd_answer answer;
    struct vd_budget budget; /* what the answer's maps are given back to */
    struct vd_err err;
    double seconds;
    bool is_done;
};

struct run {
    struct vd_cli *cli;
    struct job *jobs;
    size_t n, next, told;
    pthread_mutex_t lock;
    const struct vd_renderer *renderer;
    void *renderer_state;
    struct vd_progress progress;
    int status; /* fsck bits */
    int qemu_status;
};

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void work_on(struct run *run, struct job *job)
{
    const struct vd_cli *cli = run->cli;
    struct vd_progress progress = run->progress;
    struct vd_request req = {
        .open = vd_cli_open_options(cli, 0),
        .budget = &job->budget,
        .level = cli->level,
        .dry_run = cli->dry_run,
        .whole_chain = cli->backing_chain,
        .deep = cli->deep,
        .if_dirty = cli->if_dirty,
        .undo_file = cli->undo_file,
        .drops_undo_file = cli->no_undo_file,
        .places_kept = cli->verbose ? (size_t)1 << 20 : 0,
    };
    double start = now();

    job->budget = vd_cli_budget(cli, &progress);
    progress.image = job->path;
    progress.is_shown = progress.is_shown && cli->jobs == 1;
    /* What one image may cost is bounded; several at once share the bound. */
    job->budget.memory /= cli->jobs;
    /* After a signal what has not begun does not begin. */
    if (vd_budget_go_on(&job->budget, &job->err) == 0)
        (void)vd_request_run(job->path, &req, &job->answer, &job->err);
    vd_progress_clear(&progress);
    job->seconds = now() - start;
}

static void keep_map(struct run *run, struct vd_outcome *out, enum vd_status status)
{
    struct vd_err err = VD_ERR_INIT;

    if (!run->cli->map || !out || !out->work.before.ledger)
        return;
    if (vd_store_image(run->cli->map, out->bs, &out->work.before, vd_status_name(status),
                       run->cli->dry_run ? VD_STORE_UNCHANGED : 0, &err) < 0)
        run->status |= vd_cli_fail(&err);
}

/* What the user said that a command to paste has to say again. */
static const char *format_option(const struct vd_cli *cli, char *text, size_t room)
{
    snprintf(text, room, "-f %s ", cli->format ? cli->format : "");
    return cli->format ? text : NULL;
}

static const char *chain_options(const struct vd_cli *cli, char *text, size_t room)
{
    char word[VD_TEXT_SHELL_MAX];
    size_t at = (size_t)snprintf(text, room, "-c ");

    if (!cli->backing_chain)
        return NULL;
    for (size_t i = 0; i < cli->allow.n && at < room; i++)
        at += (size_t)snprintf(text + at, room - at, "--allow=%s ",
                               vd_text_shell(word, sizeof(word), cli->allow.v[i]));
    return text;
}

static void tell_file(struct run *run, const struct job *job, struct vd_outcome *out)
{
    const struct vd_cli *cli = run->cli;
    bool is_first = out == (job->answer.files.n ? &job->answer.files.v[0] : NULL);
    char format[64], chain[VD_TEXT_SHELL_MAX];
    struct vd_image_report r = {
        .path = is_first ? job->path : out->bs->filename,
        .out = out,
        .err = &job->err,
        .recovered = is_first && job->answer.recovered.undo_file ? &job->answer.recovered : NULL,
        .level = cli->level,
        .dry_run = cli->dry_run && cli->level,
        .is_verified = job->answer.is_verified,
        .verbose = cli->verbose,
        .seconds = job->seconds,
        .format_option = format_option(cli, format, sizeof(format)),
        .chain_options = chain_options(cli, chain, sizeof(chain)),
        .named = cli->backing_chain ? job->path : NULL,
    };

    if (out && out->was_skipped) {
        if (!cli->quiet && cli->verbose)
            run->renderer->image(stdout, run->renderer_state, &r);
        return;
    }
    r.status = vd_status_of(out, &job->err, r.dry_run);
    run->status |= vd_status_bits(r.status, out, &job->err, r.dry_run);
    run->qemu_status = vd_status_qemu_worse(run->qemu_status, vd_status_qemu(r.status, out, r.dry_run));
    if (!cli->quiet)
        run->renderer->image(stdout, run->renderer_state, &r);
    if (job->err.kind && (cli->quiet || cli->output != VD_OUTPUT_HUMAN) && is_first)
        (void)vd_cli_fail(&job->err);
    keep_map(run, out, r.status);
}

/* The base first, as it was checked. */
static void tell(struct run *run, struct job *job)
{
    if (!job->answer.files.n)
        tell_file(run, job, NULL);
    for (size_t i = job->answer.files.n; i > 0; i--)
        tell_file(run, job, &job->answer.files.v[i - 1]);
    fflush(stdout);
    vd_answer_free(&job->answer);
}

static void *worker(void *opaque)
{
    struct run *run = opaque;

    pthread_mutex_lock(&run->lock);
    while (run->next < run->n) {
        struct job *job = &run->jobs[run->next++];

        pthread_mutex_unlock(&run->lock);
        work_on(run, job);
        pthread_mutex_lock(&run->lock);
        job->is_done = true;
        while (run->told < run->n && run->jobs[run->told].is_done)
            tell(run, &run->jobs[run->told++]);
    }
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

static void run_workers(struct run *run)
{
    unsigned n = run->cli->jobs < run->n ? run->cli->jobs : (unsigned)run->n;
    vd_auto_mem pthread_t *threads = calloc(n, sizeof(*threads));
    unsigned started = 0;

    /* This thread is one of them; where no other can be started it does all. */
    for (; threads && started + 1 < n; started++)
        if (pthread_create(&threads[started], NULL, worker, run) != 0)
            break;
    worker(run);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

/* `--repair all` is a repair of the file "all", at another level than was meant. */
static bool is_stray_level(const struct vd_cli *cli)
{
    enum vd_level level;

    return cli->level && vd_level_parse(cli->words[0], &level) && access(cli->words[0], F_OK) < 0;
}

static int refuse_words(struct vd_cli *cli)
{
    if (!cli->words_n)
        return vd_cli_usage(cli, "no image named");
    if (is_stray_level(cli))
        return vd_cli_usage(cli, "no image '%s'; a level is given as --repair=%s", cli->words[0],
                            cli->words[0]);
    if (cli->format && !vd_driver_by_name(cli->format))
        return vd_cli_usage(cli, "'%s' is no format that vdcheck knows (`vdcheck formats` lists them)",
                            cli->format);
    if (cli->level && cli->force_share)
        return vd_cli_usage(cli, "--force-share never goes with --repair");
    if (cli->dry_run && !cli->level)
        return vd_cli_usage(cli, "--dry-run goes with --repair");
    if ((cli->undo_file || cli->no_undo_file) && !cli->level)
        return vd_cli_usage(cli, "%s goes with --repair", cli->undo_file ? "--undo-file" : "--no-undo-file");
    if (cli->undo_file && cli->words_n > 1)
        return vd_cli_usage(cli, "--undo-file names one file, and goes with one image");
    return vd_cli_refuse_undo_file(cli);
}

int vd_cmd_check(struct vd_cli *cli)
{
    static const struct vd_renderer *const renderers[] = {[VD_OUTPUT_HUMAN] = &vd_render_human,
                                                          [VD_OUTPUT_JSON] = &vd_render_json,
                                                          [VD_OUTPUT_QEMU_JSON] = &vd_render_qemu_json};
    struct run run = {.cli = cli, .renderer = renderers[cli->output], .n = (size_t)cli->words_n};
    vd_auto_mem struct job *jobs = NULL;
    int status = refuse_words(cli);

    if (status)
        return status;
    jobs = calloc(run.n, sizeof(*jobs));
    if (!jobs)
        return VD_EXIT_ERROR;
    run.jobs = jobs;
    for (size_t i = 0; i < run.n; i++)
        jobs[i].path = cli->words[i];
    pthread_mutex_init(&run.lock, NULL);
    if (!cli->quiet)
        run.renderer->begin(stdout, &run.renderer_state);
    run_workers(&run);
    if (!cli->quiet)
        run.renderer->end(stdout, run.renderer_state);
    pthread_mutex_destroy(&run.lock);
    return cli->qemu_exit ? run.qemu_status : run.status;
}
