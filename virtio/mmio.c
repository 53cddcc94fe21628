/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.c: the registers of a virtio-mmio device (virtio 1.3, section 4.2.2), its kicks and its
 * interrupt.
 *
 * Linux's interrupt handler reads InterruptStatus and writes InterruptACK: two exits to user space
 * for each interrupt, more than the rest of an interrupt costs. So the window is a page that the
 * guest reads as memory, and acknowledgements are posted: KVM notes them, and we look before the
 * next interrupt. Until then the page shows an acknowledged reason; a driver that looks again finds
 * nothing new in its queues.
 */
#include "virtio/mmio.h"

#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/eventfd.h>

enum reg {
    REG_MAGIC = 0x000,
    REG_VERSION = 0x004,
    REG_DEVICE_ID = 0x008,
    REG_VENDOR_ID = 0x00c,
    REG_DEVICE_FEATURES = 0x010,
    REG_DEVICE_FEATURES_SEL = 0x014,
    REG_DRIVER_FEATURES = 0x020,
    REG_DRIVER_FEATURES_SEL = 0x024,
    REG_QUEUE_SEL = 0x030,
    REG_QUEUE_SIZE_MAX = 0x034,
    REG_QUEUE_SIZE = 0x038,
    REG_QUEUE_READY = 0x044,
    REG_QUEUE_NOTIFY = 0x050,
    REG_INTERRUPT_STATUS = 0x060,
    REG_INTERRUPT_ACK = 0x064,
    REG_STATUS = 0x070,
    REG_QUEUE_DESC_LOW = 0x080,
    REG_QUEUE_DESC_HIGH = 0x084,
    REG_QUEUE_AVAIL_LOW = 0x090,
    REG_QUEUE_AVAIL_HIGH = 0x094,
    REG_QUEUE_USED_LOW = 0x0a0,
    REG_QUEUE_USED_HIGH = 0x0a4,
    REG_SHM_LEN_LOW = 0x0b0,
    REG_SHM_LEN_HIGH = 0x0b4,
    REG_SHM_BASE_LOW = 0x0b8,
    REG_SHM_BASE_HIGH = 0x0bc,
    REG_CONFIG_GENERATION = 0x0fc,
    REG_CONFIG = 0x100,
};

#define MAGIC   0x74726976u /* "virt" */
#define VERSION 2u

/* The saved part: the transport's own registers. */
struct mmio_state {
    uint32_t device_features_sel, driver_features_sel, queue_sel, interrupt_status;
};

static const struct state_field fields[] = {
    STATE_FIELD(struct mmio_state, device_features_sel),
    STATE_FIELD(struct mmio_state, driver_features_sel),
    STATE_FIELD(struct mmio_state, queue_sel),
    STATE_FIELD(struct mmio_state, interrupt_status),
};
const struct state_desc virtio_mmio_state_desc =
    STATE_DESC("virtio-mmio", 1, struct mmio_state, fields);

/* One kick: the eventfd that KVM signals, and its poll. */
struct kick {
    struct op op;
    struct virtio_mmio *mmio;
    int fd;
};

struct virtio_mmio {
    struct mmio_state s;
    struct virtio_dev *dev;
    struct virtio_mmio_place place;
    struct loop *loop;
    bool polling; /* the polls are armed, once and for good */
    struct deferred arm;
    struct kick kick[VIRTIO_QUEUES_MAX];
    int call_fd; /* by which another process interrupts the driver; -1 = there is none */
};

/* ---- registers ------------------------------------------------------------------------------- */

static uint32_t read_features(const struct virtio_mmio *mmio)
{
    uint64_t features = virtio_dev_features(mmio->dev);

    switch (mmio->s.device_features_sel) {
    case 0:
        return (uint32_t)features;
    case 1:
        return (uint32_t)(features >> 32);
    default:
        return 0;
    }
}

/* Nobody tells us of another process's interrupts: while it serves the device, there may always be
 * used buffers. */
static uint32_t interrupt_status(const struct virtio_mmio *mmio)
{
    bool unknown = mmio->call_fd >= 0 && mmio->dev->s.status & VIRTIO_STATUS_DRIVER_OK;

    return mmio->s.interrupt_status | (unknown ? VIRTIO_INTERRUPT_USED : 0);
}

