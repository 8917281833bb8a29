/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "checker/audit-inside.h"
#include "checker/shard.h"
#include "formats/base/text.h"
#include "formats/finding.h"
#include "formats/node/gate.h"
#include "formats/registry.h"

/* What a worker may say of an image, and whether that holds until something changes. */
static const struct {
    const char *word;
    bool is_complete;
} statuses[] = {
    {"clean",       true },
    {"repaired",    true },
    {"leaking",     true },
    {"dirty",       true },
    {"damaged",     true },
    {"unsupported", true },
    {"error",       false},
    {"busy",        false},
};

void vd_audit_rules(char *text, size_t room)
{
    const struct vd_finding_kind *row;
    XXH64_hash_t hash = 0;

    for (size_t i = 0; (row = vd_finding_row(i)); i++) {
        char line[200];
        int n = snprintf(line, sizeof(line), "%s %d %d %u", row->id, (int)row->severity, (int)row->level,
                         row->flags);

        hash = XXH3_64bits_withSeed(line, (size_t)n, hash);
    }
    snprintf(text, room, PACKAGE_VERSION "-%08" PRIx32, (uint32_t)hash);
}

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- finding them */

static void complain(void *opaque, const struct vd_err *err)
{
    struct vd_audit *a = opaque;

    a->sums->unreadable++;
    if (a->opts->complain)
        a->opts->complain(a->opts->opaque, err);
}

/* What was an image last night and is none by its first bytes now is damaged, not gone. */
static bool is_known(void *opaque, const char *path)
{
    struct vd_audit *a = opaque;
    const struct vd_kept *kept = vd_auditdb_find(a->db, path);

    return kept && kept->had_format && !kept->is_gone;
}

static int find_images(struct vd_audit *a, struct vd_err *err)
{
    struct vd_discover_options how = a->opts->discover;

    how.budget = a->opts->budget;
    how.is_known = is_known;
    how.complain = complain;
    how.opaque = a;
    return vd_discover(a->opts->paths, a->opts->paths_n, &how, &a->found, err);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct vd_candidate *)a)->path, ((const struct vd_candidate *)b)->path);
}

struct vd_candidate *vd_audit_find(const struct vd_audit *a, const char *path)
{
    const struct vd_candidate key = {.path = (char *)path};

    return a->found.n ? bsearch(&key, a->found.v, a->found.n, sizeof(key), by_path) : NULL;
}

static bool is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/* Images of earlier runs that nobody finds any more, wherever they lay. */
static int note_gone(struct vd_audit *a, struct vd_err *err)
{
    for (size_t i = 0; i < a->kept_n; i++)
        if (!vd_audit_find(a, a->kept[i].path) && !is_there(a->kept[i].path) &&
            vd_auditdb_gone(a->db, &a->kept[i], err) < 0)
            return -1;
    return 0;
}

/* ---- unchanged? */

static bool is_same_file(const struct vd_identity *a, const struct vd_identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns && a->head_xxh == b->head_xxh;
}

/* A base that has come or gone changes what is true of an overlay, and no byte of it. */
static bool has_same_base(const struct vd_kept *kept)
{
    static const char *const states[] = {
        [VD_GATE_OPEN] = "found", [VD_GATE_MISSING] = "missing", [VD_GATE_REFUSED] = "refused"};
    const struct vd_gate gate = {0};
    vd_auto_mem char *path = NULL;
    struct vd_err ignored = VD_ERR_INIT;
    enum vd_gate_answer answer;

    if (!kept->backing_name)
        return true;
    answer = vd_gate_find(&gate, kept->path, kept->backing_name, strlen(kept->backing_name), &path, &ignored);
    return kept->backing_state && strcmp(states[answer], kept->backing_state) == 0 &&
           (!path || (kept->backing_path && strcmp(path, kept->backing_path) == 0));
}

