/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_sums.h owns the checksums of a memory file, which a create records on request as the last
 * section of the state file (FORMAT.md): one for each block of the file, CRC-64 as in crc64.h. They
 * are of that very file: of a Diff, of what it has, with zeros in its holes. A load maps the memory
 * and does not look at them; who inspects a snapshot does.
 *
 * A block of zeros has the sum 0, so holes are not read.
 *
 * Blocking reads; any thread, also of a forked process.
 */
#ifndef MAYFLY_SNAPSHOT_PAGE_SUMS_H
#define MAYFLY_SNAPSHOT_PAGE_SUMS_H

#include "vmm/snapshot/state_file.h"

#define PAGE_SUMS_SECTION "page-sums"

/* Of a state file that was read; count 0 = none were recorded. */
struct page_sums {
    uint64_t block; /* bytes that have one sum; the last has what is left */
    uint64_t count;
    const uint8_t *sums; /* 8 bytes each, little-endian, in the file's buffer */
};

/* Reads the memory file `fd` of `mem_size` bytes and writes the section. -ENOMEM, -errno of a
 * read. */
int page_sums_write(struct state_writer *w, int fd, uint64_t mem_size, struct err *e) __must_check;

/* Reads the section if it is the next one. -EINVAL when its sums are not those of a memory file of
 * `mem_size` bytes. */
int page_sums_read(struct page_sums *sums, uint64_t mem_size, struct state_reader *r,
                   struct err *e) __must_check;

/* Whether the memory file `fd` of `mem_size` bytes is what the sums were made of. -EUCLEAN and a
 * sentence with the place of the first block that is not; -errno of a read. */
int page_sums_verify(const struct page_sums *sums, int fd, uint64_t mem_size,
                     struct err *e) __must_check;

#endif
