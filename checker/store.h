/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cluster-usage map and the findings of a check in an SQLite file that the sqlite3 shell reads
 * (schema.sql).
 */
#ifndef VD_STORE_H
#define VD_STORE_H

#include "checker/check.h"

/*
 * Adds (or renews) an image in the SQLite file at path, which is made where it is not there: one transaction.
 * Images are told apart by their path. owners: NULL, or what names the owner of each cluster.
 */
int vd_store_image(const char *path, struct BlockDriverState *bs, struct vd_check_result *result,
                   const char *status, bool with_owners, struct vd_err *err);

#endif
