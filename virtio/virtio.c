/* SPDX-License-Identifier: Apache-2.0 */
/* virtio.c: every rule of the virtio status machine, once, for all transports and devices. */
#include "virtio/virtio.h"

#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>

#define ACKNOWLEDGE VIRTIO_STATUS_ACKNOWLEDGE
#define DRIVER      VIRTIO_STATUS_DRIVER
#define DRIVER_OK   VIRTIO_STATUS_DRIVER_OK
#define FEATURES_OK VIRTIO_STATUS_FEATURES_OK
#define NEEDS_RESET VIRTIO_STATUS_NEEDS_RESET
#define FAILED      VIRTIO_STATUS_FAILED

static const struct state_field fields[] = {
    STATE_FIELD(struct virtio_dev_state, features),
    STATE_FIELD(struct virtio_dev_state, status),
    STATE_FIELD(struct virtio_dev_state, config_generation),
};
const struct state_desc virtio_dev_state_desc =
    STATE_DESC("virtio", 1, struct virtio_dev_state, fields);

static void run_publish(struct batch_hook *hook);
static void run_work(struct deferred *work);

static void init_queues(struct virtio_dev *dev)
{
    for (unsigned q = 0; q < dev->ops->n_queues; q++)
        virtqueue_init(&dev->queue[q], dev->ops->queue_size_max);
}

void virtio_dev_init(struct virtio_dev *dev, const struct virtio_dev_ops *ops,
                     const struct virtio_env *env)
{
    BUG_ON(ops->n_queues > VIRTIO_QUEUES_MAX || ops->queue_size_max > VIRTQUEUE_SIZE_MAX);
    *dev = (struct virtio_dev){
        .ops = ops, .env = *env, .publish.run = run_publish, .work.run = run_work};
    pthread_cond_init(&dev->idle, NULL);
    for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
        dev->kick_fd[q] = -1;
    dev->call_fd = -1;
    init_queues(dev);
}

void virtio_dev_destroy(struct virtio_dev *dev)
{
    /* With operations in flight the process is ending without a drain: what the ring may still look
     * at is left to the end of the process. The condition is not destroyed: it owns nothing, and
     * destroying it would wait for a vCPU that waits in it. */
    if (!dev || dev->in_flight > 0)
        return;
    dev->ops->destroy(dev);
}

void virtio_dev_attach(struct virtio_dev *dev, const struct virtio_transport_ops *transport,
                       void *owner)
{
    dev->transport = transport;
    dev->transport_owner = owner;
}

static void interrupt(struct virtio_dev *dev, enum virtio_interrupt why)
{
    if (dev->transport)
        dev->transport->interrupt(dev->transport_owner, why);
}

static void count(uint64_t *counter)
{
    if (counter)
        metric_add(counter, 1);
}

/* ---- work of the loop thread ----------------------------------------------------------------- */

/* Whether the device may start something: active, not broken, not held. */
static bool may_run(const struct virtio_dev *dev)
{
    return dev->active && !dev->broken && dev->holds == 0;
}

void virtio_dev_kick(struct virtio_dev *dev, uint32_t q)
{
    /* A kick that is dropped here because the device is held is made up for by resume. */
    if (q < dev->ops->n_queues && may_run(dev) && dev->queue[q].mem)
        dev->ops->kick(dev, q);
}

void virtio_dev_kick_later(struct virtio_dev *dev, unsigned q)
{
    dev->kicked |= 1u << q;
    loop_defer(dev->env.loop, &dev->work);
}

static void wake_waiters(struct virtio_dev *dev)
{
    if (virtio_dev_is_idle(dev))
        pthread_cond_broadcast(&dev->idle);
}

/* What other threads, or an earlier turn, left to the loop thread: a quiesce, then kicks. */
static void run_work(struct deferred *work)
{
    struct virtio_dev *dev = container_of(work, struct virtio_dev, work);
    uint32_t kicked = dev->kicked;

    dev->kicked = 0;
    if (dev->quiesce_pending) {
        dev->ops->quiesce(dev);
        dev->quiesce_pending = false;
        wake_waiters(dev);
    }
    for (unsigned q = 0; q < dev->ops->n_queues; q++)
        if (kicked & (1u << q))
            virtio_dev_kick(dev, q);
}

