/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_packet.h owns the wire format of the socket device (virtio 1.3, section 5.10.6): each
 * buffer of the receive and of the transmit queue is a header of 44 bytes, then `len` bytes of
 * payload.
 *
 * Each side says in every packet how large its buffer for the connection is (buf_alloc) and how
 * many bytes have left it so far (fwd_cnt, modulo 2^32). The other may have sent at most buf_alloc
 * bytes more than that.
 */
#ifndef MAYFLY_VSOCK_PACKET_H
#define MAYFLY_VSOCK_PACKET_H

#include "vmm/base/util.h"

#define VSOCK_HOST_CID    2u
#define VSOCK_TYPE_STREAM 1u

enum vsock_op {
    VSOCK_OP_REQUEST = 1,
    VSOCK_OP_RESPONSE = 2,
    VSOCK_OP_RST = 3,
    VSOCK_OP_SHUTDOWN = 4,
    VSOCK_OP_RW = 5,
    VSOCK_OP_CREDIT_UPDATE = 6,
    VSOCK_OP_CREDIT_REQUEST = 7,
};

/* Flags of a SHUTDOWN: what its sender will not do any more. */
#define VSOCK_SHUTDOWN_RECEIVE 1u
#define VSOCK_SHUTDOWN_SEND    2u
#define VSOCK_SHUTDOWN_BOTH    3u

struct vsock_packet {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port;
    uint32_t len;
    uint16_t type, op;
    uint32_t flags;
    uint32_t buf_alloc, fwd_cnt;
} __attribute__((packed));

#define VSOCK_HEADER_SIZE sizeof(struct vsock_packet)

_Static_assert(VSOCK_HEADER_SIZE == 44, "the header of the specification");

#endif
