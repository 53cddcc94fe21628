/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transmit.c: frames of the guest. Each is written to the tap straight out of guest memory, in the
 * order of the queue: a lone one by a system call, several by the ring, in whose slots they are in
 * flight until the completions of the same turn. A tap takes a frame at once or not at all.
 */
#include "virtio/net/device.h"

#include <errno.h>
#include <string.h>

/* What one turn of the loop sends, so that a flood leaves the rest its share. */
#define TURN_FRAMES_MAX 256
#define TURN_BYTES_MAX  MIB

#define ETHERNET_HEADER_SIZE   14
#define ETHERNET_SOURCE_OFFSET 6

/*
 * A guest that sends one frame after the other, and is sent nothing, gains nothing by having each
 * of them sent at once, and the kicks, switches and interrupts cost it several times the frame. So
 * after some such kicks frames may gather: until a timer ends, or a quarter of the ring is full,
 * which is when the driver kicks next. A frame received ends that, and so does a timer that finds
 * few: a sender with little room waits for the frames that it has under way. Each time it takes
 * twice as many kicks to try again. Who waits for answers never comes into it.
 */
#define STREAM_KICKS     16
#define STREAM_KICKS_MAX 4096
#define STREAM_FRAMES    8
#define STREAM_GAP_NS    (100 * NSEC_PER_USEC)
#define LINGER_NS        (200 * NSEC_PER_USEC)

/* Whether the frame is for the metadata service; then it has it, and the tap never sees it. */
static bool divert(struct net *net, const struct vq_chain *chain)
{
    uint8_t frame[TAP_FRAME_MAX];
    size_t head;

    if (!net->mmds)
        return false;
    head = vq_chain_read_from(chain, TAP_HEADER_SIZE, frame, MMDS_FRAME_HEAD);
    if (!mmds_endpoint_wants(net->mmds, frame, head))
        return false;
    /* The head is what was judged: the guest may have changed its own by now. */
    mmds_endpoint_input(net->mmds, frame,
                        head + vq_chain_read_from(chain, TAP_HEADER_SIZE + head, frame + head,
                                                  sizeof(frame) - head));
    return true;
}

static void count_spoofed(struct net *net, const struct vq_chain *chain)
{
    uint8_t source[NET_MAC_LEN];

    if (vq_chain_read_from(chain, TAP_HEADER_SIZE + ETHERNET_SOURCE_OFFSET, source,
                           sizeof(source)) == sizeof(source) &&
        memcmp(source, net->s.mac, sizeof(source)) != 0)
        metric_add(&net->metrics.tx_spoofed_mac_count, 1);
}

/* What became of a frame that the tap was given. */
static void sent(struct net *net, uint32_t len, int res)
{
    struct metrics_net *m = &net->metrics;

    if (res < 0) {
        metric_add(&m->tap_write_fails, 1);
        metric_add(&m->tx_fails, 1);
        if (res == -EBADFD)
            net_tap_is_gone(net);
        return;
    }
    metric_add(&m->tx_count, 1);
    metric_add(&m->tx_packets_count, 1);
    metric_add(&m->tx_bytes_count, len);
}

/* `writes` of them took from net->tx.clock_ns until now. */
static void took_time(struct net *net, unsigned writes)
{
    uint64_t now = now_ns(), each = (now - net->tx.clock_ns) / writes;

    net->tx.clock_ns = now;
    while (writes-- > 0)
        metric_agg_add(&net->metrics.tap_write_agg, each);
}

static void write_done(struct op *op, int res, bool more)
{
    struct net_tx_slot *slot = container_of(op, struct net_tx_slot, op);
    struct net *net = slot->net;
    struct net_tx *tx = &net->tx;

    (void)more;
    sent(net, slot->len, res);
    virtio_dev_push(&net->dev, NET_TX, slot->head, 0);
    if (tx->free == 0)
        virtio_dev_kick_later(&net->dev, NET_TX);
    tx->free |= UINT64_C(1) << (slot - tx->slot);
    virtio_dev_op_end(&net->dev);
}

/* Hands the frame to the ring, which has it before loop_submit returns. */
static void queue_frame(struct net *net, const struct vq_chain *chain)
{
    struct net_tx *tx = &net->tx;
    struct net_tx_slot *slot = &tx->slot[__builtin_ctzll(tx->free)];
    struct loop *loop = net->dev.env.loop;

    tx->free &= tx->free - 1;
    slot->op.done = write_done;
    slot->net = net;
    slot->head = chain->head;
    slot->len = chain->readable_len;
    tx->queued++;
    virtio_dev_op_begin(&net->dev);
    if (chain->n_readable == 1) {
        loop_write(loop, &slot->op, net->tap.fd, chain->iov->iov_base, chain->readable_len);
        return;
    }
    memcpy(slot->iov, chain->iov, chain->n_readable * sizeof(*chain->iov));
    loop_writev(loop, &slot->op, net->tap.fd, slot->iov, chain->n_readable, UINT64_MAX);
}

static void submit(struct net *net)
{
    if (net->tx.queued == 0)
        return;
    loop_submit(net->dev.env.loop);
    took_time(net, net->tx.queued);
    net->tx.queued = 0;
}

/* Writes the frame now; those before it are written first. */
static void write_frame(struct net *net, const struct vq_chain *chain)
{
    submit(net);
    sent(net, chain->readable_len,
         net->tap_gone ? -EBADFD : tap_write(&net->tap, chain->iov, chain->n_readable));
    took_time(net, 1);
    virtio_dev_push(&net->dev, NET_TX, chain->head, 0);
}

