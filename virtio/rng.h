/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng.h owns the virtio entropy device (virtio 1.3, section 5.4): the smallest device, the one to
 * copy. Its metrics are the process's group `entropy`.
 */
#ifndef MAYFLY_VIRTIO_RNG_H
#define MAYFLY_VIRTIO_RNG_H

#include "virtio/virtio.h"
#include "vmm/base/rate_limiter.h"

struct rng_config {
    bool has_limiter;
    struct rate_limiter_config limiter;
};

struct rng;

/* The device's saved struct, for the test that walks them all. */
extern const struct state_desc rng_state_desc;

/* -ENOMEM. Ends with virtio_dev_destroy(rng_dev(rng)). */
int rng_create(struct rng **out, const struct virtio_env *env, const struct rng_config *config,
               struct err *e) __must_check;
struct virtio_dev *rng_dev(struct rng *rng);

#endif
