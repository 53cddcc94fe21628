/* SPDX-License-Identifier: Apache-2.0 */
/* A guest whose driver is an enemy of its device. */
#ifndef MAYFLY_TESTS_E2E_HOSTILE_H
#define MAYFLY_TESTS_E2E_HOSTILE_H

#include "tests/e2e/vm.h"

/*
 * The tiny guest attacks the device of that number, with 100,000 operations in all, while the API
 * goes on answering. A disk that it leaves alone, device number `bystander`, must hold what it
 * held; the device must have been driven to a reset more than `needs_resets` times, and must work
 * again at the end. add_victim configures the device that is attacked.
 */
void hostile_driver(void (*add_victim)(struct vm *), unsigned device, unsigned bystander,
                    unsigned needs_resets);

#endif
