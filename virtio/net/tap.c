/* SPDX-License-Identifier: Apache-2.0 */
/* tap.c: the host's tap by its ioctls. */
#include "virtio/net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_tun.h>
#include <sys/ioctl.h>

_Static_assert(TAP_OFFLOAD_CSUM == TUN_F_CSUM && TAP_OFFLOAD_TSO4 == TUN_F_TSO4 &&
                   TAP_OFFLOAD_TSO6 == TUN_F_TSO6 && TAP_OFFLOAD_UFO == TUN_F_UFO,
               "the kernel's own bits");

/* Takes the interface; its name is the request's, and what the host made of it in *tap. */
static int attach(struct tap *tap, const char *name, struct err *e)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    size_t len = strlen(name);

    if (len >= sizeof(request.ifr_name))
        return err_set(e, -EINVAL, "Open tap device failed: Invalid interface name");
    memcpy(request.ifr_name, name, len);
    /* A tap of several queues is refused by the host, for we do not ask for one of them. */
    if (ioctl(tap->fd, TUNSETIFF, &request) < 0)
        return err_set(e, -errno,
                       "Open tap device failed: Error while creating ifreq structure: %s. Invalid "
                       "TUN/TAP Backend provided by %s. Check our documentation on setting up the "
                       "network devices.",
                       err_os(-errno), name);
    memcpy(tap->name, request.ifr_name, sizeof(tap->name));
    return 0;
}

int tap_open(struct tap *tap, const char *name, struct err *e)
{
    int size = TAP_HEADER_SIZE, rc;

    *tap = (struct tap){.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)};
    if (tap->fd < 0)
        return err_set(e, -errno, "Open tap device failed: Couldn't open /dev/net/tun: %s",
                       err_os(-errno));
    rc = attach(tap, name, e);
    if (rc == 0 && ioctl(tap->fd, TUNSETVNETHDRSZ, &size) < 0)
        rc = err_set(e, -errno,
                     "Setting vnet header size failed: Error while setting size of the vnet "
                     "header: %s",
                     err_os(-errno));
    if (rc)
        tap_close(tap);
    return rc;
}

void tap_close(struct tap *tap)
{
    if (tap->fd >= 0)
        close(tap->fd);
    tap->fd = -1;
}

int tap_set_offloads(const struct tap *tap, unsigned offloads)
{
    /* Without checksums the kernel refuses the rest. */
    unsigned long flags = offloads & TAP_OFFLOAD_CSUM ? offloads : 0;

    return ioctl(tap->fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

int tap_read(const struct tap *tap, const struct iovec *iov, unsigned count)
{
    ssize_t n = readv(tap->fd, iov, (int)count);

    return n < 0 ? -errno : (int)n;
}

int tap_write(const struct tap *tap, const struct iovec *iov, unsigned count)
{
    ssize_t n = writev(tap->fd, iov, (int)count);

    return n < 0 ? -errno : (int)n;
}
