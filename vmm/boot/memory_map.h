/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_map.h owns the map of physical memory that a guest is told, whatever the form: the e820
 * table of the Linux boot protocol and the memory map of PVH are both written from it. Pure.
 */
#ifndef MAYFLY_BOOT_MEMORY_MAP_H
#define MAYFLY_BOOT_MEMORY_MAP_H

#include "vmm/base/mem.h"

/* The numbers that e820 and PVH share. */
enum memory_type { MEMORY_RAM = 1, MEMORY_RESERVED = 2 };

struct memory_range {
    uint64_t start, size;
    uint32_t type;
};

/* Conventional memory, system area, PCI configuration space, and each region of RAM. */
#define MEMORY_MAP_MAX (3 + MEM_REGIONS_MAX)

struct memory_map {
    unsigned count;
    struct memory_range range[MEMORY_MAP_MAX];
};

void memory_map_build(struct memory_map *map, const struct mem *mem);

#endif
