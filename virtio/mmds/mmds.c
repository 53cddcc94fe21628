/* SPDX-License-Identifier: Apache-2.0 */
/* mmds.c: the endpoint: frames to their connections and back, and one timer for all of them. */
#include "virtio/mmds/mmds.h"

#include "virtio/mmds/arp.h"
#include "virtio/mmds/tcp.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A connection that has been still for so long makes room for a new one when there is none: a
 * handshake that was never finished sooner than one that has been used. */
#define EVICTABLE_AFTER           (10 * NSEC_PER_SEC)
#define EVICTABLE_HANDSHAKE_AFTER NSEC_PER_SEC

/* RFC 791: what every host must take. */
#define MTU_MIN 68

struct mmds_endpoint {
    struct loop *loop;
    uint32_t address;
    uint16_t mtu;
    struct mmds_service service;
    struct mmds_wire wire;

    struct arp arp;
    struct frame_segment reset[MMDS_RESETS_MAX]; /* refusals to be sent, oldest first */
    unsigned reset_count;
    struct tcp *tcp[MMDS_CONNECTIONS_MAX]; /* malloc'ed; NULL = free */
    unsigned turn;                         /* whose output comes first */
    uint32_t number;                       /* where the sequence of the last one began */

    /* The timer is in the ring until timer_at or earlier; see time_of. */
    struct loop_timer timer;
    uint64_t timer_at, time;
    bool paused;
    uint64_t paused_at;
};

/* ---- time ---- */

/*
 * The time, which never runs backwards, and which a timer that has run out moves to where it was
 * set: so the connections' deadlines and the loop's timers agree even if two clocks do not.
 */
static uint64_t time_of(struct mmds_endpoint *endpoint)
{
    endpoint->time = MAX(endpoint->time, now_ns());
    return endpoint->time;
}

static uint64_t first_deadline(const struct mmds_endpoint *endpoint)
{
    uint64_t first = TCP_NEVER;

    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++)
        first = endpoint->tcp[i] ? MIN(first, endpoint->tcp[i]->deadline) : first;
    return first;
}

/* One that is set for later is recalled, and set again when it comes back. */
static void set_timer(struct mmds_endpoint *endpoint)
{
    uint64_t first = first_deadline(endpoint), now = time_of(endpoint);

    if (endpoint->paused || first == TCP_NEVER)
        return;
    if (!endpoint->timer.armed) {
        endpoint->timer_at = MAX(first, now);
        loop_timer_start(endpoint->loop, &endpoint->timer, endpoint->timer_at - now);
    } else if (first < endpoint->timer_at) {
        endpoint->timer_at = first;
        loop_cancel(endpoint->loop, &endpoint->timer.op);
    }
}

/* ---- connections ---- */

static void drop(struct mmds_endpoint *endpoint, unsigned i)
{
    tcp_release(endpoint->tcp[i]);
    free(endpoint->tcp[i]);
    endpoint->tcp[i] = NULL;
    metric_add(&metrics.mmds.connections_destroyed, 1);
}

/* The answer to a segment of no connection (RFC 9293, 3.10.7.1). */
static void refuse(struct mmds_endpoint *endpoint, const struct frame_segment *s)
{
    struct frame_segment *reset = &endpoint->reset[endpoint->reset_count];

    if (s->flags & TCP_RST || endpoint->reset_count == MMDS_RESETS_MAX)
        return;
    *reset = (struct frame_segment){
        .host = s->host,
        .host_port = s->host_port,
        .our_port = s->our_port,
        .flags = TCP_RST,
    };
    if (s->flags & TCP_ACK) {
        reset->seq = s->ack;
    } else {
        reset->flags |= TCP_ACK;
        reset->ack =
            s->seq + (uint32_t)s->len + (s->flags & TCP_SYN ? 1 : 0) + (s->flags & TCP_FIN ? 1 : 0);
    }
    endpoint->reset_count++;
}

