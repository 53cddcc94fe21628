/* SPDX-License-Identifier: Apache-2.0 */
/* load_memory.h owns where a loaded guest's memory comes from. */
#ifndef MAYFLY_VMM_LOAD_MEMORY_H
#define MAYFLY_VMM_LOAD_MEMORY_H

#include "vmm/machine.h"
#include "vmm/snapshot/file_lock.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/touched.h"

/*
 * Makes the RAM of `config`, as `load` says; what is in it is as `map` describes. On error there
 * may be some, good for nothing. A memory file stays open as mem->fd, and *lock is our shared lock
 * on it; of no file there is none. `lost` is told when whoever serves the memory is gone
 * (snapshot/uffd.h). Loop thread, machine lock held.
 */
int load_memory(struct mem *mem, struct file_lock *lock, const struct machine_load *load,
                const struct machine_config *config, const struct mem_map *map,
                void (*lost)(const struct err *e), struct err *e) __must_check;

/* Whether what `load` wants of working sets goes together; before anything is made. */
int load_check_working_set(const struct machine_load *load, struct err *e) __must_check;

/* Begins to record one or fetches one, as `load` says, in memory that load_memory has just made.
 * *recording is set where one was begun, *set where one was fetched: for working_set_map, and to be
 * freed. */
int load_working_set(const struct mem *mem, const struct machine_load *load,
                     struct recording **recording, struct working_set *set,
                     struct err *e) __must_check;

#endif
