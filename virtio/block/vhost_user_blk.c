/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_user_blk.c: drives behind a socket. */
#include "virtio/block/vhost_user_blk.h"

#include "virtio/block/blk_io.h"
#include "virtio/block/vhost_user.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/eventfd.h>

/* How long a back end may take: to answer a question, and to finish what it has begun. */
#define ANSWER_NS NSEC_PER_SEC
#define STOP_NS   (5 * NSEC_PER_SEC)

/* Between two looks at the used ring of a queue that is being stopped. */
#define LOOK_AGAIN_NS NSEC_PER_MSEC

/* Bits that mean something to the driver and the back end only, so that they pass through us;
 * FLUSH is for the user to decide, as with a file. */
#define BLK_F_SIZE_MAX (UINT64_C(1) << 1)
#define BLK_F_GEOMETRY (UINT64_C(1) << 4)
#define BLK_F_BLK_SIZE (UINT64_C(1) << 6)
#define BLK_F_TOPOLOGY (UINT64_C(1) << 10)
#define PASSED                                                                                     \
    (BLK_F_SIZE_MAX | BLK_F_SEG_MAX | BLK_F_GEOMETRY | BLK_F_RO | BLK_F_BLK_SIZE |                 \
     BLK_F_TOPOLOGY | BLK_F_DISCARD | BLK_F_WRITE_ZEROES)
#define RING_FEATURES (VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

/* A chain has no more entries than the queue, header and status included. */
#define SEGMENTS_MAX (VIRTQUEUE_SIZE_DEFAULT - 2)

enum ring {
    RING_STOPPED,
    RING_RUNNING,
    RING_STOPPING, /* its base has been asked for */
    RING_DRAINING, /* it takes no more; what it took is not all returned yet */
};

struct vhost_user_blk {
    struct virtio_dev dev;
    struct vhost_user_blk_config config;
    struct metrics_vhost_user_block metrics;
    struct vhost_user conn;
    uint64_t offered; /* by the back end */
    struct blk_config_space space;

    enum ring ring;
    bool restart;        /* resumed before it had stopped: start it again then */
    uint16_t base;       /* while draining: where the ring stopped */
    uint64_t drained_by; /* then: ns, for how long we wait */
    int call_fd;         /* the back end's interrupts; its counter is never read */
    struct op call_op, conn_op;
    bool polling; /* these two are armed */
    struct deferred poll;
    struct loop_timer timer;
    uint64_t timer_until; /* ns */
    struct vhost_user_call stop_call, config_call;

    struct op kick_op;
    bool kicking, kick_again;
    struct iovec kick_iov;
    uint64_t one;
};

static struct vhost_user_blk *to_blk(struct virtio_dev *dev)
{
    return container_of(dev, struct vhost_user_blk, dev);
}

static const struct vhost_user_blk *to_const_blk(const struct virtio_dev *dev)
{
    return to_blk((struct virtio_dev *)(uintptr_t)dev);
}

/* ---- the end of a back end ------------------------------------------------------------------- */

/* What a connection's error means, for a sentence that begins "the back end". */
static const char *fault(int rc)
{
    switch (rc) {
    case -ECONNRESET:
    case -EPIPE:
    case -ENOTCONN:
        return "has closed the connection";
    case -EPROTO:
        return "does not keep to the vhost-user protocol";
    case -ETIMEDOUT:
        return "does not answer";
    case -EAGAIN:
        return "does not read what it is sent";
    case -EREMOTEIO:
        return "cannot tell its configuration";
    default:
        return err_os(rc);
    }
}

/* The ring stands still; whoever waited for that, waits no more. */
static void stopped(struct vhost_user_blk *blk)
{
    bool was_asked = blk->ring == RING_STOPPING || blk->ring == RING_DRAINING;

    blk->ring = RING_STOPPED;
    if (was_asked)
        virtio_dev_op_end(&blk->dev);
}

