/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walls around a worker, from the inside.
 */
#include "checker/confine.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
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
static void behind(const struct vd_walls *walls, inside_fn *inside)
{
    struct vd_err err = VD_ERR_INIT;
    int ends[2], status;
    char text[200] = "";
    pid_t pid;

    mkdir("in", 0755);
    mkdir("open", 0755);
    vd_unit_write_file("open/file", "inside", 6);
    vd_unit_write_file("in/file", "inside", 6);
    vd_unit_write_file("out", "outside", 7);
    vd_unit_write_file("extra", "allowed", 7);
    ck_assert_int_eq(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        const char *wrong = vd_confine(walls, &err) < 0 ? err.story : inside();

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

static const char *const extra[] = {"extra", "nowhere"}, *const writable[] = {"open"};

/* Those of a check. */
static void behind_walls(inside_fn *inside)
{
    behind(&(struct vd_walls){.folder = "in", .files = extra, .files_n = 2}, inside);
}

/* Those of a repair. */
static void behind_a_repairs_walls(inside_fn *inside)
{
    behind(
        &(struct vd_walls){
            .folder = "in", .files = extra, .files_n = 2, .writable = writable, .writable_n = 1},
        inside);
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
    behind_a_repairs_walls(read_below);
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
    behind_a_repairs_walls(read_elsewhere);
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
    if (has_landlock() && open("open/file", O_RDONLY) >= 0)
        return "a folder elsewhere can be read";
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

/* What a repair does with an image, its journal and SQLite's journal of that. */
static const char *write_here(void)
{
    int fd = open("open/new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600), folder;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    struct rlimit limit;

    if (fd < 0)
        return "no file can be made";
    if (pwrite(fd, "some", 4, 4096) != 4 || fdatasync(fd) < 0 || fsync(fd) < 0 || ftruncate(fd, 100) < 0)
        return "it cannot be written";
    if (fchmod(fd, 0640) < 0 || fchown(fd, getuid(), getgid()) < 0)
        return "it cannot be given away";
    if (fcntl(fd, F_SETLK, &lock) < 0)
        return "it cannot be locked";
    close(fd);
    folder = open("open", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || fsync(folder) < 0)
        return "the folder cannot be synced";
    fd = open("open", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EOPNOTSUPP)
        return "no file without a name can be made";
    fd = open("open/file", O_RDWR | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, "other", 5, 0) != 5)
        return "a file that is there cannot be written";
    if (unlink("open/new") < 0)
        return "it cannot be removed";
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 ? NULL : "a limit cannot be asked for";
}

START_TEST(a_repair_writes_into_its_folders)
{
    behind_a_repairs_walls(write_here);
}
END_TEST

static const char *write_there(void)
{
    static const char *const names[] = {"out", "extra", "in/file", "open/../in/file"};
    struct rlimit limit = {1, 1};

    for (size_t i = 0; has_landlock() && i < VD_ARRAY_SIZE(names); i++)
        if (open(names[i], O_WRONLY) >= 0 || open(names[i], O_RDWR | O_TRUNC) >= 0 || unlink(names[i]) == 0)
            return names[i];
    if (has_landlock() &&
        (open("in/new", O_WRONLY | O_CREAT, 0644) >= 0 || open("new", O_WRONLY | O_CREAT, 0644) >= 0 ||
         open("in", O_TMPFILE | O_RDWR, 0600) >= 0))
        return "a file can be made elsewhere";
    if (!has_seccomp())
        return NULL;
    if (rename("open/file", "open/other") == 0 || link("open/file", "open/other") == 0 ||
        symlink("out", "open/other") == 0 || mkdir("open/other", 0755) == 0)
        return "a name of another kind can be made";
    if (chmod("open/file", 0777) == 0 || truncate("out", 0) == 0)
        return "a file can be changed by its name";
    return setrlimit(RLIMIT_CORE, &limit) == 0 ? "a limit can be set" : NULL;
}

START_TEST(and_nowhere_else)
{
    behind_a_repairs_walls(write_there);
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
    behind_a_repairs_walls(reach_out);
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_an_error)
{
    struct vd_err err = VD_ERR_INIT;

    if (has_landlock())
        must_fail(vd_confine(&(struct vd_walls){.folder = "nowhere"}, &err), &err, VD_ERR_IO);
}
END_TEST

UNIT_TESTS("confine", what_lies_below_can_be_read_still, what_lies_elsewhere_cannot, nothing_can_be_written,
           a_repair_writes_into_its_folders, and_nowhere_else,
           no_network_no_program_and_no_other_process_is_within_reach, a_folder_that_is_not_there_is_an_error)
