/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmds_fixture.h owns the endpoint under test: a service that says the same to everything, a
 * guest's side of TCP at the other end, and a wire between them that the test rules. Every call
 * here ends the test when it does not go as it must.
 */
#ifndef MAYFLY_TESTS_UNIT_MMDS_FIXTURE_H
#define MAYFLY_TESTS_UNIT_MMDS_FIXTURE_H

#include "tests/support/tcp_peer.h"
#include "virtio/mmds/mmds.h"
#include "virtio/mmds/tcp.h"

#define MTU     1500
#define REQUEST "GET / HTTP/1.1\r\n\r\n"

struct fixture {
    struct loop *loop;
    struct mmds_endpoint *endpoint;
    char *answer; /* what the service says to everything; NULL = it has no memory */
    size_t answer_len;
    unsigned requests, ready;
    char last[TCP_RECEIVE_MAX + 1];

    /* The wire: of 100 frames from the service so many are lost, and so many come twice. */
    unsigned lost, doubled;
    bool backwards; /* each burst arrives last frame first */
    uint32_t random;
};

void set_up(struct fixture *f);
void set_up_mtu(struct fixture *f, uint16_t mtu);
void tear_down(struct fixture *f);

/* From now on the service answers with so many bytes, which tell where they belong. */
void set_answer(struct fixture *f, size_t len);

/* The frame that the peer has just built, to the service; the service's next one, or 0. */
void give(struct fixture *f, const struct tcp_peer *peer, size_t len);
size_t take(struct fixture *f, uint8_t *frame);

/* Frames to the peer and its acknowledgements back, as the wire lets them, until there are none. */
void exchange(struct fixture *f, struct tcp_peer *peer);
/* The same and the timer, until the peer has so many bytes. */
void exchange_patiently(struct fixture *f, struct tcp_peer *peer, size_t len);

/* The endpoint's timer runs out until that has an effect; false if there is none. */
bool run_timer(struct fixture *f);

/* Connects a peer; the second makes it first. */
void connect_peer(struct fixture *f, struct tcp_peer *peer);
void open_peer(struct fixture *f, struct tcp_peer *peer, uint16_t port);

void send_text(struct fixture *f, struct tcp_peer *peer, const char *text);

/* The peer has the service's answer, whole and nothing else. */
void assert_answered(const struct fixture *f, const struct tcp_peer *peer);

#endif
