/* SPDX-License-Identifier: Apache-2.0 */
/* elf.c: judges the headers of an ELF kernel and turns them into a plan. */
#include "vmm/boot/elf.h"

#include "vmm/boot/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* The physical address at which a PVH guest starts, in 32-bit mode (Xen, elfnote.h). */
#define XEN_ELFNOTE_PHYS32_ENTRY 18

bool elf_has_magic(const void *head, size_t len)
{
    return len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0;
}

static int check_identity(const Elf64_Ehdr *eh, struct err *e)
{
    /* 1. Both fields decide how every other one is read. */
    if (eh->e_ident[EI_CLASS] != ELFCLASS64)
        return err_set(e, -EINVAL, "it is not a 64-bit ELF file");
    if (eh->e_ident[EI_DATA] != ELFDATA2LSB)
        return err_set(e, -EINVAL, "it is not a little-endian ELF file");
    /* 2. Its instructions must be ours. */
    if (eh->e_machine != EM_X86_64)
        return err_set(e, -EINVAL, "it is made for ELF machine type %u, not for x86_64",
                       eh->e_machine);
    /* 3. Linked: an object or a core has no entry. Some kernels say "shared object". */
    if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
        return err_set(e, -EINVAL, "its ELF type is %u, which is not an executable", eh->e_type);
    return 0;
}

static int check_table(const Elf64_Ehdr *eh, uint64_t file_size, struct err *e)
{
    uint64_t size = (uint64_t)eh->e_phnum * sizeof(Elf64_Phdr);

    /* 4. We read the table as an array of this struct. */
    if (eh->e_phentsize != sizeof(Elf64_Phdr))
        return err_set(e, -EINVAL, "its program headers are of %u bytes, not of %zu",
                       eh->e_phentsize, sizeof(Elf64_Phdr));
    /* 5. Bounds the work; also refuses PN_XNUM, which says the number is elsewhere. */
    if (eh->e_phnum == 0)
        return err_set(e, -EINVAL, "it has no program headers, so nothing to load");
    if (eh->e_phnum > ELF_HEADERS_MAX)
        return err_set(e, -EINVAL, "it has %u program headers; at most %u are accepted",
                       eh->e_phnum, ELF_HEADERS_MAX);
    /* 6. Inside the file, without wrapping. */
    if (!range_fits(eh->e_phoff, size, file_size))
        return err_set(e, -EINVAL,
                       "its program headers at 0x%" PRIx64
                       " lie beyond the file's end at 0x%" PRIx64,
                       eh->e_phoff, file_size);
    return 0;
}

int elf_parse_header(const void *head, size_t len, uint64_t file_size, struct elf_header *header,
                     struct err *e)
{
    Elf64_Ehdr eh;
    int rc;

    if (len < sizeof(eh) || !elf_has_magic(head, len))
        return err_set(e, -EINVAL, "Kernel Loader: Unable to read elf header");
    memcpy(&eh, head, sizeof(eh));
    rc = check_identity(&eh, e);
    if (rc == 0)
        rc = check_table(&eh, file_size, e);
    if (rc)
        return rc;
    *header = (struct elf_header){
        .entry = eh.e_entry,
        .table_offset = eh.e_phoff,
        .table_size = (uint64_t)eh.e_phnum * sizeof(Elf64_Phdr),
    };
    return 0;
}

static int add_segment(struct kernel_image *image, const Elf64_Phdr *ph, uint64_t file_size,
                       struct err *e)
{
    /* 1. A linker may leave empty segments, at any address. */
    if (ph->p_memsz == 0 && ph->p_filesz == 0)
        return 0;
    /* 2. Where the bytes come from: inside the file, without wrapping. */
    if (!range_fits(ph->p_offset, ph->p_filesz, file_size))
        return err_set(e, -EINVAL,
                       "the file is cut off: a segment of 0x%" PRIx64 " bytes at 0x%" PRIx64
                       " goes beyond its end at 0x%" PRIx64,
                       ph->p_filesz, ph->p_offset, file_size);
    /* 3. Where they go: the place must hold them. Whether it is memory, kernel_check says. */
    if (ph->p_filesz > ph->p_memsz)
        return err_set(e, -EINVAL,
                       "a segment has 0x%" PRIx64 " bytes in the file but only 0x%" PRIx64
                       " in memory",
                       ph->p_filesz, ph->p_memsz);
    /* 4. The plan's own room. */
    if (image->segment_count == KERNEL_SEGMENTS_MAX)
        return err_set(e, -EINVAL, "it has more than %u segments to load", KERNEL_SEGMENTS_MAX);
    image->segment[image->segment_count++] = (struct kernel_segment){
        .offset = ph->p_offset,
        .file_size = ph->p_filesz,
        .gpa = GPA(ph->p_paddr),
        .mem_size = ph->p_memsz,
    };
    return 0;
}

