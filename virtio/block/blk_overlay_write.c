/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_overlay_write.c: writes, discards and zeroes of drives with an overlay.
 *
 * A write goes to the top. Blocks that the top has are written in place. Blocks that it has not are
 * given to it when they are there as a whole: first what the write leaves of its first and its last
 * block is copied up from below (the gaps), then the data follow, then the blocks change hands. Two
 * that give the same block away at once would copy over each other: so a request holds its blocks
 * from the first step to the last, and whoever wants to give away one of them waits. Reads do not
 * wait: until the end the block is what it was below.
 *
 * A discard of whole blocks, and the zeroing of any sectors, is a write of zeros that are a hole.
 */
#include "virtio/block/blk_overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <sys/mman.h>

/* ---- what is written where ------------------------------------------------------------------- */

struct range {
    uint64_t start, end; /* bytes of the drive */
};

static struct range range_of(const struct blk_request *request)
{
    const struct blk_discard_segment *segment = &request->segment;
    uint64_t start = request->sector * SECTOR_SIZE;

    if (request->type == BLK_OUT)
        return (struct range){start, start + request->data_len};
    start = segment->sector * SECTOR_SIZE;
    return (struct range){start, start + (uint64_t)segment->sectors * SECTOR_SIZE};
}

static uint64_t first_block(const struct range *range)
{
    return range->start / LAYER_BLOCK;
}

static uint64_t last_block(const struct range *range)
{
    return (range->end - 1) / LAYER_BLOCK;
}

/* What a write leaves of its first block, or of its last, if the top has not got that. */
static struct range gap_of(const struct overlay *overlay, const struct range *range, bool before)
{
    struct range gap =
        before ? (struct range){align_down(range->start, LAYER_BLOCK), range->start}
               : (struct range){range->end, MIN(align_up(range->end, LAYER_BLOCK), overlay->size)};
    uint64_t block = before ? first_block(range) : last_block(range);

    if (gap.start < gap.end && overlay_has(overlay, block, block))
        gap.end = gap.start;
    return gap;
}

static bool has_gaps(const struct overlay *overlay, const struct range *range)
{
    struct range before = gap_of(overlay, range, true), after = gap_of(overlay, range, false);

    return before.start < before.end || after.start < after.end;
}

static bool is_held(const struct blk *blk, uint64_t first, uint64_t last)
{
    for (struct blk_slot *slot = blk->holders; slot; slot = blk_copy_of(slot)->next) {
        const struct blk_copy *copy = blk_copy_of(slot);

        if (first <= copy->last && copy->first <= last)
            return true;
    }
    return false;
}

static enum blk_status take_blocks(struct blk *blk, struct blk_request *request, uint64_t first,
                                   uint64_t last)
{
    int rc = overlay_take(blk->overlay, first, last);

    return rc ? blk_overlay_fail(blk, request, rc) : BLK_S_OK;
}

/* ---- data into the top ----------------------------------------------------------------------- */

static void zero_memory(uint8_t *at, uint64_t len)
{
    uint64_t head = MIN(len, -(uintptr_t)at % PAGE_SIZE), pages = align_down(len - head, PAGE_SIZE);

    memset(at, 0, head);
    if (pages > 0 && madvise(at + head, pages, MADV_DONTNEED) < 0)
        memset(at + head, 0, pages);
    memset(at + head + pages, 0, len - head - pages);
}

static void write_memory(struct blk *blk, struct blk_request *request, const struct range *range)
{
    uint8_t *at = overlay_top(blk->overlay, range->start, range->end - range->start).memory;

    if (request->type != BLK_OUT) {
        zero_memory(at, range->end - range->start);
        return;
    }
    for (unsigned i = 0; i < request->count; i++) {
        memcpy(at, request->iov[i].iov_base, request->iov[i].iov_len);
        at += request->iov[i].iov_len;
    }
    blk->turn_bytes += request->left;
    blk_io_advance(request, request->left);
}

static enum blk_status write_plain(struct blk *blk, struct blk_request *request)
{
    struct overlay_place top = overlay_top(blk->overlay, request->offset, request->left);
    ssize_t n = pwritev(top.file->fd, request->iov, (int)request->count, (off_t)top.offset);
    enum blk_status status = blk_io_judge(blk, request, n < 0 ? -errno : (int)n);

