/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck explain [FINDING-ID]
 */
#include <stdio.h>
#include <string.h>

#include "formats/finding.h"
#include "formats/registry.h"
#include "report/cli.h"
#include "report/explain.h"

/* Prints text in lines of at most `width` columns, each after `indent` spaces. */
static void print_wrapped(const char *text, int indent, int width)
{
    int column = 0;

    while (*text) {
        int len = (int)strcspn(text, " ");

        if (column && column + 1 + len > width - indent) {
            putchar('\n');
            column = 0;
        }
        column += printf("%*s%.*s", column ? 1 : indent, "", len, text) - (column ? 0 : indent);
        text += len;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_part(void *opaque, enum vd_explain_part part, const char *label, const char *text)
{
    (void)opaque;
    switch (part) {
    case VD_EXPLAIN_MESSAGE:
        print_wrapped(text, 4, 80);
        putchar('\n');
        break;
    case VD_EXPLAIN_SEVERITY:
    case VD_EXPLAIN_LEVEL:
        printf("  %s: %s\n", label, text);
        break;
    case VD_EXPLAIN_MEANING:
        putchar('\n');
        print_wrapped(text, 2, 80);
        break;
    case VD_EXPLAIN_REPAIR:
        printf("\n  %s:\n", label);
        print_wrapped(text, 4, 80);
        break;
    }
}

static void explain(const struct vd_finding_kind *row)
{
    printf("%s\n", row->id);
    vd_explain(row, print_part, NULL);
}

int vd_cmd_explain(struct vd_cli *cli)
{
    const struct vd_finding_kind *row;

    if (cli->words_n > 1)
        return vd_cli_usage(cli, "at most one finding id expected");
    if (cli->words_n) {
        row = vd_finding_by_id(cli->words[0]);
        if (!row)
            return vd_cli_usage(cli, "'%s' is no finding id (`vdcheck explain` lists them)", cli->words[0]);
        explain(row);
        return 0;
    }
    for (size_t i = 0; (row = vd_finding_row(i)); i++)
        printf("%-34s %-10s  %-5s  %s\n", row->id, vd_severity_name(row->severity), vd_level_name(row->level),
               row->message);
    return 0;
}
