/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that counts in 64 pages of memory and tells the count, and "X" where a page has another
 * one (BARE_PACE): what is not its own memory at its own moment shows. Every call here ends the
 * test when it does not go as it must, an "X" above all.
 */
#ifndef MAYFLY_TESTS_E2E_PACE_H
#define MAYFLY_TESTS_E2E_PACE_H

#include "tests/e2e/vm.h"

/* Starts it, and waits until it counts. `config` is a PATCH of the machine's, "" = none. */
struct vm *pacing(const char *config, const char *const *args);

/* The last count that was told; 0 = none yet. On the monitor's standard output, or in the file that
 * has the console of one. */
unsigned long pace_of(struct vm *vm);
unsigned long pace_in(const char *console);

/* Waits until it has counted further than `from`: how far. */
unsigned long counts_beyond(struct vm *vm, unsigned long from);
unsigned long counts_beyond_in(const char *console, unsigned long from);

#endif
