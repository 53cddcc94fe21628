/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_out.c: the way of a guest's bytes to the host. */
#include "virtio/vsock/vsock_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool vsock_out_grow(struct vsock_out *out)
{
    if (out->data)
        return false;
    out->room = VSOCK_ROOM_LARGE;
    return true;
}

/* Copies all but the first `skip` bytes to the end of the ring; there is room. */
static void keep(struct vsock_out *out, const struct iovec *iov, unsigned count, size_t skip)
{
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *from = iov[i].iov_base;
        size_t left = iov[i].iov_len, n = MIN(skip, left);

        skip -= n;
        from += n;
        left -= n;
        while (left > 0) {
            uint32_t end = (out->start + out->len) % out->room;

            n = MIN(left, out->room - end);
            memcpy(out->data + end, from, n);
            out->len += (uint32_t)n;
            from += n;
            left -= n;
        }
    }
}

/* Has the ring send what is kept, as far as it lies in one piece. */
static void send_kept(struct vsock_out *out, struct loop *loop, int fd)
{
    out->sending = true;
    loop_send(loop, &out->op, fd, out->data + out->start, MIN(out->len, out->room - out->start));
}

static ssize_t send_now(int fd, const struct iovec *iov, unsigned count)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};
    ssize_t n;

    do
        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    return n;
}

int vsock_out_write(struct vsock_out *out, struct loop *loop, int fd, const struct iovec *iov,
                    unsigned count, uint32_t len)
{
    ssize_t n = 0;

    if (out->len == 0 && !out->sending)
        n = send_now(fd, iov, count);
    if (n < 0 || n == len)
        return (int)n;
    BUG_ON(out->len + (len - n) > (ssize_t)out->room);
    if (!out->data) {
        out->data = malloc(out->room);
        if (!out->data)
            return -ENOMEM;
    }
    keep(out, iov, count, (size_t)n);
    if (!out->sending)
        send_kept(out, loop, fd);
    return (int)n;
}

int vsock_out_sent(struct vsock_out *out, struct loop *loop, int fd, int res)
{
    out->sending = false;
    if (res == -EINTR || res == -EAGAIN)
        res = 0;
    if (res < 0 || out->len == 0) {
        vsock_out_drop(out);
        return res;
    }
    res = MIN(res, (int)out->len);
    out->start = (out->start + (uint32_t)res) % out->room;
    out->len -= (uint32_t)res;
    if (out->len > 0)
        send_kept(out, loop, fd);
    else
        vsock_out_drop(out);
    return res;
}

void vsock_out_drop(struct vsock_out *out)
{
    out->start = out->len = 0;
    if (out->sending)
        return;
    free(out->data);
    out->data = NULL;
}
