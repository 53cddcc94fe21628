/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_user_ring.h owns what the two halves of a vhost-user drive share: the device's struct, and
 * the life of its queue at the back end. vhost_user_blk.c is the device, its creation and its
 * updates. Private to the block device.
 *
 *      STOPPED -- hand_over, resume --> RUNNING -- stop --> EMPTYING
 *         ^                                                    | what is available has been used,
 *         |                                                    | or it took too long
 *         |                                                 STOPPING: asked for the ring's base
 *         | what was taken has been used,                      |
 *         +--------------------- or it took too long -- DRAINING: it takes no more
 *
 * From everywhere the loss of the back end leads to STOPPED. What is below RUNNING here is one
 * pending operation of the device, so whoever quiesces it waits for that.
 *
 * Under the machine lock; on the loop thread unless said otherwise.
 */
#ifndef MAYFLY_BLOCK_VHOST_USER_RING_H
#define MAYFLY_BLOCK_VHOST_USER_RING_H

#include "virtio/block/blk_io.h"
#include "virtio/block/vhost_user.h"
#include "virtio/block/vhost_user_blk.h"

enum ring {
    RING_STOPPED,
    RING_RUNNING,
    RING_EMPTYING,
    RING_STOPPING,
    RING_DRAINING,
};

struct vhost_user_blk {
    struct virtio_dev dev;
    struct vhost_user_blk_config config;
    struct metrics_vhost_user_block metrics;
    struct vhost_user conn;
    uint64_t offered; /* by the back end */
    struct blk_config_space space;

    enum ring ring;
    bool restart;      /* resumed before it had stopped: start it again then */
    uint16_t base;     /* while draining: where the ring stopped */
    uint64_t empty_by; /* while emptying or draining: ns, until when we wait */
    struct op conn_op;
    bool listening; /* conn_op is armed */
    struct deferred listen;
    struct loop_timer timer;
    uint64_t timer_until; /* ns */
    struct vhost_user_call stop_call, config_call;

    struct op kick_op;
    bool kicking, kick_again;
    struct iovec kick_iov;
    uint64_t one;
};

/* Prepares the part of the struct that is about the ring. */
void vhost_user_ring_init(struct vhost_user_blk *blk);

/*
 * Gives the back end the agreed features, guest memory and the queue. Only sends: what the back end
 * makes of it, it shows later, by leaving if it does not like it. Any thread. On error (-errno) the
 * back end is lost.
 */
int vhost_user_ring_hand_over(struct vhost_user_blk *blk) __must_check;

/* Asks the back end to stop; the device has a pending operation until it has. Nothing happens to a
 * ring that does not run. */
void vhost_user_ring_stop(struct vhost_user_blk *blk);

/* Starts it again from where it stopped, or as soon as it has stopped. */
void vhost_user_ring_resume(struct vhost_user_blk *blk);

/* Signals the back end that there may be requests. */
void vhost_user_ring_kick(struct vhost_user_blk *blk);

/* Begins to listen to the back end, once and for good: resets and pauses go on listening. */
void vhost_user_ring_listen(struct vhost_user_blk *blk);

/* Sees to it that something happens when a question is not answered in time. */
void vhost_user_ring_watch(struct vhost_user_blk *blk);

/* The back end is gone, or not to be trusted any more, for the reason rc, which is returned. Any
 * thread. */
int vhost_user_ring_lose(struct vhost_user_blk *blk, int rc);

#endif
