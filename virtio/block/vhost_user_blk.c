/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_user_blk.c: drives behind a socket. */
#include "virtio/block/vhost_user_blk.h"

#include <errno.h>

int vhost_user_blk_create(struct vhost_user_blk **out, const struct virtio_env *env,
                          const struct vhost_user_blk_config *config, struct err *e)
{
    (void)out;
    (void)env;
    (void)config;
    return err_set(e, -ENOTSUP, "This device is not supported yet by this version of Mayfly.");
}
struct virtio_dev *vhost_user_blk_dev(struct vhost_user_blk *blk)
{
    (void)blk;
    return NULL;
}
const struct vhost_user_blk_config *vhost_user_blk_config(const struct vhost_user_blk *blk)
{
    (void)blk;
    return NULL;
}
bool vhost_user_blk_read_only(const struct vhost_user_blk *blk)
{
    (void)blk;
    return false;
}
int vhost_user_blk_update(struct vhost_user_blk *blk, struct err *e)
{
    (void)blk;
    return err_set(e, -ENOTSUP, "This device is not supported yet by this version of Mayfly.");
}
struct metrics_vhost_user_block *vhost_user_blk_metrics(struct vhost_user_blk *blk)
{
    (void)blk;
    return NULL;
}