/* The back end is gone, or not to be trusted any more. Any thread. */
static int lose(struct vhost_user_blk *blk, int rc)
{
    if (blk->conn.over)
        return rc;
    log_error("Drive %s: the back end at %s %s; requests of the guest are not served any more.",
              blk->config.id, blk->config.socket, fault(rc));
    vhost_user_end(&blk->conn, rc);
    stopped(blk);
    if (blk->dev.active)
        virtio_dev_needs_reset(&blk->dev, "its back end is lost");
    return rc;
}

/* ---- the ring: start and stop ---------------------------------------------------------------- */

static bool enables_rings(const struct vhost_user_blk *blk)
{
    return blk->offered & VHOST_USER_F_PROTOCOL_FEATURES;
}

static int send_addresses(struct vhost_user_blk *blk)
{
    const struct virtqueue_state *queue = &blk->dev.queue[BLK_QUEUE].s;
    struct mem *mem = blk->dev.env.mem;
    /* The rings lie in RAM, which virtqueue_map has checked. */
    struct vhost_user_vring_addr addr = {
        .desc = (uintptr_t)mem_readable(mem, GPA(queue->desc), 1),
        .used = (uintptr_t)mem_readable(mem, GPA(queue->used), 1),
        .avail = (uintptr_t)mem_readable(mem, GPA(queue->avail), 1),
    };

    return vhost_user_send(&blk->conn, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
}

/* Hands the queue over from its saved index on. Any thread. */
static int start_ring(struct vhost_user_blk *blk)
{
    const struct virtqueue *vq = &blk->dev.queue[BLK_QUEUE];
    struct vhost_user *conn = &blk->conn;
    int rc;

    if (!vq->mem) /* the driver has left it out */
        return 0;
    rc = vhost_user_send_vring(conn, VHOST_USER_SET_VRING_NUM, vq->s.size);
    if (rc == 0)
        rc = vhost_user_send_vring(conn, VHOST_USER_SET_VRING_BASE, vq->s.next_avail);
    if (rc == 0)
        rc = send_addresses(blk);
    if (rc == 0)
        rc = vhost_user_send_vring_fd(conn, VHOST_USER_SET_VRING_CALL, blk->call_fd);
    if (rc == 0)
        rc = vhost_user_send_vring_fd(conn, VHOST_USER_SET_VRING_KICK, blk->dev.kick_fd[BLK_QUEUE]);
    if (rc == 0 && enables_rings(blk))
        rc = vhost_user_send_vring(conn, VHOST_USER_SET_VRING_ENABLE, 1);
    if (rc == 0)
        blk->ring = RING_RUNNING;
    return rc;
}

static void resume(struct virtio_dev *dev)
{
    struct vhost_user_blk *blk = to_blk(dev);
    int rc;

    blk->restart = blk->ring == RING_STOPPING || blk->ring == RING_DRAINING;
    if (blk->restart)
        return;
    rc = start_ring(blk);
    if (rc)
        lose(blk, rc);
}

static uint16_t used_index(const struct vhost_user_blk *blk)
{
    uint16_t index = 0;

    if (mem_read(blk->dev.env.mem, GPA(blk->dev.queue[BLK_QUEUE].s.used + 2), &index,
                 sizeof(index)) < 0)
        return 0;
    return index;
}

/*
 * A base says what the back end took; not every back end waits until that is done before it
 * answers. Each chain taken adds one entry to the used ring, so the indices meet at the end. More
 * entries missing than the queue has are the guest's own writing: there is nothing to wait for.
 */
static bool is_drained(const struct vhost_user_blk *blk)
{
    uint16_t missing = (uint16_t)(blk->base - used_index(blk));

    return missing == 0 || missing > blk->dev.queue[BLK_QUEUE].s.size;
}

/*
 * When it takes too long we go on all the same: cutting the connection would not call those
 * requests back, and would cost a machine that was only paused its disk.
 */
static void look_at_used_ring(struct vhost_user_blk *blk)
{
    struct virtqueue_state *queue = &blk->dev.queue[BLK_QUEUE].s;
    bool drained = is_drained(blk);

    if (!drained && now_ns() < blk->drained_by)
        return;
    if (!drained)
        log_warn("Drive %s: the back end at %s has stopped, but still has requests of the guest.",
                 blk->config.id, blk->config.socket);
    queue->next_avail = blk->base;
    queue->next_used = used_index(blk);
    stopped(blk);
    if (blk->restart && !blk->dev.broken)
        resume(&blk->dev);
}

/* Wakes us for whatever has to happen first. Loop thread. */
static void arm_timer(struct vhost_user_blk *blk)
{
    const struct vhost_user_call *oldest = blk->conn.calls;
    uint64_t now = now_ns(), until = oldest ? oldest->deadline_ns : UINT64_MAX;

    if (blk->ring == RING_DRAINING)
        until = MIN(until, now + LOOK_AGAIN_NS);
    if (until == UINT64_MAX)
        return;
    if (blk->timer.armed) {
        if (until < blk->timer_until) /* its end arms it again */
            loop_cancel(blk->dev.env.loop, &blk->timer.op);
        return;
    }
    blk->timer_until = until;
    loop_timer_start(blk->dev.env.loop, &blk->timer, until > now ? until - now : 1);
}

static void timer_done(struct op *op, int res, bool more)
{
    struct vhost_user_blk *blk = container_of(op, struct vhost_user_blk, timer.op);
    const struct vhost_user_call *oldest = blk->conn.calls;

    (void)res;
    (void)more;
    blk->timer.armed = false;
    if (blk->ring == RING_DRAINING)
        look_at_used_ring(blk);
    if (oldest && now_ns() >= oldest->deadline_ns)
        lose(blk, -ETIMEDOUT);
    arm_timer(blk);
}

static void stop_answered(struct vhost_user_call *call, int rc)
{
    struct vhost_user_blk *blk = container_of(call, struct vhost_user_blk, stop_call);

    if (rc) /* the connection has ended */
        return;
    blk->base = (uint16_t)call->reply.vring.num;
    blk->ring = RING_DRAINING;
    blk->drained_by = now_ns() + STOP_NS;
    look_at_used_ring(blk);
    arm_timer(blk);
}

/* ---- polls ----------------------------------------------------------------------------------- */

static void conn_done(struct op *op, int res, bool more)
{
    struct vhost_user_blk *blk = container_of(op, struct vhost_user_blk, conn_op);
    int rc = vhost_user_receive(&blk->conn);

    (void)res;
    if (rc)
        lose(blk, rc);
    if (more && blk->conn.over)
        loop_cancel(blk->dev.env.loop, op);
    if (!more && !blk->conn.over)
        loop_poll(blk->dev.env.loop, op, blk->conn.fd, true);
}

static void call_done(struct op *op, int res, bool more)
{
    struct vhost_user_blk *blk = container_of(op, struct vhost_user_blk, call_op);

    if (!more && res != -ECANCELED)
        loop_poll(blk->dev.env.loop, op, blk->call_fd, true);
    if (blk->ring == RING_DRAINING)
        look_at_used_ring(blk);
    virtio_dev_interrupt(&blk->dev);
}

/* Begun by the first activation, for good: resets and pauses go on listening. Loop thread. */
static void start_polling(struct vhost_user_blk *blk)
{
    if (blk->polling)
        return;
    blk->polling = true;
    loop_poll(blk->dev.env.loop, &blk->call_op, blk->call_fd, true);
    loop_poll(blk->dev.env.loop, &blk->conn_op, blk->conn.fd, true);
}

static void run_poll(struct deferred *deferred)
{
    start_polling(container_of(deferred, struct vhost_user_blk, poll));
}

/* ---- the device ------------------------------------------------------------------------------ */

static uint64_t features(const struct virtio_dev *dev)
{
    const struct vhost_user_blk *blk = to_const_blk(dev);

    return blk->offered & (PASSED | (blk->config.cache == BLK_CACHE_WRITEBACK ? BLK_F_FLUSH : 0));
}

static const void *config_space(const struct virtio_dev *dev, size_t *len)
{
    *len = BLK_CONFIG_SIZE;
    return &to_const_blk(dev)->space;
}

/* Nothing that can be written is offered. */
static void write_config(struct virtio_dev *dev, uint64_t offset, const void *from, unsigned len)
{
    (void)offset;
    (void)from;
    (void)len;
    metric_add(&to_blk(dev)->metrics.cfg_fails, 1);
}

static int hand_over(struct vhost_user_blk *blk)
{
    uint64_t agreed = blk->dev.s.features | (blk->offered & VHOST_USER_F_PROTOCOL_FEATURES);
    int rc = vhost_user_send_u64(&blk->conn, VHOST_USER_SET_FEATURES, agreed);

    if (rc == 0)
        rc = vhost_user_send_memory(&blk->conn, blk->dev.env.mem);
    return rc ? rc : start_ring(blk);
}

/* Only sends: what the back end makes of it, it shows later, by leaving if it does not like it. */
static int activate(struct virtio_dev *dev)
{
    struct vhost_user_blk *blk = to_blk(dev);
    uint64_t start = now_ns();
    int rc = hand_over(blk);

    if (rc)
        return lose(blk, rc);
    loop_defer(dev->env.loop, &blk->poll);
    blk->metrics.activate_time_us = (now_ns() - start) / NSEC_PER_USEC;
    return 0;
}

/*
 * Through the ring, not by write(2): the back end has the eventfd too, could make it block and fill
 * it, and we would wait.
 */
static void kick(struct virtio_dev *dev, unsigned q)
{
    struct vhost_user_blk *blk = to_blk(dev);

    blk->kick_again = blk->kicking;
    if (blk->kicking || dev->kick_fd[q] < 0)
        return;
    blk->kicking = true;
    loop_writev(dev->env.loop, &blk->kick_op, dev->kick_fd[q], &blk->kick_iov, 1, UINT64_MAX);
}

static void kick_done(struct op *op, int res, bool more)
{
    struct vhost_user_blk *blk = container_of(op, struct vhost_user_blk, kick_op);

    (void)res;
    (void)more;
    blk->kicking = false;
    if (blk->kick_again)
        kick(&blk->dev, BLK_QUEUE);
}

static void quiesce(struct virtio_dev *dev)
{
    struct vhost_user_blk *blk = to_blk(dev);
    int rc;

    blk->restart = false;
    if (blk->ring != RING_RUNNING)
        return;
    start_polling(blk); /* the activation may just have been */
    blk->stop_call.deadline_ns = now_ns() + STOP_NS;
    rc = vhost_user_ask_vring_base(&blk->conn, &blk->stop_call);
    if (rc) {
        lose(blk, rc);
        return;
    }
    blk->ring = RING_STOPPING;
    virtio_dev_op_begin(dev);
    arm_timer(blk);
}

static void free_config(struct vhost_user_blk_config *config)
{
    free(config->id);
    free(config->socket);
    free(config->partuuid);
}

static void destroy(struct virtio_dev *dev)
{
    struct vhost_user_blk *blk = to_blk(dev);

    vhost_user_close(&blk->conn);
    if (blk->call_fd >= 0)
        close(blk->call_fd);
    free_config(&blk->config);
    free(blk);
}

static const struct virtio_dev_ops ops = {
    .name = "vhost-user-blk",
    .device_id = 2,
    .n_queues = 1,
    .queue_size_max = VIRTQUEUE_SIZE_DEFAULT,
    .features = features,
    .config = config_space,
    .write_config = write_config,
    .activate = activate,
    .kick = kick,
    .served_elsewhere = true,
    .quiesce = quiesce,
    .resume = resume,
    .destroy = destroy,
};

/* ---- creation -------------------------------------------------------------------------------- */

/* A question before the machine runs. */
static int ask_u64(struct vhost_user_blk *blk, enum vhost_user_request request,
                   uint64_t deadline_ns, uint64_t *answer)
{
    struct vhost_user_call call = {.deadline_ns = deadline_ns};
    int rc = vhost_user_ask_u64(&blk->conn, &call, request);

    if (rc == 0)
        rc = vhost_user_wait(&blk->conn, &call);
    *answer = call.reply.u64;
    return rc;
}

static void take_config(struct vhost_user_blk *blk, const struct vhost_user_call *call)
{
    memcpy(&blk->space, call->reply.config.bytes, BLK_CONFIG_SIZE);
    blk->space.seg_max = MIN(blk->space.seg_max, SEGMENTS_MAX);
}

static int negotiate(struct vhost_user_blk *blk, uint64_t deadline_ns)
{
    const uint64_t needed = VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES;
    struct vhost_user_call call = {.deadline_ns = deadline_ns};
    uint64_t protocol = 0;
    int rc = vhost_user_send(&blk->conn, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);

    if (rc == 0)
        rc = ask_u64(blk, VHOST_USER_GET_FEATURES, deadline_ns, &blk->offered);
    if (rc == 0 && (blk->offered & needed) != needed)
        return -ENOTSUP;
    if (rc == 0)
        rc = ask_u64(blk, VHOST_USER_GET_PROTOCOL_FEATURES, deadline_ns, &protocol);
    if (rc == 0 && !(protocol & VHOST_USER_PROTOCOL_F_CONFIG))
        return -ENOTSUP;
    if (rc == 0)
        rc = vhost_user_send_u64(&blk->conn, VHOST_USER_SET_PROTOCOL_FEATURES,
                                 VHOST_USER_PROTOCOL_F_CONFIG);
    if (rc == 0)
        rc = vhost_user_ask_config(&blk->conn, &call, BLK_CONFIG_SIZE);
    if (rc == 0)
        rc = vhost_user_wait(&blk->conn, &call);
    if (rc == 0)
        take_config(blk, &call);
    return rc;
}

static char *copy_string(const char *string, bool *failed)
{
    char *copy = string ? strdup(string) : NULL;

    *failed |= string && !copy;
    return copy;
}

static int copy_config(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config)
{
    bool failed = false;

    blk->config = *config;
    blk->config.id = copy_string(config->id, &failed);
    blk->config.socket = copy_string(config->socket, &failed);
    blk->config.partuuid = copy_string(config->partuuid, &failed);
    return failed ? -ENOMEM : 0;
}

static struct vhost_user_blk *new_blk(const struct virtio_env *env)
{
    struct vhost_user_blk *blk = calloc(1, sizeof(*blk));

    if (!blk)
        return NULL;
    virtio_dev_init(&blk->dev, &ops, env);
    blk->dev.activate_fails = &blk->metrics.activate_fails;
    vhost_user_open(&blk->conn, -1);
    blk->call_fd = -1;
    blk->call_op.done = call_done;
    blk->conn_op.done = conn_done;
    blk->poll.run = run_poll;
    blk->timer.op.done = timer_done;
    blk->stop_call.done = stop_answered;
    blk->kick_op.done = kick_done;
    blk->kick_iov = (struct iovec){&blk->one, sizeof(blk->one)};
    blk->one = 1;
    return blk;
}

static int set_up(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config, int fd,
                  struct err *e)
{
    uint64_t start = now_ns();
    int rc = copy_config(blk, config);

    if (rc == 0)
        blk->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rc || blk->call_fd < 0)
        return err_set(e, rc ? rc : -errno, "%s", err_os(rc ? rc : -errno));
    if (fd >= 0)
        vhost_user_open(&blk->conn, fd);
    else
        rc = vhost_user_connect(&blk->conn, config->socket, start + ANSWER_NS, e);
    if (rc)
        return rc;
    rc = negotiate(blk, start + ANSWER_NS);
    if (rc == -ENOTSUP)
        return err_set(e, rc,
                       "The back end does not offer what a drive needs (virtio 1, the protocol "
                       "feature CONFIG): %s",
                       config->socket);
    if (rc)
        return err_set(e, rc, "The back end %s: %s", fault(rc), config->socket);
    blk->dev.withheld = RING_FEATURES & ~blk->offered;
    blk->metrics.init_time_us = (now_ns() - start) / NSEC_PER_USEC;
    return 0;
}

