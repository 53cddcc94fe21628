/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio.h owns what every virtio device is: negotiation, the status machine, queue set-up, reset,
 * quiesce and DEVICE_NEEDS_RESET (virtio 1.3, sections 2.1 to 2.7 and 3.1), between a transport
 * above and a device below.
 *
 *      transport (mmio.c)     registers, ioeventfd, interrupt
 *        | virtio_dev_* calls                              ^ struct virtio_transport_ops
 *      generic (virtio.c)     every rule, once
 *        | the hooks of struct virtio_dev_ops              ^ virtio_dev_pop, _push, _op_begin,
 *      device (blk.c, rng.c)  what a request means           _op_end, _needs_reset
 *
 * What a device may rely on: activate comes only after FEATURES_OK with a subset of what it offered
 * and with queues whose rings lie wholly in RAM; kick comes only for a ready queue between activate
 * and quiesce, on the loop thread, under the machine lock. What it owes: count every pending
 * operation with virtio_dev_op_begin/_end, keep no pointer into guest memory outside a pending
 * request, and report the guest's mistakes with virtio_dev_needs_reset.
 *
 * Reset is synchronous, because Linux's driver writes 0 to Status and reuses the memory at once:
 * the writer waits, on a condition of the machine lock, until nothing is in flight. Meanwhile the
 * device ignores every other write.
 *
 * Everything here: under the machine lock; on any thread unless said otherwise.
 */
#ifndef MAYFLY_VIRTIO_VIRTIO_H
#define MAYFLY_VIRTIO_VIRTIO_H

#include "virtio/virtqueue.h"
#include "vmm/base/loop.h"
#include "vmm/base/mem.h"
#include "vmm/base/state.h"

#define VIRTIO_QUEUES_MAX 8

/* Feature bits that the generic layer offers for every device, but for what it withholds. */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)

/* The Status field. */
#define VIRTIO_STATUS_ACKNOWLEDGE 1u
#define VIRTIO_STATUS_DRIVER      2u
#define VIRTIO_STATUS_DRIVER_OK   4u
#define VIRTIO_STATUS_FEATURES_OK 8u
#define VIRTIO_STATUS_NEEDS_RESET 64u
#define VIRTIO_STATUS_FAILED      128u

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

    /* Offered, beyond VERSION_1 and the ring features that the generic layer adds. NULL = none. */
    uint64_t (*features)(const struct virtio_dev *dev);
    /* The device's configuration space, read in place; NULL = none. */
    const void *(*config)(const struct virtio_dev *dev, size_t *len);
    /* The driver writes [offset, offset + len) of it, which lies inside; the device takes what may
     * be written and ignores the rest. Any thread. NULL = the driver cannot write it. */
    void (*write_config)(struct virtio_dev *dev, uint64_t offset, const void *from, unsigned len);
    /* DRIVER_OK: queues are mapped, features final. A failure (-errno) becomes DEVICE_NEEDS_RESET.
     * Often on a vCPU thread, so it starts nothing on the loop. NULL = nothing to do. */
    int (*activate)(struct virtio_dev *dev);
    /* Buffers may have become available in queue q. */
    void (*kick)(struct virtio_dev *dev, unsigned q);
    /* Another process serves the queues and is given the transport's eventfds (virtio_dev.kick_fd,
     * call_fd): these are not polled here, and kick is called only for kicks that did not come by
     * them. */
    bool served_elsewhere;
    /* Cancel what could wait for ever (a read parked on a socket); nothing new is asked of the
     * device from here on. Loop thread. NULL = every operation of the device ends by itself. */
    void (*quiesce)(struct virtio_dev *dev);
    /* After a quiesce that was not a reset (pause): go on; every ready queue is kicked afterwards.
     * Loop thread. NULL = the kicks suffice. */
    void (*resume)(struct virtio_dev *dev);
    /* The driver has reset the device, and nothing is in flight: forget what was between the two.
     * Any thread. NULL = nothing to forget. */
    void (*reset)(struct virtio_dev *dev);
    /* The device's saved struct (of ops->state), in place. NULL with state == NULL. */
    void *(*saved)(struct virtio_dev *dev);
    /* Frees the device; nothing is in flight. */
    void (*destroy)(struct virtio_dev *dev);
};

