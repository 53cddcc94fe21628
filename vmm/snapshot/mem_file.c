/* SPDX-License-Identifier: Apache-2.0 */
/* mem_file.c: see mem_file.h. */
#include "vmm/snapshot/mem_file.h"

#include "vmm/snapshot/mem_map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* How much is looked at in one go. */
#define WINDOW_PAGES 512u

/* /proc/self/pagemap, 64 bits a page (Documentation/admin-guide/mm/pagemap.rst). */
#define PAGEMAP_THERE (UINT64_C(3) << 62) /* in memory, or in the swap */

struct writer {
    const struct new_file *file;
    int pagemap; /* -1: not known, as in a jail without /proc */
};

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0;
}

/* Which pages from `at` on may hold something: of fresh memory those that have been touched. What
 * is not there of a file's copy is in the file. */
static void find_touched(const struct writer *w, const struct mem_region *region, uint64_t first,
                         uint64_t count, uint64_t touched[WINDOW_PAGES])
{
    uint64_t number = (uintptr_t)region->hva / PAGE_SIZE + first;
    size_t len = count * sizeof(touched[0]);

    if (region->backing == MEM_ANONYMOUS && w->pagemap >= 0 &&
        pread(w->pagemap, touched, len, (off_t)(number * sizeof(touched[0]))) == (ssize_t)len)
        return;
    for (uint64_t i = 0; i < count; i++)
        touched[i] = PAGEMAP_THERE;
}

/* Writes up to WINDOW_PAGES pages of a region: runs of pages that are not zero, a write each. */
static int write_window(const struct writer *w, const struct mem_region *region, uint64_t first,
                        uint64_t count, uint64_t offset, struct err *e)
{
    uint64_t touched[WINDOW_PAGES];
    uint64_t run = 0;
    int rc = 0;

    find_touched(w, region, first, count, touched);
    for (uint64_t i = 0; i <= count && rc == 0; i++) {
        const uint8_t *page = region->hva + (first + i) * PAGE_SIZE;

        if (i < count && touched[i] & PAGEMAP_THERE && !is_zero(page)) {
            run++;
            continue;
        }
        if (run > 0)
            rc = new_file_write(w->file, page - run * PAGE_SIZE, run * PAGE_SIZE,
                                offset + (first + i - run) * PAGE_SIZE, e);
        run = 0;
    }
    return rc;
}

/* Pages [first, end) of a region, which begins at `offset` in the file. */
static int write_pages(const struct writer *w, const struct mem_region *region, uint64_t first,
                       uint64_t end, uint64_t offset, struct err *e)
{
    int rc = 0;

    for (uint64_t at = first; at < end && rc == 0; at += WINDOW_PAGES)
        rc = write_window(w, region, at, MIN(WINDOW_PAGES, end - at), offset, e);
    return rc;
}

static bool is_plugged(const struct mem_region *region, uint64_t block)
{
    return region->plugged[block / 64] >> (block % 64) & 1;
}

/* Of memory that can be plugged only the blocks that are; the others are holes. */
static int write_plugged(const struct writer *w, const struct mem_region *region, uint64_t offset,
                         struct err *e)
{
    uint64_t blocks = region->size >> region->block_shift;
    int rc = 0;

    for (uint64_t block = 0; block < blocks && rc == 0; block++) {
        uint64_t first = (block << region->block_shift) / PAGE_SIZE;
        uint64_t end = first + (UINT64_C(1) << region->block_shift) / PAGE_SIZE;

        if (is_plugged(region, block))
            rc = write_pages(w, region, first, end, offset, e);
    }
    return rc;
}

int mem_file_write(const struct new_file *file, const struct mem *mem, struct err *e)
{
    struct writer w = {.file = file, .pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
    struct mem_map map;
    uint32_t at = 0;
    int rc = 0;

    mem_map_of(&map, mem);
    if (ftruncate(file->fd, (off_t)mem_map_size(&map)))
        rc = err_set(e, -errno, "Cannot make %s as long as the guest's memory: %s", file->path,
                     err_os(-errno));
    for (unsigned i = 0; i < mem->count && rc == 0; i++)
        rc = write_pages(&w, &mem->region[i], 0, mem->region[i].size / PAGE_SIZE,
                         map.region[at++].offset, e);
    for (unsigned i = 0; i < mem->device_count && rc == 0; i++)
        if (mem->device[i].plugged)
            rc = write_plugged(&w, &mem->device[i], map.region[at++].offset, e);
    if (w.pagemap >= 0)
        close(w.pagemap);
    return rc;
}
