/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which images are this shard's: those whose chain's root hashes to it, so that an overlay and its bases stay
 * together and every shard, wherever it runs, comes to the same answer.
 */
#ifndef VD_SHARD_H
#define VD_SHARD_H

#include "checker/audit.h"

/* Takes the images of other shards out of *found. Workers look into each image for what it stands on. */
int vd_shard_keep(const struct vd_audit_options *opts, struct vd_candidate_vec *found, struct vd_err *err);

#endif
