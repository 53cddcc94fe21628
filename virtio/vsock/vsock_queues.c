/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_queues.c: packets on the rings. */
#include "virtio/vsock/vsock_queues.h"

#include "virtio/vsock/vsock_device.h"
#include "virtio/vsock/vsock_host.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* What one turn of the loop does: packets of the guest, and packets or reads for it. */
#define TRANSMIT_SHARE 128
#define DELIVER_SHARE  64

/* A read that could be larger than this first asks how large it will be. */
#define ASK_ABOVE (16 * KIB)

/* Packets of the guest whose chains are held: bytes, and the part of the queue. */
#define HELD_BYTES_MAX (256 * KIB)
#define HELD_PART_MAX  4

/* Chains of one read, and buffers in them; the last chain may bring as many as a queue has. */
#define BATCH_CHAINS  64
#define BATCH_BUFFERS 192
#define BUFFERS_MAX   (BATCH_BUFFERS + VIRTQUEUE_SIZE_DEFAULT)

/* Whether the device may touch its rings. */
static bool may_run(const struct vsock *vsock)
{
    return vsock->dev.active && !vsock->dev.broken && vsock->dev.holds == 0;
}

/* ---- from the guest -------------------------------------------------------------------------- */

/* Copies a header off the front of the buffers; false if they are shorter. */
static bool take_header(struct vq_chain *chain, struct vsock_packet *packet)
{
    unsigned left = chain->n_readable;
    size_t done = vq_take_front(&chain->iov, &left, packet, sizeof(*packet));

    chain->n_readable = (uint16_t)left;
    chain->readable_len -= (uint32_t)done;
    return done == sizeof(*packet);
}

/* Cuts the buffers to `len` bytes, which they have; returns how many are left. */
static unsigned cut(struct iovec *iov, uint32_t len)
{
    unsigned count = 0;

    while (len > 0) {
        iov[count].iov_len = MIN(iov[count].iov_len, len);
        len -= (uint32_t)iov[count++].iov_len;
    }
    return count;
}

/* The guest asks for a connection to a port of the host. */
static void open_to_host(struct vsock *vsock, const struct vsock_packet *packet)
{
    struct vsock_conn *conn = NULL;
    int fd = -EMFILE;

    if (vsock->table.count < VSOCK_CONNS_MAX)
        fd = vsock_host_connect(vsock, packet->dst_port);
    if (fd >= 0 || fd == -EAGAIN)
        conn = vsock_conn_new(vsock, VSOCK_WAITING, -1);
    if (!conn) {
        if (fd >= 0)
            close(fd);
        vsock_queues_reset(vsock, packet->dst_port, packet->src_port, packet->type);
        return;
    }
    conn->host_port = packet->dst_port;
    conn->guest_port = packet->src_port;
    conn->peer_alloc = packet->buf_alloc;
    conn->peer_forwarded = packet->fwd_cnt;
    vsock_table_add(&vsock->table, conn);
    metric_add(&metrics.vsock.conns_added, 1);
    if (fd >= 0)
        vsock_conn_accept(conn, fd);
    else
        vsock_host_wait(conn);
}

/* A packet that is well-formed as far as its payload is really there. */
static void dispatch(struct vsock *vsock, const struct vsock_packet *packet,
                     const struct iovec *iov, unsigned count)
{
    struct vsock_conn *conn = NULL;

    if (packet->type == VSOCK_TYPE_STREAM)
        conn = vsock_table_find(&vsock->table, packet->dst_port, packet->src_port);
    if (conn)
        vsock_conn_receive(conn, packet, iov, count);
    else if (packet->op == VSOCK_OP_REQUEST && packet->type == VSOCK_TYPE_STREAM)
        open_to_host(vsock, packet);
    else if (packet->op != VSOCK_OP_RST)
        vsock_queues_reset(vsock, packet->dst_port, packet->src_port, packet->type);
}

/* Packets from or to anyone else, and those that are no packets, are dropped. */
static void take_packet(struct vsock *vsock, struct vq_chain *chain)
{
    struct vsock_packet packet;

    if (!take_header(chain, &packet) || packet.len > chain->readable_len) {
        metric_add(&metrics.vsock.tx_queue_event_fails, 1);
        return;
    }
    if (packet.src_cid != vsock->s.guest_cid || packet.dst_cid != VSOCK_HOST_CID)
        return;
    metric_add(&metrics.vsock.tx_packets_count, 1);
    dispatch(vsock, &packet, chain->iov, cut(chain->iov, packet.len));
}

/*
 * Gives a packet's chain back. An interrupt for that alone tells the driver nothing that it waits
 * for, and costs as much as the packet did; so it is held until there is something for the guest,
 * which is soon where there is traffic. Not too much of the guest's memory, nor of its ring.
 */
