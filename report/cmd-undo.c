/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck undo IMAGE|UNDO-FILE: put back what a repair changed.
 */
#include <stdio.h>
#include <string.h>

#include "formats/base/text.h"
#include "repair/undo.h"
#include "report/cli.h"
#include "report/status.h"

int vd_cmd_undo(struct vd_cli *cli)
{
    struct vd_undo_answer answer;
    struct vd_err err = VD_ERR_INIT;
    char image[4096], file[4096];
    int status = 0;

    if (cli->words_n != 1)
        return vd_cli_usage(cli, "one image or undo file expected");
    if (vd_undo_run(cli->words[0], cli->undo_file, cli->dry_run, &answer, &err) < 0)
        status = vd_cli_fail(&err);
    else if (!cli->quiet)
        printf("%s: %s as it was before the repair (undo file: %s)\n",
               vd_text_escape(image, sizeof(image), answer.image, strlen(answer.image)),
               cli->dry_run ? "could be put back" : "put back",
               vd_text_escape(file, sizeof(file), answer.undo_file, strlen(answer.undo_file)));
    vd_undo_answer_free(&answer);
    return status;
}