static int find(const struct mmds_endpoint *endpoint, const struct frame_segment *s)
{
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        if (endpoint->tcp[i] && tcp_is(endpoint->tcp[i], s))
            return (int)i;
    }
    return -1;
}

/* The connection that has been still for longest, if that is long enough; it is reset. -1 = none.
 */
static int evict(struct mmds_endpoint *endpoint, uint64_t now)
{
    struct frame_segment last = {.flags = TCP_ACK};
    unsigned oldest = 0;
    const struct tcp *tcp;

    for (unsigned i = 1; i < MMDS_CONNECTIONS_MAX; i++) {
        if (endpoint->tcp[i]->progress < endpoint->tcp[oldest]->progress)
            oldest = i;
    }
    tcp = endpoint->tcp[oldest];
    if (now - tcp->progress <
        (tcp->state == TCP_SYN_RECEIVED ? EVICTABLE_HANDSHAKE_AFTER : EVICTABLE_AFTER))
        return -1;
    last.host = tcp->host;
    last.host_port = tcp->host_port;
    last.our_port = tcp->our_port;
    last.ack = tcp->next; /* as if the guest had said so: what a reset must carry */
    refuse(endpoint, &last);
    drop(endpoint, oldest);
    return (int)oldest;
}

static int find_room(struct mmds_endpoint *endpoint, uint64_t now)
{
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        if (!endpoint->tcp[i])
            return (int)i;
    }
    return evict(endpoint, now);
}

/* 2^32 divided by the golden ratio: its multiples keep as far apart on the circle as can be. */
#define NUMBER_STEP 0x9e3779b1

/*
 * Sequences begin far from each other, so that what is left of an old connection does not fit a new
 * one of the same port. That is all that is asked of them: on this wire there is nobody who could
 * guess them but the guest itself.
 */
static void open_connection(struct mmds_endpoint *endpoint, const struct frame_segment *syn,
                            uint64_t now)
{
    int i = find_room(endpoint, now);
    struct tcp *tcp = i < 0 ? NULL : malloc(sizeof(*tcp));

    if (!tcp) {
        refuse(endpoint, syn);
        return;
    }
    endpoint->number += NUMBER_STEP;
    tcp_open(tcp, syn, endpoint->mtu, endpoint->number, now);
    endpoint->tcp[i] = tcp;
    metric_add(&metrics.mmds.connections_created, 1);
}

/* ---- requests ---- */

/* The length of the request that has come, which ends at the first blank line; 0 = not all of it.
 */
static size_t find_request(const char *text, size_t len)
{
    const char *end = text + len, *line = memchr(text, '\n', len);

    for (; line; line = memchr(line, '\n', (size_t)(end - line))) {
        line++;
        if (line < end && line[0] == '\n')
            return (size_t)(line + 1 - text);
        if (end - line > 1 && line[0] == '\r' && line[1] == '\n')
            return (size_t)(line + 2 - text);
    }
    return 0;
}

static void answer(struct mmds_endpoint *endpoint, struct tcp *tcp, size_t request_len,
                   uint64_t now)
{
    size_t len = 0;
    char *text =
        endpoint->service.answer(endpoint->service.owner, tcp->received, request_len, &len);

    tcp_consume(tcp, request_len);
    if (text && len <= TCP_ANSWER_MAX) {
        tcp_answer(tcp, text, len, now);
    } else {
        free(text);
        tcp_abort(tcp);
    }
}

/* What has been received, once the answer before has arrived. */
static void serve(struct mmds_endpoint *endpoint, struct tcp *tcp, uint64_t now)
{
    size_t len;

    if (tcp->state != TCP_OPEN || tcp->answer || tcp->closing)
        return;
    len = find_request(tcp->received, tcp->received_len);
    if (len)
        answer(endpoint, tcp, len, now);
    else if (tcp->received_len == TCP_RECEIVE_MAX)
        tcp_abort(tcp); /* larger than any request may be */
    else if (tcp->host_closed)
        tcp_close(tcp);
}

