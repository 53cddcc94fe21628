/* SPDX-License-Identifier: Apache-2.0 */
/* net.h owns the virtio network device (virtio 1.3, section 5.1) on a tap of the host. */
#ifndef MAYFLY_NET_NET_H
#define MAYFLY_NET_NET_H

#include "virtio/mmds/mmds.h"
#include "virtio/virtio.h"
#include "vmm/base/metrics.h"
#include "vmm/base/rate_limiter.h"

#define NET_MAC_LEN     6
#define NET_MTU_DEFAULT 1500
#define NET_MTU_MIN     68

/* What a user says of an interface; strings belong to whoever holds the struct. */
struct net_config {
    char *id;
    char *tap; /* host_dev_name */
    bool has_mac, has_mtu;
    uint8_t mac[NET_MAC_LEN];
    uint16_t mtu;
    bool has_rx_limiter, has_tx_limiter;
    struct rate_limiter_config rx_limiter, tx_limiter;
};

struct net;

/* The device's saved struct, for the test that walks them all. */
extern const struct state_desc net_state_desc;

/*
 * Opens the tap (and makes it where the host allows that) and the device. The config is copied.
 * Errors in Firecracker's words: no such device, busy, several queues, not allowed.
 */
int net_create(struct net **out, const struct virtio_env *env, const struct net_config *config,
               struct err *e) __must_check;

struct virtio_dev *net_dev(struct net *net);
const struct net_config *net_config(const struct net *net);
struct metrics_net *net_metrics(struct net *net);

/* Before the start: frames to this endpoint's address go to it instead of the tap, and its frames
 * reach the guest between those of the tap. NULL = none. Borrowed; outlives the device. */
void net_set_mmds(struct net *net, struct mmds_endpoint *endpoint);

/* A PATCH: limiters that are not NULL replace the buckets they name. */
void net_update(struct net *net, const struct rate_limiter_config *rx,
                const struct rate_limiter_config *tx);

#endif
