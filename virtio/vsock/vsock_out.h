/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_out.h owns the way of a guest's bytes to the host: straight from guest memory into the
 * socket, and what the socket does not take, into a buffer that the ring sends when it can. The
 * buffer is as large as the credit that the guest is given, so it never overflows, and exists only
 * while there is something in it.
 *
 * A connection begins with 64 KiB, as clients of Firecracker know it. For a guest that streams that
 * is one packet at a time, and an interrupt each; so some connections may have 256 KiB, which is
 * what Linux gives its own.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_VSOCK_OUT_H
#define MAYFLY_VSOCK_OUT_H

#include "vmm/base/loop.h"

#define VSOCK_ROOM_SMALL (64 * KIB)
#define VSOCK_ROOM_LARGE (256 * KIB)

struct vsock_out {
    uint32_t room;       /* VSOCK_ROOM_*: buf_alloc of every packet */
    uint32_t start, len; /* where the oldest byte is, and how many there are */
    uint8_t *data;       /* `room` bytes, used as a ring; NULL = nothing is kept */
    struct op op;        /* `done` is the owner's: it calls vsock_out_sent */
    bool sending;        /* op is in the ring */
};

/* From VSOCK_ROOM_SMALL to _LARGE; false while something is kept. */
bool vsock_out_grow(struct vsock_out *out);

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
