/* SPDX-License-Identifier: Apache-2.0 */
/* tap.c: see tap.h. */
#include "tests/support/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int make(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), rc = 0;

    if (fd < 0)
        return -errno;
    strncpy(request.ifr_name, name, sizeof(request.ifr_name) - 1);
    if (ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETPERSIST, 1))
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
    int rc = make(name), fd;

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

/* As `ip link del` does it, for a tap that is in use cannot be taken back by its own ioctls. */
int tap_remove(const char *name)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg info;
    } request = {
        .head = {.nlmsg_len = sizeof(request),
                 .nlmsg_type = RTM_DELLINK,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .info = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)},
    };
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        char more[256];
    } answer;
    int fd, rc = 0;

    if (request.info.ifi_index == 0)
        return -errno;
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || send(fd, &request, sizeof(request), 0) < 0 ||
        recv(fd, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer.head))
        rc = -errno;
    else if (answer.head.nlmsg_type == NLMSG_ERROR)
        rc = answer.error.error;
    if (fd >= 0)
        close(fd);
    return rc;
}
