/* SPDX-License-Identifier: Apache-2.0 */
/* balloon_pages.c: pages that the guest puts into the balloon, and takes out of it again. */
#include "virtio/memory/balloon_parts.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>

/*
 * One turn of the loop gives about this much memory back; a call counts as at least so much, since
 * one that frees a single page costs about what dropping 16 costs. So the worst of turns takes one
 * or two milliseconds.
 */
#define TURN_BYTES (32 * MIB)
#define CALL_BYTES (64 * KIB)

/* Page numbers looked at in one go. Linux sends at most 256. */
#define PAGES_MAX 512

/* So long after the last request, or at most twice that, incomplete blocks go back. */
#define FLUSH_NS (10 * NSEC_PER_MSEC)

void balloon_begin_turn(struct balloon *balloon)
{
    balloon->budget = TURN_BYTES;
}

bool balloon_discard(struct balloon *balloon, void *at, uint64_t len)
{
    int rc = mem_discard(balloon->dev.env.mem, at, len);

    balloon->budget -= MIN(MAX(len, CALL_BYTES), balloon->budget);
    if (rc)
        log_warn("virtio-balloon: memory of the guest cannot be given back: %s", err_os(rc));
    return rc == 0;
}

enum virtio_serve balloon_continue_later(struct balloon *balloon, unsigned q, uint32_t progress)
{
    balloon->progress[q] = progress;
    virtqueue_unpop(&balloon->dev.queue[q]);
    virtio_dev_kick_later(&balloon->dev, q);
    return VIRTIO_LATER;
}

enum virtio_serve balloon_return(struct balloon *balloon, unsigned q, uint16_t head)
{
    balloon->progress[q] = 0;
    virtio_dev_push(&balloon->dev, q, head, 0);
    if (balloon->budget > 0)
        return VIRTIO_SERVED;
    virtio_dev_kick_later(&balloon->dev, q);
    return VIRTIO_LATER;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/*
 * Page numbers are collected by blocks of 2 MiB, a bit a page, which sorts and merges them. A block
 * that is complete goes back in one call: so a huge page of the host stays one until it is gone,
 * and what the guest touches later may be one again. Emptied in parts it would be split, cost a
 * small page's price 512 times, and never become one again; in hugetlbfs it would not go at all.
 *
 * Linux sends 1 MiB at a time and waits for its return. So blocks outlive requests: until they are
 * complete, room is needed for others, the guest wants pages back, or nothing has come for a while.
 * That is only right if the guest tells us before it uses a page again (MUST_TELL_HOST). If it has
 * not promised that, all of a request goes back before the request does.
 */
static void discard_run(struct balloon *balloon, uint64_t first, uint64_t count)
{
    uint64_t len = count << BALLOON_PAGE_SHIFT;
    void *at = mem_writable(balloon->dev.env.mem, GPA(first << BALLOON_PAGE_SHIFT), len);

    /* A page that is no memory is the guest's own affair: nobody has it, nothing is given back. */
    if (!at || !balloon_discard(balloon, at, len))
        metric_add(&metrics.balloon.event_fails, 1);
}

static bool has_page(const struct balloon_block *block, unsigned page)
{
    return block->page[page / 64] >> (page % 64) & 1;
}

/* Gives its pages back, and forgets it. */
static void close_block(struct balloon *balloon, struct balloon_block *block)
{
    uint64_t start = (uint64_t)block->number * BALLOON_BLOCK_PAGES;
    unsigned page = 0;

    while (page < BALLOON_BLOCK_PAGES) {
        unsigned first = page;

        while (page < BALLOON_BLOCK_PAGES && has_page(block, page))
            page++;
        if (page > first)
            discard_run(balloon, start + first, page - first);
        while (page < BALLOON_BLOCK_PAGES && !has_page(block, page))
            page++;
    }
    *block = (struct balloon_block){0};
}

/* The block of that number, a new one if need be; where all are in use, one makes room. */
static struct balloon_block *open_block(struct balloon *balloon, uint32_t number)
{
    struct balloon_block *unused = NULL;

