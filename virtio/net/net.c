/* SPDX-License-Identifier: Apache-2.0 */
/* net.c: the network device. */
#include "virtio/net/net.h"

#include <errno.h>

int net_create(struct net **out, const struct virtio_env *env, const struct net_config *config,
               struct err *e)
{
    (void)out;
    (void)env;
    (void)config;
    return err_set(e, -ENOTSUP, "This device is not supported yet by this version of Mayfly.");
}
struct virtio_dev *net_dev(struct net *net)
{
    (void)net;
    return NULL;
}
const struct net_config *net_config(const struct net *net)
{
    (void)net;
    return NULL;
}
struct metrics_net *net_metrics(struct net *net)
{
    (void)net;
    return NULL;
}
void net_set_mmds(struct net *net, struct mmds_endpoint *endpoint)
{
    (void)net;
    (void)endpoint;
}
void net_update(struct net *net, const struct rate_limiter_config *rx,
                const struct rate_limiter_config *tx)
{
    (void)net;
    (void)rx;
    (void)tx;
}
