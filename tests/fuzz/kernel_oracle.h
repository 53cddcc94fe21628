/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be true of every plan that a kernel file's headers lead to, however it came about.
 * Shared by fuzz_elf and fuzz_bzimage.
 */
#ifndef MAYFLY_TESTS_FUZZ_KERNEL_ORACLE_H
#define MAYFLY_TESTS_FUZZ_KERNEL_ORACLE_H

#include "vmm/boot/initrd.h"
#include "vmm/boot/layout.h"

#include <stdlib.h>

static inline void must(bool what)
{
    if (!what)
        abort();
}

static inline struct mem *oracle_memory(void)
{
    static struct mem mem;
    struct err e;

    if (mem.count == 0 && mem_create(&mem, 5 * GIB, MEM_PAGES_DEFAULT, false, &e))
        abort();
    return &mem;
}

/* A plan that fits memory stays clear of the tables, has its entry in bytes of the file, and leaves
 * an initrd a place of its own. */
static inline void oracle_check_in_memory(const struct kernel_image *image, uint64_t initrd_size)
{
    const struct mem *mem = oracle_memory();
    struct initrd initrd;
    bool entered = false;
    struct err e;

    if (kernel_check(image, mem, &e)) {
        must(e.code < 0 && e.text[0] != '\0');
        return;
    }
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct kernel_segment *s = &image->segment[i];

        must(mem_readable(mem, s->gpa, s->mem_size) != NULL);
        must(s->gpa.v >= LAYOUT_TABLES_END);
        entered = entered || (image->entry >= s->gpa.v && image->entry - s->gpa.v < s->file_size);
    }
    must(entered);
    if (initrd_place(mem, image, initrd_size, &initrd, &e) == 0) {
        must(initrd.gpa.v % PAGE_SIZE == 0 && initrd.gpa.v >= kernel_end(image));
        must(initrd.gpa.v + initrd.size <= image->initrd_limit);
        must(mem_readable(mem, initrd.gpa, initrd.size) != NULL);
    }
}

static inline void oracle_check(const struct kernel_image *image, uint64_t file_size)
{
    must(image->segment_count >= 1 && image->segment_count <= KERNEL_SEGMENTS_MAX);
    must(image->setup_header_len <= sizeof(image->setup_header));
    for (unsigned i = 0; i < image->segment_count; i++) {
        const struct kernel_segment *s = &image->segment[i];

        must(range_fits(s->offset, s->file_size, file_size));
        must(s->file_size <= s->mem_size);
    }
    oracle_check_in_memory(image, file_size * 4099);
}

#endif
