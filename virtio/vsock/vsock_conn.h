/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_conn.h owns one connection: a stream between a socket of the guest, known by the ports of
 * its two ends, and a Unix socket of the host.
 *
 *      HELLO ---> ASKING ---+                 a client of the host has connected; has said
 *                           +--> OPEN         CONNECT, so the guest is asked; the guest agrees
 *      (WAITING) -----------+                 the guest asks; the host's listener has (had no) room
 *
 *      OPEN ---> CLOSING                      the host has closed, the guest has been told so, and
 *                                             has two seconds to agree
 *      OPEN ---> LINGERING                    the guest has closed and is done; its last bytes are
 *                                             still being written to the host
 *      any ----> DEAD                         only the ring still holds it
 *
 * Half-closed connections are OPEN. What is to be said to the guest is noted as `owed` and said
 * when the guest has a buffer for it; bytes of the host stay in its socket until then.
 *
 * Loop thread, machine lock held. A call that may end the connection says so: then it may have been
 * freed.
 */
#ifndef MAYFLY_VSOCK_CONN_H
#define MAYFLY_VSOCK_CONN_H

#include "virtio/vsock/vsock_link.h"
#include "virtio/vsock/vsock_out.h"
#include "virtio/vsock/vsock_packet.h"

struct vsock;

enum vsock_state_name {
    VSOCK_HELLO,
    VSOCK_ASKING,
    VSOCK_WAITING,
    VSOCK_OPEN,
    VSOCK_CLOSING,
    VSOCK_LINGERING,
    VSOCK_DEAD,
};

#define VSOCK_WISH_MAX 32 /* bytes of a client's first line, its end included */

/* Packets owed to the guest, in the order in which they are sent; the host's bytes come before the
 * last two. */
#define VSOCK_OWES_REQUEST        1u
#define VSOCK_OWES_RESPONSE       2u
#define VSOCK_OWES_CREDIT_UPDATE  4u
#define VSOCK_OWES_CREDIT_REQUEST 8u
#define VSOCK_OWES_SHUTDOWN       16u

struct vsock_conn {
    struct vsock *vsock;
    enum vsock_state_name state;
    uint32_t host_port, guest_port;
    bool known; /* in the table, by these ports */
    struct vsock_conn *hash_next;
    struct vsock_link all;   /* of the table */
    struct vsock_link ready; /* has something for the guest */
    struct vsock_link timed; /* waits for something with a deadline */
    uint64_t deadline_ns;

    int fd; /* -1 = closed */
    struct op poll;
    bool polling;  /* poll is in the ring */
    bool readable; /* there may be bytes of the host: set by poll, cleared by a short read */
    bool hung_up;  /* the host's end is closed altogether */
    bool ended;    /* the host's last byte has been read */
    bool asked;    /* the guest has been asked for credit since it last said something */

    /* The client's first line as far as it has come, and then the bytes that came with it. */
    char wish[VSOCK_WISH_MAX];
    uint8_t wish_len;

    /* to the guest */
    uint32_t owed;
    uint32_t chunk; /* what the next read asks for: grows while reads are full */
    uint32_t sent, peer_alloc, peer_forwarded;

    /* to the host */
    struct vsock_out out;
    uint32_t received, forwarded, told_forwarded;

    /* VSOCK_SHUTDOWN_*: said by the guest; due from us and said to the guest */
    uint8_t guest_shut, host_shut;
};

/* Makes a connection around a socket (-1 = none yet), which it takes. NULL without memory. */
struct vsock_conn *vsock_conn_new(struct vsock *vsock, enum vsock_state_name state, int fd);

/* Ends it at once: closes the socket and, if `reset`, has the guest told. Frees it, now or when
 * the ring lets go. */
void vsock_conn_end(struct vsock_conn *conn, bool reset);

/* A client of the host has connected: reads its wish, if it is there already. May end it. */
void vsock_conn_greet(struct vsock_conn *conn);

/* The connection that the guest asks for has its socket: agree. */
void vsock_conn_accept(struct vsock_conn *conn, int fd);

/* A packet of the guest for this connection, its payload in `iov`, whose length is packet->len. May
 * end it. */
void vsock_conn_receive(struct vsock_conn *conn, const struct vsock_packet *packet,
                        const struct iovec *iov, unsigned count);

/* ---- towards the guest ----------------------------------------------------------------------- */

/* Whether a packet without payload is to be sent next; and that packet, which then counts as sent.
 */
bool vsock_conn_owes_packet(const struct vsock_conn *conn);
void vsock_conn_take_packet(struct vsock_conn *conn, struct vsock_packet *packet);

/* How many bytes of the host the guest should be given now; 0 = none. */
uint32_t vsock_conn_wants(const struct vsock_conn *conn);

/* Result of a read from the socket: bytes that go to the guest, 0 at the end, or a negative errno;
 * `more` = there may be more to read. May end it. */
void vsock_conn_read(struct vsock_conn *conn, ssize_t n, bool more);

/* The header of a packet with `len` bytes of the host. */
void vsock_conn_data_packet(struct vsock_conn *conn, struct vsock_packet *packet, uint32_t len);

/* Puts the connection on the ready list if it has something for the guest, and else takes it off.
 */
void vsock_conn_settle(struct vsock_conn *conn);

/* The guest has had no room for long: have it asked. Takes the connection off the stalled list,
 * where only an answer of the guest leads it back. */
void vsock_conn_ask_for_credit(struct vsock_conn *conn);

/* Its deadline has passed. Ends it. */
void vsock_conn_expire(struct vsock_conn *conn);

#endif
