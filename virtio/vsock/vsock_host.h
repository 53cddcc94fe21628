/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_host.h owns the host's side: the listening socket and the words of its clients, connecting
 * to the host's listeners on behalf of the guest, and reading.
 *
 * A listener whose backlog is full refuses a Unix socket for the moment (EAGAIN). Such a connection
 * waits and is tried again, in order, every few milliseconds, for ten seconds at most: a burst of
 * connects is slow then, and does not fail.
 *
 * Loop thread, machine lock held; listening: before the loop runs too.
 */
#ifndef MAYFLY_VSOCK_HOST_H
#define MAYFLY_VSOCK_HOST_H

#include "virtio/vsock/vsock_conn.h"

/* A new listening socket on `path`, which must not exist; an empty one gets an abstract address.
 * The descriptor, or -errno with the end of a sentence. */
int vsock_host_listen(const char *path, struct err *e) __must_check;

/* Takes clients from now on. */
void vsock_host_start(struct vsock *vsock);

/* Reads a client's first line, "CONNECT <port>\n". 0 and the port; -EAGAIN while it is not
 * complete, -EINVAL when it never will be, -ECONNRESET when the client is gone. */
int vsock_host_read_wish(struct vsock_conn *conn, uint32_t *port) __must_check;

/* Connects to the listener for `port`: a socket, or -errno. Never waits. */
int vsock_host_connect(const struct vsock *vsock, uint32_t port) __must_check;

/* Tries the connection again later. */
void vsock_host_wait(struct vsock_conn *conn);

/* How many bytes a read will find, at least 1 and at most `most`; *all = that is all there are. */
uint32_t vsock_host_readable(const struct vsock_conn *conn, uint32_t most, bool *all);

/* readv of the bytes that a client has sent after its first line, without waiting. How many, 0 at
 * the end, -EAGAIN or another errno; *more = there may be more although there was room. */
ssize_t vsock_host_read(struct vsock_conn *conn, const struct iovec *iov, unsigned count,
                        bool *more) __must_check;

/* Timers of the host's side; for vsock_create. */
void vsock_host_init(struct vsock *vsock);

#endif
