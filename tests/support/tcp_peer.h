/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_peer.h owns a guest's side of one TCP connection, as frames: written apart from the code that
 * it tests. It takes what comes in order and acknowledges it; what is lost, repeated or delayed
 * between the two is the test's to decide, and so is each header that it sends.
 */
#ifndef MAYFLY_TESTS_SUPPORT_TCP_PEER_H
#define MAYFLY_TESTS_SUPPORT_TCP_PEER_H

#include "vmm/base/util.h"

#define PEER_FRAME_MAX 9100

enum { PEER_FIN = 1, PEER_SYN = 2, PEER_RST = 4, PEER_PSH = 8, PEER_ACK = 16 };

extern const uint8_t peer_mac[6];

struct tcp_peer {
    uint32_t address, service;
    uint16_t port, service_port;
    uint16_t mss;      /* told with the SYN; 0 = not at all */
    uint16_t window;   /* told with every segment */
    uint32_t next;     /* of our sequence, to be sent next */
    uint32_t expected; /* of the service's sequence */
    uint32_t acked;    /* of ours, by the service */
    uint16_t service_mss, service_window;
    bool open, reset, closed; /* SYN, RST, FIN of the service's have come */
    bool ack_due;             /* the last segment asks for an acknowledgement */
    bool stubborn;            /* drops data instead of taking them: its window is closed */
    unsigned segments;        /* with data, that have come; and the longest frame */
    size_t longest;

    char *data; /* what has come, NUL-terminated; malloc'ed */
    size_t len;

    uint8_t frame[PEER_FRAME_MAX]; /* the last one built */
};

void tcp_peer_init(struct tcp_peer *peer, uint16_t port);
void tcp_peer_release(struct tcp_peer *peer);

/* Builds an ARP request for the service's address in peer->frame; its length. */
size_t tcp_peer_arp(struct tcp_peer *peer);

/* Builds a segment in peer->frame, acknowledging what has come, and moves on in the sequence. */
size_t tcp_peer_segment(struct tcp_peer *peer, uint8_t flags, const void *data, size_t len);
/* The same from any place in the sequence, which stays where it is. */
size_t tcp_peer_segment_at(struct tcp_peer *peer, uint32_t seq, uint8_t flags, const void *data,
                           size_t len);

/* Takes a frame from the service; false if it is not whole: headers, lengths, both checksums. */
bool tcp_peer_take(struct tcp_peer *peer, const uint8_t *frame, size_t len);

/* Forgets the data that have come. */
void tcp_peer_forget(struct tcp_peer *peer);

#endif
