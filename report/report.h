/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reports over the images of a farm, and what their renderers share.
 */
#ifndef VD_REPORT_H
#define VD_REPORT_H

#include <stdio.h>
#include <jansson.h>

#include "checker/audit.h"
#include "checker/farm.h"
#include "formats/base/text.h"
#include "report/cli.h"
#include "report/status.h"

/* The renderers: each prints all of the farm's images, which are in the order of host and path. They fail for
 * want of memory only; a stream that cannot be written is for its owner to notice. */
typedef int vd_report_fn(FILE *f, const struct vd_farm *farm, struct vd_err *err);
vd_report_fn vd_report_human, vd_report_json, vd_report_prometheus, vd_report_junit, vd_report_sarif,
    vd_report_nagios, vd_report_csv, vd_report_html;

/* Prints what the audit that has just ended found, and answers its exit status. */
int vd_report_after_audit(const struct vd_cli *cli, const char *db, const struct vd_audit_sums *sums);

enum vd_status vd_report_status(const struct vd_farm_image *image);

/* A raw image, which was asked for and has nothing that could be checked: no news to anybody. */
bool vd_report_is_raw(const struct vd_farm_image *image);

/* What a repair of the last run came to: it wrote to the image; it was tried, and could not be made. */
bool vd_report_was_repaired(const struct vd_farm_image *image);
bool vd_report_was_not_repaired(const struct vd_farm_image *image);

/* Is it for somebody to look at? Not what is clean, busy, or raw. */
bool vd_report_needs_attention(const struct vd_farm_image *image);

/* By how much does a status ask for it? The worse, the higher, and no two are equal. */
enum { VD_REPORT_WORST = 7 };
int vd_report_weight(enum vd_status status);

/* Worth a line of its own above the others. */
bool vd_report_is_news(const struct vd_farm_image *image);

/* Was everything looked at? And are the images of more than one host? */
bool vd_report_is_whole(const struct vd_farm *farm);
bool vd_report_has_several_hosts(const struct vd_farm *farm);

/* What to type next for an image, as its host's shell takes it; "" where there is nothing to do. */
enum { VD_REPORT_COMMAND_MAX = VD_TEXT_SHELL_MAX + 64 };
struct vd_report_next {
    bool is_repair;
    char command[VD_REPORT_COMMAND_MAX];
    const char *why; /* what the command does, or why there is none; for people */
};
void vd_report_next(const struct vd_farm_image *image, struct vd_report_next *next);

/* The exit status by the images; and in the convention of Nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. */
int vd_report_bits(const struct vd_farm *farm);
int vd_report_nagios_state(const struct vd_farm *farm);

/* How many images have each status, and what leaks of them. */
struct vd_report_sums {
    uint64_t images, by_status[VD_STATUS_BUSY + 1], raw, fresh, changed;
    int64_t leaked_bytes;
};
struct vd_report_sums vd_report_sum(const struct vd_farm *farm);

/* What an audit's repair did, NULL where there was none or it had nothing to do: "undo_file", "level", ... as
 * --output=json has it, and "fixed", findings with their counts. To be dropped by the caller. */
int vd_report_repair(const struct vd_farm_image *image, json_t **repair, struct vd_err *err);

/* What to type, as the image's host's shell takes it, to take a repair back that wrote to it. Returns buf. */
int vd_report_undo(const json_t *repair, char buf[VD_REPORT_COMMAND_MAX], struct vd_err *err);

/* Calls say with the text in pieces, as vd_text_escape() shows it; needs no memory. */
void vd_report_escape(FILE *f, const char *text, void (*say)(FILE *f, const char *piece));

/* Prints text from outside as the content or an attribute of XML: nothing in it is markup, and what XML
 * cannot hold stands as \xNN. */
void vd_report_xml(FILE *f, const char *text);
void vd_report_xml_part(FILE *f, const char *text, size_t len);

#endif
