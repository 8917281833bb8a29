/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process gives up what it does not need before it reads what a stranger wrote: afterwards it reads files
 * below one folder, and can neither write nor reach another process, the network or a program.
 */
#ifndef VD_CONFINE_H
#define VD_CONFINE_H

#include "formats/base/err.h"

/*
 * Confines this process, for good, to reading below the folder, and one file that lies elsewhere (NULL: none;
 * one that is not there is none). What the kernel does not offer (Landlock before 5.13, seccomp on machines
 * other than x86-64 and AArch64) is left out; -1 where it offers it and it fails.
 */
int vd_confine(const char *folder, const char *file, struct vd_err *err);

/* Lets everybody else have the disk and the processor first. Best effort. */
void vd_confine_be_last(void);

#endif
