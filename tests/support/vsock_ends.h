/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_ends.h owns both ends of a socket device under test: a guest's driver with its three
 * queues, over the fake loop, and a host in a directory of its own with real Unix sockets. No
 * kernel ring and no guest; what the ring would find out about a socket is found out by poll.
 */
#ifndef MAYFLY_TESTS_SUPPORT_VSOCK_ENDS_H
#define MAYFLY_TESTS_SUPPORT_VSOCK_ENDS_H

#include "tests/support/guest_driver.h"
#include "virtio/vsock/vsock.h"
#include "virtio/vsock/vsock_packet.h"

#define ENDS_CID      3u
#define ENDS_PORT     5000u /* of the guest, unless a test wants another */
#define ENDS_QUEUE    64
#define ENDS_RX_SIZE  4140u /* a receive buffer of Linux's driver */
#define ENDS_FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

struct vsock_ends {
    char dir[32], path[64]; /* the socket's */
    struct mem mem;
    struct loop *loop;
    struct vsock *vsock;
    struct virtio_dev *dev;
    struct guest_driver driver[3];
    uint64_t tx;                 /* GPA of a buffer for packets of the guest */
    uint64_t rx_gpa[ENDS_QUEUE]; /* by head: the buffer that was offered with it */
    uint32_t alloc, forwarded;   /* what packets of the guest say: buf_alloc, fwd_cnt */
};

/* Makes all of it and brings the driver up to DRIVER_OK, with `rx` receive buffers. A struct that
 * has been closed keeps its directory and its memory for the next time. */
void ends_open(struct vsock_ends *ends, unsigned rx);
void ends_close(struct vsock_ends *ends);
/* Removes these too, of one that is closed. */
void ends_remove(struct vsock_ends *ends);
/* The driver once more, after a reset. */
void ends_start(struct vsock_ends *ends, unsigned rx);

/* Turns of the loop until nothing moves: clients are accepted, sockets polled, sends carried out.
 */
void ends_run(struct vsock_ends *ends);

/* ---- the guest ---- */

void ends_offer(struct vsock_ends *ends, unsigned count);
/* Sends a packet between the ports, `len` bytes of payload; returns the head of its chain. */
void ends_send(struct vsock_ends *ends, enum vsock_op op, uint32_t host_port, uint32_t guest_port,
               uint32_t flags, const void *payload, uint32_t len);
/* The same with a header of the test's making. */
void ends_send_packet(struct vsock_ends *ends, const struct vsock_packet *packet,
                      const void *payload, uint32_t len);
/* Takes the next packet for the guest, and its payload into `payload`; false = none. The buffer is
 * not offered again. */
bool ends_take(struct vsock_ends *ends, struct vsock_packet *packet, void *payload, size_t room);

/* ---- the host ---- */

/* A client, connected to the socket; non-blocking. */
int ends_client(struct vsock_ends *ends);
/* A listener for connections of the guest to `port`. */
int ends_listener(struct vsock_ends *ends, uint32_t port, int backlog);

#endif
