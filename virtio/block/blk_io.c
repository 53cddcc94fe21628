/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_io.c: the requests of the block device (virtio 1.3, section 5.2.6). A request is a 16-byte
 * header, data in one direction, and a status byte at the very end, cut into buffers in any way the
 * driver likes.
 *
 * It is served at once, on the loop thread, where that is proven not to wait for the disk: a read
 * that is in the page cache, and with the Sync engine a write of at most 64 KiB into the page
 * cache. The rest goes through the ring, in any order: a slot holds such a request until its
 * completion. A driver that needs order waits for completions, and a FLUSH covers what was complete
 * before it, so we order nothing.
 */
#include "virtio/block/blk_io.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include <sys/mman.h>

struct request_header {
    uint32_t type, reserved;
    uint64_t sector;
};

/*
 * One mapping, made by the first activation: an array and a slot for each entry of the queue. They
 * are handed out from the start and then from free lists, latest first, so that pages are touched
 * only as far as there ever were requests in flight.
 */
struct blk_arena {
    union blk_segments segments[VIRTQUEUE_SIZE_MAX];
    struct blk_slot slot[VIRTQUEUE_SIZE_MAX];
};

/* ---- chains ---------------------------------------------------------------------------------- */

/* Takes the last byte off an array of buffers that has one. */
static uint8_t *take_last(struct iovec *iov, unsigned *count)
{
    struct iovec *last = &iov[*count - 1];

    last->iov_len--;
    if (last->iov_len == 0)
        (*count)--;
    return (uint8_t *)last->iov_base + last->iov_len;
}

bool blk_io_parse(struct vq_chain *chain, struct blk_request *request)
{
    struct iovec *readable = chain->iov, *writable = chain->iov + chain->n_readable;
    unsigned n_readable = chain->n_readable, n_writable = chain->n_writable;
    struct request_header header;

    if (chain->writable_len == 0 ||
        vq_take_front(&readable, &n_readable, &header, sizeof(header)) < sizeof(header))
        return false;
    *request = (struct blk_request){.type = header.type,
                                    .head = chain->head,
                                    .sector = header.sector,
                                    .writable_len = chain->writable_len};
    request->status = take_last(writable, &n_writable);
    if (header.type == BLK_IN || header.type == BLK_GET_ID) {
        request->iov = writable;
        request->count = n_writable;
        request->data_len = chain->writable_len - 1;
    } else {
        request->iov = readable;
        request->count = n_readable;
        request->data_len = chain->readable_len - (uint32_t)sizeof(header);
    }
    request->left = request->data_len;
    if (header.type == BLK_DISCARD || header.type == BLK_WRITE_ZEROES)
        (void)vq_take_front(&readable, &n_readable, &request->segment, sizeof(request->segment));
    return true;
}

/* ---- slots ----------------------------------------------------------------------------------- */

static void slot_done(struct op *op, int res, bool more);

static union blk_segments *take_segments(struct blk *blk)
{
    union blk_segments *segments = blk->free_segments;

    if (!segments)
        return &blk->arena->segments[blk->segments_used++];
    blk->free_segments = segments->next_free;
    return segments;
}

/* There is always a free one: the queue has no more chains in flight than entries. */
struct blk_slot *blk_io_take_slot(struct blk *blk, const struct blk_request *request)
{
    struct blk_slot *slot = blk->free_slots;

    if (slot) {
        blk->free_slots = slot->next_free;
    } else {
        BUG_ON(blk->slots_used == VIRTQUEUE_SIZE_MAX);
        slot = &blk->arena->slot[blk->slots_used++];
        slot->blk = blk;
        slot->op.done = slot_done;
    }
    slot->many = request->count > BLK_SLOT_SEGMENTS ? take_segments(blk) : NULL;
    slot->request = *request;
    slot->request.iov = slot->many ? slot->many->iov : slot->few;
    memcpy(slot->request.iov, request->iov, request->count * sizeof(struct iovec));
    virtio_dev_op_begin(&blk->dev);
    return slot;
}

