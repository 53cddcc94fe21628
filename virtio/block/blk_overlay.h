/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_overlay.h owns what the requests of drives with an overlay have beside their slots. For
 * blk_overlay.c and blk_overlay_write.c alone.
 */
#ifndef MAYFLY_BLOCK_BLK_OVERLAY_H
#define MAYFLY_BLOCK_BLK_OVERLAY_H

#include "virtio/block/blk_io.h"

/* Where a slot's request is. */
enum blk_step {
    READ_BEFORE, /* the gap in front of the data, from below */
    WRITE_BEFORE,
    READ_AFTER, /* the gap behind them */
    WRITE_AFTER,
    MOVE_DATA,
    FLUSH_DATA,
    FLUSH_BITS,
};

/* What a slot needs more than on a drive without overlay. */
struct blk_copy {
    struct blk_slot *next; /* of the list of the drive's that it is in */
    uint64_t first, last;  /* blocks */
    enum blk_step step;
    bool holds;        /* it gives those blocks to the top */
    bool has_bits;     /* a flush: there are bits to be written */
    uint32_t done;     /* bytes of the gap that are read, or written */
    struct iovec gap;  /* what the ring is to move of it */
    unsigned segments; /* a read: how many are in this operation, */
    size_t cut;        /* and bytes that were taken off the last */
};

/* Of each slot, and a block to copy by; one mapping, touched as far as there are slots. */
struct blk_copies {
    uint8_t block[VIRTQUEUE_SIZE_MAX][LAYER_BLOCK];
    struct blk_copy copy[VIRTQUEUE_SIZE_MAX];
};

static inline struct blk_copy *blk_copy_of(const struct blk_slot *slot)
{
    return &slot->blk->copies->copy[blk_io_slot_number(slot)];
}

/* Puts a slot at the end of one of the drive's lists. */
void blk_overlay_append(struct blk_slot **list, struct blk_slot *slot);

/* What an error in the middle of a request comes to. */
enum blk_status blk_overlay_fail(struct blk *blk, struct blk_request *request, int rc);

/* The end of an operation of a slot that writes. */
void blk_overlay_write_done(struct blk_slot *slot, int res);

#endif
