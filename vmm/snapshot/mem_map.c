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

static void add(struct mem_map *map, const struct mem_region *region)
{
    uint64_t offset = map->count > 0 ? mem_map_size(map) : 0;

    map->region[map->count++] = (struct mem_map_region){region->gpa.v, region->size, offset};
}

void mem_map_of(struct mem_map *map, const struct mem *mem)
{
    *map = (struct mem_map){.ram = mem->count};
    for (unsigned i = 0; i < mem->count; i++)
        add(map, &mem->region[i]);
    for (unsigned i = 0; i < mem->device_count && map->count < MEM_MAP_REGIONS_MAX; i++)
        if (mem->device[i].plugged)
            add(map, &mem->device[i]);
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
    int rc =
        state_read_array(r, &mem_map_desc, 0, map->region, MEM_MAP_REGIONS_MAX, &map->count, e);

    if (rc == 0 && !is_sound(map))
        rc = err_set(e, -EINVAL, "The snapshot's map of memory is not one that a guest can have.");
    map->ram = 0;
    return rc;
}

int mem_map_set_ram(struct mem_map *map, uint64_t size, struct err *e)
{
    for (uint32_t i = 0; i < MIN(map->count, MEM_REGIONS_MAX); i++) {
        if (map->region[i].offset + map->region[i].size != size || map->count > i + 2)
            continue;
        map->ram = i + 1;
        return 0;
    }
    return err_set(e, -EINVAL, "The snapshot's map of memory is of another size than its guest.");
}
