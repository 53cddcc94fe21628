/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_user_blk.c: drives behind a socket. */
#include "virtio/block/vhost_user_blk.h"

#include "virtio/block/vhost_user_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How long a back end may take to answer a question. */
#define ANSWER_NS NSEC_PER_SEC

/* Bits that mean something to the driver and the back end only, so that they pass through us;
 * FLUSH is for the user to decide, as with a file. */
#define BLK_F_SIZE_MAX (UINT64_C(1) << 1)
#define BLK_F_GEOMETRY (UINT64_C(1) << 4)
#define BLK_F_BLK_SIZE (UINT64_C(1) << 6)
#define BLK_F_TOPOLOGY (UINT64_C(1) << 10)
#define PASSED                                                                                     \
    (BLK_F_SIZE_MAX | BLK_F_SEG_MAX | BLK_F_GEOMETRY | BLK_F_RO | BLK_F_BLK_SIZE |                 \
     BLK_F_TOPOLOGY | BLK_F_DISCARD | BLK_F_WRITE_ZEROES)
#define RING_FEATURES (VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC)

/* A chain has no more entries than the queue, header and status included. */
#define SEGMENTS_MAX (VIRTQUEUE_SIZE_DEFAULT - 2)

static struct vhost_user_blk *to_blk(struct virtio_dev *dev)
{
    return container_of(dev, struct vhost_user_blk, dev);
}

static const struct vhost_user_blk *to_const_blk(const struct virtio_dev *dev)
{
    return to_blk((struct virtio_dev *)(uintptr_t)dev);
}

/* ---- the device ------------------------------------------------------------------------------ */

static uint64_t features(const struct virtio_dev *dev)
{
    const struct vhost_user_blk *blk = to_const_blk(dev);

    return blk->offered & (PASSED | (blk->config.cache == BLK_CACHE_WRITEBACK ? BLK_F_FLUSH : 0));
}

static const void *config_space(const struct virtio_dev *dev, size_t *len)
{
    *len = BLK_CONFIG_SIZE;
    return &to_const_blk(dev)->space;
}

/* Nothing that can be written is offered. */
static void write_config(struct virtio_dev *dev, uint64_t offset, const void *from, unsigned len)
{
    (void)offset;
    (void)from;
    (void)len;
    metric_add(&to_blk(dev)->metrics.cfg_fails, 1);
}

static int activate(struct virtio_dev *dev)
{
    struct vhost_user_blk *blk = to_blk(dev);
    uint64_t start = now_ns();
    int rc = vhost_user_ring_hand_over(blk);

    if (rc == 0)
        blk->metrics.activate_time_us = (now_ns() - start) / NSEC_PER_USEC;
    return rc;
}

static void kick(struct virtio_dev *dev, unsigned q)
{
    (void)q;
    vhost_user_ring_kick(to_blk(dev));
}

static void quiesce(struct virtio_dev *dev)
{
    vhost_user_ring_stop(to_blk(dev));
}

static void resume(struct virtio_dev *dev)
{
    vhost_user_ring_resume(to_blk(dev));
}

static void free_config(struct vhost_user_blk_config *config)
{
    free(config->id);
    free(config->socket);
    free(config->partuuid);
}

static void destroy(struct virtio_dev *dev)
{
    struct vhost_user_blk *blk = to_blk(dev);

    vhost_user_close(&blk->conn);
    free_config(&blk->config);
    free(blk);
}

static const struct virtio_dev_ops ops = {
    .name = "vhost-user-blk",
    .device_id = 2,
    .n_queues = 1,
    .queue_size_max = VIRTQUEUE_SIZE_DEFAULT,
    .features = features,
    .config = config_space,
    .write_config = write_config,
    .activate = activate,
    .kick = kick,
    .served_elsewhere = true,
    .quiesce = quiesce,
    .resume = resume,
    .destroy = destroy,
};

/* ---- creation -------------------------------------------------------------------------------- */

/* A question before the machine runs. */
static int ask_u64(struct vhost_user_blk *blk, enum vhost_user_request request,
                   uint64_t deadline_ns, uint64_t *answer)
{
    struct vhost_user_call call = {.deadline_ns = deadline_ns};
    int rc = vhost_user_ask_u64(&blk->conn, &call, request);

    if (rc == 0)
        rc = vhost_user_wait(&blk->conn, &call);
    *answer = call.reply.u64;
    return rc;
}

static void take_config(struct vhost_user_blk *blk, const struct vhost_user_call *call)
{
    memcpy(&blk->space, call->reply.config.bytes, BLK_CONFIG_SIZE);
    blk->space.seg_max = MIN(blk->space.seg_max, SEGMENTS_MAX);
}

static int negotiate(struct vhost_user_blk *blk, uint64_t deadline_ns)
{
    const uint64_t needed = VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES;
    struct vhost_user_call call = {.deadline_ns = deadline_ns};
    uint64_t protocol = 0;
    int rc = vhost_user_send(&blk->conn, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);

    if (rc == 0)
        rc = ask_u64(blk, VHOST_USER_GET_FEATURES, deadline_ns, &blk->offered);
    if (rc == 0 && (blk->offered & needed) != needed)
        return -ENOTSUP;
    if (rc == 0)
        rc = ask_u64(blk, VHOST_USER_GET_PROTOCOL_FEATURES, deadline_ns, &protocol);
    if (rc == 0 && !(protocol & VHOST_USER_PROTOCOL_F_CONFIG))
        return -ENOTSUP;
    if (rc == 0)
        rc = vhost_user_send_u64(&blk->conn, VHOST_USER_SET_PROTOCOL_FEATURES,
                                 VHOST_USER_PROTOCOL_F_CONFIG);
    if (rc == 0)
        rc = vhost_user_ask_config(&blk->conn, &call, BLK_CONFIG_SIZE);
    if (rc == 0)
        rc = vhost_user_wait(&blk->conn, &call);
    if (rc == 0)
        take_config(blk, &call);
    return rc;
}

