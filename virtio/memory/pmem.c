/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pmem.c: persistent memory. The guest reads and writes the file through its mapping, without us;
 * what it asks us for is to flush it.
 *
 * A flush is an fsync on the ring, one at a time. Flushes that come while one is under way wait for
 * the next, together: the one under way may have passed by what their driver has just written.
 */
#include "virtio/memory/pmem.h"

#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#define QUEUE 0

/* Requests in one turn of the loop; all of them become one fsync. */
#define TURN_MAX 64

/* Of a request and of its result (virtio 1.3, sections 5.19.6 and 5.19.7). */
#define REQUEST_FLUSH 0u
#define RESULT_OK     0u
#define RESULT_FAILED UINT32_MAX /* -1 */
#define RESULT_SIZE   sizeof(uint32_t)

/* The saved part. It begins with the configuration space (section 5.19.4), read in place. */
struct pmem_state {
    uint64_t start, size;
    struct rate_limiter limiter;
};
#define CONFIG_SIZE offsetof(struct pmem_state, limiter)

static const struct state_field fields[] = {
    STATE_SAME(struct pmem_state, start),
    STATE_SAME(struct pmem_state, size),
    RATE_LIMITER_STATE_FIELDS(struct pmem_state, limiter.),
};
const struct state_desc pmem_state_desc = STATE_DESC("virtio-pmem", 1, struct pmem_state, fields);

/* A request that waits for its fsync: a driver may cut the four bytes of the result anywhere. */
struct flush {
    uint16_t head;
    uint8_t *result[RESULT_SIZE];
};

struct pmem {
    struct virtio_dev dev;
    struct pmem_state s;
    struct pmem_config config;
    struct metrics_pmem metrics;
    struct loop_timer retry; /* armed while the limiter holds a request back */

    int fd; /* -1 while not mapped, with map NULL */
    uint64_t file_size;
    void *map; /* what mmap gave; the region begins at the first aligned address in it */
    uint64_t map_size;

    struct op sync;
    struct flush flush[VIRTQUEUE_SIZE_DEFAULT];
    unsigned count;   /* requests in `flush` */
    unsigned covered; /* the first so many of them are those of the fsync under way; 0 = none is */
};

static struct pmem *to_pmem(struct virtio_dev *dev)
{
    return container_of(dev, struct pmem, dev);
}

/* ---- flushes --------------------------------------------------------------------------------- */

/* Starts an fsync for all that wait, if none is under way. */
static void start_sync(struct pmem *pmem)
{
    if (pmem->covered > 0 || pmem->count == 0)
        return;
    pmem->covered = pmem->count;
    loop_fsync(pmem->dev.env.loop, &pmem->sync, pmem->fd, true);
}

static void answer(struct pmem *pmem, const struct flush *flush, uint32_t result)
{
    for (unsigned i = 0; i < RESULT_SIZE; i++)
        *flush->result[i] = (uint8_t)(result >> (8 * i));
    virtio_dev_push(&pmem->dev, QUEUE, flush->head, RESULT_SIZE);
    virtio_dev_op_end(&pmem->dev);
}

/* What an fsync has come to. A file that was cut short has lost what the guest wrote behind its
 * end, and KVM may make the guest wait for it for ever: somebody should know. */
static uint32_t judge(const struct pmem *pmem, int res)
{
    struct stat st;

    if (res < 0)
        log_error("Pmem device %s: flushing %s failed: %s", pmem->config.id, pmem->config.path,
                  err_os(res));
    else if (fstat(pmem->fd, &st) || (uint64_t)st.st_size < pmem->file_size)
        log_error("Pmem device %s: %s is shorter than it was when the guest started.",
                  pmem->config.id, pmem->config.path);
    else
        return RESULT_OK;
    return RESULT_FAILED;
}

static void sync_done(struct op *op, int res, bool more)
{
    struct pmem *pmem = container_of(op, struct pmem, sync);
    uint32_t result = judge(pmem, res);
    unsigned covered = pmem->covered;

    (void)more;
    for (unsigned i = 0; i < covered; i++)
        answer(pmem, &pmem->flush[i], result);
    pmem->count -= covered;
    memmove(pmem->flush, pmem->flush + covered, pmem->count * sizeof(pmem->flush[0]));
    pmem->covered = 0;
    start_sync(pmem);
}

