/* SPDX-License-Identifier: Apache-2.0 */
/* tcp.c: a connection's two halves, and its patience. */
#include "virtio/mmds/tcp.h"

#include <stdlib.h>
#include <string.h>

/* The sequence is a circle: an order exists only between positions less than half of it apart. */
static bool is_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static uint32_t answer_end(const struct tcp *tcp)
{
    return tcp->answer_at + (uint32_t)tcp->answer_len;
}

/* Where our sequence ends as far as it is known: behind the answer, and behind the FIN. */
static uint32_t sequence_end(const struct tcp *tcp)
{
    return answer_end(tcp) + (tcp->closing ? 1 : 0);
}

static bool in_flight(const struct tcp *tcp)
{
    return tcp->acked != tcp->sent;
}

/* Something is to be sent, and only the guest's window holds it up. */
static bool waits_for_window(const struct tcp *tcp)
{
    return tcp->state == TCP_OPEN && !in_flight(tcp) && is_before(tcp->next, answer_end(tcp));
}

/* Whether the guest takes nothing at all at present. */
static bool window_closed(const struct tcp *tcp)
{
    return !is_before(tcp->acked, tcp->window_end);
}

static void patience_anew(struct tcp *tcp)
{
    tcp->wait = TCP_RTO_FIRST;
    tcp->retries = 0;
}

/* Sees to it that what cannot go on by itself is looked at again. */
static void watch(struct tcp *tcp, uint64_t now)
{
    if (tcp->deadline == TCP_NEVER && (in_flight(tcp) || waits_for_window(tcp)))
        tcp->deadline = now + tcp->wait;
}

static void be_done(struct tcp *tcp)
{
    tcp->state = TCP_DONE;
    tcp->deadline = TCP_NEVER;
}

/* ---- life ---- */

void tcp_open(struct tcp *tcp, const struct frame_segment *syn, uint16_t mtu, uint32_t number,
              uint64_t now)
{
    uint16_t fits = (uint16_t)(mtu - FRAME_IP_LEN - FRAME_TCP_LEN);
    uint16_t wanted = syn->mss ? MAX(syn->mss, TCP_MSS_MIN) : TCP_MSS_DEFAULT;

    memset(tcp, 0, offsetof(struct tcp, received));
    tcp->state = TCP_SYN_RECEIVED;
    tcp->host = syn->host;
    tcp->host_port = syn->host_port;
    tcp->our_port = syn->our_port;
    tcp->our_mss = fits;
    tcp->mss = MIN(fits, wanted);
    tcp->acked = tcp->next = tcp->sent = number;
    tcp->repeated = number;
    tcp->answer_at = number + 1;
    tcp->window_seq = syn->seq;
    tcp->window_end = number + 1 + syn->window;
    tcp->window_most = syn->window;
    tcp->expected = syn->seq + 1;
    tcp->window_told = tcp->expected;
    tcp->deadline = TCP_NEVER;
    tcp->progress = now;
    patience_anew(tcp);
}

void tcp_release(struct tcp *tcp)
{
    free(tcp->answer);
    tcp->answer = NULL;
}

bool tcp_is(const struct tcp *tcp, const struct frame_segment *segment)
{
    return tcp->host.address == segment->host.address && tcp->host_port == segment->host_port &&
           tcp->our_port == segment->our_port;
}

void tcp_abort(struct tcp *tcp)
{
    if (tcp->state != TCP_DONE)
        tcp->state = TCP_RESETTING;
    tcp->deadline = TCP_NEVER;
}

void tcp_close(struct tcp *tcp)
{
    tcp->closing = true;
}

void tcp_answer(struct tcp *tcp, char *answer, size_t len, uint64_t now)
{
    BUG_ON(tcp->answer || tcp->closing);
    tcp->answer = answer;
    tcp->answer_len = len;
    watch(tcp, now);
}

/* ---- receiving ---- */

static uint32_t room(const struct tcp *tcp)
{
    return (uint32_t)(TCP_RECEIVE_MAX - tcp->received_len);
}

/* Whether a segment lies in the window, or at least where the next one is expected. */
static bool is_acceptable(const struct tcp *tcp, const struct frame_segment *s)
{
    uint32_t end = s->seq + (uint32_t)s->len + (s->flags & TCP_FIN ? 1 : 0);

    if (s->seq == tcp->expected)
        return true;
    return is_before(tcp->expected, end) && is_before(s->seq, tcp->expected + room(tcp));
}

/* The window the guest offers, unless an older segment says so. */
static void take_window(struct tcp *tcp, const struct frame_segment *s)
{
    if (is_before(s->seq, tcp->window_seq))
        return;
    tcp->window_seq = s->seq;
    tcp->window_end = s->ack + s->window;
    tcp->window_most = MAX(tcp->window_most, s->window);
}

static void forget_answer(struct tcp *tcp)
{
    tcp->answer_at = answer_end(tcp);
    tcp->answer_len = 0;
    free(tcp->answer);
    tcp->answer = NULL;
}

