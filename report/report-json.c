/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=json: the object that a check prints, over all images, each as its newest result has it, with its
 * host, run and time.
 */
#include <string.h>

#include "formats/registry.h"
#include "report/render.h"
#include "report/report.h"

static json_t *known(int64_t number)
{
    return number < 0 ? json_null() : json_integer(number);
}

static json_t *text_or_null(const char *text)
{
    bool was_plain;

    return text ? vd_json_text(text, strlen(text), &was_plain) : json_null();
}

static json_t *finding_json(const struct vd_farm_finding *finding)
{
    const struct vd_finding_kind *row = vd_finding_by_id(finding->id);
    json_t *o = json_object(), *places = json_loads(finding->places, 0, NULL);

    vd_json_set_text(o, "id", finding->id, strlen(finding->id));
    json_object_set_new(o, "severity", text_or_null(finding->severity));
    json_object_set_new(o, "count", known(finding->count));
    json_object_set_new(o, "places", json_is_array(places) ? json_incref(places) : json_array());
    json_object_set_new(o, "message", text_or_null(row ? row->message : NULL));
    if (finding->note)
        json_object_set_new(o, "note", text_or_null(finding->note));
    json_object_set_new(o, "repair", text_or_null(row ? row->repair : NULL));
    json_object_set_new(o, "level", text_or_null(finding->level));
    json_object_set_new(o, "fixed", json_integer(0));
    json_decref(places);
    return o;
}

/* Keys with the numbers that stand for them. */
struct key {
    const char *name;
    int number; /* enum vd_farm_number; -1: nothing was written, so 0 */
};

static json_t *numbers_json(const struct vd_farm_result *r, const struct key *keys, size_t n)
{
    json_t *o = json_object();

    for (size_t i = 0; i < n; i++)
        json_object_set_new(o, keys[i].name,
                            keys[i].number < 0 ? json_integer(0) : known(r->numbers[keys[i].number]));
    return o;
}

static const struct key count_keys[] = {
    {"corruptions",       VD_FARM_CORRUPTIONS},
    {"leaks",             VD_FARM_LEAKS      },
    {"states",            VD_FARM_STATES     },
    {"warnings",          VD_FARM_WARNINGS   },
    {"errors",            VD_FARM_ERRORS     },
    {"corruptions_fixed", -1                 },
    {"leaks_fixed",       -1                 },
    {"states_fixed",      -1                 },
};

static const struct key cluster_keys[] = {
    {"total",      VD_FARM_TOTAL     },
    {"allocated",  VD_FARM_ALLOCATED },
    {"fragmented", VD_FARM_FRAGMENTED},
    {"compressed", VD_FARM_COMPRESSED},
    {"zero",       VD_FARM_ZERO      },
};

static const struct key io_keys[] = {
    {"reads",         VD_FARM_READS     },
    {"bytes_read",    VD_FARM_BYTES_READ},
    {"writes",        -1                },
    {"bytes_written", -1                }
};

static json_t *backing_json(const struct vd_farm_image *image)
{
    json_t *o = json_object();

    vd_json_set_text(o, "name", image->backing_name, strlen(image->backing_name));
    json_object_set_new(o, "state", text_or_null(image->backing_state));
    if (image->backing_path)
        vd_json_set_text(o, "path", image->backing_path, strlen(image->backing_path));
    else
        json_object_set_new(o, "path", json_null());
    return o;
}

/* A finding that the repair did away with, as a check says it. */
static json_t *fixed_json(json_t *fixed)
{
    static const char *const keys[] = {"id",   "severity", "count", "places", "message",
                                       "note", "repair",   "level", "fixed"};
    const char *id = json_string_value(json_object_get(fixed, "id"));
    const struct vd_finding_kind *row = id ? vd_finding_by_id(id) : NULL;
    json_t *o = json_object();

    for (size_t i = 0; i < VD_ARRAY_SIZE(keys); i++)
        if (json_object_get(fixed, keys[i]))
            json_object_set(o, keys[i], json_object_get(fixed, keys[i]));
    json_object_set_new(o, "message", text_or_null(row ? row->message : NULL));
    json_object_set_new(o, "repair", text_or_null(row ? row->repair : NULL));
    json_object_set(o, "fixed", json_object_get(fixed, "count"));
    return o;
}