/* ---- requests -------------------------------------------------------------------------------- */

/*
 * Whether the limiter lets a request wait for the next fsync; if not, it has started the timer that
 * asks again. An fsync is what is paid for: whoever joins one that others wait for joins for
 * nothing.
 */
static bool allowed(struct pmem *pmem)
{
    uint64_t now;

    if (pmem->count > pmem->covered || rate_limiter_is_unlimited(&pmem->s.limiter))
        return true;
    now = now_ns();
    if (rate_limiter_take(&pmem->s.limiter, pmem->file_size, now))
        return true;
    metric_add(&pmem->metrics.rate_limiter_throttled_events, 1);
    loop_timer_start(
        pmem->dev.env.loop, &pmem->retry,
        MIN(rate_limiter_wait_ns(&pmem->s.limiter, pmem->file_size, now), RATE_LIMITER_RETRY_NS));
    return false;
}

static enum virtio_serve serve(struct virtio_dev *dev, unsigned q)
{
    struct pmem *pmem = to_pmem(dev);
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;
    struct flush flush;
    uint32_t type;

    if (pmem->retry.armed)
        return VIRTIO_LATER;
    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    if (vq_chain_read(&chain, &type, sizeof(type)) < sizeof(type) ||
        !vq_chain_place(&chain, flush.result, RESULT_SIZE)) {
        virtio_dev_needs_reset(dev, "a request too short for its type and result");
        return VIRTIO_EMPTY;
    }
    flush.head = chain.head;
    if (type == REQUEST_FLUSH && !allowed(pmem)) {
        virtqueue_unpop(&dev->queue[q]);
        return VIRTIO_LATER;
    }
    virtio_dev_op_begin(dev);
    if (type == REQUEST_FLUSH)
        pmem->flush[pmem->count++] = flush;
    else
        answer(pmem, &flush, RESULT_FAILED);
    return VIRTIO_SERVED;
}

static void pmem_kick(struct virtio_dev *dev, unsigned q)
{
    struct pmem *pmem = to_pmem(dev);

    metric_add(&pmem->metrics.queue_event_count, 1);
    virtio_dev_serve(dev, q, TURN_MAX, serve);
    start_sync(pmem);
}

static void retry_done(struct op *op, int res, bool more)
{
    struct pmem *pmem = container_of(op, struct pmem, retry.op);

    (void)res;
    (void)more;
    pmem->retry.armed = false;
    metric_add(&pmem->metrics.rate_limiter_event_count, 1);
    virtio_dev_kick(&pmem->dev, QUEUE);
}

/* ---- the region ------------------------------------------------------------------------------ */

