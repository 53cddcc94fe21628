/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mptable.h owns the MP table, the older of the two descriptions of the machine: processors, one
 * I/O APIC and the interrupts in use (Intel, MultiProcessor Specification 1.4, chapter 4). For
 * kernels without ACPI or told `acpi=off`.
 */
#ifndef MAYFLY_BOOT_MPTABLE_H
#define MAYFLY_BOOT_MPTABLE_H

#include "vmm/boot/boot.h"

#define MPTABLE_CPUS_MAX 32

/*
 * Writes the floating pointer and the table to `gpa` (16-byte aligned, in the last KiB of
 * conventional memory, where kernels look) and returns its size in bytes. `vcpu_count` is 1 to
 * MPTABLE_CPUS_MAX, and vCPU n has the local APIC id n.
 */
size_t mptable_write(struct mem *mem, uint64_t gpa, unsigned vcpu_count,
                     const struct boot_device *device, unsigned device_count);

#endif
