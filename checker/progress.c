/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "checker/cancel.h"
#include "formats/base/text.h"

enum { EVERY_MS = 200 };

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void vd_progress_tell(void *opaque, const char *what, uint64_t done, uint64_t total)
{
    struct vd_progress *progress = opaque;
    bool asked = vd_cancel_wants_progress();
    uint64_t now = now_ms();
    char name[128];

    if (!asked && (!progress->is_shown || now - progress->last_ms < EVERY_MS))
        return;
    /* The first call only starts the clock: what takes no time needs no line. */
    if (!asked && progress->last_ms == 0) {
        progress->last_ms = now;
        return;
    }
    progress->last_ms = now;
    vd_text_escape(name, sizeof(name), progress->image ? progress->image : "",
                   strlen(progress->image ? progress->image : ""));
    fprintf(stderr, "%s%s: %s %" PRIu64 " of %" PRIu64 " (%" PRIu64 " %%)%s",
            progress->is_shown ? "\r\033[K" : "", name, what, done, total, total ? done * 100 / total : 100,
            progress->is_shown ? "" : "\n");
    progress->has_line = progress->is_shown;
    fflush(stderr);
}

void vd_progress_clear(struct vd_progress *progress)
{
    if (progress->has_line)
        fputs("\r\033[K", stderr);
    progress->has_line = false;
}
