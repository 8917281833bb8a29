/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int vd_fail(struct vd_err *err, enum vd_err_kind kind, int errnum, const char *fmt, ...)
{
    va_list ap;
    size_t len;

    if (!err)
        return -1;
    err->kind = kind;
    err->errnum = errnum;
    va_start(ap, fmt);
    vsnprintf(err->story, sizeof(err->story), fmt, ap);
    va_end(ap);
    if (errnum) {
        len = strlen(err->story);
        snprintf(err->story + len, sizeof(err->story) - len, ": %s", strerror(errnum));
    }
    return -1;
}

int vd_while(struct vd_err *err, const char *fmt, ...)
{
    char context[sizeof(err->story)];
    char told[sizeof(err->story)];
    va_list ap;
    int n;

    if (!err)
        return -1;
    va_start(ap, fmt);
    n = vsnprintf(context, sizeof(context), fmt, ap);
    va_end(ap);
    if (n < 0)
        return -1;
    memcpy(told, err->story, sizeof(told));
    /* A story too long keeps its beginning, which names the file. */
    n = snprintf(err->story, sizeof(err->story), "%s: ", context);
    if (n > 0 && (size_t)n < sizeof(err->story)) {
        size_t room = sizeof(err->story) - (size_t)n;
        size_t len = strnlen(told, sizeof(told));

        if (len >= room)
            len = room - 1;
        memcpy(err->story + n, told, len);
        err->story[(size_t)n + len] = '\0';
    }
    return -1;
}

int vd_fail_memory(struct vd_err *err)
{
    return vd_fail(err, VD_ERR_LIMIT, ENOMEM, "no memory");
}
