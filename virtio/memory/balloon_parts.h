/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon_parts.h owns struct balloon itself, for the files that make up the device: balloon.c (the
 * device and what clients ask of it), balloon_pages.c (pages that go into the balloon and out of
 * it), balloon_stats.c (statistics), balloon_hints.c (free page hinting and reporting). Nobody else
 * includes it.
 *
 * Under the machine lock; what serves a queue, and the timer: on the loop thread.
 */
#ifndef MAYFLY_MEMORY_BALLOON_PARTS_H
#define MAYFLY_MEMORY_BALLOON_PARTS_H

#include "virtio/memory/balloon.h"

/* What a queue is for. */
enum balloon_role {
    BALLOON_INFLATE,
    BALLOON_DEFLATE,
    BALLOON_STATISTICS,
    BALLOON_HINTS,
    BALLOON_REPORTS,
    BALLOON_ROLES, /* also: a queue that is for nothing */
};

/* free_page_hint_cmd_id: these two, or the number of a run, from 2. */
#define BALLOON_HINT_STOP 0u
#define BALLOON_HINT_DONE 1u

#define BALLOON_PAGE_SHIFT    12 /* of page numbers, whatever the guest's pages are */
#define BALLOON_PAGES_PER_MIB 256u

/*
 * The saved part. It begins with the configuration space, which the driver reads in place. A
 * statistics buffer that is held is not in it: a quiesce gives it back to the queue as not yet
 * taken.
 */
struct balloon_state {
    uint32_t num_pages; /* wanted in the balloon */
    uint32_t actual;    /* in it, as the driver says */
    uint32_t hint_cmd;  /* what we tell the driver to do about hints */

    uint32_t last_run;  /* number of the last run of hints that was started */
    uint32_t guest_cmd; /* the last command of the driver, if there was one since its start */
    uint32_t has_guest_cmd;
    uint32_t acknowledge; /* answer the end of a run with DONE */
    uint32_t has_stats;   /* a bit a statistic that the driver has ever sent */
    uint64_t stat[BALLOON_STATS];
};
#define BALLOON_CONFIG_SIZE offsetof(struct balloon_state, last_run)

/* Pages of one block of 2 MiB that the guest has given and the host has not got yet. */
#define BALLOON_BLOCK_PAGES 512u
#define BALLOON_BLOCKS      8
struct balloon_block {
    uint32_t number; /* its first page divided by the pages of a block */
    uint32_t count;  /* of the bits that are set; 0 = not in use */
    uint64_t page[BALLOON_BLOCK_PAGES / 64];
};

struct balloon {
    struct virtio_dev dev;
    struct balloon_config config;
    struct balloon_state s;
    uint8_t role[VIRTIO_QUEUES_MAX]; /* of each queue, from the activation on */
    /* Bytes of the request at the head of each queue that have been dealt with: one that is too
     * much for a turn of the loop goes back to its queue and is taken anew in a later turn. */
    uint32_t progress[VIRTIO_QUEUES_MAX];
    uint64_t budget; /* what is left of this turn, see balloon_discard */

    struct balloon_block block[BALLOON_BLOCKS];
    unsigned next_victim;          /* the next to make room, modulo their number */
    bool inflating;                /* since the timer looked last */
    struct loop_timer flush_timer; /* counts as in flight while it is armed */

    bool stats_held; /* the driver's buffer, until new statistics are wanted */
    uint16_t stats_head;
    struct loop_timer stats_timer; /* counts as in flight while it is armed */
};

/* ---- balloon.c ---- */

/* Whether the driver tells us before it uses a page of the balloon again. */
bool balloon_tells(const struct balloon *balloon);

static inline struct balloon *to_balloon(const struct virtio_dev *dev)
{
    return container_of((struct virtio_dev *)(uintptr_t)dev, struct balloon, dev);
}

/* ---- balloon_pages.c ---- */

/* Begins a turn's share of work. */
void balloon_begin_turn(struct balloon *balloon);

/* Gives a range of guest memory back to the host, and charges the turn for it: false = that failed.
 * With no budget left, the rest has to wait for the next turn. */
bool balloon_discard(struct balloon *balloon, void *at, uint64_t len) __must_check;

/* Gives the request taken last back to queue q, with `progress` bytes of it dealt with, and goes on
 * in a later turn. */
enum virtio_serve balloon_continue_later(struct balloon *balloon, unsigned q, uint32_t progress);

/* Returns the request `head` to the driver: all of it has been dealt with. */
enum virtio_serve balloon_return(struct balloon *balloon, unsigned q, uint16_t head);

enum virtio_serve balloon_serve_inflate(struct virtio_dev *dev, unsigned q);
enum virtio_serve balloon_serve_deflate(struct virtio_dev *dev, unsigned q);

/* Gives everything back that has been taken and not yet been given back. */
void balloon_flush(struct balloon *balloon);

void balloon_pages_init(struct balloon *balloon);
/* Flushes, and ends the timer. */
void balloon_pages_quiesce(struct balloon *balloon);

/* ---- balloon_stats.c ---- */

void balloon_stats_init(struct balloon *balloon);
enum virtio_serve balloon_serve_stats(struct virtio_dev *dev, unsigned q);

/* Starts the timer unless it runs; loop thread. */
void balloon_stats_arm(struct balloon *balloon);
/* There is a new interval: if the timer runs, asks for statistics at once and begins anew. */
void balloon_stats_restart(struct balloon *balloon);
/* Ends the timer, and gives the buffer back to the queue as if it had not been taken. */
void balloon_stats_quiesce(struct balloon *balloon);

/* ---- balloon_hints.c ---- */

enum virtio_serve balloon_serve_hints(struct virtio_dev *dev, unsigned q);
enum virtio_serve balloon_serve_reports(struct virtio_dev *dev, unsigned q);

/* A new driver, or one that was restored, is in no run: what was one is DONE. */
void balloon_hints_forget(struct balloon *balloon);

#endif
