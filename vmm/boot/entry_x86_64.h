/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry_x86_64.h owns the state in which the first vCPU meets the kernel: descriptor tables, page
 * tables and registers, for the 64-bit Linux protocol (boot.rst, "64-bit Boot Protocol") and for
 * PVH (Xen, docs/misc/pvh: 32-bit protected mode without paging).
 */
#ifndef MAYFLY_BOOT_ENTRY_X86_64_H
#define MAYFLY_BOOT_ENTRY_X86_64_H

#include "vmm/boot/boot.h"

/* Writes GDT, IDT and, where the protocol has paging on, page tables; fills *entry. */
void entry_write(struct mem *mem, enum boot_protocol protocol, uint64_t rip,
                 struct boot_entry *entry);

#endif
