/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int add(struct vd_path_vec *paths, const char *path, struct vd_err *err)
{
    char *copy = strdup(path);

    if (copy && vd_path_vec_push(paths, copy) == 0)
        return 0;
    free(copy);
    return vd_fail_memory(err);
}

static int add_from(FILE *f, const char *name, int end, struct vd_path_vec *paths, struct vd_err *err)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    int rc = 0;

    while (rc == 0 && (n = getdelim(&line, &room, end, f)) >= 0) {
        if (n && line[n - 1] == end)
            line[--n] = '\0';
        if (strlen(line) != (size_t)n)
            rc = vd_fail(err, VD_ERR_USAGE, 0, "%s: a path with a NUL in it (--null goes with such a list)",
                         name);
        else if (n)
            rc = add(paths, line, err);
    }
    if (rc == 0 && ferror(f))
        rc = vd_fail(err, VD_ERR_IO, errno, "%s: cannot read", name);
    free(line);
    return rc;
}

int vd_paths_gather(const struct vd_cli *cli, struct vd_path_vec *paths, struct vd_err *err)
{
    const char *name = cli->farm.files_from;
    int end = cli->farm.null_separated ? '\0' : '\n', rc;
    FILE *f;

    for (int i = 0; i < cli->words_n; i++)
        if (add(paths, cli->words[i], err) < 0)
            return -1;
    if (!name)
        return 0;
    if (strcmp(name, "-") == 0)
        return add_from(stdin, "standard input", end, paths, err);
    f = fopen(name, "re");
    if (!f)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot open", name);
    rc = add_from(f, name, end, paths, err);
    fclose(f);
    return rc;
}

void vd_paths_free(struct vd_path_vec *paths)
{
    for (size_t i = 0; i < paths->n; i++)
        free(paths->v[i]);
    vd_path_vec_done(paths);
}

/* The folder with all that lead to it; what is known of a farm's images is for its owner alone. */
static int make_folder(char *path, const char *option, struct vd_err *err)
{
    for (char *at = path + 1;; at++) {
        char c = *at;

        if (c != '/' && c)
            continue;
        *at = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return vd_fail(err, VD_ERR_IO, errno, "%s: cannot make the folder (%s names another place)", path,
                           option);
        *at = c;
        if (!c)
            return 0;
    }
}

/* Where the state of programs lies: a service's folder, the user's, the system's. */
static char *state_folder(void)
{
    const char *service = getenv("STATE_DIRECTORY"), *user = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *folder = NULL;
    int n = -1;

    if (service && service[0] == '/')
        return strndup(service, strcspn(service, ":"));
    if (user && user[0] == '/')
        n = asprintf(&folder, "%s/vdcheck", user);
    else if (geteuid() == 0)
        return strdup("/var/lib/vdcheck");
    else if (home && home[0] == '/')
        n = asprintf(&folder, "%s/.local/state/vdcheck", home);
    return n < 0 ? NULL : folder;
}

char *vd_paths_db(const struct vd_cli *cli, struct vd_err *err)
{
    vd_auto_mem char *folder = cli->farm.db ? NULL : state_folder();
    char *path = NULL;

    if (cli->farm.db) {
        path = strdup(cli->farm.db);
        if (!path)
            vd_fail_memory(err);
        return path;
    }
    if (!folder) {
        vd_fail(err, VD_ERR_USAGE, 0, "no place for the results is known; --db=FILE names one");
        return NULL;
    }
    if (make_folder(folder, "--db=FILE", err) < 0)
        return NULL;
    if (asprintf(&path, "%s/audit.db", folder) < 0) {
        vd_fail_memory(err);
        return NULL;
    }
    return path;
}

char *vd_paths_undo(const struct vd_cli *cli, const char *db, bool makes, struct vd_err *err)
{
    vd_auto_mem char *folder = NULL;
    char *real;

    if (asprintf(&folder, "%s%s", cli->farm.undo_dir ? cli->farm.undo_dir : db,
                 cli->farm.undo_dir ? "" : "-undo") < 0) {
        folder = NULL;
        vd_fail_memory(err);
        return NULL;
    }
    if (makes && make_folder(folder, "--undo-dir=DIR", err) < 0)
        return NULL;
    real = realpath(folder, NULL);
    if (!real && makes)
        vd_fail(err, VD_ERR_IO, errno, "%s: undo files cannot go there", folder);
    return real;
}
