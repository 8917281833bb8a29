/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vdcheck info IMAGE: what the header says, and what it claims of the outside. No scan.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/base/text.h"
#include "formats/info.h"
#include "formats/node/file.h"
#include "report/cli.h"
#include "report/render.h"

/* ---- one image as JSON; the human form is made from it, so that the two cannot differ */

/* Where values go: to the object itself, or to the newest item of a list. */
struct teller {
    json_t *top;
    json_t *at; /* borrowed */
};

static void begin_item(void *opaque, const char *list)
{
    struct teller *t = opaque;
    json_t *items = json_object_get(t->top, list);

    if (!items) {
        items = json_array();
        json_object_set_new(t->top, list, items);
    }
    t->at = json_object();
    json_array_append_new(items, t->at);
}

static void tell_json(void *opaque, const char *name, enum vd_info_type type, uint64_t number,
                      const char *text)
{
    struct teller *t = opaque;
    json_t *value;

    switch (type) {
    case VD_INFO_TEXT:
        vd_json_set_text(t->at, name, text, strlen(text));
        return;
    case VD_INFO_BOOL:
        value = json_boolean(number);
        break;
    default:
        value = vd_json_number(number);
        break;
    }
    json_object_set_new(t->at, name, value);
}

static void set_backing(json_t *o, const struct vd_chain_link *link)
{
    static const char *const ends[] = {[VD_CHAIN_GOES_ON] = "found",
                                       [VD_CHAIN_IS_BASE] = "none",
                                       [VD_CHAIN_MISSING] = "missing",
                                       [VD_CHAIN_REFUSED] = "refused",
                                       [VD_CHAIN_LOOP] = "loop"};

    if (!link->bs->backing_file)
        return;
    vd_json_set_text(o, "backing-filename", link->bs->backing_file, link->bs->backing_file_len);
    if (link->bs->backing_format)
        json_object_set_new(o, "backing-filename-format", json_string(link->bs->backing_format));
    json_object_set_new(o, "backing-state", json_string(ends[link->end]));
    if (link->why[0])
        vd_json_set_text(o, "backing-problem", link->why, strlen(link->why));
}

static json_t *info_json(const struct vd_chain_link *link, struct vd_err *err)
{
    struct BlockDriverState *bs = link->bs;
    json_t *o = json_object(), *data = json_object(), *specific = json_object();
    struct teller to_data = {data, data}, to_image = {o, o};
    struct vd_info info = {tell_json, begin_item, &to_data}, lists = {tell_json, begin_item, &to_image};
    struct BlockDriverInfo general = {0};
    const char *name = bs->drv->qemu_name ? bs->drv->qemu_name : bs->drv->format_name;

    vd_json_set_text(o, "filename", bs->filename, strlen(bs->filename));
    json_object_set_new(o, "format", json_string(bs->drv->format_name));
    json_object_set_new(o, "virtual-size", vd_json_number((uint64_t)bs->total_bytes));
    if (bdrv_protocol(bs)->drv == &vd_file_driver)
        json_object_set_new(o, "actual-size", vd_json_number(vd_file_allocated(bdrv_protocol(bs))));
    json_object_set_new(o, "file-size", vd_json_number((uint64_t)bdrv_getlength(bs->file, NULL)));
    if (bs->drv->bdrv_get_info && bs->drv->bdrv_get_info(bs, &general, err) == 0) {
        if (general.cluster_size)
            json_object_set_new(o, "cluster-size", vd_json_number((uint64_t)general.cluster_size));
        json_object_set_new(o, "dirty-flag", json_boolean(general.is_dirty));
    }
    set_backing(o, link);
    if (bs->drv->bdrv_snapshot_list)
        (void)bs->drv->bdrv_snapshot_list(bs, &lists, err);
    if (bs->drv->bdrv_get_specific_info && bs->drv->bdrv_get_specific_info(bs, &info, err) == 0) {
        json_object_set_new(specific, "type", json_string(name));
        json_object_set(specific, "data", data);
        json_object_set(o, "format-specific", specific);
    }
    json_decref(data);
    json_decref(specific);
    return o;
}

static void print_value(const char *name, json_t *value, int indent)
{
    char size[VD_TEXT_SIZE_MAX], text[4096];
    const char *key;
    json_t *inner;
    size_t i;

    if (json_is_object(value)) {
        json_object_foreach(value, key, inner) print_value(key, inner, indent);
        return;
    }
    json_array_foreach(value, i, inner)
    {
        printf("%*s%s[%zu]\n", indent, "", name, i);
        print_value("", inner, indent + 2);
    }
    if (json_is_array(value))
        return;
    if (strcmp(name, "type") == 0)
        return;
    printf("%*s%-24s ", indent, "", name);
    if (json_is_integer(value)) {
        uint64_t n = (uint64_t)json_integer_value(value);
        bool is_size = strstr(name, "size") && strcmp(name, "table-size") && strcmp(name, "header-size");

        if (is_size)
            printf("%s (%" PRIu64 " bytes)\n", vd_text_size(size, n), n);
        else if (strstr(name, "offset") || strstr(name, "features"))
            printf("0x%" PRIx64 "\n", n);
        else
            printf("%" PRIu64 "\n", n);
    } else if (json_is_string(value)) {
        printf("%s\n",
               vd_text_escape(text, sizeof(text), json_string_value(value), json_string_length(value)));
    } else {
        printf("%s\n", json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "unknown");
    }
}

int vd_cmd_info(struct vd_cli *cli)
{
    struct vd_open_options opts = vd_cli_open_options(cli, BDRV_O_CHECK);
    struct vd_chain_vec chain = {0};
    struct vd_err err = VD_ERR_INIT;
    json_t *all = json_array();
    int status = 0;

    if (cli->words_n != 1) {
        json_decref(all);
        return vd_cli_usage(cli, "one image expected");
    }
    if (vd_open_chain(cli->words[0], &opts, !cli->backing_chain, VD_BUDGET_DEPTH, &chain, &err) < 0)
        status = vd_cli_fail(&err);
    for (size_t i = 0; i < chain.n; i++)
        json_array_append_new(all, info_json(&chain.v[i], &err));
    for (size_t i = 0; i < chain.n && cli->output == VD_OUTPUT_HUMAN; i++) {
        if (i)
            putchar('\n');
        print_value("", json_array_get(all, i), 0);
    }
    if (cli->output == VD_OUTPUT_JSON && chain.n)
        vd_json_print(stdout, json_incref(cli->backing_chain ? all : json_array_get(all, 0)));
    json_decref(all);
    vd_chain_free(&chain);
    return status;
}