/* Everything before s->ack has arrived, which is more than was known. */
static void take_progress(struct tcp *tcp, uint32_t ack, uint64_t now)
{
    tcp->acked = ack;
    if (is_before(tcp->next, ack))
        tcp->next = ack;
    tcp->same_acks = 0;
    tcp->progress = now;
    patience_anew(tcp);
    tcp->deadline = TCP_NEVER;
    watch(tcp, now);
    if (tcp->answer && !is_before(ack, answer_end(tcp)))
        forget_answer(tcp);
    if (tcp->closing && ack == sequence_end(tcp))
        be_done(tcp);
}

/* Three acknowledgements of the same byte: what follows it is lost, though later ones arrive. */
static void take_repeated(struct tcp *tcp)
{
    if (++tcp->same_acks != 3 || is_before(tcp->acked, tcp->repeated))
        return;
    tcp->repeated = tcp->sent;
    tcp->next = tcp->acked;
}

static bool take_ack(struct tcp *tcp, const struct frame_segment *s, uint64_t now)
{
    uint32_t window_end = tcp->window_end;

    if (is_before(tcp->sent, s->ack)) { /* of what has never been sent */
        tcp->ack_due = true;
        return false;
    }
    if (is_before(s->ack, tcp->acked))
        return true;
    take_window(tcp, s);
    if (s->ack != tcp->acked)
        take_progress(tcp, s->ack, now);
    else if (in_flight(tcp) && !s->len && !(s->flags & TCP_FIN) && window_end == tcp->window_end)
        take_repeated(tcp);
    if (!in_flight(tcp) || window_closed(tcp))
        tcp->retries = 0; /* it answers, and may be as slow as it likes */
    return true;
}

/* Takes what is new in a segment that begins at or before `expected`. */
static void take_data(struct tcp *tcp, const struct frame_segment *s, uint64_t now)
{
    uint32_t known = tcp->expected - s->seq;
    size_t fresh = s->len > known ? s->len - known : 0, n = MIN(fresh, room(tcp));

    if (s->len || s->flags & TCP_FIN)
        tcp->ack_due = true;
    if (tcp->host_closed)
        return;
    if (n) {
        memcpy(tcp->received + tcp->received_len, s->data + known, n);
        tcp->received_len += n;
        tcp->expected += (uint32_t)n;
        tcp->progress = now;
    }
    if (s->flags & TCP_FIN && n == fresh) {
        tcp->expected++;
        tcp->host_closed = true;
        tcp->progress = now;
    }
}

static bool take_reset(struct tcp *tcp, const struct frame_segment *s)
{
    if (s->seq == tcp->expected)
        be_done(tcp);
    else if (is_acceptable(tcp, s))
        tcp->ack_due = true; /* perhaps an old one: who means it says so again (3.10.7.4) */
    return false;
}

/* The guest asks for what is open already: either our answer was lost, or it was started anew. */
static bool take_syn(struct tcp *tcp, const struct frame_segment *s)
{
    if (tcp->state == TCP_SYN_RECEIVED && s->seq + 1 == tcp->expected)
        tcp->next = tcp->acked;
    else
        tcp->ack_due = true;
    return tcp->state == TCP_SYN_RECEIVED;
}

bool tcp_input(struct tcp *tcp, const struct frame_segment *s, uint64_t now)
{
    if (tcp->state == TCP_RESETTING || tcp->state == TCP_DONE)
        return false;
    if (s->flags & TCP_RST)
        return take_reset(tcp, s);
    if (s->flags & TCP_SYN)
        return take_syn(tcp, s);
    if (!is_acceptable(tcp, s)) {
        tcp->ack_due = true;
        return false;
    }
    tcp->host = s->host; /* its hardware address may have changed */
    if (!(s->flags & TCP_ACK) || !take_ack(tcp, s, now))
        return false;
    if (tcp->state == TCP_SYN_RECEIVED && tcp->acked == tcp->answer_at)
        tcp->state = TCP_OPEN;
    if (tcp->state != TCP_OPEN)
        return true;
    if (is_before(tcp->expected, s->seq)) { /* something before it is missing */
        tcp->ack_due = true;
        return true;
    }
    take_data(tcp, s, now);
    return true;
}

void tcp_consume(struct tcp *tcp, size_t n)
{
    tcp->received_len -= n;
    memmove(tcp->received, tcp->received + n, tcp->received_len);
    /* A guest that was told of a small window waits to hear of a larger one. */
    if (tcp->window_told - tcp->expected < MIN(tcp->our_mss, TCP_RECEIVE_MAX / 2))
        tcp->ack_due = true;
}

/* ---- sending ---- */

