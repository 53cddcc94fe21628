/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_asserts.h owns what the tests of the socket device have in common: a device with both its
 * ends, a first connection, and what is expected to come out on either side. */
#ifndef MAYFLY_TESTS_UNIT_VSOCK_ASSERTS_H
#define MAYFLY_TESTS_UNIT_VSOCK_ASSERTS_H

#include "tests/support/fake_loop.h"
#include "tests/support/vsock_ends.h"
#include "tests/unit/unit.h"
#include "virtio/vsock/vsock_device.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RX 32

static uint8_t bytes[256 * KIB], got[256 * KIB];

static inline struct vsock_ends *set_up(void)
{
    struct vsock_ends *ends = calloc(1, sizeof(*ends));

    memset(&metrics, 0, sizeof(metrics));
    log_set_options(&(struct log_options){.level = LOG_OFF});
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    memset(got, 0, sizeof(got));
    assert_non_null(ends);
    ends_open(ends, RX);
    return ends;
}

static inline void tear_down(struct vsock_ends *ends)
{
    ends_close(ends);
    ends_remove(ends);
    free(ends);
}

/* ---- what tests have in common ---- */

static inline void assert_packet(struct vsock_ends *ends, enum vsock_op op, uint32_t host_port,
                                 uint32_t guest_port)
{
    struct vsock_packet packet;

    assert_true(ends_take(ends, &packet, got, sizeof(got)));
    assert_int_equal(packet.op, op);
    assert_int_equal(packet.src_cid, VSOCK_HOST_CID);
    assert_int_equal(packet.dst_cid, ENDS_CID);
    assert_int_equal(packet.src_port, host_port);
    assert_int_equal(packet.dst_port, guest_port);
    assert_int_equal(packet.len, 0);
}

static inline void assert_no_packet(struct vsock_ends *ends)
{
    struct vsock_packet packet;

    ends_run(ends);
    assert_false(ends_take(ends, &packet, got, sizeof(got)));
}

static inline void assert_bytes(int fd, const void *expected, size_t len)
{
    size_t done = 0;
    ssize_t n;

    while (done < len && (n = read(fd, got + done, len - done)) > 0)
        done += (size_t)n;
    assert_int_equal(done, len);
    assert_memory_equal(got, expected, len);
}

static inline void assert_text(int fd, const char *text)
{
    assert_bytes(fd, text, strlen(text));
}

/* Whether the other end is gone; everything before has been read. */
static inline void assert_end(int fd)
{
    assert_int_equal(read(fd, got, 1), 0);
}

static inline void assert_nothing(int fd)
{
    assert_int_equal(read(fd, got, 1), -1);
    assert_int_equal(errno, EAGAIN);
}

static inline void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

/* A client of the host that is connected to ENDS_PORT, from the first local port. */
static inline int connect_client(struct vsock_ends *ends)
{
    int fd = ends_client(ends);

    say(fd, "CONNECT 5000\n");
    ends_run(ends);
    assert_packet(ends, VSOCK_OP_REQUEST, VSOCK_FIRST_PORT, ENDS_PORT);
    ends_send(ends, VSOCK_OP_RESPONSE, VSOCK_FIRST_PORT, ENDS_PORT, 0, NULL, 0);
    assert_text(fd, "OK 1073741824\n");
    return fd;
}

/* What the guest sends on that connection. */
static inline void guest_says(struct vsock_ends *ends, enum vsock_op op, uint32_t flags,
                              const void *payload, uint32_t len)
{
    ends_send(ends, op, VSOCK_FIRST_PORT, ENDS_PORT, flags, payload, len);
}

/* Takes data packets until `len` bytes have come; each buffer is offered again. */
static inline void assert_guest_gets(struct vsock_ends *ends, const void *expected, size_t len)
{
    struct vsock_packet packet;
    size_t done = 0;

    while (done < len) {
        ends_run(ends);
        if (!ends_take(ends, &packet, got + done, sizeof(got) - done))
            break;
        assert_int_equal(packet.op, VSOCK_OP_RW);
        done += packet.len;
        ends_offer(ends, 1);
        virtio_dev_kick(ends->dev, VSOCK_RX);
    }
    assert_int_equal(done, len);
    assert_memory_equal(got, expected, len);
}

#endif
