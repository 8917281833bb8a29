/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/shard.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "checker/confine.h"
#include "checker/pool.h"
#include "formats/base/auto.h"

enum { JOB_IMAGES = 64 }; /* looked at by one worker's job: each takes but a moment */

struct sharding {
    const struct vd_audit_options *opts;
    struct vd_candidate_vec *found;
    char **base; /* of each: the path of its backing file, or NULL; owned */
};

/* ---- what each stands on */

static int begin(void *opaque, size_t job, struct vd_err *err)
{
    const struct sharding *s = opaque;

    (void)job;
    vd_confine_be_last();
    return s->opts->has_no_walls ? 0 : vd_confine(&(struct vd_walls){.folder = "/"}, err);
}

/* One line of bytes for each image, ended by a NUL. */
static uint64_t work(void *opaque, size_t job, FILE *out)
{
    const struct sharding *s = opaque;

    for (size_t i = job * JOB_IMAGES; i < (job + 1) * JOB_IMAGES && i < s->found->n; i++) {
        s->opts->look(s->opts->opaque, &s->found->v[i], out);
        fputc('\0', out);
    }
    return 0;
}

static int done(void *opaque, size_t job, const struct vd_pool_result *result, struct vd_err *err)
{
    const struct sharding *s = opaque;
    const char *at = result->bytes, *end = at ? at + result->len : NULL;

    /* Where nobody could look, each is the root of its own chain. */
    for (size_t i = job * JOB_IMAGES; at < end && i < (job + 1) * JOB_IMAGES && i < s->found->n; i++) {
        size_t len = strnlen(at, (size_t)(end - at));

        if (len && !(s->base[i] = strndup(at, len)))
            return vd_fail_memory(err);
        at += len + 1;
    }
    return 0;
}

static int look_at_all(struct sharding *s, struct vd_err *err)
{
    const struct vd_pool_options pool = {
        .jobs_n = (s->found->n + JOB_IMAGES - 1) / JOB_IMAGES,
        .workers = s->opts->workers,
        .timeout_s = s->opts->timeout_s,
        .max_memory = s->opts->max_memory,
        .budget = s->opts->budget,
        .begin = begin,
        .work = work,
        .done = done,
        .opaque = s,
    };

    return vd_pool_run(&pool, err);
}

/* ---- roots */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct vd_candidate *)a)->path, ((const struct vd_candidate *)b)->path);
}

static const char *base_of(const struct sharding *s, const char *path)
{
    const struct vd_candidate key = {.path = (char *)path}, *at;

    at = bsearch(&key, s->found->v, s->found->n, sizeof(key), by_path);
    return at ? s->base[at - s->found->v] : NULL;
}

/* Of chains that bite their tail, the first name of the circle is the root. */
static const char *root_of(const struct sharding *s, const char *path)
{
    const char *root = path, *base;

    for (unsigned i = 0; i < VD_BUDGET_DEPTH; i++) {
        base = base_of(s, root);
        if (!base)
            return root;
        root = base;
    }
    path = root;
    for (base = base_of(s, path); base && base != path && strcmp(base, path) != 0; base = base_of(s, base))
        if (strcmp(base, root) < 0)
            root = base;
    return root;
}

static bool is_ours(const struct sharding *s, const char *path)
{
    const char *root = root_of(s, path);

    return XXH3_64bits(root, strlen(root)) % s->opts->shards == s->opts->shard - 1;
}

static int keep_ours(const struct sharding *s, struct vd_err *err)
{
    vd_auto_mem bool *ours = calloc(s->found->n, sizeof(*ours));
    size_t kept = 0;

    if (!ours)
        return vd_fail_memory(err);
    for (size_t i = 0; i < s->found->n; i++)
        ours[i] = is_ours(s, s->found->v[i].path);
    for (size_t i = 0; i < s->found->n; i++) {
        if (ours[i])
            s->found->v[kept++] = s->found->v[i];
        else
            free(s->found->v[i].path);
    }
    s->found->n = kept;
    return 0;
}

int vd_shard_keep(const struct vd_audit_options *opts, struct vd_candidate_vec *found, struct vd_err *err)
{
    struct sharding s = {.opts = opts, .found = found, .base = calloc(found->n + 1, sizeof(*s.base))};
    int rc = s.base ? 0 : vd_fail_memory(err);
    size_t n = found->n;

    if (rc == 0 && found->n)
        rc = look_at_all(&s, err);
    if (rc == 0 && found->n)
        rc = keep_ours(&s, err);
    for (size_t i = 0; s.base && i < n; i++)
        free(s.base[i]);
    free(s.base);
    return rc;
}
