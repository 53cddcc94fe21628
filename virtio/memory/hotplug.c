/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hotplug.c: virtio-mem. The device has its addresses from the start, as one slot of the VM; what
 * is not plugged of them is protected in the host's mapping (hotplug_memory.c), so that plugging is
 * a change of protection and unplugging gives the pages back.
 */
#include "virtio/memory/hotplug.h"

#include "virtio/memory/hotplug_memory.h"
#include "vmm/base/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUEUE 0

/* Requests in one turn of the loop, each of which may give back a piece. */
#define TURN_MAX 2

/*
 * How much goes back to the host in one turn: page by page a GiB was measured to take 150 ms, in
 * which the other devices would stand still. Whole blocks only, so with larger ones it is one.
 */
#define PIECE (16 * MIB)

/* Feature bits (virtio 1.3, section 5.15.3). */
#define F_UNPLUGGED_INACCESSIBLE (UINT64_C(1) << 1)

/*
 * The part of the region that may be used grows with what is asked for, and is larger: the driver
 * needs room to choose, and Linux takes memory in blocks of up to 2 GiB, to which the region is
 * aligned.
 */
#define USABLE_STEP (2 * GIB)

/* 512 GiB in blocks of 2 MiB. */
#define BLOCKS_MAX (UINT32_C(1) << 18)

/*
 * Each run of plugged blocks, and each gap, is a mapping of its own on the host, of which Linux
 * allows a process 65530. A guest that scatters its blocks must not take them all.
 */
#define RUNS_MAX 8192

enum request_type { PLUG, UNPLUG, UNPLUG_ALL, STATE };
enum response_type { ACK, NACK, BUSY, ERROR };
enum block_state { ALL_PLUGGED, ALL_UNPLUGGED, MIXED };

struct request {
    uint16_t type, padding[3];
    uint64_t addr;
    uint16_t blocks, padding2[3];
};
_Static_assert(sizeof(struct request) == 24, "as in the specification");

struct response {
    uint16_t type, padding[3];
    uint16_t state;
};
_Static_assert(sizeof(struct response) == 10, "as in the specification");

/* The saved part. It begins with the configuration space (section 5.15.4), read in place. */
struct hotplug_state {
    uint64_t block_size;
    uint16_t node_id;
    uint8_t padding[6];
    uint64_t addr, region_size, usable_region_size, plugged_size, requested_size;
    uint64_t plugged[BLOCKS_MAX / 64]; /* a bit a block */
};
#define CONFIG_SIZE offsetof(struct hotplug_state, plugged)
_Static_assert(CONFIG_SIZE == 56, "as in the specification");

static const struct state_field fields[] = {
    STATE_SAME(struct hotplug_state, block_size),
    STATE_FIELD(struct hotplug_state, node_id),
    STATE_ARRAY(struct hotplug_state, padding),
    STATE_SAME(struct hotplug_state, addr),
    STATE_SAME(struct hotplug_state, region_size),
    STATE_FIELD(struct hotplug_state, usable_region_size),
    STATE_FIELD(struct hotplug_state, plugged_size),
    STATE_FIELD(struct hotplug_state, requested_size),
    STATE_ARRAY(struct hotplug_state, plugged),
};
const struct state_desc hotplug_state_desc =
    STATE_DESC("virtio-mem", 1, struct hotplug_state, fields);

/* Consecutive blocks, as the guest names them. */
struct blocks {
    uint64_t first, count;
};

/* A request under way, and where its answer goes. */
struct job {
    uint16_t head;
    struct request request;
    uint8_t *response[sizeof(struct response)];
    uint64_t began_ns;
    struct blocks blocks; /* of an UNPLUG or UNPLUG_ALL; those before `next` are done */
    uint64_t next;
};

struct hotplug {
    struct virtio_dev dev;
    struct hotplug_state s;
    struct hotplug_config config;
    struct hotplug_memory memory;
    struct job job;
    bool busy;                   /* the job goes on in a later turn; no other is begun */
    struct deferred work;        /* that turn */
    struct mem_region inherited; /* what the memory was in the process we were forked from; hva NULL
                                    = we were not */
};

