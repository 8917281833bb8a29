/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Signals: SIGINT and SIGTERM ask for a clean end, SIGUSR1 for a line of progress.
 *
 * The flags are the only variables of the process that live outside an object: a signal handler has nothing
 * else.
 */
#ifndef VD_CANCEL_H
#define VD_CANCEL_H

#include <signal.h>
#include <stdbool.h>

/* Installs the handlers; interrupted system calls are not restarted. */
void vd_cancel_install(void);

/* Set once the end was asked for; for struct vd_budget. */
const volatile sig_atomic_t *vd_cancel_flag(void);

/* Was progress asked for since the last call? */
bool vd_cancel_wants_progress(void);

#endif
