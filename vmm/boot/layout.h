/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h owns the guest physical addresses of an x86_64 machine. They are Firecracker's, so that
 * guests, tools and debugging habits carry over; the reason of each is beside it. RAM
 * and the holes in it are vmm/base/mem.h's.
 *
 * Everything below 1 MiB is written once, before the first instruction, and belongs to the guest
 * from then on.
 */
#ifndef MAYFLY_BOOT_LAYOUT_H
#define MAYFLY_BOOT_LAYOUT_H

#include "vmm/base/util.h"

/* Descriptor tables: above the real-mode interrupt vectors and the BIOS data area (0 to 0x4ff),
 * which kernels read, so that zeros there mean "no BIOS". */
#define LAYOUT_GDT UINT64_C(0x500)
#define LAYOUT_IDT UINT64_C(0x520)

/* What a PVH kernel is told, Xen's start_of_day structures. */
#define LAYOUT_PVH_START_INFO UINT64_C(0x6000)
#define LAYOUT_PVH_MODULES    UINT64_C(0x6040)
#define LAYOUT_PVH_MEMORY_MAP UINT64_C(0x7000)

/* What a kernel of the Linux boot protocol is told (struct boot_params, one page). Only one of the
 * two protocols is ever used, so the page is shared with the PVH memory map. */
#define LAYOUT_ZERO_PAGE UINT64_C(0x7000)

/* The stack at entry, growing down towards the zero page; kernels replace it at once. */
#define LAYOUT_STACK UINT64_C(0x8ff0)

/* Page tables that map the first GiB one to one in pages of 2 MiB (64-bit entry only). */
#define LAYOUT_PML4            UINT64_C(0x9000)
#define LAYOUT_PDPT            UINT64_C(0xa000)
#define LAYOUT_PD              UINT64_C(0xb000)
#define LAYOUT_IDENTITY_MAPPED GIB

/* The command line. x86 kernels read at most 2048 bytes, the NUL among them (COMMAND_LINE_SIZE). */
#define LAYOUT_CMDLINE      UINT64_C(0x20000)
#define LAYOUT_CMDLINE_SIZE UINT64_C(2048)

/* The end of conventional memory, where the extended BIOS data area of a PC begins: kernels look
 * for the MP table in the last KiB below 640 KiB. MP table, then ACPI tables, upward; reserved in
 * the memory map up to the RSDP. */
#define LAYOUT_SYSTEM     UINT64_C(0x9fc00)
#define LAYOUT_SYSTEM_END UINT64_C(0xe0000)

/* The guest's generation (vmm/generation.h), at the upper end of that area: the ACPI tables end
 * below. VMClock's page is its own because guests hand it to user space as a whole. */
#define LAYOUT_VMGENID      UINT64_C(0xdf000)
#define LAYOUT_VMCLOCK      UINT64_C(0xde000)
#define LAYOUT_VMCLOCK_SIZE 0x1000

/* The ACPI root pointer: the first address of the area that kernels search (ACPI 6.5, 5.2.5.1). */
#define LAYOUT_RSDP UINT64_C(0xe0000)

/* The first byte that is not ours. A segment of a kernel may begin here, though a kernel proper
 * begins at 1 MiB. */
#define LAYOUT_TABLES_END UINT64_C(0xe1000)

/* Where a PC's firmware starts after a reset, in real mode. Ours resets the machine; a kernel that
 * loads over it has its own way. */
#define LAYOUT_RESET_VECTOR UINT64_C(0xffff0)

/* Where RAM that a kernel may be loaded to begins, above the legacy holes of a PC. */
#define LAYOUT_HIGH_MEMORY UINT64_C(0x100000)

/* The MMIO windows at the bottom of the 32-bit hole: a page for the boot timer, then a page for
 * each virtio-mmio device, in the order of attachment. */
#define LAYOUT_BOOT_TIMER       UINT64_C(0xc0000000)
#define LAYOUT_VIRTIO_MMIO      UINT64_C(0xc0001000)
#define LAYOUT_VIRTIO_MMIO_SIZE UINT64_C(0x1000)

/* Configuration space of a PCI Express bus to come. Reserved in the memory map already, so that the
 * map a guest sees does not depend on it. */
#define LAYOUT_PCI_ECAM      UINT64_C(0xeec00000)
#define LAYOUT_PCI_ECAM_SIZE (256 * MIB)

/* Where KVM's in-kernel chips answer, as on every PC. */
#define LAYOUT_IOAPIC      UINT64_C(0xfec00000)
#define LAYOUT_IOAPIC_PINS 24
#define LAYOUT_LAPIC       UINT64_C(0xfee00000)

/* Legacy interrupts, wired as on a PC. These and the ports below have names in vmm/legacy as well,
 * which must not see this folder nor be seen by it; test_boot.c holds them equal. */
#define LAYOUT_IRQ_TIMER    0
#define LAYOUT_IRQ_KEYBOARD 1
#define LAYOUT_IRQ_SERIAL   4

/* The last two pins are the generation's, so that they are where they are whatever devices there
 * are. */
#define LAYOUT_IRQ_VMGENID 22
#define LAYOUT_IRQ_VMCLOCK 23

/* Ports that the ACPI tables name: reset by the keyboard controller's pulse line, power-off by the
 * sleep registers (vmm/legacy/power.h answers there), serial port and keyboard controller. */
#define LAYOUT_PORT_SERIAL        0x3f8
#define LAYOUT_PORT_KEYBOARD_DATA 0x60
#define LAYOUT_PORT_KEYBOARD_CTRL 0x64
#define LAYOUT_RESET_PULSE        0xfe
#define LAYOUT_PORT_SLEEP_CONTROL 0x600
#define LAYOUT_PORT_SLEEP_STATUS  0x601
#define LAYOUT_PORT_PM_TIMER      0x608
#define LAYOUT_SLEEP_TYPE_S5      5

#endif
