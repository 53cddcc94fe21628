/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_io.h owns what the parts of the block device share: the device's struct, and requests.
 * blk.c is the device (queue, limits, configuration, updates), blk_io.c serves its requests, with
 * blk_overlay.c those of a drive with an overlay. Private to the block device.
 */
#ifndef MAYFLY_BLOCK_BLK_IO_H
#define MAYFLY_BLOCK_BLK_IO_H

#include "virtio/block/blk.h"
#include "virtio/block/blk_file.h"
#include "virtio/block/overlay.h"

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

/* What a request comes to; PENDING is no status: the ring has it. */
enum blk_status { BLK_S_OK = 0, BLK_S_IOERR = 1, BLK_S_UNSUPP = 2, BLK_S_PENDING = 255 };

/* Writes as small as these go into the page cache at once, with the Sync engine. */
#define BLK_PLAIN_WRITE_MAX (64 * KIB)

/* Times that the ring may answer "again" to one operation. */
#define BLK_AGAIN_MAX 16

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

/* Room for the segments of a request, or a link of the free list. */
union blk_segments {
    struct iovec iov[VIRTQUEUE_SIZE_MAX];
    union blk_segments *next_free;
};

/* A request that the ring has. Few segments have room in the slot, many get an array of
 * the pool. */
#define BLK_SLOT_SEGMENTS 6
struct blk_slot {
    struct op op;
    struct blk *blk;
    struct blk_slot *next_free;
    union blk_segments *many; /* NULL = `few` holds them */
    struct blk_request request;
    struct iovec few[BLK_SLOT_SEGMENTS];
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
    struct overlay *overlay; /* NULL = none: the guest writes to the file */
    size_t overlay_stem;     /* so much of its path was configured; the rest is a fork's number */
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

    /* of blk_overlay.c */
    struct blk_copies *copies;
    struct blk_slot *holders; /* that give blocks to the top */
    struct blk_slot *waiting; /* for them */
    struct blk_slot *flushes; /* the first is under way */
    bool is_waking, has_let_go;
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

/* ---- for blk_overlay.c ----------------------------------------------------------------------- */

/* Takes a slot for a request, which counts as in flight until the slot's end. */
struct blk_slot *blk_io_take_slot(struct blk *blk, const struct blk_request *request);
/* Its number, below VIRTQUEUE_SIZE_MAX. */
unsigned blk_io_slot_number(const struct blk_slot *slot);
/* Returns its request to the queue and gives it back. */
void blk_io_end_slot(struct blk_slot *slot, enum blk_status status);

/* Takes `len` bytes off the front of the data that is still to be moved. */
void blk_io_advance(struct blk_request *request, size_t len);

/* What the result of an operation of the request means: a status, or BLK_S_PENDING if it has to go
 * on. Of a transfer it takes the bytes off. */
enum blk_status blk_io_judge(struct blk *blk, struct blk_request *request, int res);

/* ---- blk_overlay.c: requests of drives with an overlay --------------------------------------- */

/* Makes room, once. -ENOMEM. */
int blk_overlay_prepare(struct blk *blk) __must_check;
void blk_overlay_free(struct blk *blk);

/* Serve a request that has been judged; the slot has its operation's result. */
enum blk_status blk_overlay_read(struct blk *blk, struct blk_request *request);
enum blk_status blk_overlay_write(struct blk *blk, struct blk_request *request);
enum blk_status blk_overlay_discard(struct blk *blk, struct blk_request *request);
enum blk_status blk_overlay_flush(struct blk *blk, const struct blk_request *request);
void blk_overlay_done(struct blk_slot *slot, int res);

#endif
