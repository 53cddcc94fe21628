/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h owns the process between the program and each test. Monitors that a guest was forked
 * into, daemons and jails are no children of the test's and outlive it; the keeper is the reaper of
 * all its descendants and ends with none of them left, whatever ends the test: its last line, a
 * crash, or the end of the program itself, SIGKILL included.
 */
#ifndef MAYFLY_TESTS_E2E_KEEPER_H
#define MAYFLY_TESTS_E2E_KEEPER_H

#include <sys/types.h>

struct kept {
    void (*run)(const void *arg); /* in a process of its own; never returns */
    const void *arg;
};

/*
 * Starts a keeper with a test, which ends as the test does: the same exit code, or by the same
 * signal. SIGTERM to the keeper is handed on to the test; SIGHUP ends the test and all the rest at
 * once. Returns its id, or -1 with errno.
 */
pid_t keeper_start(const struct kept *kept);

#endif