enum virtio_interrupt {
    VIRTIO_INTERRUPT_USED = 1,   /* used buffers: bit 0 of InterruptStatus */
    VIRTIO_INTERRUPT_CONFIG = 2, /* configuration or status changed: bit 1 */
};

struct virtio_transport_ops {
    /* Tells the driver. */
    void (*interrupt)(void *transport, enum virtio_interrupt why);
    /* The configuration has changed, whether the driver is told or not. */
    void (*config_changed)(void *transport);
    /* The device has become active: from now on kicks matter. */
    void (*activated)(void *transport);
    /* The driver has reset the device: the transport's registers go back to their first values. */
    void (*reset)(void *transport);
};

/* The saved part common to all devices; the queues have their own. */
struct virtio_dev_state {
    uint64_t features; /* as the driver wrote them; final after FEATURES_OK */
    uint32_t status;
    uint32_t config_generation;
};
extern const struct state_desc virtio_dev_state_desc;

/*
 * Embedded in each device. The fields are for virtio.c; a device reads env, s.features and hands
 * queues to virtqueue.h, a transport sets up queue[].s through virtio_dev_queue_setup.
 */
struct virtio_dev {
    const struct virtio_dev_ops *ops;
    struct virtio_env env;
    struct virtio_dev_state s;
    struct virtqueue queue[VIRTIO_QUEUES_MAX];
    const struct virtio_transport_ops *transport; /* NULL = not attached */
    void *transport_owner;
    uint64_t *event_fails, *activate_fails; /* the device's counters of those names, or NULL */
    uint64_t withheld; /* of the ring features below: not offered (another process lacks them) */
    int kick_fd[VIRTIO_QUEUES_MAX]; /* the transport's eventfd of each queue; -1 = none */
    int call_fd; /* served elsewhere: the eventfd that interrupts the driver; -1 = none */

    bool active;          /* activated, and not reset since */
    bool broken;          /* the guest's mistake, or FAILED: nothing more until a reset */
    bool resetting;       /* a writer of Status waits for the drain */
    bool quiesce_pending; /* ops->quiesce has to run on the loop thread first */
    unsigned holds;       /* quiesce minus resume */
    unsigned in_flight;   /* virtio_dev_op_begin minus _op_end */
    uint32_t touched;     /* a bit a queue with entries not yet published */
    uint32_t kicked;      /* a bit a queue to be kicked by `work` */
    struct batch_hook publish;
    struct deferred work;
    pthread_cond_t idle; /* signalled when the device becomes idle, or a reset is over */
};

/* ---- for devices ----------------------------------------------------------------------------- */

void virtio_dev_init(struct virtio_dev *dev, const struct virtio_dev_ops *ops,
                     const struct virtio_env *env);

/* Whether the driver accepted `feature` (one bit). */
static inline bool virtio_dev_has(const struct virtio_dev *dev, uint64_t feature)
{
    return dev->s.features & feature;
}

/* Takes the next chain of queue q; false when there is none, or after a mistake (then the device is
 * broken). */
bool virtio_dev_pop(struct virtio_dev *dev, unsigned q, struct vq_chain *chain, struct iovec *iov,
                    unsigned room) __must_check;

/* Returns a chain. Used entries are published, and the driver interrupted at most once, at the end
 * of this batch of completions. */
void virtio_dev_push(struct virtio_dev *dev, unsigned q, uint16_t head, uint32_t len);

/*
 * The same for a chain that the driver is in no hurry to have back. If it wants an interrupt for
 * it, the entry is held: the driver sees it with the next one of any queue of the device, and one
 * interrupt does for both. A device that uses this limits how long and how many are held, by
 * virtio_dev_publish; a pause shows them too.
 */
void virtio_dev_push_held(struct virtio_dev *dev, unsigned q, uint16_t head, uint32_t len);

/* Whether entries are held beyond this batch of completions. */
bool virtio_dev_is_holding(const struct virtio_dev *dev);

/* Shows what is held at the end of this batch. */
void virtio_dev_publish(struct virtio_dev *dev);

/* What came of an attempt to serve one request. */
enum virtio_serve {
    VIRTIO_SERVED, /* it is done, or on its way: try the next */
    VIRTIO_EMPTY,  /* there was none */
    VIRTIO_LATER,  /* it has to wait; the device comes back by itself, kicks are not needed */
};

