/* SPDX-License-Identifier: Apache-2.0 */
/* mem.c: guest RAM is one host mapping, cut into at most three regions around the MMIO holes; what
 * devices add lies above it. Memory that another process serves is in mem_served.c. */
#include "vmm/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define HUGE_PAGE (2 * MIB)

/* MFD_NOEXEC_SEAL, which not every header has. */
#define NOEXEC_SEAL 8u

/* Beyond it no physical address exists; the checks against it also keep sums from wrapping. */
#define ADDRESSES (UINT64_C(1) << 46)

/* Cuts `size` bytes into regions below, between and above the holes; false if they do not fit. */
static bool lay_out(struct mem *mem, uint64_t size, enum mem_backing backing, uint8_t *hva)
{
    static const struct {
        uint64_t start, end;
    } ram[MEM_REGIONS_MAX] = {
        {0, MEM_HOLE32_START},
        {MEM_HOLE32_END, MEM_HOLE64_START},
        {MEM_HOLE64_END, ADDRESSES},
    };

    mem->count = 0;
    for (unsigned i = 0; i < MEM_REGIONS_MAX && size > 0; i++) {
        uint64_t part = MIN(size, ram[i].end - ram[i].start);

        mem->region[mem->count++] = (struct mem_region){
            .gpa = GPA(ram[i].start),
            .size = part,
            .hva = hva,
            .backing = backing,
        };
        hva += part;
        size -= part;
    }
    return size == 0;
}

/*
 * Huge pages of the pool are not reserved, as clients of Firecracker know it, so touching one that
 * is not there is SIGBUS. The first, which every boot writes to, is asked for now: a host without
 * any is an error of the start.
 */
static int take_first_huge_page(uint8_t *map)
{
    return madvise(map, HUGE_PAGE, MADV_POPULATE_WRITE) ? -ENOMEM : 0;
}

static uint8_t *aligned(const struct mem *mem)
{
    uintptr_t start = (uintptr_t)mem->map;

    return (uint8_t *)mem->map + (align_up(start, HUGE_PAGE) - start);
}

/* Maps `size` bytes whose start is aligned to a huge page, so that the host may back them with
 * such. */
static uint8_t *map_private(struct mem *mem, uint64_t size, enum mem_pages pages)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

    mem->map_size = size + HUGE_PAGE;
    if (pages == MEM_PAGES_HUGETLB_2M) {
        mem->map_size = align_up(size, HUGE_PAGE);
        flags |= MAP_HUGETLB | (21 << MAP_HUGE_SHIFT);
    }
    mem->map = mmap(NULL, mem->map_size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mem->map == MAP_FAILED) {
        mem->map = NULL;
        return NULL;
    }
    return aligned(mem);
}

/* Not to be executed: hosts can insist on that (sysctl vm.memfd_noexec), kernels before 6.3 do not
 * know it. */
static int create_file(unsigned flags)
{
    int fd = memfd_create("guest-memory", flags | NOEXEC_SEAL);

    return fd < 0 && errno == EINVAL ? memfd_create("guest-memory", flags) : fd;
}

/*
 * A file in memory of `size` bytes. Its size is sealed: a process that we hand it to could
 * otherwise cut it short under a running guest, and the next access would be SIGBUS.
 */
