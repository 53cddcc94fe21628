/* SPDX-License-Identifier: Apache-2.0 */
/* balloon_pages.c: pages that the guest puts into the balloon, and takes out of it again. */
#include "virtio/memory/balloon_parts.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

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

/* ---- ranges ---------------------------------------------------------------------------------- */

static uint64_t end_of(struct balloon_run run)
{
    return (uint64_t)run.first + run.count;
}

/* Whether `page` continues the run at either end; then it is added. Linux's allocator hands pages
 * out in both directions. */
static bool grow(struct balloon_run *run, uint32_t page)
{
    if (page == end_of(*run)) {
        run->count++;
        return true;
    }
    if (run->first > 0 && page == run->first - 1) {
        run->first--;
        run->count++;
        return true;
    }
    return false;
}

/* By insertion: there are few, and where there are many, each costs a system call afterwards that
 * is dearer than its way to its place. */
static void sort(struct balloon_run *run, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        struct balloon_run moved = run[i];
        unsigned to = i;

        for (; to > 0 && run[to - 1].first > moved.first; to--)
            run[to] = run[to - 1];
        run[to] = moved;
    }
}

/* Makes one of sorted runs that touch or overlap. */
static unsigned join(struct balloon_run *run, unsigned count)
{
    unsigned last = 0;

    for (unsigned i = 1; i < count; i++) {
        if (run[i].first > end_of(run[last])) {
            run[++last] = run[i];
            continue;
        }
        if (end_of(run[i]) > end_of(run[last]))
            run[last].count = (uint32_t)(end_of(run[i]) - run[last].first);
    }
    return count ? last + 1 : 0;
}

unsigned balloon_merge(const uint32_t *page, unsigned count, struct balloon_run *run)
{
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++) {
        if (n == 0 || !grow(&run[n - 1], page[i]))
            run[n++] = (struct balloon_run){.first = page[i], .count = 1};
    }
    sort(run, n);
    return join(run, n);
}

/* ---- inflate --------------------------------------------------------------------------------- */

uint32_t balloon_copy(const struct vq_chain *chain, uint64_t skip, void *to, uint32_t room)
{
    uint32_t done = 0;

    for (unsigned i = 0; i < chain->n_readable && done < room; i++) {
        const struct iovec *iov = &chain->iov[i];

        if (skip < iov->iov_len) {
            uint32_t n = (uint32_t)MIN(iov->iov_len - skip, room - done);

            memcpy((char *)to + done, (const char *)iov->iov_base + skip, n);
            done += n;
        }
        skip -= MIN(skip, iov->iov_len);
    }
    /* A compiler's barrier: what is judged is the copy, never guest memory read a second time. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return done;
}

/* A page that is no memory is the guest's own affair: nobody has it, and nothing is given back. */
static void discard_pages(struct balloon *balloon, const uint32_t *page, unsigned count)
{
    struct balloon_run run[PAGES_MAX];
    unsigned n = balloon_merge(page, count, run);

    for (unsigned i = 0; i < n; i++) {
        uint64_t len = (uint64_t)run[i].count << BALLOON_PAGE_SHIFT;
        gpa_t gpa = GPA((uint64_t)run[i].first << BALLOON_PAGE_SHIFT);
        void *at = mem_writable(balloon->dev.env.mem, gpa, len);

        if (!at || !balloon_discard(balloon, at, len))
            metric_add(&metrics.balloon.event_fails, 1);
    }
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
    done = balloon_copy(&chain, balloon->progress[q], page, sizeof(page));
    discard_pages(balloon, page, done / sizeof(*page));
    if (done == sizeof(page))
        return balloon_continue_later(balloon, q, balloon->progress[q] + done);
    return balloon_return(balloon, q, chain.head);
}

/* ---- deflate --------------------------------------------------------------------------------- */

/* The guest takes pages back by touching them; it only says so. */
enum virtio_serve balloon_serve_deflate(struct virtio_dev *dev, unsigned q)
{
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;

    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    virtio_dev_push(dev, q, chain.head, 0);
    return VIRTIO_SERVED;
}
