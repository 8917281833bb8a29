/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The parts of the page of --output=html, and how they write what comes from outside.
 *
 * Every text goes through vd_html_text() or vd_html_own(); ids, classes and links are made of our own words
 * and numbers, never of names.
 */
#ifndef VD_HTML_H
#define VD_HTML_H

#include "report/report.h"

struct vd_html {
    const struct vd_farm *farm;
    int64_t now;               /* the newest moment that the databases know: ages count from it */
    bool *has_part;            /* for each image, once vd_html_parts() has been called */
    size_t parts_n, parts_all; /* that are in the page, and that there would be */
};

/* A name or another text from outside; as vd_text_escape() shows it. */
void vd_html_text(FILE *f, const char *text);

/* A text of the program's own, or one that is escaped already. */
void vd_html_own(FILE *f, const char *text);

/* "10,000"; and with the word behind it, "1 image", "2 images". */
void vd_html_number(FILE *f, uint64_t number);
void vd_html_count(FILE *f, uint64_t number, const char *one, const char *many);

enum { VD_HTML_TIME_MAX = 32 };

/* "2026-11-27 03:00", in UTC; "unknown" for what is no time. Return buf. */
const char *vd_html_time(char buf[VD_HTML_TIME_MAX], int64_t seconds);

/* "5 min", "3 h", "12 d". */
const char *vd_html_span(char buf[VD_HTML_TIME_MAX], int64_t seconds);

/* How long something took: "1.5 s", "12 min". */
void vd_html_seconds(FILE *f, double seconds);

/* The hosts of the images, the first few by name. */
void vd_html_hosts(FILE *f, const struct vd_html *page);

/* The parts of the page, from its top to its end. What returns -1 fails for want of memory. */
void vd_html_top(FILE *f, const struct vd_html *page);
void vd_html_news(FILE *f, const struct vd_html *page);
int vd_html_trends(FILE *f, const struct vd_html *page, struct vd_err *err);
void vd_html_table(FILE *f, const struct vd_html *page);

/* A part for each image that is not clean, the worst first, as many as there is room for. */
int vd_html_parts(FILE *f, struct vd_html *page, struct vd_err *err);

/* The image as a strip, with a mark where findings are; number tells its ids from those of others. */
int vd_html_strip(FILE *f, const struct vd_farm_result *r, size_t number, struct vd_err *err);

/* What an audit's repair did to the image, how it is taken back, or why there was none. */
int vd_html_repair(FILE *f, const struct vd_farm_image *image, struct vd_err *err);

#endif
