/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck create -f NAME [-o KEY=VALUE,...] [-b FILE [-F NAME]] FILE SIZE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/base/text.h"
#include "formats/node/file.h"
#include "formats/registry.h"
#include "report/cli.h"
#include "report/status.h"

/* Splits "a=1,b=2" in place into words, ended by NULL. */
static const char **split(char *text)
{
    const char **words = calloc(strlen(text) + 2, sizeof(*words));
    char *save = NULL;
    size_t n = 0;

    for (char *word = words ? strtok_r(text, ",", &save) : NULL; word; word = strtok_r(NULL, ",", &save))
        words[n++] = word;
    return words;
}

int vd_cmd_create(struct vd_cli *cli)
{
    const struct BlockDriver *drv = cli->format ? vd_driver_by_name(cli->format) : NULL;
    vd_auto_mem char *text = strdup(cli->options ? cli->options : "");
    vd_auto_mem const char **pairs = text ? split(text) : NULL;
    struct vd_create_options opts = {
        .backing_file = cli->backing, .backing_format = cli->backing_format, .pairs = pairs};
    vd_auto(BlockDriverState) file = NULL;
    struct vd_err err = VD_ERR_INIT;
    bool existed;

    if (cli->words_n != 2)
        return vd_cli_usage(cli, "a file and a size expected");
    if (!drv || !drv->bdrv_co_create)
        return vd_cli_usage(cli,
                            "-f %s: a format that can be created is expected (`vdcheck formats` lists them)",
                            cli->format ? cli->format : "NAME");
    if (!vd_text_parse_size(cli->words[1], &opts.size))
        return vd_cli_usage(cli, "'%s' is no size", cli->words[1]);
    if (cli->backing_format && !vd_driver_by_name(cli->backing_format))
        return vd_cli_usage(cli, "'%s' is no format", cli->backing_format);
    if (!pairs)
        return VD_EXIT_ERROR;
    existed = access(cli->words[0], F_OK) == 0;
    /* Data that exists only once is not overwritten by a typo. */
    file = vd_file_create(cli->words[0], false, &err);
    if (!file)
        return vd_cli_fail(&err);
    if (drv->bdrv_co_create(file, &opts, &err) < 0) {
        if (!existed)
            (void)unlink(cli->words[0]);
        return vd_cli_fail(&err);
    }
    return 0;
}
