/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debugger that lets one call of a process fail, or end it: of all calls by which its main thread
 * opens, writes, names and flushes files, counted from the moment it attaches.
 */
#ifndef MAYFLY_TESTS_SUPPORT_INJECTOR_H
#define MAYFLY_TESTS_SUPPORT_INJECTOR_H

#include <stdbool.h>

#include <sys/types.h>

struct injector {
    pid_t pid;   /* the debugger */
    int reports; /* from it */
};

#define INJECT_DEATH 0

/* Attaches to `target`: its call number `call` (from 1 on) fails with `code`, or is its death
 * (INJECT_DEATH) before it has begun. 0 or -errno: -EPERM where no debugger is allowed. */
int injector_start(struct injector *injector, pid_t target, unsigned call, int code);

/* Detaches; whether there was such a call. */
bool injector_stop(struct injector *injector);

#endif
