/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.h owns the virtio-mmio version 2 transport (virtio 1.3, section 4.2): one 4 KiB window and
 * one interrupt line a device. QueueNotify is an ioeventfd a queue, matched on the queue's number,
 * so a kick costs no exit to user space; it is polled on the loop and its counter never read.
 *
 * Registers are 32 bits wide and aligned; any other access to them reads as 0 or is ignored. The
 * configuration space takes every width. Queue reset and shared memory are not offered.
 */
#ifndef MAYFLY_VIRTIO_MMIO_H
#define MAYFLY_VIRTIO_MMIO_H

#include "virtio/virtio.h"
#include "vmm/base/bus.h"
#include "vmm/base/irq.h"

#define VIRTIO_MMIO_WINDOW UINT64_C(0x1000)

struct virtio_mmio;

/*
 * Where a device is: its window, its interrupt line (not owned), and what KVM does for it. The
 * hooks exist so that the transport can be tested without KVM; each may be NULL, and everything
 * then comes through the bus handler.
 */
struct virtio_mmio_place {
    gpa_t base;
    const struct irq_line *line;
    /*
     * The window as the guest reads it, one page: when it is given, reads cost no exit and we keep
     * it up to date; writes come as ever.
     */
    uint8_t *page;
    /* A write of `value` to `addr` signals `fd`. */
    int (*ioeventfd)(void *owner, int fd, gpa_t addr, uint32_t value, bool assign, struct err *e);
    /* A signal of `fd` is an interrupt of the line, without us. */
    int (*irqfd)(void *owner, int fd, uint32_t gsi, struct err *e);
    /* Writes to `addr` may be handed to us late, ... */
    int (*post_writes)(void *owner, gpa_t addr, struct err *e);
    /* ... but before this returns. */
    void (*flush_posted)(void *owner);
    void *owner;
};

/*
 * Puts `dev` (not owned) behind the window, on the bus (which keeps a pointer to the result for
 * good). Makes and connects one eventfd a queue; nothing is started on the loop before the driver
 * activates the device.
 */
int virtio_mmio_create(struct virtio_mmio **out, const struct virtio_env *env,
                       struct virtio_dev *dev, const struct virtio_mmio_place *place,
                       struct bus *bus, struct err *e) __must_check;

/*
 * Before the device's own destroy. NULL is accepted. The bus and the loop must not be used any more
 * (or, after a failed start, must never have run the machine): ioeventfds end with the VM, polls
 * with the ring.
 */
void virtio_mmio_destroy(struct virtio_mmio *mmio);

/* The transport's registers (virtio_mmio_state_desc), for saving and loading in place. */
extern const struct state_desc virtio_mmio_state_desc;
void *virtio_mmio_saved(struct virtio_mmio *mmio);

/* After they and the device's have been loaded: virtio_dev_restore, and the registers as the guest
 * reads them. */
int virtio_mmio_restore(struct virtio_mmio *mmio, struct err *e) __must_check;

#endif
