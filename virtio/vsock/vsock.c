/* SPDX-License-Identifier: Apache-2.0 */
/* vsock.c: the socket device: its life, its deadlines, and the reset of its transport. */
#include "virtio/vsock/vsock.h"

#include "virtio/vsock/vsock_device.h"
#include "virtio/vsock/vsock_host.h"
#include "virtio/vsock/vsock_queues.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>

#define F_IN_ORDER (UINT64_C(1) << 35)

/* The only event there is. */
#define EVENT_TRANSPORT_RESET 0u

/* How long a chain of the guest is held at least, and half of how long at most. */
#define HELD_NS (2 * NSEC_PER_MSEC)

/* How long a guest may be without room before it is asked for news: it should tell by itself. */
#define STALL_NS (50 * NSEC_PER_MSEC)

/* Descriptors for everything else in the process. */
#define DESCRIPTORS_BESIDE 256

static const struct state_field fields[] = {
    STATE_SAME(struct vsock_state, guest_cid),    STATE_FIELD(struct vsock_state, last_port),
    STATE_FIELD(struct vsock_state, reset_owed),  STATE_FIELD(struct vsock_state, reset_unseen),
    STATE_FIELD(struct vsock_state, reset_index), STATE_ARRAY(struct vsock_state, pad),
};
const struct state_desc vsock_state_desc =
    STATE_DESC("virtio-vsock", 1, struct vsock_state, fields);

static const struct vsock *to_const_vsock(const struct virtio_dev *dev)
{
    return to_vsock((struct virtio_dev *)(uintptr_t)dev);
}

/* ---- connections as a whole ------------------------------------------------------------------ */

void vsock_drop_all(struct vsock *vsock)
{
    struct vsock_link *link = vsock->table.all.next;

    while (link != &vsock->table.all) {
        struct vsock_conn *conn = container_of(link, struct vsock_conn, all);

        link = link->next;
        if (conn->state != VSOCK_DEAD)
            vsock_conn_end(conn, false);
    }
    vsock->reset_count = 0;
}

void vsock_time(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;

    conn->deadline_ns = now_ns() + VSOCK_ANSWER_NS;
    link_remove(&conn->timed);
    link_append(&vsock->timed, &conn->timed);
    if (!vsock->deadline.armed)
        loop_timer_start(vsock->dev.env.loop, &vsock->deadline, VSOCK_ANSWER_NS);
}

static struct vsock_conn *first_timed(const struct vsock *vsock)
{
    if (!link_is_used(&vsock->timed))
        return NULL;
    return container_of(vsock->timed.next, struct vsock_conn, timed);
}

static void deadline_done(struct op *op, int res, bool more)
{
    struct vsock *vsock = container_of(op, struct vsock, deadline.op);
    struct vsock_conn *conn;
    uint64_t now = now_ns();

    (void)res;
    (void)more;
    vsock->deadline.armed = false;
    if (vsock->held_since_ns) /* the guest cannot answer; resume starts the clock again */
        return;
    while ((conn = first_timed(vsock)) && conn->deadline_ns <= now)
        vsock_conn_expire(conn);
    if (conn)
        loop_timer_start(vsock->dev.env.loop, &vsock->deadline, conn->deadline_ns - now);
    vsock_queues_deliver(vsock);
}

void vsock_time_stall(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;

    link_append(&vsock->stalled, &conn->timed);
    if (!vsock->stall.armed)
        loop_timer_start(vsock->dev.env.loop, &vsock->stall, STALL_NS);
}

static void stall_done(struct op *op, int res, bool more)
{
    struct vsock *vsock = container_of(op, struct vsock, stall.op);

    (void)res;
    (void)more;
    vsock->stall.armed = false;
    while (link_is_used(&vsock->stalled))
        vsock_conn_ask_for_credit(container_of(vsock->stalled.next, struct vsock_conn, timed));
    vsock_queues_deliver(vsock);
}

/* ---- chains of the guest that are held ------------------------------------------------------- */

static void limit_holding(struct vsock *vsock)
{
    if (vsock->held.armed || !virtio_dev_is_holding(&vsock->dev))
        return;
    vsock->held_published = vsock->dev.queue[VSOCK_TX].published;
    loop_timer_start(vsock->dev.env.loop, &vsock->held, HELD_NS);
}

/* Where there is traffic the queue has been published meanwhile, and what is held now is younger.
 */
static void held_done(struct op *op, int res, bool more)
{
    struct vsock *vsock = container_of(op, struct vsock, held.op);

    (void)res;
    (void)more;
    vsock->held.armed = false;
    if (vsock->dev.queue[VSOCK_TX].published == vsock->held_published)
        virtio_dev_publish(&vsock->dev);
    limit_holding(vsock);
}

