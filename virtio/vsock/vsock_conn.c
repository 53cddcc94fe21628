/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_conn.c: the states of a connection, and its credit in both directions. */
#include "virtio/vsock/vsock_conn.h"

#include "virtio/vsock/vsock_device.h"
#include "virtio/vsock/vsock_host.h"
#include "virtio/vsock/vsock_queues.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A read asks for one buffer of Linux's driver at first, and for what a guest's socket holds by
 * default once data flows. */
#define CHUNK_MIN ((uint32_t)(4 * KIB))
#define CHUNK_MAX ((uint32_t)(256 * KIB))

/* A guest with little room is told of more when it believes that there is less than this; one with
 * much when half of it is free again. */
#define CREDIT_LOW (4 * KIB)
/* While the buffer empties bit by bit: free room that is worth a packet. */
#define CREDIT_STEP (16 * KIB)

/* Bytes that make a stream, and streams that may have much room at a time. */
#define STREAM_BYTES MIB
#define STREAMS_MAX  64

static void poll_done(struct op *op, int res, bool more);
static void send_done(struct op *op, int res, bool more);

struct vsock_conn *vsock_conn_new(struct vsock *vsock, enum vsock_state_name state, int fd)
{
    struct vsock_conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return NULL;
    conn->vsock = vsock;
    conn->state = state;
    conn->fd = fd;
    conn->poll.done = poll_done;
    conn->out.op.done = send_done;
    conn->out.room = VSOCK_ROOM_SMALL;
    conn->chunk = CHUNK_MIN;
    link_init(&conn->ready);
    link_init(&conn->timed);
    link_append(&vsock->table.all, &conn->all);
    vsock->table.count++;
    return conn;
}

/* A dead connection is freed when the ring has let go of it. */
static void release(struct vsock_conn *conn)
{
    if (conn->polling || conn->out.sending)
        return;
    vsock_out_drop(&conn->out);
    link_remove(&conn->all);
    free(conn);
}

static void forget(struct vsock_conn *conn)
{
    if (conn->known)
        metric_add(&metrics.vsock.conns_removed, 1);
    vsock_table_remove(&conn->vsock->table, conn);
    link_remove(&conn->ready);
    link_remove(&conn->timed);
}

