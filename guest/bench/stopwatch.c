/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stopwatch N MARKER COMMAND...: runs a command N times and prints, in milliseconds, the time from
 * exec to the first appearance of MARKER in its output, and to the moment it has been reaped:
 *
 *     marker 31.296 exit 43.977 status 0
 *
 * marker is -1 if it never came; status is as a shell would show it (128 + signal).
 */

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/wait.h>

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static pid_t start(char **command, int out)
{
    pid_t pid = vfork();

    if (pid < 0)
        err(1, "vfork");
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        dup2(null, 0);
        dup2(out, 1);
        dup2(out, 2);
        execv(command[0], command);
        _exit(127);
    }
    return pid;
}

/* Reads until the end of the output; returns when `marker` first came, or -1. */
static double watch(int fd, const char *marker)
{
    static char text[1 << 20];
    size_t len = 0;
    double seen = -1;
    ssize_t got;

    while ((got = read(fd, text + len, sizeof(text) - 1 - len)) > 0) {
        len += (size_t)got;
        text[len] = '\0';
        if (seen < 0 && strstr(text, marker))
            seen = now_ms();
        if (len > sizeof(text) / 2) { /* enough that a marker may straddle is kept */
            memmove(text, text + len - 4096, 4096);
            len = 4096;
        }
    }
    return seen;
}

static void measure(const char *marker, char **command)
{
    int out[2], status;

    if (pipe2(out, O_CLOEXEC))
        err(1, "pipe");
    double begin = now_ms();
    pid_t pid = start(command, out[1]);
    close(out[1]);
    double seen = watch(out[0], marker);
    waitpid(pid, &status, 0);
    double end = now_ms();
    close(out[0]);
    printf("marker %.3f exit %.3f status %d\n", seen < 0 ? -1 : seen - begin, end - begin,
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 4 || atoi(argv[1]) <= 0)
        errx(64, "usage: stopwatch N MARKER COMMAND...");
    for (int i = 0; i < atoi(argv[1]); i++)
        measure(argv[2], argv + 3);
    return 0;
}
