/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_map.h owns the memory map of a snapshot: which pieces of memory a guest has, and where each
 * lies in the memory file. They lie there one behind the other, in the order of their addresses:
 * RAM, and behind it the memory that can be plugged, all of it, whatever is plugged of it.
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

/* A device of memory that can be plugged has one. */
#define MEM_MAP_REGIONS_MAX (MEM_REGIONS_MAX + 1)

struct mem_map {
    uint32_t count;
    uint32_t ram; /* so many of the regions, the first ones, are RAM */
    struct mem_map_region region[MEM_MAP_REGIONS_MAX];
};

extern const struct state_desc mem_map_desc;

/* The map of a machine's memory: of RAM alone as long as no device has added its own. */
void mem_map_of(struct mem_map *map, const struct mem *mem);

/* The bytes that the memory file has. */
uint64_t mem_map_size(const struct mem_map *map);

/* To and from the section of a state file. A map that no machine could have is refused. */
void mem_map_write(const struct mem_map *map, struct state_writer *w);
int mem_map_read(struct mem_map *map, struct state_reader *r, struct err *e) __must_check;

/* Tells RAM, of which there are `size` bytes, from the rest of a map that was read. -EINVAL unless
 * whole regions make that size, and at most one other follows. */
int mem_map_set_ram(struct mem_map *map, uint64_t size, struct err *e) __must_check;

#endif
