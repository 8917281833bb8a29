/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process gives up what it does not need before it reads what a stranger wrote: afterwards it reads files
 * below one folder, writes at most into folders that are named, and can reach neither another process nor the
 * network or a program.
 */
#ifndef VD_CONFINE_H
#define VD_CONFINE_H

#include <stddef.h>

#include "formats/base/err.h"

/* What is left to a process. Strings are borrowed for the call. */
struct vd_walls {
    const char *folder;       /* may be read, with all that is below */
    const char *const *files; /* may be read, wherever they lie; one that is not there is none */
    size_t files_n;
    const char *const *writable; /* folders below which regular files may be made, written and removed */
    size_t writable_n;           /* 0: nothing is ever written */
};

/*
 * Confines this process, for good. What the kernel does not offer (Landlock before 5.13, seccomp on machines
 * other than x86-64 and AArch64) is left out; -1 where it offers it and it fails.
 */
int vd_confine(const struct vd_walls *walls, struct vd_err *err);

/* Lets everybody else have the disk and the processor first. Best effort. */
void vd_confine_be_last(void);

#endif
