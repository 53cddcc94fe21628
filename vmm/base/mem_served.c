/* SPDX-License-Identifier: Apache-2.0 */
/* mem_served.c: guest memory whose pages come from another process, one by one. */
#include "vmm/base/mem.h"

#include <errno.h>

#include <sys/mman.h>

uint64_t mem_page_size(const struct mem *mem)
{
    return mem->pages == MEM_PAGES_HUGETLB_2M ? 2 * MIB : PAGE_SIZE;
}

void mem_wait_begins(const struct mem *mem)
{
    if (mem->pager)
        mem->pager->wait_begins(mem->pager);
}

void mem_wait_is_over(const struct mem *mem)
{
    if (mem->pager)
        mem->pager->wait_is_over(mem->pager);
}

/* A read is enough: what comes is private to us, and may be written to. */
static void touch(const struct mem *mem, const uint8_t *page)
{
    mem_wait_begins(mem);
    (void)*(const volatile uint8_t *)page;
    mem_wait_is_over(mem);
}

void mem_bring(const struct mem *mem, const struct mem_region *region, uint64_t offset,
               uint64_t len)
{
    uint64_t page = mem_page_size(mem);

    if (!region->there || len == 0)
        return;
    for (uint64_t i = offset / page; i <= (offset + len - 1) / page; i++) {
        if (region->there[i / 64] >> (i % 64) & 1)
            continue;
        touch(mem, region->hva + i * page);
        region->there[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

/*
 * Whoever serves the memory must read that they are gone, which the call waits for, and serves
 * zeroes for them from then on.
 */
int mem_discard_served(const struct mem *mem, const struct mem_region *region, uint8_t *at,
                       uint64_t len)
{
    uint64_t offset = (uint64_t)(at - region->hva), page = mem_page_size(mem);
    int rc;

    mem_wait_begins(mem);
    rc = madvise(at, len, MADV_DONTNEED) ? -errno : 0;
    mem_wait_is_over(mem);
    for (uint64_t i = offset / page; i < (offset + len) / page; i++)
        region->there[i / 64] &= ~(UINT64_C(1) << (i % 64));
    return rc;
}