static int open_file(struct pmem *pmem, struct err *e)
{
    const struct pmem_config *config = &pmem->config;
    struct stat st;
    int rc;

    /* O_NONBLOCK: a FIFO must not hang us; like everything without a length it is refused. */
    pmem->fd = open(config->path,
                    (config->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (pmem->fd < 0 || fstat(pmem->fd, &st)) {
        rc = -errno;
        return err_set(e, rc, "Error accessing backing file: %s %s", err_os(rc), config->path);
    }
    if (st.st_size == 0)
        return err_set(e, -EINVAL, "Error backing file size is 0");
    pmem->file_size = (uint64_t)st.st_size;
    return 0;
}

/* An aligned place of anonymous memory, and the file over its start: what follows the file's last
 * page in the region is memory that the guest may use and nobody keeps. */
static int map_file(struct pmem *pmem, uint8_t **hva)
{
    int prot = PROT_READ | (pmem->config.read_only ? 0 : PROT_WRITE);
    uintptr_t start;

    pmem->map_size = pmem->s.size + PMEM_ALIGNMENT;
    pmem->map =
        mmap(NULL, pmem->map_size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pmem->map == MAP_FAILED) {
        pmem->map = NULL;
        return -errno;
    }
    start = (uintptr_t)pmem->map;
    *hva = (uint8_t *)pmem->map + (align_up(start, PMEM_ALIGNMENT) - start);
    if (mmap(*hva, pmem->file_size, prot, MAP_SHARED | MAP_FIXED, pmem->fd, 0) == MAP_FAILED)
        return -errno;
    madvise(pmem->map, pmem->map_size, MADV_DONTDUMP);
    return 0;
}

static int map_region(struct pmem *pmem, gpa_t gpa, struct err *e)
{
    struct mem_region region = {.gpa = gpa, .read_only = pmem->config.read_only};
    int rc = open_file(pmem, e);

    if (rc)
        return rc;
    if (pmem->file_size > UINT64_MAX / 4) /* a sum of sizes must not wrap */
        return err_set(e, -EFBIG, "Error accessing backing file: %s %s", err_os(-EFBIG),
                       pmem->config.path);
    pmem->s.start = gpa.v;
    pmem->s.size = region.size = align_up(pmem->file_size, PMEM_ALIGNMENT);
    rc = map_file(pmem, &region.hva);
    if (rc)
        return err_set(e, rc, "Error accessing backing file: %s %s", err_os(rc), pmem->config.path);
    region.fd = pmem->fd;
    return mem_add_region(pmem->dev.env.mem, &region, e);
}

int pmem_map(struct pmem *pmem, gpa_t gpa, uint64_t *size, struct err *e)
{
    int rc = map_region(pmem, gpa, e);

    if (rc)
        pmem_unmap(pmem);
    else
        *size = pmem->s.size;
    return rc;
}

void pmem_unmap(struct pmem *pmem)
{
    if (pmem->s.size > 0)
        mem_remove_region(pmem->dev.env.mem, GPA(pmem->s.start));
    if (pmem->map)
        munmap(pmem->map, pmem->map_size);
    if (pmem->fd >= 0)
        close(pmem->fd);
    pmem->map = NULL;
    pmem->fd = -1;
    pmem->s.start = pmem->s.size = 0;
}

/* ---- the device ------------------------------------------------------------------------------ */

static const void *pmem_config_space(const struct virtio_dev *dev, size_t *len)
{
    *len = CONFIG_SIZE;
    return &to_pmem((struct virtio_dev *)(uintptr_t)dev)->s;
}

static void *pmem_saved(struct virtio_dev *dev)
{
    return &to_pmem(dev)->s;
}

static void pmem_free(struct virtio_dev *dev)
{
    struct pmem *pmem = to_pmem(dev);

    pmem_unmap(pmem);
    free(pmem->config.id);
    free(pmem->config.path);
    free(pmem);
}

static const struct virtio_dev_ops pmem_ops = {
    .name = "virtio-pmem",
    .device_id = 27,
    .n_queues = 1,
    .queue_size_max = VIRTQUEUE_SIZE_DEFAULT,
    .state = &pmem_state_desc,
    .config = pmem_config_space,
    .kick = pmem_kick,
    .saved = pmem_saved,
    .destroy = pmem_free,
};

int pmem_create(struct pmem **out, const struct virtio_env *env, const struct pmem_config *config,
                struct err *e)
{
    struct pmem *pmem = calloc(1, sizeof(*pmem));

    if (!pmem)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    virtio_dev_init(&pmem->dev, &pmem_ops, env);
    pmem->dev.event_fails = &pmem->metrics.event_fails;
    pmem->dev.activate_fails = &pmem->metrics.activate_fails;
    pmem->retry.op.done = retry_done;
    pmem->sync.done = sync_done;
    pmem->fd = -1;
    pmem->config = *config;
    pmem->config.id = strdup(config->id);
    pmem->config.path = strdup(config->path);
    if (!pmem->config.id || !pmem->config.path) {
        pmem_free(&pmem->dev);
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    }
    rate_limiter_config_tidy(&pmem->config.limiter, &pmem->config.has_limiter);
    rate_limiter_init(&pmem->s.limiter, &pmem->config.limiter, now_ns());
    *out = pmem;
    return 0;
}

struct virtio_dev *pmem_dev(struct pmem *pmem)
{
    return &pmem->dev;
}

const struct pmem_config *pmem_config(const struct pmem *pmem)
{
    return &pmem->config;
}

struct metrics_pmem *pmem_metrics(struct pmem *pmem)
{
    return &pmem->metrics;
}

void pmem_update(struct pmem *pmem, const struct rate_limiter_config *limiter)
{
    rate_limiter_update(&pmem->s.limiter, limiter, now_ns());
}
