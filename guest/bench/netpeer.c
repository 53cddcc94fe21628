/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netpeer: the host's end of bench-init's network workloads.
 *
 *     netpeer tap NAME    makes a tap that stays
 *     netpeer serve       TCP 5001 reads to the end and answers one byte, 5002 sends 24 MiB, 5003
 *                         echoes; UDP 5004 takes what comes
 *
 * What it does is part of the definition of the recorded figures: sizes and options stay as they
 * are.
 */

#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BUFFER_SIZE (1L << 20)
#define STREAM_SIZE (24L << 20)
#define STREAM_READ (1L << 18)
#define STREAM_SEND 65536L
#define ECHO_SIZE   4096L

static void make_tap(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR);

    if (fd < 0)
        err(1, "/dev/net/tun");
    strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    if (ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETPERSIST, 1))
        err(1, "tap %s", name);
}

static void sink(int fd, char *buf)
{
    while (read(fd, buf, STREAM_READ) > 0)
        ;
    (void)!write(fd, "k", 1);
}

static void source(int fd, char *buf)
{
    for (long sent = 0; sent < STREAM_SIZE;) {
        ssize_t n = write(fd, buf, STREAM_SEND);
        if (n <= 0)
            break;
        sent += n;
    }
}

static void echo(int fd, char *buf)
{
    ssize_t n;

    while ((n = read(fd, buf, ECHO_SIZE)) > 0)
        (void)!write(fd, buf, (size_t)n);
}

static void packets(int fd, char *buf)
{
    while (recv(fd, buf, STREAM_SEND, 0) > 0)
        ;
}

struct service {
    uint16_t port;
    int type;
    void (*run)(int fd, char *buf);
};

static void *serve(void *arg)
{
    const struct service *service = arg;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(service->port)};
    int fd = socket(AF_INET, service->type, 0), one = 1;
    char *buf = malloc(BUFFER_SIZE);

    if (!buf || fd < 0)
        err(1, "port %u", service->port);
    memset(buf, 1, BUFFER_SIZE);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
        err(1, "port %u", service->port);
    if (service->type == SOCK_DGRAM)
        service->run(fd, buf);
    if (listen(fd, 8))
        err(1, "port %u", service->port);
    for (;;) {
        int connection = accept(fd, NULL, NULL);

        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        service->run(connection, buf);
        close(connection);
    }
}

int main(int argc, char **argv)
{
    static const struct service services[] = {
        {5001, SOCK_STREAM, sink},
        {5002, SOCK_STREAM, source},
        {5003, SOCK_STREAM, echo},
        {5004, SOCK_DGRAM, packets},
    };
    pthread_t thread;

    if (argc == 3 && strcmp(argv[1], "tap") == 0) {
        make_tap(argv[2]);
        return 0;
    }
    if (argc != 2 || strcmp(argv[1], "serve") != 0)
        errx(2, "usage: netpeer tap NAME | netpeer serve");
    for (size_t i = 0; i < sizeof(services) / sizeof(*services); i++)
        pthread_create(&thread, NULL, serve, (void *)(uintptr_t)&services[i]);
    for (;;)
        pause();
}
