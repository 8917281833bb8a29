/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "formats/node/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "formats/base/text.h"
#include "formats/node/file.h"

/* A colon before the first slash is how QEMU marks a protocol ("nbd:...", "json:{...}"). */
static bool names_a_protocol(const char *name)
{
    const char *colon = strchr(name, ':'), *slash = strchr(name, '/');

    return colon && (!slash || colon < slash);
}

static bool folder_of(const char *path, char folder[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;

    if (len >= PATH_MAX)
        return false;
    memcpy(folder, path, len);
    folder[len] = '\0';
    if (!len)
        snprintf(folder, PATH_MAX, "%s", slash ? "/" : ".");
    return true;
}

static bool lies_in(const char *path, const char *folder)
{
    char real[PATH_MAX];
    size_t len;

    if (!realpath(folder, real))
        return false;
    len = strlen(real);
    if (strcmp(real, "/") == 0)
        return true;
    return strncmp(path, real, len) == 0 && path[len] == '/';
}

static bool is_allowed(const struct vd_gate *gate, const char *folder, const char *path)
{
    if (lies_in(path, folder))
        return true;
    for (size_t i = 0; i < gate->allowed_n; i++)
        if (lies_in(path, gate->allowed[i]))
            return true;
    return false;
}

static enum vd_gate_answer answer(enum vd_gate_answer a, const char *name, size_t len, const char *why,
                                  int errnum, struct vd_err *err)
{
    char shown[256];

    vd_fail(err, a == VD_GATE_MISSING ? VD_ERR_IO : VD_ERR_REFUSED, errnum, "'%s' %s",
            vd_text_copy(shown, sizeof(shown), name, len), why);
    return a;
}

enum vd_gate_answer vd_gate_find(const struct vd_gate *gate, const char *from, const char *name, size_t len,
                                 char **path, struct vd_err *err)
{
    char copy[PATH_MAX], joined[2 * PATH_MAX], real[PATH_MAX], folder[PATH_MAX];
    const char *plain = name;
    struct stat st;

    if (len == 0 || len >= sizeof(copy) || memchr(name, '\0', len))
        return answer(VD_GATE_REFUSED, name, len, "is no file name", 0, err);
    memcpy(copy, name, len);
    copy[len] = '\0';
    plain = strncmp(copy, "file:", 5) == 0 ? copy + 5 : copy;
    if (names_a_protocol(plain))
        return answer(VD_GATE_REFUSED, name, len, "names a protocol, not a file", 0, err);
    if (!folder_of(from, folder))
        return answer(VD_GATE_REFUSED, name, len, "stands in an image whose path is too long", 0, err);
    snprintf(joined, sizeof(joined), "%s%s%s", plain[0] == '/' ? "" : folder, plain[0] == '/' ? "" : "/",
             plain);
    if (!realpath(joined, real))
        return answer(VD_GATE_MISSING, name, len, "cannot be found", errno, err);
    if (!is_allowed(gate, folder, real))
        return answer(VD_GATE_REFUSED, name, len,
                      "lies outside the image's folder (--allow=DIR would allow it)", 0, err);
    if (stat(real, &st) < 0)
        return answer(VD_GATE_MISSING, name, len, "cannot be found", errno, err);
    if (!S_ISREG(st.st_mode))
        return answer(VD_GATE_REFUSED, name, len, "is not a regular file", 0, err);
    *path = strdup(real);
    if (!*path) {
        vd_fail_memory(err);
        return VD_GATE_REFUSED;
    }
    return VD_GATE_OPEN;
}

struct BlockDriverState *vd_gate_open(const char *path, int flags, struct vd_err *err)
{
    struct open_how how = {
        .flags = (unsigned)((flags & BDRV_O_RDWR ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY),
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    struct stat st;
    int fd = -1;

    /* As for the image itself: no time stamp of a read, where the kernel grants it. */
    if (!(flags & BDRV_O_RDWR)) {
        how.flags |= O_NOATIME;
        fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
        how.flags &= ~(uint64_t)O_NOATIME;
    }
    if (fd < 0)
        fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = open(path, (int)how.flags | O_NOFOLLOW);
    if (fd < 0) {
        vd_fail(err, VD_ERR_IO, errno, "%s: cannot open", path);
        return NULL;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        vd_fail(err, VD_ERR_REFUSED, 0, "%s: not a regular file", path);
        return NULL;
    }
    return vd_file_open_fd(fd, path, flags, err);
}