static void send_frame(struct net *net, const struct vq_chain *chain)
{
    bool alone = net->tx.queued == 0 && virtqueue_waiting(&net->dev.queue[NET_TX]) == 0;

    if (net->config.has_mac)
        count_spoofed(net, chain);
    if (alone || net->tap_gone || chain->n_readable > NET_TX_SEGMENTS_MAX)
        write_frame(net, chain);
    else
        queue_frame(net, chain);
}

/* ---- streams --------------------------------------------------------------------------------- */

/* At a kick: whether it is one of a stream. */
static void watch_stream(struct net *net)
{
    struct net_tx *tx = &net->tx;
    uint64_t received = net->metrics.rx_packets_count;
    bool late = tx->clock_ns > tx->served_ns + STREAM_GAP_NS;

    if (received != tx->received || (!tx->streaming && late)) {
        tx->kicks = 0;
        tx->streaming = false;
    } else if (!tx->streaming && ++tx->kicks >= tx->stream_kicks) {
        tx->kicks = 0;
        tx->streaming = true;
    }
    tx->received = received;
}

/* Lets frames gather. */
static void linger(struct net *net)
{
    struct virtqueue *vq = &net->dev.queue[NET_TX];
    uint16_t enough = vq->s.size / 4;

    if (!net->tx.linger.armed)
        loop_timer_start(net->dev.env.loop, &net->tx.linger, LINGER_NS);
    if (!vq->event_idx)
        return;
    (void)virtqueue_kicks_on_after(vq, (uint16_t)(vq->s.next_avail + enough));
    if ((uint16_t)(virtqueue_driver_index(vq) - vq->s.next_avail) > enough)
        virtio_dev_kick_later(&net->dev, NET_TX);
}

/* ---- the queue ------------------------------------------------------------------------------- */

/* Whether the chain is a frame that can be sent. The tap judges the header. */
static bool is_frame(const struct vq_chain *chain)
{
    return chain->n_writable == 0 &&
           chain->readable_len >= TAP_HEADER_SIZE + ETHERNET_HEADER_SIZE &&
           chain->readable_len <= TAP_FRAME_MAX;
}

static enum virtio_serve serve(struct virtio_dev *dev, unsigned q)
{
    struct net *net = container_of(dev, struct net, dev);
    struct iovec iov[NET_CHAIN_SEGMENTS_MAX];
    struct vq_chain chain;

    if (net->tx.retry.armed || net->tx.free == 0)
        return VIRTIO_LATER;
    if (net->tx.turn_bytes >= TURN_BYTES_MAX) {
        virtio_dev_kick_later(dev, q);
        return VIRTIO_LATER;
    }
    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov))) {
        if (!net->tx.streaming || dev->broken)
            return VIRTIO_EMPTY;
        linger(net);
        return VIRTIO_LATER;
    }
    net->tx.turn_bytes += chain.readable_len;
    if (!is_frame(&chain)) {
        metric_add(&net->metrics.tx_malformed_frames, 1);
        virtio_dev_push(dev, q, chain.head, 0);
    } else if (divert(net, &chain)) {
        virtio_dev_push(dev, q, chain.head, 0);
    } else if (net_allowed(net, &net->s.tx_limiter, &net->tx.retry, chain.readable_len,
                           &net->metrics.tx_rate_limiter_throttled)) {
        send_frame(net, &chain);
    } else {
        virtqueue_unpop(&dev->queue[q]);
        return VIRTIO_LATER;
    }
    return VIRTIO_SERVED;
}

void net_tx_kick(struct net *net)
{
    struct net_tx *tx = &net->tx;

    metric_add(&net->metrics.tx_queue_event_count, 1);
    tx->clock_ns = now_ns();
    tx->turn_bytes = 0;
    watch_stream(net);
    if (virtio_dev_serve(&net->dev, NET_TX, TURN_FRAMES_MAX, serve) == 0)
        metric_add(&net->metrics.no_tx_avail_buffer, 1);
    submit(net);
    tx->served_ns = tx->clock_ns;
    metric_add(&net->metrics.tx_remaining_reqs_count, virtqueue_waiting(&net->dev.queue[NET_TX]));
}

static void linger_done(struct op *op, int res, bool more)
{
    struct net *net = container_of(op, struct net, tx.linger.op);
    const struct virtqueue *vq = &net->dev.queue[NET_TX];

    (void)res;
    (void)more;
    net->tx.linger.armed = false;
    if (vq->mem && (uint16_t)(virtqueue_driver_index(vq) - vq->s.next_avail) < STREAM_FRAMES) {
        net->tx.streaming = false;
        net->tx.stream_kicks = MIN(2 * net->tx.stream_kicks, STREAM_KICKS_MAX);
    } else {
        net->tx.stream_kicks = STREAM_KICKS;
    }
    virtio_dev_kick(&net->dev, NET_TX);
}

static void retry_done(struct op *op, int res, bool more)
{
    struct net *net = container_of(op, struct net, tx.retry.op);

    (void)res;
    (void)more;
    net->tx.retry.armed = false;
    metric_add(&net->metrics.tx_rate_limiter_event_count, 1);
    virtio_dev_kick(&net->dev, NET_TX);
}

void net_tx_init(struct net *net)
{
    struct net_tx *tx = &net->tx;

    tx->retry.op.done = retry_done;
    tx->linger.op.done = linger_done;
    tx->free = UINT64_MAX;
    tx->stream_kicks = STREAM_KICKS;
}
