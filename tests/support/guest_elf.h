/* SPDX-License-Identifier: Apache-2.0 */
/* guest_elf.h owns the smallest kernel image: a few instructions as an ELF file. */
#ifndef MAYFLY_TESTS_GUEST_ELF_H
#define MAYFLY_TESTS_GUEST_ELF_H

#include "tests/support/text.h"

/* Where the one segment is loaded, and entered in 64-bit mode. */
#define GUEST_ELF_ADDRESS 0x100000

/* Appends to `file` an ELF64 file whose one segment is `code`. */
void guest_elf_append(struct text *file, const void *code, size_t len);

#endif
