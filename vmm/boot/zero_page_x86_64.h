/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zero_page_x86_64.h owns struct boot_params, the page that tells a kernel of the Linux boot
 * protocol about its machine (Linux, Documentation/arch/x86/boot.rst and zero-page.rst).
 */
#ifndef MAYFLY_BOOT_ZERO_PAGE_X86_64_H
#define MAYFLY_BOOT_ZERO_PAGE_X86_64_H

#include "vmm/boot/initrd.h"

/* Writes it to LAYOUT_ZERO_PAGE. cmdline_len: bytes at LAYOUT_CMDLINE without the NUL; rsdp: the
 * address of the ACPI root pointer, which saves the kernel the search for it, 0 = none. */
void zero_page_write(struct mem *mem, const struct kernel_image *image, const struct initrd *initrd,
                     size_t cmdline_len, uint64_t rsdp);

#endif
