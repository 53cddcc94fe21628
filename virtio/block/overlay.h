/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overlay.h owns the stack that a copy-on-write drive is made of:
 *
 *      top         what this guest has written: memory of ours, or a file (layer.h)
 *      layers      what snapshots and forks have left, the lowest first; only read
 *      base        the drive's file; only read
 *
 * Each block of 4 KiB is in one of them: `owner` says in which, a byte a block, so a request that
 * lies in one place is one operation on it, however deep the stack is. A block is given to the top
 * when it is there as a whole (blk_overlay.c); nothing below is ever written to.
 *
 * The memory of a top and the owners are private anonymous mappings, as large as the drive and
 * touched only as far as it is written: after a fork(2) both processes go on with a copy of theirs.
 *
 * The bitmap of a file at the top is kept in memory. Of a drive that offers flushes (Writeback) it
 * is written by a flush: the data first, on to the disk, then the bits, on to the disk. So whatever
 * ends the machine or the host, a block is either as it was or as it was written. Of one that does
 * not (Unsafe) a bit is written at once behind its data, into the page cache as these: the file is
 * whole after any end of this process, and promises nothing about the host's, as without overlay.
 *
 * Loop thread, machine lock held. Private to the block device, but for overlay_store.
 */
#ifndef MAYFLY_BLOCK_OVERLAY_H
#define MAYFLY_BLOCK_OVERLAY_H

#include "virtio/block/blk.h"
#include "virtio/block/layer.h"

struct overlay {
    enum blk_overlay_type type; /* of the top */
    uint64_t size;              /* bytes of the drive, whole sectors */
    uint64_t base;              /* its hash */
    struct blk_file *base_file; /* the device's */
    struct layer layer[BLK_LAYERS_MAX];
    unsigned count;

    uint8_t *owner;   /* of each block: 0 = base, i = layer[i - 1], count + 1 = top */
    uint8_t top;      /* count + 1 */
    uint64_t written; /* blocks of the top */

    uint8_t *memory; /* MEMORY: the top, block by block; else NULL */

    struct layer file;        /* FILE: the top */
    bool bits_wait;           /* for a flush */
    uint8_t *bits;            /* its bitmap */
    uint8_t *bits_flushed;    /* as it was when the flush under way began */
    uint8_t *page_is_dirty;   /* a byte a page of `bits`: not written yet */
    uint8_t *page_is_flushed; /* the flush under way writes it */
};

/* Pages of 4096 bytes in a bitmap. */
static inline uint64_t overlay_bits_pages(const struct overlay *overlay)
{
    return layer_bits_size(overlay->size) / LAYER_BLOCK;
}

/* The end of the run of blocks from `first` on with the same owner, at most `end`. */
static inline uint64_t overlay_run_end(const struct overlay *overlay, uint64_t first, uint64_t end)
{
    uint64_t block = first + 1;

    while (block < end && overlay->owner[block] == overlay->owner[first])
        block++;
    return block;
}

/* Where some bytes of the drive are. */
struct overlay_place {
    uint8_t *memory;       /* in the top, or NULL */
    struct blk_file *file; /* else in this file, */
    uint64_t offset;       /* from here on */
    uint64_t len;
};

/*
 * Opens what the config says lies over `base`, which is open and borrowed. Errors of layer.h,
 * -EINVAL for a stack that does not fit together, -ENOMEM. Sentences name the path.
 */
int overlay_create(struct overlay **out, const struct blk_config *config, struct blk_file *base,
                   struct err *e) __must_check;

/* NULL is accepted. */
void overlay_destroy(struct overlay *overlay);

/* The place of the bytes from `offset` on, as far as they lie in one, `len` at most. */
struct overlay_place overlay_find(const struct overlay *overlay, uint64_t offset, uint64_t len);

/* Where in the top the byte at `offset` is to go. */
struct overlay_place overlay_top(struct overlay *overlay, uint64_t offset, uint64_t len);

/* Whether the top has all of the blocks first to last. */
bool overlay_has(const struct overlay *overlay, uint64_t first, uint64_t last);

/* The top has them from now on. -errno when a bit cannot be written to the file: then some of them
 * it has not. */
int overlay_take(struct overlay *overlay, uint64_t first, uint64_t last) __must_check;

/*
 * The steps of a flush of a file, one at a time: what is to be written is remembered, the caller
 * gets the data to the disk; the bits are written, the caller gets these to the disk. _end with
 * rc < 0: they count as not written. _begin says whether there are any.
 */
bool overlay_flush_begin(struct overlay *overlay);
int overlay_flush_write(struct overlay *overlay) __must_check;
void overlay_flush_end(struct overlay *overlay, int rc);

/*
 * Writes the top into an empty file as a complete layer with this id, lying on this stack. Nothing
 * is in flight. Touches nothing else, so a forked process may do it, with a top of memory.
 */
int overlay_store(const struct overlay *overlay, int fd, const struct layer_id *id) __must_check;

/* The id of the topmost layer below the top; zero = there is none. */
struct layer_id overlay_below(const struct overlay *overlay);

/* -EMLINK, with a sentence that says what to do, when the top cannot become one more layer. */
int overlay_check_depth(const struct overlay *overlay, struct err *e) __must_check;

/*
 * The file at the top is complete and becomes the topmost layer; a new one at `path`, which must
 * not exist, becomes the top. Nothing is in flight. On error all is as it was, but that the file
 * may have got to the disk.
 */
int overlay_split(struct overlay *overlay, const char *path, struct err *e) __must_check;

/*
 * In a forked process: takes over the stack of the process that it was forked from, with a top of
 * its own: memory as it was at the fork; in place of a file, which stays the other's, what the
 * config says. `from` is left without anything. The base is the one of `from`, moved to `base`.
 */
int overlay_inherit(struct overlay **out, const struct blk_config *config, struct overlay **from,
                    struct blk_file *base, struct err *e) __must_check;

#endif