static void return_packet(struct vsock *vsock, uint16_t head, uint32_t len)
{
    struct virtio_dev *dev = &vsock->dev;
    const struct virtqueue *vq = &dev->queue[VSOCK_TX];
    uint16_t held = (uint16_t)(vq->s.next_used - vq->published);

    vsock->held_bytes = held > 0 ? vsock->held_bytes + len : len;
    if (vsock->held_bytes > HELD_BYTES_MAX || held >= vq->s.size / HELD_PART_MAX)
        virtio_dev_push(dev, VSOCK_TX, head, 0);
    else
        virtio_dev_push_held(dev, VSOCK_TX, head, 0);
}

static enum virtio_serve serve_transmit(struct virtio_dev *dev, unsigned q)
{
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;
    uint32_t len;

    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    len = chain.readable_len;
    take_packet(to_vsock(dev), &chain);
    return_packet(to_vsock(dev), chain.head, len);
    return VIRTIO_SERVED;
}

void vsock_queues_transmit(struct vsock *vsock)
{
    virtio_dev_serve(&vsock->dev, VSOCK_TX, TRANSMIT_SHARE, serve_transmit);
}

/* ---- to the guest ---------------------------------------------------------------------------- */

void vsock_queues_reset(struct vsock *vsock, uint32_t host_port, uint32_t guest_port, uint16_t type)
{
    unsigned at = (vsock->reset_first + vsock->reset_count) % VSOCK_RESETS_MAX;

    if (vsock->reset_count == VSOCK_RESETS_MAX)
        return;
    vsock->reset[at] =
        (struct vsock_reset){.host_port = host_port, .guest_port = guest_port, .type = type};
    vsock->reset_count++;
}

/* A receive buffer of the guest, as it came: `iov` with `count` entries, `room` bytes of payload.
 */
struct rx_chain {
    uint16_t head;
    unsigned first, count; /* in rx_batch.whole */
    uint32_t room;
};

struct rx_batch {
    unsigned chains, n_whole, n_data;
    uint32_t room;
    struct rx_chain chain[BATCH_CHAINS];
    struct iovec whole[BUFFERS_MAX]; /* of all chains */
    struct iovec data[BUFFERS_MAX];  /* the same without the headers' places */
};

/* Takes one more receive buffer; false if the guest has none, or breaks a rule with it. */
static bool take_chain(struct vsock *vsock, struct rx_batch *batch)
{
    struct rx_chain *rx = &batch->chain[batch->chains];
    struct vq_chain chain;

    if (!virtio_dev_pop(&vsock->dev, VSOCK_RX, &chain, batch->whole + batch->n_whole,
                        VIRTQUEUE_SIZE_DEFAULT))
        return false;
    if (chain.n_readable > 0 || chain.writable_len <= VSOCK_HEADER_SIZE) {
        virtio_dev_needs_reset(&vsock->dev, chain.n_readable > 0
                                                ? "a readable buffer in the receive queue"
                                                : "a receive buffer without room for a packet");
        return false;
    }
    *rx = (struct rx_chain){.head = chain.head,
                            .first = batch->n_whole,
                            .count = chain.n_writable,
                            .room = chain.writable_len - (uint32_t)VSOCK_HEADER_SIZE};
    batch->n_whole += chain.n_writable;
    batch->chains++;
    return true;
}

/* Adds the payload's places of the chain taken last, at most `limit` bytes. */
static void add_data(struct rx_batch *batch, uint32_t limit)
{
    const struct rx_chain *rx = &batch->chain[batch->chains - 1];
    size_t skip = VSOCK_HEADER_SIZE;

    batch->room += MIN(rx->room, limit);
    for (unsigned i = rx->first; i < rx->first + rx->count && limit > 0; i++) {
        struct iovec iov = batch->whole[i];
        size_t n = MIN(skip, iov.iov_len);

        skip -= n;
        iov.iov_base = (uint8_t *)iov.iov_base + n;
        iov.iov_len = MIN(iov.iov_len - n, limit);
        limit -= (uint32_t)iov.iov_len;
        if (iov.iov_len > 0)
            batch->data[batch->n_data++] = iov;
    }
}

/* Copies `len` bytes into buffers that have room for them. */
static void scatter(const struct iovec *iov, const void *from, size_t len)
{
    for (size_t done = 0; done < len; iov++) {
        size_t n = MIN(iov->iov_len, len - done);

        memcpy(iov->iov_base, (const uint8_t *)from + done, n);
        done += n;
    }
}

/* Writes the header of a packet into its chain, and gives the chain back. */
static void put_packet(struct vsock *vsock, const struct rx_batch *batch, unsigned index,
                       const struct vsock_packet *packet)
{
    const struct rx_chain *rx = &batch->chain[index];
    const struct iovec *first = &batch->whole[rx->first];

    if (first->iov_len >= sizeof(*packet))
        memcpy(first->iov_base, packet, sizeof(*packet));
    else
        scatter(first, packet, sizeof(*packet));
    virtio_dev_push(&vsock->dev, VSOCK_RX, rx->head, (uint32_t)VSOCK_HEADER_SIZE + packet->len);
}

