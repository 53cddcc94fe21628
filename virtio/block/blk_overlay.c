/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_overlay.c: reads and flushes of drives with an overlay (overlay.h); writes have a file of
 * their own.
 *
 * A read is moved run by run, a run being what lies in one place: memory is copied, a file is read
 * as blk_io.c reads one. Mostly there is one run, and all is as without overlay.
 */
#include "virtio/block/blk_overlay.h"

#include <errno.h>
#include <string.h>

#include <sys/mman.h>

/* ---- shared with writes ---------------------------------------------------------------------- */

static struct blk_slot **last_link(struct blk_slot **list)
{
    while (*list)
        list = &blk_copy_of(*list)->next;
    return list;
}

void blk_overlay_append(struct blk_slot **list, struct blk_slot *slot)
{
    blk_copy_of(slot)->next = NULL;
    *last_link(list) = slot;
}

enum blk_status blk_overlay_fail(struct blk *blk, struct blk_request *request, int rc)
{
    enum blk_status status = blk_io_judge(blk, request, rc);

    return status == BLK_S_PENDING ? BLK_S_IOERR : status;
}

/* ---- reads ----------------------------------------------------------------------------------- */

/* Shortens the request's data to their first `len` bytes: the segments that are left. */
static unsigned cut_off(struct blk_request *request, uint64_t len, size_t *cut)
{
    unsigned i = 0;

    *cut = 0;
    if (len == request->left)
        return request->count;
    for (; len > request->iov[i].iov_len; i++)
        len -= request->iov[i].iov_len;
    *cut = request->iov[i].iov_len - len;
    request->iov[i].iov_len = len;
    return i + 1;
}

static void put_back(struct blk_request *request, unsigned segments, size_t cut)
{
    request->iov[segments - 1].iov_len += cut;
}

static void scatter(const struct blk_request *request, const uint8_t *from, size_t len)
{
    for (unsigned i = 0; len > 0; i++) {
        size_t n = MIN(len, request->iov[i].iov_len);

        memcpy(request->iov[i].iov_base, from, n);
        from += n;
        len -= n;
    }
}

/* Moves what can be had at once of what lies in one place. */
static size_t read_run(const struct overlay_place *place, struct blk_request *request)
{
    unsigned segments;
    size_t cut, n;

    if (place->memory) {
        scatter(request, place->memory, place->len);
        return place->len;
    }
    segments = cut_off(request, place->len, &cut);
    n = blk_file_read_cached(place->file, request->iov, segments, place->offset, place->len);
    put_back(request, segments, cut);
    return n;
}

static void submit_read(struct blk_slot *slot)
{
    struct blk_request *request = &slot->request;
    struct overlay_place place = overlay_find(slot->blk->overlay, request->offset, request->left);
    struct blk_copy *copy = blk_copy_of(slot);

    copy->segments = cut_off(request, place.len, &copy->cut);
    loop_readv(slot->blk->dev.env.loop, &slot->op, place.file->fd, request->iov, copy->segments,
               place.offset);
}

/* slot NULL = the request has none yet. */
static enum blk_status read_on(struct blk *blk, struct blk_request *request, struct blk_slot *slot)
{
    while (request->left > 0) {
        struct overlay_place place = overlay_find(blk->overlay, request->offset, request->left);
        size_t n = read_run(&place, request);

        blk->turn_bytes += n;
        blk_io_advance(request, n);
        if (n == place.len)
            continue;
        submit_read(slot ? slot : blk_io_take_slot(blk, request));
        return BLK_S_PENDING;
    }
    return BLK_S_OK;
}

enum blk_status blk_overlay_read(struct blk *blk, struct blk_request *request)
{
    return read_on(blk, request, NULL);
}

static void read_done(struct blk_slot *slot, int res)
{
    struct blk_request *request = &slot->request;
    enum blk_status status;

    put_back(request, blk_copy_of(slot)->segments, blk_copy_of(slot)->cut);
    status = blk_io_judge(slot->blk, request, res);
    if (status == BLK_S_PENDING)
        status = read_on(slot->blk, request, slot);
    if (status != BLK_S_PENDING)
        blk_io_end_slot(slot, status);
}

/* ---- flushes --------------------------------------------------------------------------------- */

static void sync_top(struct blk_slot *slot)
{
    loop_fsync(slot->blk->dev.env.loop, &slot->op, slot->blk->overlay->file.file.fd, true);
}

static void start_flush(struct blk_slot *slot)
{
    struct blk_copy *copy = blk_copy_of(slot);

    copy->step = FLUSH_DATA;
    copy->has_bits = overlay_flush_begin(slot->blk->overlay);
    sync_top(slot);
}

/* The bits follow their data. True = this flush has one more step. */
static bool flush_on(struct blk_slot *slot, enum blk_status *status)
{
    struct blk_copy *copy = blk_copy_of(slot);
    int rc;

    if (copy->step == FLUSH_BITS || !copy->has_bits)
        return false;
    rc = overlay_flush_write(slot->blk->overlay);
    if (rc) {
        *status = blk_overlay_fail(slot->blk, &slot->request, rc);
        return false;
    }
    copy->step = FLUSH_BITS;
    sync_top(slot);
    return true;
}

static void flush_done(struct blk_slot *slot, int res)
{
    struct blk *blk = slot->blk;
    enum blk_status status = blk_io_judge(blk, &slot->request, res);

    if (status == BLK_S_PENDING) {
        sync_top(slot);
        return;
    }
    if (status == BLK_S_OK && flush_on(slot, &status))
        return;
    overlay_flush_end(blk->overlay, status == BLK_S_OK ? 0 : -EIO);
    blk->flushes = blk_copy_of(slot)->next;
    blk_io_end_slot(slot, status);
    if (blk->flushes)
        start_flush(blk->flushes);
}

enum blk_status blk_overlay_flush(struct blk *blk, const struct blk_request *request)
{
    struct blk_slot *slot;

    if (blk->overlay->memory)
        return BLK_S_OK;
    slot = blk_io_take_slot(blk, request);
    blk_overlay_append(&blk->flushes, slot);
    if (blk->flushes == slot)
        start_flush(slot);
    return BLK_S_PENDING;
}

/* ---- completions, and the room --------------------------------------------------------------- */

void blk_overlay_done(struct blk_slot *slot, int res)
{
    if (slot->request.type == BLK_IN)
        read_done(slot, res);
    else if (slot->request.type == BLK_FLUSH)
        flush_done(slot, res);
    else
        blk_overlay_write_done(slot, res);
}

int blk_overlay_prepare(struct blk *blk)
{
    void *copies;

    if (blk->copies)
        return 0;
    copies = mmap(NULL, sizeof(*blk->copies), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (copies == MAP_FAILED)
        return -errno;
    madvise(copies, sizeof(*blk->copies), MADV_NOHUGEPAGE); /* a refusal does not matter */
    blk->copies = copies;
    return 0;
}

void blk_overlay_free(struct blk *blk)
{
    if (blk->copies)
        munmap(blk->copies, sizeof(*blk->copies));
    blk->copies = NULL;
}
