/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.h owns the newer of the two descriptions of the machine, for stock kernels: RSDP, XSDT,
 * FADT, MADT and DSDT of a hardware-reduced machine (ACPI 6.5: 4.1 for the model, 5.2 for the
 * tables). No power management but two things: reset by the keyboard controller's pulse line, and
 * power-off by the sleep registers.
 */
#ifndef MAYFLY_BOOT_ACPI_H
#define MAYFLY_BOOT_ACPI_H

#include "vmm/boot/boot.h"

/*
 * Writes the tables upward from `gpa` and the RSDP to LAYOUT_RSDP; returns the first address above
 * the tables, which is at most LAYOUT_VMCLOCK.
 */
uint64_t acpi_write(struct mem *mem, uint64_t gpa, unsigned vcpu_count,
                    const struct boot_device *device, unsigned device_count);

#endif