static struct hotplug *to_hotplug(struct virtio_dev *dev)
{
    return container_of(dev, struct hotplug, dev);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static uint64_t block_count(const struct hotplug *hotplug)
{
    return hotplug->s.region_size / hotplug->s.block_size;
}

static bool is_plugged(const struct hotplug *hotplug, uint64_t block)
{
    return hotplug->s.plugged[block / 64] >> (block % 64) & 1;
}

static enum block_state state_of(const struct hotplug *hotplug, struct blocks blocks)
{
    uint64_t plugged = 0;

    for (uint64_t i = 0; i < blocks.count; i++)
        plugged += is_plugged(hotplug, blocks.first + i);
    if (plugged == blocks.count)
        return ALL_PLUGGED;
    return plugged == 0 ? ALL_UNPLUGGED : MIXED;
}

static void mark(struct hotplug *hotplug, struct blocks blocks, bool plugged)
{
    uint64_t bytes = blocks.count * hotplug->s.block_size;

    for (uint64_t i = blocks.first; i < blocks.first + blocks.count; i++) {
        uint64_t bit = UINT64_C(1) << (i % 64);

        if (plugged)
            hotplug->s.plugged[i / 64] |= bit;
        else
            hotplug->s.plugged[i / 64] &= ~bit;
    }
    if (plugged)
        hotplug->s.plugged_size += bytes;
    else
        hotplug->s.plugged_size -= bytes;
}

/* The next run of blocks in that state at or after `from`; count 0 = there is none. */
static struct blocks next_run(const struct hotplug *hotplug, uint64_t from, bool plugged)
{
    uint64_t end = block_count(hotplug);
    struct blocks run;

