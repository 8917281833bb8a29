/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an audit's repair did to an image, in its part of the page: each finding that is away, the undo file,
 * and what to type to have all of it back. Where nothing could be repaired: why.
 */
#include "report/html-finding.h"
#include "report/html.h"
#include "report/render.h"

enum { FIXED_SHOWN = 40 };

static int64_t number_of(const json_t *repair, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(repair, key));

    return number > 0 ? number : 0;
}

static void say_effort(FILE *f, const json_t *repair)
{
    const char *level = json_string_value(json_object_get(repair, "level"));
    char size[VD_TEXT_SIZE_MAX];

    fputs("<p>Repaired by the audit", f);
    if (level) {
        fputs(" at level ", f);
        vd_html_text(f, level);
    }
    if (number_of(repair, "writes")) {
        fputs(": ", f);
        vd_html_count(f, (uint64_t)number_of(repair, "writes"), "write", "writes");
        fprintf(f, ", %s", vd_text_size(size, (uint64_t)number_of(repair, "bytes_written")));
    }
    fputs(json_is_true(json_object_get(repair, "verified")) ? "; checked before it was written.</p>\n"
                                                            : ".</p>\n",
          f);
}

static void say_fixed(FILE *f, const json_t *fixed)
{
    size_t all = json_array_size(fixed), shown = vd_min(all, FIXED_SHOWN);

    for (size_t i = 0; i < shown; i++)
        vd_html_fixed(f, json_array_get(fixed, i));
    if (shown < all) {
        fputs("<p>... and ", f);
        vd_html_count(f, all - shown, "more kind of finding", "more kinds of findings");
        fputs(".</p>\n", f);
    }
}

/* Names are shown, and a command is for a shell: where a name has bytes that are no text, the two differ. */
static int say_way_back(FILE *f, const json_t *repair, struct vd_err *err)
{
    char command[VD_REPORT_COMMAND_MAX];
    vd_auto_mem char *file = vd_json_bytes(repair, "undo_file");

    if (!file || vd_report_undo(repair, command, err) < 0)
        return vd_fail_memory(err);
    fputs("<p class=\"facts\">Undo file: <code>", f);
    vd_html_text(f, file);
    fputs("</code></p>\n<p class=\"next\"><b>Undo:</b> <code>", f);
    vd_html_own(f, command);
    fputs("</code> <span>puts every byte back, as long as nobody wrote to the image since</span></p>\n", f);
    return 0;
}

static int say_repair(FILE *f, const struct vd_farm_image *image, struct vd_err *err)
{
    json_t *repair;
    int rc = vd_report_repair(image, &repair, err);

    if (rc == 0) {
        say_effort(f, repair);
        say_fixed(f, json_object_get(repair, "fixed"));
        rc = say_way_back(f, repair, err);
    }
    json_decref(repair);
    return rc;
}

/* A refusal after a repair is that of another one: what had been cut off was finished first. */
static void say_refusal(FILE *f, const struct vd_farm_result *r)
{
    fprintf(f, "<p class=\"reason\"><b>%s:</b> ",
            r->has_undo_file ? "What is left was not repaired" : "Not repaired");
    vd_html_text(f, r->reason);
    fputs("</p>\n", f);
}

int vd_html_repair(FILE *f, const struct vd_farm_image *image, struct vd_err *err)
{
    const struct vd_farm_result *r = &image->newest;

    if (!r->repair || (!r->has_undo_file && !r->reason))
        return 0;
    fputs("<section class=\"repair\">", f);
    if (r->has_undo_file && say_repair(f, image, err) < 0)
        return -1;
    if (r->reason && (r->is_refused || !r->has_undo_file))
        say_refusal(f, r);
    fputs("</section>\n", f);
    return 0;
}
