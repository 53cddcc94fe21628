/* SPDX-License-Identifier: Apache-2.0 */
/* The polling virtio driver of the tiny guest. */

#include "virtio.h"

#include "tiny.h"

#define SPINS_MAX    2000000000UL
#define SPINS_STATUS 1000000UL /* how often the device's status is looked at meanwhile */

static struct descriptor desc_table[QUEUE_MAX] __attribute__((aligned(4096)));
static struct avail_ring avail_ring __attribute__((aligned(4096)));
static struct used_ring used_ring __attribute__((aligned(4096)));

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

static void set_up_queue(struct virtio *dev)
{
    memset(desc_table, 0, sizeof(desc_table));
    memset(&avail_ring, 0, sizeof(avail_ring));
    memset(&used_ring, 0, sizeof(used_ring));
    dev->desc = desc_table;
    dev->avail = &avail_ring;
    dev->used = &used_ring;
    dev->avail_idx = dev->used_idx = 0;
    dev->avail->flags = 1; /* no interrupts, please */

    write32(dev->base + MMIO_QUEUE_NUM, dev->size);
    write64(dev->base + MMIO_QUEUE_DESC, (uintptr_t)dev->desc);
    write64(dev->base + MMIO_QUEUE_DRIVER, (uintptr_t)dev->avail);
    write64(dev->base + MMIO_QUEUE_DEVICE, (uintptr_t)dev->used);
    write32(dev->base + MMIO_QUEUE_READY, 1);
}

int virtio_start(struct virtio *dev, uint64_t base, uint64_t wanted, uint16_t size)
{
    uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;

    dev->base = base;
    if (!base || read32(base + MMIO_MAGIC) != MMIO_MAGIC_VALUE ||
        read32(base + MMIO_VERSION) != 2) {
        print("VIRTIO no device at 0x%x\n", base);
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
    write32(base + MMIO_QUEUE_SEL, 0);
    uint32_t max = read32(base + MMIO_QUEUE_NUM_MAX);
    dev->size = (uint16_t)(max < size ? max : size);
    if (dev->size == 0) {
        print("VIRTIO no queue 0\n");
        return -1;
    }
    set_up_queue(dev);
    write32(base + MMIO_STATUS, status | STATUS_DRIVER_OK);
    return 0;
}

void virtio_add(struct virtio *dev, uint16_t head, const struct buffer *buffers, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        struct descriptor *d = &dev->desc[head + i];
        d->addr = (uintptr_t)buffers[i].data;
        d->len = buffers[i].len;
        d->flags =
            (uint16_t)((buffers[i].device_writes ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0));
        d->next = (uint16_t)(head + i + 1);
    }
    dev->avail->ring[dev->avail_idx % dev->size] = head;
    dev->avail_idx++;
}

void virtio_kick(struct virtio *dev)
{
    uint16_t before = dev->avail->idx, wish;

    if (before == dev->avail_idx)
        return;
    barrier(); /* the chains are written before the index that shows them */
    dev->avail->idx = dev->avail_idx;
    fence(); /* the index is written before we read whether the device is watching it */
    if (!(dev->features & FEATURE_EVENT_IDX)) {
        if (dev->used->flags & 1)
            return;
    } else {
        /* avail_event lies right behind the used ring's `size` elements, not at its
         * struct's end. */
        wish = *(volatile uint16_t *)&dev->used->ring[dev->size];
        if ((uint16_t)(dev->avail_idx - wish - 1) >= (uint16_t)(dev->avail_idx - before))
            return;
    }
    write32(dev->base + MMIO_QUEUE_NOTIFY, 0);
}

int virtio_poll(struct virtio *dev, uint16_t *head)
{
    if (dev->used->idx == dev->used_idx)
        return 0;
    barrier(); /* the element is read after the index that showed it */
    *head = (uint16_t)dev->used->ring[dev->used_idx % dev->size].id;
    dev->used_idx++;
    return 1;
}

int virtio_wait(struct virtio *dev)
{
    uint16_t head;

    for (uint64_t spins = 1; spins < SPINS_MAX; spins++) {
        if (virtio_poll(dev, &head))
            return head;
        if (spins % SPINS_STATUS == 0 && (read32(dev->base + MMIO_STATUS) & STATUS_NEEDS_RESET))
            break;
        __asm__ volatile("pause");
    }
    return -1;
}
