/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a repair was cut off, its undo file may lie elsewhere than beside the image, and other images may be
 * part of it. A worker that may read all and do nothing else finds out which files those are; here, where
 * nobody has read a byte of them, it is decided which of them the image's own worker gets.
 */
#include "checker/audit-inside.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* The tasks with repair files, by number. */
struct looking {
    const struct vd_audit *a;
    struct vd_task_vec *tasks;
    size_t *jobs, n;
};

static int begin(void *opaque, size_t job, struct vd_err *err)
{
    (void)opaque;
    (void)job;
    return vd_confine(&(struct vd_walls){.folder = "/"}, err);
}

static uint64_t work(void *opaque, size_t job, FILE *out)
{
    const struct looking *l = opaque;

    l->a->opts->elsewhere(l->a->opts->opaque, l->tasks->v[l->jobs[job]].image, out);
    return 0;
}

/* ---- who may have what */

static bool is_in(const char *folder, const char *path)
{
    size_t len = folder ? strlen(folder) : 0;

    return len && strncmp(path, folder, len) == 0 && path[len] == '/' && !strchr(path + len + 1, '/');
}

/* Does it lie beside an image that this audit found, under the name of its undo files, or is it one? */
static bool is_of_farm(const struct vd_audit *a, const char *path)
{
    static const char mark[] = ".vdcheck-undo";
    const char *slash = strrchr(path, '/'), *at = slash ? strstr(slash, mark) : NULL;
    char image[PATH_MAX];

    if (vd_audit_find(a, path))
        return true;
    return at && (size_t)snprintf(image, sizeof(image), "%.*s", (int)(at - path), path) < sizeof(image) &&
           vd_audit_find(a, image);
}

/* A stub, and a journal, can be anybody's who may write there. So only what is the image's owner's, as undo
 * files are, or of this audit. */
static bool may_have(const struct vd_audit *a, const struct vd_candidate *image, const char *path)
{
    struct stat theirs, ours;

    if (path[0] != '/' || lstat(path, &theirs) < 0 || !S_ISREG(theirs.st_mode) ||
        lstat(image->path, &ours) < 0)
        return false;
    return theirs.st_uid == ours.st_uid || is_in(a->opts->undo_folder, path) || is_of_farm(a, path);
}

static int done(void *opaque, size_t job, const struct vd_pool_result *result, struct vd_err *err)
{
    enum { MOST = 1000 }; /* files of one image; ours */
    const struct looking *l = opaque;
    struct vd_task *task = &l->tasks->v[l->jobs[job]];
    const char *at = result->bytes, *end = at ? at + result->len : NULL;

    for (; at < end && task->others.n < MOST; at += strlen(at) + 1) {
        char *copy = may_have(l->a, task->image, at) ? strdup(at) : NULL;

        if (copy && vd_file_vec_push(&task->others, copy) < 0) {
            free(copy);
            return vd_fail_memory(err);
        }
    }
    return 0;
}

int vd_audit_look_elsewhere(struct vd_audit *a, struct vd_task_vec *tasks, struct vd_err *err)
{
    vd_auto_mem size_t *jobs = calloc(tasks->n + 1, sizeof(*jobs));
    struct looking l = {.a = a, .tasks = tasks, .jobs = jobs};
    struct vd_pool_options pool = {
        .workers = a->opts->workers,
        .timeout_s = a->opts->timeout_s,
        .max_memory = a->opts->max_memory,
        .budget = a->opts->budget,
        .begin = begin,
        .work = work,
        .done = done,
        .opaque = &l,
    };

    if (!jobs)
        return vd_fail_memory(err);
    for (size_t i = 0; i < tasks->n; i++)
        if (tasks->v[i].image->has_repair_files)
            jobs[l.n++] = i;
    pool.jobs_n = l.n;
    return a->opts->has_no_walls || !a->opts->elsewhere ? 0 : vd_pool_run(&pool, err);
}

/* ---- walls */

VD_VEC(folder_vec, char *)

static void free_folders(struct folder_vec *folders)
{
    for (size_t i = 0; i < folders->n; i++)
        free(folders->v[i]);
    folder_vec_done(folders);
}

/* path: a file, whose folder is added. */
static int add_folder(struct folder_vec *folders, const char *path, struct vd_err *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));

    if (folder && folder_vec_push(folders, folder) == 0)
        return 0;
    free(folder);
    return vd_fail_memory(err);
}

static int add_writable(const struct vd_audit *a, const struct vd_task *task, struct folder_vec *folders,
                        struct vd_err *err)
{
    for (size_t i = 0; i < task->others.n; i++)
        if (add_folder(folders, task->others.v[i], err) < 0)
            return -1;
    if (a->opts->undo_folder) {
        char *copy = strdup(a->opts->undo_folder);

        if (!copy || folder_vec_push(folders, copy) < 0) {
            free(copy);
            return vd_fail_memory(err);
        }
    }
    return 0;
}

int vd_audit_confine(const struct vd_audit *a, const struct vd_task *task, bool writes, struct vd_err *err)
{
    struct folder_vec folders = {0};
    struct vd_walls walls = {.files = (const char *const *)task->others.v, .files_n = task->others.n};
    int rc;

    if (a->opts->has_no_walls)
        return 0;
    rc = add_folder(&folders, task->image->path, err);
    if (rc == 0 && writes)
        rc = add_writable(a, task, &folders, err);
    if (rc == 0) {
        walls.folder = folders.v[0];
        walls.writable = (const char *const *)folders.v;
        walls.writable_n = writes ? folders.n : 0;
        rc = vd_confine(&walls, err);
    }
    free_folders(&folders);
    return rc;
}
