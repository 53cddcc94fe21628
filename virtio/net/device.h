/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.h owns the inside of the network device, which net.c, receive.c and transmit.c share.
 *
 *      receive.c    tap, MMDS -> chains of queue 0: taken ahead, filled by the host, given back
 *      transmit.c   chains of queue 1 -> tap, MMDS
 *      net.c        what the driver and the user see of it, limits, pause
 *
 * Loop thread, machine lock held, unless said otherwise.
 */
#ifndef MAYFLY_NET_DEVICE_H
#define MAYFLY_NET_DEVICE_H

#include "virtio/net/net.h"
#include "virtio/net/tap.h"

enum { NET_RX, NET_TX, NET_QUEUES };

/* Feature bits (virtio 1.3, section 5.1.3). */
#define NET_F_CSUM       (UINT64_C(1) << 0)
#define NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define NET_F_MTU        (UINT64_C(1) << 3)
#define NET_F_MAC        (UINT64_C(1) << 5)
#define NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define NET_F_GUEST_UFO  (UINT64_C(1) << 10)
#define NET_F_HOST_TSO4  (UINT64_C(1) << 11)
#define NET_F_HOST_TSO6  (UINT64_C(1) << 12)
#define NET_F_HOST_UFO   (UINT64_C(1) << 14)
#define NET_F_MRG_RXBUF  (UINT64_C(1) << 15)
#define NET_F_STATUS     (UINT64_C(1) << 16)

#define NET_S_LINK_UP 1

/* The saved part. The first members are the configuration space (virtio 1.3, section 5.1.4). */
struct net_state {
    uint8_t mac[NET_MAC_LEN]; /* as the driver last set it */
    uint16_t status;
    uint16_t max_queue_pairs;
    uint16_t mtu;
    uint32_t pad;
    struct rate_limiter rx_limiter, tx_limiter;
};
#define NET_CONFIG_SIZE 12
_Static_assert(offsetof(struct net_state, pad) == NET_CONFIG_SIZE, "as in the specification");

/* Buffers of one chain take at most this many entries, and so many chains are held at most. */
#define NET_CHAIN_SEGMENTS_MAX VIRTQUEUE_SIZE_MAX
#define NET_RX_CHAINS_MAX      VIRTQUEUE_SIZE_DEFAULT
#define NET_RX_SEGMENTS_MAX    (NET_CHAIN_SEGMENTS_MAX + VIRTQUEUE_SIZE_DEFAULT)

/* A frame that a tap gives is not longer, header included, even with a VLAN tag. */
#define NET_RX_FRAME_MAX (68 * KIB)

struct net_rx_chain {
    uint16_t head, segments;
    uint32_t len;
};

/* See receive.c. */
struct net_rx {
    struct op op;
    bool reading;  /* the ring has a read of the tap: `iov` is its own */
    bool stopping; /* and it has been asked to end */
    bool found;    /* the last look for a frame found one */
    bool burst;    /* so did the looks behind the last frame that was waited for */
    bool large;    /* the next frame may be a large one: offer room for it */
    uint16_t small_frames, lone_frames;
    uint32_t bytes; /* of the chains held */
    uint32_t
        complete;  /* length of a frame that lies in the chains held, not given back yet; or 0 */
    uint32_t kept; /* length of a frame that lies in `spill`, until there are chains; or 0 */
    unsigned first_chain, chains;
    unsigned first_segment, segments;
    struct net_rx_chain chain[NET_RX_CHAINS_MAX];
    struct iovec iov[NET_RX_SEGMENTS_MAX + 1]; /* one more for the spill */
    struct loop_timer retry;                   /* armed while the limiter or the host says wait */
    uint8_t spill[NET_RX_FRAME_MAX]; /* what of a frame has no room in the chains; or all of it */
};

/* A frame that the ring writes. As many segments as Linux makes of one. */
#define NET_TX_SEGMENTS_MAX 20
#define NET_TX_SLOTS        64
struct net_tx_slot {
    struct op op;
    struct net *net;
    uint16_t head;
    uint32_t len;
    struct iovec iov[NET_TX_SEGMENTS_MAX];
};

/* See transmit.c. */
struct net_tx {
    struct net_tx_slot slot[NET_TX_SLOTS];
    uint64_t free;           /* a bit a slot */
    unsigned queued;         /* writes given to the ring in this turn */
    uint64_t turn_bytes;     /* sent in this turn */
    uint64_t clock_ns;       /* as last read */
    struct loop_timer retry; /* armed while the limiter holds a frame back */

    /* Whether the guest sends a stream; see transmit.c. */
    bool streaming;
    unsigned stream_kicks;    /* that make a stream */
    unsigned kicks;           /* one soon after the other, with nothing received between */
    uint64_t served_ns;       /* when the last of them was served */
    uint64_t received;        /* frames received until then */
    struct loop_timer linger; /* armed while frames of a stream gather */
};

struct net {
    struct virtio_dev dev;
    struct net_state s;
    struct net_config config;
    struct tap tap;
    bool tap_gone;
    bool quiet; /* between quiesce and resume */
    struct mmds_endpoint *mmds;
    bool mmds_quiet;
    struct metrics_net metrics;
    struct net_rx rx;
    struct net_tx tx;
};

/*
 * Whether `limiter` lets a frame of that many bytes pass; if not, it has started `retry`, whose end
 * asks again.
 */
bool net_allowed(struct net *net, struct rate_limiter *limiter, struct loop_timer *retry,
                 uint32_t bytes, uint64_t *throttled);

/* The tap answers that it is no more: the link is down from now on. */
void net_tap_is_gone(struct net *net);

/* ---- receive.c ------------------------------------------------------------------------------- */

void net_rx_init(struct net_rx *rx);

/* Forgets what was kept for a driver that is no more. Any thread; no chain is held. */
void net_rx_forget(struct net *net);

/* Delivers what there is and what may be delivered, then leaves a read in the ring. */
void net_rx_pump(struct net *net);

/* The endpoint has frames: takes them before the tap's next one. */
void net_rx_mmds_ready(struct net *net);

/* Gives every chain back that holds no frame, now or when the ring has given up its read. */
void net_rx_quiesce(struct net *net);

/* ---- transmit.c ------------------------------------------------------------------------------ */

void net_tx_init(struct net *net);
void net_tx_kick(struct net *net);

#endif