    blk->turn_bytes += request->data_len - request->left;
    return status;
}

/* Whether it can be done at once; then *status is what it comes to, PENDING if a part is left. */
static bool try_at_once(struct blk *blk, struct blk_request *request, const struct range *range,
                        enum blk_status *status)
{
    uint64_t first = first_block(range), last = last_block(range);
    bool has = overlay_has(blk->overlay, first, last);
    bool small = blk->config.engine == BLK_ENGINE_SYNC && request->type == BLK_OUT &&
                 request->left <= BLK_PLAIN_WRITE_MAX;

    if (!has && (has_gaps(blk->overlay, range) || is_held(blk, first, last)))
        return false;
    if (blk->overlay->memory) {
        write_memory(blk, request, range);
        *status = BLK_S_OK;
    } else if (small) {
        *status = write_plain(blk, request);
    } else {
        return false;
    }
    if (*status == BLK_S_OK && !has)
        *status = take_blocks(blk, request, first, last);
    return true;
}

static void submit_data(struct blk_slot *slot, const struct range *range)
{
    struct blk_request *request = &slot->request;
    struct loop *loop = slot->blk->dev.env.loop;
    struct overlay_place top = overlay_top(slot->blk->overlay, range->start, 0);

    if (request->type == BLK_OUT)
        loop_writev(loop, &slot->op, top.file->fd, request->iov, request->count,
                    top.offset + request->offset - range->start);
    else
        loop_fallocate(loop, &slot->op, top.file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       top.offset, range->end - range->start);
}

static enum blk_status data_done(struct blk_slot *slot)
{
    const struct blk_copy *copy = blk_copy_of(slot);

    if (!copy->holds)
        return BLK_S_OK;
    return take_blocks(slot->blk, &slot->request, copy->first, copy->last);
}

static enum blk_status move_data(struct blk_slot *slot)
{
    struct range range = range_of(&slot->request);

    if (!slot->blk->overlay->memory) {
        submit_data(slot, &range);
        return BLK_S_PENDING;
    }
    write_memory(slot->blk, &slot->request, &range);
    return data_done(slot);
}

/* ---- gaps ------------------------------------------------------------------------------------ */

/* Where a gap is copied to: at once to its place in memory; else to a block of the slot's. */
static uint8_t *gap_buffer(const struct blk_slot *slot, const struct range *gap)
{
    struct overlay_place top = overlay_top(slot->blk->overlay, gap->start, 0);

    return top.memory ? top.memory : slot->blk->copies->block[blk_io_slot_number(slot)];
}

/* False = the ring reads the rest. */
static bool read_gap(struct blk_slot *slot, const struct range *gap)
{
    struct blk_copy *copy = blk_copy_of(slot);
    struct overlay_place below = overlay_find(slot->blk->overlay, gap->start + copy->done,
                                              gap->end - gap->start - copy->done);
    size_t n;

    copy->gap = (struct iovec){gap_buffer(slot, gap) + copy->done, below.len};
    n = blk_file_read_cached(below.file, &copy->gap, 1, below.offset, below.len);
    copy->done += (uint32_t)n;
    if (n == below.len)
        return true;
    copy->gap = (struct iovec){(uint8_t *)copy->gap.iov_base + n, below.len - n};
    loop_readv(slot->blk->dev.env.loop, &slot->op, below.file->fd, &copy->gap, 1, below.offset + n);
    return false;
}

static void write_gap(struct blk_slot *slot, const struct range *gap)
{
    struct blk_copy *copy = blk_copy_of(slot);
    struct overlay_place top = overlay_top(slot->blk->overlay, gap->start + copy->done, 0);

    copy->gap =
        (struct iovec){gap_buffer(slot, gap) + copy->done, gap->end - gap->start - copy->done};
    loop_writev(slot->blk->dev.env.loop, &slot->op, top.file->fd, &copy->gap, 1, top.offset);
}

/* One step of a copy from below; false = it waits for the ring. */
static bool copy_step(struct blk_slot *slot)
{
    struct blk_copy *copy = blk_copy_of(slot);
    struct range range = range_of(&slot->request);
    struct range gap = gap_of(slot->blk->overlay, &range, copy->step <= WRITE_BEFORE);
    bool reads = copy->step == READ_BEFORE || copy->step == READ_AFTER;

    if (!reads && slot->blk->overlay->memory)
        return true;
    if (copy->done == gap.end - gap.start)
        return true;
    if (reads)
        return read_gap(slot, &gap);
    write_gap(slot, &gap);
    return false;
}

