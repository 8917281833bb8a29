/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --output=csv: a line for each image, as RFC 4180 has it. A field that a spreadsheet would take for a
 * formula is kept from being one.
 */
#include <inttypes.h>
#include <string.h>

#include "formats/base/text.h"
#include "report/report.h"

static void say_quoted(FILE *f, const char *piece)
{
    for (; *piece; piece++) {
        if (*piece == '"')
            fputc('"', f);
        fputc(*piece, f);
    }
}

/* Names from outside, with control bytes and what is not UTF-8 escaped as everywhere. */
static void say_text(FILE *f, const char *text)
{
    fputc('"', f);
    if (text && text[0] && strchr("=+-@", text[0]))
        fputc('\'', f);
    vd_report_escape(f, text ? text : "", say_quoted);
    fputc('"', f);
}

static void say_number(FILE *f, int64_t number)
{
    if (number >= 0)
        fprintf(f, ",%" PRId64, number);
    else
        fputc(',', f);
}

int vd_report_csv(FILE *f, const struct vd_farm *farm, struct vd_err *err)
{
    static const enum vd_farm_number numbers[] = {
        VD_FARM_VIRTUAL_SIZE, VD_FARM_FILE_SIZE, VD_FARM_CORRUPTIONS, VD_FARM_LEAKS,
        VD_FARM_STATES,       VD_FARM_WARNINGS,  VD_FARM_ERRORS,      VD_FARM_LEAKED_BYTES};

    (void)err;
    fputs("host,path,status,was,new,format,run,checked_at,virtual_size,file_size,corruptions,leaks,states,"
          "warnings,"
          "errors,leaked_bytes,reason\r\n",
          f);
    for (size_t i = 0; i < farm->images.n; i++) {
        const struct vd_farm_image *image = &farm->images.v[i];

        say_text(f, image->host);
        fputc(',', f);
        say_text(f, image->path);
        fprintf(f, ",%s,%s,%d,", vd_status_name(vd_report_status(image)),
                image->before.status ? vd_status_name(vd_status_by_name(image->before.status)) : "",
                image->is_new || image->is_changed);
        say_text(f, image->newest.format);
        fputc(',', f);
        say_text(f, image->newest.run);
        say_number(f, image->newest.checked_at);
        for (size_t k = 0; k < VD_ARRAY_SIZE(numbers); k++)
            say_number(f, image->newest.numbers[numbers[k]]);
        fputc(',', f);
        say_text(f, image->newest.reason);
        fputs("\r\n", f);
    }
    return 0;
}