/* ---- input ---- */

static void take_segment(struct mmds_endpoint *endpoint, const struct frame_segment *s)
{
    uint64_t now = time_of(endpoint);
    int i = find(endpoint, s);

    metric_add(&metrics.mmds.rx_count, 1);
    if (i < 0) {
        if (s->our_port != MMDS_PORT)
            metric_add(&metrics.mmds.rx_accepted_err, 1);
        if (s->our_port == MMDS_PORT && (s->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN)
            open_connection(endpoint, s, now);
        else
            refuse(endpoint, s);
        return;
    }
    if (!tcp_input(endpoint->tcp[i], s, now))
        metric_add(&metrics.mmds.rx_accepted_unusual, 1);
    serve(endpoint, endpoint->tcp[i], now);
    if (endpoint->tcp[i]->state == TCP_DONE)
        drop(endpoint, (unsigned)i);
}

static void take_ipv4(struct mmds_endpoint *endpoint, const uint8_t *frame, size_t len)
{
    struct frame_segment segment;

    switch (frame_read_segment(frame, len, &segment)) {
    case 0:
        take_segment(endpoint, &segment);
        break;
    case -EPROTO:
        metric_add(&metrics.mmds.rx_accepted_unusual, 1);
        break;
    default:
        metric_add(&metrics.mmds.rx_accepted_err, 1);
        break;
    }
}

static bool has_output(const struct mmds_endpoint *endpoint)
{
    if (endpoint->arp.count || endpoint->reset_count)
        return true;
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        if (endpoint->tcp[i] && tcp_wants_output(endpoint->tcp[i]))
            return true;
    }
    return false;
}

/* The end of whatever may have changed something. */
static void settle(struct mmds_endpoint *endpoint)
{
    set_timer(endpoint);
    if (has_output(endpoint) && endpoint->wire.ready)
        endpoint->wire.ready(endpoint->wire.owner);
}

bool mmds_endpoint_wants(const struct mmds_endpoint *endpoint, const uint8_t *head, size_t len)
{
    struct frame_host from;
    uint32_t address;

    switch (frame_kind(head, len)) {
    case FRAME_ARP:
        return frame_read_arp_request(head, len, endpoint->address, &from);
    case FRAME_IPV4:
        return frame_read_destination(head, len, &address) && address == endpoint->address;
    case FRAME_OTHER:
        break;
    }
    return false;
}

void mmds_endpoint_input(struct mmds_endpoint *endpoint, const uint8_t *frame, size_t len)
{
    struct frame_host from;

    metric_add(&metrics.mmds.rx_accepted, 1);
    switch (frame_kind(frame, len)) {
    case FRAME_ARP:
        if (frame_read_arp_request(frame, len, endpoint->address, &from))
            arp_ask(&endpoint->arp, &from);
        break;
    case FRAME_IPV4:
        take_ipv4(endpoint, frame, len);
        break;
    case FRAME_OTHER:
        metric_add(&metrics.mmds.rx_bad_eth, 1);
        break;
    }
    settle(endpoint);
}

/* ---- output ---- */

static size_t output_reset(struct mmds_endpoint *endpoint, uint8_t *frame)
{
    size_t len;

    if (!endpoint->reset_count)
        return 0;
    len = frame_write_segment(frame, endpoint->address, &endpoint->reset[0]);
    memmove(&endpoint->reset[0], &endpoint->reset[1],
            --endpoint->reset_count * sizeof(endpoint->reset[0]));
    return len;
}

