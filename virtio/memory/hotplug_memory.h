/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hotplug_memory.h owns the host's side of memory that can be plugged: a range of addresses without
 * memory, of which parts become usable and give their memory back. Private to hotplug.c.
 *
 * What is not plugged can be read, as zeros that cost nothing, and not written; where the host's
 * huge pages stand behind it, which a read would take too, it cannot be read either. A guest that
 * touches what it must not ends by it: KVM has nowhere to go on.
 */
#ifndef MAYFLY_MEMORY_HOTPLUG_MEMORY_H
#define MAYFLY_MEMORY_HOTPLUG_MEMORY_H

#include "vmm/base/late_write.h"
#include "vmm/base/mem.h"

struct hotplug_memory {
    uint8_t *hva; /* NULL = nothing is reserved */
    void *map;    /* what mmap gave; hva is the first aligned address in it */
    uint64_t map_size, size;
    enum mem_pages pages;
    bool shared;
    int fd; /* shared: the memory file; else -1 */
};

/* Reserves `size` bytes of the kind that `mem` has: shared or private, huge pages or not. -errno of
 * mmap or memfd_create. */
int hotplug_memory_reserve(struct hotplug_memory *memory, uint64_t size, const struct mem *mem,
                           struct err *e) __must_check;
/* Accepts one with nothing reserved (map NULL, fd -1). */
void hotplug_memory_release(struct hotplug_memory *memory);

/* Makes a part usable: zeroed memory at first touch. -errno of mprotect. */
int hotplug_memory_take(struct hotplug_memory *memory, uint64_t offset, uint64_t len) __must_check;

/* The same for a part that was usable before a snapshot: what is at `from` of the file `fd`
 * (borrowed), read at first touch; what is written stays here. -errno of mmap. */
int hotplug_memory_take_copy(struct hotplug_memory *memory, uint64_t offset, uint64_t len, int fd,
                             uint64_t from) __must_check;

/* Gives the memory of a part back to the host and protects it, at once: the guest cannot touch it
 * in between. -errno of mmap or fallocate; then it is as it was. */
int hotplug_memory_give(struct hotplug_memory *memory, uint64_t offset, uint64_t len) __must_check;

#endif
