/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tables.h owns how the tables of vmm/boot get into guest memory. Each is built in a buffer of the
 * host's and copied; below 1 MiB there is RAM in every machine, so a copy that fails is our bug.
 */
#ifndef MAYFLY_BOOT_TABLES_H
#define MAYFLY_BOOT_TABLES_H

#include "vmm/base/mem.h"

static inline void table_write(struct mem *mem, uint64_t gpa, const void *table, size_t len)
{
    BUG_ON(mem_write(mem, GPA(gpa), table, len) != 0);
}

/* The byte that makes the sum of all bytes 0, where MP and ACPI tables want one. Its own place
 * among the bytes must be 0. */
static inline uint8_t table_checksum(const void *table, size_t len)
{
    const uint8_t *bytes = table;
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return (uint8_t)-sum;
}

#endif
