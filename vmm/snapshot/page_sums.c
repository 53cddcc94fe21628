/* SPDX-License-Identifier: Apache-2.0 */
/* page_sums.c: see page_sums.h. */
#include "vmm/snapshot/page_sums.h"

#include "vmm/snapshot/crc64.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The section's head: bytes of a block, and a word of zeros. */
#define HEAD 16u

/* Blocks are as small as this, and so large that there are no more sums than these: 4 MiB of them,
 * which a state file has room for. */
#define BLOCK_MIN UINT64_C(65536)
#define SUMS_MAX  (UINT64_C(1) << 19)

/* What is read of a file at a time. */
#define CHUNK UINT64_C(32768)

static uint64_t block_for(uint64_t size)
{
    uint64_t block = BLOCK_MIN;

    while (size > block * SUMS_MAX)
        block *= 2;
    return block;
}

static uint64_t count_for(uint64_t size, uint64_t block)
{
    return align_up(size, block) / block;
}

/* ---- making ---------------------------------------------------------------------------------- */

static void put(uint8_t *to, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *from)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* The sum of [at, end) of the file, which is in one block; what is short is as if it were zeros. */
static int sum_block(int fd, uint64_t at, uint64_t end, uint64_t *sum)
{
    uint8_t bytes[CHUNK];

    *sum = 0;
    while (at < end) {
        ssize_t n = pread(fd, bytes, MIN(CHUNK, end - at), (off_t)at);

        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        *sum = crc64(*sum, bytes, (size_t)n);
        at += (uint64_t)n;
    }
    return 0;
}

/* Where the next block with data begins, at or after `at`; `size` = there is none. A file that
 * cannot tell has data everywhere. */
static uint64_t next_data(int fd, uint64_t at, uint64_t size, uint64_t block)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);

    if (data < 0)
        return errno == ENXIO ? size : at;
    return MAX(at, align_down((uint64_t)data, block));
}

/* Calls `each` for every block that is not a hole. */
static int for_each_block(int fd, uint64_t size, uint64_t block,
                          int (*each)(void *arg, uint64_t index, uint64_t sum), void *arg)
{
    uint64_t sum;
    int rc = 0;

    for (uint64_t at = 0; rc == 0; at += block) {
        at = next_data(fd, at, size, block);
        if (at >= size)
            break;
        rc = sum_block(fd, at, MIN(at + block, size), &sum);
        if (rc == 0)
            rc = each(arg, at / block, sum);
    }
    return rc;
}

static int keep(void *arg, uint64_t index, uint64_t sum)
{
    put((uint8_t *)arg + HEAD + index * 8, sum);
    return 0;
}

int page_sums_write(struct state_writer *w, int fd, uint64_t mem_size, struct err *e)
{
    uint64_t block = block_for(mem_size), count = count_for(mem_size, block);
    uint8_t *section = calloc(1, HEAD + count * 8);
    int rc;

    if (!section)
        return err_set(e, -ENOMEM, "Cannot make checksums of the memory: %s", err_os(-ENOMEM));
    put(section, block);
    rc = for_each_block(fd, mem_size, block, keep, section);
    if (rc == 0)
        state_write_bytes(w, PAGE_SUMS_SECTION, 0, section, HEAD + count * 8);
    free(section);
    return rc ? err_set(e, rc, "Cannot read back the memory file: %s", err_os(rc)) : 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

int page_sums_read(struct page_sums *sums, uint64_t mem_size, struct state_reader *r, struct err *e)
{
    struct state_section next;
    const void *bytes;
    size_t len;
    int rc;

    *sums = (struct page_sums){0};
    if (!state_reader_peek(r, &next) || strcmp(next.name, PAGE_SUMS_SECTION) != 0)
        return 0;
    rc = state_read_bytes(r, PAGE_SUMS_SECTION, 0, &bytes, &len, e);
    if (rc)
        return rc;
    if (len < HEAD || get(bytes) != block_for(mem_size) || get((const uint8_t *)bytes + 8) != 0 ||
        len != HEAD + count_for(mem_size, block_for(mem_size)) * 8)
        return err_set(e, -EINVAL,
                       "The snapshot's checksums are not those of a memory file of %llu bytes.",
                       (unsigned long long)mem_size);
    sums->block = get(bytes);
    sums->count = count_for(mem_size, sums->block);
    sums->sums = (const uint8_t *)bytes + HEAD;
    return 0;
}

/* ---- verifying ------------------------------------------------------------------------------- */

struct verifying {
    const struct page_sums *sums;
    uint64_t next; /* blocks before it are right */
};

/* Holes up to `end` must have been zeros. */
static bool holes_are_right(struct verifying *v, uint64_t end)
{
    while (v->next < end && get(v->sums->sums + v->next * 8) == 0)
        v->next++;
    return v->next == end;
}

static int compare(void *arg, uint64_t index, uint64_t sum)
{
    struct verifying *v = arg;

    if (!holes_are_right(v, index) || get(v->sums->sums + index * 8) != sum)
        return -EUCLEAN;
    v->next = index + 1;
    return 0;
}

int page_sums_verify(const struct page_sums *sums, int fd, uint64_t mem_size, struct err *e)
{
    struct verifying v = {.sums = sums};
    uint64_t begin;
    int rc = sums->count > 0 ? for_each_block(fd, mem_size, sums->block, compare, &v) : 0;

    if (rc == 0 && !holes_are_right(&v, sums->count))
        rc = -EUCLEAN;
    begin = v.next * sums->block;
    if (rc == -EUCLEAN)
        return err_set(
            e, rc, "The memory file is not what it was: bytes %#" PRIx64 " to %#" PRIx64 " differ.",
            begin, MIN(begin + sums->block, mem_size));
    return rc ? err_set(e, rc, "Cannot read the memory file: %s", err_os(rc)) : 0;
}
