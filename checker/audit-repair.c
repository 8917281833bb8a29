/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The repairs of an audit, after all its checks: each image is a transaction of its own, in a worker of its
 * own.
 *
 *     repairable? -> cut off before -> bases -> what stands on them -> ... -> checked again
 *
 * A repair that was cut off may be that of a whole chain, which its top finishes; so these come first. What
 * the check after a repair says is what is kept, for the file that the repair left.
 */
#include "checker/audit-inside.h"

#include <string.h>

struct mending {
    struct vd_audit *a;
    struct vd_task_vec tasks;
    size_t *jobs, n; /* of the round at hand: tasks, by number */
};

/* ---- which, and in which order */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct vd_mendable *)a)->path, ((const struct vd_mendable *)b)->path);
}

/* How many images of this run it stands on; a chain that bites its tail ends somewhere. */
static unsigned depth_of(const struct vd_mendable_vec *rows, const struct vd_mendable *row)
{
    unsigned depth = 0;

    while (row && row->base && depth < VD_BUDGET_DEPTH) {
        const struct vd_mendable key = {.path = row->base};

        row = bsearch(&key, rows->v, rows->n, sizeof(key), by_path);
        depth += row != NULL;
    }
    return depth;
}

/* An undo file that was cut off while it was written cannot be read without writing to it; so an error beside
 * repair files is one, too. */
static bool was_cut_off(const struct vd_mendable *row, const struct vd_candidate *image)
{
    return row->is_unfinished || (row->is_error && image->has_repair_files);
}

static int add_if(struct mending *m, const struct vd_mendable_vec *rows, const struct vd_mendable *row,
                  struct vd_err *err)
{
    struct vd_candidate *image = vd_audit_find(m->a, row->path);
    struct vd_task task = {.image = image};

    if (!image)
        return 0;
    task.is_unfinished = was_cut_off(row, image);
    task.depth = depth_of(rows, row);
    if (!task.is_unfinished && (!row->is_repairable || row->was_tried))
        return 0;
    if (!row->is_of_this_run) {
        m->a->sums->unchanged--;
        m->a->sums->checked++;
    }
    return vd_task_vec_push(&m->tasks, task) < 0 ? vd_fail_memory(err) : 0;
}

static int choose(struct mending *m, struct vd_err *err)
{
    struct vd_mendable_vec rows = {0};
    int rc = vd_auditdb_mendable(m->a->db, m->a->opts->repair_level, &rows, err);

    for (size_t i = 0; rc == 0 && i < rows.n; i++)
        rc = add_if(m, &rows, &rows.v[i], err);
    vd_mendable_free(&rows);
    return rc;
}

/* ---- workers */

static int begin(void *opaque, size_t job, struct vd_err *err)
{
    const struct mending *m = opaque;

    vd_confine_be_last();
    return vd_audit_confine(m->a, &m->tasks.v[m->jobs[job]], true, err);
}

/* No worker that has repaired an image sees another one. */
static size_t group(void *opaque, size_t job)
{
    (void)opaque;
    return job;
}

static uint64_t work(void *opaque, size_t job, FILE *out)
{
    const struct mending *m = opaque;

    return m->a->opts->repair(m->a->opts->opaque, m->tasks.v[m->jobs[job]].image, out);
}

/* Does it say that it wrote to the image? No repair does without its undo file. */
static bool has_written(json_t *object)
{
    return json_is_string(json_object_get(json_object_get(object, "repair"), "undo_file"));
}

/* Or may it have, and came to no end? */
static bool may_have_written(json_t *object)
{
    return has_written(object) || !json_object_get(object, "repair");
}

/* Kept at once, in case that no check comes after it any more. */
static int done(void *opaque, size_t job, const struct vd_pool_result *result, struct vd_err *err)
{
    struct mending *m = opaque;
    struct vd_task *task = &m->tasks.v[m->jobs[job]];
    json_t *object = vd_audit_object(result);
    bool was_written = may_have_written(object);
    int rc;

    if (!object)
        return vd_fail_memory(err);
    m->a->done++;
    m->a->sums->repaired += has_written(object);
    if (json_is_true(json_object_get(object, "is_cancelled"))) {
        json_decref(object);
        return 0;
    }
    rc = vd_audit_keep(m->a, task->image, object, !was_written && !task->is_unfinished, err);
    json_decref(task->repair);
    task->repair = object;
    /* One part of a chain's repair waits for the others. */
    task->is_settled = !task->is_unfinished || was_written;
    return rc;
}

static int tick(void *opaque, struct vd_err *err)
{
    const struct mending *m = opaque;

    return vd_audit_tick(m->a, err);
}

static int run_round(struct mending *m, struct vd_err *err)
{
    const struct vd_pool_options pool = {
        .jobs_n = m->n,
        .workers = m->a->opts->workers,
        .timeout_s = m->a->opts->timeout_s,
        .max_memory = m->a->opts->max_memory ? m->a->opts->max_memory + VD_AUDIT_OWN_MEMORY : 0,
        .budget = m->a->opts->budget,
        .ends_gently = true,
        .group = group,
        .begin = begin,
        .work = work,
        .done = done,
        .tick = tick,
        .opaque = m,
    };

    return vd_pool_run(&pool, err);
}

static unsigned deepest(const struct mending *m)
{
    unsigned depth = 0;

    for (size_t i = 0; i < m->tasks.n; i++)
        depth = m->tasks.v[i].depth > depth ? m->tasks.v[i].depth : depth;
    return depth;
}

static int run_rounds(struct mending *m, struct vd_err *err)
{
    unsigned last = deepest(m);

    for (size_t i = 0; i < m->tasks.n; i++)
        if (m->tasks.v[i].is_unfinished)
            m->jobs[m->n++] = i;
    if (run_round(m, err) < 0)
        return -1;
    for (unsigned depth = 0; depth <= last; depth++) {
        m->n = 0;
        for (size_t i = 0; i < m->tasks.n; i++)
            if (!m->tasks.v[i].is_settled && m->tasks.v[i].depth == depth)
                m->jobs[m->n++] = i;
        if (run_round(m, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- and afterwards */

/* What a repair wrote to, or may have, is checked as the file that it is now. */
static int check_again(struct mending *m, struct vd_err *err)
{
    struct vd_audit *a = m->a;

    vd_audit_free_tasks(&a->tasks);
    for (size_t i = 0; i < m->tasks.n; i++) {
        struct vd_task *task = &m->tasks.v[i];

        if (!task->repair || (!may_have_written(task->repair) && !task->is_unfinished))
            continue;
        if (vd_candidate_look_again(task->image, err) < 0 || vd_audit_add_task(a, task->image, err) < 0)
            return -1;
        a->tasks.v[a->tasks.n - 1].repair = json_incref(task->repair);
    }
    return vd_audit_check(a, err);
}

int vd_audit_repair(struct vd_audit *a, struct vd_err *err)
{
    struct mending m = {.a = a};
    int rc = choose(&m, err);

    m.jobs = calloc(m.tasks.n + 1, sizeof(*m.jobs));
    if (rc == 0 && !m.jobs)
        rc = vd_fail_memory(err);
    a->done = 0;
    a->total = m.tasks.n;
    if (rc == 0 && m.tasks.n)
        rc = vd_audit_look_elsewhere(a, &m.tasks, err);
    if (rc == 0 && m.tasks.n)
        rc = run_rounds(&m, err);
    if (rc == 0 && m.tasks.n)
        rc = check_again(&m, err);
    free(m.jobs);
    vd_audit_free_tasks(&m.tasks);
    return rc;
}
