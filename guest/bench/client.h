/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of a monitor's API without anything that costs time: what snaptime.c, clones.c and
 * forks.c share. Nothing is measured that did not work, so every failure ends the program.
 */
#ifndef MAYFLY_GUEST_BENCH_CLIENT_H
#define MAYFLY_GUEST_BENCH_CLIENT_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define COMMAND_MAX 32
#define STARTED_MAX 2000
#define PATIENCE_MS 20e3

/* A process that waits has made ready what it makes ready while it waits. */
#define WAITING_US 20000

static inline double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static inline int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Processes that nobody has ended yet: a program that fails leaves none behind. */
static pid_t to_be_ended[STARTED_MAX];
static atomic_int started_count;

static inline void end_what_was_started(void)
{
    for (int i = 0; i < started_count; i++)
        if (to_be_ended[i] > 0)
            kill(to_be_ended[i], SIGKILL);
}

static inline void remember(pid_t pid)
{
    int at = atomic_fetch_add(&started_count, 1);

    if (at == 0)
        atexit(end_what_was_started);
    if (at >= STARTED_MAX)
        errx(1, "too many processes");
    to_be_ended[at] = pid;
}

static inline void forget(pid_t pid)
{
    for (int i = 0; i < started_count; i++)
        if (to_be_ended[i] == pid)
            to_be_ended[i] = 0;
}

/* Runs `command` and "--api-sock SOCKET", reading from `in`, its output going to `out` and its
   complaints to ours. A NULL socket adds nothing, without `in` there is nothing to read. */
static inline pid_t start(char *const *command, const char *socket_path, const int *in, int out)
{
    char *argv[COMMAND_MAX + 3];
    int n = 0;

    for (; command[n]; n++) {
        if (n == COMMAND_MAX)
            errx(64, "the command has too many words");
        argv[n] = command[n];
    }
    if (socket_path) {
        argv[n++] = (char *)"--api-sock";
        argv[n++] = (char *)socket_path;
        unlink(socket_path);
    }
    argv[n] = NULL;
    pid_t pid = vfork();
    if (pid < 0)
        err(1, "vfork");
    if (pid == 0) {
        dup2(in ? *in : open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
        dup2(out, 1);
        execv(argv[0], argv);
        _exit(127);
    }
    remember(pid);
    return pid;
}

static inline void stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    forget(pid);
}

/* A connection to the socket at `path`, as soon as somebody listens there. */
static inline int connect_soon(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    double begin = now_ms();

    if (strlen(path) >= sizeof(address.sun_path))
        errx(64, "%s is too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        err(1, "socket");
    while (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        if ((errno != ENOENT && errno != ECONNREFUSED) || now_ms() - begin > PATIENCE_MS)
            err(1, "%s", path);
        usleep(20);
    }
    return fd;
}

/* Reads an answer whole into `text`; returns its status. */
static inline int read_answer(int fd, char *text, size_t size)
{
    size_t len = 0, whole = 0;

    while (!whole || len < whole) {
        ssize_t n = read(fd, text + len, size - 1 - len);
        if (n <= 0)
            errx(1, "the monitor closed the connection instead of answering");
        len += (size_t)n;
        text[len] = '\0';
        const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "content-length:");
        if (end)
            whole = (size_t)(end - text) + 4 +
                    (length && length < end ? strtoul(length + 15, NULL, 10) : 0);
        if (whole >= size)
            errx(1, "the answer is too long");
    }
    return atoi(text + 9);
}

/* Sends a request and reads its answer, which must be a good one and stays until the next. */
__attribute__((format(printf, 4, 5))) static inline const char *
ask(int fd, const char *method, const char *path, const char *format, ...)
{
    static _Thread_local char body[8192], request[9216], answer[16384];
    va_list args;

    va_start(args, format);
    int body_len = vsnprintf(body, sizeof(body), format, args);
    va_end(args);
    int len = snprintf(request, sizeof(request),
                       "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
                       "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                       method, path, body_len, body);
    if ((size_t)body_len >= sizeof(body) || (size_t)len >= sizeof(request))
        errx(1, "a request is too long");
    if (write(fd, request, (size_t)len) != len)
        err(1, "asking for %s %s", method, path);
    if (read_answer(fd, answer, sizeof(answer)) >= 300)
        errx(1, "%s %s %s\n%s", method, path, body, answer);
    return answer;
}

static inline void ask_state(int fd, const char *state)
{
    ask(fd, "PATCH", "/vm", "{\"state\":\"%s\"}", state);
}

#endif