unsigned blk_io_slot_number(const struct blk_slot *slot)
{
    return (unsigned)(slot - slot->blk->arena->slot);
}

static void give_slot(struct blk_slot *slot)
{
    struct blk *blk = slot->blk;

    if (slot->many) {
        slot->many->next_free = blk->free_segments;
        blk->free_segments = slot->many;
    }
    slot->next_free = blk->free_slots;
    blk->free_slots = slot;
}

/* ---- the end of a request -------------------------------------------------------------------- */

static void count_transfer(struct blk *blk, const struct blk_request *request)
{
    struct metrics_block *m = &blk->metrics;
    uint64_t now = now_ns(), ns = now - request->started_ns;

    blk->clock_ns = now;
    if (request->type == BLK_IN) {
        metric_add(&m->read_count, 1);
        metric_add(&m->read_bytes, request->data_len);
        metric_agg_add(&m->read_agg, ns);
    } else {
        metric_add(&m->write_count, 1);
        metric_add(&m->write_bytes, request->data_len);
        metric_agg_add(&m->write_agg, ns);
    }
}

static void count_end(struct blk *blk, const struct blk_request *request, uint8_t status)
{
    if (status != BLK_S_OK)
        metric_add(&blk->metrics.invalid_reqs_count, 1);
    else if (request->type == BLK_IN || request->type == BLK_OUT)
        count_transfer(blk, request);
    else if (request->type == BLK_FLUSH)
        metric_add(&blk->metrics.flush_count, 1);
}

/* Bytes written from the start of the chain's writable part without a gap; the status byte is its
 * last. */
static uint32_t written(const struct blk_request *request)
{
    bool fills = request->type == BLK_IN || request->type == BLK_GET_ID;
    uint32_t data = fills ? request->data_len - request->left : 0;

    return data + 1 == request->writable_len ? data + 1 : data;
}

static void finish(struct blk *blk, const struct blk_request *request, uint8_t status)
{
    *request->status = status;
    count_end(blk, request, status);
    virtio_dev_push(&blk->dev, BLK_QUEUE, request->head, written(request));
}

/* ---- through the ring ------------------------------------------------------------------------ */

