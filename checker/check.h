/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check of one image: a sink over a usage map and a ledger, given to the driver.
 */
#ifndef VD_CHECKER_CHECK_H
#define VD_CHECKER_CHECK_H

#include "checker/ledger.h"
#include "checker/usemap.h"
#include "formats/check.h"
#include "formats/open.h"

/* Should this finding be fixed now? args are NULL where all findings of the kind are asked about. *reason,
 * where it is not, may be set to a static text for people. */
typedef enum vd_verdict vd_decide_fn(void *opaque, const struct vd_check *ck,
                                     const struct vd_finding_kind *kind, const struct vd_found_args *args,
                                     enum vd_severity severity, enum vd_level level, const char **reason);

struct vd_check_options {
    struct vd_budget *budget;
    bool keeps_keys;      /* the ledger will be compared with another one */
    size_t places_kept;   /* a group; 0: VD_PLACES_KEPT */
    vd_decide_fn *decide; /* NULL: everything is left */
    void *decide_opaque;
    struct vd_runs *kept_leaks; /* see struct vd_check; borrowed */
    const struct vd_runs *given_up;
    const struct vd_chain_link *link; /* the step to the backing file is judged, too; NULL: not */
    bool whole_chain;
    const char *undo_fault; /* why the undo file of an earlier repair cannot be used; NULL: it can */
    bool is_unfinished;     /* an interrupted repair was found: this is the image as it will be when it is
                               finished */
    bool deep;              /* read the data, too */
    bool was_changed;       /* by an earlier round of this repair */
    unsigned flags;         /* VD_EVIDENCE where an earlier round of this repair found some */
    struct vd_usemap *
        *current_map; /* set to the map as soon as it is there; borrowed by the caller; NULL: not */
};

struct vd_check_result {
    struct vd_ledger *ledger;
    struct vd_usemap *map; /* NULL where no walk was possible */
    struct vd_cluster_counts clusters;
    uint64_t cluster_size; /* 0: not known */
    uint64_t image_end;    /* bytes; see vd_check_knows_end() */
    bool map_is_incomplete;
    bool has_changed;
    bool keeps_length;       /* a device: what lies behind the image is no leak */
    uint64_t would_fix;      /* findings that were answered by VD_FIX */
    struct vd_runs given_up; /* clusters that fixes gave up */
};

/*
 * Checks the image of a format node that was opened with BDRV_O_CHECK. 0 with *result filled, also where the
 * image is a ruin; -1 where the check could not be done. The result is to be freed in both cases.
 */
int vd_check_run(struct BlockDriverState *bs, const struct vd_check_options *opts,
                 struct vd_check_result *result, struct vd_err *err);
void vd_check_result_free(struct vd_check_result *result);

/* Is image_end where the image ends? Not where something could not be read: it may lead further. */
bool vd_check_knows_end(const struct vd_check_result *result);

/* vd_usemap_each_run() of the map, which tells the free tail of a device apart from leaks. */
int vd_check_each_run(const struct vd_check_result *result, vd_usemap_run_fn *fn, void *opaque);

#endif
