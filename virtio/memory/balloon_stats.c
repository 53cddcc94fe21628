/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon_stats.c: what the guest says of its memory (virtio 1.3, section 5.5.6.3). The driver
 * fills one buffer and makes it available; we read it at once and keep it until new statistics are
 * wanted: its return is the question.
 */
#include "virtio/memory/balloon_parts.h"
#include "vmm/base/log.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <string.h>

/* As it lies in the buffer. */
struct stat_entry {
    uint16_t tag;
    uint64_t value;
} __attribute__((packed));

/* Far beyond the tags there are; a longer buffer is a lie that would cost us time. */
#define ENTRIES_MAX 256

/* BALLOON_ROLES, which is no queue, if the driver has none. */
static unsigned stats_queue(const struct balloon *balloon)
{
    unsigned q = 0;

    while (q < BALLOON_ROLES && balloon->role[q] != BALLOON_STATISTICS)
        q++;
    return q;
}

/* Tags that we do not know are of a later standard: passed over. */
static void take(struct balloon *balloon, const struct stat_entry *entry)
{
    if (entry->tag >= BALLOON_STATS)
        return;
    balloon->s.stat[entry->tag] = entry->value;
    balloon->s.has_stats |= 1u << entry->tag;
}

static void read_stats(struct balloon *balloon, const struct vq_chain *chain)
{
    struct stat_entry entry[ENTRIES_MAX];
    size_t len;

    if (chain->readable_len > sizeof(entry)) {
        log_warn("virtio-balloon: a buffer of statistics has %u bytes; it is not read.",
                 chain->readable_len);
        metric_add(&metrics.balloon.stats_update_fails, 1);
        return;
    }
    len = vq_chain_read(chain, entry, sizeof(entry));
    for (unsigned i = 0; i < len / sizeof(*entry); i++)
        take(balloon, &entry[i]);
    metric_add(&metrics.balloon.stats_updates_count, 1);
}

enum virtio_serve balloon_serve_stats(struct virtio_dev *dev, unsigned q)
{
    struct balloon *balloon = to_balloon(dev);
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;

    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    /* There should be one buffer only; of more we keep the last, which is what lets a quiesce give
     * it back to the queue. */
    if (balloon->stats_held)
        virtio_dev_push(dev, q, balloon->stats_head, 0);
    balloon->stats_held = true;
    balloon->stats_head = chain.head;
    read_stats(balloon, &chain);
    return VIRTIO_SERVED;
}

/* The buffer's return asks for new ones. */
static void request(struct balloon *balloon)
{
    if (!balloon->stats_held) {
        /* The driver still owes us the answer to the last question, or has never begun. */
        metric_add(&metrics.balloon.stats_update_fails, 1);
        return;
    }
    balloon->stats_held = false;
    virtio_dev_push(&balloon->dev, stats_queue(balloon), balloon->stats_head, 0);
}

/* ---- the timer ------------------------------------------------------------------------------- */

void balloon_stats_arm(struct balloon *balloon)
{
    if (balloon->stats_timer.armed)
        return;
    virtio_dev_op_begin(&balloon->dev);
    loop_timer_start(balloon->dev.env.loop, &balloon->stats_timer,
                     balloon->config.stats_interval_s * NSEC_PER_SEC);
}

/* At its time, or cancelled: for a new interval, or for a quiesce. The kick starts it again, unless
 * the device is held; then the resume does. */
static void timer_done(struct op *op, int res, bool more)
{
    struct balloon *balloon = container_of(op, struct balloon, stats_timer.op);

    (void)more;
    balloon->stats_timer.armed = false;
    virtio_dev_op_end(&balloon->dev);
    if (res == -ETIME && balloon->dev.holds == 0)
        request(balloon);
    virtio_dev_kick(&balloon->dev, stats_queue(balloon));
}

void balloon_stats_restart(struct balloon *balloon)
{
    if (!balloon->stats_timer.armed)
        return;
    request(balloon);
    loop_cancel(balloon->dev.env.loop, &balloon->stats_timer.op);
}

void balloon_stats_init(struct balloon *balloon)
{
    balloon->stats_timer.op.done = timer_done;
}

void balloon_stats_quiesce(struct balloon *balloon)
{
    if (balloon->stats_timer.armed)
        loop_cancel(balloon->dev.env.loop, &balloon->stats_timer.op);
    if (balloon->stats_held)
        virtqueue_unpop(&balloon->dev.queue[stats_queue(balloon)]);
    balloon->stats_held = false;
}
