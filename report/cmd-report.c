/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck report AUDIT-DB...
 */
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "report/report.h"

static vd_report_fn *const reports[] = {
    [VD_OUTPUT_HUMAN] = vd_report_human,
    [VD_OUTPUT_JSON] = vd_report_json,
    [VD_OUTPUT_PROMETHEUS] = vd_report_prometheus,
    [VD_OUTPUT_JUNIT] = vd_report_junit,
    [VD_OUTPUT_SARIF] = vd_report_sarif,
    [VD_OUTPUT_NAGIOS] = vd_report_nagios,
    [VD_OUTPUT_CSV] = vd_report_csv,
    [VD_OUTPUT_HTML] = vd_report_html,
};

static bool is_among(const struct vd_word_vec *words, const char *text)
{
    for (size_t i = 0; i < words->n; i++)
        if (strcmp(words->v[i], text) == 0)
            return true;
    return !words->n;
}

static bool fits(const struct vd_word_vec *patterns, const char *path)
{
    const char *slash = strrchr(path, '/');

    for (size_t i = 0; i < patterns->n; i++)
        if (fnmatch(patterns->v[i], strchr(patterns->v[i], '/') || !slash ? path : slash + 1, 0) == 0)
            return true;
    return !patterns->n;
}

static bool is_asked_for(void *opaque, const struct vd_farm_image *image)
{
    const struct vd_farm_cli *want = &((const struct vd_cli *)opaque)->farm;

    return is_among(&want->hosts, image->host) &&
           is_among(&want->statuses, vd_status_name(vd_report_status(image))) &&
           fits(&want->paths, image->path) && image->newest.checked_at >= want->since;
}

static int refuse_words(const struct vd_cli *cli)
{
    if (!cli->words_n)
        return vd_cli_usage(cli, "no database named");
    for (size_t i = 0; i < cli->farm.statuses.n; i++)
        if (strcmp(vd_status_name(vd_status_by_name(cli->farm.statuses.v[i])), cli->farm.statuses.v[i]) != 0)
            return vd_cli_usage(cli, "--status=%s: no status of an image", cli->farm.statuses.v[i]);
    return 0;
}

static int gather(const struct vd_cli *cli, struct vd_farm *farm, struct vd_err *err)
{
    for (int i = 0; i < cli->words_n; i++)
        if (vd_farm_add(farm, cli->words[i], err) < 0)
            return -1;
    return vd_farm_settle(farm, err);
}

int vd_cmd_report(struct vd_cli *cli)
{
    bool is_nagios = cli->output == VD_OUTPUT_NAGIOS;
    struct vd_farm farm = {0};
    struct vd_err err = VD_ERR_INIT;
    int status = refuse_words(cli);

    if (status)
        return status;
    if (gather(cli, &farm, &err) < 0) {
        status = vd_cli_fail(&err);
        /* Whoever asks in the words of Nagios is answered in them. */
        if (is_nagios)
            printf("VDCHECK UNKNOWN: a database cannot be read\n");
        vd_farm_free(&farm);
        return is_nagios ? 3 : status;
    }
    vd_farm_filter(&farm, is_asked_for, cli);
    status = is_nagios ? vd_report_nagios_state(&farm) : vd_report_bits(&farm);
    if (cli->farm.exit_zero)
        status = 0;
    /* A page of which a part is missing is none. */
    if (!cli->quiet && reports[cli->output](stdout, &farm, &err) < 0)
        status |= vd_cli_fail(&err);
    vd_farm_free(&farm);
    return status;
}
