/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck salvage [-f NAME] [-O NAME] [--snapshot=NAME] IMAGE OUTPUT
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/base/text.h"
#include "formats/registry.h"
#include "repair/salvage.h"
#include "report/cli.h"
#include "report/render.h"

enum { RANGES_SHOWN = 20 };

static const char *kind_word(const struct vd_salvage_range *range)
{
    return range->kind == VD_SALVAGE_LOST ? "lost" : "guessed";
}

static void print_json(const struct vd_cli *cli, const struct vd_salvage_answer *answer)
{
    json_t *o = json_object(), *lost = json_array(), *guessed = json_array();

    vd_json_set_text(o, "path", cli->words[0], strlen(cli->words[0]));
    vd_json_set_text(o, "output", cli->words[1], strlen(cli->words[1]));
    json_object_set_new(o, "virtual_size", vd_json_number(answer->size));
    json_object_set_new(o, "copied_bytes", vd_json_number(answer->copied));
    json_object_set_new(o, "lost_bytes", vd_json_number(answer->lost));
    json_object_set_new(o, "put_back", vd_json_number(answer->put_back));
    json_object_set_new(o, "guessed_bytes", vd_json_number(answer->guessed));
    json_object_set_new(o, "damage", vd_json_number(answer->damage));
    json_object_set_new(o, "guessed", json_boolean(answer->is_guessed));
    for (size_t i = 0; i < answer->ranges.n; i++) {
        const struct vd_salvage_range *range = &answer->ranges.v[i];
        json_t *r = json_object();

        json_object_set_new(r, "guest_offset", vd_json_number(range->guest));
        json_object_set_new(r, "bytes", vd_json_number(range->bytes));
        vd_json_set_text(r, "why", range->why, strlen(range->why));
        json_array_append_new(range->kind == VD_SALVAGE_LOST ? lost : guessed, r);
    }
    if (answer->backing_why[0])
        vd_json_set_text(o, "backing_problem", answer->backing_why, strlen(answer->backing_why));
    if (answer->data_why[0])
        vd_json_set_text(o, "data_file_problem", answer->data_why, strlen(answer->data_why));
    json_object_set_new(o, "lost", lost);
    json_object_set_new(o, "guessed_ranges", guessed);
    vd_json_print(stdout, o);
}

static void print_human(const struct vd_cli *cli, const struct vd_salvage_answer *answer)
{
    size_t shown = cli->verbose ? answer->ranges.n : vd_min(RANGES_SHOWN, answer->ranges.n);
    char size[VD_TEXT_SIZE_MAX], copied[VD_TEXT_SIZE_MAX], lost[VD_TEXT_SIZE_MAX], name[4096], why[700];

    printf("%s: disk of %s, %s of data copied, %s lost%s\n",
           vd_text_escape(name, sizeof(name), cli->words[1], strlen(cli->words[1])),
           vd_text_size(size, answer->size), vd_text_size(copied, answer->copied),
           vd_text_size(lost, answer->lost),
           answer->is_guessed ? "; read through a repair that chooses: all of it is a guess" : "");
    if (answer->put_back)
        printf("  read with what was lost and has one place put back (%" PRIu64 " finding%s of vdcheck)\n",
               answer->put_back, answer->put_back == 1 ? "" : "s");
    if (answer->damage)
        printf("  the image is damaged (%" PRIu64
               " finding%s of vdcheck): what was copied may not be all that was there\n",
               answer->damage, answer->damage == 1 ? "" : "s");
    if (answer->data_why[0])
        printf("  without its external data file: %s\n",
               vd_text_escape(why, sizeof(why), answer->data_why, strlen(answer->data_why)));
    if (answer->backing_why[0])
        printf("  without its backing file: %s\n",
               vd_text_escape(why, sizeof(why), answer->backing_why, strlen(answer->backing_why)));
    for (size_t i = 0; i < shown; i++) {
        const struct vd_salvage_range *range = &answer->ranges.v[i];

        printf("  %s: %s at 0x%" PRIx64 ": %s\n", kind_word(range), vd_text_size(size, range->bytes),
               range->guest, vd_text_escape(why, sizeof(why), range->why, strlen(range->why)));
    }
    if (shown < answer->ranges.n)
        printf("  ... %zu ranges more (--verbose lists them)\n", answer->ranges.n - shown);
    if (answer->ranges.n)
        printf("  %sthe whole list is in %s.vdcheck-lost\n",
               answer->lost ? "zeroes stand for what was lost; " : "", name);
}

/* The list of what is zeroes in the new image for want of better, or a guess, beside it: offset, bytes, which
 * of the two, and the reason in each line. */
static int keep_list(const struct vd_cli *cli, const struct vd_salvage_answer *answer, struct vd_err *err)
{
    vd_auto_mem char *path = NULL;
    char why[700];
    FILE *f;

    if (!answer->ranges.n)
        return 0;
    if (asprintf(&path, "%s.vdcheck-lost", cli->words[1]) < 0)
        return vd_fail_memory(err);
    f = fopen(path, "wx");
    if (!f)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot keep the list of what was lost", path);
    fprintf(f, "# guest offset, bytes, lost or guessed, why\n");
    for (size_t i = 0; i < answer->ranges.n; i++)
        fprintf(f, "0x%" PRIx64 " %" PRIu64 " %s %s\n", answer->ranges.v[i].guest, answer->ranges.v[i].bytes,
                kind_word(&answer->ranges.v[i]),
                vd_text_escape(why, sizeof(why), answer->ranges.v[i].why, strlen(answer->ranges.v[i].why)));
    if (answer->ranges_dropped)
        fprintf(f, "# and %zu ranges more\n", answer->ranges_dropped);
    if (fclose(f) != 0)
        return vd_fail(err, VD_ERR_IO, errno, "%s: cannot keep the list of what was lost", path);
    return 0;
}

int vd_cmd_salvage(struct vd_cli *cli)
{
    const struct BlockDriver *drv = vd_driver_by_name(cli->output_format ? cli->output_format : "raw");
    struct vd_open_options opts = vd_cli_open_options(cli, 0);
    struct vd_progress progress = {0};
    struct vd_budget budget = vd_cli_budget(cli, &progress);
    struct vd_salvage_answer answer;
    struct vd_err err = VD_ERR_INIT;
    int status = 0;

    if (cli->words_n != 2)
        return vd_cli_usage(cli, "an image and an output file expected");
    if (!drv || !drv->bdrv_co_create)
        return vd_cli_usage(cli, "-O %s: no format that can be created", cli->output_format);
    progress.image = cli->words[0];
    if (vd_salvage(cli->words[0], cli->words[1], drv, cli->snapshot, &opts, &budget, &answer, &err) < 0)
        status = vd_cli_fail(&err);
    vd_progress_clear(&progress);
    if (status == 0) {
        if (!cli->quiet && cli->output == VD_OUTPUT_JSON)
            print_json(cli, &answer);
        else if (!cli->quiet)
            print_human(cli, &answer);
        /* What is a guess is not all that there was. */
        status = answer.ranges.n || answer.is_guessed || answer.damage ? VD_EXIT_LEFT : 0;
        if (keep_list(cli, &answer, &err) < 0)
            status |= vd_cli_fail(&err);
    }
    vd_salvage_answer_free(&answer);
    return status;
}
