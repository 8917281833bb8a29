/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=sarif: SARIF 2.1.0, a result for each finding of each image. The fingerprint holds what names the
 * finding and not how often it is there, so that a reader can tell what is new since last night.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "formats/registry.h"
#include "report/render.h"
#include "report/report.h"

static const char *level_of(const char *severity)
{
    static const char *const levels[] = {[VD_CORRUPTION] = "error",
                                         [VD_LEAK] = "warning",
                                         [VD_STATE] = "warning",
                                         [VD_WARNING] = "note",
                                         [VD_ERROR] = "error"};

    for (int i = VD_CORRUPTION; i <= VD_ERROR; i++)
        if (strcmp(vd_severity_name((enum vd_severity)i), severity) == 0)
            return levels[i];
    return "none";
}

/* A path as a URI: what is not plain there is percent-encoded, byte by byte. */
static json_t *uri_json(const char *path)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    size_t room = 3 * strlen(path) + 8, at;
    vd_auto_mem char *uri = malloc(room);

    if (!uri)
        return json_null();
    at = (size_t)snprintf(uri, room, "file://");
    for (; *path; path++)
        at += (size_t)snprintf(uri + at, room - at, strchr(plain, *path) ? "%c" : "%%%02X",
                               (unsigned char)*path);
    return json_string(uri);
}

static json_t *text_json(const char *text)
{
    json_t *o = json_object();

    json_object_set_new(o, "text", json_string(text));
    return o;
}

static json_t *location_json(const struct vd_farm_image *image, const struct vd_farm_finding *finding)
{
    json_t *o = json_object(), *physical = json_object(), *artifact = json_object();
    json_t *places = json_loads(finding->places, 0, NULL);
    json_t *offset = json_object_get(json_array_get(places, 0), "host_offset");
    json_t *bytes = json_object_get(json_array_get(places, 0), "host_bytes");

    json_object_set_new(artifact, "uri", uri_json(image->path));
    json_object_set_new(physical, "artifactLocation", artifact);
    if (json_is_integer(offset) && json_integer_value(offset) >= 0) {
        json_t *region = json_object();

        json_object_set(region, "byteOffset", offset);
        if (json_is_integer(bytes) && json_integer_value(bytes) >= 0)
            json_object_set(region, "byteLength", bytes);
        json_object_set_new(physical, "region", region);
    }
    json_object_set_new(o, "physicalLocation", physical);
    json_decref(places);
    return o;
}

static json_t *fingerprint_json(const struct vd_farm_image *image, const struct vd_farm_finding *finding)
{
    const char *const parts[] = {image->host, image->path, finding->id, finding->severity};
    json_t *o = json_object();
    XXH64_hash_t hash = 0;
    char text[32];

    for (size_t i = 0; i < VD_ARRAY_SIZE(parts); i++)
        hash = XXH3_64bits_withSeed(parts[i], strlen(parts[i]) + 1, hash);
    snprintf(text, sizeof(text), "%016" PRIx64, hash);
    json_object_set_new(o, "vdcheckFinding/v1", json_string(text));
    return o;
}

static json_t *result_json(const struct vd_farm_image *image, const struct vd_farm_finding *finding)
{
    const struct vd_finding_kind *row = vd_finding_by_id(finding->id);
    json_t *o = json_object(), *locations = json_array();
    bool was_plain;

    json_object_set_new(o, "ruleId", vd_json_text(finding->id, strlen(finding->id), &was_plain));
    json_object_set_new(o, "level", json_string(level_of(finding->severity)));
    json_object_set_new(o, "message",
                        text_json(row ? row->message : "a finding that this vdcheck does not know"));
    json_array_append_new(locations, location_json(image, finding));
    json_object_set_new(o, "locations", locations);
    json_object_set_new(o, "occurrenceCount", json_integer(finding->count > 0 ? finding->count : 1));
    json_object_set_new(o, "partialFingerprints", fingerprint_json(image, finding));
    json_object_set_new(o, "baselineState",
                        json_string(image->is_new || image->is_changed ? "new" : "unchanged"));
    return o;
}

static bool is_used(const struct vd_farm *farm, const char *id)
{
    for (size_t i = 0; i < farm->images.n; i++)
        for (size_t k = 0; k < farm->images.v[i].newest.findings.n; k++)
            if (strcmp(farm->images.v[i].newest.findings.v[k].id, id) == 0)
                return true;
    return false;
}

static json_t *rules_json(const struct vd_farm *farm)
{
    const struct vd_finding_kind *row;
    json_t *rules = json_array();

    for (size_t i = 0; (row = vd_finding_row(i)); i++) {
        json_t *rule = json_object();

        if (!is_used(farm, row->id)) {
            json_decref(rule);
            continue;
        }
        json_object_set_new(rule, "id", json_string(row->id));
        json_object_set_new(rule, "shortDescription", text_json(row->message));
        json_object_set_new(rule, "fullDescription", text_json(row->explanation));
        json_object_set_new(rule, "help", text_json(row->repair));
        json_array_append_new(rules, rule);
    }
    return rules;
}

static json_t *tool_json(const struct vd_farm *farm)
{
    json_t *tool = json_object(), *driver = json_object();

    json_object_set_new(driver, "name", json_string("vdcheck"));
    json_object_set_new(driver, "version", json_string(PACKAGE_VERSION));
    json_object_set_new(driver, "rules", rules_json(farm));
    json_object_set_new(tool, "driver", driver);
    return tool;
}

int vd_report_sarif(FILE *f, const struct vd_farm *farm, struct vd_err *err)
{
    json_t *root = json_object(), *runs = json_array(), *run = json_object(), *results = json_array();

    (void)err;
    for (size_t i = 0; i < farm->images.n; i++)
        for (size_t k = 0; k < farm->images.v[i].newest.findings.n; k++)
            json_array_append_new(results,
                                  result_json(&farm->images.v[i], &farm->images.v[i].newest.findings.v[k]));
    json_object_set_new(run, "tool", tool_json(farm));
    json_object_set_new(run, "results", results);
    json_array_append_new(runs, run);
    json_object_set_new(root, "$schema", json_string("https://json.schemastore.org/sarif-2.1.0.json"));
    json_object_set_new(root, "version", json_string("2.1.0"));
    json_object_set_new(root, "runs", runs);
    vd_json_print(f, root);
    return 0;
}
