/* SPDX-License-Identifier: Apache-2.0 */
/* virtqueue.c: taking chains from, and returning them to, a split virtqueue in guest memory. */
#include "virtio/virtqueue.h"

#include <string.h>

/* Words of the available and of the used ring, in units of 16 bits. */
#define RING_FLAGS 0
#define RING_IDX   1
#define AVAIL_RING 2

static const struct state_field fields[] = {
    STATE_FIELD(struct virtqueue_state, desc),      STATE_FIELD(struct virtqueue_state, avail),
    STATE_FIELD(struct virtqueue_state, used),      STATE_SAME(struct virtqueue_state, size_max),
    STATE_FIELD(struct virtqueue_state, size),      STATE_FIELD(struct virtqueue_state, next_avail),
    STATE_FIELD(struct virtqueue_state, next_used), STATE_FIELD(struct virtqueue_state, ready),
    STATE_FIELD(struct virtqueue_state, pad),
};
const struct state_desc virtqueue_state_desc =
    STATE_DESC("virtqueue", 1, struct virtqueue_state, fields);

const char *vq_result_name(enum vq_result result)
{
    static const char *const name[VQ_RESULTS] = {
        [VQ_OK] = "a chain was taken",
        [VQ_EMPTY] = "nothing is available",
        [VQ_BAD_SIZE] = "the queue size is not a power of two within the maximum",
        [VQ_MISALIGNED_RING] = "a ring is misaligned",
        [VQ_RING_OUTSIDE_RAM] = "a ring is not wholly inside RAM",
        [VQ_AVAIL_OVERRUN] = "the available index is more than the queue size ahead",
        [VQ_TOO_MANY_IN_FLIGHT] = "more chains are in flight than the queue has entries",
        [VQ_BAD_INDEX] = "a descriptor index is outside its table",
        [VQ_CHAIN_TOO_LONG] = "a descriptor chain is longer than its table",
        [VQ_CHAIN_TOO_LARGE] = "a descriptor chain describes more than 4 GiB",
        [VQ_TOO_MANY_BUFFERS] = "a descriptor chain has more buffers than the device takes",
        [VQ_BUFFER_OUTSIDE_RAM] = "a buffer is not wholly inside RAM",
        [VQ_READABLE_AFTER_WRITABLE] = "a readable buffer follows a writable one",
        [VQ_INDIRECT_NOT_NEGOTIATED] = "an indirect descriptor without the feature",
        [VQ_INDIRECT_NESTED] = "an indirect descriptor in an indirect table",
        [VQ_INDIRECT_WITH_NEXT] = "an indirect descriptor with a next one",
        [VQ_INDIRECT_BAD_TABLE] = "an indirect table of a bad size or outside RAM",
    };

    return (unsigned)result < VQ_RESULTS ? name[result] : "unknown";
}

void virtqueue_init(struct virtqueue *vq, uint16_t size_max)
{
    *vq = (struct virtqueue){.s.size_max = size_max, .s.size = size_max};
}

/* Bytes of the areas of a queue of `size` entries, with the event words at their ends. */
static uint64_t desc_bytes(uint16_t size)
{
    return (uint64_t)size * sizeof(struct virtq_desc);
}

static uint64_t avail_bytes(uint16_t size)
{
    return 6 + UINT64_C(2) * size;
}

static uint64_t used_bytes(uint16_t size)
{
    return 6 + sizeof(struct virtq_used_elem) * size;
}

enum vq_result virtqueue_map(struct virtqueue *vq, struct mem *mem, bool event_idx, bool indirect)
{
    const struct virtqueue_state *s = &vq->s;
    const void *desc, *avail;

    if (!is_power_of_two(s->size) || s->size > s->size_max)
        return VQ_BAD_SIZE;
    if (s->desc % 16 || s->avail % 2 || s->used % 4)
        return VQ_MISALIGNED_RING;
    desc = mem_readable(mem, GPA(s->desc), desc_bytes(s->size));
    avail = mem_readable(mem, GPA(s->avail), avail_bytes(s->size));
    if (!desc || !avail || !mem_readable(mem, GPA(s->used), used_bytes(s->size)))
        return VQ_RING_OUTSIDE_RAM;

