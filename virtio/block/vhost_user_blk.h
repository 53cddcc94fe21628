/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_user_blk.h owns the block device whose requests another process serves (vhost-user): this
 * side negotiates and hands over guest memory, the queue and its eventfds; requests and interrupts
 * then pass us by.
 *
 *      guest            KVM          back end
 *      avail.idx
 *      QueueNotify ---- ioeventfd -- reads chains, moves data
 *      interrupt  <---- irqfd ------ used.idx, eventfd "call"
 *
 * A pause or reset waits until the back end has returned every request, and asks it to stop then.
 * Nothing waits for a back end without a limit: one that is silent for too long, lies or leaves is
 * out for good; the device then stands still, the monitor goes on.
 *
 * The guest's memory is shared with the back end (mem_create_shared), which can read and write all
 * of it. There is no saved state: half of it is in another process, so such a machine has no
 * snapshots.
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

/*
 * Connects to the back end and asks what it offers; waits a second at most. The config is copied.
 * -ENOENT, -ECONNREFUSED and so on from the socket, -ETIMEDOUT, -EPROTO (no vhost-user, or not
 * what a disk needs).
 */
int vhost_user_blk_create(struct vhost_user_blk **out, const struct virtio_env *env,
                          const struct vhost_user_blk_config *config, struct err *e) __must_check;

/* The same over a connected socket, which becomes the drive's: for tests. */
int vhost_user_blk_open(struct vhost_user_blk **out, const struct virtio_env *env,
                        const struct vhost_user_blk_config *config, int fd,
                        struct err *e) __must_check;

/*
 * Configures it anew over the connection that it has, and asks for the back end's configuration
 * again: most back ends talk to one at a time, so a second connection to the same socket would only
 * wait. For the time before the machine runs. -EXDEV when the socket is another one, or an error of
 * the connection, which is over then: make a new one.
 */
int vhost_user_blk_configure(struct vhost_user_blk *blk,
                             const struct vhost_user_blk_config *config) __must_check;

struct virtio_dev *vhost_user_blk_dev(struct vhost_user_blk *blk);
const struct vhost_user_blk_config *vhost_user_blk_config(const struct vhost_user_blk *blk);
struct metrics_vhost_user_block *vhost_user_blk_metrics(struct vhost_user_blk *blk);

/* Whether the back end says that the disk cannot be written. */
bool vhost_user_blk_read_only(const struct vhost_user_blk *blk);

/*
 * PATCH with only the id: asks the back end for its configuration again and tells the driver. On
 * error (-ETIMEDOUT, -ECONNRESET, -EREMOTEIO ...) it stays as it was. Turns the loop meanwhile.
 * Loop thread.
 */
int vhost_user_blk_update(struct vhost_user_blk *blk, struct err *e) __must_check;

#endif