/*
 * The body of a kick: calls `serve` until queue q is empty and kicks are on again, or it says
 * later, or `share` requests are served; then it goes on in a later turn of the loop, so that a
 * flood in one queue cannot starve the rest. Returns the requests served.
 */
unsigned virtio_dev_serve(struct virtio_dev *dev, unsigned q, unsigned share,
                          enum virtio_serve (*serve)(struct virtio_dev *dev, unsigned q));

/* Kicks queue q from a later turn of the loop: for a device that has done its share of one turn. */
void virtio_dev_kick_later(struct virtio_dev *dev, unsigned q);

/* Around every operation that outlives the call that started it. */
void virtio_dev_op_begin(struct virtio_dev *dev);
void virtio_dev_op_end(struct virtio_dev *dev);

/*
 * The guest broke a rule: the device stops until it is reset, the driver is told, one line is
 * logged (rate limited) and event_fails counts it.
 */
void virtio_dev_needs_reset(struct virtio_dev *dev, const char *why);

/* The configuration space has changed: new generation, configuration interrupt. */
void virtio_dev_config_changed(struct virtio_dev *dev);

/* The same for a change that the driver has asked for itself, and so need not be told of. */
void virtio_dev_config_agreed(struct virtio_dev *dev);

/* ---- for transports -------------------------------------------------------------------------- */

void virtio_dev_attach(struct virtio_dev *dev, const struct virtio_transport_ops *transport,
                       void *owner);

uint64_t virtio_dev_features(const struct virtio_dev *dev);
/* 32 bits of the driver's features, `select` 0 or 1; ignored outside the DRIVER step. */
void virtio_dev_write_features(struct virtio_dev *dev, uint32_t select, uint32_t value);

/* The queue if q exists, for reading its registers; else NULL. */
const struct virtqueue *virtio_dev_queue(const struct virtio_dev *dev, uint32_t q);
/* The registers of queue q if it exists and may be set up now (FEATURES_OK and not yet DRIVER_OK);
 * else NULL. */
struct virtqueue_state *virtio_dev_queue_setup(struct virtio_dev *dev, uint32_t q);

/* A write to Status. Returns when its consequences, a reset included, are complete. */
void virtio_dev_write_status(struct virtio_dev *dev, uint32_t value);

/* Bytes of configuration space; what lies outside it reads as 0. */
void virtio_dev_read_config(const struct virtio_dev *dev, uint64_t offset, void *to, unsigned len);

/* The driver writes to it; what lies outside, or cannot be written, is ignored. */
void virtio_dev_write_config(struct virtio_dev *dev, uint64_t offset, const void *from,
                             unsigned len);

/* The driver kicked queue q (any number). Loop thread. */
void virtio_dev_kick(struct virtio_dev *dev, uint32_t q);

/* ---- for the machine ------------------------------------------------------------------------- */

/*
 * Start nothing new. Counts: as many virtio_dev_resume undo it. What is in flight goes on; wait
 * with virtio_dev_drain or until virtio_dev_is_idle.
 *
 * In flight is what reads or writes guest memory, or holds a chain. What does neither may stay in
 * the ring over a pause (a limiter's timer, a poll of a socket): until the resume it finds nothing
 * to do.
 */
void virtio_dev_quiesce(struct virtio_dev *dev);

/* Nothing in flight, nothing waits to be cancelled. */
bool virtio_dev_is_idle(const struct virtio_dev *dev);

/* Returns when the device is idle. On the loop thread completions go on meanwhile (loop_wait); on
 * another the lock is released and the loop thread must be running. */
void virtio_dev_drain(struct virtio_dev *dev);

/*
 * After the saved structs (of the device, its queues, and ops->saved) have been loaded in place
 * into a device that was never used: it is where the saved one was, held as by one
 * virtio_dev_quiesce. -EINVAL with a sentence when no device can be there, as when a ring is not in
 * RAM or the driver accepted what this host does not offer; then the device must not be used.
 */
int virtio_dev_restore(struct virtio_dev *dev, struct err *e) __must_check;

/* Go on, and kick every ready queue once (a kick may have come while the device was held). */
void virtio_dev_resume(struct virtio_dev *dev);

/* NULL is accepted. The loop has ended or never saw the device. */
void virtio_dev_destroy(struct virtio_dev *dev);

#endif
