/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon_hints.c: memory that the guest does not use just now.
 *
 * Reporting (virtio 1.3, section 5.5.6.7): all the time, the driver sets free pages aside, sends
 * them, and uses them again when their request has been returned.
 *
 * Hinting (section 5.5.6.6): in runs that the host starts by writing a number into the
 * configuration space. The driver sends that number, then free pages, then STOP; it keeps the pages
 * for itself until the host writes DONE. Pages of a run that is no longer the host's are left
 * alone: the driver may be using them. (Linux takes pages of a run back before DONE when it is
 * short of memory, even out of requests that we have not seen yet. Then a page may be emptied under
 * it: do not start runs in a guest without free memory.)
 */
#include "virtio/memory/balloon_parts.h"
#include "vmm/base/metrics.h"

#include <errno.h>

/* At most so much of a buffer at once. A multiple of every size of a page. */
#define PIECE_BYTES (32 * MIB)

/* Which counters a queue's pages have. */
struct counters {
    uint64_t *count, *freed, *fails;
};

static void discard_piece(struct balloon *balloon, const struct counters *counters, void *at,
                          uint64_t len)
{
    if (balloon_discard(balloon, at, len))
        metric_add(counters->freed, len);
    else
        metric_add(counters->fails, 1);
}

/*
 * Gives the writable buffers of a request back to the host, from byte progress[q] on, as far as the
 * turn's budget goes. Returns how far it came: all of chain->writable_len, or less.
 */
static uint32_t discard_buffers(struct balloon *balloon, unsigned q, const struct vq_chain *chain,
                                const struct counters *counters)
{
    uint64_t begin = 0, done = balloon->progress[q];

    for (unsigned i = 0; i < chain->n_writable; i++) {
        const struct iovec *iov = &chain->iov[chain->n_readable + i];
        uint64_t end = begin + iov->iov_len;

        if (done == begin)
            metric_add(counters->count, 1);
        while (done < end && balloon->budget > 0) {
            uint64_t len = MIN(end - done, PIECE_BYTES);

            discard_piece(balloon, counters, (char *)iov->iov_base + (done - begin), len);
            done += len;
        }
        begin = end;
    }
    return (uint32_t)done;
}

/* The end of every request: its pages, and back with it. */
static enum virtio_serve finish(struct balloon *balloon, unsigned q, const struct vq_chain *chain,
                                const struct counters *counters)
{
    uint32_t done = discard_buffers(balloon, q, chain, counters);

    if (done < chain->writable_len)
        return balloon_continue_later(balloon, q, done);
    return balloon_return(balloon, q, chain->head);
}

/* ---- reporting ------------------------------------------------------------------------------- */

enum virtio_serve balloon_serve_reports(struct virtio_dev *dev, unsigned q)
{
    static const struct counters counters = {
        .count = &metrics.balloon.free_page_report_count,
        .freed = &metrics.balloon.free_page_report_freed,
        .fails = &metrics.balloon.free_page_report_fails,
    };
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;

    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    return finish(to_balloon(dev), q, &chain, &counters);
}

/* ---- hinting --------------------------------------------------------------------------------- */

/* Whether the driver is in the run that the host wants. */
static bool in_run(const struct balloon *balloon)
{
    return balloon->s.hint_cmd > BALLOON_HINT_DONE && balloon->s.has_guest_cmd &&
           balloon->s.guest_cmd == balloon->s.hint_cmd;
}

static void command(struct balloon *balloon, uint32_t cmd)
{
    bool ends = in_run(balloon) && cmd <= BALLOON_HINT_DONE;

    balloon->s.guest_cmd = cmd;
    balloon->s.has_guest_cmd = true;
    if (ends && balloon->s.acknowledge) {
        balloon->s.hint_cmd = BALLOON_HINT_DONE;
        virtio_dev_config_changed(&balloon->dev);
    }
}

enum virtio_serve balloon_serve_hints(struct virtio_dev *dev, unsigned q)
{
    static const struct counters counters = {
        .count = &metrics.balloon.free_page_hint_count,
        .freed = &metrics.balloon.free_page_hint_freed,
        .fails = &metrics.balloon.free_page_hint_fails,
    };
    struct balloon *balloon = to_balloon(dev);
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;
    uint32_t cmd;

    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    if (chain.readable_len == sizeof(cmd) && vq_chain_read(&chain, &cmd, sizeof(cmd)))
        command(balloon, cmd);
    if (!in_run(balloon))
        return balloon_return(balloon, q, chain.head);
    return finish(balloon, q, &chain, &counters);
}

void balloon_hints_forget(struct balloon *balloon)
{
    balloon->s.has_guest_cmd = false;
    balloon->s.guest_cmd = 0;
    if (balloon->s.hint_cmd > BALLOON_HINT_DONE) {
        balloon->s.hint_cmd = BALLOON_HINT_DONE;
        virtio_dev_config_changed(&balloon->dev);
    }
}

static int check_hinting(const struct balloon *balloon, struct err *e)
{
    if (!balloon->config.free_page_hinting)
        return err_set(e, -EINVAL, "Balloon: Attempting to use hinting when not enabled");
    return 0;
}

/* A command of the host's, which the driver reads after the interrupt. */
static int set_command(struct balloon *balloon, uint32_t cmd, struct err *e)
{
    if (!balloon->dev.active)
        return err_set(e, -EINVAL, "Balloon: Device not activated yet.");
    balloon->s.hint_cmd = cmd;
    virtio_dev_config_changed(&balloon->dev);
    return 0;
}

int balloon_hinting_start(struct balloon *balloon, bool acknowledge_on_stop, struct err *e)
{
    uint32_t run = MAX(balloon->s.last_run + 1, BALLOON_HINT_DONE + 1); /* never STOP nor DONE */
    int rc = check_hinting(balloon, e);

    if (rc == 0)
        rc = set_command(balloon, run, e);
    if (rc)
        return rc;
    balloon->s.last_run = run;
    balloon->s.acknowledge = acknowledge_on_stop;
    return 0;
}

int balloon_hinting_stop(struct balloon *balloon, struct err *e)
{
    int rc = check_hinting(balloon, e);

    return rc ? rc : set_command(balloon, BALLOON_HINT_DONE, e);
}

int balloon_hinting_status(struct balloon *balloon, struct balloon_hinting_status *status,
                           struct err *e)
{
    int rc = check_hinting(balloon, e);

    if (rc)
        return rc;
    *status = (struct balloon_hinting_status){
        .host_cmd = balloon->s.hint_cmd,
        .guest_cmd = balloon->s.guest_cmd,
        .has_guest_cmd = balloon->s.has_guest_cmd,
    };
    return 0;
}
