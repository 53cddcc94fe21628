/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmds.h owns the metadata service as the guest's network sees it: a host of its own on the wire,
 * in front of the tap, that answers ARP, speaks TCP on port 80 of one IPv4 address, and hands whole
 * HTTP requests to whoever knows what to answer (api/). One endpoint a network interface.
 *
 *      net.c   frames of the guest -> mmds_endpoint_wants? -> mmds_endpoint_input
 *              mmds_endpoint_output -> frames to the guest; `ready` says when to ask
 *
 *      mmds.c  which frame goes where; connections, their number and their timer; requests out of
 *              what they received
 *      arp.c   who asked for the address          tcp.c  one connection
 *      frame.c what frames look like: Ethernet, ARP, IPv4, TCP
 *
 * The guest is hostile and its network may lose, repeat and reorder: nothing it sends costs more
 * than its own connection, and memory is bounded whatever it does: MMDS_CONNECTIONS_MAX connections
 * of one request and one answer each, MMDS_RESETS_MAX refusals. Connections do not survive the
 * process: after a restore the guest's segments are answered with resets, as by a host that was
 * started anew.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_MMDS_MMDS_H
#define MAYFLY_MMDS_MMDS_H

#include "vmm/base/err.h"
#include "vmm/base/loop.h"

#include <stddef.h>

#define MMDS_ADDRESS_DEFAULT 0xa9fea9fe /* 169.254.169.254, in host order */

#define MMDS_PORT            80
#define MMDS_CONNECTIONS_MAX 30
#define MMDS_RESETS_MAX      100

enum mmds_version { MMDS_V1, MMDS_V2 };

/* What a user says of the service (PUT /mmds/config); strings belong to whoever holds the struct.
 */
struct mmds_config {
    enum mmds_version version;
    uint32_t address; /* IPv4, host order */
    bool has_address; /* whether the user gave one */
    bool imds_compat;
    char **interface; /* ids */
    size_t n_interfaces;
};

/*
 * Answers one HTTP request: `request` is its head with the blank line, to which whatever follows
 * does not belong (no request of this service has a body). The answer is malloc'ed and becomes the
 * caller's; NULL = no memory, and the connection is reset. Connections stay open behind an answer:
 * it is the client that closes them.
 */
struct mmds_service {
    char *(*answer)(void *owner, const char *request, size_t len, size_t *answer_len);
    void *owner;
};

/* How an endpoint tells its interface that mmds_endpoint_output has something; called last in
 * whatever caused it, so that it may ask at once. */
struct mmds_wire {
    void (*ready)(void *owner);
    void *owner;
};

struct mmds_endpoint;

/* -ENOMEM. `mtu` bounds its frames (without the Ethernet header). service is copied. */
int mmds_endpoint_create(struct mmds_endpoint **out, struct loop *loop, uint32_t address,
                         uint16_t mtu, const struct mmds_service *service,
                         struct err *e) __must_check;
/* NULL is accepted. No timer of it may be in the ring any more: before the start there is none,
 * later it is gone once a quiesce has been completed by the loop. */
void mmds_endpoint_destroy(struct mmds_endpoint *endpoint);

void mmds_endpoint_attach(struct mmds_endpoint *endpoint, const struct mmds_wire *wire);

/* Whether a frame that begins with these bytes (at least its first 42, if it has as many) is for
 * the endpoint: a request for its hardware address, or any IPv4 packet to its address, whatever the
 * hardware address it was sent to. */
#define MMDS_FRAME_HEAD 42
bool mmds_endpoint_wants(const struct mmds_endpoint *endpoint, const uint8_t *head, size_t len);

/* Takes a frame it wanted, a private copy: Ethernet header first, no virtio header, no FCS. The
 * checksum of TCP may be missing (offloaded). Only read until the return. */
void mmds_endpoint_input(struct mmds_endpoint *endpoint, const uint8_t *frame, size_t len);

/* The next frame for the guest into `frame`; its length, at most 14 + mtu, or 0 when there is none.
 * Checksums are complete. In less room than that segments become shorter; in less than
 * MMDS_FRAME_MIN bytes of room there are none. */
#define MMDS_FRAME_MIN 64
size_t mmds_endpoint_output(struct mmds_endpoint *endpoint, uint8_t *frame, size_t room);

/* A pause: the timer leaves the ring (its completion may still be due), connections and what they
 * hold stay, and the time until the resume counts for none of them. No input or output between. */
void mmds_endpoint_quiesce(struct mmds_endpoint *endpoint);
void mmds_endpoint_resume(struct mmds_endpoint *endpoint);

#endif
