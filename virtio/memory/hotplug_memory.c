/* SPDX-License-Identifier: Apache-2.0 */
/* hotplug_memory.c: see hotplug_memory.h. */
#include "virtio/memory/hotplug_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <linux/memfd.h>
#include <sys/mman.h>

#define HUGE_PAGE (2 * MIB)

static bool is_hugetlb(const struct hotplug_memory *memory)
{
    return memory->pages == MEM_PAGES_HUGETLB_2M;
}

static int unplugged_prot(const struct hotplug_memory *memory)
{
    return is_hugetlb(memory) ? PROT_NONE : PROT_READ;
}

/* New mappings over a part, as it is while unplugged; whatever was mapped there is gone at once. */
static int map_unplugged(struct hotplug_memory *memory, uint64_t offset, uint64_t len)
{
    int flags = MAP_FIXED | MAP_NORESERVE;
    uint8_t *at = memory->hva + offset;

    if (memory->shared)
        flags |= MAP_SHARED;
    else
        flags |= MAP_PRIVATE | MAP_ANONYMOUS |
                 (is_hugetlb(memory) ? MAP_HUGETLB | (21 << MAP_HUGE_SHIFT) : 0);
    if (mmap(at, len, unplugged_prot(memory), flags, memory->fd,
             memory->shared ? (off_t)offset : 0) == MAP_FAILED)
        return -errno;
    madvise(at, len, MADV_DONTDUMP);
    return 0;
}

/* An aligned range of addresses, and in it the mapping. */
static int reserve(struct hotplug_memory *memory)
{
    uintptr_t start;

    if (memory->shared) {
        memory->fd = mem_memory_file(memory->size, memory->pages);
        if (memory->fd < 0)
            return memory->fd;
    }
    memory->map_size = memory->size + HUGE_PAGE;
    memory->map =
        mmap(NULL, memory->map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory->map == MAP_FAILED) {
        memory->map = NULL;
        return -errno;
    }
    start = (uintptr_t)memory->map;
    memory->hva = (uint8_t *)memory->map + (align_up(start, HUGE_PAGE) - start);
    return map_unplugged(memory, 0, memory->size);
}

int hotplug_memory_reserve(struct hotplug_memory *memory, uint64_t size, const struct mem *mem,
                           struct err *e)
{
    int rc;

    *memory =
        (struct hotplug_memory){.size = size, .pages = mem->pages, .shared = mem->shared, .fd = -1};
    rc = reserve(memory);
    if (rc) {
        hotplug_memory_release(memory);
        return err_set(e, rc, "Cannot reserve the memory to be plugged: %s", err_os(rc));
    }
    late_write_watch(memory->hva, size, is_hugetlb(memory) ? HUGE_PAGE : PAGE_SIZE);
    return 0;
}

void hotplug_memory_release(struct hotplug_memory *memory)
{
    if (memory->map) {
        late_write_watch(NULL, 0, PAGE_SIZE);
        munmap(memory->map, memory->map_size);
    }
    if (memory->fd >= 0)
        close(memory->fd);
    *memory = (struct hotplug_memory){.fd = -1};
}

int hotplug_memory_take(struct hotplug_memory *memory, uint64_t offset, uint64_t len)
{
    uint8_t *at = memory->hva + offset;

    if (mprotect(at, len, PROT_READ | PROT_WRITE))
        return -errno;
    if (memory->pages == MEM_PAGES_TRANSPARENT)
        madvise(at, len, MADV_HUGEPAGE);
    return 0;
}

int hotplug_memory_take_copy(struct hotplug_memory *memory, uint64_t offset, uint64_t len, int fd,
                             uint64_t from)
{
    uint8_t *at = memory->hva + offset;

    if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
             (off_t)from) == MAP_FAILED)
        return -errno;
    if (memory->pages == MEM_PAGES_TRANSPARENT)
        madvise(at, len, MADV_HUGEPAGE);
    return 0;
}

int hotplug_memory_give(struct hotplug_memory *memory, uint64_t offset, uint64_t len)
{
    int rc = map_unplugged(memory, offset, len);

    if (rc || !memory->shared)
        return rc;
    /* Now that nobody here writes to it any more, out of the file. */
    if (fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)len) == 0)
        return 0;
    rc = -errno;
    return hotplug_memory_take(memory, offset, len) ? -EIO : rc;
}
