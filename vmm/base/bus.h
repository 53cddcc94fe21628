/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.h owns the way from a guest's port or MMIO access to the device that answers it: a sorted
 * array of ranges, searched by halves. One bus for ports, one for MMIO.
 *
 * Handlers run on the vCPU thread that made the access, under the machine lock, with an access that
 * lies wholly inside their range; len is 1, 2, 4 or 8. A handler never blocks and never trusts the
 * data.
 */
#ifndef MAYFLY_BASE_BUS_H
#define MAYFLY_BASE_BUS_H

#include "vmm/base/err.h"

#define BUS_RANGES_MAX 64

struct bus_range {
    const char *name;
    uint64_t base, len;
    void *owner;
    /* data arrives zeroed; offset is from base. NULL = reads give zeros. */
    void (*read)(void *owner, uint64_t offset, void *data, unsigned len);
    /* NULL = writes are ignored. */
    void (*write)(void *owner, uint64_t offset, const void *data, unsigned len);
};

struct bus {
    unsigned count;
    struct bus_range range[BUS_RANGES_MAX];
};

/* Adds a range (copied). -EEXIST when it overlaps another, -ENOSPC when the bus is full. */
int bus_add(struct bus *bus, const struct bus_range *range, struct err *e) __must_check;

/* False when nobody claims the access: data is then all zeros (writes: dropped), as
 * on Firecracker. */
bool bus_read(const struct bus *bus, uint64_t addr, void *data, unsigned len);
bool bus_write(const struct bus *bus, uint64_t addr, const void *data, unsigned len);

#endif
