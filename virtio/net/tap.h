/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tap.h owns the tap of the host: a network interface whose other end is a file. What the host
 * sends on the interface is read, frame by frame; what is written, the host receives. Each frame
 * has the 12-byte header of virtio (virtio 1.3, section 5.1.6) before it, so checksums and
 * segmentation can be left to whoever does them best.
 *
 * Nothing here blocks. A tap that was deleted, or whose host lacks memory, costs frames.
 */
#ifndef MAYFLY_NET_TAP_H
#define MAYFLY_NET_TAP_H

#include "vmm/base/err.h"

#include <net/if.h>

#include <sys/uio.h>

/* The header, struct virtio_net_hdr_v1. */
#define TAP_HEADER_SIZE 12
/* Where in it the kind of segmentation is (8 bits, 0 = none). */
#define TAP_HEADER_GSO_TYPE 1
/* Where in it the number of buffers is that a received frame takes (16 bits). */
#define TAP_HEADER_NUM_BUFFERS 10

/* The longest that a tap reads or writes: header, Ethernet header, and 64 KiB of payload. */
#define TAP_FRAME_MAX 65562

struct tap {
    int fd;              /* -1 = not open */
    char name[IFNAMSIZ]; /* as the host calls it */
};

/*
 * Opens the tap of that name; the host makes one where there is none and we may ("" = under a name
 * of its choice), and takes it away again when it is closed. Errors in Firecracker's words: busy,
 * several queues, no tap, not allowed.
 */
int tap_open(struct tap *tap, const char *name, struct err *e) __must_check;

/* Accepts one that is not open. */
void tap_close(struct tap *tap);

/* What the reader of a tap can do with a frame: complete its checksum, and cut it up. */
#define TAP_OFFLOAD_CSUM 1u
#define TAP_OFFLOAD_TSO4 2u
#define TAP_OFFLOAD_TSO6 4u
#define TAP_OFFLOAD_UFO  16u

/* The host leaves these to us from now on; without CSUM the others mean nothing. Any thread;
 * -errno. */
int tap_set_offloads(const struct tap *tap, unsigned offloads) __must_check;

/* One frame, header first: its length, cut off at the buffers' end, or -EAGAIN, or -EBADFD when the
 * tap is gone. */
int tap_read(const struct tap *tap, const struct iovec *iov, unsigned count);

/* Sends one frame, header first; bytes or -errno. */
int tap_write(const struct tap *tap, const struct iovec *iov, unsigned count);

#endif