static void close_socket(struct vsock_conn *conn)
{
    struct loop *loop = conn->vsock->dev.env.loop;

    /* Operations in the ring hold the file open: it is closed when they end. */
    if (conn->polling)
        loop_cancel(loop, &conn->poll);
    if (conn->out.sending)
        loop_cancel(loop, &conn->out.op);
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

void vsock_conn_end(struct vsock_conn *conn, bool reset)
{
    if (reset && conn->known) {
        metric_add(&metrics.vsock.conns_killed, 1);
        vsock_queues_reset(conn->vsock, conn->host_port, conn->guest_port, VSOCK_TYPE_STREAM);
    }
    forget(conn);
    conn->state = VSOCK_DEAD;
    conn->vsock->table.count--;
    conn->vsock->streams -= conn->out.room == VSOCK_ROOM_LARGE;
    close_socket(conn);
    release(conn);
}

void vsock_conn_expire(struct vsock_conn *conn)
{
    vsock_conn_end(conn, true);
}

/* ---- what is owed to the guest --------------------------------------------------------------- */

/* Bytes that the guest has room for. Whatever it claims, this is all that its claims can do; one
 * that claims to have had more than was sent gets nothing. */
static uint32_t credit(const struct vsock_conn *conn)
{
    uint32_t in_flight = conn->sent - conn->peer_forwarded;

    if (in_flight > INT32_MAX)
        return 0;
    return in_flight < conn->peer_alloc ? conn->peer_alloc - in_flight : 0;
}

/* Whether there may be bytes of the host that the guest still takes. */
static bool has_bytes(const struct vsock_conn *conn)
{
    return conn->state == VSOCK_OPEN && conn->readable && !conn->ended &&
           !(conn->guest_shut & VSOCK_SHUTDOWN_RECEIVE);
}

uint32_t vsock_conn_wants(const struct vsock_conn *conn)
{
    return has_bytes(conn) ? MIN(credit(conn), conn->chunk) : 0;
}

bool vsock_conn_owes_packet(const struct vsock_conn *conn)
{
    if (conn->owed & (VSOCK_OWES_REQUEST | VSOCK_OWES_RESPONSE))
        return true;
    return conn->owed && vsock_conn_wants(conn) == 0;
}

/* What poll has to look for: bytes where none are known of, the end where it is all that can come,
 * and nothing while there are bytes that the guest has no room for. */
static void watch(struct vsock_conn *conn)
{
    struct loop *loop = conn->vsock->dev.env.loop;
    bool open = conn->state == VSOCK_OPEN;
    bool silent = conn->ended || conn->guest_shut & VSOCK_SHUTDOWN_RECEIVE;

    if (conn->polling || conn->hung_up)
        return;
    if (open && silent)
        loop_poll_hangup(loop, &conn->poll, conn->fd);
    else if (!conn->readable && (open || conn->state <= VSOCK_ASKING))
        loop_poll(loop, &conn->poll, conn->fd, false);
    else
        return;
    conn->polling = true;
}

/* Whether only the guest's lack of room keeps bytes back; other states have deadlines of their own.
 */
static void consider_stall(struct vsock_conn *conn)
{
    bool stalled = has_bytes(conn) && credit(conn) == 0 && !conn->asked;

    if (conn->state != VSOCK_OPEN || stalled == link_is_used(&conn->timed))
        return;
    if (stalled)
        vsock_time_stall(conn);
    else
        link_remove(&conn->timed);
}

void vsock_conn_ask_for_credit(struct vsock_conn *conn)
{
    link_remove(&conn->timed);
    conn->asked = true;
    conn->owed |= VSOCK_OWES_CREDIT_REQUEST;
    vsock_conn_settle(conn);
}

void vsock_conn_settle(struct vsock_conn *conn)
{
    link_remove(&conn->ready);
    if (vsock_conn_owes_packet(conn) || vsock_conn_wants(conn) > 0)
        link_append(&conn->vsock->ready, &conn->ready);
    consider_stall(conn);
    watch(conn);
}

/* Every packet says how much room there is, so it makes an update that was due needless. */
static void fill_packet(struct vsock_conn *conn, struct vsock_packet *packet, enum vsock_op op)
{
    *packet = (struct vsock_packet){
        .src_cid = VSOCK_HOST_CID,
        .dst_cid = conn->vsock->s.guest_cid,
        .src_port = conn->host_port,
        .dst_port = conn->guest_port,
        .type = VSOCK_TYPE_STREAM,
        .op = (uint16_t)op,
        .buf_alloc = conn->out.room,
        .fwd_cnt = conn->forwarded,
    };
    conn->told_forwarded = conn->forwarded;
    conn->owed &= ~VSOCK_OWES_CREDIT_UPDATE;
}

void vsock_conn_data_packet(struct vsock_conn *conn, struct vsock_packet *packet, uint32_t len)
{
    fill_packet(conn, packet, VSOCK_OP_RW);
    packet->len = len;
}

/* The guest is told that the host will do neither any more: now the guest has to agree. */
static void start_closing(struct vsock_conn *conn)
{
    conn->state = VSOCK_CLOSING;
    vsock_out_drop(&conn->out);
    close_socket(conn);
    vsock_time(conn);
}

void vsock_conn_take_packet(struct vsock_conn *conn, struct vsock_packet *packet)
{
    static const enum vsock_op ops[] = {VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE, VSOCK_OP_CREDIT_UPDATE,
                                        VSOCK_OP_CREDIT_REQUEST, VSOCK_OP_SHUTDOWN};
    unsigned first = (unsigned)__builtin_ctz(conn->owed);

    conn->owed &= ~(1u << first);
    fill_packet(conn, packet, ops[first]);
    if (ops[first] != VSOCK_OP_SHUTDOWN)
        return;
    packet->flags = conn->host_shut;
    if (conn->host_shut == VSOCK_SHUTDOWN_BOTH)
        start_closing(conn);
}

/* The host will not do this any more: the guest is to be told. */
static void shut(struct vsock_conn *conn, unsigned flags)
{
    if ((conn->host_shut | flags) == conn->host_shut)
        return;
    conn->host_shut |= (uint8_t)flags;
    conn->owed |= VSOCK_OWES_SHUTDOWN;
}

/* Gives a stream more room, if not too many have it. The guest has to hear of it at once: by what
 * it knows, it would stop long before it is told of free room again. */
static void consider_growth(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;

    if (conn->out.room != VSOCK_ROOM_SMALL || conn->received < STREAM_BYTES ||
        vsock->streams == STREAMS_MAX || !vsock_out_grow(&conn->out))
        return;
    vsock->streams++;
    conn->owed |= VSOCK_OWES_CREDIT_UPDATE;
}

/*
 * Whether the guest should hear of room, because it may be waiting for it. It waits when it has
 * used up what it was given; Linux does so already when that is as much as its own buffer holds,
 * lest two ends fill each other's memory, so a guest with a small one hears sooner.
 */
static void consider_credit(struct vsock_conn *conn)
{
    uint32_t window = MIN(conn->out.room, conn->peer_alloc), low = window / 2;
    uint32_t believed_used = conn->received - conn->told_forwarded;
    uint32_t news = conn->forwarded - conn->told_forwarded;

    if (conn->out.room == VSOCK_ROOM_SMALL)
        low = MIN(low, CREDIT_LOW);
    if (believed_used >= window - low && news > 0 && (conn->out.len == 0 || news >= CREDIT_STEP))
        conn->owed |= VSOCK_OWES_CREDIT_UPDATE;
    consider_growth(conn);
}

/* ---- the host's side ------------------------------------------------------------------------- */

void vsock_conn_greet(struct vsock_conn *conn)
{
    struct vsock *vsock = conn->vsock;
    int rc = vsock_host_read_wish(conn, &conn->guest_port);

    if (rc == -EAGAIN) {
        conn->readable = false;
        watch(conn);
        return;
    }
    if (rc < 0) {
        vsock_conn_end(conn, false);
        return;
    }
    conn->readable = conn->wish_len > 0; /* else poll will say so */
    vsock->s.last_port = vsock_table_next_port(&vsock->table, vsock->s.last_port);
    conn->host_port = vsock->s.last_port;
    vsock_table_add(&vsock->table, conn);
    metric_add(&metrics.vsock.conns_added, 1);
    conn->state = VSOCK_ASKING;
    conn->owed |= VSOCK_OWES_REQUEST;
    vsock_time(conn);
    vsock_conn_settle(conn);
}

void vsock_conn_accept(struct vsock_conn *conn, int fd)
{
    conn->fd = fd;
    conn->state = VSOCK_OPEN;
    conn->owed |= VSOCK_OWES_RESPONSE;
    link_remove(&conn->timed);
    vsock_conn_settle(conn);
}

void vsock_conn_read(struct vsock_conn *conn, ssize_t n, bool more)
{
    /* Of a socket that has hung up there is the end to read too. */
    conn->readable = n > 0 && (more || conn->hung_up);
    if (n > 0) {
        conn->sent += (uint32_t)n;
        if (n >= conn->chunk)
            conn->chunk = MIN(conn->chunk * 4, CHUNK_MAX);
        else if (n < conn->chunk / 4)
            conn->chunk = MAX(conn->chunk / 4, CHUNK_MIN);
        metric_add(&metrics.vsock.rx_bytes_count, (uint64_t)n);
    } else if (n == 0) {
        conn->ended = true;
        shut(conn, VSOCK_SHUTDOWN_SEND | (conn->hung_up ? VSOCK_SHUTDOWN_RECEIVE : 0));
    } else if (n != -EAGAIN) {
        metric_add(&metrics.vsock.rx_read_fails, 1);
        vsock_conn_end(conn, true);
        return;
    }
    vsock_conn_settle(conn);
}

/* What poll has seen. May end the connection. */
static void look(struct vsock_conn *conn)
{
    if (conn->state == VSOCK_HELLO) {
        vsock_conn_greet(conn);
    } else if (conn->state == VSOCK_ASKING && conn->hung_up) {
        vsock_conn_end(conn, true);
    } else if (conn->state == VSOCK_OPEN) {
        if (conn->hung_up && (conn->ended || conn->guest_shut & VSOCK_SHUTDOWN_RECEIVE))
            shut(conn, VSOCK_SHUTDOWN_BOTH);
        vsock_conn_settle(conn);
    }
}

static void poll_done(struct op *op, int res, bool more)
{
    struct vsock_conn *conn = container_of(op, struct vsock_conn, poll);
    struct vsock *vsock = conn->vsock;

    (void)more;
    conn->polling = false;
    if (conn->fd < 0) { /* cancelled */
        if (conn->state == VSOCK_DEAD)
            release(conn);
        return;
    }
    if (res < 0) {
        metric_add(&metrics.vsock.conn_event_fails, 1);
        vsock_conn_end(conn, true);
    } else {
        conn->readable = true;
        conn->hung_up |= (res & (POLLHUP | POLLERR)) != 0;
        look(conn);
    }
    vsock_queues_deliver(vsock);
}

/* The guest's bytes no longer have anywhere to go. May end the connection. */
static void host_gone(struct vsock_conn *conn, int rc)
{
    metric_add(&metrics.vsock.tx_write_fails, 1);
    vsock_out_drop(&conn->out);
    conn->forwarded = conn->received;
    if (conn->state == VSOCK_LINGERING || (rc != -EPIPE && rc != -ECONNRESET)) {
        vsock_conn_end(conn, true);
        return;
    }
    shut(conn, VSOCK_SHUTDOWN_RECEIVE);
    vsock_conn_settle(conn);
}

/* All that the guest has sent is with the host: what follows from that. May end the connection. */
static void flushed(struct vsock_conn *conn)
{
    if (conn->state == VSOCK_LINGERING) {
        vsock_conn_end(conn, false);
        return;
    }
    if (conn->guest_shut & VSOCK_SHUTDOWN_SEND)
        shutdown(conn->fd, SHUT_WR);
    vsock_conn_settle(conn);
}

static void send_done(struct op *op, int res, bool more)
{
    struct vsock_conn *conn = container_of(op, struct vsock_conn, out.op);
    struct vsock *vsock = conn->vsock;

    (void)more;
    if (conn->fd < 0) { /* cancelled */
        conn->out.sending = false;
        vsock_out_drop(&conn->out);
        if (conn->state == VSOCK_DEAD)
            release(conn);
        return;
    }
    res = vsock_out_sent(&conn->out, vsock->dev.env.loop, conn->fd, res);
    if (res < 0) {
        host_gone(conn, res);
    } else {
        conn->forwarded += (uint32_t)res;
        consider_credit(conn);
        if (conn->out.len == 0)
            flushed(conn);
        else
            vsock_conn_settle(conn);
    }
    vsock_queues_deliver(vsock);
}

/* ---- the guest's side ------------------------------------------------------------------------ */

/* The guest agrees: the client hears so, and may send. */
static void agreed(struct vsock_conn *conn)
{
    char line[32];
    int len = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);

    if (conn->state != VSOCK_ASKING ||
        send(conn->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len) {
        vsock_conn_end(conn, true);
        return;
    }
    conn->state = VSOCK_OPEN;
    link_remove(&conn->timed);
    vsock_conn_settle(conn);
}

/* The guest has closed altogether. It is done with the connection; the host may still have to take
 * its last bytes. */
static void guest_closed(struct vsock_conn *conn)
{
    if (conn->state != VSOCK_OPEN || conn->out.len == 0) {
        vsock_conn_end(conn, true);
        return;
    }
    vsock_queues_reset(conn->vsock, conn->host_port, conn->guest_port, VSOCK_TYPE_STREAM);
    forget(conn);
    conn->state = VSOCK_LINGERING;
}

static void guest_shuts(struct vsock_conn *conn, uint32_t flags)
{
    unsigned was = conn->guest_shut, is = was | (flags & VSOCK_SHUTDOWN_BOTH);

    conn->guest_shut = (uint8_t)is;
    if (is == VSOCK_SHUTDOWN_BOTH || conn->state == VSOCK_ASKING || conn->state == VSOCK_WAITING) {
        guest_closed(conn);
        return;
    }
    if (conn->state == VSOCK_OPEN && is & ~was & VSOCK_SHUTDOWN_SEND && conn->out.len == 0)
        shutdown(conn->fd, SHUT_WR);
    if (conn->state == VSOCK_OPEN && is & ~was & VSOCK_SHUTDOWN_RECEIVE)
        shutdown(conn->fd, SHUT_RD);
    vsock_conn_settle(conn);
}

static void take_bytes(struct vsock_conn *conn, const struct iovec *iov, unsigned count,
                       uint32_t len)
{
    int n = (int)len;

    conn->received += len;
    metric_add(&metrics.vsock.tx_bytes_count, len);
    if (!(conn->host_shut & VSOCK_SHUTDOWN_RECEIVE)) /* else nobody will read it */
        n = vsock_out_write(&conn->out, conn->vsock->dev.env.loop, conn->fd, iov, count, len);
    if (n < 0) {
        host_gone(conn, n);
        return;
    }
    conn->forwarded += (uint32_t)n;
    consider_credit(conn);
    vsock_conn_settle(conn);
}

static void guest_sends(struct vsock_conn *conn, const struct iovec *iov, unsigned count,
                        uint32_t len)
{
    if (conn->state == VSOCK_CLOSING) /* sent before it could know */
        return;
    if (conn->state != VSOCK_OPEN || conn->guest_shut & VSOCK_SHUTDOWN_SEND ||
        len > conn->out.room - (conn->received - conn->forwarded)) {
        vsock_conn_end(conn, true);
        return;
    }
    if (len > 0)
        take_bytes(conn, iov, count, len);
}

void vsock_conn_receive(struct vsock_conn *conn, const struct vsock_packet *packet,
                        const struct iovec *iov, unsigned count)
{
    conn->peer_alloc = packet->buf_alloc;
    conn->peer_forwarded = packet->fwd_cnt;
    conn->asked = false;
    switch (packet->op) {
    case VSOCK_OP_RESPONSE:
        agreed(conn);
        break;
    case VSOCK_OP_RST:
        vsock_conn_end(conn, false);
        break;
    case VSOCK_OP_SHUTDOWN:
        guest_shuts(conn, packet->flags);
        break;
    case VSOCK_OP_RW:
        guest_sends(conn, iov, count, packet->len);
        break;
    case VSOCK_OP_CREDIT_REQUEST:
        conn->owed |= VSOCK_OWES_CREDIT_UPDATE;
        vsock_conn_settle(conn);
        break;
    case VSOCK_OP_CREDIT_UPDATE:
        vsock_conn_settle(conn);
        break;
    default: /* a second REQUEST, or no operation at all */
        vsock_conn_end(conn, true);
        break;
    }
}
