/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio.h owns what every virtio device is: negotiation, the status machine, queue set-up, reset,
 * quiesce and DEVICE_NEEDS_RESET (virtio 1.3, sections 2.1 to 2.7 and 3.1), between a transport
 * above and a device below.
 *
 *      transport (mmio.c)     registers, ioeventfd, irqfd
 *        | virtio_dev_* calls                              ^ notify_queue, notify_config
 *      generic (virtio.c)     every rule, once
 *        | the hooks of struct virtio_dev_ops              ^ virtio_dev_needs_reset,
 * op_begin/op_end device (blk.c, rng.c)  what a request means
 *
 * What a device may rely on: activate comes only after FEATURES_OK with a subset of what it offered
 * and with queues whose rings lie wholly in RAM; kick comes only for a ready queue between activate
 * and quiesce, on the loop thread, under the machine lock. What it owes: count every pending
 * operation with virtio_dev_op_begin/_end, keep no pointer into guest memory outside a pending
 * request, and report the guest's mistakes with virtio_dev_needs_reset.
 *
 * Reset is synchronous, because Linux's driver writes 0 to Status and reuses the memory at once:
 * the writer waits, on the machine lock's condition, until nothing is in flight.
 */
#ifndef MAYFLY_VIRTIO_VIRTIO_H
#define MAYFLY_VIRTIO_VIRTIO_H

#include "virtio/virtqueue.h"
#include "vmm/base/loop.h"
#include "vmm/base/mem.h"
#include "vmm/base/state.h"

#define VIRTIO_QUEUES_MAX 8

/* What a device lives in; outlives it. */
struct virtio_env {
    struct mem *mem;
    struct loop *loop;
};

struct virtio_dev;

struct virtio_dev_ops {
    const char *name;   /* "virtio-blk" */
    uint32_t device_id; /* virtio 1.3, section 5 */
    uint16_t n_queues, queue_size_max;
    const struct state_desc *state; /* the device's own saved struct; NULL = none */

    /* Offered, beyond VERSION_1 and the ring features that the generic layer adds. */
    uint64_t (*features)(const struct virtio_dev *dev);
    /* The device's configuration space, read in place; NULL = none. */
    const void *(*config)(const struct virtio_dev *dev, size_t *len);
    /* DRIVER_OK: queues are mapped, features final. A failure becomes DEVICE_NEEDS_RESET. */
    int (*activate)(struct virtio_dev *dev);
    /* Buffers may have become available in queue q. */
    void (*kick)(struct virtio_dev *dev, unsigned q);
    /* Start nothing new; cancel what could wait for ever. The generic layer waits for the count to
     * be 0. */
    void (*quiesce)(struct virtio_dev *dev);
    /* After a quiesce that was not a reset (pause): go on; every ready queue is kicked afterwards.
     */
    void (*resume)(struct virtio_dev *dev);
    /* The device's saved struct (of ops->state), filled in / taken over. NULL with state == NULL.
     */
    void *(*saved)(struct virtio_dev *dev);
    void (*destroy)(struct virtio_dev *dev);
};

/*
 * The rest of this header (struct virtio_dev, struct virtio_transport_ops, the calls of transports,
 * devices and the machine) is below.
 */

#endif
