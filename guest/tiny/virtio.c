/* SPDX-License-Identifier: Apache-2.0 */
/* The polling virtio driver of the tiny guest. */

#include "virtio.h"

#include "tiny.h"

#define SPINS_MAX    2000000000UL
#define SPINS_STATUS 1000000UL /* how often the device's status is looked at meanwhile */

static struct descriptor desc_table[QUEUES_MAX][QUEUE_MAX] __attribute__((aligned(4096)));
static union {
    struct avail_ring ring;
    uint8_t page[4096];
} avail[QUEUES_MAX] __attribute__((aligned(4096)));
static union {
    struct used_ring ring;
    uint8_t page[4096];
} used[QUEUES_MAX] __attribute__((aligned(4096)));

/* virtio_mmio.device=SIZE@ADDRESS:IRQ */
uint64_t virtio_find(unsigned int n)
{
    const char *text = option_text("virtio_mmio.device", n);

    while (text && *text && *text != ' ') {
        if (*text++ == '@')
            return read_number(&text);
    }
    return 0;
}

static uint64_t negotiate(uint64_t base, uint64_t wanted)
{
    uint64_t offered;

    write32(base + MMIO_DEVICE_FEATURES_SEL, 1);
    offered = (uint64_t)read32(base + MMIO_DEVICE_FEATURES) << 32;
    write32(base + MMIO_DEVICE_FEATURES_SEL, 0);
    offered |= read32(base + MMIO_DEVICE_FEATURES);
    wanted &= offered;
    write32(base + MMIO_DRIVER_FEATURES_SEL, 1);
    write32(base + MMIO_DRIVER_FEATURES, (uint32_t)(wanted >> 32));
    write32(base + MMIO_DRIVER_FEATURES_SEL, 0);
    write32(base + MMIO_DRIVER_FEATURES, (uint32_t)wanted);
    return wanted;
}

static void write64(uint64_t address, uint64_t value)
{
    write32(address, (uint32_t)value);
    write32(address + 4, (uint32_t)(value >> 32));
}

static int set_up_queue(struct virtio *dev, uint16_t index, uint16_t size)
{
    struct queue *queue = &dev->queue[index];
    uint32_t max;

    write32(dev->base + MMIO_QUEUE_SEL, index);
    max = read32(dev->base + MMIO_QUEUE_NUM_MAX);
    memset(desc_table[index], 0, sizeof(desc_table[index]));
    memset(&avail[index], 0, sizeof(avail[index]));
    memset(&used[index], 0, sizeof(used[index]));
    *queue = (struct queue){
        .index = index,
        .size = (uint16_t)(max < size ? max : size),
        .desc = desc_table[index],
        .avail = &avail[index].ring,
        .used = &used[index].ring,
    };
    if (queue->size == 0) {
        print("VIRTIO no queue %u\n", (uint64_t)index);
        return -1;
    }
    queue->avail->flags = 1; /* no interrupts, please */
    write32(dev->base + MMIO_QUEUE_NUM, queue->size);
    write64(dev->base + MMIO_QUEUE_DESC, (uintptr_t)queue->desc);
    write64(dev->base + MMIO_QUEUE_DRIVER, (uintptr_t)queue->avail);
    write64(dev->base + MMIO_QUEUE_DEVICE, (uintptr_t)queue->used);
    write32(dev->base + MMIO_QUEUE_READY, 1);
    return 0;
}

int virtio_start(struct virtio *dev, uint64_t base, enum virtio_device_id kind, uint64_t wanted,
                 unsigned int queues, uint16_t size)
{
    uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;

    dev->base = base;
    if (!base || read32(base + MMIO_MAGIC) != MMIO_MAGIC_VALUE ||
        read32(base + MMIO_VERSION) != 2 || read32(base + MMIO_DEVICE_ID) != kind) {
        print("VIRTIO no device of kind %u at 0x%x\n", (uint64_t)kind, base);
        return -1;
    }
    write32(base + MMIO_STATUS, 0);
    write32(base + MMIO_STATUS, STATUS_ACKNOWLEDGE);
    write32(base + MMIO_STATUS, status);
    dev->features = negotiate(base, wanted | FEATURE_VERSION_1);
    status |= STATUS_FEATURES_OK;
    write32(base + MMIO_STATUS, status);
    if (!(read32(base + MMIO_STATUS) & STATUS_FEATURES_OK)) {
        print("VIRTIO features 0x%x refused\n", dev->features);
        return -1;
    }
    for (uint16_t i = 0; i < queues; i++) {
        if (set_up_queue(dev, i, size))
            return -1;
    }
    return 0;
}

void virtio_go(struct virtio *dev)
{
    write32(dev->base + MMIO_STATUS,
            STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

void virtio_add(struct queue *queue, uint16_t head, const struct buffer *buffers, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        struct descriptor *d = &queue->desc[head + i];
        d->addr = (uintptr_t)buffers[i].data;
        d->len = buffers[i].len;
        d->flags =
            (uint16_t)((buffers[i].device_writes ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0));
        d->next = (uint16_t)(head + i + 1);
    }
    queue->avail->ring[queue->avail_idx % queue->size] = head;
    queue->avail_idx++;
}

void virtio_kick(struct virtio *dev, struct queue *queue)
{
    uint16_t before = queue->avail->idx, wish;

    if (before == queue->avail_idx)
        return;
    barrier(); /* the chains are written before the index that shows them */
    queue->avail->idx = queue->avail_idx;
    fence(); /* the index is written before we read whether the device is watching it */
    if (!(dev->features & FEATURE_EVENT_IDX)) {
        if (queue->used->flags & 1)
            return;
    } else {
        /* avail_event lies right behind the used ring's `size` elements, not at its
         * struct's end. */
        wish = *(volatile uint16_t *)&queue->used->ring[queue->size];
        if ((uint16_t)(queue->avail_idx - wish - 1) >= (uint16_t)(queue->avail_idx - before))
            return;
    }
    write32(dev->base + MMIO_QUEUE_NOTIFY, queue->index);
}

int virtio_poll(struct queue *queue, uint16_t *head, uint32_t *len)
{
    volatile struct used_element *element = &queue->used->ring[queue->used_idx % queue->size];

    if (queue->used->idx == queue->used_idx)
        return 0;
    barrier(); /* the element is read after the index that showed it */
    *head = (uint16_t)element->id;
    if (len)
        *len = element->len;
    queue->used_idx++;
    /* used_event, as far from now as can be: nobody here takes interrupts. */
    *(volatile uint16_t *)&queue->avail->ring[queue->size] = (uint16_t)(queue->used_idx - 2);
    return 1;
}

int virtio_wait(struct virtio *dev, struct queue *queue, uint32_t *len)
{
    uint16_t head;

    for (uint64_t spins = 1; spins < SPINS_MAX; spins++) {
        if (virtio_poll(queue, &head, len))
            return head;
        if (spins % SPINS_STATUS == 0 && (read32(dev->base + MMIO_STATUS) & STATUS_NEEDS_RESET))
            break;
        __asm__ volatile("pause");
    }
    return -1;
}