int mem_memory_file(uint64_t size, enum mem_pages pages)
{
    unsigned huge = pages == MEM_PAGES_HUGETLB_2M ? MFD_HUGETLB | MFD_HUGE_2MB : 0;
    struct rlimit limit;
    int fd, rc;

    /* A file beyond this limit would be a signal that ends us. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && size > limit.rlim_cur)
        return -EFBIG;
    fd = create_file(MFD_CLOEXEC | MFD_ALLOW_SEALING | huge);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    rc = -errno;
    close(fd);
    return rc;
}

/* An aligned place for `size` bytes, where nothing can be accessed yet. */
static uint8_t *reserve(struct mem *mem, uint64_t size)
{
    mem->map_size = size + HUGE_PAGE;
    mem->map =
        mmap(NULL, mem->map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem->map == MAP_FAILED)
        mem->map = NULL;
    return mem->map ? aligned(mem) : NULL;
}

/* The same over a file that other processes can map: an aligned place is found first. */
static uint8_t *map_shared(struct mem *mem, uint64_t size, enum mem_pages pages)
{
    uint64_t file_size = pages == MEM_PAGES_HUGETLB_2M ? align_up(size, HUGE_PAGE) : size;

    if (!reserve(mem, file_size))
        return NULL;
    mem->fd = mem_memory_file(file_size, pages);
    if (mem->fd < 0) {
        errno = -mem->fd;
        return NULL;
    }
    if (mmap(aligned(mem), file_size, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED | MAP_NORESERVE, mem->fd, 0) == MAP_FAILED)
        return NULL;
    return aligned(mem);
}

/* A bit a page of the host, of what has come from another process. */
static int make_there(struct mem_region *region, uint64_t page)
{
    uint64_t pages = (region->size + page - 1) / page;

    region->there = calloc(align_up(pages, 64) / 64, sizeof(uint64_t));
    return region->there ? 0 : -ENOMEM;
}

/* What is dirty and what is taken of it, in one piece; or what is no longer the file's. */
static int make_bitmaps_of(struct mem_region *region, bool track_dirty)
{
    uint64_t words = align_up(region->size / PAGE_SIZE, 64) / 64;
    uint64_t *bitmaps;

    if (!track_dirty && region->backing != MEM_FILE_COPY && region->backing != MEM_SERVED)
        return 0;
    bitmaps = calloc(track_dirty ? 2 * words : words, sizeof(uint64_t));
    if (!bitmaps)
        return -ENOMEM;
    if (!track_dirty) {
        region->gone = bitmaps;
        return 0;
    }
    region->dirty = bitmaps;
    region->taken = bitmaps + words;
    return 0;
}

static void free_bitmaps_of(struct mem_region *region)
{
    free(region->dirty);
    free(region->gone);
    free(region->there);
    region->dirty = region->taken = region->gone = region->there = NULL;
}

static int make_bitmaps(struct mem *mem)
{
    int rc = 0;

    for (unsigned i = 0; i < mem->count && rc == 0; i++) {
        rc = make_bitmaps_of(&mem->region[i], mem->track_dirty);
        if (rc == 0 && mem->region[i].backing == MEM_SERVED)
            rc = make_there(&mem->region[i], mem_page_size(mem));
    }
    return rc;
}

/*
 * Huge pages where the user wants them, and where nothing is said but they pay: in private memory
 * that KVM may map in such (it does not while dirty pages are tracked). A Linux guest boots in two
 * thirds of the time, and a fork copies fewer page tables; the price is memory that the guest has
 * touched only in part. Not the first 2 MiB: it is all that the smallest guests use, for which one
 * huge page costs more to clear than it saves.
 */
static void ask_for_huge_pages(const struct mem *mem, uint64_t size, enum mem_backing backing,
                               uint8_t *hva)
{
    if (mem->pages == MEM_PAGES_TRANSPARENT)
        (void)madvise(hva, size, MADV_HUGEPAGE);
    else if (mem->pages == MEM_PAGES_DEFAULT && backing == MEM_ANONYMOUS && !mem->track_dirty &&
             size > HUGE_PAGE)
        (void)madvise(hva + HUGE_PAGE, size - HUGE_PAGE, MADV_HUGEPAGE);
}

/* What RAM is made of, once it is mapped. On error all of it is gone again. */
static int complete(struct mem *mem, uint64_t size, enum mem_backing backing, uint8_t *hva,
                    struct err *e)
{
    ask_for_huge_pages(mem, size, backing, hva);
    /* A core dump of a monitor must not hold its guest's memory. */
    madvise(mem->map, mem->map_size, MADV_DONTDUMP);
    if (lay_out(mem, size, backing, hva) && make_bitmaps(mem) == 0)
        return 0;
    mem_destroy(mem);
    return err_set(e, -ENOMEM, "Cannot create mmap region: %s", err_os(-ENOMEM));
}

static int create(struct mem *mem, uint64_t size, enum mem_pages pages, enum mem_backing backing,
                  bool track_dirty, struct err *e)
{
    bool shared = backing == MEM_SHARED;
    uint8_t *hva;
    int saved;

    *mem = (struct mem){.pages = pages, .track_dirty = track_dirty, .shared = shared, .fd = -1};
    if (size == 0 || size >= ADDRESSES)
        return err_set(e, -ENOMEM, "Cannot create mmap region: %s", err_os(-ENOMEM));
    hva = shared ? map_shared(mem, size, pages) : map_private(mem, size, pages);
    if (!hva) {
        saved = -errno;
        mem_destroy(mem);
        return err_set(e, saved, "Cannot create mmap region: %s", err_os(saved));
    }
    if (pages == MEM_PAGES_HUGETLB_2M && backing != MEM_SERVED && take_first_huge_page(hva)) {
        mem_destroy(mem);
        return err_set(e, -ENOMEM,
                       "Cannot create mmap region: the host has no free huge page of 2 MiB (see "
                       "the sysctl vm.nr_hugepages): %s",
                       err_os(-ENOMEM));
    }
    return complete(mem, size, backing, hva, e);
}

int mem_create(struct mem *mem, uint64_t size, enum mem_pages pages, bool track_dirty,
               struct err *e)
{
    return create(mem, size, pages, MEM_ANONYMOUS, track_dirty, e);
}

int mem_create_shared(struct mem *mem, uint64_t size, enum mem_pages pages, bool track_dirty,
                      struct err *e)
{
    return create(mem, size, pages, MEM_SHARED, track_dirty, e);
}

int mem_create_served(struct mem *mem, uint64_t size, enum mem_pages pages, bool track_dirty,
                      struct err *e)
{
    return create(mem, size, pages, MEM_SERVED, track_dirty, e);
}

/* The file is what the memory was: anything else would be a guest with other memory. */
static int check_file(int fd, uint64_t size, enum mem_pages pages, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st))
        return err_set(e, -errno, "Cannot look at the memory file: %s", err_os(-errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, "The memory file is not a regular file.");
    if ((uint64_t)st.st_size < size)
        return err_set(e, -EINVAL, "The memory file has %llu bytes; the guest has %llu.",
                       (unsigned long long)st.st_size, (unsigned long long)size);
    if (pages == MEM_PAGES_HUGETLB_2M)
        return err_set(e, -EINVAL,
                       "Cannot restore hugetlbfs backed snapshot by mapping the memory file. "
                       "Please use uffd.");
    return 0;
}

