/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/base/span.h"

static const char units[] = "KMGTPE";

const char *vd_text_size(char buf[VD_TEXT_SIZE_MAX], uint64_t bytes)
{
    unsigned shift = 0;

    while (shift < 60 && bytes >> (shift + 10))
        shift += 10;
    if (shift == 0)
        snprintf(buf, VD_TEXT_SIZE_MAX, "%" PRIu64 " byte%s", bytes, bytes == 1 ? "" : "s");
    else if ((bytes & (((uint64_t)1 << shift) - 1)) == 0)
        snprintf(buf, VD_TEXT_SIZE_MAX, "%" PRIu64 " %ciB", bytes >> shift, units[shift / 10 - 1]);
    else
        snprintf(buf, VD_TEXT_SIZE_MAX, "%.1f %ciB", (double)bytes / (double)((uint64_t)1 << shift),
                 units[shift / 10 - 1]);
    return buf;
}

static bool suffix_shift(const char *suffix, unsigned *shift)
{
    static const char letters[] = "kmgtpe";
    const char *at;

    *shift = 0;
    if (*suffix == '\0' || strcmp(suffix, "B") == 0)
        return true;
    at = strchr(letters, suffix[0] | 0x20);
    if (!at)
        return false;
    *shift = 10 * (unsigned)(at - letters + 1);
    return suffix[1] == '\0' || strcmp(suffix + 1, "iB") == 0 || strcmp(suffix + 1, "B") == 0;
}

bool vd_text_parse_size(const char *text, int64_t *bytes)
{
    unsigned long long v;
    unsigned shift;
    uint64_t scaled;
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    v = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
    if (errno || end == text || !suffix_shift(end, &shift))
        return false;
    if (!vd_mul(v, (uint64_t)1 << shift, &scaled) || scaled > INT64_MAX)
        return false;
    *bytes = (int64_t)scaled;
    return true;
}

size_t vd_text_utf8_len(const unsigned char *p, size_t left)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } forms[] = {
        {0x80, 0x00, 0      },
        {0xe0, 0xc0, 0x80   },
        {0xf0, 0xe0, 0x800  },
        {0xf8, 0xf0, 0x10000}
    };

    for (size_t len = 1; len <= 4 && len <= left; len++) {
        uint32_t c = (uint32_t)(p[0] & ~forms[len - 1].mask);

        if ((p[0] & forms[len - 1].mask) != forms[len - 1].lead)
            continue;
        for (size_t i = 1; i < len; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return 0;
            c = c << 6 | (p[i] & 0x3f);
        }
        return c < forms[len - 1].least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : len;
    }
    return 0;
}

bool vd_text_is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        const unsigned char *p = (const unsigned char *)text + i;
        size_t n = vd_text_utf8_len(p, len - i);

        if (n == 0 || *p < 0x20 || *p == 0x7f)
            return false;
        i += n;
    }
    return true;
}

/* What turns the direction of the text around it, so that a name looks like another one, and the separators
 * of lines and paragraphs. */
static bool bends_the_line(const unsigned char *p, size_t n)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        {0x61c,  0x61c },
        {0x200e, 0x200f},
        {0x2028, 0x202e},
        {0x2066, 0x2069}
    };
    uint32_t c = n == 2 ? (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f)
                        : (uint32_t)(p[0] & 0xf) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return true;
    return false;
}

/* C1 controls (U+0080 to U+009f) command some terminals just as the bytes below space do. */
static bool is_printable(const unsigned char *p, size_t n)
{
    if (n == 1)
        return *p >= 0x20 && *p != 0x7f && *p != '\\';
    if (n == 2 || n == 3)
        return !(p[0] == 0xc2 && p[1] < 0xa0) && !bends_the_line(p, n);
    return n != 0;
}

const char *vd_text_escape(char *dst, size_t room, const char *src, size_t len)
{
    size_t at = 0;

    for (size_t i = 0; i < len;) {
        const unsigned char *p = (const unsigned char *)src + i;
        size_t n = vd_text_utf8_len(p, len - i);

        if (at + 5 > room)
            break;
        if (is_printable(p, n)) {
            memcpy(dst + at, p, n);
            at += n;
            i += n;
        } else if (*p == '\\') {
            memcpy(dst + at, "\\\\", 2);
            at += 2;
            i++;
        } else {
            at += (size_t)snprintf(dst + at, 5, "\\x%02x", *p);
            i++;
        }
    }
    dst[at] = '\0';
    return dst;
}

const char *vd_text_copy(char *dst, size_t room, const char *src, size_t len)
{
    static const char nul[] = "\xe2\x90\x80";
    size_t at = 0;

    for (size_t i = 0; i < len;) {
        size_t n = vd_max(vd_text_utf8_len((const unsigned char *)src + i, len - i), 1);
        size_t put = src[i] ? n : sizeof(nul) - 1;

        if (at + put + 1 > room)
            break;
        memcpy(dst + at, src[i] ? src + i : nul, put);
        at += put;
        i += n;
    }
    dst[at] = '\0';
    return dst;
}

enum quoting { PLAIN, QUOTED, CODED }; /* as it is, in '...', in $'...' */

static enum quoting quoting_of(const char *name, size_t len)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+,:@%=-";
    enum quoting need = len && strspn(name, safe) == len ? PLAIN : QUOTED;

    for (size_t i = 0; i < len;) {
        const unsigned char *p = (const unsigned char *)name + i;
        size_t n = vd_text_utf8_len(p, len - i);

        if (!n || (*p != '\\' && !is_printable(p, n)))
            return CODED;
        i += n;
    }
    return need;
}

/* One byte of a name; returns how many bytes it takes. */
static size_t quote_byte(char word[8], enum quoting quoting, unsigned char byte)
{
    bool is_odd = byte < 0x20 || byte >= 0x7f;

    if (quoting == QUOTED && byte == '\'')
        return (size_t)snprintf(word, 8, "'\\''");
    if (quoting == CODED && is_odd)
        return (size_t)snprintf(word, 8, "\\x%02x", byte);
    if (quoting == CODED && (byte == '\'' || byte == '\\'))
        return (size_t)snprintf(word, 8, "\\%c", byte);
    word[0] = (char)byte;
    return 1;
}

const char *vd_text_shell(char *dst, size_t room, const char *name)
{
    static const char *const opening[] = {"", "'", "$'"};
    size_t len = strlen(name), at;
    enum quoting quoting = quoting_of(name, len);

    at = (size_t)snprintf(dst, room, "%s%s", opening[quoting], name[0] == '-' ? "./" : "");
    for (size_t i = 0; i < len; i++) {
        char word[8];
        size_t n = quote_byte(word, quoting, (unsigned char)name[i]);

        if (at + n + 2 > room)
            break;
        memcpy(dst + at, word, n);
        at += n;
    }
    snprintf(dst + at, room - at, "%s", quoting == PLAIN ? "" : "'");
    return dst;
}
