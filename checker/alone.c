/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every cluster has a mark: nobody's, one owner's, or several'. What a table names that several have, several
 * have as well; so once a second owner has been through it, nobody needs to go there again.
 */
#include "checker/alone.h"

#include <stdlib.h>
#include <string.h>

#include "formats/base/auto.h"
#include "formats/base/span.h"

typedef uint16_t mark;

enum {
    PAGE_BITS = 16,
    PAGE_CLUSTERS = 1 << PAGE_BITS,
    NOBODY = 0,
    THE_IMAGE = 1,    /* the active disk, and what is no owner's; behind it the owners' numbers */
    SEVERAL = 0xffff, /* also: of an owner for whom there is no mark */
};

struct counter {
    mark **pages;
    uint64_t clusters, cluster_size;
    struct vd_budget *budget;
    uint64_t taken;
    struct vd_alone_vec *out;
    size_t last_number;
    bool has_more; /* owners than there are marks: they are not told */
    mark now;
    struct vd_err *err;
};

static int add_owner(struct counter *c, const struct vd_owner *owner)
{
    struct vd_alone alone = {.what = owner->what};

    alone.id = strdup(owner->id);
    alone.name = owner->name ? strdup(owner->name) : NULL;
    if (!alone.id || (owner->name && !alone.name) || vd_alone_vec_push(c->out, alone) < 0) {
        free(alone.id);
        free(alone.name);
        return vd_fail_memory(c->err);
    }
    return 0;
}

/* Whose claims come now? Those of one owner come behind each other. */
static int note_owner(struct counter *c, const struct vd_owner *owner)
{
    bool is_new = owner && owner->number != c->last_number;

    if (is_new && THE_IMAGE + c->out->n + 1 >= SEVERAL) {
        c->has_more = true;
    } else if (is_new) {
        c->last_number = owner->number;
        if (add_owner(c, owner) < 0)
            return -1;
    }
    c->now = !owner ? THE_IMAGE : c->has_more ? SEVERAL : (mark)(THE_IMAGE + c->out->n);
    return 0;
}

static mark *mark_of(struct counter *c, uint64_t cluster)
{
    mark **page = &c->pages[cluster >> PAGE_BITS];

    if (!*page) {
        if (vd_budget_take(c->budget, PAGE_CLUSTERS * sizeof(mark), "the map of owners", c->err) < 0)
            return NULL;
        c->taken += PAGE_CLUSTERS * sizeof(mark);
        *page = calloc(PAGE_CLUSTERS, sizeof(mark));
        if (!*page)
            vd_fail_memory(c->err);
    }
    return *page ? *page + (cluster & (PAGE_CLUSTERS - 1)) : NULL;
}

/* Is what this claim leads to marked as it would be, already? */
static int on_claim(void *opaque, const struct vd_named_span *claim)
{
    struct counter *c = opaque;
    uint64_t first = claim->host / c->cluster_size,
             end = vd_min(vd_div_up(claim->host + claim->bytes, c->cluster_size), c->clusters);
    bool is_known = true;

    if (note_owner(c, claim->owner) < 0)
        return -1;
    for (uint64_t i = first; i < end; i++) {
        mark *m = mark_of(c, i);

        if (!m)
            return -1;
        is_known = is_known && (*m == SEVERAL || *m == c->now);
        *m = *m == NOBODY || *m == c->now ? c->now : SEVERAL;
    }
    return is_known ? VD_SKIP_BELOW : vd_budget_go_on(c->budget, c->err);
}

static void add_up(struct counter *c)
{
    for (uint64_t i = 0; i < c->clusters; i++) {
        const mark *page = c->pages[i >> PAGE_BITS];
        mark m = page ? page[i & (PAGE_CLUSTERS - 1)] : NOBODY;

        if (!page)
            i |= PAGE_CLUSTERS - 1;
        else if (m > THE_IMAGE && m != SEVERAL)
            c->out->v[m - THE_IMAGE - 1].bytes += c->cluster_size;
    }
}

int vd_alone_count(struct BlockDriverState *bs, uint64_t clusters, uint64_t cluster_size,
                   struct vd_budget *budget, struct vd_alone_vec *out, struct vd_err *err)
{
    uint64_t pages_n = vd_div_up(clusters, PAGE_CLUSTERS);
    vd_auto_mem mark **pages = calloc(pages_n + 1, sizeof(*pages));
    struct counter c = {.pages = pages,
                        .clusters = clusters,
                        .cluster_size = cluster_size,
                        .budget = budget,
                        .out = out,
                        .err = err};
    int rc = 0;

    if (!pages)
        return vd_fail_memory(err);
    if (bs->drv->bdrv_each_claim && bs->drv->bdrv_each_claim(bs, on_claim, &c, err) < 0)
        rc = -1;
    if (rc == 0)
        add_up(&c);
    for (uint64_t i = 0; i < pages_n; i++)
        free(pages[i]);
    vd_budget_give(budget, c.taken);
    return rc;
}

void vd_alone_free(struct vd_alone_vec *alone)
{
    for (size_t i = 0; i < alone->n; i++) {
        free(alone->v[i].id);
        free(alone->v[i].name);
    }
    vd_alone_vec_done(alone);
}