int mem_create_from_file(struct mem *mem, int fd, uint64_t size, enum mem_pages pages,
                         bool track_dirty, struct err *e)
{
    int rc = check_file(fd, size, pages, e);
    uint8_t *hva;

    *mem = (struct mem){.pages = pages, .track_dirty = track_dirty, .fd = -1};
    if (rc)
        return rc;
    hva = size > 0 && size < ADDRESSES ? reserve(mem, size) : NULL;
    if (!hva || mmap(hva, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
                     0) == MAP_FAILED) {
        rc = hva || mem->map_size ? -errno : -ENOMEM;
        mem_destroy(mem);
        return err_set(e, rc, "Cannot map the memory file: %s", err_os(rc));
    }
    mem->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (mem->fd < 0) {
        rc = -errno;
        mem_destroy(mem);
        return err_set(e, rc, "Cannot keep the memory file open: %s", err_os(rc));
    }
    return complete(mem, size, MEM_FILE_COPY, hva, e);
}

bool mem_file_is_cut(const struct mem *mem)
{
    struct stat st;

    return mem->count > 0 && mem->region[0].backing == MEM_FILE_COPY && mem->fd >= 0 &&
           fstat(mem->fd, &st) == 0 && (uint64_t)st.st_size < mem_size(mem);
}

void mem_destroy(struct mem *mem)
{
    for (unsigned i = 0; i < mem->count; i++)
        free_bitmaps_of(&mem->region[i]);
    for (unsigned i = 0; i < mem->device_count; i++)
        free_bitmaps_of(&mem->device[i]);
    if (mem->map) {
        munmap(mem->map, mem->map_size);
        if (mem->fd >= 0)
            close(mem->fd);
    }
    memset(mem, 0, sizeof(*mem));
}

