/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostcost TAP FILE: what the system calls beneath a device cost this host, by one thread without a
 * guest: the floor of the tiny guest's data paths. Prints microseconds:
 *
 *     COST disk read 4 KiB 0.412
 *
 * TAP must be up and in nobody's hands, FILE in the page cache.
 */

#include "guest/bench/wire.h"

#include <err.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define KIB 1024UL
#define MIB (1024 * KIB)

static char buffer[MIB];

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void report(const char *what, double begin, unsigned int count)
{
    printf("COST %s %.3f\n", what, (now_us() - begin) / count);
}

/* ---- disk ------------------------------------------------------------------------------------ */

static void disk(const char *path)
{
    static const struct {
        const char *what;
        size_t len;
        unsigned int count;
        int writes;
    } parts[] = {
        {"disk read 4 KiB", 4 * KIB, 20000, 0},
        {"disk write 4 KiB", 4 * KIB, 20000, 1},
        {"disk read 1 MiB", MIB, 200, 0},
        {"disk write 1 MiB", MIB, 200, 1},
    };
    int fd = open(path, O_RDWR);
    struct stat s;

    if (fd < 0 || fstat(fd, &s) || s.st_size < (off_t)(2 * MIB))
        err(1, "%s", path);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        double begin = now_us();

        for (unsigned int n = 0; n < parts[i].count; n++) {
            off_t at = (off_t)(n * 2654435761UL * parts[i].len) %
                       (s.st_size / (off_t)parts[i].len) * (off_t)parts[i].len;
            struct iovec iov = {buffer, parts[i].len};
            ssize_t done =
                parts[i].writes ? pwritev(fd, &iov, 1, at) : preadv2(fd, &iov, 1, at, RWF_NOWAIT);

            if (done < 0 && preadv(fd, &iov, 1, at) < 0)
                err(1, "%s", path);
        }
        report(parts[i].what, begin, parts[i].count);
    }
    close(fd);
}

/* ---- tap ------------------------------------------------------------------------------------- */

static void tap(const char *name)
{
    static const struct wire_frame plain = {
        .to = WIRE_PEER_MAC, .from = WIRE_GUEST_MAC, .type = WIRE_IGNORED};
    static const struct {
        const char *what;
        size_t len;
    } parts[] = {{"frame out 64 B", 64}, {"frame out 1500 B", 1514}};
    static struct virtio_net_hdr_mrg_rxbuf header;
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK), size = sizeof(header);

    if (strlen(name) >= sizeof(request.ifr_name))
        errx(1, "%s is too long", name);
    strcpy(request.ifr_name, name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETVNETHDRSZ, &size))
        err(1, "%s", name);
    memcpy(buffer, &plain, sizeof(plain));
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        struct iovec iov[] = {{&header, sizeof(header)}, {buffer, parts[i].len}};
        double begin = now_us();

        for (unsigned int n = 0; n < 100000; n++) {
            if (writev(fd, iov, 2) < 0)
                err(1, "%s", name);
        }
        report(parts[i].what, begin, 100000);
    }
    close(fd);
}

/* ---- sockets --------------------------------------------------------------------------------- */

/* A byte to another process and back, as the guest's would go. */
static void sockets(void)
{
    int pair[2];
    char byte = 0;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        err(1, "socketpair");
    pid_t child = fork();
    if (child == 0) {
        close(pair[0]);
        while (read(pair[1], &byte, 1) == 1) {
            if (write(pair[1], &byte, 1) != 1)
                break;
        }
        _exit(0);
    }
    close(pair[1]);
    double begin = now_us();
    for (unsigned int n = 0; n < 20000; n++) {
        if (write(pair[0], &byte, 1) != 1 || read(pair[0], &byte, 1) != 1)
            err(1, "the child");
    }
    report("socket round trip 1 B", begin, 20000);
    close(pair[0]);
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "Usage: hostcost TAP FILE\n");
        return 2;
    }
    disk(argv[2]);
    tap(argv[1]);
    sockets();
    return 0;
}
