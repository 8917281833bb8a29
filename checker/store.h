/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cluster-usage map and the findings of a check in an SQLite file that the sqlite3 shell reads
 * (schema.sql).
 */
#ifndef VD_STORE_H
#define VD_STORE_H

#include "checker/check.h"

/* What to store. */
enum {
    VD_STORE_OWNERS = 1, /* who claims each cluster, not only those that are claimed more than once */
    VD_STORE_UNCHANGED =
        2 /* nothing was written (a dry run): what the first check found, and nothing fixed */
};

/*
 * Adds (or renews) an image in the SQLite file at path, which is made where it is not there: one transaction.
 * Images are told apart by their path.
 */
int vd_store_image(const char *path, struct BlockDriverState *bs, struct vd_check_result *result,
                   const char *status, unsigned what, struct vd_err *err);

#endif
