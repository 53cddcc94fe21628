/* SPDX-License-Identifier: Apache-2.0 */
/* fake_devices.c: see fake_devices.h. */
#include "tests/unit/fake_devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fake_devices fake_devices;

struct net {
    struct virtio_dev dev;
    struct net_config config; /* strings owned */
    struct metrics_net metrics;
    struct mmds_endpoint *mmds;
};

struct vsock {
    struct virtio_dev dev;
    struct vsock_config config;
};

struct vhost_user_blk {
    struct virtio_dev dev;
    struct vhost_user_blk_config config;
    struct metrics_vhost_user_block metrics;
};

static char *copy(const char *s)
{
    return s ? strdup(s) : NULL;
}

/* A zeroed device, or NULL with the refusal in *e. */
static void *make(size_t size, struct err *e)
{
    void *device = fake_devices.refusal ? NULL : calloc(1, size);

    if (!device)
        err_set(e, -EIO, "%s", fake_devices.refusal ? fake_devices.refusal : "Out of memory.");
    else
        fake_devices.alive++;
    return device;
}

static void unmake(void *device)
{
    fake_devices.alive--;
    free(device);
}

/* ---- net ---- */

static void net_destroy(struct virtio_dev *dev)
{
    struct net *net = container_of(dev, struct net, dev);

    free(net->config.id);
    free(net->config.tap);
    unmake(net);
}

static const struct virtio_dev_ops net_ops = {.name = "fake-net", .destroy = net_destroy};

int net_create(struct net **out, const struct virtio_env *env, const struct net_config *config,
               struct err *e)
{
    struct net *net = make(sizeof(*net), e);

    if (!net)
        return e->code;
    virtio_dev_init(&net->dev, &net_ops, env);
    net->config = *config;
    net->config.id = copy(config->id);
    net->config.tap = copy(config->tap);
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

void net_set_mmds(struct net *net, struct mmds_endpoint *endpoint)
{
    net->mmds = endpoint;
}

struct mmds_endpoint *fake_net_mmds(const struct net *net)
{
    return net->mmds;
}

void net_update(struct net *net, const struct rate_limiter_config *rx,
                const struct rate_limiter_config *tx)
{
    struct net_config *config = &net->config;

    if (rx)
        rate_limiter_config_patch(&config->rx_limiter, &config->has_rx_limiter, rx);
    if (tx)
        rate_limiter_config_patch(&config->tx_limiter, &config->has_tx_limiter, tx);
}

/* ---- vsock ---- */

static void vsock_destroy(struct virtio_dev *dev)
{
    struct vsock *vsock = container_of(dev, struct vsock, dev);

    free(vsock->config.id);
    free(vsock->config.uds_path);
    unmake(vsock);
}

static const struct virtio_dev_ops vsock_ops = {.name = "fake-vsock", .destroy = vsock_destroy};

int vsock_create(struct vsock **out, const struct virtio_env *env,
                 const struct vsock_config *config, struct err *e)
{
    struct vsock *vsock = make(sizeof(*vsock), e);

    if (!vsock)
        return e->code;
    virtio_dev_init(&vsock->dev, &vsock_ops, env);
    vsock->config = *config;
    vsock->config.id = copy(config->id);
    vsock->config.uds_path = copy(config->uds_path);
    *out = vsock;
    return 0;
}

struct virtio_dev *vsock_dev(struct vsock *vsock)
{
    return &vsock->dev;
}

const struct vsock_config *vsock_config(const struct vsock *vsock)
{
    return &vsock->config;
}

/* ---- drives behind a socket ---- */

static void vhost_user_blk_destroy(struct virtio_dev *dev)
{
    struct vhost_user_blk *blk = container_of(dev, struct vhost_user_blk, dev);

    free(blk->config.id);
    free(blk->config.socket);
    free(blk->config.partuuid);
    unmake(blk);
}

static const struct virtio_dev_ops vhost_user_blk_ops = {.name = "fake-vhost-user-blk",
                                                         .destroy = vhost_user_blk_destroy};

int vhost_user_blk_create(struct vhost_user_blk **out, const struct virtio_env *env,
                          const struct vhost_user_blk_config *config, struct err *e)
{
    struct vhost_user_blk *blk = make(sizeof(*blk), e);

    if (!blk)
        return e->code;
    virtio_dev_init(&blk->dev, &vhost_user_blk_ops, env);
    blk->config = *config;
    blk->config.id = copy(config->id);
    blk->config.socket = copy(config->socket);
    blk->config.partuuid = copy(config->partuuid);
    *out = blk;
    return 0;
}

/* Another one is always made. */
int vhost_user_blk_configure(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config)
{
    (void)blk;
    (void)config;
    return -EXDEV;
}

struct virtio_dev *vhost_user_blk_dev(struct vhost_user_blk *blk)
{
    return &blk->dev;
}

const struct vhost_user_blk_config *vhost_user_blk_config(const struct vhost_user_blk *blk)
{
    return &blk->config;
}

struct metrics_vhost_user_block *vhost_user_blk_metrics(struct vhost_user_blk *blk)
{
    return &blk->metrics;
}

bool vhost_user_blk_read_only(const struct vhost_user_blk *blk)
{
    (void)blk;
    return false;
}

int vhost_user_blk_update(struct vhost_user_blk *blk, struct err *e)
{
    (void)blk;
    if (fake_devices.refusal)
        return err_set(e, -EIO, "%s", fake_devices.refusal);
    fake_devices.vhost_user_updates++;
    return 0;
}
