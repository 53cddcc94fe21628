/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmds.h owns the metadata service as the guest's network sees it: a host of its own on the wire,
 * in front of the tap, that answers ARP, speaks TCP on port 80 of one IPv4 address, and hands whole
 * HTTP requests to whoever knows what to answer (api/). One endpoint a network interface.
 *
 *      net.c   frames of the guest -> mmds_endpoint_wants? -> mmds_endpoint_input
 *              mmds_endpoint_output -> frames to the guest; `ready` says when to ask
 *
 * The guest is hostile and its network may lose, repeat and reorder: nothing it sends costs more
 * than its own connection, and memory is bounded whatever it does.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_MMDS_MMDS_H
#define MAYFLY_MMDS_MMDS_H

#include "vmm/base/err.h"
#include "vmm/base/loop.h"

#include <stddef.h>

#define MMDS_ADDRESS_DEFAULT 0xa9fea9fe /* 169.254.169.254, in host order */

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
 * Answers one HTTP request: `request` is all of it, head and body. The answer is malloc'ed into
 * *response and becomes the caller's. `close` = the connection ends behind it.
 */
struct mmds_service {
    void (*answer)(void *owner, const char *request, size_t len, char **response,
                   size_t *response_len, bool *close);
    void *owner;
};

/* How an endpoint tells its interface that mmds_endpoint_output has something. */
struct mmds_wire {
    void (*ready)(void *owner);
    void *owner;
};

struct mmds_endpoint;

/* -ENOMEM. `mtu` bounds its frames (without the Ethernet header). service is copied. */
int mmds_endpoint_create(struct mmds_endpoint **out, struct loop *loop, uint32_t address,
                         uint16_t mtu, const struct mmds_service *service,
                         struct err *e) __must_check;
/* NULL is accepted. No timer of it may be in the ring any more. */
void mmds_endpoint_destroy(struct mmds_endpoint *endpoint);

void mmds_endpoint_attach(struct mmds_endpoint *endpoint, const struct mmds_wire *wire);

/* Whether a frame that begins with these bytes (at least its first 42, if it has as many) is for
 * the endpoint. */
#define MMDS_FRAME_HEAD 42
bool mmds_endpoint_wants(const struct mmds_endpoint *endpoint, const uint8_t *head, size_t len);

/* Takes a frame it wanted, a private copy: Ethernet header first, no virtio header, no FCS. The
 * checksum of TCP may be missing (offloaded). */
void mmds_endpoint_input(struct mmds_endpoint *endpoint, const uint8_t *frame, size_t len);

/* The next frame for the guest into `frame`; its length, or 0 when there is none. */
size_t mmds_endpoint_output(struct mmds_endpoint *endpoint, uint8_t *frame, size_t room);

/* A pause: timers stop; connections and what they hold stay. */
void mmds_endpoint_quiesce(struct mmds_endpoint *endpoint);
void mmds_endpoint_resume(struct mmds_endpoint *endpoint);

#endif