static int fallocate_mode(const struct blk_request *request)
{
    if (request->type == BLK_WRITE_ZEROES && !(request->segment.flags & BLK_DISCARD_UNMAP))
        return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

static void submit(struct blk_slot *slot)
{
    const struct blk_request *request = &slot->request;
    struct blk *blk = slot->blk;
    struct loop *loop = blk->dev.env.loop;
    int fd = blk->file.fd;

    switch (request->type) {
    case BLK_IN:
        loop_readv(loop, &slot->op, fd, request->iov, request->count, request->offset);
        break;
    case BLK_OUT:
        loop_writev(loop, &slot->op, fd, request->iov, request->count, request->offset);
        break;
    case BLK_FLUSH:
        loop_fsync(loop, &slot->op, fd, true);
        break;
    default:
        loop_fallocate(loop, &slot->op, fd, fallocate_mode(request), request->offset,
                       (uint64_t)request->segment.sectors * SECTOR_SIZE);
        break;
    }
}

static enum blk_status through_ring(struct blk *blk, const struct blk_request *request)
{
    submit(blk_io_take_slot(blk, request));
    return BLK_S_PENDING;
}

void blk_io_advance(struct blk_request *request, size_t len)
{
    request->left -= (uint32_t)len;
    request->offset += len;
    while (len > 0 && len >= request->iov->iov_len) {
        len -= request->iov->iov_len;
        request->iov++;
        request->count--;
    }
    if (len > 0) {
        request->iov->iov_base = (uint8_t *)request->iov->iov_base + len;
        request->iov->iov_len -= len;
    }
}

static const char *verb_of(const struct blk_request *request)
{
    switch (request->type) {
    case BLK_IN:
        return "reading";
    case BLK_OUT:
        return "writing";
    case BLK_FLUSH:
        return "flushing";
    default:
        return "discarding";
    }
}

static enum blk_status failed(struct blk *blk, const struct blk_request *request, int res)
{
    log_error("Drive %s: %s at byte %" PRIu64 " failed: %s", blk->config.id, verb_of(request),
              request->offset, res < 0 ? err_os(res) : "the file ends there");
    return BLK_S_IOERR;
}

enum blk_status blk_io_judge(struct blk *blk, struct blk_request *request, int res)
{
    if ((res == -EINTR || res == -EAGAIN) && request->again++ < BLK_AGAIN_MAX)
        return BLK_S_PENDING;
    if (res == -EOPNOTSUPP && fallocate_mode(request) & FALLOC_FL_ZERO_RANGE) {
        request->segment.flags |= BLK_DISCARD_UNMAP; /* a hole reads as zeros too */
        return BLK_S_PENDING;
    }
    if (res == -EOPNOTSUPP && request->type != BLK_IN && request->type != BLK_OUT)
        return BLK_S_UNSUPP;
    if (res < 0)
        return failed(blk, request, res);
    if (request->type != BLK_IN && request->type != BLK_OUT)
        return BLK_S_OK;
    if (res == 0)
        return failed(blk, request, res);
    blk_io_advance(request, MIN((uint32_t)res, request->left));
    return request->left > 0 ? BLK_S_PENDING : BLK_S_OK;
}

static int plain_write(struct blk *blk, const struct blk_request *request)
{
    ssize_t n = pwritev(blk->file.fd, request->iov, (int)request->count, (off_t)request->offset);

    return n < 0 ? -errno : (int)n;
}

/*
 * A write beyond the limit of a file's size (RLIMIT_FSIZE) is SIGXFSZ for whoever makes it. A
 * worker of the ring never notices; users of the Sync engine know that it ends the monitor.
 */
static bool wants_signal(const struct blk *blk, const struct blk_request *request, int res)
{
    return res == -EFBIG && request->type == BLK_OUT && blk->config.engine == BLK_ENGINE_SYNC;
}

void blk_io_end_slot(struct blk_slot *slot, enum blk_status status)
{
    finish(slot->blk, &slot->request, (uint8_t)status);
    give_slot(slot);
    virtio_dev_op_end(&slot->blk->dev);
}

static void slot_done(struct op *op, int res, bool more)
{
    struct blk_slot *slot = container_of(op, struct blk_slot, op);
    enum blk_status status;

    (void)more;
    if (slot->blk->overlay) {
        blk_overlay_done(slot, res);
        return;
    }
    if (wants_signal(slot->blk, &slot->request, res))
        res = plain_write(slot->blk, &slot->request);
    status = blk_io_judge(slot->blk, &slot->request, res);
    if (status == BLK_S_PENDING) {
        submit(slot);
        return;
    }
    blk_io_end_slot(slot, status);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Whether sectors lie on the drive. */
static bool on_drive(const struct blk *blk, uint64_t sector, uint64_t bytes)
{
    return bytes % SECTOR_SIZE == 0 && range_fits(sector, bytes / SECTOR_SIZE, blk->space.capacity);
}

static enum blk_status start_read(struct blk *blk, struct blk_request *request)
{
    size_t n = blk_file_read_cached(&blk->file, request->iov, request->count, request->offset,
                                    request->left);

    blk->turn_bytes += n;
    blk_io_advance(request, n);
    return request->left > 0 ? through_ring(blk, request) : BLK_S_OK;
}

/* The page cache takes a small write at once; a ring would hand it to a worker on ext4. */
static enum blk_status start_write(struct blk *blk, struct blk_request *request)
{
    enum blk_status status;

    if (blk->config.engine != BLK_ENGINE_SYNC || request->left > BLK_PLAIN_WRITE_MAX)
        return through_ring(blk, request);
    status = blk_io_judge(blk, request, plain_write(blk, request));
    blk->turn_bytes += request->data_len - request->left;
    return status == BLK_S_PENDING ? through_ring(blk, request) : status;
}

static enum blk_status start_transfer(struct blk *blk, struct blk_request *request)
{
    if (!on_drive(blk, request->sector, request->data_len))
        return BLK_S_IOERR;
    if (request->type == BLK_OUT && blk->config.read_only)
        return BLK_S_IOERR;
    request->offset = request->sector * SECTOR_SIZE;
    if (request->left == 0)
        return BLK_S_OK;
    if (blk->overlay)
        return request->type == BLK_IN ? blk_overlay_read(blk, request)
                                       : blk_overlay_write(blk, request);
    return request->type == BLK_IN ? start_read(blk, request) : start_write(blk, request);
}

static enum blk_status get_id(struct blk *blk, struct blk_request *request)
{
    const char *id = blk->file.id;

    if (request->data_len < BLK_ID_LENGTH)
        return BLK_S_IOERR;
    for (size_t done = 0; done < BLK_ID_LENGTH;) {
        size_t n = MIN(request->iov->iov_len, BLK_ID_LENGTH - done);

        memcpy(request->iov->iov_base, id + done, n);
        done += n;
        blk_io_advance(request, n);
    }
    return BLK_S_OK;
}

static enum blk_status start_discard(struct blk *blk, struct blk_request *request)
{
    const struct blk_discard_segment *segment = &request->segment;
    uint32_t known = request->type == BLK_WRITE_ZEROES ? BLK_DISCARD_UNMAP : 0;

    if (!virtio_dev_has(&blk->dev,
                        request->type == BLK_DISCARD ? BLK_F_DISCARD : BLK_F_WRITE_ZEROES) ||
        segment->flags & ~known)
        return BLK_S_UNSUPP;
    if (request->data_len != sizeof(*segment) || segment->sectors > BLK_DISCARD_SECTORS_MAX ||
        !on_drive(blk, segment->sector, (uint64_t)segment->sectors * SECTOR_SIZE))
        return BLK_S_IOERR;
    request->offset = segment->sector * SECTOR_SIZE;
    request->count = 0; /* its data has been read */
    if (segment->sectors == 0)
        return BLK_S_OK;
    return blk->overlay ? blk_overlay_discard(blk, request) : through_ring(blk, request);
}

static enum blk_status start_flush(struct blk *blk, struct blk_request *request)
{
    if (!virtio_dev_has(&blk->dev, BLK_F_FLUSH))
        return BLK_S_UNSUPP;
    request->count = 0;
    return blk->overlay ? blk_overlay_flush(blk, request) : through_ring(blk, request);
}

/* Serves a request, or hands it to the ring: its status, or BLK_S_PENDING. */
static enum blk_status start(struct blk *blk, struct blk_request *request)
{
    switch (request->type) {
    case BLK_IN:
    case BLK_OUT:
        request->started_ns = blk->clock_ns;
        return start_transfer(blk, request);
    case BLK_FLUSH:
        return start_flush(blk, request);
    case BLK_GET_ID:
        return get_id(blk, request);
    case BLK_DISCARD:
    case BLK_WRITE_ZEROES:
        return start_discard(blk, request);
    default:
        return BLK_S_UNSUPP;
    }
}

void blk_io_start(struct blk *blk, struct blk_request *request)
{
    enum blk_status status = start(blk, request);

    if (status != BLK_S_PENDING)
        finish(blk, request, (uint8_t)status);
}

/* ---- the room -------------------------------------------------------------------------------- */

int blk_io_prepare(struct blk *blk)
{
    void *arena;

    if (blk->arena)
        return 0;
    if (blk->overlay && blk_overlay_prepare(blk) < 0)
        return -ENOMEM;
    arena = mmap(NULL, sizeof(*blk->arena), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        return -errno;
    /* Only a page or two of it is ever touched: no huge one for that. A refusal does not matter. */
    madvise(arena, sizeof(*blk->arena), MADV_NOHUGEPAGE);
    blk->arena = arena;
    return 0;
}

void blk_io_free(struct blk *blk)
{
    if (blk->arena)
        munmap(blk->arena, sizeof(*blk->arena));
    blk->arena = NULL;
    blk_overlay_free(blk);
}