static enum virtio_serve send_reset(struct vsock *vsock, struct rx_batch *batch)
{
    struct vsock_reset *reset = &vsock->reset[vsock->reset_first];
    struct vsock_packet packet = {
        .src_cid = VSOCK_HOST_CID,
        .dst_cid = vsock->s.guest_cid,
        .src_port = reset->host_port,
        .dst_port = reset->guest_port,
        .type = reset->type,
        .op = VSOCK_OP_RST,
    };

    if (!take_chain(vsock, batch))
        return VIRTIO_EMPTY;
    vsock->reset_first = (vsock->reset_first + 1) % VSOCK_RESETS_MAX;
    vsock->reset_count--;
    metric_add(&metrics.vsock.rx_packets_count, 1);
    put_packet(vsock, batch, 0, &packet);
    return VIRTIO_SERVED;
}

static enum virtio_serve send_packet(struct vsock *vsock, struct vsock_conn *conn,
                                     struct rx_batch *batch)
{
    struct vsock_packet packet;

    if (!take_chain(vsock, batch))
        return VIRTIO_EMPTY;
    vsock_conn_take_packet(conn, &packet);
    metric_add(&metrics.vsock.rx_packets_count, 1);
    put_packet(vsock, batch, 0, &packet);
    vsock_conn_settle(conn);
    return VIRTIO_SERVED;
}

/* Gives the chains behind the first `used` ones back, the latest first. */
static void untake(struct vsock *vsock, const struct rx_batch *batch, unsigned used)
{
    for (unsigned i = batch->chains; i > used; i--)
        virtqueue_unpop(&vsock->dev.queue[VSOCK_RX]);
}

/* Puts headers before `len` bytes that have been read into the batch; returns the chains used. */
static unsigned put_data(struct vsock *vsock, struct vsock_conn *conn, const struct rx_batch *batch,
                         uint32_t len)
{
    struct vsock_packet packet;
    unsigned used = 0;

    vsock_conn_data_packet(conn, &packet, 0);
    for (; len > 0; used++) {
        packet.len = MIN(batch->chain[used].room, len);
        len -= packet.len;
        put_packet(vsock, batch, used, &packet);
    }
    metric_add(&metrics.vsock.rx_packets_count, used);
    return used;
}

/* One read of a connection's socket, straight into as many receive buffers as it may fill. */
static enum virtio_serve send_data(struct vsock *vsock, struct vsock_conn *conn,
                                   struct rx_batch *batch)
{
    uint32_t wants = vsock_conn_wants(conn); /* not 0, or it would not be ready */
    bool all = false, more;
    ssize_t n;

    /* Taking chains in vain costs more than asking how many it will be. */
    if (wants > ASK_ABOVE)
        wants = vsock_host_readable(conn, wants, &all);
    while (batch->room < wants && batch->chains < BATCH_CHAINS && batch->n_whole < BATCH_BUFFERS &&
           take_chain(vsock, batch))
        add_data(batch, wants - batch->room);
    if (vsock->dev.broken || batch->chains == 0)
        return VIRTIO_EMPTY;
    n = vsock_host_read(conn, batch->data, batch->n_data, &more);
    untake(vsock, batch, n > 0 ? put_data(vsock, conn, batch, (uint32_t)n) : 0);
    vsock_conn_read(conn, n, more || (n == batch->room && !(all && batch->room == wants)));
    return VIRTIO_SERVED;
}

static enum virtio_serve serve_receive(struct virtio_dev *dev, unsigned q)
{
    struct vsock *vsock = to_vsock(dev);
    struct rx_batch batch;
    struct vsock_conn *conn;

    (void)q;
    batch.chains = batch.n_whole = batch.n_data = 0;
    batch.room = 0;
    if (vsock->s.reset_owed || vsock->s.reset_unseen)
        return VIRTIO_LATER; /* the guest would take what we send for its former connections */
    if (vsock->reset_count > 0)
        return send_reset(vsock, &batch);
    if (!link_is_used(&vsock->ready))
        return VIRTIO_LATER;
    conn = container_of(vsock->ready.next, struct vsock_conn, ready);
    if (vsock_conn_owes_packet(conn))
        return send_packet(vsock, conn, &batch);
    return send_data(vsock, conn, &batch);
}

void vsock_queues_deliver(struct vsock *vsock)
{
    struct virtio_dev *dev = &vsock->dev;

    if (may_run(vsock) && dev->queue[VSOCK_RX].mem)
        virtio_dev_serve(dev, VSOCK_RX, DELIVER_SHARE, serve_receive);
    if (dev->broken) /* now, or by what the guest sent before */
        vsock_drop_all(vsock);
}