    while (from < end && is_plugged(hotplug, from) != plugged)
        from++;
    run.first = from;
    while (from < end && is_plugged(hotplug, from) == plugged)
        from++;
    run.count = from - run.first;
    return run;
}

static uint64_t count_runs(const struct hotplug *hotplug)
{
    uint64_t runs = 0, before = 0; /* the last block of the word before */

    for (uint64_t i = 0; i < ARRAY_SIZE(hotplug->s.plugged); i++) {
        uint64_t word = hotplug->s.plugged[i];

        runs += (uint64_t)__builtin_popcountll(word & ~(word << 1 | before));
        before = word >> 63;
    }
    return runs;
}

/* Gives the host's memory and protection to blocks that have just been marked. */
static int apply(struct hotplug *hotplug, struct blocks blocks, bool plugged)
{
    uint64_t offset = blocks.first * hotplug->s.block_size;
    uint64_t len = blocks.count * hotplug->s.block_size;
    int rc;

    if (plugged)
        return hotplug_memory_take(&hotplug->memory, offset, len);
    rc = hotplug_memory_give(&hotplug->memory, offset, len);
    if (rc == 0)
        mem_mark_gone(hotplug->dev.env.mem, GPA(hotplug->s.addr + offset), len);
    return rc;
}

/* Changes the state of blocks that are all in the other one; on error they stay in it. */
static int change(struct hotplug *hotplug, struct blocks blocks, bool plugged)
{
    int rc;

    mark(hotplug, blocks, plugged);
    rc = count_runs(hotplug) > RUNS_MAX ? -ENOSPC : apply(hotplug, blocks, plugged);
    if (rc)
        mark(hotplug, blocks, !plugged);
    return rc;
}

/* Takes back the pages that became writable by late writes of ours. */
static void sweep(struct hotplug *hotplug)
{
    struct blocks run = next_run(hotplug, 0, false);

    while (run.count > 0) {
        if (apply(hotplug, run, false))
            return; /* it is a page or two, and some other time will do */
        run = next_run(hotplug, run.first + run.count, false);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

/* The blocks that a request is about; false unless there are some and all are usable. */
static bool find_blocks(const struct hotplug *hotplug, const struct request *request,
                        struct blocks *blocks)
{
    const struct hotplug_state *s = &hotplug->s;
    uint64_t bytes = request->blocks * s->block_size;

    if (request->blocks == 0 || request->addr < s->addr || request->addr % s->block_size != 0 ||
        !range_fits(request->addr - s->addr, bytes, s->usable_region_size))
        return false;
    blocks->first = (request->addr - s->addr) / s->block_size;
    blocks->count = request->blocks;
    return true;
}

static enum response_type plug(struct hotplug *hotplug, struct blocks blocks)
{
    uint64_t bytes = blocks.count * hotplug->s.block_size;

    if (state_of(hotplug, blocks) != ALL_UNPLUGGED)
        return ERROR;
    if (hotplug->s.plugged_size + bytes > hotplug->s.requested_size)
        return NACK;
    if (change(hotplug, blocks, true))
        return BUSY;
    metric_add(&metrics.memory_hotplug.plug_bytes, bytes);
    return ACK;
}

static uint64_t usable_for(const struct hotplug *hotplug, uint64_t requested)
{
    if (requested == 0)
        return 0;
    return MIN(align_up(requested, USABLE_STEP) + USABLE_STEP, hotplug->s.region_size);
}

/* What an UNPLUG_ALL does beside unplugging, and an UNPLUG does not. */
static enum response_type end_unplug(struct hotplug *hotplug)
{
    if (hotplug->job.request.type == UNPLUG_ALL)
        hotplug->s.usable_region_size = usable_for(hotplug, hotplug->s.requested_size);
    return ACK;
}

/* The host refuses: the driver takes an UNPLUG for not done, so what was done of it is undone. What
 * the memory held is lost, but it had been given up. */
static enum response_type fail_unplug(struct hotplug *hotplug)
{
    struct job *job = &hotplug->job;
    struct blocks done = {job->blocks.first, job->next - job->blocks.first};

    metric_add(&metrics.memory_hotplug.unplug_discard_fails, 1);
    if (job->request.type == UNPLUG && done.count > 0 && change(hotplug, done, true))
        virtio_dev_needs_reset(&hotplug->dev, "the host has neither taken back nor given memory");
    return BUSY;
}

/* The next piece of the job; false = it is over, and *response the answer. */
static bool unplug_piece(struct hotplug *hotplug, enum response_type *response)
{
    struct job *job = &hotplug->job;
    uint64_t end = job->blocks.first + job->blocks.count;
    struct blocks piece = next_run(hotplug, job->next, true);

    piece.count = MIN(piece.count, MAX(PIECE / hotplug->s.block_size, 1u));
    if (piece.first < end)
        piece.count = MIN(piece.count, end - piece.first);
    if (piece.count > 0 && change(hotplug, piece, false)) {
        *response = fail_unplug(hotplug);
        return false;
    }
    metric_add(&metrics.memory_hotplug.unplug_bytes, piece.count * hotplug->s.block_size);
    job->next = piece.first + piece.count;
    if (job->next < end && hotplug->s.plugged_size > 0)
        return true;
    *response = end_unplug(hotplug);
    return false;
}

/* Counts a request, and its time if it was done. */
static void count(uint64_t *requests, uint64_t *fails, struct metric_agg *agg, bool failed,
                  uint64_t began)
{
    metric_add(requests, 1);
    if (failed)
        metric_add(fails, 1);
    else
        metric_agg_add(agg, now_ns() - began);
}

static void count_request(enum request_type type, enum response_type response, uint64_t began)
{
    struct metrics_memory_hotplug *m = &metrics.memory_hotplug;
    bool failed = response != ACK;

    switch (type) {
    case PLUG:
        count(&m->plug_count, &m->plug_fails, &m->plug_agg, failed, began);
        break;
    case UNPLUG:
        count(&m->unplug_count, &m->unplug_fails, &m->unplug_agg, failed, began);
        break;
    case UNPLUG_ALL:
        count(&m->unplug_all_count, &m->unplug_all_fails, &m->unplug_all_agg, failed, began);
        break;
    case STATE:
        count(&m->state_count, &m->state_fails, &m->state_agg, failed, began);
        break;
    }
}

static void answer(struct hotplug *hotplug, struct response response)
{
    struct job *job = &hotplug->job;

    if (job->request.type <= STATE)
        count_request((enum request_type)job->request.type, (enum response_type)response.type,
                      job->began_ns);
    if (job->request.type != STATE)
        virtio_dev_config_agreed(&hotplug->dev);
    for (size_t i = 0; i < sizeof(response); i++)
        *job->response[i] = ((const uint8_t *)&response)[i];
    virtio_dev_push(&hotplug->dev, QUEUE, job->head, sizeof(response));
}

static void answer_type(struct hotplug *hotplug, enum response_type type)
{
    answer(hotplug, (struct response){.type = (uint16_t)type});
}

static void work(struct deferred *deferred)
{
    struct hotplug *hotplug = container_of(deferred, struct hotplug, work);
    enum response_type response;

    if (unplug_piece(hotplug, &response)) {
        loop_defer(hotplug->dev.env.loop, &hotplug->work);
        return;
    }
    hotplug->busy = false;
    answer_type(hotplug, response);
    virtio_dev_op_end(&hotplug->dev);
    virtio_dev_kick_later(&hotplug->dev, QUEUE);
}

/* The first piece at once: most requests are no larger. */
static void begin_unplug(struct hotplug *hotplug, struct blocks blocks)
{
    enum response_type response;

    hotplug->job.blocks = blocks;
    hotplug->job.next = blocks.first;
    if (!unplug_piece(hotplug, &response)) {
        answer_type(hotplug, response);
        return;
    }
    hotplug->busy = true;
    virtio_dev_op_begin(&hotplug->dev);
    loop_defer(hotplug->dev.env.loop, &hotplug->work);
}

static void begin(struct hotplug *hotplug)
{
    const struct request *request = &hotplug->job.request;
    struct blocks blocks;

    if (request->type == UNPLUG_ALL)
        begin_unplug(hotplug, (struct blocks){0, block_count(hotplug)});
    else if (request->type > STATE || !find_blocks(hotplug, request, &blocks))
        answer_type(hotplug, ERROR);
    else if (request->type == PLUG)
        answer_type(hotplug, plug(hotplug, blocks));
    else if (request->type == STATE)
        answer(hotplug, (struct response){.state = (uint16_t)state_of(hotplug, blocks)});
    else if (state_of(hotplug, blocks) != ALL_PLUGGED)
        answer_type(hotplug, ERROR);
    else
        begin_unplug(hotplug, blocks);
}

static enum virtio_serve serve(struct virtio_dev *dev, unsigned q)
{
    struct hotplug *hotplug = to_hotplug(dev);
    struct job *job = &hotplug->job;
    struct iovec iov[VIRTQUEUE_SIZE_DEFAULT];
    struct vq_chain chain;

    if (hotplug->busy)
        return VIRTIO_LATER;
    if (!virtio_dev_pop(dev, q, &chain, iov, ARRAY_SIZE(iov)))
        return VIRTIO_EMPTY;
    if (vq_chain_read(&chain, &job->request, sizeof(job->request)) < sizeof(job->request) ||
        !vq_chain_place(&chain, job->response, sizeof(struct response))) {
        virtio_dev_needs_reset(dev, "a request too short for its fields and response");
        return VIRTIO_EMPTY;
    }
    job->head = chain.head;
    job->began_ns = now_ns();
    if (late_write_happened())
        sweep(hotplug);
    begin(hotplug);
    return hotplug->busy ? VIRTIO_LATER : VIRTIO_SERVED;
}

static void hotplug_kick(struct virtio_dev *dev, unsigned q)
{
    metric_add(&metrics.memory_hotplug.queue_event_count, 1);
    virtio_dev_serve(dev, q, TURN_MAX, serve);
}

/* ---- the device ------------------------------------------------------------------------------ */

static uint64_t hotplug_features(const struct virtio_dev *dev)
{
    (void)dev;
    return F_UNPLUGGED_INACCESSIBLE;
}

static const void *hotplug_config_space(const struct virtio_dev *dev, size_t *len)
{
    *len = CONFIG_SIZE;
    return &to_hotplug((struct virtio_dev *)(uintptr_t)dev)->s;
}

static void *hotplug_saved(struct virtio_dev *dev)
{
    return &to_hotplug(dev)->s;
}

static void hotplug_free(struct virtio_dev *dev)
{
    hotplug_unmap(to_hotplug(dev));
    free(to_hotplug(dev));
}

/* No reset hook: a driver's reset changes no block, by the specification. */
static const struct virtio_dev_ops hotplug_ops = {
    .name = "virtio-mem",
    .device_id = 24,
    .n_queues = 1,
    .queue_size_max = VIRTQUEUE_SIZE_DEFAULT,
    .state = &hotplug_state_desc,
    .features = hotplug_features,
    .config = hotplug_config_space,
    .kick = hotplug_kick,
    .saved = hotplug_saved,
    .destroy = hotplug_free,
};

static int check_config(const struct hotplug_config *config, struct err *e)
{
    if (config->block_size_mib < HOTPLUG_BLOCK_MIB_DEFAULT)
        return err_set(e, -EINVAL, "Block size must not be lower than %u MiB",
                       HOTPLUG_BLOCK_MIB_DEFAULT);
    if (!is_power_of_two(config->block_size_mib))
        return err_set(e, -EINVAL, "Block size must be a power of 2");
    if (config->slot_size_mib < HOTPLUG_SLOT_MIB_DEFAULT)
        return err_set(e, -EINVAL, "Slot size must not be lower than %u MiB",
                       HOTPLUG_SLOT_MIB_DEFAULT);
    if (config->slot_size_mib % config->block_size_mib != 0)
        return err_set(e, -EINVAL, "Slot size must be a multiple of block size (%u MiB)",
                       config->block_size_mib);
    if (config->total_size_mib < config->slot_size_mib)
        return err_set(e, -EINVAL, "Total size must not be lower than slot size (%u MiB)",
                       config->slot_size_mib);
    if (config->total_size_mib % config->slot_size_mib != 0)
        return err_set(e, -EINVAL, "Total size must be a multiple of slot size (%u MiB)",
                       config->slot_size_mib);
    return 0;
}

int hotplug_create(struct hotplug **out, const struct virtio_env *env,
                   const struct hotplug_config *config, struct err *e)
{
    int rc = check_config(config, e);
    struct hotplug *hotplug;

    if (rc)
        return rc;
    hotplug = calloc(1, sizeof(*hotplug));
    if (!hotplug)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    virtio_dev_init(&hotplug->dev, &hotplug_ops, env);
    hotplug->dev.event_fails = &metrics.memory_hotplug.queue_event_fails;
    hotplug->dev.activate_fails = &metrics.memory_hotplug.activate_fails;
    hotplug->work.run = work;
    hotplug->memory.fd = -1;
    hotplug->config = *config;
    hotplug->s.block_size = config->block_size_mib * MIB;
    hotplug->s.region_size = config->total_size_mib * MIB;
    *out = hotplug;
    return 0;
}

/* Out of a snapshot a part of it may be the file's, so all of it counts as that. */
static enum mem_backing backing_of(const struct mem *mem)
{
    if (mem->shared)
        return MEM_SHARED;
    return mem->region[0].backing == MEM_FILE_COPY ? MEM_FILE_COPY : MEM_ANONYMOUS;
}

static bool is_inherited(const struct hotplug *hotplug)
{
    return hotplug->inherited.hva != NULL;
}

void hotplug_inherit(struct hotplug *hotplug, struct hotplug *from)
{
    const struct mem *mem = from->dev.env.mem;

    hotplug->memory = from->memory;
    from->memory = (struct hotplug_memory){.fd = -1};
    for (unsigned i = 0; i < mem->device_count; i++) {
        if (mem->device[i].gpa.v == from->s.addr)
            hotplug->inherited = mem->device[i];
    }
}

int hotplug_map(struct hotplug *hotplug, struct err *e)
{
    struct mem *mem = hotplug->dev.env.mem;
    struct mem_region region = {
        .gpa = mem_device_base(mem, MAX(USABLE_STEP, hotplug->s.block_size)),
        .size = hotplug->s.region_size,
        .backing = backing_of(mem),
        .plugged = hotplug->s.plugged,
        .block_shift = (unsigned)__builtin_ctzll(hotplug->s.block_size),
        .dirty = hotplug->inherited.dirty,
        .taken = hotplug->inherited.taken,
        .gone = hotplug->inherited.gone,
    };
    int rc = 0;

    if (block_count(hotplug) > BLOCKS_MAX)
        return err_set(e, -ENOSPC,
                       "Of blocks of %u MiB there can be %u, %u GiB: choose larger ones.",
                       hotplug->config.block_size_mib, BLOCKS_MAX,
                       (unsigned)(BLOCKS_MAX * hotplug->s.block_size / GIB));
    if (!is_inherited(hotplug))
        rc = hotplug_memory_reserve(&hotplug->memory, region.size, mem, e);
    if (rc)
        return rc;
    region.hva = hotplug->memory.hva;
    region.fd = hotplug->memory.fd;
    rc = mem_add_region(mem, &region, e);
    if (rc) {
        hotplug_memory_release(&hotplug->memory);
        return rc;
    }
    hotplug->s.addr = region.gpa.v;
    return 0;
}

void hotplug_unmap(struct hotplug *hotplug)
{
    if (hotplug->s.addr)
        mem_remove_region(hotplug->dev.env.mem, GPA(hotplug->s.addr));
    hotplug_memory_release(&hotplug->memory);
    hotplug->s.addr = 0;
}

/* Whether the loaded struct, which may say anything, is one that a device can come to have. */
static bool is_sound(const struct hotplug *hotplug)
{
    const struct hotplug_state *s = &hotplug->s;
    uint64_t count = block_count(hotplug), plugged = 0;

    for (uint64_t i = 0; i < ARRAY_SIZE(s->plugged); i++)
        plugged += (uint64_t)__builtin_popcountll(s->plugged[i]);
    for (uint64_t i = count; i < BLOCKS_MAX; i++) {
        if (is_plugged(hotplug, i))
            return false;
    }
    return s->plugged_size == plugged * s->block_size && s->requested_size <= s->region_size &&
           s->requested_size % s->block_size == 0 && s->usable_region_size <= s->region_size &&
           s->usable_region_size % s->block_size == 0 && count_runs(hotplug) <= RUNS_MAX;
}

/* What a Diff has left in the file of blocks that are not plugged is not what they hold, which is
 * zeros. A file that cannot tell where it has data has it everywhere. */
static void mark_leftovers(struct hotplug *hotplug, struct blocks run, int fd, uint64_t offset)
{
    const off_t begin = (off_t)(offset + run.first * hotplug->s.block_size);
    const off_t end = begin + (off_t)(run.count * hotplug->s.block_size);

    for (off_t at = begin, hole; at < end; at = hole) {
        off_t data = lseek(fd, at, SEEK_DATA);

        if (data >= end || (data < 0 && errno == ENXIO))
            return;
        at = MAX(data, at);
        hole = lseek(fd, at, SEEK_HOLE);
        if (hole < 0 || hole > end)
            hole = end;
        mem_mark_gone(hotplug->dev.env.mem, GPA(hotplug->s.addr + (uint64_t)at - offset),
                      (uint64_t)(hole - at));
    }
}

int hotplug_restore(struct hotplug *hotplug, int fd, uint64_t offset, struct err *e)
{
    uint64_t block = hotplug->s.block_size;
    struct blocks run;
    int rc = 0;

    if (!is_sound(hotplug))
        return err_set(e, -EINVAL,
                       "The saved memory that can be plugged is in a state that it "
                       "cannot have.");
    if (is_inherited(hotplug)) /* all of it is there */
        return 0;
    if (hotplug->s.plugged_size > 0 && fd < 0)
        return err_set(e, -EINVAL,
                       "The snapshot has plugged memory, which can only be loaded from a memory "
                       "file that has it, by the back end File.");
    for (run = next_run(hotplug, 0, false); run.count > 0 && fd >= 0;
         run = next_run(hotplug, run.first + run.count, false))
        mark_leftovers(hotplug, run, fd, offset);
    for (run = next_run(hotplug, 0, true); run.count > 0 && rc == 0;
         run = next_run(hotplug, run.first + run.count, true))
        rc = hotplug_memory_take_copy(&hotplug->memory, run.first * block, run.count * block, fd,
                                      offset + run.first * block);
    return rc ? err_set(e, rc, "Cannot map plugged memory: %s", err_os(rc)) : 0;
}

struct virtio_dev *hotplug_dev(struct hotplug *hotplug)
{
    return &hotplug->dev;
}

const struct hotplug_config *hotplug_config(const struct hotplug *hotplug)
{
    return &hotplug->config;
}

void hotplug_status(const struct hotplug *hotplug, struct hotplug_status *status)
{
    *status = (struct hotplug_status){
        .config = hotplug->config,
        .plugged_size_mib = hotplug->s.plugged_size / MIB,
        .requested_size_mib = hotplug->s.requested_size / MIB,
    };
}

int hotplug_update(struct hotplug *hotplug, uint32_t requested_size_mib, struct err *e)
{
    struct hotplug_state *s = &hotplug->s;
    uint64_t requested = requested_size_mib * MIB;

    if (!hotplug->dev.active)
        return err_set(e, -EINVAL, "Failed to create memory hotplug device: Device is not active");
    if (requested % s->block_size != 0 || requested > s->region_size)
        return err_set(e, -EINVAL,
                       "Failed to create memory hotplug device: Size %llu is invalid: it must be a "
                       "multiple of block size and less than the total size",
                       (unsigned long long)requested);
    s->requested_size = requested;
    s->usable_region_size = MAX(s->usable_region_size, usable_for(hotplug, requested));
    virtio_dev_config_changed(&hotplug->dev);
    return 0;
}
