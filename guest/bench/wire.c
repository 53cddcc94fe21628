/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of the tiny guest's network and socket benchmarks, on the host. Runs until killed.
 *
 *     wire tap IFACE     answers and floods frames on a tap that a monitor has open
 *     wire vsock PATH    listens where the monitor connects for the guest: UDS_PATH_1024
 *     wire tsc           prints the frequency of the TSC in kHz
 */

#include "guest/bench/wire.h"

#include <arpa/inet.h>
#include <err.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

/* ---- the frequency --------------------------------------------------------------------------- */

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int tsc(void)
{
    double begin = now_ms();
    unsigned long long cycles = __rdtsc();

    while (now_ms() - begin < 200)
        ;
    cycles = __rdtsc() - cycles;
    printf("%.0f\n", (double)cycles / (now_ms() - begin));
    return 0;
}

/* ---- frames ---------------------------------------------------------------------------------- */

#define BATCH       32
#define FRAME_MAX   65536
#define FRAME_PLAIN 1514 /* a longer one is a TCP segment for the guest to take whole */

struct frame {
    struct virtio_net_hdr header;
    uint8_t bytes[FRAME_MAX];
};

static int open_tap(const char *name, struct sockaddr_ll *ip)
{
    struct sockaddr_ll at = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(WIRE_TYPE),
        .sll_ifindex = (int)if_nametoindex(name),
    };
    int one = 1, fd = socket(AF_PACKET, SOCK_RAW, htons(WIRE_TYPE));

    if (!at.sll_ifindex)
        err(1, "%s", name);
    if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
        setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) ||
        bind(fd, (struct sockaddr *)&at, sizeof(at)))
        err(1, "a packet socket on %s", name);
    *ip = at;
    ip->sll_protocol = htons(ETH_P_IP);
    return fd;
}

/* A frame of `size` bytes for the guest. */
static size_t make_frame(struct frame *frame, uint32_t size)
{
    static const struct wire_frame plain = {
        .to = WIRE_GUEST_MAC, .from = WIRE_PEER_MAC, .type = WIRE_IGNORED};
    static const uint8_t ip[] = {0x45, 0, 0,  0, 0, 0, 0x40, 0, 64, 6,
                                 0,    0, 10, 0, 0, 9, 10,   0, 0,  2};
    uint8_t *bytes = frame->bytes;

    memset(frame, 0, sizeof(*frame));
    memcpy(bytes, &plain, sizeof(plain));
    if (size <= FRAME_PLAIN)
        return sizeof(frame->header) + size;
    frame->header = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = 54,
        .gso_size = 1448,
        .csum_start = 34,
        .csum_offset = 16,
    };
    bytes[12] = 0x08;
    bytes[13] = 0x00;
    memcpy(bytes + 14, ip, sizeof(ip));
    bytes[16] = (uint8_t)((size - 14) >> 8);
    bytes[17] = (uint8_t)(size - 14);
    bytes[46] = 0x50;
    bytes[47] = 0x10;
    return sizeof(frame->header) + size;
}

static int told_to_stop(int fd)
{
    static struct frame got;
    const struct wire_frame *frame = (const struct wire_frame *)(const void *)got.bytes;

    return recv(fd, &got, sizeof(got), MSG_DONTWAIT) > 0 && frame->what == WIRE_STOP;
}

/* `ip` says that a frame is one, without which the kernel would not leave a segment whole. */
static void flood(int fd, uint32_t size, struct sockaddr_ll *ip)
{
    static struct frame frame;
    struct iovec iov = {&frame, make_frame(&frame, size < FRAME_MAX ? size : FRAME_MAX)};
    struct mmsghdr batch[BATCH] = {0};

    for (int i = 0; i < BATCH; i++)
        batch[i].msg_hdr = (struct msghdr){
            .msg_name = size > FRAME_PLAIN ? ip : NULL,
            .msg_namelen = size > FRAME_PLAIN ? sizeof(*ip) : 0,
            .msg_iov = &iov,
            .msg_iovlen = 1,
        };
    do {
        /* Frames that the tap's queue has no room for are refused; the guest counts what comes. */
        sendmmsg(fd, batch, BATCH, 0);
    } while (!told_to_stop(fd));
}

__attribute__((noreturn)) static void serve_tap(const char *name)
{
    static struct frame got;
    const struct wire_frame *frame = (const struct wire_frame *)(const void *)got.bytes;
    struct sockaddr_ll ip;
    int fd = open_tap(name, &ip);

    for (;;) {
        ssize_t n = recv(fd, &got, sizeof(got), 0);

        if (n < (ssize_t)(sizeof(got.header) + sizeof(*frame)))
            continue;
        if (frame->what == WIRE_ECHO)
            send(fd, &got, (size_t)n, 0);
        else if (frame->what == WIRE_FLOOD)
            flood(fd, frame->size, &ip);
    }
}

/* ---- sockets --------------------------------------------------------------------------------- */

static char buffer[256 * 1024];

static void echo(int fd)
{
    ssize_t n;

    while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
        if (write(fd, buffer, (size_t)n) < 0)
            return;
    }
}

static void sink(int fd)
{
    ssize_t n;

    for (uint64_t got = 1; got < WIRE_SINK_LEN; got += (uint64_t)n) {
        n = read(fd, buffer, sizeof(buffer));
        if (n <= 0)
            return;
    }
    if (write(fd, "k", 1) == 1)
        echo(fd); /* until the guest has gone */
}

static void source(int fd)
{
    while (send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) > 0)
        ;
}

__attribute__((noreturn)) static void serve_sockets(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);

    if (strlen(path) >= sizeof(at.sun_path))
        errx(1, "%s is too long", path);
    strcpy(at.sun_path, path);
    unlink(path);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 64))
        err(1, "%s", path);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        char what;

        if (fd < 0)
            err(1, "accept");
        if (read(fd, &what, 1) == 1)
            (what == WIRE_SOCKET_ECHO ? echo : what == WIRE_SINK ? sink : source)(fd);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "tsc") == 0)
        return tsc();
    if (argc == 3 && strcmp(argv[1], "tap") == 0)
        serve_tap(argv[2]);
    if (argc == 3 && strcmp(argv[1], "vsock") == 0)
        serve_sockets(argv[2]);
    fprintf(stderr, "Usage: wire tap IFACE | wire vsock PATH | wire tsc\n");
    return 2;
}
