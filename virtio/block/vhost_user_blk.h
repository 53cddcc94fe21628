/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_user_blk.h owns the block device whose requests another process serves (vhost-user): this
 * side negotiates, hands over guest memory, queues and their eventfds, and passes interrupts on.
 */
#ifndef MAYFLY_BLOCK_VHOST_USER_BLK_H
#define MAYFLY_BLOCK_VHOST_USER_BLK_H

#include "virtio/block/blk.h"

/* What a user says of such a drive; strings belong to whoever holds the struct. */
struct vhost_user_blk_config {
    char *id;
    char *socket;
    char *partuuid; /* NULL = none */
    bool is_root;
    enum blk_cache cache;
};

struct vhost_user_blk;

/* Connects to the back end and asks what it offers. The config is copied. */
int vhost_user_blk_create(struct vhost_user_blk **out, const struct virtio_env *env,
                          const struct vhost_user_blk_config *config, struct err *e) __must_check;

struct virtio_dev *vhost_user_blk_dev(struct vhost_user_blk *blk);
const struct vhost_user_blk_config *vhost_user_blk_config(const struct vhost_user_blk *blk);

struct metrics_vhost_user_block *vhost_user_blk_metrics(struct vhost_user_blk *blk);

/* Whether the back end says that the disk cannot be written. */
bool vhost_user_blk_read_only(const struct vhost_user_blk *blk);

/* PATCH with only the id: asks the back end for its configuration again and tells the driver. */
int vhost_user_blk_update(struct vhost_user_blk *blk, struct err *e) __must_check;

#endif