uint64_t mem_size(const struct mem *mem)
{
    uint64_t size = 0;

    for (unsigned i = 0; i < mem->count; i++)
        size += mem->region[i].size;
    return size;
}

/* ---- regions of devices ---------------------------------------------------------------------- */

static uint64_t end_of(const struct mem_region *region)
{
    return region->gpa.v + region->size;
}

uint64_t mem_end(const struct mem *mem)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < mem->count; i++)
        end = MAX(end, end_of(&mem->region[i]));
    for (unsigned i = 0; i < mem->device_count; i++)
        end = MAX(end, end_of(&mem->device[i]));
    return end;
}

gpa_t mem_device_base(const struct mem *mem, uint64_t alignment)
{
    return GPA(align_up(MAX(MEM_HOLE64_END, mem_end(mem)), alignment));
}

int mem_add_region(struct mem *mem, const struct mem_region *region, struct err *e)
{
    struct mem_region *new = &mem->device[mem->device_count];

    if (mem->device_count == MEM_DEVICE_REGIONS_MAX ||
        !range_fits(region->gpa.v, region->size, ADDRESSES))
        return err_set(e, -ENOSPC, "There is no room in the guest's address space: %s",
                       err_os(-ENOSPC));
    *new = *region;
    if (region->plugged && !region->dirty && !region->gone &&
        make_bitmaps_of(new, mem->track_dirty) < 0)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    mem->device_count++;
    return 0;
}

void mem_remove_region(struct mem *mem, gpa_t gpa)
{
    for (unsigned i = 0; i < mem->device_count; i++) {
        if (mem->device[i].gpa.v != gpa.v)
            continue;
        free_bitmaps_of(&mem->device[i]);
        mem->device[i] = mem->device[--mem->device_count];
        return;
    }
}

/* ---- translation ----------------------------------------------------------------------------- */

static bool contains(const struct mem_region *region, gpa_t gpa, uint64_t len)
{
    return gpa.v >= region->gpa.v && range_fits(gpa.v - region->gpa.v, len, region->size);
}

/* Whether every block that the range touches is there. */
static bool is_plugged(const struct mem_region *region, uint64_t offset, uint64_t len)
{
    uint64_t last = (offset + MAX(len, 1u) - 1) >> region->block_shift;

    for (uint64_t block = offset >> region->block_shift; block <= last; block++)
        if (!(region->plugged[block / 64] >> (block % 64) & 1))
            return false;
    return true;
}

/* Apart, so that it costs the way to the first region nothing. */
static __attribute__((noinline)) const struct mem_region *find_further(const struct mem *mem,
                                                                       gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct mem_region *region = &mem->region[i];

        if (!contains(region, gpa, len))
            continue;
        if (region->there)
            mem_bring(mem, region, gpa.v - region->gpa.v, len);
        return region;
    }
    for (unsigned i = 0; i < mem->device_count; i++) {
        const struct mem_region *region = &mem->device[i];
        uint64_t offset = gpa.v - region->gpa.v;

        if (!contains(region, gpa, len))
            continue;
        /* The end of a region is in no block. */
        if (region->plugged && (offset == region->size || !is_plugged(region, offset, len)))
            return NULL;
        return region;
    }
    return NULL;
}

/*
 * The one place that finds a range of GPAs: the region that it lies wholly inside, or NULL. A large
 * disk request comes by hundreds of times, nearly always for the first region.
 */
static inline const struct mem_region *find(const struct mem *mem, gpa_t gpa, uint64_t len)
{
    if (mem->count > 0 && contains(&mem->region[0], gpa, len) && !mem->region[0].there)
        return &mem->region[0];
    return find_further(mem, gpa, len);
}

const void *mem_readable(const struct mem *mem, gpa_t gpa, uint64_t len)
{
    const struct mem_region *region = find(mem, gpa, len);

    return region ? region->hva + (gpa.v - region->gpa.v) : NULL;
}

