/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsockpeer UDS_PATH: the host's end of bench-init's vsock part. Waits for the guest, then measures
 * from the host's side and prints one line for each figure, in microseconds. Without a path it
 * measures what a stream through a Unix socket costs between two processes of the host: that much
 * of a stream from or to a guest is not the monitor's to save.
 *
 * The counts and the sizes are part of the definition of the recorded figures and stay as they are.
 */

#include <err.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

#define MIB          (1L << 20)
#define STREAM_MIB   24L
#define STREAM_CHUNK 65536L
#define ROUND_TRIPS  800
#define CONNECTS     100

static const char *path;
static char buf[STREAM_CHUNK];

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* The stream once the monitor has said OK; -1 if it closed instead. */
static int greet(int fd)
{
    char line[64], c;
    size_t len = 0;

    dprintf(fd, "CONNECT 5000\n");
    while (len < sizeof(line) - 1 && read(fd, &c, 1) == 1) {
        line[len++] = c;
        if (c == '\n')
            break;
    }
    if (len >= 2 && line[0] == 'O')
        return fd;
    close(fd);
    return -1;
}

static int connect_guest(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
    for (int i = 0; connect(fd, (struct sockaddr *)&address, sizeof(address)); i++) {
        if (i > 3000)
            err(1, "connect %s", path);
        usleep(1000);
    }
    return greet(fd);
}

static int wait_for_guest(void)
{
    for (int i = 0; i < 500; i++) {
        int fd = connect_guest();

        if (fd >= 0)
            return fd;
        usleep(10000);
    }
    errx(1, "the guest does not listen");
}

/* A connection to the guest that asks for one of its services. */
static int ask(char wish)
{
    int fd = connect_guest();

    if (fd < 0 || write(fd, &wish, 1) != 1)
        errx(1, "the guest refused a connection");
    return fd;
}

static void exchange(int fd)
{
    if (write(fd, "x", 1) != 1 || read(fd, buf, 1) != 1)
        err(1, "echo");
}

static void round_trips(int fd)
{
    if (write(fd, "e", 1) != 1)
        err(1, "write");
    exchange(fd);
    double begin = now_us();
    for (int i = 0; i < ROUND_TRIPS; i++)
        exchange(fd);
    printf("VSOCK rtt us %.2f\n", (now_us() - begin) / ROUND_TRIPS);
    close(fd);
}

static void connects(void)
{
    double begin = now_us();

    for (int i = 0; i < CONNECTS; i++) {
        int fd = ask('e');

        exchange(fd);
        close(fd);
    }
    printf("VSOCK connect+echo us %.1f\n", (now_us() - begin) / CONNECTS);
}

static void to_guest(void)
{
    int fd = ask('s');
    double begin = now_us();

    for (long sent = 0; sent < STREAM_MIB * MIB;) {
        ssize_t n = write(fd, buf, (size_t)(STREAM_CHUNK - sent % STREAM_CHUNK));

        if (n <= 0)
            err(1, "write");
        sent += n;
    }
    if (read(fd, buf, 1) != 1)
        err(1, "the guest did not get it all");
    printf("VSOCK host->guest us/MiB %.1f\n", (now_us() - begin) / STREAM_MIB);
    close(fd);
}

static void from_guest(void)
{
    int fd = connect_guest();
    double begin = now_us();
    long got = 0;

    if (fd < 0 || write(fd, "r", 1) != 1)
        errx(1, "the guest refused a connection");
    while (got < STREAM_MIB * MIB) {
        ssize_t n = read(fd, buf, STREAM_CHUNK);

        if (n <= 0)
            err(1, "read");
        got += n;
    }
    printf("VSOCK guest->host us/MiB %.1f\n", (now_us() - begin) / STREAM_MIB);
    close(fd);
}

static void alone(void)
{
    int end[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, end))
        err(1, "socketpair");
    if (fork() == 0) {
        close(end[0]);
        for (long sent = 0; sent < STREAM_MIB * MIB; sent += STREAM_CHUNK)
            if (write(end[1], buf, STREAM_CHUNK) != STREAM_CHUNK)
                err(1, "write");
        _exit(0);
    }
    close(end[1]);
    double begin = now_us();
    while (read(end[0], buf, STREAM_CHUNK) > 0)
        ;
    printf("VSOCK alone us/MiB %.1f\n", (now_us() - begin) / STREAM_MIB);
}

int main(int argc, char **argv)
{
    if (argc > 2)
        errx(2, "usage: vsockpeer [UDS_PATH]");
    memset(buf, 1, sizeof(buf));
    if (argc == 1) {
        alone();
        return 0;
    }
    path = argv[1];
    round_trips(wait_for_guest());
    connects();
    to_guest();
    from_guest();
    close(ask('q'));
    return 0;
}