/* End of a batch: each touched used ring is published once, one interrupt covers them all. */
static void run_publish(struct batch_hook *hook)
{
    struct virtio_dev *dev = container_of(hook, struct virtio_dev, publish);
    bool wanted = false;

    for (unsigned q = 0; q < dev->ops->n_queues; q++)
        if (dev->touched & (1u << q))
            wanted |= virtqueue_publish(&dev->queue[q]);
    dev->touched = 0;
    if (wanted)
        interrupt(dev, VIRTIO_INTERRUPT_USED);
}

/* ---- for devices ----------------------------------------------------------------------------- */

bool virtio_dev_pop(struct virtio_dev *dev, unsigned q, struct vq_chain *chain, struct iovec *iov,
                    unsigned room)
{
    enum vq_result result;

    if (!may_run(dev))
        return false;
    result = virtqueue_pop(&dev->queue[q], chain, iov, room);
    if (result != VQ_OK && result != VQ_EMPTY)
        virtio_dev_needs_reset(dev, vq_result_name(result));
    return result == VQ_OK;
}

void virtio_dev_push(struct virtio_dev *dev, unsigned q, uint16_t head, uint32_t len)
{
    if (dev->broken) /* its rings are not to be trusted, and the driver has been told */
        return;
    virtqueue_push(&dev->queue[q], head, len);
    dev->touched |= 1u << q;
    loop_at_batch_end(dev->env.loop, &dev->publish);
}

void virtio_dev_push_held(struct virtio_dev *dev, unsigned q, uint16_t head, uint32_t len)
{
    if (dev->broken)
        return;
    virtqueue_push(&dev->queue[q], head, len);
    dev->touched |= 1u << q;
    if (!virtqueue_would_interrupt(&dev->queue[q]))
        virtio_dev_publish(dev);
}

bool virtio_dev_is_holding(const struct virtio_dev *dev)
{
    return dev->touched != 0 && !dev->publish.armed;
}

void virtio_dev_publish(struct virtio_dev *dev)
{
    if (dev->touched != 0)
        loop_at_batch_end(dev->env.loop, &dev->publish);
}

unsigned virtio_dev_serve(struct virtio_dev *dev, unsigned q, unsigned share,
                          enum virtio_serve (*serve)(struct virtio_dev *dev, unsigned q))
{
    struct virtqueue *vq = &dev->queue[q];
    enum virtio_serve result = VIRTIO_SERVED;
    unsigned served = 0;

    virtqueue_kicks_off(vq);
    while (served < share && (result = serve(dev, q)) == VIRTIO_SERVED)
        served++;
    if (result == VIRTIO_LATER || !may_run(dev))
        return served;
    /* Not a loop of our own: a guest that moves its index to and fro would keep us in it. */
    if (result == VIRTIO_SERVED || virtqueue_kicks_on(vq))
        virtio_dev_kick_later(dev, q);
    return served;
}

void virtio_dev_op_begin(struct virtio_dev *dev)
{
    dev->in_flight++;
}

void virtio_dev_op_end(struct virtio_dev *dev)
{
    BUG_ON(dev->in_flight == 0);
    dev->in_flight--;
    wake_waiters(dev);
}

/* Stops the device until its reset; what was not published stays so. */
static void stop(struct virtio_dev *dev)
{
    dev->broken = true;
    dev->touched = 0;
}

void virtio_dev_needs_reset(struct virtio_dev *dev, const char *why)
{
    if (dev->broken)
        return;
    stop(dev);
    count(dev->event_fails);
    log_warn("%s: %s; the device is stopped until the guest resets it.", dev->ops->name, why);
    dev->s.status |= NEEDS_RESET;
    if (dev->s.status & DRIVER_OK)
        interrupt(dev, VIRTIO_INTERRUPT_CONFIG);
}

void virtio_dev_config_agreed(struct virtio_dev *dev)
{
    dev->s.config_generation++;
    if (dev->transport)
        dev->transport->config_changed(dev->transport_owner);
}

void virtio_dev_config_changed(struct virtio_dev *dev)
{
    virtio_dev_config_agreed(dev);
    if (dev->s.status & DRIVER_OK)
        interrupt(dev, VIRTIO_INTERRUPT_CONFIG);
}

