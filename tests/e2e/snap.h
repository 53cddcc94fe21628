/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots in a test: NAME is the stem of two files of the test's directory, NAME.state and
 * NAME.mem. Every call here ends the test when it does not go as it must.
 */
#ifndef MAYFLY_TESTS_E2E_SNAP_H
#define MAYFLY_TESTS_E2E_SNAP_H

#include "tests/e2e/vm.h"

/* A full snapshot of a guest that is paused for it and stays so. */
void snap_take(struct vm *vm, const char *name);

/* The same of what was written since the last one; into the file's place if it has the size. */
void snap_diff(struct vm *vm, const char *name);

/* A new monitor that goes on from it. `more` are further members of the request, each with a comma
 * before it. */
struct vm *snap_revive(const char *name, const char *more);

/* Lets a paused guest go on. */
void snap_resume(struct vm *vm);

/* Pauses the guest, has its snapshot written behind its back, and lets it go on. */
void snap_behind(struct vm *vm, const char *type, const char *name);

/* Waits for what becomes of it: the state that the monitor reports, and the reason of a failure. */
const char *snap_outcome(struct vm *vm, const char **why);

/* Waits until it is written; a failure ends the test. */
void snap_is_written(struct vm *vm);

#endif
