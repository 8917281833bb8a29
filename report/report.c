/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/report.h"

#include <inttypes.h>
#include <string.h>

#include "formats/base/text.h"

enum vd_status vd_report_status(const struct vd_farm_image *image)
{
    return vd_status_by_name(image->newest.status);
}

bool vd_report_is_raw(const struct vd_farm_image *image)
{
    return vd_report_status(image) == VD_STATUS_UNSUPPORTED && image->newest.format &&
           strcmp(image->newest.format, "raw") == 0;
}

json_t *vd_report_repair(const struct vd_farm_image *image)
{
    json_t *repair = image->newest.repair ? json_loads(image->newest.repair, 0, NULL) : NULL;

    /* One that found nothing to do is none. */
    if (json_is_string(json_object_get(repair, "undo_file")) ||
        json_is_string(json_object_get(repair, "refused")))
        return repair;
    json_decref(repair);
    return NULL;
}

static bool has_left(const struct vd_farm_result *result)
{
    static const enum vd_farm_number counts[] = {VD_FARM_CORRUPTIONS, VD_FARM_LEAKS, VD_FARM_STATES,
                                                 VD_FARM_ERRORS};

    for (size_t i = 0; i < VD_ARRAY_SIZE(counts); i++)
        if (result->numbers[counts[i]] > 0)
            return true;
    return false;
}

/* A repair that was asked for and could not be made is an error beside what is left. */
static bool was_refused(const struct vd_farm_image *image)
{
    json_t *repair = strcmp(image->newest.run, image->last_run) == 0 ? vd_report_repair(image) : NULL;
    bool was = json_is_string(json_object_get(repair, "refused"));

    json_decref(repair);
    return was;
}

int vd_report_bits(const struct vd_farm *farm)
{
    int bits = 0;

    for (size_t i = 0; i < farm->images.n; i++) {
        const struct vd_farm_image *image = &farm->images.v[i];

        bits |= vd_status_kept_bits(vd_report_status(image), has_left(&image->newest));
        bits |= was_refused(image) ? VD_EXIT_ERROR : 0;
    }
    return bits;
}

int vd_report_nagios_state(const struct vd_farm *farm)
{
    struct vd_report_sums sums = vd_report_sum(farm);

    if (sums.by_status[VD_STATUS_DAMAGED])
        return 2;
    if (!sums.images || sums.by_status[VD_STATUS_ERROR] || sums.by_status[VD_STATUS_UNSUPPORTED] > sums.raw ||
        farm->is_torn)
        return 3;
    return sums.by_status[VD_STATUS_LEAKING] || sums.by_status[VD_STATUS_DIRTY] ? 1 : 0;
}

struct vd_report_sums vd_report_sum(const struct vd_farm *farm)
{
    struct vd_report_sums sums = {.images = farm->images.n};

    for (size_t i = 0; i < farm->images.n; i++) {
        const struct vd_farm_image *image = &farm->images.v[i];

        sums.by_status[vd_report_status(image)]++;
        sums.raw += vd_report_is_raw(image);
        sums.fresh += image->is_new;
        sums.changed += image->is_changed;
        if (image->newest.numbers[VD_FARM_LEAKED_BYTES] > 0)
            sums.leaked_bytes += image->newest.numbers[VD_FARM_LEAKED_BYTES];
    }
    return sums;
}

void vd_report_xml(FILE *f, const char *text)
{
    static const struct {
        char c;
        const char *entity;
    } entities[] = {
        {'<',  "&lt;"  },
        {'>',  "&gt;"  },
        {'&',  "&amp;" },
        {'"',  "&quot;"},
        {'\'', "&#39;" }
    };

    for (size_t len = strlen(text), i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = vd_text_utf8_len((const unsigned char *)text + i, len - i), e = 0;
        /* U+FFFE and U+FFFF are no characters of XML. */
        bool is_none =
            n == 3 && c == 0xef && (unsigned char)text[i + 1] == 0xbf && (unsigned char)text[i + 2] >= 0xbe;

        while (e < VD_ARRAY_SIZE(entities) && entities[e].c != (char)c)
            e++;
        if (e < VD_ARRAY_SIZE(entities))
            fputs(entities[e].entity, f);
        else if (!n || is_none || c < 0x20 || c == 0x7f)
            fprintf(f, "\\x%02x", c);
        else
            fwrite(text + i, 1, n, f);
        i += n && !is_none ? n : 1;
    }
}

static bool was_seen(void *opaque, const struct vd_farm_image *image)
{
    return strcmp(image->last_run, opaque) == 0;
}

static void say_effort(const char *db, const struct vd_audit_sums *sums)
{
    char name[4 * 4096 + 1];

    printf("%" PRIu64 " checked, %" PRIu64 " unchanged", sums->checked, sums->unchanged);
    if (sums->repaired)
        printf(", %" PRIu64 " repaired", sums->repaired);
    printf("; %.1f s; kept in %s\n", sums->seconds, vd_text_escape(name, sizeof(name), db, strlen(db)));
}

int vd_report_after_audit(const struct vd_cli *cli, const char *db, const struct vd_audit_sums *sums)
{
    struct vd_farm farm = {0};
    struct vd_err err = VD_ERR_INIT;
    int status;

    if (vd_farm_add(&farm, db, &err) < 0 || vd_farm_settle(&farm, &err) < 0) {
        vd_farm_free(&farm);
        return vd_cli_fail(&err);
    }
    vd_farm_filter(&farm, was_seen, (void *)sums->run);
    status = vd_report_bits(&farm);
    if (!cli->quiet) {
        vd_report_human(stdout, &farm);
        say_effort(db, sums);
    }
    vd_farm_free(&farm);
    return status;
}
