/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.h owns the virtio socket device (virtio 1.3, section 5.10) in the hybrid form that clients
 * of Firecracker know: the guest's AF_VSOCK on one side, AF_UNIX sockets of the host on the other.
 *
 * Host to guest: connect to `uds_path`, send "CONNECT <port>\n", read "OK <host port>\n". Guest to
 * host: a connect to CID 2, port P, arrives at the listener on `<uds_path>_<P>`.
 */
#ifndef MAYFLY_VSOCK_VSOCK_H
#define MAYFLY_VSOCK_VSOCK_H

#include "virtio/virtio.h"

/* What a user says of the device; strings belong to whoever holds the struct. */
struct vsock_config {
    char *id;           /* deprecated; NULL = none */
    uint32_t guest_cid; /* any value is accepted, as in Firecracker */
    char *uds_path;
};

struct vsock;

/* The device's saved struct, for the test that walks them all. */
extern const struct state_desc vsock_state_desc;

/*
 * Makes the device and listens on uds_path, which must not exist yet. The config is copied. Errors
 * are those of socket, bind and listen, in Firecracker's words.
 */
int vsock_create(struct vsock **out, const struct virtio_env *env,
                 const struct vsock_config *config, struct err *e) __must_check;

struct virtio_dev *vsock_dev(struct vsock *vsock);
const struct vsock_config *vsock_config(const struct vsock *vsock);

/*
 * For a snapshot: every connection is lost, and the guest is told so by a TRANSPORT_RESET event as
 * soon as it runs; nothing else is sent to it until it has taken the event. Its listening sockets
 * stay. Any time on the loop thread; the device may be held.
 */
void vsock_reset_connections(struct vsock *vsock);

#endif
