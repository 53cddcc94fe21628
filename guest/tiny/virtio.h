/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A polling virtio driver over virtio-mmio (Virtio 1.2, sections 2.7 and 4.2.2), as small as one
 * can be and still be right: at most three queues of 256 descriptors, no interrupts.
 */
#ifndef MAYFLY_GUEST_TINY_VIRTIO_H
#define MAYFLY_GUEST_TINY_VIRTIO_H

#include <stdint.h>

enum virtio_mmio_register {
    MMIO_MAGIC = 0x000,
    MMIO_VERSION = 0x004,
    MMIO_DEVICE_ID = 0x008,
    MMIO_DEVICE_FEATURES = 0x010,
    MMIO_DEVICE_FEATURES_SEL = 0x014,
    MMIO_DRIVER_FEATURES = 0x020,
    MMIO_DRIVER_FEATURES_SEL = 0x024,
    MMIO_QUEUE_SEL = 0x030,
    MMIO_QUEUE_NUM_MAX = 0x034,
    MMIO_QUEUE_NUM = 0x038,
    MMIO_QUEUE_READY = 0x044,
    MMIO_QUEUE_NOTIFY = 0x050,
    MMIO_INTERRUPT_STATUS = 0x060,
    MMIO_INTERRUPT_ACK = 0x064,
    MMIO_STATUS = 0x070,
    MMIO_QUEUE_DESC = 0x080,
    MMIO_QUEUE_DRIVER = 0x090,
    MMIO_QUEUE_DEVICE = 0x0a0,
    MMIO_CONFIG = 0x100,
};

#define MMIO_MAGIC_VALUE 0x74726976 /* "virt" */

enum virtio_status {
    STATUS_ACKNOWLEDGE = 1,
    STATUS_DRIVER = 2,
    STATUS_DRIVER_OK = 4,
    STATUS_FEATURES_OK = 8,
    STATUS_NEEDS_RESET = 64,
    STATUS_FAILED = 128,
};

#define FEATURE_INDIRECT  (1UL << 28)
#define FEATURE_EVENT_IDX (1UL << 29)
#define FEATURE_VERSION_1 (1UL << 32)

enum virtio_device_id {
    DEVICE_NET = 1,
    DEVICE_BLK = 2,
    DEVICE_RNG = 4,
    DEVICE_BALLOON = 5,
    DEVICE_VSOCK = 19,
    DEVICE_MEM = 24,
    DEVICE_PMEM = 27,
};

enum descriptor_flag { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

#define QUEUE_MAX 256

struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct avail_ring {
    uint16_t flags, idx, ring[QUEUE_MAX], used_event;
};

struct used_element {
    uint32_t id, len;
};

struct used_ring {
    uint16_t flags, idx;
    struct used_element ring[QUEUE_MAX];
    uint16_t avail_event;
};

#define QUEUES_MAX 3

struct queue {
    uint16_t index; /* which of the device's */
    uint16_t size;
    uint16_t avail_idx, used_idx; /* how far we are in each ring */
    struct descriptor *desc;
    volatile struct avail_ring *avail;
    volatile struct used_ring *used;
};

struct virtio {
    uint64_t base; /* of its registers */
    uint64_t features;
    struct queue queue[QUEUES_MAX];
};

/* One buffer of a request. */
struct buffer {
    const void *data;
    uint32_t len;
    int device_writes;
};

/* The address of the `n`th device that virtio_mmio.device= words name, or 0. */
uint64_t virtio_find(unsigned int n);

/* Takes the device of this kind from reset to FEATURES_OK with its first `queues` queues, of at
   most `size` descriptors each, and those of the `wanted` features that it offers. The rings lie in
   memory of the driver's own. Returns 0, or -1 after printing why. virtio_go() sets DRIVER_OK. */
int virtio_start(struct virtio *dev, uint64_t base, enum virtio_device_id kind, uint64_t wanted,
                 unsigned int queues, uint16_t size);
void virtio_go(struct virtio *dev);

/* Puts a chain at the descriptors from `head` on into the available ring; virtio_kick() shows it to
   the device. The caller picks heads so that chains do not overlap. */
void virtio_add(struct queue *queue, uint16_t head, const struct buffer *buffers, unsigned int n);
void virtio_kick(struct virtio *dev, struct queue *queue);

/* If the device has finished a chain: takes it from the used ring, sets *head, and *len to the
   bytes that the device wrote unless it is NULL; returns 1. */
int virtio_poll(struct queue *queue, uint16_t *head, uint32_t *len);

/* Polls until a chain is finished; returns its head, or -1 if nothing comes for some seconds or the
   device asks to be reset. */
int virtio_wait(struct virtio *dev, struct queue *queue, uint32_t *len);

#endif
