/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_virtqueue: the input is the registers of a queue, then guest memory from address 0 on, in
 * which its rings lie; between two looks some bytes of it change. Whatever it holds, a walk ends,
 * and every buffer it gives lies in RAM, within the caller's room, readable ones first.
 */
#include "virtio/virtqueue.h"

#include <string.h>

#include <sys/mman.h>

#define RAM  MIB
#define ROOM 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct registers {
    uint16_t desc, avail, used, size, size_max, next_avail, next_used;
    uint8_t event_idx, indirect, chains;
    uint8_t poke_at, poke;
};

static void check_chain(const struct mem *mem, const struct vq_chain *chain)
{
    uint64_t len[2] = {0, 0};
    unsigned count = chain->n_readable + (unsigned)chain->n_writable;

    BUG_ON(count > ROOM);
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *base = chain->iov[i].iov_base;

        BUG_ON(chain->iov[i].iov_len == 0);
        BUG_ON(base < mem->region[0].hva ||
               !range_fits((uint64_t)(base - mem->region[0].hva), chain->iov[i].iov_len, RAM));
        len[i >= chain->n_readable] += chain->iov[i].iov_len;
    }
    BUG_ON(len[0] != chain->readable_len || len[1] != chain->writable_len);
}

static void drive(struct mem *mem, struct virtqueue *vq, const struct registers *r)
{
    struct iovec iov[ROOM];
    struct vq_chain chain;

    virtqueue_kicks_off(vq);
    for (unsigned i = 0; i < r->chains; i++) {
        enum vq_result result = virtqueue_pop(vq, &chain, iov, ROOM);

        BUG_ON(vq->in_flight > vq->s.size);
        if (result == VQ_EMPTY && !virtqueue_kicks_on(vq))
            return;
        if (result != VQ_OK && result != VQ_EMPTY)
            return;
        if (result == VQ_OK) {
            check_chain(mem, &chain);
            if (i % 5 == 4)
                virtqueue_unpop(vq);
            else if (i % 3 > 0)
                virtqueue_push(vq, chain.head, chain.writable_len);
        }
        if (i % 4 == 3)
            (void)virtqueue_publish(vq);
        mem->region[0].hva[(uint64_t)r->poke_at * (i + 1) % RAM] ^= r->poke;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem mem;
    struct registers r;
    struct virtqueue vq;

    if (size < sizeof(r) || size - sizeof(r) > RAM)
        return 0;
    if (mem.count == 0 && mem_create(&mem, RAM, MEM_PAGES_DEFAULT, true, NULL) < 0)
        return 0;
    memcpy(&r, data, sizeof(r));
    madvise(mem.region[0].hva, RAM, MADV_DONTNEED);
    memcpy(mem.region[0].hva, data + sizeof(r), size - sizeof(r));

    virtqueue_init(&vq, MIN(r.size_max, VIRTQUEUE_SIZE_MAX));
    vq.s.desc = r.desc;
    vq.s.avail = r.avail;
    vq.s.used = r.used;
    vq.s.size = r.size;
    vq.s.next_avail = r.next_avail;
    vq.s.next_used = r.next_used;
    if (virtqueue_map(&vq, &mem, r.event_idx & 1, r.indirect & 1) == VQ_OK)
        drive(&mem, &vq, &r);
    return 0;
}
