/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.h owns guest memory: its mapping (private, or a file that other processes are given), the
 * guest physical layout of RAM, the regions that devices add above it, and the only way from a
 * guest physical address (GPA) to a host pointer (HVA).
 *
 * A GPA is a struct, so that it can be neither dereferenced nor added to a pointer by accident.
 * Translation takes a length, refuses what is not wholly inside one region, and exists twice: for
 * reading, and for writing, which marks the pages dirty. Whoever may write must ask for the writing
 * one, even when the kernel does the writing later (a read from disk into guest memory): dirty
 * pages are only collected when nothing is in flight, so a mark made before the write is not lost.
 *
 * Everything the guest can write changes under our feet: copy it (mem_read) before judging it.
 *
 * Thread: any, under the machine lock (marking is not atomic). Layout: see vmm/boot/layout.h.
 */
#ifndef MAYFLY_BASE_MEM_H
#define MAYFLY_BASE_MEM_H

#include "vmm/base/err.h"

typedef struct {
    uint64_t v;
} gpa_t;

#define GPA(value) ((gpa_t){.v = (value)})

static inline gpa_t gpa_add(gpa_t gpa, uint64_t offset)
{
    return GPA(gpa.v + offset);
}

enum mem_pages {
    MEM_PAGES_DEFAULT,     /* transparent huge pages where they pay and the host's policy allows */
    MEM_PAGES_TRANSPARENT, /* MADV_HUGEPAGE everywhere */
    MEM_PAGES_HUGETLB_2M,  /* hugetlbfs, no reservation */
};

/* RAM is at most three pieces: below the 32-bit hole, above it, and above the 64-bit
 * MMIO window. */
#define MEM_REGIONS_MAX 3

#define MEM_HOLE32_START (3 * GIB) /* MMIO windows, IOAPIC, LAPIC */
#define MEM_HOLE32_END   (4 * GIB)
#define MEM_HOLE64_START (256 * GIB) /* 64-bit MMIO */
#define MEM_HOLE64_END   (512 * GIB)

/* What devices may add: a file of persistent memory each, and memory that can be plugged. */
#define MEM_DEVICE_REGIONS_MAX 32

/* What stands behind a region, which decides how its pages go back to the host. */
enum mem_backing {
    MEM_ANONYMOUS, /* private memory of this process */
    MEM_SHARED,    /* a memory file, mapped by another process too */
    MEM_FILE_COPY, /* a private mapping of a file: memory out of a snapshot */
    MEM_SERVED,    /* private memory whose pages come from another process, one by one */
};

/*
 * Who watches over memory that another process serves (vmm/snapshot/uffd.h). An access to a page
 * that has not come yet blocks its thread in the kernel for as long as that process likes, so
 * whoever may wait for one says when the wait begins and when it is over; what takes too long
 * between the two ends the monitor. Waits nest. Machine lock held.
 */
struct mem_pager {
    void (*wait_begins)(struct mem_pager *pager);
    void (*wait_is_over)(struct mem_pager *pager);
};

struct mem_region {
    gpa_t gpa;
    uint64_t size;
    uint8_t *hva;
    enum mem_backing backing; /* of RAM, and of memory that can be plugged */
    uint64_t *dirty; /* a bit a page written by the monitor; NULL while writes are not tracked */
    uint64_t *taken; /* as long: those that are on their way into a snapshot (dirty.h) */
    uint64_t *gone;  /* of a file's copy and of served memory that is not tracked: a bit a page that
                        was given back, so that it is no longer what the file has; NULL elsewhere */
    uint64_t *there; /* served memory: a bit a host page that is known to have come; else NULL */

    /* Of devices' regions only; RAM has neither. */
    bool read_only;          /* for the guest and for devices */
    const uint64_t *plugged; /* a bit a block that is there, its device's; NULL = all of it is */
    unsigned block_shift;    /* a block has 1 << block_shift bytes */
    int fd;                  /* what is mapped from its start, for other processes; -1 = nothing */
};

struct mem {
    unsigned count; /* of the regions that are RAM */
    struct mem_region region[MEM_REGIONS_MAX];
    unsigned device_count; /* of those that devices have added */
    struct mem_region device[MEM_DEVICE_REGIONS_MAX];
    enum mem_pages pages;
    bool track_dirty;
    void *map; /* the one mapping that holds all of RAM, and its length */
    uint64_t map_size;
    bool shared; /* other processes can be given fd, and see the guest's writes in it */
    int fd;      /* the file that RAM is, or is a copy of: its regions one behind the other, from
                    offset 0; -1 = none */
    struct mem_pager *pager; /* of served memory, borrowed; else NULL */
};

/*
 * Maps `size` bytes of guest RAM (a multiple of 1 MiB) and lays them out around the holes. Nothing
 * is touched: pages appear on first use. -ENOMEM when the host refuses. `track_dirty` = keep a
 * bitmap of the monitor's own writes (the guest's are in KVM's dirty log).
 */
int mem_create(struct mem *mem, uint64_t size, enum mem_pages pages, bool track_dirty,
               struct err *e) __must_check;