/* ---- writes that take more than one step ----------------------------------------------------- */

static enum blk_status write_on(struct blk_slot *slot)
{
    struct blk_copy *copy = blk_copy_of(slot);

    for (; copy->step < MOVE_DATA; copy->step++) {
        if (!copy_step(slot))
            return BLK_S_PENDING;
        copy->done = 0;
    }
    return move_data(slot);
}

static void wake(struct blk *blk);

static void let_go(struct blk_slot *slot)
{
    struct blk_slot **link = &slot->blk->holders;

    while (*link != slot)
        link = &blk_copy_of(*link)->next;
    *link = blk_copy_of(slot)->next;
    slot->blk->has_let_go = true;
}

static void end_write(struct blk_slot *slot, enum blk_status status)
{
    struct blk *blk = slot->blk;

    if (blk_copy_of(slot)->holds)
        let_go(slot);
    blk_io_end_slot(slot, status);
    wake(blk);
}

static void start_slot(struct blk_slot *slot)
{
    struct blk *blk = slot->blk;
    struct blk_copy *copy = blk_copy_of(slot);
    struct range range = range_of(&slot->request);
    enum blk_status status;

    *copy = (struct blk_copy){.first = first_block(&range), .last = last_block(&range)};
    copy->step = MOVE_DATA;
    if (!overlay_has(blk->overlay, copy->first, copy->last)) {
        if (is_held(blk, copy->first, copy->last)) {
            blk_overlay_append(&blk->waiting, slot);
            return;
        }
        copy->holds = true;
        copy->step = READ_BEFORE;
        copy->next = blk->holders;
        blk->holders = slot;
    }
    status = write_on(slot);
    if (status != BLK_S_PENDING)
        end_write(slot, status);
}

/* Somebody has let go of blocks: who waits tries again. What that ends comes here too, and leaves
 * it to the one who is here already. */
static void wake(struct blk *blk)
{
    if (blk->is_waking)
        return;
    blk->is_waking = true;
    while (blk->has_let_go) {
        struct blk_slot *list = blk->waiting, *next;

        blk->has_let_go = false;
        blk->waiting = NULL;
        for (; list; list = next) {
            next = blk_copy_of(list)->next;
            start_slot(list);
        }
    }
    blk->is_waking = false;
}

void blk_overlay_write_done(struct blk_slot *slot, int res)
{
    struct blk_copy *copy = blk_copy_of(slot);
    enum blk_status status = BLK_S_PENDING;

    if (copy->step == MOVE_DATA)
        status = blk_io_judge(slot->blk, &slot->request, res);
    else if (res > 0)
        copy->done += (uint32_t)MIN((size_t)res, copy->gap.iov_len);
    else
        status = blk_io_judge(slot->blk, &slot->request, res ? res : -EIO);
    if (status == BLK_S_OK)
        status = data_done(slot);
    else if (status == BLK_S_PENDING)
        status = write_on(slot);
    if (status != BLK_S_PENDING)
        end_write(slot, status);
}

enum blk_status blk_overlay_write(struct blk *blk, struct blk_request *request)
{
    struct range range = range_of(request);
    enum blk_status status;

    if (try_at_once(blk, request, &range, &status) && status != BLK_S_PENDING)
        return status;
    start_slot(blk_io_take_slot(blk, request));
    return BLK_S_PENDING;
}

enum blk_status blk_overlay_discard(struct blk *blk, struct blk_request *request)
{
    struct range range = range_of(request);

    if (request->type == BLK_DISCARD) { /* of parts of blocks nothing is promised */
        range.start = align_up(range.start, LAYER_BLOCK);
        if (range.end != blk->overlay->size)
            range.end = align_down(range.end, LAYER_BLOCK);
        if (range.start >= range.end)
            return BLK_S_OK;
        request->segment.sector = range.start / SECTOR_SIZE;
        request->segment.sectors = (uint32_t)((range.end - range.start) / SECTOR_SIZE);
    }
    return blk_overlay_write(blk, request);
}
