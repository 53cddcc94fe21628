/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzimage.h owns the header of a bzImage, the compressed kernel of distributions (Linux,
 * Documentation/arch/x86/boot.rst). The part after the real-mode code is loaded at its preferred
 * address and entered in 64-bit mode; it decompresses itself. Pure, like elf.h.
 */
#ifndef MAYFLY_BOOT_BZIMAGE_H
#define MAYFLY_BOOT_BZIMAGE_H

#include "vmm/boot/kernel.h"

/* `head`: the file's first `len` bytes. Fills *image with a kernel of the 64-bit protocol and one
 * segment. */
int bzimage_parse(const void *head, size_t len, uint64_t file_size, struct kernel_image *image,
                  struct err *e) __must_check;

#endif
