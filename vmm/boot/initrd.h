/* SPDX-License-Identifier: Apache-2.0 */
/*
 * initrd.h owns the initial RAM disk: where it lies, and reading it there. It ends as high in the
 * first region of RAM as it may, at a page boundary below, so that it is out of a kernel's way.
 */
#ifndef MAYFLY_BOOT_INITRD_H
#define MAYFLY_BOOT_INITRD_H

#include "vmm/boot/kernel.h"

struct initrd {
    gpa_t gpa;
    uint64_t size; /* 0 = there is none */
};

/* Chooses the place of `size` bytes, page-aligned and clear of the kernel. Pure. -EINVAL for an
 * empty one, -ENOMEM. */
int initrd_place(const struct mem *mem, const struct kernel_image *image, uint64_t size,
                 struct initrd *initrd, struct err *e) __must_check;

/* Places the file `fd` and reads it into memory; fd = -1 gives an initrd of size 0. */
int initrd_load(int fd, const struct kernel_image *image, struct mem *mem, struct initrd *initrd,
                struct err *e) __must_check;

#endif