int vhost_user_blk_open(struct vhost_user_blk **out, const struct virtio_env *env,
                        const struct vhost_user_blk_config *config, int fd, struct err *e)
{
    struct vhost_user_blk *blk = new_blk(env);
    int rc;

    if (!blk)
        return err_set(e, -ENOMEM, "Unable to create the virtio block device: %s", err_os(-ENOMEM));
    rc = set_up(blk, config, fd, e);
    if (rc) {
        destroy(&blk->dev);
        if (e)
            err_prefix(e, "Unable to create the virtio block device: Vhost user backend error: ");
        return rc;
    }
    *out = blk;
    return 0;
}

/* The new configuration takes the place of the old, strings and all. */
static int replace_config(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config)
{
    struct vhost_user_blk_config old = blk->config;
    int rc = copy_config(blk, config);

    free_config(rc ? &blk->config : &old);
    if (rc)
        blk->config = old;
    return rc;
}

int vhost_user_blk_configure(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config)
{
    struct vhost_user_call call = {.deadline_ns = now_ns() + ANSWER_NS};
    int rc = strcmp(config->socket, blk->config.socket) == 0 ? 0 : -EXDEV;

    if (rc == 0)
        rc = vhost_user_ask_config(&blk->conn, &call, BLK_CONFIG_SIZE);
    if (rc == 0)
        rc = vhost_user_wait(&blk->conn, &call);
    if (rc == 0)
        rc = replace_config(blk, config);
    if (rc == 0)
        take_config(blk, &call);
    return rc;
}

