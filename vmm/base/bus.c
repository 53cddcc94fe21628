/* SPDX-License-Identifier: Apache-2.0 */
/* bus.c: a sorted array of ranges that do not overlap. */
#include "vmm/base/bus.h"

#include <errno.h>
#include <string.h>

/* The index of the first range that ends after addr. */
static unsigned first_after(const struct bus *bus, uint64_t addr)
{
    unsigned low = 0, high = bus->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (bus->range[middle].base + bus->range[middle].len <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int bus_add(struct bus *bus, const struct bus_range *range, struct err *e)
{
    unsigned at = first_after(bus, range->base);

    if (bus->count == BUS_RANGES_MAX)
        return err_set(e, -ENOSPC, "No room on the bus for %s.", range->name);
    if (at < bus->count && bus->range[at].base < range->base + range->len)
        return err_set(e, -EEXIST, "The addresses of %s and %s overlap.", range->name,
                       bus->range[at].name);
    memmove(&bus->range[at + 1], &bus->range[at], (bus->count - at) * sizeof(*range));
    bus->range[at] = *range;
    bus->count++;
    return 0;
}

/* The range that holds the whole access; one that runs past a device's end belongs to nobody. */
static const struct bus_range *find(const struct bus *bus, uint64_t addr, unsigned len)
{
    unsigned at = first_after(bus, addr);
    const struct bus_range *range = &bus->range[at];

    if (at == bus->count || addr < range->base || !range_fits(addr - range->base, len, range->len))
        return NULL;
    return range;
}

bool bus_read(const struct bus *bus, uint64_t addr, void *data, unsigned len)
{
    const struct bus_range *range = find(bus, addr, len);

    memset(data, 0, len);
    if (range && range->read)
        range->read(range->owner, addr - range->base, data, len);
    return range != NULL;
}

bool bus_write(const struct bus *bus, uint64_t addr, const void *data, unsigned len)
{
    const struct bus_range *range = find(bus, addr, len);

    if (range && range->write)
        range->write(range->owner, addr - range->base, data, len);
    return range != NULL;
}
