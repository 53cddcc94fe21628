/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h owns what frames look like on the metadata service's wire: Ethernet II with ARP (RFC 826)
 * or IPv4 (RFC 791) inside, and TCP (RFC 9293) inside that. Reading gives plain structs in host
 * order, and refuses whatever does not hold together; writing gives whole frames from the service.
 * Pure functions over bytes.
 */
#ifndef MAYFLY_MMDS_FRAME_H
#define MAYFLY_MMDS_FRAME_H

#include "vmm/base/util.h"

#define FRAME_MAC_LEN    6
#define FRAME_ETH_LEN    14
#define FRAME_ARP_LEN    28
#define FRAME_IP_LEN     20 /* without options, as we write it */
#define FRAME_TCP_LEN    20 /* the same */
#define FRAME_TCP_OFFSET (FRAME_ETH_LEN + FRAME_IP_LEN)
#define FRAME_DATA       (FRAME_TCP_OFFSET + FRAME_TCP_LEN)
#define FRAME_MSS_LEN    4 /* the one option we write */

/* The hardware address of the service, on every interface. */
extern const uint8_t frame_service_mac[FRAME_MAC_LEN];

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16 };

/* Somebody on the guest's side. */
struct frame_host {
    uint8_t mac[FRAME_MAC_LEN];
    uint32_t address;
};

/* A segment that has come, or that is to be sent. */
struct frame_segment {
    struct frame_host host; /* the guest's side */
    uint16_t host_port, our_port;
    uint32_t seq, ack;
    uint8_t flags;
    uint16_t window;
    uint16_t mss; /* the option; 0 = not there */
    const uint8_t *data;
    size_t len;
};

enum frame_kind { FRAME_ARP, FRAME_IPV4, FRAME_OTHER };

/* By the Ethernet header alone; one that is cut short is FRAME_OTHER. */
enum frame_kind frame_kind(const uint8_t *frame, size_t len);

/* Whether this is a well-formed request for the hardware address of `address`, and from whom. */
bool frame_read_arp_request(const uint8_t *frame, size_t len, uint32_t address,
                            struct frame_host *from);

/* Where an IPv4 packet goes to, from its first 34 bytes; false if there are fewer. */
bool frame_read_destination(const uint8_t *frame, size_t len, uint32_t *address);

/*
 * A segment out of an IPv4 frame; its data stay in the frame. 0; -EPROTO: not TCP; -EBADMSG: broken
 * or a fragment. The checksum of TCP is not looked at, that of IPv4 is.
 */
int frame_read_segment(const uint8_t *frame, size_t len,
                       struct frame_segment *segment) __must_check;

/* Whole frames, FRAME_ETH_LEN + FRAME_ARP_LEN and FRAME_DATA + the option's and the data's lengths
 * long, which they return. `address` is the service's. */
size_t frame_write_arp_reply(uint8_t *frame, uint32_t address, const struct frame_host *to);
size_t frame_write_segment(uint8_t *frame, uint32_t address, const struct frame_segment *segment);

#endif
