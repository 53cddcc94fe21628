/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk.c: the block device. One queue; a request is a 16-byte header, data in one direction, and a
 * status byte at the very end, cut into buffers in any way the driver likes.
 *
 * A request is served at once, on the loop thread, where that is proven not to wait for the disk: a
 * read that is in the page cache, and with the Sync engine a write of at most 64 KiB into the page
 * cache. The rest goes through the ring, in any order: a slot holds such a request until its
 * completion. A driver that needs order waits for completions, and a FLUSH covers what was complete
 * before it (virtio 1.3, section 5.2.6), so we order nothing.
 */
#include "virtio/blk.h"

#include "virtio/blk_file.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#define QUEUE 0

#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

enum request_type {
    T_IN = 0,
    T_OUT = 1,
    T_FLUSH = 4,
    T_GET_ID = 8,
    T_DISCARD = 11,
    T_WRITE_ZEROES = 13,
};

enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_PENDING = 255 /* not a status: the ring has it */ };

/* Data segments in a request: with header and status a chain as long as the queue. */
#define SEGMENTS_MAX (VIRTQUEUE_SIZE_MAX - 2)

/* Sectors in a discard: 2 GiB, so that one request does not keep a disk busy for long. */
#define DISCARD_SECTORS_MAX (UINT32_C(1) << 22)

#define PLAIN_WRITE_MAX (64 * KIB)

/* What one turn of the loop serves of one drive, so that a flood on it leaves the other drives and
 * the API their share: requests, and bytes moved at once. */
#define TURN_REQUESTS_MAX 64
#define TURN_BYTES_MAX    MIB

/* Times that the ring may answer "again" to one operation. */
#define AGAIN_MAX 16

/* The configuration space (virtio 1.3, section 5.2.4); what we do not offer is 0. */
struct config_space {
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
_Static_assert(offsetof(struct config_space, max_discard_sectors) == 36, "as in the specification");
#define CONFIG_SIZE 60

struct request_header {
    uint32_t type, reserved;
    uint64_t sector;
};

/* The data of a DISCARD or WRITE_ZEROES; we take one a request. */
struct discard_segment {
    uint64_t sector;
    uint32_t sectors, flags;
};
#define DISCARD_UNMAP 1u

struct request {
    uint32_t type;
    uint16_t head;
    uint8_t *status;   /* HVA */
    struct iovec *iov; /* data still to be moved */
    unsigned count;
    uint32_t data_len, left; /* bytes of data, and those still to be moved */
    uint32_t writable_len;   /* of the whole chain */
    uint64_t offset;         /* in the file, of what is left */
    uint64_t started_ns;
    struct discard_segment segment;
    uint8_t again;
};

/* Room for the segments of a request, or a link of the free list. */
union segments {
    struct iovec iov[VIRTQUEUE_SIZE_MAX];
    union segments *next_free;
};

/* A request that the ring has. Few segments have room in the slot, many get an array of the pool.
 */
#define SLOT_SEGMENTS 6
struct slot {
    struct op op;
    struct blk *blk;
    struct slot *next_free;
    union segments *many; /* NULL = `few` holds them */
    struct request request;
    struct iovec few[SLOT_SEGMENTS];
};

/*
 * One mapping, made by the first activation: an array and a slot for each entry of the queue. They
 * are handed out from the start and then from free lists, latest first, so that pages are touched
 * only as far as there ever were requests in flight.
 */
struct arena {
    union segments segments[VIRTQUEUE_SIZE_MAX];
    struct slot slot[VIRTQUEUE_SIZE_MAX];
};

/* The saved part. */
struct blk_state {
    struct rate_limiter limiter;
};

static const struct state_field fields[] = {RATE_LIMITER_STATE_FIELDS(struct blk_state, limiter.)};
static const struct state_desc blk_state_desc =
    STATE_DESC("virtio-blk", 1, struct blk_state, fields);

struct blk {
    struct virtio_dev dev;
    struct blk_state s;
    struct blk_config config;
    struct config_space space;
    struct blk_file file;
    struct loop_timer retry; /* armed while the limiter holds a request back */
    uint64_t turn_bytes;     /* moved at once in this turn */
    struct arena *arena;
    unsigned slots_used, segments_used; /* of the arena, ever */
    struct slot *free_slots;
    union segments *free_segments;
    struct metrics_block metrics;
};

static struct blk *to_blk(struct virtio_dev *dev)
{
    return container_of(dev, struct blk, dev);
}

static const struct blk *to_const_blk(const struct virtio_dev *dev)
{
    return to_blk((struct virtio_dev *)(uintptr_t)dev);
}

/* ---- slots ----------------------------------------------------------------------------------- */

static void slot_done(struct op *op, int res, bool more);

static union segments *take_segments(struct blk *blk)
{
    union segments *segments = blk->free_segments;

