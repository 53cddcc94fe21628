/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transmit.c: frames of the guest. Each is written to the tap straight out of guest memory, in the
 * order of the queue; a tap takes a frame at once or not at all, so nothing is ever in flight.
 */
#include "virtio/net/device.h"

#include <errno.h>
#include <string.h>

/* What one turn of the loop sends, so that a flood leaves the rest its share. */
#define TURN_FRAMES_MAX 256
#define TURN_BYTES_MAX  MIB

#define ETHERNET_HEADER_SIZE   14
#define ETHERNET_SOURCE_OFFSET 6

/* Copies up to `len` bytes of the chain from byte `at` on; returns how many there were. */
static size_t copy_out(const struct vq_chain *chain, size_t at, void *to, size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_readable && done < len; i++) {
        const struct iovec *iov = &chain->iov[i];
        size_t n;

        if (at >= iov->iov_len) {
            at -= iov->iov_len;
            continue;
        }
        n = MIN(iov->iov_len - at, len - done);
        memcpy((uint8_t *)to + done, (const uint8_t *)iov->iov_base + at, n);
        done += n;
        at = 0;
    }
    return done;
}

/* Whether the frame is for the metadata service; then it has it, and the tap never sees it. */
static bool divert(struct net *net, const struct vq_chain *chain)
{
    uint8_t frame[TAP_FRAME_MAX];
    size_t head;

    if (!net->mmds)
        return false;
    head = copy_out(chain, TAP_HEADER_SIZE, frame, MMDS_FRAME_HEAD);
    if (!mmds_endpoint_wants(net->mmds, frame, head))
        return false;
    /* The head is what was judged: the guest may have changed its own by now. */
    mmds_endpoint_input(
        net->mmds, frame,
        head + copy_out(chain, TAP_HEADER_SIZE + head, frame + head, sizeof(frame) - head));
    return true;
}

static void count_spoofed(struct net *net, const struct vq_chain *chain)
{
    uint8_t source[NET_MAC_LEN];

    if (copy_out(chain, TAP_HEADER_SIZE + ETHERNET_SOURCE_OFFSET, source, sizeof(source)) ==
            sizeof(source) &&
        memcmp(source, net->s.mac, sizeof(source)) != 0)
        metric_add(&net->metrics.tx_spoofed_mac_count, 1);
}

static void write_frame(struct net *net, const struct vq_chain *chain)
{
    struct metrics_net *m = &net->metrics;
    uint64_t before = net->clock_ns;
    int res = net->tap_gone ? -EBADFD : tap_write(&net->tap, chain->iov, chain->n_readable);

    if (res < 0) {
        metric_add(&m->tap_write_fails, 1);
        metric_add(&m->tx_fails, 1);
        if (res == -EBADFD)
            net_tap_is_gone(net);
        return;
    }
    net->clock_ns = now_ns();
    metric_agg_add(&m->tap_write_agg, net->clock_ns - before);
    metric_add(&m->tx_count, 1);
    metric_add(&m->tx_packets_count, 1);
    metric_add(&m->tx_bytes_count, chain->readable_len);
    if (net->config.has_mac)
        count_spoofed(net, chain);
}

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

    if (net->tx_retry.armed)
        return VIRTIO_LATER;
    if (net->turn_bytes >= TURN_BYTES_MAX) {
        virtio_dev_kick_later(dev, q);
        return VIRTIO_LATER;
    }
    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    net->turn_bytes += chain.readable_len;
    if (!is_frame(&chain)) {
        metric_add(&net->metrics.tx_malformed_frames, 1);
    } else if (!divert(net, &chain)) {
        if (!net_allowed(net, &net->s.tx_limiter, &net->tx_retry, chain.readable_len,
                         &net->metrics.tx_rate_limiter_throttled)) {
            virtqueue_unpop(&dev->queue[q]);
            return VIRTIO_LATER;
        }
        write_frame(net, &chain);
    }
    virtio_dev_push(dev, q, chain.head, 0);
    return VIRTIO_SERVED;
}

void net_tx_kick(struct net *net)
{
    metric_add(&net->metrics.tx_queue_event_count, 1);
    net->turn_bytes = 0;
    net->clock_ns = now_ns();
    if (virtio_dev_serve(&net->dev, NET_TX, TURN_FRAMES_MAX, serve) == 0)
        metric_add(&net->metrics.no_tx_avail_buffer, 1);
    metric_add(&net->metrics.tx_remaining_reqs_count, virtqueue_waiting(&net->dev.queue[NET_TX]));
}

void net_tx_retry(struct op *op, int res, bool more)
{
    struct net *net = container_of(op, struct net, tx_retry.op);

    (void)res;
    (void)more;
    net->tx_retry.armed = false;
    metric_add(&net->metrics.tx_rate_limiter_event_count, 1);
    virtio_dev_kick(&net->dev, NET_TX);
}
