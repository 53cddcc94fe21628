/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk files as the host sees them: what guests wrote into them, by the pattern of
 * guest/init/pattern.h. Every call ends the test when it finds something else.
 */
#ifndef MAYFLY_TESTS_E2E_DISK_FILE_H
#define MAYFLY_TESTS_E2E_DISK_FILE_H

#include <stdbool.h>
#include <stdint.h>

enum { MIB = 1 << 20, SECTORS_PER_MIB = 2048 };

/* A new file of holes in the test's directory. */
const char *disk_new(const char *name, unsigned mib);

/* Fills sectors with the pattern of `seed`. */
void disk_fill(const char *path, uint64_t from, uint64_t sectors, uint64_t seed);

/* Sectors must hold the pattern of `seed`. */
void disk_holds(const char *path, uint64_t from, uint64_t sectors, uint64_t seed);

/* Whether sectors are all zero. */
bool disk_is_zero(const char *path, uint64_t from, uint64_t sectors);

#endif
