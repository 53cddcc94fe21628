/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sockbench: what a Unix socket costs, and a program behind one.
 *
 *     sockbench listen SOCKET             listens and does nothing else, until it is killed
 *     sockbench echo SOCKET               sends back whatever comes, one connection at a time
 *     sockbench ask SOCKET N TEXT         sends TEXT N times on one connection, each after the
 *                                         answer to the one before (which comes in one piece)
 *     sockbench start SOCKET N COMMAND... runs COMMAND N times, each until SOCKET can be connected
 *
 * ask prints the median time of one round, start that from exec to the connection than which one in
 * ten is faster (a busy machine only adds to it), both in microseconds.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define GIVE_UP_US 10e6

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        errx(1, "%s is too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path));
    return address;
}

static int new_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        err(1, "socket");
    return fd;
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = address_of(path);
    int fd = new_socket();

    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 128))
        err(1, "%s", path);
    return fd;
}

static void serve_echo(const char *path)
{
    static char buffer[65536];
    int listener = listen_on(path);

    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        ssize_t n;

        if (fd < 0)
            err(1, "accept");
        while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0 && send(fd, buffer, (size_t)n, 0) == n)
            ;
        close(fd);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* That than which one in `of` is faster. */
static void print_one_in(unsigned of, double *times, size_t count)
{
    qsort(times, count, sizeof(*times), ascending);
    printf("%.2f\n", times[count / of]);
}

static void ask(const char *path, size_t count, const char *text)
{
    static char answer[65536];
    struct sockaddr_un address = address_of(path);
    double *times = calloc(count, sizeof(*times));
    size_t len = strlen(text);
    int fd = new_socket();

    if (!times || connect(fd, (struct sockaddr *)&address, sizeof(address)))
        err(1, "%s", path);
    for (size_t i = 0; i < count; i++) {
        double begin = now_us();

        if (send(fd, text, len, 0) != (ssize_t)len || recv(fd, answer, sizeof(answer), 0) <= 0)
            err(1, "no answer");
        times[i] = now_us() - begin;
    }
    print_one_in(2, times, count);
}

/* The first or the last of the processors that this process may use. */
static cpu_set_t processor(bool last)
{
    cpu_set_t all, one;
    size_t cpu = last ? CPU_SETSIZE - 1 : 0;

    if (sched_getaffinity(0, sizeof(all), &all))
        err(1, "sched_getaffinity");
    while (!CPU_ISSET(cpu, &all))
        cpu = last ? cpu - 1 : cpu + 1;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return one;
}

static pid_t start(char **command, const cpu_set_t *where)
{
    pid_t pid = vfork();

    if (pid < 0)
        err(1, "vfork");
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        dup2(null, 0);
        dup2(null, 1);
        sched_setaffinity(0, sizeof(*where), where);
        execv(command[0], command);
        _exit(127);
    }
    return pid;
}

/* Tries again and again, since whatever wakes us would take longer than what is measured; but on a
 * busy machine the program needs a processor, too. */
static void connect_soon(const struct sockaddr_un *address, double begin)
{
    int fd = new_socket();

    while (connect(fd, (const struct sockaddr *)address, sizeof(*address))) {
        if (errno != ENOENT && errno != ECONNREFUSED)
            err(1, "%s", address->sun_path);
        if (now_us() - begin > GIVE_UP_US)
            errx(1, "%s does not come", address->sun_path);
        sched_yield();
    }
    close(fd);
}

static void measure_starts(const char *path, size_t count, char **command)
{
    struct sockaddr_un address = address_of(path);
    double *times = calloc(count, sizeof(*times));
    cpu_set_t ours = processor(false), theirs = processor(true);

    /* On one processor we would see the socket only once the program has nothing more to do. */
    if (!times || sched_setaffinity(0, sizeof(ours), &ours))
        err(1, "memory and processor");
    for (size_t i = 0; i < count; i++) {
        double begin = now_us();
        pid_t pid = start(command, &theirs);

        connect_soon(&address, begin);
        times[i] = now_us() - begin;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        unlink(path);
    }
    print_one_in(10, times, count);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "listen") == 0) {
        listen_on(argv[2]);
        pause();
    } else if (argc == 3 && strcmp(argv[1], "echo") == 0) {
        serve_echo(argv[2]);
    } else if (argc == 5 && strcmp(argv[1], "ask") == 0) {
        ask(argv[2], strtoul(argv[3], NULL, 10), argv[4]);
    } else if (argc > 4 && strcmp(argv[1], "start") == 0) {
        measure_starts(argv[2], strtoul(argv[3], NULL, 10), argv + 4);
    } else {
        errx(2,
             "usage: sockbench listen|echo SOCKET, ask SOCKET N TEXT, start SOCKET N COMMAND...");
    }
    return 0;
}
