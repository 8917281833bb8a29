/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "checker/cancel.h"

#include <stddef.h>

#include "formats/base/auto.h"

static volatile sig_atomic_t cancelled;
static volatile sig_atomic_t progress_wanted;

static void on_signal(int sig)
{
    if (sig == SIGUSR1)
        progress_wanted = 1;
    else
        cancelled = 1;
}

void vd_cancel_install(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    struct sigaction action = {.sa_handler = on_signal};

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < VD_ARRAY_SIZE(signals); i++)
        sigaction(signals[i], &action, NULL);
    /* A full disk is an error of the write, and a closed pipe one of the output. */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

const volatile sig_atomic_t *vd_cancel_flag(void)
{
    return &cancelled;
}

bool vd_cancel_wants_progress(void)
{
    bool wanted = progress_wanted;

    progress_wanted = 0;
    return wanted;
}