static bool is_unchanged(const struct vd_audit *a, const struct vd_candidate *image, const char *rules)
{
    const struct vd_kept *kept = vd_auditdb_find(a->db, image->path);

    if (!kept || !is_same_file(&kept->id, &image->id) || !kept->rules || strcmp(kept->rules, rules) != 0)
        return false;
    /* In a run that is gone on with, what has a result has it from this very run. */
    if (a->was_resumed && kept->run_id == vd_auditdb_run(a->db))
        return true;
    return !a->is_full && kept->is_complete && !image->has_repair_files && has_same_base(kept);
}

static bool is_in_folder_of(const char *path, const char *other)
{
    size_t len = (size_t)(strrchr(path, '/') - path);

    return (size_t)(strrchr(other, '/') - other) == len && memcmp(path, other, len) == 0;
}

int vd_audit_add_task(struct vd_audit *a, struct vd_candidate *image, struct vd_err *err)
{
    const struct vd_task *last = a->tasks.n ? &a->tasks.v[a->tasks.n - 1] : NULL;
    struct vd_task task = {.image = image};

    /* What a worker may read for one image with repair files, it may for no other. */
    if (last)
        task.folder = last->folder + (!is_in_folder_of(last->image->path, image->path) ||
                                      image->has_repair_files || last->image->has_repair_files);
    return vd_task_vec_push(&a->tasks, task) < 0 ? vd_fail_memory(err) : 0;
}

void vd_audit_free_tasks(struct vd_task_vec *tasks)
{
    for (size_t i = 0; i < tasks->n; i++) {
        for (size_t k = 0; k < tasks->v[i].others.n; k++)
            free(tasks->v[i].others.v[k]);
        vd_file_vec_done(&tasks->v[i].others);
        json_decref(tasks->v[i].repair);
    }
    vd_task_vec_done(tasks);
}

static int choose_tasks(struct vd_audit *a, const char *rules, struct vd_err *err)
{
    for (size_t i = 0; i < a->found.n; i++) {
        struct vd_candidate *image = &a->found.v[i];
        bool is_as_it_was = is_unchanged(a, image, rules);
        int rc = is_as_it_was ? vd_auditdb_unchanged(a->db, vd_auditdb_find(a->db, image->path), err)
                              : vd_audit_add_task(a, image, err);

        if (rc < 0)
            return -1;
        a->sums->unchanged += is_as_it_was;
    }
    return 0;
}

/* ---- workers */

static size_t group(void *opaque, size_t job)
{
    const struct vd_audit *a = opaque;

    return a->opts->has_no_walls ? 0 : a->tasks.v[job].folder;
}

static int begin(void *opaque, size_t job, struct vd_err *err)
{
    const struct vd_audit *a = opaque;

    vd_confine_be_last();
    return vd_audit_confine(a, &a->tasks.v[job], false, err);
}

static uint64_t work(void *opaque, size_t job, FILE *out)
{
    const struct vd_audit *a = opaque;

    return a->opts->check(a->opts->opaque, a->tasks.v[job].image, out);
}

static int status_of(json_t *object)
{
    const char *word = json_string_value(json_object_get(object, "status"));

    for (int i = 0; word && i < (int)VD_ARRAY_SIZE(statuses); i++)
        if (strcmp(word, statuses[i].word) == 0)
            return i;
    return -1;
}

static json_t *failure(const char *reason)
{
    char text[600];

    /* It may have a path in it, and JSON takes no bytes that are not UTF-8. */
    return json_pack("{s:s, s:s+}", "status", "error", "error", "the check could not be completed: ",
                     vd_text_escape(text, sizeof(text), reason, strlen(reason)));
}

json_t *vd_audit_object(const struct vd_pool_result *result)
{
    json_t *object = result->bytes ? json_loadb(result->bytes, result->len, 0, NULL) : NULL;

    if (result->bytes && status_of(object) < 0) {
        json_decref(object);
        return failure("the worker's answer makes no sense");
    }
    return object ? object : failure(result->reason);
}