/* Unreadable notes are an error, not a reason to choose the other protocol without a word. */
static int add_notes(struct elf_plan *plan, const Elf64_Phdr *ph, uint64_t file_size, struct err *e)
{
    if (!range_fits(ph->p_offset, ph->p_filesz, file_size))
        return err_set(e, -EINVAL,
                       "the file is cut off: its notes at 0x%" PRIx64
                       " go beyond its end at 0x%" PRIx64,
                       ph->p_offset, file_size);
    if (ph->p_filesz > ELF_NOTES_SIZE_MAX)
        return err_set(e, -EINVAL, "it has notes of 0x%" PRIx64 " bytes; at most 0x%x are accepted",
                       ph->p_filesz, ELF_NOTES_SIZE_MAX);
    if (plan->notes_count == ELF_NOTES_MAX)
        return err_set(e, -EINVAL, "it has more than %u segments of notes", ELF_NOTES_MAX);
    plan->notes[plan->notes_count++] = (struct elf_notes){
        .offset = ph->p_offset,
        .size = ph->p_filesz,
        .align = ph->p_align == 8 ? 8 : 4,
    };
    return 0;
}

static int add_program_header(struct elf_plan *plan, const Elf64_Phdr *ph, uint64_t file_size,
                              struct err *e)
{
    switch (ph->p_type) {
    case PT_LOAD:
        return add_segment(&plan->image, ph, file_size, e);
    case PT_NOTE:
        return add_notes(plan, ph, file_size, e);
    case PT_INTERP:
        return err_set(e, -EINVAL, "it is a program that wants a dynamic linker, not a kernel");
    default:
        return 0;
    }
}

int elf_parse_segments(const struct elf_header *header, const void *table, uint64_t file_size,
                       struct elf_plan *plan, struct err *e)
{
    memset(plan, 0, sizeof(*plan));
    plan->image.protocol = BOOT_LINUX64;
    plan->image.entry = header->entry;
    plan->image.initrd_limit = UINT64_MAX;
    plan->image.cmdline_max = LAYOUT_CMDLINE_SIZE - 1;
    for (uint64_t at = 0; at < header->table_size; at += sizeof(Elf64_Phdr)) {
        Elf64_Phdr ph;
        int rc;

        memcpy(&ph, (const uint8_t *)table + at, sizeof(ph));
        rc = add_program_header(plan, &ph, file_size, e);
        if (rc)
            return rc;
    }
    if (plan->image.segment_count == 0)
        return err_set(e, -EINVAL, "it has no segment to load");
    return 0;
}

static bool has_owner(const Elf64_Nhdr *note, const uint8_t *name, const char *owner)
{
    size_t size = strlen(owner) + 1;

    return note->n_namesz == size && memcmp(name, owner, size) == 0;
}

static void take_note(const Elf64_Nhdr *note, const uint8_t *name, const uint8_t *desc,
                      struct elf_plan *plan)
{
    /* Every Linux that has the PVH note has one of these, the salt of its build. */
    if (has_owner(note, name, "Linux"))
        plan->is_linux = true;
    if (plan->has_pvh || !has_owner(note, name, "Xen") || note->n_type != XEN_ELFNOTE_PHYS32_ENTRY)
        return;
    /* Kernels differ in the descriptor's size. */
    if (note->n_descsz != 4 && note->n_descsz != 8)
        return;
    memcpy(&plan->pvh_entry, desc, note->n_descsz);
    plan->has_pvh = true;
}

void elf_parse_notes(const void *notes, size_t len, uint64_t align, struct elf_plan *plan)
{
    const uint8_t *bytes = notes;
    uint64_t at = 0;

    while (range_fits(at, sizeof(Elf64_Nhdr), len)) {
        Elf64_Nhdr note;
        uint64_t name, desc;

        /* All are sums of 32-bit numbers and a small one, so none wraps. */
        memcpy(&note, bytes + at, sizeof(note));
        name = at + sizeof(note);
        desc = align_up(name + note.n_namesz, align);
        if (!range_fits(desc, note.n_descsz, len))
            return;
        take_note(&note, bytes + name, bytes + desc, plan);
        at = align_up(desc + note.n_descsz, align);
    }
}

void elf_choose_entry(struct elf_plan *plan)
{
    if (!plan->has_pvh || plan->is_linux)
        return;
    plan->image.protocol = BOOT_PVH;
    plan->image.entry = plan->pvh_entry;
}
