/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_out.h owns the way of a guest's bytes to the host: straight from guest memory into the
 * socket, and what the socket does not take, into a buffer that the ring sends when it can. The
 * buffer is as large as the credit that the guest is given, so it never overflows, and exists only
 * while there is something in it.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_VSOCK_OUT_H
#define MAYFLY_VSOCK_OUT_H

#include "vmm/base/loop.h"

/* What the guest is told that a connection can take: buf_alloc of every packet. */
#define VSOCK_BUFFER_SIZE (64 * KIB)

struct vsock_out {
    uint8_t *data;       /* VSOCK_BUFFER_SIZE bytes, used as a ring; NULL = none */
    uint32_t start, len; /* where the oldest byte is, and how many there are */
    struct op op;        /* `done` is the owner's: it calls vsock_out_sent */
    bool sending;        /* op is in the ring */
};

/*
 * Sends the bytes of `iov` (`len` in all, at most what is free), or keeps them. Returns how many
 * the socket took at once; -EPIPE or another error of the socket, then nothing was kept; -ENOMEM.
 */
int vsock_out_write(struct vsock_out *out, struct loop *loop, int fd, const struct iovec *iov,
                    unsigned count, uint32_t len) __must_check;

/* What became of the operation, with its result: the bytes that it has sent now (the rest is on its
 * way), or a negative errno: then nothing is kept any more. */
int vsock_out_sent(struct vsock_out *out, struct loop *loop, int fd, int res) __must_check;

/* Forgets what is kept; the buffer stays while the ring has it. */
void vsock_out_drop(struct vsock_out *out);

#endif