static uint64_t bytes_read_for(json_t *object)
{
    json_int_t bytes = json_integer_value(json_object_get(json_object_get(object, "io"), "bytes_read"));

    return bytes > 0 ? (uint64_t)bytes : 0;
}

int vd_audit_keep(struct vd_audit *a, const struct vd_candidate *image, json_t *object, bool is_complete,
                  struct vd_err *err)
{
    const struct vd_kept *kept = vd_auditdb_find(a->db, image->path);
    bool is_whole = statuses[status_of(object)].is_complete;

    if (!is_whole && !is_there(image->path)) {
        /* It vanished under our hands: no news. */
        a->sums->found--;
        return kept ? vd_auditdb_gone(a->db, kept, err) : 0;
    }
    is_complete = is_complete && is_whole && !json_is_true(json_object_get(object, "is_volatile"));
    return vd_auditdb_put(a->db, image, object, is_complete, err);
}

/* The check after a repair tells how the image is; the repair, what was done, and what went wrong. */
static int add_repair(json_t *object, json_t *repair)
{
    const char *status = json_string_value(json_object_get(repair, "status"));
    bool failed = strcmp(status, "error") == 0;
    bool is_clean = strcmp(json_string_value(json_object_get(object, "status")), "clean") == 0;

    if (failed || (is_clean && strcmp(status, "repaired") == 0))
        (void)json_object_set(object, "status", json_object_get(repair, "status"));
    if (json_object_get(repair, "error"))
        (void)json_object_set(object, "error", json_object_get(repair, "error"));
    return json_object_get(repair, "repair")
               ? json_object_set(object, "repair", json_object_get(repair, "repair"))
               : 0;
}

static int done(void *opaque, size_t job, const struct vd_pool_result *result, struct vd_err *err)
{
    struct vd_audit *a = opaque;
    const struct vd_task *task = &a->tasks.v[job];
    json_t *object = vd_audit_object(result);
    int rc = object ? 0 : vd_fail_memory(err);

    if (object && task->repair && add_repair(object, task->repair) < 0)
        rc = vd_fail_memory(err);
    a->done++;
    a->bytes_read += bytes_read_for(object);
    a->sums->checked += !task->repair; /* a check after a repair is part of it */
    if (rc == 0)
        rc = vd_audit_keep(a, task->image, object, true, err);
    json_decref(object);
    return rc;
}

/* How much was read, how fast it goes and how long it will. */
static void tell_progress(const struct vd_audit *a)
{
    double seconds = now() - a->began;
    char what[120], size[VD_TEXT_SIZE_MAX];
    uint64_t left = a->done ? (uint64_t)(seconds / (double)a->done * (double)(a->total - a->done)) : 0;

    snprintf(what, sizeof(what), "%s read, %.1f images a second, %" PRIu64 ":%02" PRIu64 " left: image",
             vd_text_size(size, a->bytes_read), seconds > 0 ? (double)a->done / seconds : 0.0, left / 60,
             left % 60);
    vd_budget_progress(a->opts->budget, what, a->done, a->total);
}

int vd_audit_tick(void *opaque, struct vd_err *err)
{
    struct vd_audit *a = opaque;

    if (a->opts->budget->progress)
        tell_progress(a);
    return vd_auditdb_tick(a->db, err);
}

int vd_audit_check(struct vd_audit *a, struct vd_err *err)
{
    const struct vd_pool_options pool = {
        .jobs_n = a->tasks.n,
        .workers = a->opts->workers,
        .timeout_s = a->opts->timeout_s,
        .max_memory = a->opts->max_memory ? a->opts->max_memory + VD_AUDIT_OWN_MEMORY : 0,
        .budget = a->opts->budget,
        .group = group,
        .begin = begin,
        .work = work,
        .done = done,
        .tick = vd_audit_tick,
        .opaque = a,
    };

    a->began = now();
    a->done = 0;
    a->total = a->tasks.n;
    if (vd_audit_look_elsewhere(a, &a->tasks, err) < 0)
        return -1;
    return vd_pool_run(&pool, err);
}

/* ---- all of it */

