/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest_driver.h owns the guest's side of a virtqueue, for tests: it lays out the rings in guest
 * memory, puts chains into them and takes used entries out, properly or (by the raw calls) in any
 * wrong way.
 */
#ifndef MAYFLY_TESTS_SUPPORT_GUEST_DRIVER_H
#define MAYFLY_TESTS_SUPPORT_GUEST_DRIVER_H

#include "virtio/virtio.h"

struct guest_driver {
    struct mem *mem;
    uint16_t size;
    uint64_t desc, avail, used; /* GPAs */
    uint64_t indirect;          /* GPA of an area of `size` tables, one a head */
    uint64_t heap;              /* next free GPA for buffers */
    uint16_t next_desc, avail_idx, used_idx;
};

/* A buffer of a chain. */
struct guest_buffer {
    uint64_t gpa;
    uint32_t len;
    bool writable;
};

/* Lays out a queue of `size` entries at `base` (page aligned); the heap begins behind it. */
void guest_driver_init(struct guest_driver *driver, struct mem *mem, uint64_t base, uint16_t size);

/* Fills in the registers of a queue. */
void guest_driver_set_up(const struct guest_driver *driver, struct virtqueue_state *queue);

/*
 * Goes through all the steps up to DRIVER_OK with every queue of the device, queue q driven by
 * driver[q]. Returns the status read back.
 */
uint32_t guest_start(struct virtio_dev *dev, const struct guest_driver *driver, uint64_t features);

/* Room for a buffer; 16-byte aligned. */
uint64_t guest_alloc(struct guest_driver *driver, uint64_t len);

/* Reading and writing guest memory; the range must be RAM. */
void guest_read(const struct guest_driver *driver, uint64_t gpa, void *to, size_t len);
void guest_write(const struct guest_driver *driver, uint64_t gpa, const void *from, size_t len);
uint16_t guest_read16(const struct guest_driver *driver, uint64_t gpa);
void guest_write16(const struct guest_driver *driver, uint64_t gpa, uint16_t value);

/* Adds a chain of direct descriptors, or of one indirect one, and makes it available. Returns its
 * head. Descriptors are used up round robin; the test keeps few enough in flight. */
uint16_t guest_add(struct guest_driver *driver, const struct guest_buffer *buffer, unsigned count);
uint16_t guest_add_indirect(struct guest_driver *driver, const struct guest_buffer *buffer,
                            unsigned count);

/* Takes the next used entry; false when there is none. */
bool guest_take_used(struct guest_driver *driver, struct virtq_used_elem *elem);

/* What the driver asks for and what it is asked for. */
void guest_set_no_interrupt(struct guest_driver *driver, bool no_interrupt);
void guest_set_used_event(struct guest_driver *driver, uint16_t event);
uint16_t guest_avail_event(const struct guest_driver *driver);
uint16_t guest_used_flags(const struct guest_driver *driver);

/* Raw: one descriptor, one available entry, the available index. */
void guest_set_desc(struct guest_driver *driver, uint16_t index, struct virtq_desc desc);
void guest_set_avail(struct guest_driver *driver, uint16_t index, uint16_t head);
void guest_set_avail_idx(struct guest_driver *driver, uint16_t idx);
/* Makes a hand-made chain available. */
void guest_offer(struct guest_driver *driver, uint16_t head);

#endif
