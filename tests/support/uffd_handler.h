/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uffd_handler.h owns a process that serves a guest's memory by userfaultfd, for tests: from the
 * memory file of a snapshot, as those of Firecracker's users do. It is written from the kernel's
 * documentation alone and shares no code with the monitor.
 */
#ifndef MAYFLY_TESTS_SUPPORT_UFFD_HANDLER_H
#define MAYFLY_TESTS_SUPPORT_UFFD_HANDLER_H

#include <stdbool.h>
#include <stdint.h>

#include <sys/types.h>

/* What it does on SIGUSR1; or at once, before it has served anything. */
enum uffd_handler_end {
    UFFD_HANDLER_DIES,
    UFFD_HANDLER_IS_SILENT,  /* reads everything and serves nothing more */
    UFFD_HANDLER_HANGS_UP,   /* closes its connection, and goes on serving */
    UFFD_HANDLER_WALKS_AWAY, /* closes connection and descriptor, and lives on */
};

struct uffd_handler_options {
    const char *memory; /* the memory file */
    enum uffd_handler_end end;
    bool at_once;
    unsigned delay_us; /* before each page */
};

/* What it has seen so far; the test reads it while the handler writes. */
struct uffd_handler_seen {
    volatile unsigned copied, zeroed; /* pages served from the file; as zeroes */
    volatile unsigned removed;        /* pages that remove events told of */
    volatile unsigned page_size;
    char message[1024];
};

/*
 * A handler in a process of its own, which dies with this one; it listens at `path` when this
 * returns. *seen is shared with it, and never freed. Its pid, or -errno.
 */
pid_t uffd_handler_fork(const char *path, const struct uffd_handler_options *options,
                        const struct uffd_handler_seen **seen);

#endif