/* ---- negotiation ----------------------------------------------------------------------------- */

uint64_t virtio_dev_features(const struct virtio_dev *dev)
{
    uint64_t own = dev->ops->features ? dev->ops->features(dev) : 0;
    uint64_t ring = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC;

    return own | (ring & ~dev->withheld);
}

void virtio_dev_write_features(struct virtio_dev *dev, uint32_t select, uint32_t value)
{
    unsigned shift = select * 32;

    if (dev->resetting || dev->s.status != (ACKNOWLEDGE | DRIVER) || select > 1)
        return;
    dev->s.features = (dev->s.features & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)value
                                                                                 << shift;
}

const struct virtqueue *virtio_dev_queue(const struct virtio_dev *dev, uint32_t q)
{
    return q < dev->ops->n_queues ? &dev->queue[q] : NULL;
}

struct virtqueue_state *virtio_dev_queue_setup(struct virtio_dev *dev, uint32_t q)
{
    if (dev->resetting || dev->s.status != (ACKNOWLEDGE | DRIVER | FEATURES_OK) ||
        q >= dev->ops->n_queues)
        return NULL;
    return &dev->queue[q].s;
}

void virtio_dev_read_config(const struct virtio_dev *dev, uint64_t offset, void *to, unsigned len)
{
    size_t size = 0;
    const uint8_t *config = dev->ops->config ? dev->ops->config(dev, &size) : NULL;

    memset(to, 0, len);
    if (offset < size)
        memcpy(to, config + offset, MIN(len, size - offset));
}

void virtio_dev_write_config(struct virtio_dev *dev, uint64_t offset, const void *from,
                             unsigned len)
{
    size_t size = 0;

    if (!dev->ops->config || !dev->ops->write_config)
        return;
    dev->ops->config(dev, &size);
    if (len <= size && offset <= size - len)
        dev->ops->write_config(dev, offset, from, len);
}

/* ---- status ---------------------------------------------------------------------------------- */

/* Maps the ready queues and starts the device; says why not. */
static const char *activate(struct virtio_dev *dev)
{
    for (unsigned q = 0; q < dev->ops->n_queues; q++) {
        struct virtqueue *vq = &dev->queue[q];
        enum vq_result result;

        if (!vq->s.ready)
            continue;
        result = virtqueue_map(vq, dev->env.mem, virtio_dev_has(dev, VIRTIO_F_EVENT_IDX),
                               virtio_dev_has(dev, VIRTIO_F_INDIRECT_DESC));
        if (result != VQ_OK)
            return vq_result_name(result);
    }
    if (dev->ops->activate && dev->ops->activate(dev) < 0)
        return "its activation failed on the host";
    return NULL;
}

static void driver_ok(struct virtio_dev *dev)
{
    const char *why;

    dev->s.status |= DRIVER_OK;
    /* Before activate, so that a reset drains whatever a half-made activation has begun. */
    dev->active = true;
    why = activate(dev);
    if (why) {
        count(dev->activate_fails);
        virtio_dev_needs_reset(dev, why);
    } else if (dev->transport) {
        dev->transport->activated(dev->transport_owner);
    }
}

/* Status 0. Returns when nothing of the device's past is left. */
static void reset(struct virtio_dev *dev)
{
    if (dev->active) {
        dev->resetting = true;
        virtio_dev_quiesce(dev);
        virtio_dev_drain(dev);
        dev->holds--;
    }
    init_queues(dev);
    /* The generation goes on: a driver that compares it across the reset sees the difference. */
    dev->s.features = 0;
    dev->s.status = 0;
    dev->active = dev->broken = false;
    dev->touched = dev->kicked = 0;
    if (dev->ops->reset)
        dev->ops->reset(dev);
    if (dev->transport)
        dev->transport->reset(dev->transport_owner);
    if (dev->resetting) {
        dev->resetting = false;
        pthread_cond_broadcast(&dev->idle);
    }
}

/* Another vCPU writes Status during a reset: it waits if it wants the same, else it is ignored. */
static void write_status_during_reset(struct virtio_dev *dev, uint32_t value)
{
    while (value == 0 && dev->resetting && !loop_is_current(dev->env.loop))
        loop_cond_wait(dev->env.loop, &dev->idle);
}

