/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_files.c: kernel files made in memory. */
#include "tests/support/kernel_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>

uint8_t kernel_file_pattern(size_t offset)
{
    return (uint8_t)(offset * 7 + (offset >> 8) + 1);
}

static void fill(struct kernel_file *file, size_t at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        file->bytes[at + i] = kernel_file_pattern(i);
}

void kernel_file_put(struct kernel_file *file, size_t offset, uint64_t value, unsigned bytes)
{
    if (offset + bytes > sizeof(file->bytes))
        abort();
    memcpy(file->bytes + offset, &value, bytes);
}

Elf64_Ehdr *kernel_file_ehdr(struct kernel_file *file)
{
    return (Elf64_Ehdr *)(void *)file->bytes;
}

Elf64_Phdr *kernel_file_phdr(struct kernel_file *file, unsigned i)
{
    return (Elf64_Phdr *)(void *)(file->bytes + sizeof(Elf64_Ehdr)) + i;
}

void kernel_file_make_elf(struct kernel_file *file)
{
    Elf64_Ehdr *eh = kernel_file_ehdr(file);

    memset(file, 0, sizeof(*file));
    file->len = ELF_FILE_SIZE;
    memcpy(eh->e_ident, ELFMAG, SELFMAG);
    eh->e_ident[EI_CLASS] = ELFCLASS64;
    eh->e_ident[EI_DATA] = ELFDATA2LSB;
    eh->e_ident[EI_VERSION] = EV_CURRENT;
    eh->e_type = ET_EXEC;
    eh->e_machine = EM_X86_64;
    eh->e_version = EV_CURRENT;
    eh->e_entry = ELF_FILE_ENTRY;
    eh->e_phoff = sizeof(*eh);
    eh->e_ehsize = sizeof(*eh);
    eh->e_phentsize = sizeof(Elf64_Phdr);
    eh->e_phnum = ELF_FILE_HEADERS;
    *kernel_file_phdr(file, ELF_FILE_TEXT) = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = ELF_FILE_TEXT_AT,
        .p_vaddr = 0xffffffff80000000 + ELF_FILE_TEXT_GPA,
        .p_paddr = ELF_FILE_TEXT_GPA,
        .p_filesz = ELF_FILE_TEXT_SIZE,
        .p_memsz = ELF_FILE_TEXT_SIZE,
    };
    *kernel_file_phdr(file, ELF_FILE_DATA) = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = ELF_FILE_DATA_AT,
        .p_vaddr = 0xffffffff80000000 + ELF_FILE_DATA_GPA,
        .p_paddr = ELF_FILE_DATA_GPA,
        .p_filesz = ELF_FILE_DATA_SIZE,
        .p_memsz = ELF_FILE_DATA_ROOM,
    };
    *kernel_file_phdr(file, ELF_FILE_NOTES) =
        (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = ELF_FILE_NOTES_AT, .p_align = 4};
    fill(file, ELF_FILE_TEXT_AT, ELF_FILE_TEXT_SIZE);
    fill(file, ELF_FILE_DATA_AT, ELF_FILE_DATA_SIZE);
    /* An owner's name whose descriptor's length is no multiple of four, to be stepped over. */
    kernel_file_add_note(file, "FreeB", 1, "abc", 3);
}

static size_t padded(size_t len)
{
    return (len + 3) & ~(size_t)3;
}

void kernel_file_add_note(struct kernel_file *file, const char *name, uint32_t type,
                          const void *desc, uint32_t desc_size)
{
    Elf64_Phdr *ph = kernel_file_phdr(file, ELF_FILE_NOTES);
    size_t at = ph->p_offset + ph->p_filesz, name_size = strlen(name) + 1;
    Elf64_Nhdr note = {.n_namesz = (uint32_t)name_size, .n_descsz = desc_size, .n_type = type};
    size_t size = sizeof(note) + padded(name_size) + padded(desc_size);

    if (at + size > file->len)
        abort();
    memcpy(file->bytes + at, &note, sizeof(note));
    memcpy(file->bytes + at + sizeof(note), name, name_size);
    memcpy(file->bytes + at + sizeof(note) + padded(name_size), desc, desc_size);
    ph->p_filesz += size;
    ph->p_memsz = ph->p_filesz;
}

void kernel_file_add_pvh(struct kernel_file *file, uint32_t desc_size)
{
    uint64_t entry = ELF_FILE_PVH_ENTRY;

    kernel_file_add_note(file, "Xen", 18, &entry, desc_size);
}

void kernel_file_make_bzimage(struct kernel_file *file)
{
    memset(file, 0, sizeof(*file));
    file->len = BZIMAGE_PAYLOAD_AT + BZIMAGE_PAYLOAD_SIZE;
    kernel_file_put(file, 0x1f1, BZIMAGE_SETUP_SECTORS, 1);
    kernel_file_put(file, 0x1f4, BZIMAGE_PAYLOAD_SIZE / 16, 4);
    kernel_file_put(file, 0x1fe, 0xaa55, 2);
    kernel_file_put(file, 0x200, 0x6aeb, 2); /* jmp over the header, which ends at 0x26c */
    memcpy(file->bytes + 0x202, "HdrS", 4);
    kernel_file_put(file, 0x206, 0x020f, 2);
    kernel_file_put(file, 0x211, 1, 1);
    kernel_file_put(file, 0x214, 0x100000, 4);
    kernel_file_put(file, 0x22c, BZIMAGE_INITRD_MAX, 4);
    kernel_file_put(file, 0x230, 0x200000, 4);
    kernel_file_put(file, 0x234, 1, 1);
    kernel_file_put(file, 0x236, 0x3f, 2);
    kernel_file_put(file, 0x238, 2047, 4);
    kernel_file_put(file, 0x258, BZIMAGE_GPA, 8);
    kernel_file_put(file, 0x260, BZIMAGE_INIT_SIZE, 4);
    fill(file, BZIMAGE_PAYLOAD_AT, BZIMAGE_PAYLOAD_SIZE);
}

int kernel_file_open(const struct kernel_file *file)
{
    int fd = memfd_create("kernel", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (pwrite(fd, file->bytes, file->len, 0) != (ssize_t)file->len) {
        close(fd);
        return -EIO;
    }
    return fd;
}