/* ---- the reset of the transport -------------------------------------------------------------- */

void vsock_reset_connections(struct vsock *vsock)
{
    if (!vsock->dev.active)
        return;
    vsock_drop_all(vsock);
    vsock->s.reset_owed = 1;
    virtio_dev_kick_later(&vsock->dev, VSOCK_EVENTS);
}

/* Puts the event into a buffer of the guest, and asks for a kick when the guest comes back with
 * that buffer. */
static void send_event(struct vsock *vsock)
{
    static const uint32_t id = EVENT_TRANSPORT_RESET;
    struct virtqueue *vq = &vsock->dev.queue[VSOCK_EVENTS];
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;

    if (!virtio_dev_pop(&vsock->dev, VSOCK_EVENTS, &chain, iov, ARRAY_SIZE(iov))) {
        if (!vsock->dev.broken && virtqueue_kicks_on(vq))
            virtio_dev_kick_later(&vsock->dev, VSOCK_EVENTS);
        return;
    }
    if (chain.n_readable > 0 || iov[0].iov_len < sizeof(id)) {
        virtio_dev_needs_reset(&vsock->dev, "an event buffer without room for an event");
        return;
    }
    memcpy(iov[0].iov_base, &id, sizeof(id));
    vsock->s.reset_owed = 0;
    vsock->s.reset_unseen = 1;
    vsock->s.reset_index = virtqueue_driver_index(vq);
    virtio_dev_push(&vsock->dev, VSOCK_EVENTS, chain.head, sizeof(id));
    (void)virtqueue_kicks_on_after(vq, vsock->s.reset_index);
}

static void kick_events(struct vsock *vsock)
{
    struct virtqueue *vq = &vsock->dev.queue[VSOCK_EVENTS];

    if (vsock->s.reset_unseen && virtqueue_kicks_on_after(vq, vsock->s.reset_index))
        vsock->s.reset_unseen = 0;
    if (vsock->s.reset_owed)
        send_event(vsock);
}

/* ---- the device ------------------------------------------------------------------------------ */

static uint64_t vsock_features(const struct virtio_dev *dev)
{
    (void)dev;
    return F_IN_ORDER; /* packets of a queue are done one after the other */
}

static const void *vsock_config_space(const struct virtio_dev *dev, size_t *len)
{
    *len = sizeof(uint64_t);
    return &to_const_vsock(dev)->s.guest_cid;
}

static void start(struct deferred *deferred)
{
    struct vsock *vsock = container_of(deferred, struct vsock, start);

    vsock->started = true;
    vsock_host_start(vsock);
}

/* Clients are taken from the first driver on; until then they wait in the backlog. */
static int vsock_activate(struct virtio_dev *dev)
{
    struct vsock *vsock = to_vsock(dev);

    /* A buffer more is no news while there are some: see vsock_queues_deliver. */
    if (dev->queue[VSOCK_RX].mem)
        virtqueue_kicks_off(&dev->queue[VSOCK_RX]);
    loop_defer(dev->env.loop, &vsock->start);
    return 0;
}

static void vsock_kick(struct virtio_dev *dev, unsigned q)
{
    struct vsock *vsock = to_vsock(dev);

    if (q == VSOCK_RX) {
        metric_add(&metrics.vsock.rx_queue_event_count, 1);
    } else if (q == VSOCK_TX) {
        metric_add(&metrics.vsock.tx_queue_event_count, 1);
        vsock_queues_transmit(vsock);
    } else {
        kick_events(vsock);
    }
    vsock_queues_deliver(vsock);
    limit_holding(vsock);
}

/* Nothing of ours in the ring looks at guest memory: polls and sends go on. */
static void vsock_quiesce(struct virtio_dev *dev)
{
    struct vsock *vsock = to_vsock(dev);

    vsock->held_since_ns = now_ns();
    if (!dev->resetting)
        return;
    vsock_drop_all(vsock);
    vsock->s.reset_owed = vsock->s.reset_unseen = 0;
    vsock->held_since_ns = 0;
}

static void add_time(struct vsock_link *head, uint64_t ns)
{
    for (struct vsock_link *link = head->next; link != head; link = link->next)
        container_of(link, struct vsock_conn, timed)->deadline_ns += ns;
}

