/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel.h owns a kernel file on its way into guest memory. Headers become a plan (struct
 * kernel_image), the plan is judged against the machine's memory, and only then is anything read:
 * each segment once, by pread, straight to where the guest will find it. (Reading 12 MB into fresh
 * memory takes 5.6 virtual ms, mapping the file 13 more: a nested fault for every 4 KiB.)
 */
#ifndef MAYFLY_BOOT_KERNEL_H
#define MAYFLY_BOOT_KERNEL_H

#include "vmm/base/mem.h"
#include "vmm/boot/boot.h"

/* A vmlinux has 3 to 6. */
#define KERNEL_SEGMENTS_MAX 32

/* What is read at the file's start; holds a bzImage's setup header and nearly always an ELF file's
 * program headers. */
#define KERNEL_HEAD_SIZE 4096

/* The setup header of the Linux boot protocol: from offset 0x1f1 of a bzImage (and of the zero
 * page) to at most 0x290, where the zero page goes on with other things. */
#define SETUP_HEADER_START 0x1f1
#define SETUP_HEADER_END   0x290

/* file_size bytes at `offset` of the file go to `gpa`; the rest up to mem_size is zero, as fresh
 * memory is, and is not touched. 0 <= file_size <= mem_size; the bytes were in the file when its
 * size was taken. */
struct kernel_segment {
    uint64_t offset, file_size;
    gpa_t gpa;
    uint64_t mem_size;
};

struct kernel_image {
    enum boot_protocol protocol;
    uint64_t entry; /* guest physical */
    unsigned segment_count;
    struct kernel_segment segment[KERNEL_SEGMENTS_MAX];
    uint64_t initrd_limit; /* an initrd must end at or before this address */
    uint64_t cmdline_max;  /* bytes of command line, without the NUL */
    size_t setup_header_len;
    uint8_t setup_header[SETUP_HEADER_END - SETUP_HEADER_START]; /* of a bzImage */
};

/* Reads the headers of `fd` (any file, not moved) and fills *image. -EINVAL or what pread says. */
int kernel_open(int fd, struct kernel_image *image, struct err *e) __must_check;

/* Reads the segments into memory after judging all of them. -EINVAL, -ENOMEM, -EIO. */
int kernel_load(int fd, const struct kernel_image *image, struct mem *mem,
                struct err *e) __must_check;

/* Whether the plan suits this memory; the first half of kernel_load. Pure. */
int kernel_check(const struct kernel_image *image, const struct mem *mem,
                 struct err *e) __must_check;

/* The first address above every segment. */
uint64_t kernel_end(const struct kernel_image *image);

/* The whole range from the file, or an error: -EIO when the file has become shorter. */
int kernel_pread(int fd, void *to, uint64_t len, uint64_t offset, struct err *e) __must_check;

#endif
