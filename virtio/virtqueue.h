/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtqueue.h owns the split virtqueue (virtio 1.3, section 2.7): pure over guest memory, no system
 * call, no allocation.
 *
 *      descriptor table            available ring (driver writes)   used ring (device writes)
 *      size x 16 bytes             u16 flags  1 = no interrupt      u16 flags  1 = no kick
 *      u64 addr    a GPA           u16 idx    next to be filled     u16 idx    next to be filled
 *      u32 len                     u16 ring[size]  heads            { u32 head, u32 len } [size]
 *      u16 flags   NEXT WRITE      u16 used_event: interrupt when   u16 avail_event: kick when
 *                  INDIRECT                        idx passes it                    idx passes it
 *      u16 next
 *
 * Indices run freely modulo 2^16; the slot is the index modulo size. The two *_event words count
 * only with VIRTIO_F_EVENT_IDX, the two flags only without it.
 *
 * The guest may write all of this at any time, so every word is loaded once into a local and judged
 * there. Loops are bounded: a walk never reads more descriptors than its table has entries, and
 * more chains in flight than the queue has entries are refused. Addresses become pointers through
 * mem_readable and mem_writable only.
 *
 * Under the machine lock. Errors are the guest's mistakes; the queue must not be used after one
 * until it has been reset (virtio_dev_needs_reset sees to that).
 */
#ifndef MAYFLY_VIRTIO_VIRTQUEUE_H
#define MAYFLY_VIRTIO_VIRTQUEUE_H

#include "vmm/base/mem.h"
#include "vmm/base/state.h"

#include <sys/uio.h>

/* Of any queue here. Most devices take 256, as in Firecracker. */
#define VIRTQUEUE_SIZE_MAX     512
#define VIRTQUEUE_SIZE_DEFAULT 256

struct virtq_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
#define VIRTQ_DESC_NEXT     1u
#define VIRTQ_DESC_WRITE    2u
#define VIRTQ_DESC_INDIRECT 4u

#define VIRTQ_AVAIL_NO_INTERRUPT 1u
#define VIRTQ_USED_NO_NOTIFY     1u

struct virtq_used_elem {
    uint32_t id, len;
};

/* The saved part. desc, avail and used are GPAs. */
struct virtqueue_state {
    uint64_t desc, avail, used;
    uint16_t size_max, size;
    uint16_t next_avail; /* of the available ring: the next index to take */
    uint16_t next_used;  /* of the used ring: the next index to fill */
    uint32_t ready;
    uint32_t pad;
};
extern const struct state_desc virtqueue_state_desc;

struct virtqueue {
    struct virtqueue_state s;
    struct mem *mem; /* NULL = not mapped: the queue cannot be used */
    bool event_idx, indirect;
    const uint8_t *desc;   /* HVA of the table */
    const uint16_t *avail; /* HVA of the ring */
    uint16_t avail_idx;    /* the driver's index as last read: what may be taken without looking */
    uint16_t published;    /* the used index as the driver sees it */
    uint16_t in_flight;    /* taken and not yet pushed */
    bool kicks_off;        /* without event_idx: what used.flags says */
};

enum vq_result {
    VQ_OK,
    VQ_EMPTY, /* nothing to take; not a mistake */
    /* the guest's mistakes */
    VQ_BAD_SIZE,
    VQ_MISALIGNED_RING,
    VQ_RING_OUTSIDE_RAM,
    VQ_AVAIL_OVERRUN,
    VQ_TOO_MANY_IN_FLIGHT,
    VQ_BAD_INDEX,
    VQ_CHAIN_TOO_LONG,
    VQ_CHAIN_TOO_LARGE,
    VQ_TOO_MANY_BUFFERS,
    VQ_BUFFER_OUTSIDE_RAM,
    VQ_READABLE_AFTER_WRITABLE,
    VQ_INDIRECT_NOT_NEGOTIATED,
    VQ_INDIRECT_NESTED,
    VQ_INDIRECT_WITH_NEXT,
    VQ_INDIRECT_BAD_TABLE,
    VQ_RESULTS
};

/* "the descriptor chain is longer than its table" and so on, for a log line. */
const char *vq_result_name(enum vq_result result);

/*
 * A request: buffers the device may read, then buffers it may write, as HVAs in the caller's array:
 * iov[0 .. n_readable) and iov[n_readable .. n_readable + n_writable). Empty buffers are left out.
 */
struct vq_chain {
    uint16_t head;
    uint16_t n_readable, n_writable;
    uint32_t readable_len, writable_len;
    struct iovec *iov;
};

/* Back to the state of a device that was never used; keeps size_max. */
void virtqueue_init(struct virtqueue *vq, uint16_t size_max);

/*
 * Checks size, alignment and place of the three areas and takes their HVAs. Resumes at the saved
 * indices. Features are those of virtio.h.
 */
enum vq_result virtqueue_map(struct virtqueue *vq, struct mem *mem, bool event_idx, bool indirect);

/*
 * Takes the next chain into *chain, whose iov is `iov` with `room` entries. VQ_OK, VQ_EMPTY or a
 * mistake. Pages of writable buffers are marked dirty.
 */
enum vq_result virtqueue_pop(struct virtqueue *vq, struct vq_chain *chain, struct iovec *iov,
                             unsigned room);

/* Copies `len` bytes out of the chain's readable part, from byte `at` of it on, or into the first
 * of its writable part, however the driver has cut them; returns how many there were. */
size_t vq_chain_read_from(const struct vq_chain *chain, uint64_t at, void *to, size_t len);
static inline size_t vq_chain_read(const struct vq_chain *chain, void *to, size_t len)
{
    return vq_chain_read_from(chain, 0, to, len);
}
size_t vq_chain_write(const struct vq_chain *chain, const void *from, size_t len);

/* Takes up to `len` bytes off the front of an array of buffers, which begins behind them
 * afterwards; returns how many there were. */
size_t vq_take_front(struct iovec **iov, unsigned *count, void *to, size_t len);

/* Where the first `count` bytes of the writable part are, one by one: for an answer that comes when
 * the chain's buffers are not at hand any more. False if there are fewer. */
bool vq_chain_place(const struct vq_chain *chain, uint8_t **at, size_t count);

/* Gives the chain taken last back to the queue, as if it had never been taken. */
void virtqueue_unpop(struct virtqueue *vq);

/* Chains that wait to be taken, as far as the driver's index was last read. */
uint16_t virtqueue_waiting(const struct virtqueue *vq);

/* Fills the next used entry: the chain `head` is done, `len` bytes of its writable part written.
 * The driver sees it after virtqueue_publish. */
void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t len);

/* Shows the driver every entry pushed so far; returns whether it wants an interrupt for them. */
bool virtqueue_publish(struct virtqueue *vq);

/* Whether the driver would want an interrupt if the entries were shown now: a guess, since only
 * virtqueue_publish can know. */
bool virtqueue_would_interrupt(const struct virtqueue *vq);

/* Asks for no kicks while the queue is being processed. */
void virtqueue_kicks_off(struct virtqueue *vq);

/* Asks for a kick at the next chain; returns true if one came in meanwhile: then go on taking. */
bool virtqueue_kicks_on(struct virtqueue *vq);

/* The driver's index now: how many chains it has made available in all, modulo 2^16. */
uint16_t virtqueue_driver_index(const struct virtqueue *vq);

/* Asks for a kick when the driver's index moves on from `index`, whether or not chains before it
 * have been taken; returns true if it already has. */
bool virtqueue_kicks_on_after(struct virtqueue *vq, uint16_t index);

#endif