int vhost_user_blk_create(struct vhost_user_blk **out, const struct virtio_env *env,
                          const struct vhost_user_blk_config *config, struct err *e)
{
    return vhost_user_blk_open(out, env, config, -1, e);
}

struct virtio_dev *vhost_user_blk_dev(struct vhost_user_blk *blk)
{
    return &blk->dev;
}

const struct vhost_user_blk_config *vhost_user_blk_config(const struct vhost_user_blk *blk)
{
    return &blk->config;
}

struct metrics_vhost_user_block *vhost_user_blk_metrics(struct vhost_user_blk *blk)
{
    return &blk->metrics;
}

bool vhost_user_blk_read_only(const struct vhost_user_blk *blk)
{
    return blk->offered & BLK_F_RO;
}

/* ---- updates --------------------------------------------------------------------------------- */

static bool is_answered(void *call)
{
    return !((const struct vhost_user_call *)call)->pending;
}

/* Asks for the configuration while the loop goes on. */
static int fetch_config(struct vhost_user_blk *blk)
{
    struct vhost_user_call *call = &blk->config_call;
    int rc;

    if (!blk->conn.over)
        start_polling(blk);
    call->deadline_ns = now_ns() + ANSWER_NS;
    rc = vhost_user_ask_config(&blk->conn, call, BLK_CONFIG_SIZE);
    if (rc)
        return lose(blk, rc);
    arm_timer(blk);
    loop_wait(blk->dev.env.loop, is_answered, call);
    return call->rc;
}

int vhost_user_blk_update(struct vhost_user_blk *blk, struct err *e)
{
    uint64_t start = now_ns();
    int rc = fetch_config(blk);

    if (rc) {
        metric_add(&blk->metrics.cfg_fails, 1);
        return err_set(e, rc, "Vhost user backend error: The back end %s: %s", fault(rc),
                       blk->config.socket);
    }
    take_config(blk, &blk->config_call);
    virtio_dev_config_changed(&blk->dev);
    blk->metrics.config_change_time_us = (now_ns() - start) / NSEC_PER_USEC;
    return 0;
}
