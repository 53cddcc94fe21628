/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.h owns the virtio-mmio version 2 transport (virtio 1.3, section 4.2): one 4 KiB window and
 * one interrupt line a device. QueueNotify is an ioeventfd a queue, matched on the queue's number,
 * so a kick costs no exit to user space; it is polled on the loop and its counter never read.
 */
#ifndef MAYFLY_VIRTIO_MMIO_H
#define MAYFLY_VIRTIO_MMIO_H

#include "virtio/virtio.h"
#include "vmm/base/bus.h"
#include "vmm/base/irq.h"

#define VIRTIO_MMIO_WINDOW UINT64_C(0x1000)

struct virtio_mmio;

/*
 * Puts `dev` (not owned) behind the window at `base` with interrupt `line` (not owned, already an
 * irqfd). `ioeventfd` connects a queue's eventfd to (base + 0x50, queue); it is a hook so that the
 * transport can be tested without KVM.
 */
struct virtio_mmio_place {
    gpa_t base;
    const struct irq_line *line;
    int (*ioeventfd)(void *owner, int fd, gpa_t addr, uint32_t value, bool assign, struct err *e);
    void *owner;
};
int virtio_mmio_create(struct virtio_mmio **mmio, const struct virtio_env *env,
                       struct virtio_dev *dev, const struct virtio_mmio_place *place,
                       struct bus *bus, struct err *e) __must_check;
void virtio_mmio_destroy(struct virtio_mmio *mmio);

#endif