static void mark(uint64_t *bitmap, uint64_t offset, uint64_t len)
{
    uint64_t last = (offset + len - 1) / PAGE_SIZE;

    for (uint64_t page = offset / PAGE_SIZE; page <= last; page++)
        bitmap[page / 64] |= UINT64_C(1) << (page % 64);
}

void *mem_writable(struct mem *mem, gpa_t gpa, uint64_t len)
{
    const struct mem_region *region = find(mem, gpa, len);

    if (!region || region->read_only)
        return NULL;
    if (region->dirty && len > 0)
        mark(region->dirty, gpa.v - region->gpa.v, len);
    return region->hva + (gpa.v - region->gpa.v);
}

/* ---- back to the host ------------------------------------------------------------------------ */

static bool holds(const struct mem_region *region, const uint8_t *at, uint64_t len)
{
    return at >= region->hva && range_fits((uint64_t)(at - region->hva), len, region->size);
}

/* The region that has [at, at+len), if it is memory: RAM, or what can be plugged. */
static const struct mem_region *find_memory(const struct mem *mem, const uint8_t *at, uint64_t len)
{
    for (unsigned i = 0; i < mem->count; i++)
        if (holds(&mem->region[i], at, len))
            return &mem->region[i];
    for (unsigned i = 0; i < mem->device_count; i++)
        if (mem->device[i].plugged && holds(&mem->device[i], at, len))
            return &mem->device[i];
    return NULL;
}

/* `offset` bytes into the region. */
static void mark_gone(const struct mem_region *region, uint64_t offset, uint64_t len)
{
    uint64_t *bitmap = region->dirty ? region->dirty : region->gone;

    if (bitmap && len > 0)
        mark(bitmap, offset, len);
}

void mem_mark_gone(const struct mem *mem, gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < mem->device_count; i++)
        if (contains(&mem->device[i], gpa, len))
            mark_gone(&mem->device[i], gpa.v - mem->device[i].gpa.v, len);
}

/* Fresh memory in place of a file's: without it the pages would come back as the file has them. */
static int replace(void *at, size_t len)
{
    void *fresh = mmap(at, len, PROT_READ | PROT_WRITE,
                       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (fresh == MAP_FAILED)
        return -errno;
    madvise(at, len, MADV_DONTDUMP);
    return 0;
}

static int discard(const struct mem *mem, const struct mem_region *region, void *at, size_t len)
{
    switch (region->backing) {
    case MEM_ANONYMOUS:
        return madvise(at, len, MADV_DONTNEED) ? -errno : 0;
    case MEM_SHARED: /* out of the file itself, or the other process would keep the pages */
        return madvise(at, len, MADV_REMOVE) ? -errno : 0;
    case MEM_FILE_COPY:
        return replace(at, len);
    case MEM_SERVED:
        return mem_discard_served(mem, region, at, len);
    }
    return -EINVAL;
}

int mem_discard(const struct mem *mem, void *at, uint64_t len)
{
    const struct mem_region *region = find_memory(mem, at, len);
    uint64_t page = mem_page_size(mem);
    uint64_t skip = align_up((uintptr_t)at, page) - (uintptr_t)at;
    uint8_t *from = (uint8_t *)at + skip;
    int rc;

    if (!region)
        return -EACCES;
    if (skip >= len || len - skip < page)
        return 0;
    len = align_down(len - skip, page);
    rc = discard(mem, region, from, len);
    if (rc == 0)
        mark_gone(region, (uint64_t)(from - region->hva), len);
    return rc;
}

/* ---- copies ---------------------------------------------------------------------------------- */

int mem_read(const struct mem *mem, gpa_t gpa, void *to, size_t len)
{
    const void *from = mem_readable(mem, gpa, len);

    if (!from)
        return -EFAULT;
    memcpy(to, from, len);
    return 0;
}

int mem_write(struct mem *mem, gpa_t gpa, const void *from, size_t len)
{
    void *to = mem_writable(mem, gpa, len);

    if (!to)
        return -EFAULT;
    memcpy(to, from, len);
    return 0;
}
