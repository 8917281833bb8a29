/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walls around a worker, from the inside.
 */
#include "checker/confine.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "formats/base/auto.h"
#include "tests/unit/unit.h"

static bool has_landlock(void)
{
    return syscall(444, NULL, 0, 1) > 0;
}

/* In some containers there may be no filter; then nothing is proven here. */
static bool has_seccomp(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM;
}

/* What did not hold inside, or NULL: it must be able to say so by its exit status alone. */
typedef const char *inside_fn(void);

/* Check itself would not work behind the walls, so they stand around a child. */
static void behind_walls(inside_fn *inside)
{
    struct vd_err err = VD_ERR_INIT;
    int ends[2], status;
    char text[200] = "";
    pid_t pid;

    mkdir("in", 0755);
    vd_unit_write_file("in/file", "inside", 6);
    vd_unit_write_file("out", "outside", 7);
    vd_unit_write_file("extra", "allowed", 7);
    ck_assert_int_eq(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        const char *wrong = vd_confine("in", "extra", &err) < 0 ? err.story : inside();

        if (wrong && write(ends[1], wrong, strlen(wrong)) < 0)
            _exit(2);
        _exit(wrong ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    close(ends[1]);
    (void)!read(ends[0], text, sizeof(text) - 1);
    close(ends[0]);
    ck_assert_msg(status == 0, "%s (status %#x)", text, (unsigned)status);
}

static const char *read_below(void)
{
    int fd = open("in/file", O_RDONLY | O_CLOEXEC);
    char text[8] = "";

    if (fd < 0 || pread(fd, text, 6, 0) != 6 || strcmp(text, "inside") != 0)
        return "the file below cannot be read";
    if (close(fd) < 0)
        return "nor closed";
    if (open("extra", O_RDONLY | O_CLOEXEC) < 0)
        return "the file that was allowed cannot be read";
    return malloc(4 << 20) ? NULL : "no memory";
}

START_TEST(what_lies_below_can_be_read_still)
{
    behind_walls(read_below);
}
END_TEST

static const char *read_elsewhere(void)
{
    static const char *const names[] = {"out", "/etc/passwd", "in/../out", "/proc/self/maps"};

    for (size_t i = 0; has_landlock() && i < VD_ARRAY_SIZE(names); i++)
        if (open(names[i], O_RDONLY) >= 0)
            return names[i];
    return NULL;
}

START_TEST(what_lies_elsewhere_cannot)
{
    behind_walls(read_elsewhere);
}
END_TEST

static const char *write_something(void)
{
    if (has_landlock() && open("in/file", O_WRONLY) >= 0)
        return "a file can be opened for writing";
    if (has_landlock() && open("in/new", O_WRONLY | O_CREAT, 0644) >= 0)
        return "a file can be made";
    if (has_landlock() && open("extra", O_RDWR) >= 0)
        return "the file that was allowed can be opened for writing";
    if (!has_seccomp())
        return NULL;
    if (unlink("in/file") == 0 || truncate("in/file", 0) == 0 || rename("in/file", "in/other") == 0)
        return "a file can be removed, cut or moved";
    return chmod("in/file", 0777) == 0 ? "a mode can be changed" : NULL;
}

START_TEST(nothing_can_be_written)
{
    behind_walls(write_something);
}
END_TEST

static const char *reach_out(void)
{
    if (!has_seccomp())
        return NULL;
    if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
        return "a socket";
    if (syscall(SYS_ptrace, 0, 0, 0, 0) == 0)
        return "ptrace";
    if (syscall(SYS_clone, 17, 0, 0, 0, 0) >= 0)
        return "a process";
    if (kill(getppid(), 0) == 0)
        return "a signal";
    (void)execl("/bin/true", "true", NULL);
    return errno == EPERM || errno == EACCES ? NULL : "a program";
}

START_TEST(no_network_no_program_and_no_other_process_is_within_reach)
{
    behind_walls(reach_out);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_an_error)
{
    struct vd_err err = VD_ERR_INIT;

    if (has_landlock())
        must_fail(vd_confine("nowhere", NULL, &err), &err, VD_ERR_IO);
}
END_TEST

UNIT_TESTS("confine", what_lies_below_can_be_read_still, what_lies_elsewhere_cannot, nothing_can_be_written,
           no_network_no_program_and_no_other_process_is_within_reach, a_folder_that_is_not_there_is_an_error)