/*
 * The same over a file in memory (memfd) that can be handed to another process, which then reads
 * and writes what the guest does; nobody can change its size. Costs more than private memory at
 * first touch, so only machines that need it have it.
 */
int mem_create_shared(struct mem *mem, uint64_t size, enum mem_pages pages, bool track_dirty,
                      struct err *e) __must_check;

/*
 * The same over a copy of the file `fd`, which holds the regions one behind the other, and perhaps
 * more: pages are read from it on first use, and what is written stays here. The file must not
 * change as long as the memory is there; mem->fd is a duplicate, so locks of the borrowed one live
 * as long. -EINVAL when it is not a regular file of at least `size` bytes, or `pages` are huge ones
 * of the pool.
 */
int mem_create_from_file(struct mem *mem, int fd, uint64_t size, enum mem_pages pages,
                         bool track_dirty, struct err *e) __must_check;

/*
 * The same over private memory that another process will serve: not one page is touched, and none
 * may be before that process has been told, and `pager` is set.
 */
int mem_create_served(struct mem *mem, uint64_t size, enum mem_pages pages, bool track_dirty,
                      struct err *e) __must_check;

/* mem_discard's own way with served memory: of whole pages of the host. */
int mem_discard_served(const struct mem *mem, const struct mem_region *region, uint8_t *at,
                       uint64_t len) __must_check;

/* Whether another process serves the memory: its pages cannot be had from a fork's parent. */
static inline bool mem_is_served(const struct mem *mem)
{
    return mem->pager != NULL;
}

/* The bytes of a page as the host keeps it: 4 KiB, or 2 MiB with hugetlbfs. */
uint64_t mem_page_size(const struct mem *mem);

/*
 * Around what may have to wait for pages that are not asked for by translation, as KVM's own
 * accesses. Nothing to do unless the memory is served. Machine lock held.
 */
void mem_wait_begins(const struct mem *mem);
void mem_wait_is_over(const struct mem *mem);

/*
 * Lets the pages of [offset, offset+len) of a region come, if they are not there: for whoever reads
 * a region without translation. Machine lock held.
 */
void mem_bring(const struct mem *mem, const struct mem_region *region, uint64_t offset,
               uint64_t len);

/* Whether the file that RAM is a copy of has become shorter than RAM, as files do that others may
 * write to. */
bool mem_file_is_cut(const struct mem *mem);

/* A memory file of `size` bytes, which nobody can change, for other processes to map: its
 * descriptor or -errno. */
int mem_memory_file(uint64_t size, enum mem_pages pages) __must_check;

/* Accepts a zeroed or half-made mem. */
void mem_destroy(struct mem *mem);

/* Total bytes of RAM. */
uint64_t mem_size(const struct mem *mem);

/* The end of the highest region, RAM's or a device's. */
uint64_t mem_end(const struct mem *mem);

/* Where the next region of a device may begin: above the 64-bit MMIO window, RAM and the regions
 * that are there, at a multiple of `alignment` (a power of two). */
gpa_t mem_device_base(const struct mem *mem, uint64_t alignment);

/*
 * Adds a device's region, before the VM is made; the mapping behind it stays the device's. Memory
 * that can be plugged (`plugged` is set) gets the bitmaps that RAM has, unless it comes with its
 * own; a file needs none, it is its own copy. -ENOSPC without room, or where it would end beyond
 * any physical address; -ENOMEM.
 */
int mem_add_region(struct mem *mem, const struct mem_region *region, struct err *e) __must_check;

/* Forgets the region at `gpa`; none there is fine. */
void mem_remove_region(struct mem *mem, gpa_t gpa);

/*
 * The HVA of [gpa, gpa+len) for reading only, or NULL unless the range lies wholly inside one
 * region, of which every block that it touches is plugged. len may be 0 (then gpa must be inside or
 * at the end of a region). Reading through it is a race with the guest: only copy, or hand it to
 * the kernel.
 */
const void *mem_readable(const struct mem *mem, gpa_t gpa, uint64_t len) __must_check;

/* The same for writing; marks every page of the range dirty. NULL also where the region is
 * read-only. */
void *mem_writable(struct mem *mem, gpa_t gpa, uint64_t len) __must_check;

/* The pages of a device's range hold zeros from now on without having been written to, as blocks do
 * that are unplugged, and those that are not plugged at a load. */
void mem_mark_gone(const struct mem *mem, gpa_t gpa, uint64_t len);

/*
 * Gives the pages of [at, at+len) back to the host: they read as zeroes until they are written to
 * again. `at` is what mem_writable returned, which has marked them dirty. Only whole pages of the
 * host go (2 MiB with hugetlbfs); what the range holds of others stays as it is. -EACCES for what
 * is not memory of one region, as the file of a device, or the host's -errno.
 */
int mem_discard(const struct mem *mem, void *at, uint64_t len) __must_check;

/* Copies out of guest memory; -EFAULT (and nothing copied) unless the whole range can be
 * read. */
int mem_read(const struct mem *mem, gpa_t gpa, void *to, size_t len) __must_check;

/* Copies into guest memory, marking pages dirty; -EFAULT as above. */
int mem_write(struct mem *mem, gpa_t gpa, const void *from, size_t len) __must_check;

#endif