    vq->mem = mem;
    vq->event_idx = event_idx;
    vq->indirect = indirect;
    vq->desc = desc;
    vq->avail = avail;
    vq->avail_idx = s->next_avail;
    vq->published = s->next_used;
    vq->in_flight = 0;
    vq->kicks_off = false;
    return VQ_OK;
}

/*
 * The used ring at byte `offset`, for writing. It is translated anew at each write, and not kept as
 * an HVA, because that is what marks the page dirty. NULL where the guest has unplugged the memory
 * that it lies in: then it sees nothing more.
 */
static void *used_at(struct virtqueue *vq, uint64_t offset, uint64_t len)
{
    return mem_writable(vq->mem, GPA(vq->s.used + offset), len);
}

static void store_used_word(struct virtqueue *vq, uint64_t offset, uint16_t value, int order)
{
    uint16_t *at = used_at(vq, offset, sizeof(value));

    if (at)
        __atomic_store_n(at, value, order);
}

/* ---- taking ---------------------------------------------------------------------------------- */

/* One descriptor, copied whole; tables of indirect chains have no alignment. */
static struct virtq_desc copy_desc(const uint8_t *table, uint32_t index)
{
    struct virtq_desc desc;

    memcpy(&desc, table + index * sizeof(desc), sizeof(desc));
    /* A compiler's barrier: without it the copy may be dropped and guest memory read a second time,
     * after the guest has changed what we judged. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return desc;
}

/* Appends one buffer to the chain. */
static enum vq_result add_buffer(struct virtqueue *vq, struct vq_chain *chain, unsigned room,
                                 const struct virtq_desc *desc)
{
    bool writable = desc->flags & VIRTQ_DESC_WRITE;
    unsigned count = chain->n_readable + (unsigned)chain->n_writable;
    uint64_t total = (uint64_t)chain->readable_len + chain->writable_len + desc->len;
    void *base;

    if (!writable && chain->n_writable > 0)
        return VQ_READABLE_AFTER_WRITABLE;
    if (desc->len == 0)
        return VQ_OK;
    if (total > UINT32_MAX)
        return VQ_CHAIN_TOO_LARGE;
    if (count == room)
        return VQ_TOO_MANY_BUFFERS;
    if (writable)
        base = mem_writable(vq->mem, GPA(desc->addr), desc->len);
    else /* an iovec has no const; nobody writes through a readable one */
        base = (void *)(uintptr_t)mem_readable(vq->mem, GPA(desc->addr), desc->len);
    if (!base)
        return VQ_BUFFER_OUTSIDE_RAM;

    chain->iov[count] = (struct iovec){.iov_base = base, .iov_len = desc->len};
    if (writable) {
        chain->n_writable++;
        chain->writable_len += desc->len;
    } else {
        chain->n_readable++;
        chain->readable_len += desc->len;
    }
    return VQ_OK;
}

/* Where a walk goes from a descriptor that refers to an indirect table. */
static enum vq_result open_indirect(const struct virtqueue *vq, const struct virtq_desc *desc,
                                    bool in_table, const uint8_t **table, uint32_t *entries)
{
    if (!vq->indirect)
        return VQ_INDIRECT_NOT_NEGOTIATED;
    if (in_table)
        return VQ_INDIRECT_NESTED;
    if (desc->flags & VIRTQ_DESC_NEXT)
        return VQ_INDIRECT_WITH_NEXT;
    *entries = desc->len / (uint32_t)sizeof(*desc);
    *table = mem_readable(vq->mem, GPA(desc->addr), desc->len);
    /* The driver may make tables as long as the device's maximum, whatever size it chose. */
    if (desc->len % sizeof(*desc) || *entries == 0 || *entries > vq->s.size_max || !*table)
        return VQ_INDIRECT_BAD_TABLE;
    return VQ_OK;
}

/*
 * Walks the chain that begins at `index` of the queue's table. Some direct descriptors may be
 * followed by one that leads into an indirect table, where the walk ends.
 */
static enum vq_result walk(struct virtqueue *vq, struct vq_chain *chain, unsigned room,
                           uint16_t index)
{
    const uint8_t *table = vq->desc;
    uint32_t entries = vq->s.size, left = entries;
    bool in_table = false;

    while (left-- > 0) { /* a longer walk has met a descriptor twice */
        struct virtq_desc desc;
        enum vq_result result;

        if (index >= entries)
            return VQ_BAD_INDEX;
        desc = copy_desc(table, index);
        if (desc.flags & VIRTQ_DESC_INDIRECT) {
            result = open_indirect(vq, &desc, in_table, &table, &entries);
            if (result != VQ_OK)
                return result;
            in_table = true;
            left = entries;
            index = 0;
            continue;
        }
        result = add_buffer(vq, chain, room, &desc);
        if (result != VQ_OK)
            return result;
        if (!(desc.flags & VIRTQ_DESC_NEXT))
            return VQ_OK;
        index = desc.next;
    }
    return VQ_CHAIN_TOO_LONG;
}

/* Reads the driver's index. VQ_OK = something is available. */
static enum vq_result look(struct virtqueue *vq)
{
    uint16_t ahead;

