/* SPDX-License-Identifier: Apache-2.0 */
/* net.c: the network device: what its driver and its user see of it, its limits, its pauses. */
#include "virtio/net/device.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct state_field fields[] = {
    STATE_ARRAY(struct net_state, mac),
    STATE_FIELD(struct net_state, status),
    STATE_FIELD(struct net_state, max_queue_pairs),
    STATE_SAME(struct net_state, mtu),
    STATE_FIELD(struct net_state, pad),
    RATE_LIMITER_STATE_FIELDS(struct net_state, rx_limiter.),
    RATE_LIMITER_STATE_FIELDS(struct net_state, tx_limiter.),
};
const struct state_desc net_state_desc = STATE_DESC("virtio-net", 1, struct net_state, fields);

static struct net *to_net(struct virtio_dev *dev)
{
    return container_of(dev, struct net, dev);
}

static const struct net *to_const_net(const struct virtio_dev *dev)
{
    return to_net((struct virtio_dev *)(uintptr_t)dev);
}

bool net_allowed(struct net *net, struct rate_limiter *limiter, struct loop_timer *retry,
                 uint32_t bytes, uint64_t *throttled)
{
    uint64_t now;

    if (rate_limiter_is_unlimited(limiter))
        return true;
    now = now_ns();
    if (rate_limiter_take(limiter, bytes, now))
        return true;
    metric_add(throttled, 1);
    loop_timer_start(net->dev.env.loop, retry,
                     MIN(rate_limiter_wait_ns(limiter, bytes, now), RATE_LIMITER_RETRY_NS));
    return false;
}

void net_tap_is_gone(struct net *net)
{
    if (net->tap_gone)
        return;
    net->tap_gone = true;
    log_error("Interface %s: the tap %s is gone; the guest has no link any more.", net->config.id,
              net->tap.name);
    net->s.status &= (uint16_t)~NET_S_LINK_UP;
    virtio_dev_config_changed(&net->dev);
}

/* ---- the driver's view ----------------------------------------------------------------------- */

static uint64_t net_features(const struct virtio_dev *dev)
{
    const struct net_config *config = &to_const_net(dev)->config;

    return NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_UFO |
           NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_UFO | NET_F_MRG_RXBUF | NET_F_STATUS |
           (config->has_mac ? NET_F_MAC : 0) | (config->has_mtu ? NET_F_MTU : 0);
}

static const void *net_config_space(const struct virtio_dev *dev, size_t *len)
{
    *len = NET_CONFIG_SIZE;
    return &to_const_net(dev)->s;
}

/* Only the MAC can be written. */
static void net_write_config(struct virtio_dev *dev, uint64_t offset, const void *from,
                             unsigned len)
{
    struct net *net = to_net(dev);

    if (offset < NET_MAC_LEN)
        memcpy(net->s.mac + offset, from, MIN(len, NET_MAC_LEN - offset));
}

/* What the driver is able to do with frames, so the host need not. */
static unsigned offloads(const struct virtio_dev *dev)
{
    return (virtio_dev_has(dev, NET_F_GUEST_CSUM) ? TAP_OFFLOAD_CSUM : 0) |
           (virtio_dev_has(dev, NET_F_GUEST_TSO4) ? TAP_OFFLOAD_TSO4 : 0) |
           (virtio_dev_has(dev, NET_F_GUEST_TSO6) ? TAP_OFFLOAD_TSO6 : 0) |
           (virtio_dev_has(dev, NET_F_GUEST_UFO) ? TAP_OFFLOAD_UFO : 0);
}

static int net_activate(struct virtio_dev *dev)
{
    struct net *net = to_net(dev);
    int rc = tap_set_offloads(&net->tap, offloads(dev));

    net->quiet = false;
    if (rc == -EBADFD) /* the driver learns it from the link's state */
        return 0;
    return rc;
}

static void net_kick(struct virtio_dev *dev, unsigned q)
{
    struct net *net = to_net(dev);

    if (net->mmds_quiet) {
        net->mmds_quiet = false;
        mmds_endpoint_resume(net->mmds);
    }
    if (q == NET_TX) {
        net_tx_kick(net);
        return;
    }
    metric_add(&net->metrics.rx_queue_event_count, 1);
    virtqueue_kicks_off(&dev->queue[NET_RX]);
    net_rx_pump(net);
}

static void net_quiesce(struct virtio_dev *dev)
{
    struct net *net = to_net(dev);

    net->quiet = true;
    if (net->mmds && !net->mmds_quiet) {
        net->mmds_quiet = true;
        mmds_endpoint_quiesce(net->mmds);
    }
    net_rx_quiesce(net);
}