static uint32_t read_register(const struct virtio_mmio *mmio, uint64_t offset)
{
    const struct virtqueue *vq = virtio_dev_queue(mmio->dev, mmio->s.queue_sel);

    switch (offset) {
    case REG_MAGIC:
        return MAGIC;
    case REG_VERSION:
        return VERSION;
    case REG_DEVICE_ID:
        return mmio->dev->ops->device_id;
    case REG_VENDOR_ID:
        return 0;
    case REG_DEVICE_FEATURES:
        return read_features(mmio);
    case REG_QUEUE_SIZE_MAX:
        return vq ? vq->s.size_max : 0;
    case REG_QUEUE_READY:
        return vq ? vq->s.ready : 0;
    case REG_INTERRUPT_STATUS:
        return interrupt_status(mmio);
    case REG_STATUS:
        return mmio->dev->s.status;
    case REG_SHM_LEN_LOW: /* all ones: there is no such shared memory region */
    case REG_SHM_LEN_HIGH:
    case REG_SHM_BASE_LOW:
    case REG_SHM_BASE_HIGH:
        return UINT32_MAX;
    case REG_CONFIG_GENERATION:
        return mmio->dev->s.config_generation;
    default: /* write-only, reserved, or not aligned */
        return 0;
    }
}

/* The registers that do not always read as zero. */
static const enum reg readable[] = {
    REG_MAGIC,           REG_VERSION,           REG_DEVICE_ID,    REG_VENDOR_ID,
    REG_DEVICE_FEATURES, REG_QUEUE_SIZE_MAX,    REG_QUEUE_READY,  REG_INTERRUPT_STATUS,
    REG_STATUS,          REG_SHM_LEN_LOW,       REG_SHM_LEN_HIGH, REG_SHM_BASE_LOW,
    REG_SHM_BASE_HIGH,   REG_CONFIG_GENERATION,
};

static void show_register(struct virtio_mmio *mmio, uint64_t reg)
{
    uint32_t *shown;

    if (!mmio->place.page)
        return;
    shown = (uint32_t *)(void *)(mmio->place.page + reg);
    __atomic_store_n(shown, read_register(mmio, reg), __ATOMIC_RELEASE);
}

/*
 * Shows the guest all registers and the configuration as they are now. The generation comes last,
 * so that a driver that reads it before and after the configuration notices a change in between.
 */
static void show(struct virtio_mmio *mmio)
{
    size_t len = 0;
    const void *config;

    if (!mmio->place.page)
        return;
    config = mmio->dev->ops->config ? mmio->dev->ops->config(mmio->dev, &len) : NULL;
    if (config)
        memcpy(mmio->place.page + REG_CONFIG, config, MIN(len, VIRTIO_MMIO_WINDOW - REG_CONFIG));
    for (unsigned i = 0; i < ARRAY_SIZE(readable); i++)
        show_register(mmio, readable[i]);
}

static void set_low(uint64_t *address, uint32_t value)
{
    *address = (*address & ~UINT64_C(0xffffffff)) | value;
}

static void set_high(uint64_t *address, uint32_t value)
{
    *address = (*address & 0xffffffff) | (uint64_t)value << 32;
}

/* The registers of the selected queue. Values are judged when the device is activated. */
static void write_queue_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct virtqueue_state *queue = virtio_dev_queue_setup(mmio->dev, mmio->s.queue_sel);

    if (!queue)
        return;
    switch (offset) {
    case REG_QUEUE_SIZE:
        queue->size = value <= UINT16_MAX ? (uint16_t)value : 0;
        break;
    case REG_QUEUE_READY:
        queue->ready = value == 1;
        break;
    case REG_QUEUE_DESC_LOW:
        set_low(&queue->desc, value);
        break;
    case REG_QUEUE_DESC_HIGH:
        set_high(&queue->desc, value);
        break;
    case REG_QUEUE_AVAIL_LOW:
        set_low(&queue->avail, value);
        break;
    case REG_QUEUE_AVAIL_HIGH:
        set_high(&queue->avail, value);
        break;
    case REG_QUEUE_USED_LOW:
        set_low(&queue->used, value);
        break;
    case REG_QUEUE_USED_HIGH:
        set_high(&queue->used, value);
        break;
    default: /* read-only, reserved, or not aligned */
        break;
    }
}

