/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_fixture.h owns a network device between a fake tap and a guest's driver, for the tests of the
 * device.
 */
#ifndef MAYFLY_TESTS_UNIT_NET_FIXTURE_H
#define MAYFLY_TESTS_UNIT_NET_FIXTURE_H

#include "tests/support/fake_loop.h"
#include "tests/support/fake_tap.h"
#include "tests/support/guest_driver.h"
#include "tests/unit/unit.h"
#include "virtio/net/device.h"

#define NET_QUEUE_SIZE 64
#define NET_RAM        (16 * MIB)

/* What Linux accepts of what the device offers. */
#define NET_FEATURES                                                                               \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | NET_F_CSUM |               \
     NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_HOST_TSO4 | NET_F_MRG_RXBUF)

struct net_fixture {
    struct mem mem;
    struct loop *loop;
    struct net *net;
    struct virtio_dev *dev;
    struct guest_driver driver[NET_QUEUES];
    struct metrics_net *metrics;
};

/* A device of that configuration (NULL = an ordinary one), activated with `features` (0 = not). */
void net_set_up(struct net_fixture *f, const struct net_config *config, uint64_t features);
void net_tear_down(struct net_fixture *f);

/* The driver begins anew, with fresh rings. Returns the status. */
uint32_t net_restart(struct net_fixture *f, uint64_t features);

/* Kicks a queue and lets happen what happens. */
void net_kick_settle(struct net_fixture *f, unsigned q);

/* `count` receive buffers of `len` bytes, not kicked. The GPA of the first; they are adjacent. */
uint64_t net_add_buffers(struct net_fixture *f, unsigned count, uint32_t len);

/* A frame of `len` bytes, header included, whose bytes depend on `seed`. */
void net_make_frame(uint8_t *frame, size_t len, unsigned seed);

/* Queues a frame for transmission in one buffer, not kicked. */
uint16_t net_add_frame(struct net_fixture *f, const uint8_t *frame, size_t len);

/* The host sends such a frame; the driver must find it in the next used buffers, which it takes. */
void net_host_sends(struct net_fixture *f, size_t len, unsigned seed);
void net_expect_received(struct net_fixture *f, size_t len, unsigned seed);
/* The next frame that the host receives must be this one. */
void net_expect_sent(struct net_fixture *f, size_t len, unsigned seed);

#endif