/* How much of the answer may be sent now; small pieces only as tcp.h says. */
static uint32_t sendable(const struct tcp *tcp)
{
    uint32_t left = answer_end(tcp) - tcp->next, window, n;

    if (tcp->state != TCP_OPEN || !is_before(tcp->next, answer_end(tcp)) ||
        !is_before(tcp->next, tcp->window_end))
        return 0;
    window = tcp->window_end - tcp->next;
    n = MIN(MIN(left, window), tcp->mss);
    if (n == left || n == tcp->mss || tcp->push_due)
        return n;
    return tcp->next == tcp->acked && n >= tcp->window_most / 2 ? n : 0;
}

static bool sends_syn(const struct tcp *tcp)
{
    return tcp->state == TCP_SYN_RECEIVED && tcp->next == tcp->acked;
}

static bool sends_fin(const struct tcp *tcp)
{
    return tcp->state == TCP_OPEN && tcp->closing && tcp->next == answer_end(tcp);
}

bool tcp_wants_output(const struct tcp *tcp)
{
    if (tcp->state == TCP_DONE)
        return false;
    return tcp->state == TCP_RESETTING || tcp->ack_due || tcp->probe_due || sends_syn(tcp) ||
           sends_fin(tcp) || sendable(tcp);
}

static struct frame_segment segment_of(struct tcp *tcp, uint32_t seq, uint8_t flags)
{
    return (struct frame_segment){
        .host = tcp->host,
        .host_port = tcp->host_port,
        .our_port = tcp->our_port,
        .seq = seq,
        .ack = tcp->expected,
        .flags = flags | TCP_ACK,
        .window = (uint16_t)room(tcp),
    };
}

/* The SYN, a piece of the answer, the FIN: whatever takes part in the sequence and comes next. */
static bool next_in_sequence(struct tcp *tcp, size_t most, struct frame_segment *s)
{
    uint32_t n = (uint32_t)MIN(sendable(tcp), most), taken = n;

    *s = segment_of(tcp, tcp->next, 0);
    if (sends_syn(tcp)) {
        s->flags |= TCP_SYN;
        s->mss = tcp->our_mss;
        taken = 1;
    } else if (n) {
        s->data = (const uint8_t *)tcp->answer + (tcp->next - tcp->answer_at);
        s->len = n;
        s->flags |= tcp->next + n == answer_end(tcp) ? TCP_PSH : 0;
    }
    if (tcp->state == TCP_OPEN && tcp->closing && tcp->next + n == answer_end(tcp)) {
        s->flags |= TCP_FIN;
        taken++;
    }
    tcp->next += taken;
    return taken;
}

/* After something of the sequence has been sent. */
static void note_sent(struct tcp *tcp, uint64_t now)
{
    bool first = !in_flight(tcp);

    tcp->push_due = tcp->probe_due = false;
    if (is_before(tcp->sent, tcp->next))
        tcp->sent = tcp->next;
    if (first) { /* the wait for the window, if there was one, is over */
        patience_anew(tcp);
        tcp->deadline = TCP_NEVER;
    }
    watch(tcp, now);
}

size_t tcp_output(struct tcp *tcp, uint32_t address, uint8_t *frame, size_t room_len, uint64_t now)
{
    struct frame_segment s;

    if (!tcp_wants_output(tcp))
        return 0;
    if (tcp->state == TCP_RESETTING) {
        s = segment_of(tcp, tcp->next, TCP_RST);
        be_done(tcp);
    } else if (next_in_sequence(tcp, room_len - FRAME_DATA, &s)) {
        note_sent(tcp, now);
    } else if (tcp->probe_due) { /* an old byte, which the guest must answer (RFC 9293, 3.8.4) */
        s = segment_of(tcp, tcp->acked - 1, 0);
        tcp->probe_due = false;
    } else {
        s = segment_of(tcp, tcp->next, 0);
    }
    tcp->ack_due = false;
    tcp->window_told = tcp->expected + room(tcp);
    return frame_write_segment(frame, address, &s);
}

/* ---- time ---- */

/* Everything again; and how the window is, or, if it is open, a small piece rather than none. */
static void try_again(struct tcp *tcp)
{
    if (in_flight(tcp)) {
        tcp->next = tcp->acked;
        tcp->repeated = tcp->sent;
    }
    if (tcp->state == TCP_OPEN) {
        tcp->probe_due = window_closed(tcp);
        tcp->push_due = !tcp->probe_due;
    }
}

void tcp_timeout(struct tcp *tcp, uint64_t now)
{
    unsigned most = tcp->state == TCP_SYN_RECEIVED ? TCP_SYN_RETRIES : TCP_RETRIES_MAX;

    tcp->deadline = TCP_NEVER;
    if (!in_flight(tcp) && !waits_for_window(tcp))
        return;
    if (!tcp_wants_output(tcp)) { /* otherwise the last try has not even been sent */
        if (++tcp->retries > most) {
            tcp_abort(tcp);
            return;
        }
        tcp->wait = MIN(2 * tcp->wait, TCP_RTO_MAX);
        try_again(tcp);
    }
    watch(tcp, now);
}
