/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_queues.h owns the packets on the rings: what the guest sends is taken apart and goes to its
 * connection, or is answered with RST; what is owed to the guest, and the host's bytes, go into the
 * guest's receive buffers, many of them filled by one system call.
 *
 * Sending never waits for receiving: a guest may refuse to receive until its replies are taken.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_VSOCK_QUEUES_H
#define MAYFLY_VSOCK_QUEUES_H

#include "virtio/vsock/vsock_packet.h"

struct vsock;

/* Bodies of the kicks. */
void vsock_queues_transmit(struct vsock *vsock);
/* Gives the guest what there is for it, as far as it has buffers. Harmless at any time. */
void vsock_queues_deliver(struct vsock *vsock);

/* Has the guest told that there is no (more) connection between these ports. One too many is
 * dropped: whoever uses such a connection again gets another. */
void vsock_queues_reset(struct vsock *vsock, uint32_t host_port, uint32_t guest_port,
                        uint16_t type);

#endif