    /* Acquire: the ring entries and descriptors that this index announces are read after it. */
    vq->avail_idx = __atomic_load_n(&vq->avail[RING_IDX], __ATOMIC_ACQUIRE);
    ahead = virtqueue_waiting(vq);
    if (ahead > vq->s.size)
        return VQ_AVAIL_OVERRUN;
    return ahead > 0 ? VQ_OK : VQ_EMPTY;
}

enum vq_result virtqueue_pop(struct virtqueue *vq, struct vq_chain *chain, struct iovec *iov,
                             unsigned room)
{
    enum vq_result result;
    uint16_t head;

    if (vq->avail_idx == vq->s.next_avail) {
        result = look(vq);
        if (result != VQ_OK)
            return result;
    }
    /* A driver can only make available what it has got back, so this many is a lie, and it would
     * run our callers out of slots. */
    if (vq->in_flight == vq->s.size)
        return VQ_TOO_MANY_IN_FLIGHT;
    /* Relaxed suffices: ordered by the acquire in look. Atomic, so that it is one load. */
    head =
        __atomic_load_n(&vq->avail[AVAIL_RING + vq->s.next_avail % vq->s.size], __ATOMIC_RELAXED);

    *chain = (struct vq_chain){.head = head, .iov = iov};
    result = walk(vq, chain, room, head);
    if (result != VQ_OK)
        return result;
    vq->s.next_avail++;
    vq->in_flight++;
    return VQ_OK;
}

size_t vq_chain_read_from(const struct vq_chain *chain, uint64_t at, void *to, size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_readable && done < len; i++) {
        const struct iovec *iov = &chain->iov[i];

        if (at < iov->iov_len) {
            size_t n = MIN(iov->iov_len - at, len - done);

            memcpy((uint8_t *)to + done, (const uint8_t *)iov->iov_base + at, n);
            done += n;
        }
        at -= MIN(at, iov->iov_len);
    }
    /* A compiler's barrier: what is judged is the copy, never guest memory read a second time. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return done;
}

size_t vq_take_front(struct iovec **iov, unsigned *count, void *to, size_t len)
{
    size_t done = 0;

    while (*count > 0 && done < len) {
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

size_t vq_chain_write(const struct vq_chain *chain, const void *from, size_t len)
{
    const struct iovec *iov = chain->iov + chain->n_readable;
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_writable && done < len; i++) {
        size_t n = MIN(iov[i].iov_len, len - done);

        memcpy(iov[i].iov_base, (const uint8_t *)from + done, n);
        done += n;
    }
    return done;
}

bool vq_chain_place(const struct vq_chain *chain, uint8_t **at, size_t count)
{
    const struct iovec *iov = chain->iov + chain->n_readable;
    size_t done = 0;

    for (unsigned i = 0; i < chain->n_writable; i++)
        for (size_t byte = 0; byte < iov[i].iov_len && done < count; byte++)
            at[done++] = (uint8_t *)iov[i].iov_base + byte;
    return done == count;
}

void virtqueue_unpop(struct virtqueue *vq)
{
    BUG_ON(vq->in_flight == 0);
    vq->s.next_avail--;
    vq->in_flight--;
}

uint16_t virtqueue_waiting(const struct virtqueue *vq)
{
    return (uint16_t)(vq->avail_idx - vq->s.next_avail);
}

/* ---- returning ------------------------------------------------------------------------------- */

void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t len)
{
    uint64_t slot = vq->s.next_used % vq->s.size;
    const struct virtq_used_elem elem = {.id = head, .len = len};
    void *at = used_at(vq, 4 + slot * sizeof(elem), sizeof(elem));

    BUG_ON(vq->in_flight == 0);
    if (at)
        memcpy(at, &elem, sizeof(elem));
    vq->s.next_used++;
    vq->in_flight--;
}

