/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp.h owns one TCP connection (RFC 9293) of the metadata service: always opened and first closed
 * by the guest, one request in and one answer out at a time. No I/O, no timer, no clock of its own:
 * segments go in, frames come out when asked for, and the owner says what time it is.
 *
 *      SYN_RECEIVED --ACK--> OPEN --both have closed, or one has reset--> DONE
 *            \________________\___tcp_abort, or no answer for too long___/
 *
 * What a loop on this machine does not need is left out: window scaling, timestamps, selective
 * acknowledgements, congestion control (whoever carries the frames asks for the next only when
 * there is room for it), TIME_WAIT (it is the guest that closes first). Segments out of order are
 * dropped and acknowledged at once, which makes the guest send again what was missing.
 *
 * Lost segments: after TCP_RTO_FIRST without an acknowledgement, or after three that say the same,
 * everything unacknowledged is sent again; each time without progress the wait doubles, up to
 * TCP_RTO_MAX, and after TCP_RETRIES_MAX of them the connection is reset. A guest that has closed
 * its window is asked at the same intervals whether it has opened it, for as long as it answers.
 * Small windows are not filled with small segments unless nothing else happens (RFC 9293, 3.8.6.2).
 */
#ifndef MAYFLY_MMDS_TCP_H
#define MAYFLY_MMDS_TCP_H

#include "virtio/mmds/frame.h"

/* A request must fit; one that does not costs its connection. So does an answer that is longer than
 * an order in the circle of sequence numbers can be told for. */
#define TCP_RECEIVE_MAX 2500
#define TCP_ANSWER_MAX  GIB

#define TCP_RTO_FIRST   (300 * NSEC_PER_MSEC)
#define TCP_RTO_MAX     (3 * NSEC_PER_SEC)
#define TCP_RETRIES_MAX 15
#define TCP_SYN_RETRIES 5

/* Segments that we send are no smaller than this only because the guest wishes it. */
#define TCP_MSS_MIN     88
#define TCP_MSS_DEFAULT 536 /* what a guest takes that does not say (RFC 9293, 3.7.1) */

#define TCP_NEVER UINT64_MAX

enum tcp_state { TCP_SYN_RECEIVED, TCP_OPEN, TCP_RESETTING, TCP_DONE };

struct tcp {
    enum tcp_state state;
    struct frame_host host;
    uint16_t host_port, our_port;
    uint16_t our_mss, mss; /* told to the guest; used towards it */

    /* What we send: positions in its sequence, each not behind the next. */
    uint32_t acked, next, sent; /* acknowledged; to be sent next; sent at least once */
    uint32_t answer_at;         /* of the answer's first byte */
    char *answer;               /* malloc'ed; NULL = none */
    size_t answer_len;
    bool closing;         /* nothing follows the answer: a FIN does */
    uint32_t window_end;  /* the guest takes bytes before this one */
    uint32_t window_seq;  /* of the segment that said so */
    uint32_t window_most; /* the largest it ever offered */
    uint32_t repeated;    /* not again for repeated acknowledgements before this is acknowledged */
    unsigned same_acks;

    /* What we receive. */
    uint32_t expected;    /* the next byte in sequence */
    uint32_t window_told; /* where the window ended that the guest was last told of */
    bool host_closed;     /* its FIN has come, in order */
    bool ack_due, probe_due, push_due;
    size_t received_len;
    char received[TCP_RECEIVE_MAX];

    uint64_t deadline; /* of tcp_timeout; TCP_NEVER */
    uint64_t wait;     /* the next one's distance */
    unsigned retries;
    uint64_t progress; /* when the guest last sent or acknowledged something new */
};

/* By the guest's SYN. `number` begins our sequence; `mtu` bounds our frames. */
void tcp_open(struct tcp *tcp, const struct frame_segment *syn, uint16_t mtu, uint32_t number,
              uint64_t now);
/* Frees what it holds, not the struct. */
void tcp_release(struct tcp *tcp);

/* Whether a segment is of this connection. */
bool tcp_is(const struct tcp *tcp, const struct frame_segment *segment);

/* Takes a segment of it. False if there was something odd about it, which is for the metrics only:
 * what can be used of it is. */
bool tcp_input(struct tcp *tcp, const struct frame_segment *segment, uint64_t now);

/* Takes n bytes of what has been received off its front. */
void tcp_consume(struct tcp *tcp, size_t n);

/* Begins an answer; there is none (tcp->answer is NULL). Takes the malloc'ed bytes over. */
void tcp_answer(struct tcp *tcp, char *answer, size_t len, uint64_t now);

/* Nothing will be answered any more: closes our half behind the answer. Twice is once. */
void tcp_close(struct tcp *tcp);

/* Ends it with a reset. */
void tcp_abort(struct tcp *tcp);

/* Whether tcp_output has something. */
bool tcp_wants_output(const struct tcp *tcp);

/* The next frame, in `room` bytes (more than FRAME_DATA + FRAME_MSS_LEN); its length, or 0. */
size_t tcp_output(struct tcp *tcp, uint32_t address, uint8_t *frame, size_t room, uint64_t now);

/* tcp->deadline has come. */
void tcp_timeout(struct tcp *tcp, uint64_t now);

#endif
