/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem_file.h owns the writing of the memory file: the guest's memory as mem_map.h lays it out,
 * with holes where pages are zero, or not plugged.
 *
 * No vCPU runs and no device has anything in flight: what is read is what is there.
 */
#ifndef MAYFLY_SNAPSHOT_MEM_FILE_H
#define MAYFLY_SNAPSHOT_MEM_FILE_H

#include "vmm/base/mem.h"
#include "vmm/snapshot/new_file.h"

enum mem_file_pages {
    MEM_FILE_ALL,     /* what is not written is a hole: pages of zeros */
    MEM_FILE_CHANGED, /* what is not written is as it was; changed pages of zeros are written */
};

/* The bytes that the memory file has. */
uint64_t mem_file_size(const struct mem *mem);

/*
 * Writes pages into `file`, which is of that size: for MEM_FILE_ALL it has nothing but holes.
 *
 * What has changed is what dirty_take has taken. Where writes are not tracked, it is what this
 * process has of its own: of fresh memory each page that was ever touched, of a file's copy each
 * that is no longer the file's. /proc/self/pagemap tells which those are; where it cannot be
 * opened, as in a jail, it is all of them. mincore(2) would be wrong with swap, and about files.
 *
 * Pages that were never touched are not touched by this either, where /proc tells which they are.
 */
int mem_file_write(const struct new_file *file, const struct mem *mem, enum mem_file_pages pages,
                   struct err *e) __must_check;

#endif
