/* SPDX-License-Identifier: Apache-2.0 */
/* memory_map.c: the map of physical memory, from RAM's regions and the layout. */
#include "vmm/boot/memory_map.h"

#include "vmm/boot/layout.h"

static void add(struct memory_map *map, uint64_t start, uint64_t end, enum memory_type type)
{
    if (start < end)
        map->range[map->count++] = (struct memory_range){start, end - start, type};
}

/*
 * From the RSDP to 1 MiB nothing is listed, as on a PC: RAM lies there, but kernels take the area
 * for firmware. Reserved areas come before the RAM above 1 MiB: the order is Firecracker's, and
 * kernels sort.
 */
void memory_map_build(struct memory_map *map, const struct mem *mem)
{
    map->count = 0;
    add(map, 0, LAYOUT_SYSTEM, MEMORY_RAM);
    add(map, LAYOUT_SYSTEM, LAYOUT_SYSTEM_END, MEMORY_RESERVED);
    add(map, LAYOUT_PCI_ECAM, LAYOUT_PCI_ECAM + LAYOUT_PCI_ECAM_SIZE, MEMORY_RESERVED);
    for (unsigned i = 0; i < mem->count; i++) {
        const struct mem_region *region = &mem->region[i];

        add(map, MAX(region->gpa.v, LAYOUT_HIGH_MEMORY), region->gpa.v + region->size, MEMORY_RAM);
    }
}
