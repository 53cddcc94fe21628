/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small, valid kernel files of each format, made in memory for tests to damage. Their code is a
 * pattern, never run.
 */
#ifndef MAYFLY_TESTS_SUPPORT_KERNEL_FILES_H
#define MAYFLY_TESTS_SUPPORT_KERNEL_FILES_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL_FILE_MAX 32768

struct kernel_file {
    size_t len;
    _Alignas(16) uint8_t bytes[KERNEL_FILE_MAX];
};

/* What the ELF file holds: two segments to load, the second with room after its bytes, and one of
 * notes. */
#define ELF_FILE_TEXT_GPA  0x1000000u
#define ELF_FILE_TEXT_SIZE 0x800u
#define ELF_FILE_TEXT_AT   0x1000u /* in the file */
#define ELF_FILE_DATA_GPA  0x1200000u
#define ELF_FILE_DATA_SIZE 0x123u
#define ELF_FILE_DATA_ROOM 0x5000u
#define ELF_FILE_DATA_AT   0x1800u
#define ELF_FILE_NOTES_AT  0x1a00u
#define ELF_FILE_ENTRY     (ELF_FILE_TEXT_GPA + 0x40)
#define ELF_FILE_PVH_ENTRY (ELF_FILE_TEXT_GPA + 0x80)
#define ELF_FILE_SIZE      0x2000u

enum { ELF_FILE_TEXT, ELF_FILE_DATA, ELF_FILE_NOTES, ELF_FILE_HEADERS };

/* A kernel for the 64-bit protocol; its note is one of another owner's. */
void kernel_file_make_elf(struct kernel_file *file);
/* Adds the PVH note, its descriptor of `desc_size` bytes (4 or 8). */
void kernel_file_add_pvh(struct kernel_file *file, uint32_t desc_size);
/* Appends any note at the end of the notes' segment, padded to 4 bytes. */
void kernel_file_add_note(struct kernel_file *file, const char *name, uint32_t type,
                          const void *desc, uint32_t desc_size);
Elf64_Ehdr *kernel_file_ehdr(struct kernel_file *file);
Elf64_Phdr *kernel_file_phdr(struct kernel_file *file, unsigned i);

/* A relocatable bzImage with 64-bit entry, protocol 2.15. */
#define BZIMAGE_SETUP_SECTORS 3u
#define BZIMAGE_PAYLOAD_AT    ((BZIMAGE_SETUP_SECTORS + 1) * (size_t)512)
#define BZIMAGE_PAYLOAD_SIZE  0x1230u
#define BZIMAGE_GPA           0x1000000u
#define BZIMAGE_INIT_SIZE     0x80000u
#define BZIMAGE_INITRD_MAX    0x7fffffffu

void kernel_file_make_bzimage(struct kernel_file *file);

/* Overwrites `bytes` bytes at `offset` with `value`, little-endian. */
void kernel_file_put(struct kernel_file *file, size_t offset, uint64_t value, unsigned bytes);

/* The byte that the makers above put at `offset` of a segment or payload. */
uint8_t kernel_file_pattern(size_t offset);

/* The file as an open descriptor (a memfd, at offset 0), or -errno; the caller closes it. */
int kernel_file_open(const struct kernel_file *file);

#endif
