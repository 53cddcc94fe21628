/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_devices.h owns devices that need something of the host (a tap, a socket, another process)
 * without it: they implement virtio/net/net.h, virtio/vsock/vsock.h and
 * virtio/block/vhost_user_blk.h, keep what they are told and do nothing else.
 */
#ifndef MAYFLY_TESTS_UNIT_FAKE_DEVICES_H
#define MAYFLY_TESTS_UNIT_FAKE_DEVICES_H

#include "virtio/block/vhost_user_blk.h"
#include "virtio/net/net.h"
#include "virtio/vsock/vsock.h"

/* Of the process; a test clears it first. */
struct fake_devices {
    const char *refusal; /* NULL = all goes well; else each is refused with these words */
    unsigned alive;      /* made and not destroyed yet */
    unsigned vhost_user_updates;
};
extern struct fake_devices fake_devices;

/* What net_set_mmds was told. */
struct mmds_endpoint *fake_net_mmds(const struct net *net);

#endif
