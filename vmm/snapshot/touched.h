/* SPDX-License-Identifier: Apache-2.0 */
/*
 * touched.h owns working sets at work: finding out which pages of a memory file a loaded guest
 * touches, and fetching such pages before it asks for them.
 *
 * Which pages of a private mapping were touched stands in the page table; but the kernel enters the
 * neighbours of a page that is read as well (fault-around). It does not where the mapping is
 * registered with a userfaultfd for write protection: so it is, in the way in which nobody is ever
 * told of anything (Linux 6.7), and nothing is protected. The record is exact then: each page read
 * or written by the guest, by KVM on its behalf, or by the monitor, and no other.
 *
 * Machine lock held.
 */
#ifndef MAYFLY_SNAPSHOT_TOUCHED_H
#define MAYFLY_SNAPSHOT_TOUCHED_H

#include "vmm/base/mem.h"
#include "vmm/snapshot/working_set.h"

struct recording;

/*
 * Begins to record for the file `path`. `mem` is fresh from mem_create_from_file, and borrowed. The
 * end of the file is tried: one that cannot be written is refused now. -ENOTSUP where the kernel or
 * a jail without /proc cannot tell.
 */
int recording_begin(struct recording **recording, const struct mem *mem, const char *path,
                    struct err *e) __must_check;

/* Writes the file and ends the recording, in any case. */
int recording_end(struct recording *recording, struct err *e) __must_check;

/*
 * Fetches the pages of a working set of `mem`, which is of mem_create_from_file: into the page
 * cache what is not there, and what was written becomes private at once. Pages that were only read
 * are left to working_set_map and to faults, which find them in the page cache, several at a time.
 * Returns when that is done: a second thread gained nothing, since the guest's first instruction
 * needs such pages. What fails is left to the guest's own faults.
 */
void working_set_fetch(const struct working_set *set, const struct mem *mem);

/*
 * Maps the pages of a working set that was fetched for the guest of this vCPU, whose registers are
 * set and which has not run yet; where KVM can (kvm_pre_fault). Pages between two runs are not
 * worth the call that they save. What fails is left to the guest's own faults.
 */
void working_set_map(const struct working_set *set, const struct mem *mem, int vcpu_fd);

#endif
