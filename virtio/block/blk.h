/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h owns the virtio block device (virtio 1.3, section 5.2) on a raw file or block device. */
#ifndef MAYFLY_BLOCK_BLK_H
#define MAYFLY_BLOCK_BLK_H

#include "virtio/virtio.h"
#include "vmm/base/metrics.h"
#include "vmm/base/rate_limiter.h"

enum blk_cache { BLK_CACHE_UNSAFE, BLK_CACHE_WRITEBACK };
enum blk_engine { BLK_ENGINE_SYNC, BLK_ENGINE_ASYNC };

/* Where goes what the guest writes to a drive whose file stays as it is (overlay.h). */
enum blk_overlay_type { BLK_OVERLAY_NONE, BLK_OVERLAY_MEMORY, BLK_OVERLAY_FILE };

/* Layers that can lie between a drive's file and its overlay. */
#define BLK_LAYERS_MAX 16

struct blk_overlay_config {
    enum blk_overlay_type type;
    char *path;                  /* of a FILE, else NULL */
    char *layer[BLK_LAYERS_MAX]; /* under it, the lowest first; only read */
    unsigned layer_count;
    bool has_layers;     /* they were given, perhaps none */
    bool must_be_empty;  /* a FILE: the guest's disk is all there, nothing may lie over it yet */
    uint64_t topmost[2]; /* the id that the last of them must have; 0 = any */
};

struct blk;

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
    struct blk_overlay_config overlay;
    /* In a forked process: the drive of the process that it was forked from, whose overlay this one
     * takes over, with its file; that one can only be destroyed then. NULL = none. */
    struct blk *forked_from;
};

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
 * Of a drive with an overlay, where nothing is in flight: for a snapshot (vmm/saved_layers.c) and a
 * fork. overlay.h has the words.
 */
struct overlay;
const struct overlay *blk_overlay(const struct blk *blk); /* NULL = it has none */

/* For a drive that may be replaced by one with the same overlay, before the start: lets go of the
 * lock on its file, and takes it again. False = another process has it by now. */
void blk_unlock_overlay(const struct blk *blk);
bool blk_lock_overlay(const struct blk *blk) __must_check;

/* Before a fork: an overlay that is a file becomes a layer, and a new file beside it, with a number
 * at the end of its name, the overlay. Nothing to do for others, nor for one that holds nothing. */
int blk_split_overlay(struct blk *blk, struct err *e) __must_check;

/* The descriptors of its file and layers, if it has an overlay, for a fork's child to keep: how
 * many there are; fills at most `room`. */
unsigned blk_overlay_fds(const struct blk *blk, int *fds, unsigned room);

/*
 * Replaces the backing file: opens first, waits for what is in flight, then swaps, and tells the
 * driver the new capacity (config interrupt). On error the drive goes on as it was. path NULL =
 * only the limiter changes; limiter NULL = only the path.
 */
int blk_update(struct blk *blk, const char *path, const struct rate_limiter_config *limiter,
               struct err *e) __must_check;

#endif
