/* SPDX-License-Identifier: Apache-2.0 */
/* working_set.c: see working_set.h. */
#include "vmm/snapshot/working_set.h"

#include "vmm/snapshot/crc64.h"
#include "vmm/snapshot/new_file.h"
#include "vmm/snapshot/whole_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC   UINT64_C(0x5445534b524f5759) /* "YWORKSET" as the file has it */
#define VERSION 1u
#define WRITTEN (UINT32_C(1) << 31)

/* A file of four megabytes: more runs are no working set, but all of a guest. */
#define RUNS_MAX (UINT32_C(1) << 19)

struct file_head {
    uint64_t magic;
    uint32_t version, page_size;
    uint64_t mem_size;
    uint32_t count, zero;
};

struct file_run {
    uint32_t first, pages; /* the upper bit of pages: written */
};

int working_set_add(struct working_set *set, uint32_t page, bool written)
{
    struct working_set_run *last = set->count ? &set->run[set->count - 1] : NULL, *more;

    if (last && last->first + last->pages == page && last->written == written) {
        last->pages++;
        return 0;
    }
    if (set->count == RUNS_MAX)
        return -E2BIG;
    if (!set->run || set->count == set->room) {
        uint32_t room = MAX(2 * set->room, 64u);

        more = reallocarray(set->run, room, sizeof(*more));
        if (!more)
            return -ENOMEM;
        set->run = more;
        set->room = room;
    }
    set->run[set->count++] = (struct working_set_run){page, 1, written};
    return 0;
}

uint64_t working_set_pages(const struct working_set *set)
{
    uint64_t pages = 0;

    for (uint32_t i = 0; i < set->count; i++)
        pages += set->run[i].pages;
    return pages;
}

void working_set_free(struct working_set *set)
{
    free(set->run);
    *set = (struct working_set){0};
}

/* ---- the file -------------------------------------------------------------------------------- */

static size_t file_size(uint32_t count)
{
    return sizeof(struct file_head) + count * sizeof(struct file_run) + sizeof(uint64_t);
}

static void encode(const struct working_set *set, uint8_t *bytes)
{
    const struct file_head head = {
        .magic = MAGIC,
        .version = VERSION,
        .page_size = PAGE_SIZE,
        .mem_size = set->mem_size,
        .count = set->count,
    };
    uint8_t *at = bytes + sizeof(head);
    uint64_t crc;

    memcpy(bytes, &head, sizeof(head));
    for (uint32_t i = 0; i < set->count; i++, at += sizeof(struct file_run)) {
        const struct working_set_run *run = &set->run[i];
        const struct file_run one = {run->first, run->pages | (run->written ? WRITTEN : 0)};

        memcpy(at, &one, sizeof(one));
    }
    crc = crc64(0, bytes, (size_t)(at - bytes));
    memcpy(at, &crc, sizeof(crc));
}

static int replace(const char *path, const uint8_t *bytes, size_t len, struct err *e)
{
    struct new_file file;
    int rc = new_file_open(&file, path, e);

    if (rc)
        return err_prefix(e, "Cannot write the working set to %s: ", path);
    rc = new_file_write(&file, bytes, len, 0, e);
    if (rc == 0)
        rc = new_file_sync(&file, e);
    if (rc == 0)
        rc = new_file_commit(&file, e);
    new_file_close(&file);
    return rc;
}

int working_set_write(const struct working_set *set, const char *path, struct err *e)
{
    size_t len = file_size(set->count);
    uint8_t *bytes = malloc(len);
    int rc;

    if (!bytes)
        return err_set(e, -ENOMEM, "Cannot write the working set to %s: %s", path, err_os(-ENOMEM));
    encode(set, bytes);
    rc = replace(path, bytes, len, e);
    free(bytes);
    return rc;
}

/* The runs ascend, do not touch each other's pages, and lie in the memory file. */
static int decode_runs(struct working_set *set, const uint8_t *at, uint32_t count)
{
    uint64_t next = 0, pages = set->mem_size / PAGE_SIZE;

    set->run = reallocarray(NULL, MAX(count, 1u), sizeof(*set->run));
    if (!set->run)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++, at += sizeof(struct file_run)) {
        struct file_run one;

        memcpy(&one, at, sizeof(one));
        set->run[i] =
            (struct working_set_run){one.first, one.pages & ~WRITTEN, (one.pages & WRITTEN) != 0};
        if (one.first < next || set->run[i].pages == 0 ||
            !range_fits(one.first, set->run[i].pages, pages))
            return -EINVAL;
        next = (uint64_t)one.first + set->run[i].pages;
    }
    set->count = set->room = count;
    return 0;
}

static int decode(struct working_set *set, const uint8_t *bytes, size_t len, uint64_t mem_size,
                  const char *path, struct err *e)
{
    struct file_head head;
    int rc;

    if (len < file_size(0) || memcmp(bytes, &(uint64_t){MAGIC}, sizeof(uint64_t)) != 0)
        return err_set(e, -EINVAL, "%s is not a working set.", path);
    memcpy(&head, bytes, sizeof(head));
    if (head.version != VERSION || head.page_size != PAGE_SIZE)
        return err_set(e, -EINVAL,
                       "%s is a working set of version %u with pages of %u bytes; this monitor "
                       "knows version %u with pages of %u.",
                       path, head.version, head.page_size, VERSION, (unsigned)PAGE_SIZE);
    if (head.zero != 0 || head.count > RUNS_MAX || len != file_size(head.count) ||
        crc64(0, bytes, len) != 0)
        return err_set(e, -EINVAL, "The working set %s is damaged.", path);
    if (head.mem_size != mem_size)
        return err_set(e, -EINVAL,
                       "The working set %s is of a memory file of %llu bytes; this one has %llu.",
                       path, (unsigned long long)head.mem_size, (unsigned long long)mem_size);
    *set = (struct working_set){.mem_size = mem_size};
    rc = decode_runs(set, bytes + sizeof(head), head.count);
    if (rc == 0)
        return 0;
    working_set_free(set);
    return err_set(e, rc, "The working set %s is damaged.", path);
}

int working_set_read(struct working_set *set, const char *path, uint64_t mem_size, struct err *e)
{
    uint8_t *bytes;
    size_t len;
    int rc = whole_file_read(path, &bytes, &len, e);

    if (rc)
        return err_set(e, rc, "Cannot read the working set %s: %s", path, err_os(rc));
    rc = decode(set, bytes, len, mem_size, path, e);
    free(bytes);
    return rc;
}
