/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command line: options as values, commands as functions.
 */
#ifndef VD_CLI_H
#define VD_CLI_H

#include "formats/base/vec.h"
#include "formats/open.h"
#include "repair/repair.h"
#include "checker/progress.h"

#define CMD(symbol, ...) VD_CMD_##symbol,
enum vd_command_id {
#include "report/commands.def"
    VD_COMMANDS_END
};
#undef CMD

VD_VEC(vd_word_vec, const char *)

enum vd_output {
    VD_OUTPUT_HUMAN,
    VD_OUTPUT_JSON,
    VD_OUTPUT_QEMU_JSON,
    VD_OUTPUT_PROMETHEUS,
    VD_OUTPUT_JUNIT,
    VD_OUTPUT_SARIF,
    VD_OUTPUT_NAGIOS,
    VD_OUTPUT_CSV,
    VD_OUTPUT_HTML,
};

/* What is said to `audit` and `report` alone. */
struct vd_farm_cli {
    const char *db, *files_from, *undo_dir, *host;
    const char *undo_folder; /* an absolute path; NULL: there is none */
    bool is_full, resumes, raw, one_file_system, null_separated, no_sandbox, exit_zero;
    unsigned shard, shards; /* shards 0: not said */
    unsigned timeout_s, keep_days;
    int64_t max_memory; /* bytes */
    int64_t since;      /* seconds since 1970; 0: ever */
    struct vd_word_vec include, exclude, hosts, statuses, paths;
};

/* What the user said. All strings are borrowed from argv. */
struct vd_cli {
    enum vd_command_id command;
    enum vd_level level; /* 0: no --repair */
    bool if_dirty, dry_run, backing_chain, deep, force_share, no_undo_file, owners, read_only, quiet, verbose;
    bool qemu_exit;
    int progress; /* 1: on, -1: off, 0: where standard error is a terminal */
    const char *format, *map, *undo_file, *output_format, *snapshot, *backing, *backing_format, *options;
    unsigned jobs;
    enum vd_output output;
    struct vd_throttle_limits throttle;
    struct vd_fault_rule fault;
    bool has_fault;
    struct vd_word_vec allow, io_commands;
    struct vd_farm_cli farm;
    char **words; /* what is left: images, an id, ... */
    int words_n;
};

/* The commands; each returns the exit status. */
int vd_cmd_check(struct vd_cli *cli);
int vd_cmd_undo(struct vd_cli *cli);
int vd_cmd_map(struct vd_cli *cli);
int vd_cmd_info(struct vd_cli *cli);
int vd_cmd_salvage(struct vd_cli *cli);
int vd_cmd_audit(struct vd_cli *cli);
int vd_cmd_report(struct vd_cli *cli);
int vd_cmd_explain(struct vd_cli *cli);
int vd_cmd_formats(struct vd_cli *cli);
int vd_cmd_create(struct vd_cli *cli);
int vd_cmd_io(struct vd_cli *cli);

/* The options that concern opening; flags are BDRV_O_. Borrows from cli. */
struct vd_open_options vd_cli_open_options(const struct vd_cli *cli, int flags);

/* A budget that ends on signals and shows progress on *progress. */
struct vd_budget vd_cli_budget(const struct vd_cli *cli, struct vd_progress *progress);

/* Prints "vdcheck: story" on standard error and returns the exit bit of the error's kind. */
int vd_cli_fail(const struct vd_err *err);

/* Prints a usage error and returns its exit status. */
int vd_cli_usage(const struct vd_cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A usage error where the name of the undo file is none that can be used; else 0. */
int vd_cli_refuse_undo_file(const struct vd_cli *cli);

const char *vd_command_word(enum vd_command_id command);

#endif
