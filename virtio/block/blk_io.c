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

enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_PENDING = 255 /* not a status: the ring has it */ };

#define PLAIN_WRITE_MAX (64 * KIB)

/* Times that the ring may answer "again" to one operation. */
#define AGAIN_MAX 16

struct request_header {
    uint32_t type, reserved;
    uint64_t sector;
};

/* Room for the segments of a request, or a link of the free list. */
union blk_segments {
    struct iovec iov[VIRTQUEUE_SIZE_MAX];
    union blk_segments *next_free;
};

/* A request that the ring has. Few segments have room in the slot, many get an array of
 * the pool. */
#define SLOT_SEGMENTS 6
struct blk_slot {
    struct op op;
    struct blk *blk;
    struct blk_slot *next_free;
    union blk_segments *many; /* NULL = `few` holds them */
    struct blk_request request;
    struct iovec few[SLOT_SEGMENTS];
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

/* There is always one: the queue has no more chains in flight than entries. */
static struct blk_slot *take_slot(struct blk *blk, const struct blk_request *request)
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
    slot->many = request->count > SLOT_SEGMENTS ? take_segments(blk) : NULL;
    slot->request = *request;
    slot->request.iov = slot->many ? slot->many->iov : slot->few;
    memcpy(slot->request.iov, request->iov, request->count * sizeof(struct iovec));
    return slot;
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
    if (status != S_OK)
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

static int through_ring(struct blk *blk, const struct blk_request *request)
{
    virtio_dev_op_begin(&blk->dev);
    submit(take_slot(blk, request));
    return S_PENDING;
}

/* Takes `len` bytes off the front of the data that is still to be moved. */
static void advance(struct blk_request *request, size_t len)
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

static int failed(struct blk *blk, const struct blk_request *request, int res)
{
    log_error("Drive %s: %s at byte %" PRIu64 " failed: %s", blk->config.id, verb_of(request),
              request->offset, res < 0 ? err_os(res) : "the file ends there");
    return S_IOERR;
}

/* What a result means: a status, or S_PENDING if the operation has to go on. */
static int judge(struct blk *blk, struct blk_request *request, int res)
{
    if ((res == -EINTR || res == -EAGAIN) && request->again++ < AGAIN_MAX)
        return S_PENDING;
    if (res == -EOPNOTSUPP && fallocate_mode(request) & FALLOC_FL_ZERO_RANGE) {
        request->segment.flags |= BLK_DISCARD_UNMAP; /* a hole reads as zeros too */
        return S_PENDING;
    }
    if (res == -EOPNOTSUPP && request->type != BLK_IN && request->type != BLK_OUT)
        return S_UNSUPP;
    if (res < 0)
        return failed(blk, request, res);
    if (request->type != BLK_IN && request->type != BLK_OUT)
        return S_OK;
    if (res == 0)
        return failed(blk, request, res);
    advance(request, MIN((uint32_t)res, request->left));
    return request->left > 0 ? S_PENDING : S_OK;
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

static void slot_done(struct op *op, int res, bool more)
{
    struct blk_slot *slot = container_of(op, struct blk_slot, op);
    int status;

    (void)more;
    if (wants_signal(slot->blk, &slot->request, res))
        res = plain_write(slot->blk, &slot->request);
    status = judge(slot->blk, &slot->request, res);
    if (status == S_PENDING) {
        submit(slot);
        return;
    }
    finish(slot->blk, &slot->request, (uint8_t)status);
    give_slot(slot);
    virtio_dev_op_end(&slot->blk->dev);
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Whether sectors lie on the drive. */
static bool on_drive(const struct blk *blk, uint64_t sector, uint64_t bytes)
{
    return bytes % SECTOR_SIZE == 0 && range_fits(sector, bytes / SECTOR_SIZE, blk->space.capacity);
}

static int start_read(struct blk *blk, struct blk_request *request)
{
    size_t n = blk_file_read_cached(&blk->file, request->iov, request->count, request->offset,
                                    request->left);

    blk->turn_bytes += n;
    advance(request, n);
    return request->left > 0 ? through_ring(blk, request) : S_OK;
}

/* The page cache takes a small write at once; a ring would hand it to a worker on ext4. */
static int start_write(struct blk *blk, struct blk_request *request)
{
    int status;

    if (blk->config.engine != BLK_ENGINE_SYNC || request->left > PLAIN_WRITE_MAX)
        return through_ring(blk, request);
    status = judge(blk, request, plain_write(blk, request));
    blk->turn_bytes += request->data_len - request->left;
    return status == S_PENDING ? through_ring(blk, request) : status;
}

static int start_transfer(struct blk *blk, struct blk_request *request)
{
    if (!on_drive(blk, request->sector, request->data_len))
        return S_IOERR;
    if (request->type == BLK_OUT && blk->config.read_only)
        return S_IOERR;
    request->offset = request->sector * SECTOR_SIZE;
    if (request->left == 0)
        return S_OK;
    return request->type == BLK_IN ? start_read(blk, request) : start_write(blk, request);
}

static int get_id(struct blk *blk, struct blk_request *request)
{
    const char *id = blk->file.id;

    if (request->data_len < BLK_ID_LENGTH)
        return S_IOERR;
    for (size_t done = 0; done < BLK_ID_LENGTH;) {
        size_t n = MIN(request->iov->iov_len, BLK_ID_LENGTH - done);

        memcpy(request->iov->iov_base, id + done, n);
        done += n;
        advance(request, n);
    }
    return S_OK;
}

static int start_discard(struct blk *blk, struct blk_request *request)
{
    const struct blk_discard_segment *segment = &request->segment;
    uint32_t known = request->type == BLK_WRITE_ZEROES ? BLK_DISCARD_UNMAP : 0;

    if (!virtio_dev_has(&blk->dev,
                        request->type == BLK_DISCARD ? BLK_F_DISCARD : BLK_F_WRITE_ZEROES) ||
        segment->flags & ~known)
        return S_UNSUPP;
    if (request->data_len != sizeof(*segment) || segment->sectors > BLK_DISCARD_SECTORS_MAX ||
        !on_drive(blk, segment->sector, (uint64_t)segment->sectors * SECTOR_SIZE))
        return S_IOERR;
    request->offset = segment->sector * SECTOR_SIZE;
    request->count = 0; /* its data has been read */
    return segment->sectors > 0 ? through_ring(blk, request) : S_OK;
}

static int start_flush(struct blk *blk, struct blk_request *request)
{
    if (!virtio_dev_has(&blk->dev, BLK_F_FLUSH))
        return S_UNSUPP;
    request->count = 0;
    return through_ring(blk, request);
}

/* Serves a request, or hands it to the ring: its status, or S_PENDING. */
static int start(struct blk *blk, struct blk_request *request)
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
        return S_UNSUPP;
    }
}

void blk_io_start(struct blk *blk, struct blk_request *request)
{
    int status = start(blk, request);

    if (status != S_PENDING)
        finish(blk, request, (uint8_t)status);
}

/* ---- the room -------------------------------------------------------------------------------- */

int blk_io_prepare(struct blk *blk)
{
    void *arena;

    if (blk->arena)
        return 0;
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
}
