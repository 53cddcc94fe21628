/* SPDX-License-Identifier: Apache-2.0 */
/* test-init's traffic: checked streams both ways, echoes, floods. The host's half is
 * tests/e2e/net.c. */
#include "stream.h"
#include "test-init.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#define PATIENCE_S 30

/* A socket for ADDRESS and PORT; connected. -1 after fail(). */
static int open_socket(const char *address, const char *port, int type)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    uint64_t number;

    if (parse_number(port, "port", &number))
        return -1;
    to.sin_port = htons((uint16_t)number);
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
        return fail("'%s' is no address", address);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_errno("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to))) {
        fail_errno("connect to %s:%s", address, port);
        close(fd);
        return -1;
    }
    return fd;
}

/* N connections one after the other, each a whole transfer. */
static int transfers(char **argv, int (*one)(int fd, uint64_t seed))
{
    uint64_t seed, count;

    if (parse_number(argv[2], "seed", &seed) || parse_number(argv[3], "count", &count))
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        int fd = open_socket(argv[0], argv[1], SOCK_STREAM);

        if (fd < 0)
            return -1;
        if (one(fd, seed)) {
            fail_errno("transfer %llu", (unsigned long long)i);
            close(fd);
            return -1;
        }
        close(fd);
    }
    return 0;
}

static int cmd_tcp_out(int argc, char **argv)
{
    (void)argc;
    return transfers(argv, stream_send);
}

static int cmd_tcp_in(int argc, char **argv)
{
    (void)argc;
    return transfers(argv, stream_receive);
}

static uint16_t checksum(const uint8_t *bytes, size_t len)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += (uint32_t)bytes[i] << (i % 2 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* Sends one echo request of `size` bytes of data and waits for its reply: 1, or 0 if none came. */
static int echo(int fd, const struct sockaddr_in *to, uint16_t sequence, size_t size)
{
    static uint8_t request[65536], reply[65536];
    struct icmphdr header = {.type = ICMP_ECHO};

    header.un.echo.id = htons(77);
    header.un.echo.sequence = htons(sequence);
    for (size_t i = 0; i < size; i++)
        request[sizeof(header) + i] = (uint8_t)(i * 7 + sequence);
    memcpy(request, &header, sizeof(header));
    header.checksum = checksum(request, sizeof(header) + size);
    memcpy(request, &header, sizeof(header));
    if (sendto(fd, request, sizeof(header) + size, 0, (const void *)to, sizeof(*to)) < 0)
        return 0;
    for (;;) {
        ssize_t n = recv(fd, reply, sizeof(reply), 0);
        size_t ip = n > 0 ? (size_t)(reply[0] & 15) * 4 : 0;

        if (n < 0)
            return 0;
        if ((size_t)n < ip + sizeof(header) || reply[ip] != ICMP_ECHOREPLY ||
            memcmp(reply + ip + 4, request + 4, 4) != 0)
            continue;
        return (size_t)n == ip + sizeof(header) + size &&
               memcmp(reply + ip + 8, request + 8, size) == 0;
    }
}

/* ping ADDRESS COUNT SIZE: answered=N */
static int cmd_ping(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct timeval patience = {.tv_sec = 1};
    uint64_t count, size;
    unsigned answered = 0;

    (void)argc;
    if (parse_number(argv[1], "count", &count) || parse_number(argv[2], "size", &size))
        return -1;
    if (inet_pton(AF_INET, argv[0], &to.sin_addr) != 1)
        return fail("'%s' is no address", argv[0]);
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    if (fd < 0 || size > 65000)
        return fail_errno("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    for (uint64_t i = 0; i < count; i++)
        answered += (unsigned)echo(fd, &to, (uint16_t)i, size);
    close(fd);
    printf("answered=%u\n", answered);
    return 0;
}

/* flood ADDRESS PORT COUNT SIZE: sent=N datagrams, each with its number first */
static int cmd_flood(int argc, char **argv)
{
    static uint8_t datagram[65507];
    uint64_t count, size, sent = 0;

    (void)argc;
    if (parse_number(argv[2], "count", &count) || parse_number(argv[3], "size", &size))
        return -1;
    if (size < sizeof(uint64_t) || size > sizeof(datagram))
        return fail("a datagram of %s bytes", argv[3]);
    int fd = open_socket(argv[0], argv[1], SOCK_DGRAM);
    if (fd < 0)
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        memcpy(datagram, &i, sizeof(i));
        sent += send(fd, datagram, size, 0) == (ssize_t)size;
    }
    close(fd);
    printf("sent=%llu\n", (unsigned long long)sent);
    return 0;
}

const struct command net_commands[] = {
    {"flood", 4, 4, cmd_flood, "ADDRESS PORT COUNT SIZE"},
    {"ping", 3, 3, cmd_ping, "ADDRESS COUNT SIZE"},
    {"tcp-in", 4, 4, cmd_tcp_in, "ADDRESS PORT SEED COUNT"},
    {"tcp-out", 4, 4, cmd_tcp_out, "ADDRESS PORT SEED COUNT"},
    {0},
};
