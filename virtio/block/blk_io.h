/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_io.h owns what the two halves of the block device share: the device's struct, and requests.
 * blk.c is the device (queue, limits, configuration, updates), blk_io.c serves its requests.
 * Private to the block device.
 */
#ifndef MAYFLY_BLOCK_BLK_IO_H
#define MAYFLY_BLOCK_BLK_IO_H

#include "virtio/block/blk.h"
#include "virtio/block/blk_file.h"

#define BLK_QUEUE 0

/* Feature bits (virtio 1.3, section 5.2.3). */
#define BLK_F_SEG_MAX      (UINT64_C(1) << 2)
#define BLK_F_RO           (UINT64_C(1) << 5)
#define BLK_F_FLUSH        (UINT64_C(1) << 9)
#define BLK_F_DISCARD      (UINT64_C(1) << 13)
#define BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

/* Sectors in a discard: 2 GiB, so that one request does not keep a disk busy for long. */
#define BLK_DISCARD_SECTORS_MAX (UINT32_C(1) << 22)

enum blk_request_type {
    BLK_IN = 0,
    BLK_OUT = 1,
    BLK_FLUSH = 4,
    BLK_GET_ID = 8,
    BLK_DISCARD = 11,
    BLK_WRITE_ZEROES = 13,
};

/* The data of a DISCARD or WRITE_ZEROES; we take one a request. */
struct blk_discard_segment {
    uint64_t sector;
    uint32_t sectors, flags;
};
#define BLK_DISCARD_UNMAP 1u

/* A request taken from the queue: where its parts are, and how far it has come. */
struct blk_request {
    uint32_t type;
    uint16_t head;
    uint8_t *status;   /* HVA */
    struct iovec *iov; /* data still to be moved */
    unsigned count;
    uint32_t data_len, left; /* bytes of data, and those still to be moved */
    uint32_t writable_len;   /* of the whole chain */
    uint64_t sector;
    uint64_t offset; /* in the file, of what is left */
    uint64_t started_ns;
    struct blk_discard_segment segment;
    uint8_t again; /* times that the ring has answered "again" */
};

/* The saved part. */
struct blk_state {
    struct rate_limiter limiter;
};

/* The configuration space (virtio 1.3, section 5.2.4); what we do not offer is 0. */
struct blk_config_space {
    uint64_t capacity; /* sectors of 512 bytes */
    uint32_t size_max, seg_max;
    uint32_t geometry, blk_size;
    uint64_t topology;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(offsetof(struct blk_config_space, max_discard_sectors) == 36,
               "as in the specification");
#define BLK_CONFIG_SIZE 60

struct blk {
    struct virtio_dev dev;
    struct blk_state s;
    struct blk_config config;
    struct blk_config_space space;
    struct blk_file file;
    struct loop_timer retry; /* armed while the limiter holds a request back */
    uint64_t turn_bytes;     /* moved at once in this turn */
    /* The time as last read: when the kick came, or a transfer ended. What is served at once begins
     * when the one before it ends, so one look at the clock a request is enough. */
    uint64_t clock_ns;

    /* of blk_io.c */
    struct blk_arena *arena;
    unsigned slots_used, segments_used; /* of the arena, ever */
    struct blk_slot *free_slots;
    union blk_segments *free_segments;
    struct metrics_block metrics;
};

/* Makes room for requests in flight, once. -ENOMEM. */
int blk_io_prepare(struct blk *blk) __must_check;
void blk_io_free(struct blk *blk);

/* Cuts a chain into header, data and status. False = it is too short to be a request. Uses up the
 * chain's iov, which must live until blk_io_start has returned. */
bool blk_io_parse(struct vq_chain *chain, struct blk_request *request) __must_check;

/* Serves a request and returns it to the queue, now or, if the ring has to do it, at its
 * completion. */
void blk_io_start(struct blk *blk, struct blk_request *request);

#endif
