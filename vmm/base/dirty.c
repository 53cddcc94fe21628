/* SPDX-License-Identifier: Apache-2.0 */
/* dirty.c: see dirty.h. */
#include "vmm/base/dirty.h"

#include <string.h>

static uint64_t words_of(const struct mem_region *region)
{
    return align_up(region->size / PAGE_SIZE, 64) / 64;
}

/* Which pages of the 64 from `first` on are the guest's: those of plugged blocks. */
static uint64_t plugged_pages(const struct mem_region *region, uint64_t first)
{
    uint64_t pages = 0;

    if (!region->plugged)
        return UINT64_MAX;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t block = (first + i) * PAGE_SIZE >> region->block_shift;

        if (region->plugged[block / 64] >> (block % 64) & 1)
            pages |= UINT64_C(1) << i;
    }
    return pages;
}

static int take(struct mem_region *region, const struct kvm *kvm, uint32_t slot)
{
    uint64_t words = words_of(region);
    int rc;

    if (!region->dirty)
        return 0;
    rc = kvm_dirty_log(kvm, slot, region->taken);
    if (rc)
        return rc;
    for (uint64_t i = 0; i < words; i++) {
        uint64_t all = region->taken[i] | region->dirty[i];

        if (all == 0)
            continue;
        region->taken[i] = all & plugged_pages(region, i * 64);
        region->dirty[i] = all & ~region->taken[i];
    }
    return 0;
}

int dirty_take(struct mem *mem, const struct kvm *kvm, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; i < mem->count && rc == 0; i++)
        rc = take(&mem->region[i], kvm, i);
    for (unsigned i = 0; i < mem->device_count && rc == 0; i++)
        rc = take(&mem->device[i], kvm, kvm->device_slot + i);
    if (rc == 0)
        return 0;
    dirty_settle(mem, false);
    return err_set(e, rc, "Cannot read the dirty log: %s", err_os(rc));
}

static void settle(struct mem_region *region, bool saved)
{
    uint64_t words = words_of(region);

    if (!region->dirty)
        return;
    for (uint64_t i = 0; i < words; i++) {
        if (region->taken[i] == 0)
            continue;
        if (!saved)
            region->dirty[i] |= region->taken[i];
        region->taken[i] = 0;
    }
}

void dirty_settle(struct mem *mem, bool saved)
{
    for (unsigned i = 0; i < mem->count; i++)
        settle(&mem->region[i], saved);
    for (unsigned i = 0; i < mem->device_count; i++)
        settle(&mem->device[i], saved);
}
