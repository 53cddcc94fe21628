/* SPDX-License-Identifier: Apache-2.0 */
/* mem_map.c: see mem_map.h. */
#include "vmm/snapshot/mem_map.h"

#include <errno.h>
#include <string.h>

static const struct state_field fields[] = {
    STATE_FIELD(struct mem_map_region, gpa),
    STATE_FIELD(struct mem_map_region, size),
    STATE_FIELD(struct mem_map_region, offset),
};
const struct state_desc mem_map_desc = STATE_DESC("memory", 1, struct mem_map_region, fields);

void mem_map_of(struct mem_map *map, const struct mem *mem)
{
    uint64_t offset = 0;

    map->count = mem->count;
    for (unsigned i = 0; i < mem->count; i++) {
        const struct mem_region *region = &mem->region[i];

        map->region[i] = (struct mem_map_region){region->gpa.v, region->size, offset};
        offset += region->size;
    }
}

uint64_t mem_map_size(const struct mem_map *map)
{
    const struct mem_map_region *last = &map->region[map->count - 1];

    return last->offset + last->size;
}

void mem_map_write(const struct mem_map *map, struct state_writer *w)
{
    state_write(w, &mem_map_desc, 0, map->region, map->count);
}

/* Whole pages, in the order of their addresses, without overlap, and one behind the other in the
 * file; far from where sums could wrap. */
static bool is_sound(const struct mem_map *map)
{
    const uint64_t limit = UINT64_C(1) << 52; /* no processor addresses more */
    uint64_t gpa = 0, offset = 0;

    for (uint32_t i = 0; i < map->count; i++) {
        const struct mem_map_region *region = &map->region[i];

        if (region->size == 0 || (region->size | region->gpa) % PAGE_SIZE != 0 ||
            region->gpa < gpa || !range_fits(region->gpa, region->size, limit) ||
            region->offset != offset)
            return false;
        gpa = region->gpa + region->size;
        offset += region->size;
    }
    return map->count > 0;
}

int mem_map_read(struct mem_map *map, struct state_reader *r, struct err *e)
{
    int rc = state_read_array(r, &mem_map_desc, 0, map->region, MEM_REGIONS_MAX, &map->count, e);

    if (rc == 0 && !is_sound(map))
        rc = err_set(e, -EINVAL, "The snapshot's map of memory is not one that a guest can have.");
    return rc;
}
