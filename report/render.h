/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One checked image, rendered.
 */
#ifndef VD_RENDER_H
#define VD_RENDER_H

#include <stdio.h>
#include <jansson.h>

#include "report/status.h"

struct vd_image_report {
    const char *path;
    const struct vd_outcome *out;         /* NULL: it could not be opened */
    const struct vd_err *err;             /* kind NONE: all went well */
    const struct vd_recovered *recovered; /* NULL: nothing was */
    enum vd_status status;
    enum vd_level level; /* that was asked for; 0: none */
    bool dry_run;
    bool is_verified;
    bool verbose;
    double seconds;
    /* For commands that are printed to be pasted: what the user said of the image itself ("-f qed "), and of
     * the files around it ("-c --allow=DIR "), each with a space behind it; and the image that was named, of
     * a chain. NULL: nothing. */
    const char *format_option, *chain_options, *named;
};

struct vd_renderer {
    void (*begin)(FILE *f, void **state);
    void (*image)(FILE *f, void *state, const struct vd_image_report *report);
    void (*end)(FILE *f, void *state);
};

extern const struct vd_renderer vd_render_human;
extern const struct vd_renderer vd_render_json;
extern const struct vd_renderer vd_render_qemu_json;

/* The object that --output=json has for an image; and the one around all, with no image in it yet. */
json_t *vd_json_image(const struct vd_image_report *report);
json_t *vd_json_root(void);

/* A name from outside as JSON: what is not UTF-8 stands as U+FFFD. *was_plain tells whether nothing was
 * replaced. */
json_t *vd_json_text(const char *text, size_t len, bool *was_plain);

/* Sets object[key] to the text, and object[key + "_base64"] to its bytes where it is not UTF-8. */
void vd_json_set_text(json_t *object, const char *key, const char *text, size_t len);

/* The bytes that vd_json_set_text() was given, as a text of the caller's; NULL: there are none, or no memory.
 */
char *vd_json_bytes(const json_t *object, const char *key);

/* A number that may be VD_NOWHERE, which is null. */
json_t *vd_json_number(uint64_t number);

/* Prints a JSON value, pretty, with a newline; takes the reference. */
void vd_json_print(FILE *f, json_t *value);

#endif
