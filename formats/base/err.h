/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An error is a value: a kind for the program, a story for people, and no allocation, so that it works when
 * memory is out. It says that vdcheck could not look or could not do; a defect of an image is never an error
 * but a finding.
 *
 * Functions return 0 or -1 (or a pointer or NULL) and take the error last. vd_fail() starts the story where
 * it happens; vd_while() puts the context before it on the way up. Only report/ prints.
 */
#ifndef VD_BASE_ERR_H
#define VD_BASE_ERR_H

enum vd_err_kind {
    VD_ERR_NONE,
    VD_ERR_IO,          /* the system refused or failed: errnum says how */
    VD_ERR_FORMAT,      /* the image is too damaged for this use */
    VD_ERR_UNSUPPORTED, /* a format or feature that is not known, or an operation that a format does not have
                         */
    VD_ERR_BUSY,        /* another program has the file */
    VD_ERR_LIMIT,       /* a bound of ours */
    VD_ERR_CANCELLED,   /* a signal asked for the end */
    VD_ERR_USAGE,       /* the caller's words do not fit */
    VD_ERR_REFUSED,     /* a rule of ours forbids it: the gate, or a repair that cannot be proven */
};

struct vd_err {
    enum vd_err_kind kind;
    int errnum; /* 0 where no system call failed */
    char story[600];
};

#define VD_ERR_INIT                                                                                          \
    {                                                                                                        \
        .kind = VD_ERR_NONE                                                                                  \
    }

/* Fills *err (which may be NULL) and returns -1. With errnum, strerror's words end the story. */
int vd_fail(struct vd_err *err, enum vd_err_kind kind, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "context: " before the story and returns -1. */
int vd_while(struct vd_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Out of memory, as an error like any other; returns -1. */
int vd_fail_memory(struct vd_err *err);

#endif
