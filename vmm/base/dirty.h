/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty.h owns the pages that were written since the last snapshot: what KVM's dirty log has of the
 * guest's writes (and of KVM's own), together with the bitmaps in which the monitor marks its own
 * (mem.h).
 *
 * Taking them for a snapshot empties both, so they are kept aside until it is known what became of
 * it: a snapshot that failed, however late, must not have lost a page.
 *
 *      dirty_take -> region->taken is written to a file -> dirty_settle
 *
 * KVM's log is read and emptied in one call (no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2): its second call
 * would spare nothing, as all pages are taken at once while nothing runs. Nor would the dirty ring:
 * it wants an exit whenever it is full, and a walk over entries instead of a copy of a bitmap.
 *
 * No vCPU runs and no device has anything in flight. Machine lock held.
 */
#ifndef MAYFLY_BASE_DIRTY_H
#define MAYFLY_BASE_DIRTY_H

#include "vmm/base/kvm.h"

/*
 * Moves what is dirty into each region's `taken`, and begins anew. Of memory that can be plugged,
 * pages of blocks that are not stay dirty: what they hold now is not saved, and a block that is
 * plugged later begins as zeros. Without tracking it does nothing. On error everything is as dirty
 * as it was.
 */
int dirty_take(struct mem *mem, const struct kvm *kvm, struct err *e) __must_check;

/* What was taken is in a snapshot that is complete (`saved`), or else becomes dirty again. Calls
 * without anything taken are fine. */
void dirty_settle(struct mem *mem, bool saved);

#endif