/* What was found before the repair counts as found, and as fixed. */
static void add_to_counts(json_t *counts, json_t *fixed)
{
    static const char *const keys[][3] = {
        {"corruption", "corruptions", "corruptions_fixed"},
        {"leak",       "leaks",       "leaks_fixed"      },
        {"state",      "states",      "states_fixed"     }
    };
    const char *severity = json_string_value(json_object_get(fixed, "severity"));
    json_int_t count = json_integer_value(json_object_get(fixed, "count"));

    for (size_t i = 0; severity && i < VD_ARRAY_SIZE(keys); i++)
        for (size_t k = 1; strcmp(severity, keys[i][0]) == 0 && k < 3; k++)
            json_object_set_new(
                counts, keys[i][k],
                json_integer(json_integer_value(json_object_get(counts, keys[i][k])) + count));
}

static int set_repair(json_t *o, const struct vd_farm_image *image, struct vd_err *err)
{
    json_t *repair, *fixed, *finding;

    if (vd_report_repair(image, &repair, err) < 0)
        return -1;
    fixed = json_object_get(repair, "fixed");
    for (size_t i = 0; (finding = json_array_get(fixed, i)); i++) {
        json_array_append_new(json_object_get(o, "findings"), fixed_json(finding));
        add_to_counts(json_object_get(o, "counts"), finding);
    }
    json_object_del(repair, "fixed");
    json_object_set_new(o, "repair", repair ? repair : json_null());
    return 0;
}

/* NULL: out of memory. */
static json_t *image_json(const struct vd_farm_image *image, struct vd_err *err)
{
    const struct vd_farm_result *r = &image->newest;
    json_t *o = json_object(), *findings = json_array();

    vd_json_set_text(o, "host", image->host, strlen(image->host));
    vd_json_set_text(o, "path", image->path, strlen(image->path));
    json_object_set_new(o, "run", text_or_null(r->run));
    json_object_set_new(o, "checked_at", known(r->checked_at));
    json_object_set_new(o, "format", text_or_null(r->format));
    json_object_set_new(o, "virtual_size", known(r->numbers[VD_FARM_VIRTUAL_SIZE]));
    json_object_set_new(o, "file_size", known(r->numbers[VD_FARM_FILE_SIZE]));
    json_object_set_new(o, "cluster_size", known(r->numbers[VD_FARM_CLUSTER_SIZE]));
    json_object_set_new(o, "status", json_string(vd_status_name(vd_report_status(image))));
    json_object_set_new(o, "counts", numbers_json(r, count_keys, VD_ARRAY_SIZE(count_keys)));
    json_object_set_new(o, "leaked_bytes", known(r->numbers[VD_FARM_LEAKED_BYTES]));
    json_object_set_new(o, "clusters",
                        r->numbers[VD_FARM_TOTAL] < 0
                            ? json_null()
                            : numbers_json(r, cluster_keys, VD_ARRAY_SIZE(cluster_keys)));
    json_object_set_new(o, "image_end_offset", known(r->numbers[VD_FARM_IMAGE_END]));
    for (size_t i = 0; i < r->findings.n; i++)
        json_array_append_new(findings, finding_json(&r->findings.v[i]));
    json_object_set_new(o, "findings", findings);
    if (set_repair(o, image, err) < 0) {
        json_decref(o);
        return NULL;
    }
    json_object_set_new(o, "io", numbers_json(r, io_keys, VD_ARRAY_SIZE(io_keys)));
    json_object_set_new(o, "seconds", json_real(r->seconds));
    if (image->backing_name)
        json_object_set_new(o, "backing", backing_json(image));
    if (r->reason)
        vd_json_set_text(o, "error", r->reason, strlen(r->reason));
    return o;
}

int vd_report_json(FILE *f, const struct vd_farm *farm, struct vd_err *err)
{
    json_t *root = vd_json_root(), *images = json_object_get(root, "images"), *notes = json_array();

    for (size_t i = 0; i < farm->images.n; i++)
        if (json_array_append_new(images, image_json(&farm->images.v[i], err)) < 0) {
            json_decref(notes);
            json_decref(root);
            return vd_fail_memory(err);
        }
    for (size_t i = 0; i < farm->notes.n; i++) {
        bool was_plain;

        json_array_append_new(notes, vd_json_text(farm->notes.v[i], strlen(farm->notes.v[i]), &was_plain));
    }
    json_object_set_new(root, "notes", notes);
    vd_json_print(f, root);
    return 0;
}