    if (!segments)
        return &blk->arena->segments[blk->segments_used++];
    blk->free_segments = segments->next_free;
    return segments;
}

/* There is always one: the queue has no more chains in flight than entries. */
static struct slot *take_slot(struct blk *blk, const struct request *request)
{
    struct slot *slot = blk->free_slots;

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

static void give_slot(struct slot *slot)
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

static void count_transfer(struct blk *blk, const struct request *request)
{
    struct metrics_block *m = &blk->metrics;
    uint64_t ns = now_ns() - request->started_ns;

    if (request->type == T_IN) {
        metric_add(&m->read_count, 1);
        metric_add(&m->read_bytes, request->data_len);
        metric_agg_add(&m->read_agg, ns);
    } else {
        metric_add(&m->write_count, 1);
        metric_add(&m->write_bytes, request->data_len);
        metric_agg_add(&m->write_agg, ns);
    }
}

static void count_end(struct blk *blk, const struct request *request, uint8_t status)
{
    if (status != S_OK)
        metric_add(&blk->metrics.invalid_reqs_count, 1);
    else if (request->type == T_IN || request->type == T_OUT)
        count_transfer(blk, request);
    else if (request->type == T_FLUSH)
        metric_add(&blk->metrics.flush_count, 1);
}

/* Bytes written from the start of the chain's writable part without a gap; the status byte is its
 * last. */
static uint32_t written(const struct request *request)
{
    bool fills = request->type == T_IN || request->type == T_GET_ID;
    uint32_t data = fills ? request->data_len - request->left : 0;

    return data + 1 == request->writable_len ? data + 1 : data;
}

static void finish(struct blk *blk, const struct request *request, uint8_t status)
{
    *request->status = status;
    count_end(blk, request, status);
    virtio_dev_push(&blk->dev, QUEUE, request->head, written(request));
}

/* ---- through the ring ------------------------------------------------------------------------ */

static int fallocate_mode(const struct request *request)
{
    if (request->type == T_WRITE_ZEROES && !(request->segment.flags & DISCARD_UNMAP))
        return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

static void submit(struct slot *slot)
{
    const struct request *request = &slot->request;
    struct blk *blk = slot->blk;
    struct loop *loop = blk->dev.env.loop;
    int fd = blk->file.fd;

    switch (request->type) {
    case T_IN:
        loop_readv(loop, &slot->op, fd, request->iov, request->count, request->offset);
        break;
    case T_OUT:
        loop_writev(loop, &slot->op, fd, request->iov, request->count, request->offset);
        break;
    case T_FLUSH:
        loop_fsync(loop, &slot->op, fd, true);
        break;
    default:
        loop_fallocate(loop, &slot->op, fd, fallocate_mode(request), request->offset,
                       (uint64_t)request->segment.sectors * SECTOR_SIZE);
        break;
    }
}

static int through_ring(struct blk *blk, const struct request *request)
{
    virtio_dev_op_begin(&blk->dev);
    submit(take_slot(blk, request));
    return S_PENDING;
}

/* Takes `len` bytes off the front of the data that is still to be moved. */
static void advance(struct request *request, size_t len)
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

static const char *verb_of(const struct request *request)
{
    switch (request->type) {
    case T_IN:
        return "reading";
    case T_OUT:
        return "writing";
    case T_FLUSH:
        return "flushing";
    default:
        return "discarding";
    }
}

static int failed(struct blk *blk, const struct request *request, int res)
{
    log_error("Drive %s: %s at byte %" PRIu64 " failed: %s", blk->config.id, verb_of(request),
              request->offset, res < 0 ? err_os(res) : "the file ends there");
    return S_IOERR;
}

/* What a result means: a status, or S_PENDING if the operation has to go on. */
static int judge(struct blk *blk, struct request *request, int res)
{
    if ((res == -EINTR || res == -EAGAIN) && request->again++ < AGAIN_MAX)
        return S_PENDING;
    if (res == -EOPNOTSUPP && fallocate_mode(request) & FALLOC_FL_ZERO_RANGE) {
        request->segment.flags |= DISCARD_UNMAP; /* a hole reads as zeros too */
        return S_PENDING;
    }
    if (res == -EOPNOTSUPP && request->type != T_IN && request->type != T_OUT)
        return S_UNSUPP;
    if (res < 0)
        return failed(blk, request, res);
    if (request->type != T_IN && request->type != T_OUT)
        return S_OK;
    if (res == 0)
        return failed(blk, request, res);
    advance(request, MIN((uint32_t)res, request->left));
    return request->left > 0 ? S_PENDING : S_OK;
}

static void slot_done(struct op *op, int res, bool more)
{
    struct slot *slot = container_of(op, struct slot, op);
    int status = judge(slot->blk, &slot->request, res);

    (void)more;
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

static int start_read(struct blk *blk, struct request *request)
{
    size_t n = blk_file_read_cached(&blk->file, request->iov, request->count, request->offset,
                                    request->left);

    blk->turn_bytes += n;
    advance(request, n);
    return request->left > 0 ? through_ring(blk, request) : S_OK;
}

/* The page cache takes a small write at once; a ring would hand it to a worker on ext4. */
static int start_write(struct blk *blk, struct request *request)
{
    ssize_t n;
    int status;

    if (blk->config.engine != BLK_ENGINE_SYNC || request->left > PLAIN_WRITE_MAX)
        return through_ring(blk, request);
    n = pwritev(blk->file.fd, request->iov, (int)request->count, (off_t)request->offset);
    status = judge(blk, request, n < 0 ? -errno : (int)n);
    blk->turn_bytes += request->data_len - request->left;
    return status == S_PENDING ? through_ring(blk, request) : status;
}

static int start_transfer(struct blk *blk, struct request *request, uint64_t sector)
{
    if (!on_drive(blk, sector, request->data_len))
        return S_IOERR;
    if (request->type == T_OUT && blk->config.read_only)
        return S_IOERR;
    request->offset = sector * SECTOR_SIZE;
    if (request->left == 0)
        return S_OK;
    return request->type == T_IN ? start_read(blk, request) : start_write(blk, request);
}

static int get_id(struct blk *blk, struct request *request)
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

static int start_discard(struct blk *blk, struct request *request)
{
    const struct discard_segment *segment = &request->segment;
    uint32_t known = request->type == T_WRITE_ZEROES ? DISCARD_UNMAP : 0;

    if (!virtio_dev_has(&blk->dev, request->type == T_DISCARD ? F_DISCARD : F_WRITE_ZEROES) ||
        segment->flags & ~known)
        return S_UNSUPP;
    if (request->data_len != sizeof(*segment) || segment->sectors > DISCARD_SECTORS_MAX ||
        !on_drive(blk, segment->sector, (uint64_t)segment->sectors * SECTOR_SIZE))
        return S_IOERR;
    request->offset = segment->sector * SECTOR_SIZE;
    request->count = 0; /* its data has been read */
    return segment->sectors > 0 ? through_ring(blk, request) : S_OK;
}

static int start_flush(struct blk *blk, struct request *request)
{
    if (!virtio_dev_has(&blk->dev, F_FLUSH))
        return S_UNSUPP;
    request->count = 0;
    return through_ring(blk, request);
}

/* Serves a request, or hands it to the ring: its status, or S_PENDING. */
static int start(struct blk *blk, struct request *request, uint64_t sector)
{
    switch (request->type) {
    case T_IN:
    case T_OUT:
        request->started_ns = now_ns();
        return start_transfer(blk, request, sector);
    case T_FLUSH:
        return start_flush(blk, request);
    case T_GET_ID:
        return get_id(blk, request);
    case T_DISCARD:
    case T_WRITE_ZEROES:
        return start_discard(blk, request);
    default:
        return S_UNSUPP;
    }
}

/* ---- chains ---------------------------------------------------------------------------------- */

/* Copies up to `len` bytes off the front of an array of buffers; returns how many there were. */
static size_t take_front(struct iovec **iov, unsigned *count, void *to, size_t len)
{
    size_t done = 0;

    while (done<len && * count> 0) {
        size_t n = MIN((*iov)->iov_len, len - done);

        memcpy((uint8_t *)to + done, (*iov)->iov_base, n);
        done += n;
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
        if ((*iov)->iov_len == 0) {
            (*iov)++;
            (*count)--;
        }
    }
    return done;
}

/* Takes the last byte off an array of buffers that has one. */
static uint8_t *take_last(struct iovec *iov, unsigned *count)
{
    struct iovec *last = &iov[*count - 1];

    last->iov_len--;
    if (last->iov_len == 0)
        (*count)--;
    return (uint8_t *)last->iov_base + last->iov_len;
}

/* Cuts a chain into header, data and status. False = it is too short to be a request. */
static bool parse(struct vq_chain *chain, struct request *request, struct request_header *header)
{
    struct iovec *readable = chain->iov, *writable = chain->iov + chain->n_readable;
    unsigned n_readable = chain->n_readable, n_writable = chain->n_writable;

    if (chain->writable_len == 0 ||
        take_front(&readable, &n_readable, header, sizeof(*header)) < sizeof(*header))
        return false;
    *request = (struct request){.type = header->type, .head = chain->head};
    request->writable_len = chain->writable_len;
    request->status = take_last(writable, &n_writable);
    if (header->type == T_IN || header->type == T_GET_ID) {
        request->iov = writable;
        request->count = n_writable;
        request->data_len = chain->writable_len - 1;
    } else {
        request->iov = readable;
        request->count = n_readable;
        request->data_len = chain->readable_len - (uint32_t)sizeof(*header);
    }
    request->left = request->data_len;
    if (header->type == T_DISCARD || header->type == T_WRITE_ZEROES)
        (void)take_front(&readable, &n_readable, &request->segment, sizeof(request->segment));
    return true;
}

/* Whether the limiter lets the request pass; if not, it has started the timer that asks again. */
static bool allowed(struct blk *blk, const struct request *request)
{
    bool moves = request->type == T_IN || request->type == T_OUT;
    uint64_t bytes = moves ? request->data_len : 0, now;

    if (rate_limiter_is_unlimited(&blk->s.limiter))
        return true;
    now = now_ns();
    if (rate_limiter_take(&blk->s.limiter, bytes, now))
        return true;
    metric_add(&blk->metrics.rate_limiter_throttled_events, 1);
    loop_timer_start(blk->dev.env.loop, &blk->retry,
                     MIN(rate_limiter_wait_ns(&blk->s.limiter, bytes, now), RATE_LIMITER_RETRY_NS));
    return false;
}

/* Takes one request and starts it; false when there is none, or none may be started now. */
static bool serve(struct blk *blk)
{
    struct iovec iov[VIRTQUEUE_SIZE_MAX];
    struct request_header header;
    struct request request;
    struct vq_chain chain;
    int status;

    if (blk->retry.armed || !virtio_dev_pop(&blk->dev, QUEUE, &chain, iov, ARRAY_SIZE(iov)))
        return false;
    if (!parse(&chain, &request, &header)) {
        metric_add(&blk->metrics.execute_fails, 1);
        virtio_dev_needs_reset(&blk->dev, "a request too short for its header and status");
        return false;
    }
    if (!allowed(blk, &request)) {
        virtqueue_unpop(&blk->dev.queue[QUEUE]);
        return false;
    }
    status = start(blk, &request, header.sector);
    if (status != S_PENDING)
        finish(blk, &request, (uint8_t)status);
    return true;
}

static void blk_kick(struct virtio_dev *dev, unsigned q)
{
    struct blk *blk = to_blk(dev);
    unsigned served = 0;

    metric_add(&blk->metrics.queue_event_count, 1);
    blk->turn_bytes = 0;
    virtqueue_kicks_off(&dev->queue[q]);
    do {
        while (serve(blk))
            if (++served == TURN_REQUESTS_MAX || blk->turn_bytes >= TURN_BYTES_MAX) {
                metric_add(&blk->metrics.remaining_reqs_count, virtqueue_waiting(&dev->queue[q]));
                virtio_dev_kick_later(dev, q);
                return;
            }
        if (blk->retry.armed) /* its end kicks us */
            return;
    } while (virtio_dev_kicks_on(dev, q));
    if (served == 0)
        metric_add(&blk->metrics.no_avail_buffer, 1);
}

static void retry_done(struct op *op, int res, bool more)
{
    struct blk *blk = container_of(op, struct blk, retry.op);

    (void)res;
    (void)more;
    blk->retry.armed = false;
    metric_add(&blk->metrics.rate_limiter_event_count, 1);
    virtio_dev_kick(&blk->dev, QUEUE);
}

/* ---- the device ------------------------------------------------------------------------------ */

static uint64_t blk_features(const struct virtio_dev *dev)
{
    const struct blk_config *config = &to_const_blk(dev)->config;

    return F_SEG_MAX | (config->read_only ? F_RO : 0) |
           (config->cache == BLK_CACHE_WRITEBACK ? F_FLUSH : 0) |
           (config->discard ? F_DISCARD | F_WRITE_ZEROES : 0);
}

static const void *blk_config_space(const struct virtio_dev *dev, size_t *len)
{
    *len = CONFIG_SIZE;
    return &to_const_blk(dev)->space;
}

static int blk_activate(struct virtio_dev *dev)
{
    struct blk *blk = to_blk(dev);
    void *arena;

    if (blk->arena)
        return 0;
    arena = mmap(NULL, sizeof(*blk->arena), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        return -errno;
    blk->arena = arena;
    return 0;
}

static void *blk_saved(struct virtio_dev *dev)
{
    return &to_blk(dev)->s;
}

static void blk_free(struct virtio_dev *dev)
{
    struct blk *blk = to_blk(dev);

    if (blk->arena)
        munmap(blk->arena, sizeof(*blk->arena));
    blk_file_close(&blk->file);
    free(blk->config.id);
    free(blk->config.path);
    free(blk->config.partuuid);
    free(blk);
}

static const struct virtio_dev_ops blk_ops = {
    .name = "virtio-blk",
    .device_id = 2,
    .n_queues = 1,
    .queue_size_max = VIRTQUEUE_SIZE_MAX,
    .state = &blk_state_desc,
    .features = blk_features,
    .config = blk_config_space,
    .activate = blk_activate,
    .kick = blk_kick,
    .saved = blk_saved,
    .destroy = blk_free,
};

/* What the file says about itself goes into the configuration space. */
static void describe_file(struct blk *blk)
{
    uint64_t rest = blk->file.size % SECTOR_SIZE;

    blk->space.capacity = blk->file.size / SECTOR_SIZE;
    blk->space.seg_max = SEGMENTS_MAX;
    if (rest > 0)
        log_warn("Drive %s: the last %" PRIu64 " bytes of %s are no whole sector; the guest does "
                 "not see them.",
                 blk->config.id, rest, blk->config.path);
    if (!blk->config.discard)
        return;
    blk->space.max_discard_sectors = DISCARD_SECTORS_MAX;
    blk->space.max_discard_seg = 1;
    blk->space.discard_sector_alignment = MAX(blk->file.block_size / SECTOR_SIZE, 1u);
    blk->space.max_write_zeroes_sectors = DISCARD_SECTORS_MAX;
    blk->space.max_write_zeroes_seg = 1;
    blk->space.write_zeroes_may_unmap = 1;
}

static char *copy_string(const char *string, bool *failed)
{
    char *copy = string ? strdup(string) : NULL;

    *failed |= string && !copy;
    return copy;
}

/* A bucket that limits nothing is no bucket, and a burst of nothing is none; so the user sees it.
 */
static void normalise(struct token_bucket_config *bucket, bool *has)
{
    *has = *has && bucket->size > 0 && bucket->refill_ms > 0;
    bucket->has_burst = *has && bucket->one_time_burst > 0;
    if (!*has)
        *bucket = (struct token_bucket_config){0};
}

static void normalise_limiter(struct blk_config *config)
{
    struct rate_limiter_config *limiter = &config->limiter;

    if (!config->has_limiter)
        *limiter = (struct rate_limiter_config){0};
    normalise(&limiter->bandwidth, &limiter->has_bandwidth);
    normalise(&limiter->ops, &limiter->has_ops);
    config->has_limiter = limiter->has_bandwidth || limiter->has_ops;
}

static int copy_config(struct blk *blk, const struct blk_config *config)
{
    bool failed = false;

    blk->config = *config;
    blk->config.id = copy_string(config->id, &failed);
    blk->config.path = copy_string(config->path, &failed);
    blk->config.partuuid = copy_string(config->partuuid, &failed);
    normalise_limiter(&blk->config);
    return failed ? -ENOMEM : 0;
}

static int set_up(struct blk *blk, const struct blk_config *config, struct err *e)
{
    int rc = copy_config(blk, config);

    if (rc)
        return err_set(e, rc, "%s", err_os(rc));
    if (config->discard && (config->read_only || config->engine != BLK_ENGINE_SYNC))
        return err_set(e, -EINVAL,
                       "Discard is offered only by writable drives with the Sync engine.");
    rc = blk_file_open(&blk->file, config->path, config->read_only, e);
    if (rc)
        return rc;
    rate_limiter_init(&blk->s.limiter, &blk->config.limiter, now_ns());
    describe_file(blk);
    return 0;
}

int blk_create(struct blk **out, const struct virtio_env *env, const struct blk_config *config,
               struct err *e)
{
    struct blk *blk = calloc(1, sizeof(*blk));
    int rc;

    if (!blk)
        return err_set(e, -ENOMEM, "Unable to create the virtio block device: %s", err_os(-ENOMEM));
    virtio_dev_init(&blk->dev, &blk_ops, env);
    blk->dev.event_fails = &blk->metrics.event_fails;
    blk->dev.activate_fails = &blk->metrics.activate_fails;
    blk->retry.op.done = retry_done;
    blk->file.fd = -1;
    rc = set_up(blk, config, e);
    if (rc) {
        virtio_dev_destroy(&blk->dev);
        if (e)
            err_prefix(e, "Unable to create the virtio block device: Virtio backend error: ");
        return rc;
    }
    *out = blk;
    return 0;
}

struct virtio_dev *blk_dev(struct blk *blk)
{
    return &blk->dev;
}

const struct blk_config *blk_config(const struct blk *blk)
{
    return &blk->config;
}

struct metrics_block *blk_metrics(struct blk *blk)
{
    return &blk->metrics;
}

/* ---- updates --------------------------------------------------------------------------------- */

static int replace_file(struct blk *blk, const char *path, struct err *e)
{
    char *copy = strdup(path);
    struct blk_file file;
    int rc;

    if (!copy)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    rc = blk_file_open(&file, path, blk->config.read_only, e);
    if (rc) {
        free(copy);
        return rc;
    }
    virtio_dev_quiesce(&blk->dev);
    virtio_dev_drain(&blk->dev);
    blk_file_close(&blk->file);
    free(blk->config.path);
    blk->file = file;
    blk->config.path = copy;
    describe_file(blk);
    virtio_dev_config_changed(&blk->dev);
    virtio_dev_resume(&blk->dev);
    return 0;
}

static void replace_limiter(struct blk *blk, const struct rate_limiter_config *patch)
{
    struct rate_limiter_config *limiter = &blk->config.limiter;

    rate_limiter_update(&blk->s.limiter, patch, now_ns());
    if (patch->has_bandwidth) {
        limiter->has_bandwidth = true;
        limiter->bandwidth = patch->bandwidth;
    }
    if (patch->has_ops) {
        limiter->has_ops = true;
        limiter->ops = patch->ops;
    }
    blk->config.has_limiter = true;
    normalise_limiter(&blk->config);
}

int blk_update(struct blk *blk, const char *path, const struct rate_limiter_config *limiter,
               struct err *e)
{
    struct err why = {0};

    if (!path && !limiter)
        err_set(&why, -EINVAL, "Running method expected different backend.");
    else if (path && replace_file(blk, path, &why) < 0)
        err_prefix(&why, "Virtio backend error: ");
    if (why.code) {
        metric_add(&blk->metrics.update_fails, 1);
        return err_set(e, why.code,
                       "Unable to patch the block device: Block: %s Please verify the request "
                       "arguments.",
                       why.text);
    }
    if (limiter)
        replace_limiter(blk, limiter);
    metric_add(&blk->metrics.update_count, 1);
    return 0;
}
