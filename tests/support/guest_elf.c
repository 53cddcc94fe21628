/* SPDX-License-Identifier: Apache-2.0 */
/* guest_elf.c: headers before code. */
#include "tests/support/guest_elf.h"

#include <elf.h>

void guest_elf_append(struct text *file, const void *code, size_t len)
{
    Elf64_Ehdr header = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_entry = GUEST_ELF_ADDRESS,
        .e_phoff = sizeof(Elf64_Ehdr),
        .e_ehsize = sizeof(Elf64_Ehdr),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = 1,
    };
    Elf64_Phdr segment = {
        .p_type = PT_LOAD,
        .p_flags = PF_R | PF_W | PF_X,
        .p_offset = sizeof(header) + sizeof(segment),
        .p_vaddr = GUEST_ELF_ADDRESS,
        .p_paddr = GUEST_ELF_ADDRESS,
        .p_filesz = len,
        .p_memsz = len,
        .p_align = 1,
    };

    text_append(file, &header, sizeof(header));
    text_append(file, &segment, sizeof(segment));
    text_append(file, code, len);
}
