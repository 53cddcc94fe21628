/* SPDX-License-Identifier: Apache-2.0 */
/* tap.c: see tap.h. */
#include "tests/support/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int persist(const char *name, bool stays)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), rc = 0;

    if (fd < 0)
        return -errno;
    strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    if (ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETPERSIST, stays ? 1 : 0))
        rc = -errno;
    close(fd);
    return rc;
}

static int set_address(int fd, struct ifreq *request, unsigned long what, const char *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    inet_pton(AF_INET, address, &in.sin_addr);
    memcpy(&request->ifr_addr, &in, sizeof(in));
    return ioctl(fd, what, request) ? -errno : 0;
}

int tap_make(const char *name, const char *address)
{
    struct ifreq request = {0};
    int rc = persist(name, true), fd;

    if (rc)
        return rc;
    strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    rc = set_address(fd, &request, SIOCSIFADDR, address);
    if (rc == 0)
        rc = set_address(fd, &request, SIOCSIFNETMASK, "255.255.255.0");
    request.ifr_flags = IFF_UP;
    if (rc == 0 && ioctl(fd, SIOCSIFFLAGS, &request))
        rc = -errno;
    close(fd);
    return rc;
}

int tap_remove(const char *name)
{
    return persist(name, false);
}
