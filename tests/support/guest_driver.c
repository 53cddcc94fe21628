/* SPDX-License-Identifier: Apache-2.0 */
/* guest_driver.c: a virtqueue seen from the driver. */
#include "tests/support/guest_driver.h"

#include <string.h>

#define DESC_SIZE sizeof(struct virtq_desc)

void guest_driver_init(struct guest_driver *driver, struct mem *mem, uint64_t base, uint16_t size)
{
    *driver = (struct guest_driver){.mem = mem, .size = size, .desc = base};
    driver->avail = driver->desc + size * DESC_SIZE;
    driver->used = align_up(driver->avail + 6 + UINT64_C(2) * size, PAGE_SIZE);
    driver->indirect = align_up(driver->used + 6 + UINT64_C(8) * size, PAGE_SIZE);
    driver->heap =
        align_up(driver->indirect + (uint64_t)size * VIRTQUEUE_SIZE_MAX * DESC_SIZE, PAGE_SIZE);
}

void guest_driver_set_up(const struct guest_driver *driver, struct virtqueue_state *queue)
{
    queue->desc = driver->desc;
    queue->avail = driver->avail;
    queue->used = driver->used;
    queue->size = driver->size;
    queue->ready = 1;
}

uint32_t guest_start(struct virtio_dev *dev, const struct guest_driver *driver, uint64_t features)
{
    virtio_dev_write_status(dev, 0);
    virtio_dev_write_status(dev, 1);
    virtio_dev_write_status(dev, 3);
    virtio_dev_write_features(dev, 0, (uint32_t)features);
    virtio_dev_write_features(dev, 1, (uint32_t)(features >> 32));
    virtio_dev_write_status(dev, 11);
    for (unsigned q = 0; q < dev->ops->n_queues; q++) {
        struct virtqueue_state *queue = virtio_dev_queue_setup(dev, q);

        if (queue)
            guest_driver_set_up(&driver[q], queue);
    }
    virtio_dev_write_status(dev, 15);
    return dev->s.status;
}

uint64_t guest_alloc(struct guest_driver *driver, uint64_t len)
{
    uint64_t gpa = driver->heap;

    driver->heap = align_up(gpa + len, 16);
    return gpa;
}

void guest_read(const struct guest_driver *driver, uint64_t gpa, void *to, size_t len)
{
    BUG_ON(mem_read(driver->mem, GPA(gpa), to, len) < 0);
}

void guest_write(const struct guest_driver *driver, uint64_t gpa, const void *from, size_t len)
{
    BUG_ON(mem_write(driver->mem, GPA(gpa), from, len) < 0);
}

uint16_t guest_read16(const struct guest_driver *driver, uint64_t gpa)
{
    uint16_t value;

    guest_read(driver, gpa, &value, sizeof(value));
    return value;
}

void guest_write16(const struct guest_driver *driver, uint64_t gpa, uint16_t value)
{
    guest_write(driver, gpa, &value, sizeof(value));
}

static struct virtq_desc to_desc(const struct guest_buffer *buffer, bool last, uint16_t next)
{
    return (struct virtq_desc){
        .addr = buffer->gpa,
        .len = buffer->len,
        .flags =
            (uint16_t)((buffer->writable ? VIRTQ_DESC_WRITE : 0) | (last ? 0 : VIRTQ_DESC_NEXT)),
        .next = last ? 0 : next,
    };
}

uint16_t guest_add(struct guest_driver *driver, const struct guest_buffer *buffer, unsigned count)
{
    uint16_t head = driver->next_desc;

    for (unsigned i = 0; i < count; i++) {
        uint16_t index = driver->next_desc;

        driver->next_desc = (uint16_t)((index + 1) % driver->size);
        guest_set_desc(driver, index, to_desc(&buffer[i], i + 1 == count, driver->next_desc));
    }
    guest_offer(driver, head);
    return head;
}

uint16_t guest_add_indirect(struct guest_driver *driver, const struct guest_buffer *buffer,
                            unsigned count)
{
    uint16_t head = driver->next_desc;
    uint64_t table = driver->indirect + (uint64_t)head * VIRTQUEUE_SIZE_MAX * DESC_SIZE;

    for (unsigned i = 0; i < count; i++) {
        struct virtq_desc desc = to_desc(&buffer[i], i + 1 == count, (uint16_t)(i + 1));

        guest_write(driver, table + i * DESC_SIZE, &desc, sizeof(desc));
    }
    driver->next_desc = (uint16_t)((head + 1) % driver->size);
    guest_set_desc(driver, head,
                   (struct virtq_desc){.addr = table,
                                       .len = (uint32_t)(count * DESC_SIZE),
                                       .flags = VIRTQ_DESC_INDIRECT});
    guest_offer(driver, head);
    return head;
}

bool guest_take_used(struct guest_driver *driver, struct virtq_used_elem *elem)
{
    uint16_t slot = driver->used_idx % driver->size;

    if (guest_read16(driver, driver->used + 2) == driver->used_idx)
        return false;
    guest_read(driver, driver->used + 4 + slot * sizeof(*elem), elem, sizeof(*elem));
    driver->used_idx++;
    return true;
}

void guest_set_no_interrupt(struct guest_driver *driver, bool no_interrupt)
{
    guest_write16(driver, driver->avail, no_interrupt ? VIRTQ_AVAIL_NO_INTERRUPT : 0);
}

void guest_set_used_event(struct guest_driver *driver, uint16_t event)
{
    guest_write16(driver, driver->avail + 4 + UINT64_C(2) * driver->size, event);
}

uint16_t guest_avail_event(const struct guest_driver *driver)
{
    return guest_read16(driver, driver->used + 4 + UINT64_C(8) * driver->size);
}

uint16_t guest_used_flags(const struct guest_driver *driver)
{
    return guest_read16(driver, driver->used);
}

void guest_set_desc(struct guest_driver *driver, uint16_t index, struct virtq_desc desc)
{
    guest_write(driver, driver->desc + index * DESC_SIZE, &desc, sizeof(desc));
}

void guest_set_avail(struct guest_driver *driver, uint16_t index, uint16_t head)
{
    guest_write16(driver, driver->avail + 4 + UINT64_C(2) * (index % driver->size), head);
}

void guest_set_avail_idx(struct guest_driver *driver, uint16_t idx)
{
    driver->avail_idx = idx;
    guest_write16(driver, driver->avail + 2, idx);
}

void guest_offer(struct guest_driver *driver, uint16_t head)
{
    guest_set_avail(driver, driver->avail_idx, head);
    guest_set_avail_idx(driver, (uint16_t)(driver->avail_idx + 1));
}
