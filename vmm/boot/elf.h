/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elf.h owns the ELF headers of a kernel (System V ABI; PVH note: Xen's elfnote.h and
 * docs/misc/pvh). Pure functions over bytes that nobody has vouched for: every offset and size in
 * them is judged here, and what comes out is a plan that kernel.h carries out.
 *
 * Call in this order: elf_parse_header, elf_parse_segments, elf_parse_notes for each of the
 * plan's notes, elf_choose_entry.
 */
#ifndef MAYFLY_BOOT_ELF_H
#define MAYFLY_BOOT_ELF_H

#include "vmm/boot/kernel.h"

#include <elf.h>

/* Program headers; more are refused (a kernel has a handful). */
#define ELF_HEADERS_MAX 128
#define ELF_TABLE_MAX   (ELF_HEADERS_MAX * sizeof(Elf64_Phdr))

/* Note segments and their size; a vmlinux has one, of some hundred bytes. */
#define ELF_NOTES_MAX      4
#define ELF_NOTES_SIZE_MAX 16384

struct elf_header {
    uint64_t entry;
    uint64_t table_offset; /* the program headers, wholly inside the file */
    uint64_t table_size;   /* in bytes, 1 to ELF_TABLE_MAX */
};

struct elf_notes {
    uint64_t offset, size; /* inside the file; size <= ELF_NOTES_SIZE_MAX */
    uint64_t align;        /* 4 or 8 */
};

struct elf_plan {
    struct kernel_image image;
    unsigned notes_count;
    struct elf_notes notes[ELF_NOTES_MAX];
    bool is_linux; /* it has a note of Linux's own */
    bool has_pvh;
    uint64_t pvh_entry;
};

bool elf_has_magic(const void *head, size_t len);

/* `head`: the file's first `len` bytes. */
int elf_parse_header(const void *head, size_t len, uint64_t file_size, struct elf_header *header,
                     struct err *e) __must_check;

/* `table`: the header->table_size bytes of the program headers, at any alignment. Fills *plan with
 * a kernel of the 64-bit protocol. */
int elf_parse_segments(const struct elf_header *header, const void *table, uint64_t file_size,
                       struct elf_plan *plan, struct err *e) __must_check;

/* Collects from notes what elf_choose_entry wants to know. Damaged notes end the search. */
void elf_parse_notes(const void *notes, size_t len, uint64_t align, struct elf_plan *plan);

/*
 * After all notes: makes the PVH entry point the image's if there is one, as Firecracker does, but
 * not in a Linux kernel, whose ELF entry point is always that of the 64-bit protocol. Entered by
 * PVH, Linux asks 256 CPUID leaves for Xen, each of them an exit: 1510 exits instead of 1244 in the
 * life of the reference kernel, and 32.1 virtual ms to its PID 1 instead of 31.2.
 */
void elf_choose_entry(struct elf_plan *plan);

#endif
