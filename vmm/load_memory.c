/* SPDX-License-Identifier: Apache-2.0 */
/* load_memory.c: see load_memory.h. */
#include "vmm/load_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The map of the memory that was made must be that of the snapshot. */
static int check_map(const struct mem *mem, const struct mem_map *map, struct err *e)
{
    struct mem_map found;

    mem_map_of(&found, mem);
    if (found.count == map->count &&
        memcmp(found.region, map->region, found.count * sizeof(found.region[0])) == 0)
        return 0;
    return err_set(e, -EINVAL, "The snapshot's map of memory is not that of this monitor.");
}

/* A private mapping of the memory file. */
static int map_file(struct mem *mem, const char *path, const struct machine_config *config,
                    uint64_t size, struct err *e)
{
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return err_set(e, -errno, "Failed to load guest memory: %s", err_os(-errno));
    rc = mem_create_from_file(mem, fd, size, config->huge_pages, config->track_dirty_pages, e);
    close(fd);
    return rc;
}

int load_memory(struct mem *mem, const struct machine_load *load,
                const struct machine_config *config, const struct mem_map *map, struct err *e)
{
    int rc = map_file(mem, load->files.mem_path, config, mem_map_size(map), e);

    return rc ? rc : check_map(mem, map, e);
}