static char *copy_string(const char *string, bool *failed)
{
    char *copy = string ? strdup(string) : NULL;

    *failed |= string && !copy;
    return copy;
}

static int copy_config(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config)
{
    bool failed = false;

    blk->config = *config;
    blk->config.id = copy_string(config->id, &failed);
    blk->config.socket = copy_string(config->socket, &failed);
    blk->config.partuuid = copy_string(config->partuuid, &failed);
    return failed ? -ENOMEM : 0;
}

static struct vhost_user_blk *new_blk(const struct virtio_env *env)
{
    struct vhost_user_blk *blk = calloc(1, sizeof(*blk));

    if (!blk)
        return NULL;
    virtio_dev_init(&blk->dev, &ops, env);
    blk->dev.activate_fails = &blk->metrics.activate_fails;
    vhost_user_open(&blk->conn, -1);
    vhost_user_ring_init(blk);
    return blk;
}

static int set_up(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config, int fd,
                  struct err *e)
{
    uint64_t start = now_ns();
    int rc = copy_config(blk, config);

    if (rc)
        return err_set(e, rc, "%s", err_os(rc));
    if (fd >= 0)
        vhost_user_open(&blk->conn, fd);
    else
        rc = vhost_user_connect(&blk->conn, config->socket, start + ANSWER_NS, e);
    if (rc)
        return rc;
    rc = negotiate(blk, start + ANSWER_NS);
    if (rc == -ENOTSUP)
        return err_set(e, rc,
                       "The back end does not offer what a drive needs (virtio 1, the protocol "
                       "feature CONFIG): %s",
                       config->socket);
    if (rc)
        return err_set(e, rc, "The back end %s: %s", vhost_user_fault(rc), config->socket);
    blk->dev.withheld = RING_FEATURES & ~blk->offered;
    blk->metrics.init_time_us = (now_ns() - start) / NSEC_PER_USEC;
    return 0;
}

int vhost_user_blk_open(struct vhost_user_blk **out, const struct virtio_env *env,
                        const struct vhost_user_blk_config *config, int fd, struct err *e)
{
    struct vhost_user_blk *blk = new_blk(env);
    int rc;

    if (!blk)
        return err_set(e, -ENOMEM, "Unable to create the virtio block device: %s", err_os(-ENOMEM));
    rc = set_up(blk, config, fd, e);
    if (rc) {
        destroy(&blk->dev);
        if (e)
            err_prefix(e, "Unable to create the virtio block device: Vhost user backend error: ");
        return rc;
    }
    *out = blk;
    return 0;
}

/* The new configuration takes the place of the old, strings and all. */
static int replace_config(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config)
{
    struct vhost_user_blk_config old = blk->config;
    int rc = copy_config(blk, config);

    free_config(rc ? &blk->config : &old);
    if (rc)
        blk->config = old;
    return rc;
}

int vhost_user_blk_configure(struct vhost_user_blk *blk, const struct vhost_user_blk_config *config)
{
    struct vhost_user_call call = {.deadline_ns = now_ns() + ANSWER_NS};
    int rc = strcmp(config->socket, blk->config.socket) == 0 ? 0 : -EXDEV;

    if (rc == 0)
        rc = vhost_user_ask_config(&blk->conn, &call, BLK_CONFIG_SIZE);
    if (rc == 0)
        rc = vhost_user_wait(&blk->conn, &call);
    if (rc == 0)
        rc = replace_config(blk, config);
    if (rc == 0)
        take_config(blk, &call);
    return rc;
}

int vhost_user_blk_create(struct vhost_user_blk **out, const struct virtio_env *env,
                          const struct vhost_user_blk_config *config, struct err *e)
{
    return vhost_user_blk_open(out, env, config, -1, e);
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
    return blk->offered & BLK_F_RO;
}

/* ---- updates --------------------------------------------------------------------------------- */

static bool is_answered(void *call)
{
    return !((const struct vhost_user_call *)call)->pending;
}

/* Asks for the configuration while the loop goes on. */
static int fetch_config(struct vhost_user_blk *blk)
{
    struct vhost_user_call *call = &blk->config_call;
    int rc;

    if (!blk->conn.over)
        vhost_user_ring_listen(blk);
    call->deadline_ns = now_ns() + ANSWER_NS;
    rc = vhost_user_ask_config(&blk->conn, call, BLK_CONFIG_SIZE);
    if (rc)
        return vhost_user_ring_lose(blk, rc);
    vhost_user_ring_watch(blk);
    loop_wait(blk->dev.env.loop, is_answered, call);
    return call->rc;
}

int vhost_user_blk_update(struct vhost_user_blk *blk, struct err *e)
{
    uint64_t start = now_ns();
    int rc = fetch_config(blk);

    if (rc) {
        metric_add(&blk->metrics.cfg_fails, 1);
        return err_set(e, rc, "Vhost user backend error: The back end %s: %s", vhost_user_fault(rc),
                       blk->config.socket);
    }
    take_config(blk, &blk->config_call);
    virtio_dev_config_changed(&blk->dev);
    blk->metrics.config_change_time_us = (now_ns() - start) / NSEC_PER_USEC;
    return 0;
}
