/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.h owns the file that names the pages of a memory file which a guest touches first
 * (FORMAT.md, "The working set"). It is a hint: pages that it names and the guest does not touch,
 * or the other way round, cost time and nothing else.
 *
 * No thread, no lock.
 */
#ifndef MAYFLY_SNAPSHOT_WORKING_SET_H
#define MAYFLY_SNAPSHOT_WORKING_SET_H

#include "vmm/base/err.h"

/* Pages of the memory file, of PAGE_SIZE. */
struct working_set_run {
    uint32_t first, pages;
    bool written; /* they became the guest's own, or else stayed the file's */
};

struct working_set {
    uint64_t mem_size; /* bytes of the memory file; at most WORKING_SET_MEMORY_MAX */
    uint32_t count;
    uint32_t room;
    struct working_set_run *run; /* malloc'ed; in ascending order, apart */
};

#define WORKING_SET_MEMORY_MAX (16 * 1024 * GIB)

/* Adds a page behind those that are there. -ENOMEM; -E2BIG for more runs than a file may have. */
int working_set_add(struct working_set *set, uint32_t page, bool written) __must_check;

/* How many pages are in it. */
uint64_t working_set_pages(const struct working_set *set);

/* Replaces the file at `path` in one step. Sentences name the path. */
int working_set_write(const struct working_set *set, const char *path, struct err *e) __must_check;

/* Reads the file, which must be of a memory file of mem_size bytes. -EINVAL for what is no working
 * set, or another memory file's. Sentences name the path. On error there is nothing to free. */
int working_set_read(struct working_set *set, const char *path, uint64_t mem_size,
                     struct err *e) __must_check;

/* Accepts a zeroed one. */
void working_set_free(struct working_set *set);

#endif