static XXH64_hash_t hash_words(const char *const *words, size_t n, XXH64_hash_t hash)
{
    for (size_t i = 0; i < n; i++)
        hash = XXH3_64bits_withSeed(words[i], strlen(words[i]) + 1, hash);
    return hash + n;
}

/* By what it covers an audit is known again: as one that was cut off, as a shard of the same. */
static void name_farm(const struct vd_audit_options *opts, char *text, size_t room)
{
    XXH64_hash_t hash = opts->discover.raw + 2u * opts->discover.one_file_system;

    for (size_t i = 0; i < opts->paths_n; i++) {
        vd_auto_mem char *real = realpath(opts->paths[i], NULL);
        const char *path = real ? real : opts->paths[i];

        hash = hash_words(&path, 1, hash);
    }
    hash = hash_words(opts->discover.include, opts->discover.include_n, hash);
    hash = hash_words(opts->discover.exclude, opts->discover.exclude_n, hash);
    snprintf(text, room, "%016" PRIx64, hash);
}

static int begin_run(struct vd_audit *a, const char *rules, struct vd_err *err)
{
    char farm[32];
    struct vd_run_row row = {
        .host = a->opts->host,
        .farm = farm,
        .rules = rules,
        .shard = a->opts->shard,
        .shards = a->opts->shards,
        .is_full = a->opts->is_full,
        .resumes = a->opts->resumes,
    };

    name_farm(a->opts, farm, sizeof(farm));
    if (vd_auditdb_begin_run(a->db, &row, &a->is_full, &a->was_resumed, err) < 0)
        return -1;
    a->sums->was_resumed = a->was_resumed;
    snprintf(a->sums->run, sizeof(a->sums->run), "%s", vd_auditdb_run_name(a->db));
    return vd_auditdb_load(a->db, a->opts->host, &a->kept, &a->kept_n, err);
}

static int run_all(struct vd_audit *a, struct vd_err *err)
{
    char rules[64];

    vd_audit_rules(rules, sizeof(rules));
    if (begin_run(a, rules, err) < 0 || find_images(a, err) < 0)
        return -1;
    if (note_gone(a, err) < 0)
        return -1;
    if (a->opts->shards > 1 && vd_shard_keep(a->opts, &a->found, err) < 0)
        return -1;
    a->sums->found = a->found.n;
    if (choose_tasks(a, rules, err) < 0 || vd_audit_check(a, err) < 0)
        return -1;
    return a->opts->repair_level ? vd_audit_repair(a, err) : 0;
}

/* What was finished is kept, however it ended. */
static int end_run(struct vd_audit *a, bool was_cut_off, double seconds, struct vd_err *err)
{
    const struct vd_run_sums sums = {
        .found = a->sums->found,
        .checked = a->sums->checked,
        .unreadable = a->sums->unreadable,
        .seconds = seconds,
    };

    if (!vd_auditdb_run(a->db))
        return 0;
    if (vd_auditdb_end_run(a->db, was_cut_off ? "cancelled" : "complete", &sums, err) < 0)
        return -1;
    return a->opts->keep_days && !was_cut_off ? vd_auditdb_forget(a->db, a->opts->keep_days, err) : 0;
}

int vd_audit_run(const struct vd_audit_options *opts, struct vd_audit_sums *sums, struct vd_err *err)
{
    struct vd_audit a = {.opts = opts, .sums = sums};
    struct vd_err why = VD_ERR_INIT;
    double start = now();
    int rc;

    *sums = (struct vd_audit_sums){0};
    a.db = vd_auditdb_open(opts->db, err);
    if (!a.db)
        return -1;
    rc = run_all(&a, err);
    sums->seconds = now() - start;
    /* The first error is the one to tell. */
    if (end_run(&a, rc < 0, sums->seconds, rc < 0 ? &why : err) < 0)
        rc = -1;
    vd_auditdb_close(a.db);
    vd_audit_free_tasks(&a.tasks);
    vd_candidates_free(&a.found);
    return rc;
}