    for (unsigned i = 0; i < BALLOON_BLOCKS; i++) {
        if (balloon->block[i].count == 0)
            unused = &balloon->block[i];
        else if (balloon->block[i].number == number)
            return &balloon->block[i];
    }
    if (!unused) {
        unused = &balloon->block[balloon->next_victim++ % BALLOON_BLOCKS];
        close_block(balloon, unused);
    }
    unused->number = number;
    return unused;
}

/* `block` is that of the page before, or NULL; returns that of this one. */
static struct balloon_block *add_page(struct balloon *balloon, struct balloon_block *block,
                                      uint32_t page)
{
    uint32_t number = page / BALLOON_BLOCK_PAGES, bit = page % BALLOON_BLOCK_PAGES;

    if (!block || block->number != number)
        block = open_block(balloon, number);
    if (!has_page(block, bit)) {
        block->page[bit / 64] |= UINT64_C(1) << (bit % 64);
        block->count++;
    }
    if (block->count < BALLOON_BLOCK_PAGES)
        return block;
    close_block(balloon, block);
    return NULL;
}

void balloon_flush(struct balloon *balloon)
{
    for (unsigned i = 0; i < BALLOON_BLOCKS; i++)
        if (balloon->block[i].count > 0)
            close_block(balloon, &balloon->block[i]);
}

static bool has_open_block(const struct balloon *balloon)
{
    for (unsigned i = 0; i < BALLOON_BLOCKS; i++)
        if (balloon->block[i].count > 0)
            return true;
    return false;
}

/* ---- the end of a row of requests ------------------------------------------------------------ */

static void start_timer(struct balloon *balloon)
{
    virtio_dev_op_begin(&balloon->dev);
    loop_timer_start(balloon->dev.env.loop, &balloon->flush_timer, FLUSH_NS);
}

/* At its time, or cancelled by a quiesce, which has flushed. */
static void timer_done(struct op *op, int res, bool more)
{
    struct balloon *balloon = container_of(op, struct balloon, flush_timer.op);

    (void)more;
    balloon->flush_timer.armed = false;
    virtio_dev_op_end(&balloon->dev);
    if (res != -ETIME || !has_open_block(balloon))
        return;
    if (balloon->inflating)
        start_timer(balloon);
    else
        balloon_flush(balloon);
    balloon->inflating = false;
}

void balloon_pages_init(struct balloon *balloon)
{
    balloon->flush_timer.op.done = timer_done;
}

void balloon_pages_quiesce(struct balloon *balloon)
{
    balloon_flush(balloon);
    if (balloon->flush_timer.armed)
        loop_cancel(balloon->dev.env.loop, &balloon->flush_timer.op);
}

/* ---- inflate --------------------------------------------------------------------------------- */

static void take_pages(struct balloon *balloon, const uint32_t *page, unsigned count)
{
    struct balloon_block *block = NULL;

    for (unsigned i = 0; i < count; i++)
        block = add_page(balloon, block, page[i]);
    balloon->inflating = true;
    if (!balloon_tells(balloon))
        balloon_flush(balloon);
    else if (!balloon->flush_timer.armed && has_open_block(balloon))
        start_timer(balloon);
}

/*
 * The page numbers of a request are one stream of 32-bit words, however its buffers cut it; what is
 * left over at the end counts for nothing. Doing some of them twice would do no harm: until the
 * request is returned the pages are ours.
 */
enum virtio_serve balloon_serve_inflate(struct virtio_dev *dev, unsigned q)
{
    struct balloon *balloon = to_balloon(dev);
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    uint32_t page[PAGES_MAX], done;
    struct vq_chain chain;

    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    done = (uint32_t)vq_chain_read_from(&chain, balloon->progress[q], page, sizeof(page));
    take_pages(balloon, page, done / sizeof(*page));
    if (done == sizeof(page))
        return balloon_continue_later(balloon, q, balloon->progress[q] + done);
    return balloon_return(balloon, q, chain.head);
}

/* ---- deflate --------------------------------------------------------------------------------- */

/* The guest takes pages back by touching them, after it has said so: what we have not given back of
 * them yet goes now, or it would go then. */
enum virtio_serve balloon_serve_deflate(struct virtio_dev *dev, unsigned q)
{
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;

    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    balloon_flush(to_balloon(dev));
    return balloon_return(to_balloon(dev), q, chain.head);
}
