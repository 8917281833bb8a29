/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck formats
 */
#include <stdio.h>
#include <string.h>

#include "formats/node/block.h"
#include "formats/registry.h"
#include "report/cli.h"

static int widest_description(void)
{
    const struct BlockDriver *drv;
    size_t widest = 0;

    for (size_t i = 0; (drv = vd_driver_at(i)); i++)
        if (strlen(drv->description) > widest)
            widest = strlen(drv->description);
    return (int)widest;
}

int vd_cmd_formats(struct vd_cli *cli)
{
    const struct BlockDriver *drv;
    int width = widest_description();

    if (cli->words_n)
        return vd_cli_usage(cli, "no words expected");
    printf("%-8s %-*s %-6s %-7s %-6s %-7s %s\n", "name", width, "", "check", "repair", "write", "create",
           "create -o");
    for (size_t i = 0; (drv = vd_driver_at(i)); i++)
        printf("%-8s %-*s %-6s %-7s %-6s %-7s %s\n", drv->format_name, width, drv->description,
               drv->bdrv_co_check ? "yes" : "-", drv->bdrv_co_check ? "yes" : "-",
               drv->bdrv_co_pwritev ? "yes" : "-", drv->bdrv_co_create ? "yes" : "-",
               drv->create_options ? drv->create_options : "");
    return 0;
}
