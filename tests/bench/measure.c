/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs a program once and prints on one line: wall seconds, CPU seconds (user and system), peak RSS in KiB,
 * exit status (128 + signal where one ended it).
 *
 * The program's output goes to a file opened before the clock starts. Tiny on purpose: the kernel counts the
 * memory of the process that calls exec into the peak of the program.
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_NO_EXEC = 127, EXIT_BY_SIGNAL = 128 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

__attribute__((noreturn)) static void become(char **argv, int output)
{
    if (dup2(output, STDOUT_FILENO) >= 0 && dup2(output, STDERR_FILENO) >= 0)
        execvp(argv[0], argv);
    _exit(EXIT_NO_EXEC);
}

static void run(char **argv, int output)
{
    struct rusage usage;
    double start = now(), wall;
    int status;
    pid_t pid = fork();

    if (pid < 0)
        err(EXIT_FAILURE, "fork");
    if (pid == 0)
        become(argv, output);
    if (wait4(pid, &status, 0, &usage) < 0)
        err(EXIT_FAILURE, "wait4");
    wall = now() - start;
    printf("%.6f %.6f %ld %d\n", wall, seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss,
           WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_BY_SIGNAL + WTERMSIG(status));
}

int main(int argc, char **argv)
{
    const char *path = "/dev/null";
    int opt, output;

    while ((opt = getopt(argc, argv, "+o:")) != -1) {
        if (opt != 'o')
            return EXIT_FAILURE;
        path = optarg;
    }
    if (optind == argc)
        errx(EXIT_FAILURE, "usage: measure [-o OUTPUT] PROGRAM [ARG...]");
    output = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (output < 0)
        err(EXIT_FAILURE, "%s", path);
    run(argv + optind, output);
    return 0;
}
