/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receive.c: frames to the guest. Chains are taken from the queue ahead of the frames, and the ring
 * is given a read of the tap straight into their buffers, so that neither a poll nor a copy stands
 * between a frame and the guest; whatever else the tap has by then is read at once.
 *
 * Large frames are rare but for bulk traffic, and a read into room for 64 KiB costs by its number
 * of buffers. So a read offers room for an ordinary frame and behind it the spill, which takes the
 * rest of a larger one; after such a frame whole room is offered for a while.
 *
 *      chains held     [ frame ............ | next frames' room ]   -> used ring
 *      read            [ room ............. ][ spill ]
 *
 * A frame is never lost for lack of room or tokens: complete in its chains or kept in the spill, it
 * waits, and nothing more is read. The metadata service's frames go the way of kept ones.
 */
#include "virtio/net/device.h"

#include <errno.h>
#include <string.h>

/* Room for one frame of the usual MTU, in the buffers that Linux makes for it. */
#define ROOM_SMALL 1526

/* Small frames after which whole room is no longer offered. */
#define SMALL_FRAMES_MAX 64

/* Frames in one turn of the loop. */
#define TURN_FRAMES_MAX 64

/* A frame that comes alone is the rule for who waits for answers, and to ask the tap for another
 * one behind it costs a system call in vain. So it is asked only as long as that finds some, and to
 * find that out behind one frame of so many; else a read is left in the ring at once. */
#define LONE_FRAMES_MAX 8

static void read_done(struct op *op, int res, bool more);
static void retry_done(struct op *op, int res, bool more);

void net_rx_init(struct net_rx *rx)
{
    rx->op.done = read_done;
    rx->retry.op.done = retry_done;
}

void net_rx_forget(struct net *net)
{
    net->rx.complete = net->rx.kept = 0;
}

static bool is_mergeable(const struct net *net)
{
    return virtio_dev_has(&net->dev, NET_F_MRG_RXBUF);
}

/* ---- the chains held ------------------------------------------------------------------------- */

/* Moves what is held to the front of its arrays when the room behind it ends. */
static void make_room(struct net_rx *rx)
{
    if (rx->chains == 0) {
        rx->first_chain = rx->first_segment = 0;
        return;
    }
    if (rx->first_chain + rx->chains < NET_RX_CHAINS_MAX &&
        rx->first_segment + rx->segments + NET_CHAIN_SEGMENTS_MAX <= NET_RX_SEGMENTS_MAX)
        return;
    memmove(rx->chain, &rx->chain[rx->first_chain], rx->chains * sizeof(*rx->chain));
    memmove(rx->iov, &rx->iov[rx->first_segment], rx->segments * sizeof(*rx->iov));
    rx->first_chain = rx->first_segment = 0;
}

/* Takes one more chain; false if there is none, or no room to hold it. */
static bool take_chain(struct net *net)
{
    struct net_rx *rx = &net->rx;
    struct vq_chain chain;
    unsigned end;

    make_room(rx);
    end = rx->first_segment + rx->segments;
    if (rx->chains == NET_RX_CHAINS_MAX || end + NET_CHAIN_SEGMENTS_MAX > NET_RX_SEGMENTS_MAX)
        return false;
    if (!virtio_dev_pop(&net->dev, NET_RX, &chain, &rx->iov[end], NET_CHAIN_SEGMENTS_MAX))
        return false;
    if (chain.n_readable > 0 || chain.writable_len < TAP_HEADER_SIZE) {
        virtqueue_unpop(&net->dev.queue[NET_RX]);
        virtio_dev_needs_reset(&net->dev, "a receive buffer that cannot take a header");
        return false;
    }
    rx->chain[rx->first_chain + rx->chains] = (struct net_rx_chain){
        .head = chain.head, .segments = chain.n_writable, .len = chain.writable_len};
    rx->chains++;
    rx->segments += chain.n_writable;
    rx->bytes += chain.writable_len;
    return true;
}

/* Holds chains for `wanted` bytes; without mergeable buffers a frame has one chain. Whether there
 * are so many; if not, the driver kicks when it has more. */
static bool hold(struct net *net, uint32_t wanted)
{
    struct net_rx *rx = &net->rx;
    struct virtqueue *vq = &net->dev.queue[NET_RX];

    while (is_mergeable(net) ? rx->bytes < wanted : rx->chains == 0) {
        if (take_chain(net))
            continue;
        if (net->dev.broken || rx->chains == NET_RX_CHAINS_MAX || !virtqueue_kicks_on(vq))
            return false;
        /* A chain came in while we looked. A guest that only pretends does not keep us here: what
         * it did make available can be taken, or is a mistake. */
        if (!take_chain(net))
            return false;
    }
    return true;
}

/* Forgets the first chain. */
static void drop_first(struct net_rx *rx)
{
    struct net_rx_chain *chain = &rx->chain[rx->first_chain];

    rx->first_chain++;
    rx->chains--;
    rx->first_segment += chain->segments;
    rx->segments -= chain->segments;
    rx->bytes -= chain->len;
}

static void give_all_back(struct net *net)
{
    struct net_rx *rx = &net->rx;

    while (rx->chains > 0) {
        drop_first(rx);
        virtqueue_unpop(&net->dev.queue[NET_RX]);
    }
}

enum direction { TO_CHAINS, FROM_CHAINS };

/* Copies between the held buffers, from byte `at` of them on, and `bytes`; they are long enough. */
static void copy(const struct net_rx *rx, enum direction direction, uint32_t at, uint8_t *bytes,
                 size_t len)
{
    for (const struct iovec *iov = &rx->iov[rx->first_segment]; len > 0; iov++) {
        size_t n;

        if (at >= iov->iov_len) {
            at -= (uint32_t)iov->iov_len;
            continue;
        }
        n = MIN(iov->iov_len - at, len);
        if (direction == TO_CHAINS)
            memcpy((uint8_t *)iov->iov_base + at, bytes, n);
        else
            memcpy(bytes, (uint8_t *)iov->iov_base + at, n);
        bytes += n;
        len -= n;
        at = 0;
    }
}

/* ---- from a read to the used ring ------------------------------------------------------------ */

/* The complete frame goes to the driver. */
static void give_frame(struct net *net)
{
    struct net_rx *rx = &net->rx;
    uint32_t left = rx->complete;
    uint16_t buffers = 0;

    for (uint32_t room = 0; room < rx->complete; buffers++)
        room += rx->chain[rx->first_chain + buffers].len;
    copy(rx, TO_CHAINS, TAP_HEADER_NUM_BUFFERS, (uint8_t *)&buffers, sizeof(buffers));
    for (; buffers > 0; buffers--) {
        const struct net_rx_chain *chain = &rx->chain[rx->first_chain];
        uint32_t n = MIN(chain->len, left);

        virtio_dev_push(&net->dev, NET_RX, chain->head, n);
        left -= n;
        drop_first(rx);
    }
    metric_add(&net->metrics.rx_count, 1);
    metric_add(&net->metrics.rx_packets_count, 1);
    metric_add(&net->metrics.rx_bytes_count, rx->complete);
    rx->complete = 0;
}

/* A frame without room: without mergeable buffers there never will be any. */
static void drop_frame(struct net *net)
{
    metric_add(&net->metrics.rx_fails, 1);
    net->rx.kept = 0;
}

/* A frame of `len` bytes is in `room` bytes of the chains held, and its rest in the spill. */
static void complete_from_spill(struct net *net, uint32_t len, uint32_t room)
{
    struct net_rx *rx = &net->rx;

    if (!is_mergeable(net)) {
        drop_frame(net);
    } else if (hold(net, len)) {
        copy(rx, TO_CHAINS, room, rx->spill + room, len - room);
        rx->complete = len;
    } else {
        copy(rx, FROM_CHAINS, 0, rx->spill, room);
        rx->kept = len;
    }
}

/* Moves the kept frame into chains; false if there are too few. */
static bool place_kept(struct net *net)
{
    struct net_rx *rx = &net->rx;

    if (!hold(net, rx->kept) && rx->chains < net->dev.queue[NET_RX].s.size) {
        metric_add(&net->metrics.no_rx_avail_buffer, 1);
        return false;
    }
    if (rx->bytes < rx->kept) { /* even all that the driver can offer is too little */
        drop_frame(net);
        return true;
    }
    copy(rx, TO_CHAINS, 0, rx->spill, rx->kept);
    rx->complete = rx->kept;
    rx->kept = 0;
    return true;
}

/* The next reads offer whole room while frames are large. */
static void learn(struct net_rx *rx, uint32_t len)
{
    if (len > ROOM_SMALL) {
        rx->large = true;
        rx->small_frames = 0;
    } else if (rx->large && ++rx->small_frames == SMALL_FRAMES_MAX) {
        rx->large = false;
    }
}

/* Whether the driver cannot take the frame at the front of the chains held: the tap had it from
 * the time of another driver, which could put segments together. */
static bool is_foreign(const struct net *net)
{
    uint8_t gso_type = 0;

    if (virtio_dev_has(&net->dev, NET_F_GUEST_CSUM))
        return false;
    copy(&net->rx, FROM_CHAINS, TAP_HEADER_GSO_TYPE, &gso_type, sizeof(gso_type));
    return gso_type != 0;
}

/* What became of a read; false = nothing more is to be read now. */
static bool took(struct net *net, int res)
{
    struct net_rx *rx = &net->rx;
    uint32_t len = (uint32_t)res;

    if (res == -EAGAIN || res == -ECANCELED || res == -EINTR)
        return res == -EINTR;
    if (res < TAP_HEADER_SIZE) {
        metric_add(&net->metrics.tap_read_fails, 1);
        if (res == -EBADFD)
            net_tap_is_gone(net);
        else /* whatever it is, it shall not keep us busy */
            loop_timer_start(net->dev.env.loop, &rx->retry, RATE_LIMITER_RETRY_NS);
        return false;
    }
    learn(rx, len);
    if (is_foreign(net))
        drop_frame(net);
    else if (len > rx->bytes)
        complete_from_spill(net, len, rx->bytes);
    else
        rx->complete = len;
    return true;
}

/* Prepares the next read: its buffers are all chains held, and the spill. */
static unsigned offer(struct net *net)
{
    struct net_rx *rx = &net->rx;
    unsigned end = rx->first_segment + rx->segments;

    if (rx->bytes >= NET_RX_FRAME_MAX)
        return rx->segments;
    rx->iov[end] =
        (struct iovec){.iov_base = rx->spill + rx->bytes, .iov_len = NET_RX_FRAME_MAX - rx->bytes};
    return rx->segments + 1;
}

/* Whether there is room to read into. */
static bool hold_room(struct net *net)
{
    if (hold(net, net->rx.large ? TAP_FRAME_MAX : ROOM_SMALL) || net->rx.chains > 0)
        return true;
    metric_add(&net->metrics.no_rx_avail_buffer, 1);
    return false;
}

/* ---- the pump -------------------------------------------------------------------------------- */

/* The next frame of the metadata service, with an empty header, into the spill; its length or 0. */
static uint32_t take_mmds_frame(struct net *net)
{
    struct net_rx *rx = &net->rx;
    size_t len = mmds_endpoint_output(net->mmds, rx->spill + TAP_HEADER_SIZE,
                                      sizeof(rx->spill) - TAP_HEADER_SIZE);

    memset(rx->spill, 0, TAP_HEADER_SIZE);
    return len > 0 ? (uint32_t)len + TAP_HEADER_SIZE : 0;
}

/* Leaves a read of the tap in the ring. */
static void park(struct net *net, unsigned segments)
{
    struct net_rx *rx = &net->rx;

    rx->reading = true;
    rx->stopping = false;
    virtio_dev_op_begin(&net->dev);
    loop_readv(net->dev.env.loop, &rx->op, net->tap.fd, &rx->iov[rx->first_segment], segments,
               UINT64_MAX);
}

static bool is_worth_asking(struct net_rx *rx)
{
    if (rx->burst || rx->found)
        return true;
    if (++rx->lone_frames < LONE_FRAMES_MAX)
        return false;
    rx->lone_frames = 0;
    return true;
}

/* Goes for a frame; false if nothing can be done before something happens: a frame, room. */
static bool get_frame(struct net *net)
{
    struct net_rx *rx = &net->rx;
    unsigned segments;
    int res;

    if (!rx->kept && net->mmds)
        rx->kept = take_mmds_frame(net);
    if (rx->kept)
        return place_kept(net);
    if (net->tap_gone || !hold_room(net))
        return false;
    segments = offer(net);
    if (!is_worth_asking(rx)) {
        park(net, segments);
        return false;
    }
    res = tap_read(&net->tap, &rx->iov[rx->first_segment], segments);
    if (res == -EAGAIN) {
        rx->burst = rx->found;
        park(net, segments);
    }
    rx->found = res > 0;
    return took(net, res);
}

void net_rx_pump(struct net *net)
{
    struct net_rx *rx = &net->rx;

    for (unsigned tries = 0; tries < TURN_FRAMES_MAX; tries++) {
        if (rx->reading || rx->retry.armed || net->quiet || net->dev.broken)
            return;
        if (!rx->complete && !get_frame(net))
            return;
        if (!rx->complete)
            continue;
        if (!net_allowed(net, &net->s.rx_limiter, &rx->retry, rx->complete,
                         &net->metrics.rx_rate_limiter_throttled))
            return;
        give_frame(net);
    }
    virtio_dev_kick_later(&net->dev, NET_RX);
}

static void read_done(struct op *op, int res, bool more)
{
    struct net *net = container_of(op, struct net, rx.op);

    (void)more;
    net->rx.reading = false;
    if (took(net, res))
        metric_add(&net->metrics.rx_tap_event_count, 1);
    if (net->quiet)
        net_rx_quiesce(net);
    else
        net_rx_pump(net);
    virtio_dev_op_end(&net->dev);
}

static void retry_done(struct op *op, int res, bool more)
{
    struct net *net = container_of(op, struct net, rx.retry.op);

    (void)res;
    (void)more;
    net->rx.retry.armed = false;
    metric_add(&net->metrics.rx_event_rate_limiter_count, 1);
    virtio_dev_kick(&net->dev, NET_RX);
}

/* A read in the ring holds the chains and the spill; it ends, with a frame or without. */
static void stop_reading(struct net *net)
{
    if (net->rx.stopping)
        return;
    net->rx.stopping = true;
    loop_cancel(net->dev.env.loop, &net->rx.op);
}

void net_rx_mmds_ready(struct net *net)
{
    if (net->rx.reading)
        stop_reading(net);
    else
        virtio_dev_kick_later(&net->dev, NET_RX);
}

void net_rx_quiesce(struct net *net)
{
    if (net->rx.reading) {
        stop_reading(net);
        return;
    }
    /* What the limiter holds back in its chains goes now: chains must not be out over a pause. */
    if (net->rx.complete)
        give_frame(net);
    give_all_back(net);
}
