/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck: check and repair virtual disk images offline.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>
#include <zstd.h>

#include "checker/cancel.h"
#include "formats/base/text.h"
#include "formats/registry.h"
#include "report/cli.h"
#include "report/parse.h"
#include "report/render.h"
#include "report/status.h"

static const struct {
    const char *word, *arguments, *help;
} commands[] = {
#define CMD(symbol, word, arguments, help) {word, arguments, help},
#include "report/commands.def"
#undef CMD
};

enum {
#define CMD(symbol, ...) CMD_##symbol = 1 << VD_CMD_##symbol,
#include "report/commands.def"
#undef CMD
    CMD_ALL = (1 << VD_COMMANDS_END) - 1,
};

enum option_id {
    OPTION_BASE = 0x100,
#define OPT(symbol, ...) OPTION_##symbol,
#include "report/options.def"
#undef OPT
    OPTION_END
};

struct option_row {
    enum option_id id;
    char letter;
    const char *name;
    int argument;
    const char *argument_name;
    unsigned commands;
    const char *help;
};

#define NO       no_argument
#define REQUIRED required_argument
#define OPTIONAL optional_argument
static const struct option_row rows[] = {
#define OPT(symbol, letter, name, argument, argument_name, commands, help)                                   \
    {OPTION_##symbol, letter, name, argument, argument_name, commands, help},
#include "report/options.def"
#undef OPT
};
#undef NO
#undef REQUIRED
#undef OPTIONAL

const char *vd_command_word(enum vd_command_id command)
{
    return commands[command].word;
}

int vd_cli_fail(const struct vd_err *err)
{
    char story[1200];

    fprintf(stderr, "vdcheck: %s\n", vd_text_escape(story, sizeof(story), err->story, strlen(err->story)));
    return vd_status_error_bit(err->kind);
}

int vd_cli_usage(const struct vd_cli *cli, const char *fmt, ...)
{
    char told[600], story[1200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(told, sizeof(told), fmt, ap);
    va_end(ap);
    fprintf(stderr, "vdcheck: %s\n", vd_text_escape(story, sizeof(story), told, strlen(told)));
    fprintf(stderr, "Try 'vdcheck %s--help'.\n",
            cli->command == VD_CMD_CHECK
                ? ""
                : (snprintf(told, sizeof(told), "%s ", vd_command_word(cli->command)), told));
    return VD_EXIT_USAGE;
}

int vd_cli_refuse_undo_file(const struct vd_cli *cli)
{
    const char *name = cli->undo_file;

    if (name && strncmp(name, "/dev/", 5) == 0)
        return vd_cli_usage(cli, "--undo-file=%s: not below /dev", name);
    /* SQLite has meanings of its own for such names: a database in memory, an address. */
    if (name && (name[0] == ':' || strncmp(name, "file:", 5) == 0))
        return vd_cli_usage(cli, "--undo-file=%s: no plain file name (./%s is one)", name, name);
    return 0;
}

struct vd_open_options vd_cli_open_options(const struct vd_cli *cli, int flags)
{
    return (struct vd_open_options){
        .format = cli->format,
        .flags = flags | (cli->force_share ? BDRV_O_FORCE_SHARE : 0),
        .gate = {.allowed = cli->allow.v, .allowed_n = cli->allow.n},
        .throttle = cli->throttle,
        .fault = cli->has_fault ? &cli->fault : NULL,
    };
}

struct vd_budget vd_cli_budget(const struct vd_cli *cli, struct vd_progress *progress)
{
    struct vd_budget budget = VD_BUDGET_INIT;

    progress->is_shown = cli->progress > 0 || (cli->progress == 0 && !cli->quiet && isatty(STDERR_FILENO));
    budget.cancelled = vd_cancel_flag();
    budget.progress = vd_progress_tell;
    budget.progress_opaque = progress;
    return budget;
}

/* ---- help */

static void print_option(const struct option_row *row)
{
    char head[80];
    int n = 0;

    if (row->letter)
        n += snprintf(head, sizeof(head), "-%c%s", row->letter, row->name ? ", " : "");
    if (row->name)
        n += snprintf(head + n, sizeof(head) - (size_t)n, "--%s", row->name);
    if (row->argument_name)
        snprintf(head + n, sizeof(head) - (size_t)n,
                 row->argument == optional_argument ? "[=%s]"
                 : row->name                        ? "=%s"
                                                    : " %s",
                 row->argument_name);
    printf("  %s\n        %s\n", head, row->help);
}

static int print_help(const struct vd_cli *cli)
{
    if (cli->command == VD_CMD_CHECK)
        printf("Usage: vdcheck %s\n", commands[VD_CMD_CHECK].arguments);
    else
        printf("Usage: vdcheck %s%s%s\n", commands[cli->command].word,
               commands[cli->command].arguments[0] ? " " : "", commands[cli->command].arguments);
    printf("%c%s.\n\nOptions:\n", commands[cli->command].help[0] & ~0x20, commands[cli->command].help + 1);
    for (size_t i = 0; i < VD_ARRAY_SIZE(rows); i++)
        if (rows[i].commands & (1u << cli->command))
            print_option(&rows[i]);
    if (cli->command != VD_CMD_CHECK)
        return 0;
    printf("\nCommands (`vdcheck COMMAND --help`):\n");
    for (size_t i = 1; i < VD_ARRAY_SIZE(commands); i++)
        printf("  vdcheck %-8s %-28s %s\n", commands[i].word, commands[i].arguments, commands[i].help);
    printf("\nExit status: 0 clean, 1 all repaired, 4 problems left, 8 error, 16 usage, 32 cancelled, 64 in "
           "use;\n"
           "the sum over all images.\n");
    return 0;
}

static int print_version(void)
{
    printf("vdcheck %s\nSQLite %s, zlib %s, zstd %s, xxHash %u.%u.%u, jansson %s\n", PACKAGE_VERSION,
           sqlite3_libversion(), zlibVersion(), ZSTD_versionString(), XXH_versionNumber() / 10000,
           XXH_versionNumber() / 100 % 100, XXH_versionNumber() % 100, JANSSON_VERSION);
    return 0;
}

/* ---- parsing */

static bool take_word(const char *arg, const char *const *names, int n, int *chosen)
{
    for (int i = 0; i < n; i++)
        if (strcmp(arg, names[i]) == 0) {
            *chosen = i;
            return true;
        }
    return false;
}

static int take_output(struct vd_cli *cli, const char *arg)
{
    static const char *const names[] = {
        [VD_OUTPUT_HUMAN] = "human",         [VD_OUTPUT_JSON] = "json",
        [VD_OUTPUT_QEMU_JSON] = "qemu-json", [VD_OUTPUT_PROMETHEUS] = "prometheus",
        [VD_OUTPUT_JUNIT] = "junit",         [VD_OUTPUT_SARIF] = "sarif",
        [VD_OUTPUT_NAGIOS] = "nagios",       [VD_OUTPUT_CSV] = "csv",
        [VD_OUTPUT_HTML] = "html",
    };
    bool is_check = cli->command == VD_CMD_CHECK, is_report = cli->command == VD_CMD_REPORT;
    int chosen, n = is_report ? (int)VD_ARRAY_SIZE(names) : is_check ? 3 : 2;

    if (!take_word(arg, names, n, &chosen) || (is_report && chosen == VD_OUTPUT_QEMU_JSON))
        return vd_cli_usage(cli, "--output=%s: %s expected", arg,
                            is_report  ? "human, json, html, prometheus, junit, sarif, nagios or csv"
                            : is_check ? "human, json or qemu-json"
                                       : "human or json");
    cli->output = (enum vd_output)chosen;
    return 0;
}

/* Numbers of an audit, and what a report is about. */
static int take_farm(struct vd_cli *cli, enum option_id id, const char *arg)
{
    struct vd_farm_cli *farm = &cli->farm;
    int64_t n;

    switch ((int)id) {
    case OPTION_SHARD:
        if (!vd_parse_shard(arg, &farm->shard, &farm->shards))
            return vd_cli_usage(cli, "--shard=%s: I/N with I from 1 to N expected", arg);
        return 0;
    case OPTION_TIMEOUT:
        if (!vd_parse_number(arg, 0, 1000000000, &n))
            return vd_cli_usage(cli, "--timeout=%s: a number of seconds expected", arg);
        farm->timeout_s = (unsigned)n;
        return 0;
    case OPTION_MAX_MEMORY:
        if (!vd_text_parse_size(arg, &farm->max_memory) || farm->max_memory < 16 << 20)
            return vd_cli_usage(cli, "--max-memory=%s: a size of 16M or more expected", arg);
        return 0;
    case OPTION_KEEP:
        if (!vd_parse_days(arg, &farm->keep_days))
            return vd_cli_usage(cli, "--keep=%s: a number of days expected, as in 30d", arg);
        return 0;
    case OPTION_SINCE:
        if (!vd_parse_time(arg, &farm->since))
            return vd_cli_usage(cli, "--since=%s: a date expected, as in 2026-11-27 or 2026-11-27T18:30",
                                arg);
        return 0;
    default:
        return take_output(cli, arg);
    }
}

static int take_numbers(struct vd_cli *cli, enum option_id id, const char *arg)
{
    static const char *const conventions[] = {"fsck", "qemu"};
    struct vd_err err = VD_ERR_INIT;
    int64_t n;
    int chosen;

    switch ((int)id) {
    case OPTION_REPAIR:
    case OPTION_AUDIT_REPAIR:
        cli->level = VD_LEVEL_SAFE;
        if (arg && !vd_level_parse(arg, &cli->level))
            return vd_cli_usage(cli, "--repair=%s: leaks, safe or all expected", arg);
        return 0;
    case OPTION_EXIT_CODE:
        if (!take_word(arg, conventions, 2, &chosen))
            return vd_cli_usage(cli, "--exit-code=%s: fsck or qemu expected", arg);
        cli->qemu_exit = chosen;
        return 0;
    case OPTION_JOBS:
        if (!vd_text_parse_size(arg, &n) || n < 1 || n > 1024)
            return vd_cli_usage(cli, "--jobs=%s: a number from 1 to 1024 expected", arg);
        cli->jobs = (unsigned)n;
        return 0;
    case OPTION_THROTTLE:
        return vd_throttle_parse(arg, &cli->throttle, &err) < 0 ? vd_cli_fail(&err) : 0;
    case OPTION_FAULT:
        cli->has_fault = true;
        return vd_fault_parse(arg, &cli->fault, &err) < 0 ? vd_cli_fail(&err) : 0;
    default:
        return take_farm(cli, id, arg);
    }
}

/* Options that are no more than a value in its place. */
static bool take_plain(struct vd_cli *cli, enum option_id id, const char *arg)
{
    const struct {
        enum option_id id;
        bool *flag;
        const char **text;
    } places[] = {
        {OPTION_IF_DIRTY,        &cli->if_dirty,             NULL                 },
        {OPTION_DRY_RUN,         &cli->dry_run,              NULL                 },
        {OPTION_BACKING_CHAIN,   &cli->backing_chain,        NULL                 },
        {OPTION_DEEP,            &cli->deep,                 NULL                 },
        {OPTION_FORCE_SHARE,     &cli->force_share,          NULL                 },
        {OPTION_NO_UNDO_FILE,    &cli->no_undo_file,         NULL                 },
        {OPTION_OWNERS,          &cli->owners,               NULL                 },
        {OPTION_READ_ONLY,       &cli->read_only,            NULL                 },
        {OPTION_QUIET,           &cli->quiet,                NULL                 },
        {OPTION_VERBOSE,         &cli->verbose,              NULL                 },
        {OPTION_FORMAT,          NULL,                       &cli->format         },
        {OPTION_NEW_FORMAT,      NULL,                       &cli->format         },
        {OPTION_MAP,             NULL,                       &cli->map            },
        {OPTION_UNDO_FILE,       NULL,                       &cli->undo_file      },
        {OPTION_UNDO_FROM,       NULL,                       &cli->undo_file      },
        {OPTION_OUTPUT_FORMAT,   NULL,                       &cli->output_format  },
        {OPTION_SNAPSHOT,        NULL,                       &cli->snapshot       },
        {OPTION_BACKING,         NULL,                       &cli->backing        },
        {OPTION_BACKING_FORMAT,  NULL,                       &cli->backing_format },
        {OPTION_OPTIONS,         NULL,                       &cli->options        },
        {OPTION_FULL,            &cli->farm.is_full,         NULL                 },
        {OPTION_RESUME,          &cli->farm.resumes,         NULL                 },
        {OPTION_RAW,             &cli->farm.raw,             NULL                 },
        {OPTION_ONE_FILE_SYSTEM, &cli->farm.one_file_system, NULL                 },
        {OPTION_NULL_SEPARATED,  &cli->farm.null_separated,  NULL                 },
        {OPTION_NO_SANDBOX,      &cli->farm.no_sandbox,      NULL                 },
        {OPTION_EXIT_ZERO,       &cli->farm.exit_zero,       NULL                 },
        {OPTION_DB,              NULL,                       &cli->farm.db        },
        {OPTION_FILES_FROM,      NULL,                       &cli->farm.files_from},
        {OPTION_UNDO_DIR,        NULL,                       &cli->farm.undo_dir  },
        {OPTION_HOST_NAME,       NULL,                       &cli->farm.host      },
    };

    for (size_t i = 0; i < VD_ARRAY_SIZE(places); i++) {
        if (places[i].id != id)
            continue;
        if (places[i].flag)
            *places[i].flag = true;
        else
            *places[i].text = arg;
        return true;
    }
    return false;
}

/* Options that may be given again; NULL for another one. */
static struct vd_word_vec *list_of(struct vd_cli *cli, enum option_id id)
{
    switch ((int)id) {
    case OPTION_ALLOW:
        return &cli->allow;
    case OPTION_COMMAND:
        return &cli->io_commands;
    case OPTION_INCLUDE:
        return &cli->farm.include;
    case OPTION_EXCLUDE:
        return &cli->farm.exclude;
    case OPTION_HOST:
        return &cli->farm.hosts;
    case OPTION_STATUS:
        return &cli->farm.statuses;
    case OPTION_PATH:
        return &cli->farm.paths;
    default:
        return NULL;
    }
}

enum { DONE = -1 }; /* --help or --version was answered */

static int take_option(struct vd_cli *cli, enum option_id id, const char *arg)
{
    struct vd_word_vec *list = list_of(cli, id);
    struct vd_err err = VD_ERR_INIT;

    if (take_plain(cli, id, arg) || (list && vd_word_vec_push(list, arg) == 0))
        return 0;
    if (list) {
        vd_fail_memory(&err);
        return vd_cli_fail(&err);
    }
    switch ((int)id) {
    case OPTION_PROGRESS:
        cli->progress = 1;
        return 0;
    case OPTION_NO_PROGRESS:
        cli->progress = -1;
        return 0;
    case OPTION_HELP:
        print_help(cli);
        return DONE;
    case OPTION_VERSION:
        print_version();
        return DONE;
    default:
        return take_numbers(cli, id, arg);
    }
}

static const struct option_row *row_of(const struct vd_cli *cli, int code)
{
    for (size_t i = 0; i < VD_ARRAY_SIZE(rows); i++)
        if ((rows[i].commands & (1u << cli->command)) &&
            ((int)rows[i].id == code || (rows[i].letter && rows[i].letter == code)))
            return &rows[i];
    return NULL;
}

/* getopt's tables for one command. */
static void make_tables(const struct vd_cli *cli, struct option *longs, char *shorts)
{
    *shorts++ = ':';
    for (size_t i = 0; i < VD_ARRAY_SIZE(rows); i++) {
        if (!(rows[i].commands & (1u << cli->command)))
            continue;
        if (rows[i].name)
            *longs++ = (struct option){rows[i].name, rows[i].argument, NULL, (int)rows[i].id};
        if (!rows[i].letter)
            continue;
        *shorts++ = rows[i].letter;
        /* A short option takes no optional argument: `-r image` is a repair of that image. */
        if (rows[i].argument == required_argument)
            *shorts++ = ':';
    }
    *shorts = '\0';
    *longs = (struct option){0};
}

static int parse(struct vd_cli *cli, int argc, char **argv)
{
    struct option longs[VD_ARRAY_SIZE(rows) + 1];
    char shorts[2 * VD_ARRAY_SIZE(rows) + 2];
    int code;

    make_tables(cli, longs, shorts);
    opterr = 0;
    while ((code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        const struct option_row *row = row_of(cli, code);
        int rc;

        if (code == ':')
            return vd_cli_usage(cli, "%s needs a value", argv[optind - 1]);
        if (!row)
            return vd_cli_usage(cli, "%s: unknown option", argv[optind - 1]);
        rc = take_option(cli, row->id, optarg);
        if (rc)
            return rc;
    }
    cli->words = argv + optind;
    cli->words_n = argc - optind;
    return 0;
}

static int run(struct vd_cli *cli)
{
    static int (*const functions[])(struct vd_cli *) = {[VD_CMD_CHECK] = vd_cmd_check,
                                                        [VD_CMD_UNDO] = vd_cmd_undo,
                                                        [VD_CMD_MAP] = vd_cmd_map,
                                                        [VD_CMD_INFO] = vd_cmd_info,
                                                        [VD_CMD_SALVAGE] = vd_cmd_salvage,
                                                        [VD_CMD_AUDIT] = vd_cmd_audit,
                                                        [VD_CMD_REPORT] = vd_cmd_report,
                                                        [VD_CMD_EXPLAIN] = vd_cmd_explain,
                                                        [VD_CMD_FORMATS] = vd_cmd_formats,
                                                        [VD_CMD_CREATE] = vd_cmd_create,
                                                        [VD_CMD_IO] = vd_cmd_io};

    return functions[cli->command](cli);
}

/* Output that did not arrive is an error, whatever the verdict was. */
static int close_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "vdcheck: cannot write the output: %s\n", strerror(errno));
    return status | VD_EXIT_ERROR;
}

int main(int argc, char **argv)
{
    struct vd_cli cli = {
        .jobs = 1,
        .farm = {.timeout_s = 3600, .max_memory = (int64_t)1 << 30},
    };
    int status;

    vd_cancel_install();
    for (int i = 1; argc > 1 && i < VD_COMMANDS_END; i++)
        if (strcmp(argv[1], commands[i].word) == 0)
            cli.command = (enum vd_command_id)i;
    if (cli.command != VD_CMD_CHECK) {
        argc--;
        argv++;
    }
    status = parse(&cli, argc, argv);
    if (status == 0)
        status = run(&cli);
    for (int id = OPTION_BASE; id < OPTION_END; id++)
        if (list_of(&cli, (enum option_id)id))
            vd_word_vec_done(list_of(&cli, (enum option_id)id));
    return close_output(status == DONE ? 0 : status);
}
