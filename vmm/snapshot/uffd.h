/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd.h owns guest memory that another process serves by userfaultfd: the hand-over as clients of
 * Firecracker know it, and the watch over that process.
 *
 * The hand-over: the memory is registered for missing pages, with remove events; one message over
 * a Unix socket carries the descriptor (SCM_RIGHTS) and a JSON array of the regions:
 *
 *     [{"base_host_virt_addr":N,"size":N,"offset":N,"page_size":N,"page_size_kib":N},...]
 *
 * all in bytes, page_size_kib too; offset is the region's in the memory file. Then our side of the
 * socket is shut down for writing, so that a process which reads to the end sees one.
 *
 * We keep a descriptor of our own: without it, the other process's death would end the
 * registration, and pages that never came would be read as zeroes. So that death must be seen. A
 * thread watches, since the loop's may itself be waiting for a page; it blocks in poll(2) and costs
 * nothing meanwhile. It ends the monitor, by `lost`, when
 *
 *   - the process has hung up, and has ended (or nothing tells whether it has);
 *   - it has hung up but lives, as some do once they have the descriptor, and leaves events unread
 *     for UFFD_UNREAD_MS (it is asked for a page at once, to know), or ends later;
 *   - something that the monitor itself waits for (struct mem_pager) takes longer than
 *     UFFD_PATIENCE_MS.
 *
 * A vCPU may wait for its page for ever, as under Firecracker: the API answers meanwhile.
 */
#ifndef MAYFLY_SNAPSHOT_UFFD_H
#define MAYFLY_SNAPSHOT_UFFD_H

#include "vmm/base/mem.h"

#define UFFD_PATIENCE_MS 10000u
#define UFFD_UNREAD_MS   2000u

struct uffd;

/*
 * Hands `mem`, fresh from mem_create_served, to the process that listens at `path`, and waits until
 * that has served the first page: one that never answers is found out here, within
 * UFFD_PATIENCE_MS. Then mem->pager is set. `lost` gets the last words; it is called by the thread
 * that watches, without any lock, and does not return. Sentences begin as clients know them.
 */
int uffd_serve(struct uffd **uffd, struct mem *mem, const char *path,
               void (*lost)(const struct err *e), struct err *e) __must_check;

/*
 * Ends the watch and the registration: pages that have not come are zeroes from now on, so no guest
 * may run on them. For tests; the monitor's own ends with the process. NULL is accepted.
 */
void uffd_destroy(struct uffd *uffd);

/* The message for `mem`, in malloc'ed memory; NULL without any. Pure. */
char *uffd_message(const struct mem *mem);

#endif
