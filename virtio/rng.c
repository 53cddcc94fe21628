/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng.c: the entropy device. One queue; the driver puts in empty buffers and gets them back full of
 * random bytes. The model of a device: virtio/README.md walks through it.
 */
#include "virtio/rng.h"

#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>

#include <sys/random.h>

#define QUEUE       0
#define REQUEST_MAX (64 * KIB) /* bytes given for one request, however large its buffers */

/* Requests in one turn of the loop: a flood of the largest ones takes it some 2 ms. */
#define TURN_MAX 16

/* The saved part. */
struct rng_state {
    struct rate_limiter limiter;
};

static const struct state_field fields[] = {RATE_LIMITER_STATE_FIELDS(struct rng_state, limiter.)};
const struct state_desc rng_state_desc = STATE_DESC("virtio-rng", 1, struct rng_state, fields);

struct rng {
    struct virtio_dev dev;
    struct rng_state s;
    struct loop_timer retry; /* armed while the limiter holds a request back */
};

static struct rng *to_rng(struct virtio_dev *dev)
{
    return container_of(dev, struct rng, dev);
}

/* Fills the chain's buffers; returns the bytes written, which are fewer if the host has none. */
static uint32_t fill(const struct vq_chain *chain)
{
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_writable && done < REQUEST_MAX; i++) {
        size_t wanted = MIN(chain->iov[i].iov_len, REQUEST_MAX - done);
        /* Never blocks: a host that has just started may have nothing yet. */
        ssize_t n = getrandom(chain->iov[i].iov_base, wanted, GRND_NONBLOCK);

        if (n < 0) {
            metric_add(&metrics.entropy.host_rng_fails, 1);
            break;
        }
        done += (size_t)n;
        if ((size_t)n < wanted) /* a signal came; the driver asks again for what it lacks */
            break;
    }
    metric_add(&metrics.entropy.entropy_bytes, done);
    return (uint32_t)done;
}

/* Whether the limiter lets `bytes` pass; if not, it has started the timer that asks again. */
static bool allowed(struct rng *rng, uint64_t bytes)
{
    uint64_t now;

    if (rate_limiter_is_unlimited(&rng->s.limiter))
        return true;
    now = now_ns();
    if (rate_limiter_take(&rng->s.limiter, bytes, now))
        return true;
    metric_add(&metrics.entropy.entropy_rate_limiter_throttled, 1);
    loop_timer_start(rng->dev.env.loop, &rng->retry,
                     MIN(rate_limiter_wait_ns(&rng->s.limiter, bytes, now), RATE_LIMITER_RETRY_NS));
    return false;
}

static enum virtio_serve serve(struct virtio_dev *dev, unsigned q)
{
    struct rng *rng = to_rng(dev);
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;

    if (rng->retry.armed)
        return VIRTIO_LATER;
    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    if (chain.n_readable > 0) {
        virtio_dev_needs_reset(dev, "a readable buffer in an entropy request");
        return VIRTIO_EMPTY;
    }
    if (!allowed(rng, MIN(chain.writable_len, REQUEST_MAX))) {
        virtqueue_unpop(&dev->queue[q]);
        return VIRTIO_LATER;
    }
    virtio_dev_push(dev, q, chain.head, fill(&chain));
    return VIRTIO_SERVED;
}

static void rng_kick(struct virtio_dev *dev, unsigned q)
{
    metric_add(&metrics.entropy.entropy_event_count, 1);
    virtio_dev_serve(dev, q, TURN_MAX, serve);
}

static void retry_done(struct op *op, int res, bool more)
{
    struct rng *rng = container_of(op, struct rng, retry.op);

    (void)res;
    (void)more;
    rng->retry.armed = false;
    metric_add(&metrics.entropy.rate_limiter_event_count, 1);
    virtio_dev_kick(&rng->dev, QUEUE);
}

static void *rng_saved(struct virtio_dev *dev)
{
    return &to_rng(dev)->s;
}

static void rng_destroy(struct virtio_dev *dev)
{
    free(to_rng(dev));
}

static const struct virtio_dev_ops rng_ops = {
    .name = "virtio-rng",
    .device_id = 4,
    .n_queues = 1,
    .queue_size_max = VIRTQUEUE_SIZE_DEFAULT,
    .state = &rng_state_desc,
    .kick = rng_kick,
    .saved = rng_saved,
    .destroy = rng_destroy,
};

int rng_create(struct rng **out, const struct virtio_env *env, const struct rng_config *config,
               struct err *e)
{
    struct rng *rng = calloc(1, sizeof(*rng));

    if (!rng)
        return err_set(e, -ENOMEM, "Cannot create the entropy device: %s", err_os(-ENOMEM));
    virtio_dev_init(&rng->dev, &rng_ops, env);
    rng->dev.event_fails = &metrics.entropy.entropy_event_fails;
    rng->dev.activate_fails = &metrics.entropy.activate_fails;
    rng->retry.op.done = retry_done;
    if (config->has_limiter)
        rate_limiter_init(&rng->s.limiter, &config->limiter, now_ns());
    *out = rng;
    return 0;
}

struct virtio_dev *rng_dev(struct rng *rng)
{
    return &rng->dev;
}
