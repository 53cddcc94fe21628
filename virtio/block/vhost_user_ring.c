/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_user_ring.c: a drive's queue on its way to a back end and back. */
#include "virtio/block/vhost_user_ring.h"

#include "vmm/base/log.h"

#include <errno.h>

/* How long a back end may take to return the requests it has, and to answer that it has stopped. */
#define STOP_NS (5 * NSEC_PER_SEC)

/* Between two looks at the used ring of a queue that is being stopped. */
#define LOOK_AGAIN_NS NSEC_PER_MSEC

/* ---- the end of a back end ------------------------------------------------------------------- */

static bool is_stopping(const struct vhost_user_blk *blk)
{
    return blk->ring != RING_STOPPED && blk->ring != RING_RUNNING;
}

/* The ring stands still; whoever waited for that, waits no more. */
static void stopped(struct vhost_user_blk *blk)
{
    bool pending = is_stopping(blk);

    blk->ring = RING_STOPPED;
    if (pending)
        virtio_dev_op_end(&blk->dev);
}

int vhost_user_ring_lose(struct vhost_user_blk *blk, int rc)
{
    if (blk->conn.over)
        return rc;
    log_error("Drive %s: the back end at %s %s; requests of the guest are not served any more.",
              blk->config.id, blk->config.socket, vhost_user_fault(rc));
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
    /* virtqueue_map has found them; of memory unplugged since the address is 0, which the back end
     * refuses. */
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
        rc = vhost_user_send_vring_fd(conn, VHOST_USER_SET_VRING_CALL, blk->dev.call_fd);
    if (rc == 0)
        rc = vhost_user_send_vring_fd(conn, VHOST_USER_SET_VRING_KICK, blk->dev.kick_fd[BLK_QUEUE]);
    if (rc == 0 && enables_rings(blk))
        rc = vhost_user_send_vring(conn, VHOST_USER_SET_VRING_ENABLE, 1);
    if (rc == 0)
        blk->ring = RING_RUNNING;
    return rc;
}

void vhost_user_ring_resume(struct vhost_user_blk *blk)
{
    int rc;

    blk->restart = is_stopping(blk);
    if (blk->restart)
        return;
    rc = start_ring(blk);
    if (rc)
        vhost_user_ring_lose(blk, rc);
}

/* The index of the available or used ring at `gpa`; the guest may have written anything there. */
static uint16_t index_at(const struct vhost_user_blk *blk, uint64_t gpa)
{
    uint16_t index = 0;

    return mem_read(blk->dev.env.mem, GPA(gpa + 2), &index, sizeof(index)) < 0 ? 0 : index;
}

/*
 * Whether as many requests have been returned as there were up to index `taken`. More missing than
 * the queue has entries is the guest's own writing: there is nothing to wait for.
 */
static bool are_returned(const struct vhost_user_blk *blk, uint16_t taken)
{
    const struct virtqueue_state *queue = &blk->dev.queue[BLK_QUEUE].s;
    uint16_t missing = (uint16_t)(taken - index_at(blk, queue->used));

    return missing == 0 || missing > queue->size;
}

static void ask_for_base(struct vhost_user_blk *blk)
{
    int rc;

    blk->stop_call.deadline_ns = now_ns() + STOP_NS;
    rc = vhost_user_ask_vring_base(&blk->conn, &blk->stop_call);
    if (rc)
        vhost_user_ring_lose(blk, rc);
    else
        blk->ring = RING_STOPPING;
}

/*
 * When it takes too long we go on all the same: cutting the connection would not call those
 * requests back, and would cost a machine that was only paused its disk.
 */
static void drained(struct vhost_user_blk *blk)
{
    struct virtqueue_state *queue = &blk->dev.queue[BLK_QUEUE].s;

    if (!are_returned(blk, blk->base))
        log_warn("Drive %s: the back end at %s has stopped, but still has requests of the guest.",
                 blk->config.id, blk->config.socket);
    queue->next_avail = blk->base;
    queue->next_used = index_at(blk, queue->used);
    stopped(blk);
    if (blk->restart && !blk->dev.broken)
        vhost_user_ring_resume(blk);
}

/* Goes one step on the way to a stop, if it is time. */
static void look_at_ring(struct vhost_user_blk *blk)
{
    bool late = now_ns() >= blk->empty_by;

    if (blk->ring == RING_EMPTYING &&
        (late || are_returned(blk, index_at(blk, blk->dev.queue[BLK_QUEUE].s.avail))))
        ask_for_base(blk);
    else if (blk->ring == RING_DRAINING && (late || are_returned(blk, blk->base)))
        drained(blk);
}

