/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_device.h owns the device's struct, shared by its files. */
#ifndef MAYFLY_VSOCK_DEVICE_H
#define MAYFLY_VSOCK_DEVICE_H

#include "virtio/vsock/vsock.h"
#include "virtio/vsock/vsock_conn.h"
#include "virtio/vsock/vsock_table.h"

enum vsock_queue { VSOCK_RX, VSOCK_TX, VSOCK_EVENTS, VSOCK_QUEUES };

/* How long the guest may take to answer, to a REQUEST or to a SHUTDOWN. */
#define VSOCK_ANSWER_NS (2 * NSEC_PER_SEC)

/* The saved part. */
struct vsock_state {
    uint64_t guest_cid;
    uint32_t last_port;    /* the last one given to a client of the host; 0 = none yet */
    uint16_t reset_owed;   /* 1 = a TRANSPORT_RESET waits for a buffer of the event queue */
    uint16_t reset_unseen; /* 1 = it has been put there, and the guest has not taken it yet */
    uint16_t reset_index;  /* of the event queue: what the guest's index was then */
    uint16_t pad[3];
};

/* A RST for a connection that is not, or no longer, in the table. */
struct vsock_reset {
    uint32_t host_port, guest_port;
    uint16_t type;
};

#define VSOCK_RESETS_MAX 1024

struct vsock {
    struct virtio_dev dev;
    struct vsock_state s;
    struct vsock_config config;
    struct vsock_table table;
    struct vsock_link ready;   /* connections with something for the guest, served in turn */
    struct vsock_link timed;   /* connections with a deadline, the earliest first */
    struct vsock_link waiting; /* connections of the guest that wait for the host's listener */
    struct vsock_link stalled; /* connections whose bytes the guest has no room for */
    struct loop_timer deadline, retry, stall, held;
    uint64_t retry_ns;
    unsigned streams;        /* connections with much room */
    uint32_t held_bytes;     /* of the guest's packets whose chains are held */
    uint16_t held_published; /* of the transmit queue: the used index when `held` was started */
    uint64_t held_since_ns;  /* 0 = not held */

    int listen_fd;
    struct op accept;
    bool accepting;
    bool started;
    struct deferred start;

    struct vsock_reset reset[VSOCK_RESETS_MAX]; /* a ring */
    unsigned reset_first, reset_count;
};

static inline struct vsock *to_vsock(struct virtio_dev *dev)
{
    return container_of(dev, struct vsock, dev);
}

/* Gives a connection VSOCK_ANSWER_NS; vsock_conn_expire is called then, unless it has left the list
 * of the timed. */
void vsock_time(struct vsock_conn *conn);

/* The same for a connection that is stalled; vsock_conn_ask_for_credit is called then. */
void vsock_time_stall(struct vsock_conn *conn);

/* Ends every connection without a word to the guest. */
void vsock_drop_all(struct vsock *vsock);

#endif
