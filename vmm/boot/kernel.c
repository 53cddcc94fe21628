/* SPDX-License-Identifier: Apache-2.0 */
/* kernel.c: which format a kernel file has, whether memory can hold it, and reading it there. */
#include "vmm/boot/kernel.h"

#include "vmm/boot/bzimage.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

/* How Firecracker begins all of these, so that whoever looks for it finds it. */
#define LOADER_ERROR                                                                               \
    "System configuration error: Cannot load kernel due to invalid memory configuration or "       \
    "invalid kernel image: Kernel Loader: "

int kernel_pread(int fd, void *to, uint64_t len, uint64_t offset, struct err *e)
{
    uint8_t *next = to;

    while (len > 0) {
        ssize_t n = pread(fd, next, len, (off_t)offset);
        int rc = -errno;

        if (n < 0 && rc == -EINTR)
            continue;
        if (n < 0)
            return err_set(e, rc, "reading the file failed: %s", err_os(rc));
        if (n == 0)
            return err_set(e, -EIO, "the file became shorter while it was read");
        next += n;
        len -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int check_file(int fd, uint64_t *size, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st)) {
        int rc = -errno;

        return err_set(e, rc, LOADER_ERROR "cannot look at the file: %s", err_os(rc));
    }
    if (S_ISDIR(st.st_mode))
        return err_set(e, -EISDIR, LOADER_ERROR "the kernel is a directory, not a file");
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, LOADER_ERROR "the kernel is not a regular file");
    *size = (uint64_t)st.st_size;
    return 0;
}

/* The program headers, which are nearly always within the head already. */
static int open_elf_segments(int fd, const struct elf_header *header, const uint8_t *head,
                             size_t head_len, uint64_t file_size, struct elf_plan *plan,
                             struct err *e)
{
    uint8_t table[ELF_TABLE_MAX];
    int rc;

    if (range_fits(header->table_offset, header->table_size, head_len))
        return elf_parse_segments(header, head + header->table_offset, file_size, plan, e);
    rc = kernel_pread(fd, table, header->table_size, header->table_offset, e);
    return rc ? rc : elf_parse_segments(header, table, file_size, plan, e);
}

static int open_elf_notes(int fd, struct elf_plan *plan, struct err *e)
{
    uint8_t notes[ELF_NOTES_SIZE_MAX];
    int rc = 0;

    for (unsigned i = 0; i < plan->notes_count && rc == 0; i++) {
        const struct elf_notes *n = &plan->notes[i];

        rc = kernel_pread(fd, notes, n->size, n->offset, e);
        if (rc == 0)
            elf_parse_notes(notes, n->size, n->align, plan);
    }
    elf_choose_entry(plan);
    return rc;
}

static int open_elf(int fd, const uint8_t *head, size_t head_len, uint64_t file_size,
                    struct kernel_image *image, struct err *e)
{
    struct elf_header header;
    struct elf_plan plan;
    int rc = elf_parse_header(head, head_len, file_size, &header, e);

    if (rc == 0)
        rc = open_elf_segments(fd, &header, head, head_len, file_size, &plan, e);
    if (rc == 0)
        rc = open_elf_notes(fd, &plan, e);
    if (rc == 0)
        *image = plan.image;
    return rc;
}

int kernel_open(int fd, struct kernel_image *image, struct err *e)
{
    uint8_t head[KERNEL_HEAD_SIZE];
    uint64_t file_size = 0;
    size_t len;
    int rc = check_file(fd, &file_size, e);

    if (rc)
        return rc;
    len = (size_t)MIN(file_size, sizeof(head));
    rc = kernel_pread(fd, head, len, 0, e);
    if (rc)
        return err_prefix(e, LOADER_ERROR);
    /* A file without a beginning is called ELF, as Firecracker calls it. */
    if (len < 4 || elf_has_magic(head, len)) {
        rc = open_elf(fd, head, len, file_size, image, e);
        return rc ? err_prefix(e, LOADER_ERROR "failed to load ELF kernel image: ") : 0;
    }
    rc = bzimage_parse(head, len, file_size, image, e);
    return rc ? err_prefix(e, LOADER_ERROR "failed to load bzImage kernel image: ") : 0;
}

uint64_t kernel_end(const struct kernel_image *image)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < image->segment_count; i++)
        end = MAX(end, image->segment[i].gpa.v + image->segment[i].mem_size);
    return end;
}

static int check_segment(const struct kernel_segment *segment, enum boot_protocol protocol,
                         const struct mem *mem, struct err *e)
{
    uint64_t start = segment->gpa.v, size = segment->mem_size;

    /* 1. What we write for the guest to find lies below. */
    if (start < LAYOUT_TABLES_END)
        return err_set(e, -EINVAL,
                       "a segment of the kernel lies at 0x%" PRIx64 ", but the first 0x%" PRIx64
                       " bytes are taken by boot data",
                       start, LAYOUT_TABLES_END);
    /* 2. In one piece of RAM; also refuses sums that wrap. */
    if (!mem_readable(mem, segment->gpa, size))
        return err_set(e, -ENOMEM,
                       "the kernel needs 0x%" PRIx64 " bytes of memory at 0x%" PRIx64
                       ", which a machine of %" PRIu64 " MiB does not have",
                       size, start, mem_size(mem) / MIB);
    /* 3. The 64-bit entry runs on our page tables until the kernel has its own. */
    if (protocol == BOOT_LINUX64 && start + size > LAYOUT_IDENTITY_MAPPED)
        return err_set(e, -EINVAL,
                       "a segment of the kernel ends at 0x%" PRIx64
                       ", but only the first GiB is mapped at its entry",
                       start + size);
    return 0;
}

static bool holds(const struct kernel_segment *segment, uint64_t address)
{
    return address >= segment->gpa.v && address - segment->gpa.v < segment->file_size;
}

int kernel_check(const struct kernel_image *image, const struct mem *mem, struct err *e)
{
    bool entry_found = false;

    for (unsigned i = 0; i < image->segment_count; i++) {
        int rc = check_segment(&image->segment[i], image->protocol, mem, e);

        if (rc)
            return rc;
        entry_found = entry_found || holds(&image->segment[i], image->entry);
    }
    if (!entry_found)
        return err_set(e, -EINVAL,
                       "the kernel's entry point 0x%" PRIx64 " is in none of its segments",
                       image->entry);
    return 0;
}

int kernel_load(int fd, const struct kernel_image *image, struct mem *mem, struct err *e)
{
    int rc = kernel_check(image, mem, e);

    for (unsigned i = 0; i < image->segment_count && rc == 0; i++) {
        const struct kernel_segment *segment = &image->segment[i];
        void *to = mem_writable(mem, segment->gpa, segment->file_size);

        BUG_ON(!to);
        rc = kernel_pread(fd, to, segment->file_size, segment->offset, e);
    }
    return rc ? err_prefix(e, LOADER_ERROR) : 0;
}
