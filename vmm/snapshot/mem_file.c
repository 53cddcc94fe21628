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
#define WINDOW_WORDS (WINDOW_PAGES / 64)

/* /proc/self/pagemap, 64 bits a page (Documentation/admin-guide/mm/pagemap.rst). */
#define PAGEMAP_THERE (UINT64_C(3) << 62) /* in memory, or in the swap */
#define PAGEMAP_FILE  (UINT64_C(1) << 61) /* a file's, or shared: not this process's own */

struct writer {
    const struct new_file *file;
    const struct mem *mem;
    enum mem_file_pages pages;
    int pagemap; /* -1: not known, as in a jail without /proc */
    int base;    /* the file of which RAM is a copy; -1 = none */
};

/* Part of a region: up to WINDOW_PAGES pages, of which `bit` says which are to be written. */
struct window {
    const struct mem_region *region;
    uint64_t first, count; /* a multiple of 64; pages */
    uint64_t offset;       /* of `first` in the file */
    uint64_t bit[WINDOW_WORDS];
};

static bool has(const uint64_t *bits, uint64_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static void set(struct window *window, uint64_t i)
{
    window->bit[i / 64] |= UINT64_C(1) << (i % 64);
}

/* The first page from `from` on that is set, or is not; the window's end without one. A guest that
 * is idle has next to none, so this goes by words. */
static uint64_t find(const struct window *window, uint64_t from, bool is_set)
{
    while (from < window->count) {
        uint64_t word = window->bit[from / 64];

        word = (is_set ? word : ~word) >> (from % 64);
        if (word)
            return MIN(from + (uint64_t)__builtin_ctzll(word), window->count);
        from = align_down(from, 64) + 64;
    }
    return window->count;
}

/* ---- which pages ----------------------------------------------------------------------------- */

static void select_all(struct window *window)
{
    for (uint64_t i = 0; i < window->count; i++)
        set(window, i);
}

/* The pages that the file behind a copy has: what is a hole there is zeros, unless it was written
 * to here. A file that cannot tell has all. */
static void select_base(const struct writer *w, struct window *window)
{
    const off_t end = (off_t)(window->offset + window->count * PAGE_SIZE);
    off_t at = (off_t)window->offset, hole;

    while (at < end) {
        at = lseek(w->base, at, SEEK_DATA);
        if (at < 0 && errno == ENXIO)
            return;
        hole = at < 0 ? -1 : lseek(w->base, at, SEEK_HOLE);
        if (hole < 0) {
            select_all(window);
            return;
        }
        for (; at < MIN(hole, end); at += (off_t)PAGE_SIZE)
            set(window, ((uint64_t)at - window->offset) / PAGE_SIZE);
    }
}

/* What this process has of its own, as pagemap tells. */
static int select_own(const struct writer *w, struct window *window)
{
    const struct mem_region *region = window->region;
    uint64_t number = (uintptr_t)region->hva / PAGE_SIZE + window->first;
    uint64_t pagemap[WINDOW_PAGES];
    size_t len = window->count * sizeof(pagemap[0]);
    bool copy = region->backing == MEM_FILE_COPY;

    if (w->pagemap < 0 ||
        pread(w->pagemap, pagemap, len, (off_t)(number * sizeof(pagemap[0]))) != (ssize_t)len)
        return -ENODATA;
    for (uint64_t i = 0; i < window->count; i++) {
        if (pagemap[i] & PAGEMAP_THERE && !(copy && pagemap[i] & PAGEMAP_FILE))
            set(window, i);
        else if (region->gone && has(region->gone, window->first + i))
            set(window, i);
    }
    return 0;
}

/* What another process serves may not have come yet. */
static void bring(const struct writer *w, const struct window *window)
{
    for (uint64_t i = 0; window->region->there && i < window->count; i++) {
        if (has(window->bit, i))
            mem_bring(w->mem, window->region, (window->first + i) * PAGE_SIZE, PAGE_SIZE);
    }
}

/* Of fresh memory, and of a file's copy, pages that are nobody's need not be looked at. */
static void select_full(const struct writer *w, struct window *window)
{
    enum mem_backing backing = window->region->backing;

    if ((backing != MEM_ANONYMOUS && backing != MEM_FILE_COPY) || select_own(w, window))
        select_all(window);
    else if (backing == MEM_FILE_COPY)
        select_base(w, window);
    bring(w, window);
    for (uint64_t i = 0; i < window->count; i++) {
        const uint8_t *page = window->region->hva + (window->first + i) * PAGE_SIZE;

        if (has(window->bit, i) && is_all_zero(page, PAGE_SIZE))
            window->bit[i / 64] &= ~(UINT64_C(1) << (i % 64));
    }
}

static void select_changed(const struct writer *w, struct window *window)
{
    const struct mem_region *region = window->region;

    if (region->taken)
        memcpy(window->bit, region->taken + window->first / 64,
               align_up(window->count, 64) / 64 * sizeof(uint64_t));
    else if (select_own(w, window))
        select_all(window);
    bring(w, window);
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_window(const struct writer *w, struct window *window, struct err *e)
{
    const uint8_t *from = window->region->hva + window->first * PAGE_SIZE;
    uint64_t first, end;
    int rc = 0;

    if (w->pages == MEM_FILE_ALL)
        select_full(w, window);
    else
        select_changed(w, window);
    for (first = find(window, 0, true); first < window->count && rc == 0;
         first = find(window, end, true)) {
        end = find(window, first, false);
        rc = new_file_write(w->file, from + first * PAGE_SIZE, (end - first) * PAGE_SIZE,
                            window->offset + first * PAGE_SIZE, e);
    }
    return rc;
}

/* Pages [first, end) of a region, which begins at `offset` in the file. */
static int write_pages(const struct writer *w, const struct mem_region *region, uint64_t first,
                       uint64_t end, uint64_t offset, struct err *e)
{
    int rc = 0;

    for (uint64_t at = first; at < end && rc == 0; at += WINDOW_PAGES) {
        struct window window = {
            .region = region,
            .first = at,
            .count = MIN(WINDOW_PAGES, end - at),
            .offset = offset + at * PAGE_SIZE,
        };

        rc = write_window(w, &window, e);
    }
    return rc;
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

        if (has(region->plugged, block))
            rc = write_pages(w, region, first, end, offset, e);
    }
    return rc;
}

uint64_t mem_file_size(const struct mem *mem)
{
    struct mem_map map;

    mem_map_of(&map, mem);
    return mem_map_size(&map);
}

int mem_file_write(const struct new_file *file, const struct mem *mem, enum mem_file_pages pages,
                   struct err *e)
{
    struct writer w = {
        .file = file,
        .mem = mem,
        .pages = pages,
        .pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC),
        .base = mem->shared ? -1 : mem->fd,
    };
    struct mem_map map;
    uint32_t at = 0;
    int rc = 0;

    mem_map_of(&map, mem);
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
