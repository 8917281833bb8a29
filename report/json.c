/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all JSON outputs share: names from outside, numbers that are not known.
 */
#include <stdlib.h>
#include <string.h>

#include "formats/base/text.h"
#include "report/render.h"

json_t *vd_json_text(const char *text, size_t len, bool *was_plain)
{
    char *clean = malloc(3 * len + 1);
    size_t at = 0;
    json_t *value;

    *was_plain = true;
    if (!clean)
        return json_null();
    for (size_t i = 0; i < len;) {
        size_t n = vd_text_utf8_len((const unsigned char *)text + i, len - i);

        memcpy(clean + at, n ? text + i : "\xef\xbf\xbd", n ? n : 3);
        *was_plain &= n != 0;
        at += n ? n : 3;
        i += n ? n : 1;
    }
    value = json_stringn(clean, at);
    free(clean);
    return value;
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *base64(const char *text, size_t len)
{
    char *out = malloc(4 * ((len + 2) / 3) + 1);
    size_t at = 0;

    for (size_t i = 0; out && i < len; i += 3) {
        uint32_t v = 0;

        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (i + k < len ? (unsigned char)text[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            out[at++] = i + k <= len ? digits[v >> (18 - 6 * k) & 63] : '=';
    }
    if (out)
        out[at] = '\0';
    return out;
}

void vd_json_set_text(json_t *object, const char *key, const char *text, size_t len)
{
    bool was_plain;
    char name[64];
    char *coded;

    json_object_set_new(object, key, vd_json_text(text, len, &was_plain));
    if (was_plain)
        return;
    coded = base64(text, len);
    snprintf(name, sizeof(name), "%s_base64", key);
    json_object_set_new(object, name, coded ? json_string(coded) : json_null());
    free(coded);
}

/* The bits of a digit of base64; 64: it is none. */
static unsigned sextet(char c)
{
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (unsigned)(at - digits) : 64;
}

static char *unbase64(const char *coded)
{
    char *out = malloc(strlen(coded) + 1);
    size_t at = 0;

    for (size_t i = 0, bits = 0; out && sextet(coded[i]) < 64; i++) {
        bits = bits << 6 | sextet(coded[i]);
        if (i % 4)
            out[at++] = (char)(bits >> (6 - 2 * (i % 4)) & 0xff);
    }
    if (out)
        out[at] = '\0';
    return out;
}

char *vd_json_bytes(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key)), *coded;
    char name[64];

    snprintf(name, sizeof(name), "%s_base64", key);
    coded = json_string_value(json_object_get(object, name));
    return !text ? NULL : coded ? unbase64(coded) : strdup(text);
}

json_t *vd_json_number(uint64_t number)
{
    return number > INT64_MAX ? json_null() : json_integer((json_int_t)number);
}

void vd_json_print(FILE *f, json_t *value)
{
    (void)json_dumpf(value, f, JSON_INDENT(2));
    fputc('\n', f);
    json_decref(value);
}