/* Connections take turns, a frame each. */
static size_t output_tcp(struct mmds_endpoint *endpoint, uint8_t *frame, size_t room)
{
    uint64_t now = time_of(endpoint);
    size_t len = 0;

    for (unsigned n = 0; n < MMDS_CONNECTIONS_MAX && !len; n++) {
        unsigned i = endpoint->turn++ % MMDS_CONNECTIONS_MAX;

        if (!endpoint->tcp[i])
            continue;
        len = tcp_output(endpoint->tcp[i], endpoint->address, frame, room, now);
        if (endpoint->tcp[i]->state == TCP_DONE)
            drop(endpoint, i);
    }
    set_timer(endpoint);
    return len;
}

size_t mmds_endpoint_output(struct mmds_endpoint *endpoint, uint8_t *frame, size_t room)
{
    size_t len;

    if (room < MMDS_FRAME_MIN) {
        metric_add(&metrics.mmds.tx_errors, 1);
        return 0;
    }
    len = arp_output(&endpoint->arp, endpoint->address, frame);
    if (!len)
        len = output_reset(endpoint, frame);
    if (!len)
        len = output_tcp(endpoint, frame, room);
    if (len) {
        metric_add(&metrics.mmds.tx_count, 1);
        metric_add(&metrics.mmds.tx_frames, 1);
        metric_add(&metrics.mmds.tx_bytes, len);
    }
    return len;
}

/* ---- the timer, and pauses ---- */

static void timer_done(struct op *op, int res, bool more)
{
    struct mmds_endpoint *endpoint = container_of(op, struct mmds_endpoint, timer.op);
    uint64_t now;

    (void)more;
    endpoint->timer.armed = false;
    if (endpoint->paused)
        return;
    if (res == -ETIME)
        endpoint->time = MAX(endpoint->time, endpoint->timer_at);
    now = time_of(endpoint);
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        if (endpoint->tcp[i] && endpoint->tcp[i]->deadline <= now)
            tcp_timeout(endpoint->tcp[i], now);
    }
    settle(endpoint);
}

void mmds_endpoint_quiesce(struct mmds_endpoint *endpoint)
{
    if (endpoint->paused)
        return;
    endpoint->paused_at = time_of(endpoint);
    endpoint->paused = true;
    if (endpoint->timer.armed)
        loop_cancel(endpoint->loop, &endpoint->timer.op);
}

void mmds_endpoint_resume(struct mmds_endpoint *endpoint)
{
    uint64_t pause = time_of(endpoint) - endpoint->paused_at;

    if (!endpoint->paused)
        return;
    endpoint->paused = false;
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        struct tcp *tcp = endpoint->tcp[i];

        if (!tcp)
            continue;
        tcp->progress += pause;
        if (tcp->deadline != TCP_NEVER)
            tcp->deadline += pause;
    }
    settle(endpoint);
}

/* ---- life ---- */

int mmds_endpoint_create(struct mmds_endpoint **out, struct loop *loop, uint32_t address,
                         uint16_t mtu, const struct mmds_service *service, struct err *e)
{
    struct mmds_endpoint *endpoint = calloc(1, sizeof(*endpoint));

    if (!endpoint)
        return err_set(e, -ENOMEM, "Cannot create the metadata service: %s", err_os(-ENOMEM));
    endpoint->loop = loop;
    endpoint->address = address;
    endpoint->mtu = MAX(mtu, MTU_MIN);
    endpoint->service = *service;
    endpoint->timer.op.done = timer_done;
    endpoint->number = (uint32_t)(now_ns() / NSEC_PER_USEC);
    *out = endpoint;
    return 0;
}

void mmds_endpoint_destroy(struct mmds_endpoint *endpoint)
{
    if (!endpoint)
        return;
    BUG_ON(endpoint->timer.armed);
    for (unsigned i = 0; i < MMDS_CONNECTIONS_MAX; i++) {
        if (endpoint->tcp[i])
            drop(endpoint, i);
    }
    free(endpoint);
}

void mmds_endpoint_attach(struct mmds_endpoint *endpoint, const struct mmds_wire *wire)
{
    endpoint->wire = *wire;
}