/* Whether the step from `old` to `new` passes `event` (virtio 1.3, section 2.7.7.1). */
static bool passes(uint16_t event, uint16_t new, uint16_t old)
{
    return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

/* What the driver says of interrupts, for entries from `old` up to the next one. */
static bool wants_interrupt(const struct virtqueue *vq, uint16_t old)
{
    if (vq->event_idx)
        return passes(__atomic_load_n(&vq->avail[AVAIL_RING + vq->s.size], __ATOMIC_RELAXED),
                      vq->s.next_used, old);
    return !(__atomic_load_n(&vq->avail[RING_FLAGS], __ATOMIC_RELAXED) & VIRTQ_AVAIL_NO_INTERRUPT);
}

bool virtqueue_would_interrupt(const struct virtqueue *vq)
{
    return vq->published != vq->s.next_used && wants_interrupt(vq, vq->published);
}

bool virtqueue_publish(struct virtqueue *vq)
{
    uint16_t old = vq->published, new = vq->s.next_used;

    if (old == new)
        return false;
    /* Release: the entries, and the data in the buffers, are visible before the index that
     * announces them. */
    store_used_word(vq, RING_IDX * sizeof(uint16_t), new, __ATOMIC_RELEASE);
    vq->published = new;
    /* Full: the driver writes its wish and then looks at our index; we write the index and then
     * look at its wish. If our load could overtake our store, each might miss the other's and the
     * interrupt be lost. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return wants_interrupt(vq, old);
}

/* ---- kicks ----------------------------------------------------------------------------------- */

void virtqueue_kicks_off(struct virtqueue *vq)
{
    /* With EVENT_IDX there is nothing to say: the kick that woke us passed avail_event, and until
     * that is set anew no further one will. */
    if (vq->event_idx || vq->kicks_off)
        return;
    /* Relaxed: it is advice; a kick too many is harmless. */
    store_used_word(vq, RING_FLAGS, VIRTQ_USED_NO_NOTIFY, __ATOMIC_RELAXED);
    vq->kicks_off = true;
}

bool virtqueue_kicks_on(struct virtqueue *vq)
{
    return virtqueue_kicks_on_after(vq, vq->s.next_avail);
}

uint16_t virtqueue_driver_index(const struct virtqueue *vq)
{
    return __atomic_load_n(&vq->avail[RING_IDX], __ATOMIC_RELAXED);
}

bool virtqueue_kicks_on_after(struct virtqueue *vq, uint16_t index)
{
    uint64_t avail_event = used_bytes(vq->s.size) - sizeof(uint16_t);

    if (vq->event_idx)
        store_used_word(vq, avail_event, index, __ATOMIC_RELAXED);
    else if (vq->kicks_off)
        store_used_word(vq, RING_FLAGS, 0, __ATOMIC_RELAXED);
    vq->kicks_off = false;
    /* Full, as in publish: our wish is visible before we look for the last time, or a chain added
     * in between would lie there without a kick. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return virtqueue_driver_index(vq) != index;
}
