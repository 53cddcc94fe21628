/* SPDX-License-Identifier: Apache-2.0 */
/* touched.c: see touched.h. */
#include "vmm/snapshot/touched.h"

#include "vmm/base/kvm.h"
#include "vmm/snapshot/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* Which not every header has (Linux 6.7): no messages, whatever is written to. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

/* /proc/self/pagemap, 64 bits a page (Documentation/admin-guide/mm/pagemap.rst). */
#define PAGEMAP_THERE  (UINT64_C(3) << 62) /* in memory, or in the swap */
#define PAGEMAP_FILE   (UINT64_C(1) << 61) /* a file's: not this process's own */
#define PAGEMAP_WINDOW 512u

/* Gaps up to this are read too, one read being cheaper than two; but of all pages that are read at
 * most one in GAPS_SHARE + 1 for nothing. */
#define GAP_PAGES  1u
#define GAPS_SHARE 4u

struct recording {
    const struct mem *mem;
    int uffd, pagemap;
    char *path;
};

/* ---- recording ------------------------------------------------------------------------------- */

static int stop_fault_around(const struct recording *r)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};

    if (ioctl(r->uffd, UFFDIO_API, &api))
        return -errno;
    for (unsigned i = 0; i < r->mem->count; i++) {
        struct uffdio_register range = {
            .range = {(uintptr_t)r->mem->region[i].hva, r->mem->region[i].size},
            .mode = UFFDIO_REGISTER_MODE_WP,
        };

        if (ioctl(r->uffd, UFFDIO_REGISTER, &range))
            return -errno;
    }
    return 0;
}

static void destroy(struct recording *r)
{
    if (r->uffd >= 0)
        close(r->uffd);
    if (r->pagemap >= 0)
        close(r->pagemap);
    free(r->path);
    free(r);
}

/* Who cannot write it should know before the guest has run. */
static int try_file(const struct recording *r, struct err *e)
{
    struct new_file file;
    int rc = new_file_open(&file, r->path, e);

    new_file_close(&file);
    return rc ? err_prefix(e, "Cannot write the working set to %s: ", r->path) : 0;
}

static int begin(struct recording *r, struct err *e)
{
    int rc;

    if (!r->path)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    if (r->pagemap < 0)
        return err_set(e, -ENOTSUP, "A working set can only be recorded where /proc is mounted.");
    rc = r->uffd < 0 ? -ENOSYS : stop_fault_around(r);
    if (rc)
        return err_set(e, -ENOTSUP,
                       "A working set can only be recorded by Linux 6.7 or later, with "
                       "userfaultfd: %s",
                       err_os(rc));
    return try_file(r, e);
}

int recording_begin(struct recording **out, const struct mem *mem, const char *path, struct err *e)
{
    struct recording *r = malloc(sizeof(*r));
    int rc;

    if (!r)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    *r = (struct recording){
        .mem = mem,
        .uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY),
        .pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC),
        .path = strdup(path),
    };
    rc = begin(r, e);
    if (rc)
        destroy(r);
    else
        *out = r;
    return rc;
}

/* `page` is the first of `count` in the memory file, and at `hva`. */
static int look_at(const struct recording *r, struct working_set *set, const uint8_t *hva,
                   uint32_t page, uint32_t count)
{
    uint64_t entry[PAGEMAP_WINDOW];
    size_t len = count * sizeof(entry[0]);
    off_t at = (off_t)((uintptr_t)hva / PAGE_SIZE * sizeof(entry[0]));
    int rc = 0;

    if (pread(r->pagemap, entry, len, at) != (ssize_t)len)
        return -EIO;
    for (uint32_t i = 0; i < count && rc == 0; i++)
        if (entry[i] & PAGEMAP_THERE)
            rc = working_set_add(set, page + i, !(entry[i] & PAGEMAP_FILE));
    return rc;
}

static int find_touched(const struct recording *r, struct working_set *set)
{
    uint32_t page = 0;
    int rc = 0;

    for (unsigned i = 0; i < r->mem->count; i++) {
        const struct mem_region *region = &r->mem->region[i];
        uint32_t pages = (uint32_t)(region->size / PAGE_SIZE);

        for (uint32_t at = 0; at < pages && rc == 0; at += PAGEMAP_WINDOW)
            rc = look_at(r, set, region->hva + at * PAGE_SIZE, page + at,
                         MIN(PAGEMAP_WINDOW, pages - at));
        page += pages;
    }
    return rc;
}

int recording_end(struct recording *r, struct err *e)
{
    struct working_set set = {.mem_size = mem_size(r->mem)};
    int rc = find_touched(r, &set);

    rc = rc ? err_set(e, rc, "Cannot tell which pages were touched: %s", err_os(rc))
            : working_set_write(&set, r->path, e);
    working_set_free(&set);
    destroy(r);
    return rc;
}

/* ---- fetching -------------------------------------------------------------------------------- */

/* Asks for all of them before anybody waits for one. */
static void read_ahead(const struct working_set *set, int fd)
{
    uint64_t spare = working_set_pages(set) / GAPS_SHARE;

    for (uint32_t i = 0, next; i < set->count; i = next) {
        uint64_t first = set->run[i].first, end = first + set->run[i].pages;

        for (next = i + 1; next < set->count; next++) {
            uint64_t gap = set->run[next].first - end;

            if (gap > MIN(GAP_PAGES, spare))
                break;
            spare -= gap;
            end = (uint64_t)set->run[next].first + set->run[next].pages;
        }
        (void)posix_fadvise(fd, (off_t)(first * PAGE_SIZE), (off_t)((end - first) * PAGE_SIZE),
                            POSIX_FADV_WILLNEED);
    }
}

/* RAM lies in one piece, as the file does. */
static void make_private(const struct working_set_run *run, uint8_t *ram)
{
    (void)madvise(ram + run->first * PAGE_SIZE, run->pages * PAGE_SIZE, MADV_POPULATE_WRITE);
}

void working_set_fetch(const struct working_set *set, const struct mem *mem)
{
    read_ahead(set, mem->fd);
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->run[i].written)
            make_private(&set->run[i], mem->region[0].hva);
    }
}

/* ---- mapping --------------------------------------------------------------------------------- */

/* A run of pages that lie one behind the other in the file, but perhaps not for the guest. */
static int map_run(const struct mem *mem, uint64_t at, uint64_t len, int vcpu_fd)
{
    int rc = 0;

    for (unsigned i = 0; i < mem->count && len > 0 && rc == 0; i++) {
        const struct mem_region *region = &mem->region[i];
        uint64_t part = at < region->size ? MIN(len, region->size - at) : 0;

        rc = kvm_pre_fault(vcpu_fd, gpa_add(region->gpa, at), part);
        at = part > 0 ? 0 : at - region->size;
        len -= part;
    }
    return rc;
}

void working_set_map(const struct working_set *set, const struct mem *mem, int vcpu_fd)
{
    int rc = 0;

    for (uint32_t i = 0, next; i < set->count && rc == 0; i = next) {
        uint64_t first = set->run[i].first, end = first + set->run[i].pages;

        for (next = i + 1; next < set->count && set->run[next].first == end; next++)
            end += set->run[next].pages;
        rc = map_run(mem, first * PAGE_SIZE, (end - first) * PAGE_SIZE, vcpu_fd);
    }
}
