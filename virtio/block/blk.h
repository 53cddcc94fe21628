/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h owns the virtio block device (virtio 1.3, section 5.2) on a raw file or block device. */
#ifndef MAYFLY_BLOCK_BLK_H
#define MAYFLY_BLOCK_BLK_H

#include "virtio/virtio.h"
#include "vmm/base/metrics.h"
#include "vmm/base/rate_limiter.h"

enum blk_cache { BLK_CACHE_UNSAFE, BLK_CACHE_WRITEBACK };
enum blk_engine { BLK_ENGINE_SYNC, BLK_ENGINE_ASYNC };

/* What a user says of a drive; strings belong to whoever holds the struct. */
struct blk_config {
    char *id;
    char *path;
    char *partuuid; /* NULL = none */
    bool is_root;
    bool read_only;
    bool discard; /* offer DISCARD (and WRITE_ZEROES); only for writable Sync drives */
    enum blk_cache cache;
    enum blk_engine engine;
    bool has_limiter;
    struct rate_limiter_config limiter;
};

struct blk;

/* The device's saved struct, for the test that walks them all. */
extern const struct state_desc blk_state_desc;

/*
 * Opens the file (a regular file or block device) and makes the device. The config is copied.
 * Errors name the path and the system's words: -ENOENT, -EACCES, -EISDIR, -EINVAL (neither file nor
 * block device).
 */
int blk_create(struct blk **out, const struct virtio_env *env, const struct blk_config *config,
               struct err *e) __must_check;

struct virtio_dev *blk_dev(struct blk *blk);
const struct blk_config *blk_config(const struct blk *blk);
/* What the guest is told of the size: sectors of 512 bytes. */
uint64_t blk_sectors(const struct blk *blk);
struct metrics_block *blk_metrics(struct blk *blk);

/*
 * Replaces the backing file: opens first, waits for what is in flight, then swaps, and tells the
 * driver the new capacity (config interrupt). On error the drive goes on as it was. path NULL =
 * only the limiter changes; limiter NULL = only the path.
 */
int blk_update(struct blk *blk, const char *path, const struct rate_limiter_config *limiter,
               struct err *e) __must_check;

#endif
