/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_map.h owns the memory map of a snapshot: which pieces of RAM a guest has, and where each lies
 * in the memory file. They lie there one behind the other, in the order of their addresses.
 *
 * Pure.
 */
#ifndef MAYFLY_SNAPSHOT_MEM_MAP_H
#define MAYFLY_SNAPSHOT_MEM_MAP_H

#include "vmm/base/mem.h"
#include "vmm/snapshot/state_file.h"

struct mem_map_region {
    uint64_t gpa, size, offset; /* bytes; offset in the memory file */
};

struct mem_map {
    uint32_t count;
    struct mem_map_region region[MEM_REGIONS_MAX];
};

extern const struct state_desc mem_map_desc;

/* The map of a machine's RAM. */
void mem_map_of(struct mem_map *map, const struct mem *mem);

/* The bytes that the memory file has. */
uint64_t mem_map_size(const struct mem_map *map);

/* To and from the section of a state file. A map that a machine of any size could not have is
 * refused. */
void mem_map_write(const struct mem_map *map, struct state_writer *w);
int mem_map_read(struct mem_map *map, struct state_reader *r, struct err *e) __must_check;

#endif
