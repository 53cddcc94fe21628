/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvh_x86_64.h owns what a kernel entered by PVH is told: hvm_start_info, its list of modules (the
 * initrd) and its memory map (Xen, public/arch-x86/hvm/start_info.h, version 1).
 */
#ifndef MAYFLY_BOOT_PVH_X86_64_H
#define MAYFLY_BOOT_PVH_X86_64_H

#include "vmm/boot/initrd.h"

/* Writes all three to their places in the layout. The command line is at LAYOUT_CMDLINE; rsdp: the
 * address of the ACPI root pointer, 0 = none. */
void pvh_write(struct mem *mem, const struct initrd *initrd, uint64_t rsdp);

#endif