/* Whether `value` is the next step on the way to DRIVER_OK. FEATURES_OK is none with features that
 * were not offered: the driver reads the status back and sees it missing. */
static bool is_step(const struct virtio_dev *dev, uint32_t old, uint32_t value)
{
    if (old == 0)
        return value == ACKNOWLEDGE;
    if (old == ACKNOWLEDGE)
        return value == (old | DRIVER);
    return old == (ACKNOWLEDGE | DRIVER) && value == (old | FEATURES_OK) &&
           !(dev->s.features & ~virtio_dev_features(dev));
}

void virtio_dev_write_status(struct virtio_dev *dev, uint32_t value)
{
    uint32_t old = dev->s.status;

    if (dev->resetting)
        write_status_during_reset(dev, value);
    else if (value == 0)
        reset(dev);
    else if (old == (ACKNOWLEDGE | DRIVER | FEATURES_OK) && value == (old | DRIVER_OK))
        driver_ok(dev);
    else if (is_step(dev, old, value))
        dev->s.status = value;
    else if (value & ~old & FAILED) {
        dev->s.status |= FAILED;
        stop(dev);
    } else if (value != old)
        log_warn("%s: a step of the status from 0x%x to 0x%x is refused.", dev->ops->name, old,
                 value);
}

/* ---- quiesce --------------------------------------------------------------------------------- */

void virtio_dev_quiesce(struct virtio_dev *dev)
{
    dev->holds++;
    virtio_dev_publish(dev);
    if (!dev->ops->quiesce || !dev->active || dev->holds > 1)
        return;
    if (loop_is_current(dev->env.loop)) {
        dev->ops->quiesce(dev);
    } else {
        dev->quiesce_pending = true;
        loop_defer(dev->env.loop, &dev->work);
    }
}

bool virtio_dev_is_idle(const struct virtio_dev *dev)
{
    return dev->in_flight == 0 && !dev->quiesce_pending;
}

static bool is_idle(void *dev)
{
    return virtio_dev_is_idle(dev);
}

void virtio_dev_drain(struct virtio_dev *dev)
{
    while (!virtio_dev_is_idle(dev)) {
        if (loop_is_current(dev->env.loop))
            loop_wait(dev->env.loop, is_idle, dev);
        else
            loop_cond_wait(dev->env.loop, &dev->idle);
    }
}

void virtio_dev_resume(struct virtio_dev *dev)
{
    if (dev->holds == 0 || --dev->holds > 0 || !may_run(dev))
        return;
    if (dev->ops->resume)
        dev->ops->resume(dev);
    for (unsigned q = 0; q < dev->ops->n_queues; q++)
        if (dev->queue[q].mem)
            virtio_dev_kick_later(dev, q);
}

/* ---- restore --------------------------------------------------------------------------------- */

#define STATUS_BITS (ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | NEEDS_RESET | FAILED)

/* Why the loaded state is none that a device can have; NULL = it is one. */
static const char *find_wrong_state(const struct virtio_dev *dev)
{
    const struct virtio_dev_state *s = &dev->s;

    if (s->status & ~STATUS_BITS || (s->status & DRIVER_OK && !(s->status & FEATURES_OK)))
        return "its status is none that a device can have";
    if (s->status & FEATURES_OK && s->features & ~virtio_dev_features(dev))
        return "its driver uses features that the device does not have here";
    for (unsigned q = 0; q < dev->ops->n_queues; q++)
        if (dev->queue[q].s.size_max != dev->ops->queue_size_max || dev->queue[q].s.ready > 1)
            return "a queue of it is not this device's";
    return NULL;
}

int virtio_dev_restore(struct virtio_dev *dev, struct err *e)
{
    const char *why = find_wrong_state(dev);

    dev->holds = 1;
    dev->broken = dev->s.status & (NEEDS_RESET | FAILED);
    if (!why && dev->s.status & DRIVER_OK) {
        dev->active = true;
        if (!dev->broken)
            why = activate(dev);
    }
    if (why)
        return err_set(e, -EINVAL, "The saved %s cannot go on: %s.", dev->ops->name, why);
    if (dev->active && dev->transport)
        dev->transport->activated(dev->transport_owner);
    return 0;
}