void vhost_user_ring_watch(struct vhost_user_blk *blk)
{
    const struct vhost_user_call *oldest = blk->conn.calls;
    uint64_t now = now_ns(), until = oldest ? oldest->deadline_ns : UINT64_MAX;

    if (blk->ring == RING_EMPTYING || blk->ring == RING_DRAINING)
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
    look_at_ring(blk);
    if (oldest && now_ns() >= oldest->deadline_ns)
        vhost_user_ring_lose(blk, -ETIMEDOUT);
    vhost_user_ring_watch(blk);
}

static void stop_answered(struct vhost_user_call *call, int rc)
{
    struct vhost_user_blk *blk = container_of(call, struct vhost_user_blk, stop_call);

    if (rc) /* the connection has ended */
        return;
    blk->base = (uint16_t)call->reply.vring.num;
    blk->ring = RING_DRAINING;
    look_at_ring(blk);
    vhost_user_ring_watch(blk);
}

/* ---- what the back end says ------------------------------------------------------------------ */

static void conn_done(struct op *op, int res, bool more)
{
    struct vhost_user_blk *blk = container_of(op, struct vhost_user_blk, conn_op);
    int rc = vhost_user_receive(&blk->conn);

    (void)res;
    if (rc)
        vhost_user_ring_lose(blk, rc);
    if (more && blk->conn.over)
        loop_cancel(blk->dev.env.loop, op);
    if (!more && !blk->conn.over)
        loop_poll(blk->dev.env.loop, op, blk->conn.fd, true);
}

void vhost_user_ring_listen(struct vhost_user_blk *blk)
{
    if (blk->listening)
        return;
    blk->listening = true;
    loop_poll(blk->dev.env.loop, &blk->conn_op, blk->conn.fd, true);
}

static void run_listen(struct deferred *deferred)
{
    vhost_user_ring_listen(container_of(deferred, struct vhost_user_blk, listen));
}

int vhost_user_ring_hand_over(struct vhost_user_blk *blk)
{
    uint64_t agreed = blk->dev.s.features | (blk->offered & VHOST_USER_F_PROTOCOL_FEATURES);
    int rc = vhost_user_send_u64(&blk->conn, VHOST_USER_SET_FEATURES, agreed);

    if (rc == 0)
        rc = vhost_user_send_memory(&blk->conn, blk->dev.env.mem);
    if (rc == 0)
        rc = start_ring(blk);
    if (rc)
        return vhost_user_ring_lose(blk, rc);
    loop_defer(blk->dev.env.loop, &blk->listen);
    return 0;
}

/*
 * Through the ring, not by write(2): the back end has the eventfd too, could make it block and fill
 * it, and we would wait.
 */
void vhost_user_ring_kick(struct vhost_user_blk *blk)
{
    blk->kick_again = blk->kicking;
    if (blk->kicking)
        return;
    blk->kicking = true;
    loop_writev(blk->dev.env.loop, &blk->kick_op, blk->dev.kick_fd[BLK_QUEUE], &blk->kick_iov, 1,
                UINT64_MAX);
}

static void kick_done(struct op *op, int res, bool more)
{
    struct vhost_user_blk *blk = container_of(op, struct vhost_user_blk, kick_op);

    (void)res;
    (void)more;
    blk->kicking = false;
    if (blk->kick_again)
        vhost_user_ring_kick(blk);
}

/*
 * The back end is asked to stop only when it has nothing left: not every one waits for its requests
 * before it answers, and QEMU 7.2's gives up for good when one ends after the answer.
 */
void vhost_user_ring_stop(struct vhost_user_blk *blk)
{
    blk->restart = false;
    if (blk->ring != RING_RUNNING)
        return;
    vhost_user_ring_listen(blk); /* the activation may just have been */
    blk->ring = RING_EMPTYING;
    blk->empty_by = now_ns() + STOP_NS;
    virtio_dev_op_begin(&blk->dev);
    look_at_ring(blk);
    if (blk->ring == RING_EMPTYING) /* the guest's own kick may be outstanding */
        vhost_user_ring_kick(blk);
    vhost_user_ring_watch(blk);
}

void vhost_user_ring_init(struct vhost_user_blk *blk)
{
    blk->conn_op.done = conn_done;
    blk->listen.run = run_listen;
    blk->timer.op.done = timer_done;
    blk->stop_call.done = stop_answered;
    blk->kick_op.done = kick_done;
    blk->kick_iov = (struct iovec){&blk->one, sizeof(blk->one)};
    blk->one = 1;
}