/* The time during which nobody could answer does not count. */
static void vsock_resume(struct virtio_dev *dev)
{
    struct vsock *vsock = to_vsock(dev);
    uint64_t held = vsock->held_since_ns ? now_ns() - vsock->held_since_ns : 0;

    vsock->held_since_ns = 0;
    add_time(&vsock->timed, held);
    add_time(&vsock->waiting, held);
    if (link_is_used(&vsock->timed) && !vsock->deadline.armed)
        loop_timer_start(dev->env.loop, &vsock->deadline, VSOCK_ANSWER_NS);
}

static void *vsock_saved(struct virtio_dev *dev)
{
    return &to_vsock(dev)->s;
}

static void vsock_free(struct virtio_dev *dev)
{
    struct vsock *vsock = to_vsock(dev);

    while (link_is_used(&vsock->table.all)) {
        struct vsock_conn *conn = container_of(vsock->table.all.next, struct vsock_conn, all);

        conn->polling = conn->out.sending = false; /* the ring is gone */
        vsock_conn_end(conn, false);
    }
    if (vsock->listen_fd >= 0)
        close(vsock->listen_fd);
    free(vsock->config.id);
    free(vsock->config.uds_path);
    free(vsock);
}

static const struct virtio_dev_ops vsock_ops = {
    .name = "virtio-vsock",
    .device_id = 19,
    .n_queues = VSOCK_QUEUES,
    .queue_size_max = VIRTQUEUE_SIZE_DEFAULT,
    .state = &vsock_state_desc,
    .features = vsock_features,
    .config = vsock_config_space,
    .activate = vsock_activate,
    .kick = vsock_kick,
    .quiesce = vsock_quiesce,
    .resume = vsock_resume,
    .saved = vsock_saved,
    .destroy = vsock_free,
};

/* ---- creation -------------------------------------------------------------------------------- */

/* A thousand connections need more descriptors than most processes are given at first. What the
 * host does not allow shows when there are so many. */
static void allow_descriptors(void)
{
    struct rlimit limit;
    rlim_t wanted = VSOCK_CONNS_MAX + DESCRIPTORS_BESIDE;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = MIN(wanted, limit.rlim_max);
    (void)!setrlimit(RLIMIT_NOFILE, &limit);
}

static int copy_config(struct vsock *vsock, const struct vsock_config *config)
{
    vsock->config.guest_cid = config->guest_cid;
    vsock->config.id = config->id ? strdup(config->id) : NULL;
    vsock->config.uds_path = strdup(config->uds_path);
    return (config->id && !vsock->config.id) || !vsock->config.uds_path ? -ENOMEM : 0;
}

static int set_up(struct vsock *vsock, const struct vsock_config *config, struct err *e)
{
    int rc = copy_config(vsock, config);

    if (rc)
        return err_set(e, rc, "%s", err_os(rc));
    vsock->listen_fd = vsock_host_listen(config->uds_path, e);
    if (vsock->listen_fd < 0) {
        if (e)
            err_prefix(e, "Error binding to the host-side Unix socket: ");
        return vsock->listen_fd;
    }
    allow_descriptors();
    return 0;
}

static void init(struct vsock *vsock, const struct virtio_env *env)
{
    virtio_dev_init(&vsock->dev, &vsock_ops, env);
    vsock->dev.event_fails = &metrics.vsock.rx_queue_event_fails;
    vsock->dev.activate_fails = &metrics.vsock.activate_fails;
    vsock->listen_fd = -1;
    vsock->start.run = start;
    vsock->deadline.op.done = deadline_done;
    vsock->held.op.done = held_done;
    vsock->stall.op.done = stall_done;
    vsock_table_init(&vsock->table);
    link_init(&vsock->ready);
    link_init(&vsock->timed);
    link_init(&vsock->waiting);
    link_init(&vsock->stalled);
    vsock_host_init(vsock);
}

int vsock_create(struct vsock **out, const struct virtio_env *env,
                 const struct vsock_config *config, struct err *e)
{
    struct vsock *vsock = calloc(1, sizeof(*vsock));
    int rc;

    if (!vsock)
        return err_set(e, -ENOMEM, "Cannot create backend for vsock device: %s", err_os(-ENOMEM));
    init(vsock, env);
    vsock->s.guest_cid = config->guest_cid;
    rc = set_up(vsock, config, e);
    if (rc) {
        virtio_dev_destroy(&vsock->dev);
        if (e)
            err_prefix(e, "Cannot create backend for vsock device: ");
        return rc;
    }
    *out = vsock;
    return 0;
}

struct virtio_dev *vsock_dev(struct vsock *vsock)
{
    return &vsock->dev;
}

const struct vsock_config *vsock_config(const struct vsock *vsock)
{
    return &vsock->config;
}