/* The endpoint goes on with the first kick, which follows. After a restore the link is that of the
 * tap of now, whatever the saved state says. */
static void net_resume(struct virtio_dev *dev)
{
    struct net *net = to_net(dev);
    uint16_t status = net->tap_gone ? 0 : NET_S_LINK_UP;

    net->quiet = false;
    if (net->s.status == status)
        return;
    net->s.status = status;
    virtio_dev_config_changed(dev);
}

/* The next driver may know less than this one. */
static void net_reset(struct virtio_dev *dev)
{
    struct net *net = to_net(dev);
    int rc = tap_set_offloads(&net->tap, 0);

    if (rc < 0 && rc != -EBADFD)
        log_warn("Interface %s: the tap %s keeps its offloads: %s", net->config.id, net->tap.name,
                 err_os(rc));
    net_rx_forget(net);
}

static void *net_saved(struct virtio_dev *dev)
{
    return &to_net(dev)->s;
}

static void net_free(struct virtio_dev *dev)
{
    struct net *net = to_net(dev);

    tap_close(&net->tap);
    free(net->config.id);
    free(net->config.tap);
    free(net);
}

static const struct virtio_dev_ops net_ops = {
    .name = "virtio-net",
    .device_id = 1,
    .n_queues = NET_QUEUES,
    .queue_size_max = VIRTQUEUE_SIZE_DEFAULT,
    .state = &net_state_desc,
    .features = net_features,
    .config = net_config_space,
    .write_config = net_write_config,
    .activate = net_activate,
    .kick = net_kick,
    .quiesce = net_quiesce,
    .resume = net_resume,
    .reset = net_reset,
    .saved = net_saved,
    .destroy = net_free,
};

/* ---- the user's view ------------------------------------------------------------------------- */

static int copy_config(struct net *net, const struct net_config *config)
{
    struct net_config *own = &net->config;

    *own = *config;
    own->id = strdup(config->id);
    own->tap = strdup(config->tap);
    return own->id && own->tap ? 0 : -ENOMEM;
}

static int set_up(struct net *net, const struct net_config *config, struct err *e)
{
    uint64_t now = now_ns();

    if (copy_config(net, config) < 0)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    net->s.status = NET_S_LINK_UP;
    net->s.max_queue_pairs = 1;
    net->s.mtu = config->has_mtu ? config->mtu : 0;
    if (config->has_mac)
        memcpy(net->s.mac, config->mac, NET_MAC_LEN);
    rate_limiter_init(&net->s.rx_limiter, &net->config.rx_limiter, now);
    rate_limiter_init(&net->s.tx_limiter, &net->config.tx_limiter, now);
    return tap_open(&net->tap, config->tap, e);
}

int net_create(struct net **out, const struct virtio_env *env, const struct net_config *config,
               struct err *e)
{
    struct net *net = calloc(1, sizeof(*net));
    int rc;

    if (!net)
        return err_set(e, -ENOMEM, "Could not create the network device: %s", err_os(-ENOMEM));
    virtio_dev_init(&net->dev, &net_ops, env);
    net->dev.event_fails = &net->metrics.event_fails;
    net->dev.activate_fails = &net->metrics.activate_fails;
    net_rx_init(&net->rx);
    net_tx_init(net);
    net->tap.fd = -1;
    rc = set_up(net, config, e);
    if (rc) {
        virtio_dev_destroy(&net->dev);
        if (e)
            err_prefix(e, "Could not create the network device: ");
        return rc;
    }
    *out = net;
    return 0;
}

struct virtio_dev *net_dev(struct net *net)
{
    return &net->dev;
}

const struct net_config *net_config(const struct net *net)
{
    return &net->config;
}

struct metrics_net *net_metrics(struct net *net)
{
    return &net->metrics;
}

static void mmds_ready(void *owner)
{
    net_rx_mmds_ready(owner);
}

void net_set_mmds(struct net *net, struct mmds_endpoint *endpoint)
{
    net->mmds = endpoint;
    net->mmds_quiet = false;
    if (endpoint)
        mmds_endpoint_attach(endpoint, &(struct mmds_wire){.ready = mmds_ready, .owner = net});
}

void net_update(struct net *net, const struct rate_limiter_config *rx,
                const struct rate_limiter_config *tx)
{
    uint64_t now = now_ns();

    if (rx) {
        rate_limiter_update(&net->s.rx_limiter, rx, now);
        rate_limiter_config_patch(&net->config.rx_limiter, &net->config.has_rx_limiter, rx);
    }
    if (tx) {
        rate_limiter_update(&net->s.tx_limiter, tx, now);
        rate_limiter_config_patch(&net->config.tx_limiter, &net->config.has_tx_limiter, tx);
    }
}
