/* SPDX-License-Identifier: Apache-2.0 */
/*
 * late_write.h owns what becomes of our own accesses to memory that the guest has just unplugged.
 *
 * A guest may unplug a block while a device still has a pointer into it: a ring that lies there,
 * the status byte of a request in flight. The block is gone from translation at once, and the
 * kernel's copies into it fail with -EFAULT; but a store by the monitor itself is a SIGSEGV, for
 * the block's protection is what keeps the guest out. The signal's handler asks here: if the
 * address lies in the range that is watched, its page becomes writable again, the store goes on and
 * nobody reads it. The owner of the range takes such pages back when it serves its next request.
 *
 * One range a process.
 */
#ifndef MAYFLY_BASE_LATE_WRITE_H
#define MAYFLY_BASE_LATE_WRITE_H

#include "vmm/base/util.h"

/* Watches [at, at+size), whose pages have `page` bytes; size 0 = nothing any more. */
void late_write_watch(void *at, uint64_t size, uint64_t page);

/* Whether the access may be tried again. Any thread, from a signal's handler. */
bool late_write_allow(void *address);

/* Whether a page was made writable since the last call. */
bool late_write_happened(void);

#endif
