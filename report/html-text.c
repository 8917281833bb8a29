/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report/html.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

void vd_html_own(FILE *f, const char *text)
{
    vd_report_xml(f, text);
}

void vd_html_text(FILE *f, const char *text)
{
    vd_report_escape(f, text, vd_report_xml);
}

void vd_html_number(FILE *f, uint64_t number)
{
    char digits[32];
    size_t n = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, number);

    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s%c", i && (n - i) % 3 == 0 ? "," : "", digits[i]);
}

void vd_html_count(FILE *f, uint64_t number, const char *one, const char *many)
{
    vd_html_number(f, number);
    fprintf(f, " %s", number == 1 ? one : many);
}

const char *vd_html_time(char buf[VD_HTML_TIME_MAX], int64_t seconds)
{
    time_t at = (time_t)seconds;
    struct tm tm;

    /* Years of more than four digits are nobody's audit. */
    if (seconds < 0 || seconds > INT64_C(253402300799) || !gmtime_r(&at, &tm) ||
        !strftime(buf, VD_HTML_TIME_MAX, "%Y-%m-%d %H:%M", &tm))
        snprintf(buf, VD_HTML_TIME_MAX, "unknown");
    return buf;
}

const char *vd_html_span(char buf[VD_HTML_TIME_MAX], int64_t seconds)
{
    static const struct {
        int64_t below, unit;
        const char *name;
    } steps[] = {
        {2 * 3600,  60,    "min"},
        {2 * 86400, 3600,  "h"  },
        {INT64_MAX, 86400, "d"  }
    };
    size_t i = 0;

    while (seconds >= steps[i].below && i < VD_ARRAY_SIZE(steps) - 1)
        i++;
    snprintf(buf, VD_HTML_TIME_MAX, "%" PRId64 " %s", seconds < 0 ? 0 : seconds / steps[i].unit,
             steps[i].name);
    return buf;
}

void vd_html_seconds(FILE *f, double seconds)
{
    char span[VD_HTML_TIME_MAX];

    if (seconds < 120)
        fprintf(f, "%.1f s", seconds);
    else
        fputs(vd_html_span(span, seconds < 1e15 ? (int64_t)seconds : INT64_C(1000000000000000)), f);
}
