/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A loop device over a file, for tests of block devices: where the machine has none, or we may not, the test
 * says why it was skipped.
 */
#ifndef VD_UNIT_LOOP_H
#define VD_UNIT_LOOP_H

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct vd_unit_loop {
    char path[32];
    int fd; /* the device is there while this is open, or a node of ours is */
};

/* Is there a device now? It detaches itself when nobody has it open any more, even after a crash. */
static inline int vd_unit_loop_attach(struct vd_unit_loop *loop, const char *file, const char *test)
{
    struct loop_info64 info = {.lo_flags = LO_FLAGS_AUTOCLEAR};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), backing = open(file, O_RDWR | O_CLOEXEC);
    int number, is_there = 0;

    loop->fd = -1;
    /* Another process may take a free device between the question and the answer. */
    for (int tries = 0; control >= 0 && backing >= 0 && !is_there && tries < 8; tries++) {
        number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        snprintf(loop->path, sizeof(loop->path), "/dev/loop%d", number);
        loop->fd = open(loop->path, O_RDWR | O_CLOEXEC);
        if (loop->fd < 0)
            break;
        is_there = ioctl(loop->fd, LOOP_SET_FD, backing) == 0;
        if (is_there && ioctl(loop->fd, LOOP_SET_STATUS64, &info) < 0) {
            ioctl(loop->fd, LOOP_CLR_FD);
            is_there = 0;
            break;
        }
        if (!is_there)
            close(loop->fd);
    }
    if (!is_there)
        printf("skipped: %s: no loop device: %s\n", test, strerror(errno));
    if (control >= 0)
        close(control);
    if (backing >= 0)
        close(backing);
    return is_there;
}

static inline void vd_unit_loop_detach(struct vd_unit_loop *loop)
{
    close(loop->fd);
}

#endif