static void write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case REG_DEVICE_FEATURES_SEL:
        mmio->s.device_features_sel = value;
        break;
    case REG_DRIVER_FEATURES_SEL:
        mmio->s.driver_features_sel = value;
        break;
    case REG_DRIVER_FEATURES:
        virtio_dev_write_features(mmio->dev, mmio->s.driver_features_sel, value);
        break;
    case REG_QUEUE_SEL:
        mmio->s.queue_sel = value;
        break;
    case REG_QUEUE_NOTIFY:
        /* Normally an ioeventfd catches this one before it comes here. */
        if (value < mmio->dev->ops->n_queues)
            virtio_dev_kick_later(mmio->dev, value);
        break;
    case REG_STATUS:
        virtio_dev_write_status(mmio->dev, value);
        break;
    default:
        write_queue_register(mmio, offset, value);
        break;
    }
}

static void mmio_read(void *owner, uint64_t offset, void *data, unsigned len)
{
    struct virtio_mmio *mmio = owner;
    uint32_t value;

    if (offset >= REG_CONFIG) {
        virtio_dev_read_config(mmio->dev, offset - REG_CONFIG, data, len);
    } else if (len == sizeof(value)) { /* the only width that registers have */
        value = read_register(mmio, offset);
        memcpy(data, &value, sizeof(value));
    }
}

static void acknowledge(struct virtio_mmio *mmio, uint32_t value)
{
    mmio->s.interrupt_status &= ~value;
    show_register(mmio, REG_INTERRUPT_STATUS);
}

static void mmio_write(void *owner, uint64_t offset, const void *data, unsigned len)
{
    struct virtio_mmio *mmio = owner;
    uint32_t value;

    if (offset >= REG_CONFIG) {
        virtio_dev_write_config(mmio->dev, offset - REG_CONFIG, data, len);
        show(mmio);
        return;
    }
    if (len != sizeof(value))
        return;
    memcpy(&value, data, sizeof(value));
    if (offset == REG_INTERRUPT_ACK) {
        acknowledge(mmio, value);
    } else {
        write_register(mmio, offset, value);
        show(mmio); /* selectors, status and negotiation change what other registers read as */
    }
}

/* ---- kicks ----------------------------------------------------------------------------------- */

static void kick_done(struct op *op, int res, bool more)
{
    struct kick *kick = container_of(op, struct kick, op);

    if (!more && res != -ECANCELED) /* the ring ran out of completions, say: go on */
        loop_poll(kick->mmio->loop, op, kick->fd, true);
    if (res >= 0)
        virtio_dev_kick(kick->mmio->dev, (uint32_t)(kick - kick->mmio->kick));
}

static void run_arm(struct deferred *deferred)
{
    struct virtio_mmio *mmio = container_of(deferred, struct virtio_mmio, arm);

    for (unsigned q = 0; q < mmio->dev->ops->n_queues; q++)
        loop_poll(mmio->loop, &mmio->kick[q].op, mmio->kick[q].fd, true);
}

/* ---- what the generic layer asks of us ------------------------------------------------------- */

static void mmio_interrupt(void *owner, enum virtio_interrupt why)
{
    struct virtio_mmio *mmio = owner;

    /* An acknowledgement that was posted before must not take this reason away after. */
    if (mmio->place.flush_posted)
        mmio->place.flush_posted(mmio->place.owner);
    /* Before the edge: the handler that it starts reads this register to learn why. */
    mmio->s.interrupt_status |= why;
    if (why == VIRTIO_INTERRUPT_CONFIG) {
        metric_add(&metrics.interrupts.config_updates, 1);
        show(mmio); /* the status may have become DEVICE_NEEDS_RESET */
    } else {
        show_register(mmio, REG_INTERRUPT_STATUS);
    }
    irq_raise(mmio->place.line);
}

/*
 * The polls are armed by the first activation rather than at creation: a machine whose start fails
 * half-way then has nothing in the ring, and a device that no driver wants costs the loop nothing.
 * They outlive resets; kicks of an inactive device are ignored.
 */
static void mmio_activated(void *owner)
{
    struct virtio_mmio *mmio = owner;

    if (mmio->polling || mmio->dev->ops->served_elsewhere)
        return;
    mmio->polling = true;
    loop_defer(mmio->loop, &mmio->arm);
}

static void mmio_reset(void *owner)
{
    struct virtio_mmio *mmio = owner;

    mmio->s = (struct mmio_state){0};
}

static void mmio_config_changed(void *owner)
{
    show(owner);
}

