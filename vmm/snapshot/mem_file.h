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

/* Writes all of memory into the empty `file`. Pages that were never touched are not touched by this
 * either, where /proc tells which they are. */
int mem_file_write(const struct new_file *file, const struct mem *mem, struct err *e) __must_check;

#endif
