/* SPDX-License-Identifier: Apache-2.0 */
/* fake_tap.c: a tap over a pair of sockets. */
#include "tests/support/fake_tap.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>

static struct {
    int host_fd;
    unsigned offloads, offload_calls;
    int error;
} fake;

bool fake_tap_send(const void *frame, size_t len)
{
    return send(fake.host_fd, frame, len, MSG_DONTWAIT) == (ssize_t)len;
}

int fake_tap_receive(void *frame, size_t room)
{
    return (int)recv(fake.host_fd, frame, room, MSG_DONTWAIT);
}

unsigned fake_tap_offloads(void)
{
    return fake.offloads;
}

unsigned fake_tap_offload_calls(void)
{
    return fake.offload_calls;
}

void fake_tap_fail(int error)
{
    fake.error = error;
}

int tap_open(struct tap *tap, const char *name, struct err *e)
{
    int ends[2], size = 1 << 20;

    *tap = (struct tap){.fd = -1};
    if (strcmp(name, "missing") == 0)
        return err_set(e, -ENODEV, "Open tap device failed: there is none");
    BUG_ON(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0);
    for (int i = 0; i < 2; i++)
        BUG_ON(setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0);
    memset(&fake, 0, sizeof(fake));
    fake.host_fd = ends[1];
    tap->fd = ends[0];
    strcpy(tap->name, "fake");
    return 0;
}

void tap_close(struct tap *tap)
{
    if (tap->fd < 0)
        return;
    close(tap->fd);
    close(fake.host_fd);
    tap->fd = -1;
}

int tap_set_offloads(const struct tap *tap, unsigned offloads)
{
    (void)tap;
    fake.offloads = offloads;
    fake.offload_calls++;
    return fake.error;
}

int tap_read(const struct tap *tap, const struct iovec *iov, unsigned count)
{
    ssize_t n;

    if (fake.error)
        return fake.error;
    n = readv(tap->fd, iov, (int)count);
    return n < 0 ? -errno : (int)n;
}

int tap_write(const struct tap *tap, const struct iovec *iov, unsigned count)
{
    ssize_t n;

    if (fake.error)
        return fake.error;
    n = writev(tap->fd, iov, (int)count);
    return n < 0 ? -errno : (int)n;
}