static const struct virtio_transport_ops transport_ops = {
    .interrupt = mmio_interrupt,
    .config_changed = mmio_config_changed,
    .activated = mmio_activated,
    .reset = mmio_reset,
};

/* ---- creation -------------------------------------------------------------------------------- */

/* One eventfd a queue, connected now, so that a host's refusal is an error of the start. */
static int create_kick(struct virtio_mmio *mmio, unsigned q, struct err *e)
{
    const struct virtio_mmio_place *place = &mmio->place;
    struct kick *kick = &mmio->kick[q];

    kick->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (kick->fd < 0)
        return err_set(e, -errno, "Cannot create an event for a queue of %s: %s",
                       mmio->dev->ops->name, err_os(-errno));
    if (!place->ioeventfd)
        return 0;
    return place->ioeventfd(place->owner, kick->fd, gpa_add(place->base, REG_QUEUE_NOTIFY), q, true,
                            e);
}

/* The same the other way round, for a device that another process serves. */
static int create_call(struct virtio_mmio *mmio, struct err *e)
{
    const struct virtio_mmio_place *place = &mmio->place;

    if (!mmio->dev->ops->served_elsewhere || !place->irqfd)
        return 0;
    mmio->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mmio->call_fd < 0)
        return err_set(e, -errno, "Cannot create an event for interrupts of %s: %s",
                       mmio->dev->ops->name, err_os(-errno));
    return place->irqfd(place->owner, mmio->call_fd, place->line->gsi, e);
}

static struct virtio_mmio *new_mmio(const struct virtio_env *env, struct virtio_dev *dev,
                                    const struct virtio_mmio_place *place)
{
    struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));

    if (!mmio)
        return NULL;
    mmio->dev = dev;
    mmio->place = *place;
    mmio->loop = env->loop;
    mmio->arm.run = run_arm;
    mmio->call_fd = -1;
    for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
        mmio->kick[q] = (struct kick){.op.done = kick_done, .mmio = mmio, .fd = -1};
    return mmio;
}

int virtio_mmio_create(struct virtio_mmio **out, const struct virtio_env *env,
                       struct virtio_dev *dev, const struct virtio_mmio_place *place,
                       struct bus *bus, struct err *e)
{
    struct virtio_mmio *mmio = new_mmio(env, dev, place);
    int rc = 0;

    if (!mmio)
        return err_set(e, -ENOMEM, "Cannot create the transport of %s: %s", dev->ops->name,
                       err_os(-ENOMEM));
    for (unsigned q = 0; q < dev->ops->n_queues && rc == 0; q++)
        rc = create_kick(mmio, q, e);
    if (rc == 0)
        rc = create_call(mmio, e);
    if (rc == 0 && place->post_writes)
        rc = place->post_writes(place->owner, gpa_add(place->base, REG_INTERRUPT_ACK), e);
    if (rc == 0)
        rc = bus_add(bus,
                     &(struct bus_range){.name = dev->ops->name,
                                         .base = place->base.v,
                                         .len = VIRTIO_MMIO_WINDOW,
                                         .owner = mmio,
                                         .read = mmio_read,
                                         .write = mmio_write},
                     e);
    if (rc) {
        virtio_mmio_destroy(mmio);
        return rc;
    }
    virtio_dev_attach(dev, &transport_ops, mmio);
    for (unsigned q = 0; q < dev->ops->n_queues; q++)
        dev->kick_fd[q] = mmio->kick[q].fd;
    dev->call_fd = mmio->call_fd;
    show(mmio);
    *out = mmio;
    return 0;
}

void *virtio_mmio_saved(struct virtio_mmio *mmio)
{
    return &mmio->s;
}

int virtio_mmio_restore(struct virtio_mmio *mmio, struct err *e)
{
    int rc = virtio_dev_restore(mmio->dev, e);

    show(mmio);
    return rc;
}

void virtio_mmio_destroy(struct virtio_mmio *mmio)
{
    if (!mmio)
        return;
    if (mmio->dev->transport_owner == mmio)
        virtio_dev_attach(mmio->dev, NULL, NULL);
    for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++) {
        mmio->dev->kick_fd[q] = -1;
        if (mmio->kick[q].fd >= 0)
            close(mmio->kick[q].fd);
    }
    mmio->dev->call_fd = -1;
    if (mmio->call_fd >= 0)
        close(mmio->call_fd);
    free(mmio);
}
