/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/runs.h"

#include <stdlib.h>

#include "formats/base/span.h"
#include "formats/base/vec.h"

static uint64_t run_end(struct vd_run run)
{
    return run.first + run.count;
}

int vd_runs_add(struct vd_runs *runs, uint64_t first, uint64_t count)
{
    void *v = runs->v;

    if (!count)
        return 0;
    if (runs->n) {
        struct vd_run *last = &runs->v[runs->n - 1];

        if (first >= last->first && first <= run_end(*last)) {
            last->count = vd_max(run_end(*last), first + count) - last->first;
            return 0;
        }
        if (first < last->first)
            runs->unsettled = true;
    }
    if (vd_vec_grow(&v, runs->n, &runs->cap, sizeof(*runs->v)) < 0)
        return -1;
    runs->v = v;
    runs->v[runs->n++] = (struct vd_run){first, count};
    return 0;
}

int vd_runs_reserve(struct vd_runs *runs, size_t n)
{
    size_t want;
    struct vd_run *v;

    if (!n || runs->cap - runs->n >= n)
        return 0;
    if (__builtin_add_overflow(runs->n, n, &want))
        return -1;
    v = want > SIZE_MAX / sizeof(*v) ? NULL : realloc(runs->v, want * sizeof(*v));
    if (!v)
        return -1;
    runs->v = v;
    runs->cap = want;
    return 0;
}

int vd_runs_add_all(struct vd_runs *runs, const struct vd_runs *other)
{
    for (size_t i = 0; i < other->n; i++)
        if (vd_runs_add(runs, other->v[i].first, other->v[i].count) < 0)
            return -1;
    return 0;
}

static int by_first(const void *a, const void *b)
{
    const struct vd_run *x = a, *y = b;

    return (x->first > y->first) - (x->first < y->first);
}

void vd_runs_settle(struct vd_runs *runs)
{
    size_t kept = 0;

    if (!runs->unsettled)
        return;
    qsort(runs->v, runs->n, sizeof(*runs->v), by_first);
    for (size_t i = 1; i < runs->n; i++) {
        struct vd_run *last = &runs->v[kept];

        if (runs->v[i].first <= run_end(*last))
            last->count = vd_max(run_end(*last), run_end(runs->v[i])) - last->first;
        else
            runs->v[++kept] = runs->v[i];
    }
    runs->n = kept + 1;
    runs->unsettled = false;
}

size_t vd_runs_find(struct vd_runs *runs, uint64_t number)
{
    size_t lo = 0, hi;

    vd_runs_settle(runs);
    hi = runs->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (run_end(runs->v[mid]) <= number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool vd_runs_has(struct vd_runs *runs, uint64_t number)
{
    return vd_runs_has_all(runs, number, 1);
}

bool vd_runs_has_all(struct vd_runs *runs, uint64_t first, uint64_t count)
{
    size_t i = vd_runs_find(runs, first);

    return i < runs->n && runs->v[i].first <= first && run_end(runs->v[i]) - first >= count;
}

uint64_t vd_runs_total(struct vd_runs *runs)
{
    uint64_t total = 0;

    vd_runs_settle(runs);
    for (size_t i = 0; i < runs->n; i++)
        total += runs->v[i].count;
    return total;
}

int vd_runs_minus(struct vd_runs *a, struct vd_runs *b, struct vd_runs *out)
{
    size_t j = 0;

    vd_runs_settle(a);
    vd_runs_settle(b);
    for (size_t i = 0; i < a->n; i++) {
        uint64_t at = a->v[i].first, end = run_end(a->v[i]);

        while (j < b->n && run_end(b->v[j]) <= at)
            j++;
        for (size_t k = j; at < end; k++) {
            uint64_t stop = k < b->n && b->v[k].first < end ? b->v[k].first : end;

            if (stop > at && vd_runs_add(out, at, stop - at) < 0)
                return -1;
            if (stop == end)
                break;
            at = run_end(b->v[k]);
        }
    }
    return 0;
}

void vd_runs_done(struct vd_runs *runs)
{
    free(runs->v);
    *runs = (struct vd_runs){0};
}
