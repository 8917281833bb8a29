/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where an audit looks, and where it keeps what it finds.
 */
#ifndef VD_PATHS_H
#define VD_PATHS_H

#include "report/cli.h"

VD_VEC(vd_path_vec, char *)

/* The words of the command line, and those of --files-from; owned by the vector. */
int vd_paths_gather(const struct vd_cli *cli, struct vd_path_vec *paths, struct vd_err *err);
void vd_paths_free(struct vd_path_vec *paths);

/* The database that --db names, or the usual one, whose folder is made; malloc'd. NULL on error. */
char *vd_paths_db(const struct vd_cli *cli, struct vd_err *err);

/* The folder of undo files, as an absolute path, made where that is asked for; malloc'd. NULL: on error, or
 * (no error) there is none. */
char *vd_paths_undo(const struct vd_cli *cli, const char *db, bool makes, struct vd_err *err);

#endif
