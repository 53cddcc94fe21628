/* SPDX-License-Identifier: Apache-2.0 */
/* blk_file.c: the file behind a drive. */
#include "virtio/block/blk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Pages asked about at once; a longer read is left to the ring. */
#define RESIDENT_PAGES_MAX 1024

static int explain(struct err *e, int code, const char *path)
{
    return err_set(e, code, "Error manipulating the backing file: %s %s", err_os(code), path);
}

/* Refuses by type before opening: opening a FIFO would wait, opening a device may do something. */
static int check_type(const char *path, const struct stat *st, struct err *e)
{
    if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
        return 0;
    if (S_ISDIR(st->st_mode))
        return explain(e, -EISDIR, path);
    return err_set(e, -EINVAL,
                   "Error manipulating the backing file: neither a regular file nor a block "
                   "device %s",
                   path);
}

static int find_size(int fd, const struct stat *st, uint64_t *size)
{
    if (S_ISREG(st->st_mode)) {
        *size = (uint64_t)st->st_size;
        return 0;
    }
    return ioctl(fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
}

/* The device and inode numbers in decimal, cut off: the same as long as the file is the same. */
static void make_id(char id[BLK_ID_LENGTH], const struct stat *st)
{
    char text[3 * BLK_ID_LENGTH + 1] = {0};

    snprintf(text, sizeof(text), "%llu%llu%llu", (unsigned long long)st->st_dev,
             (unsigned long long)st->st_rdev, (unsigned long long)st->st_ino);
    memcpy(id, text, BLK_ID_LENGTH);
}

/* Without updates of the access time, which nobody reads and every read would pay for, where we may
 * ask for that: as the file's owner, or root. */
static int open_file(const char *path, int flags)
{
    int fd = open(path, flags | O_NOATIME);

    return fd < 0 && errno == EPERM ? open(path, flags) : fd;
}

/* What has really been opened: the name may lead elsewhere than when it was looked at. */
static int measure(struct blk_file *file, const char *path, struct stat *st, struct err *e)
{
    int rc;

    if (fstat(file->fd, st) < 0)
        return explain(e, -errno, path);
    rc = check_type(path, st, e);
    if (rc)
        return rc;
    rc = find_size(file->fd, st, &file->size);
    return rc ? explain(e, rc, path) : 0;
}

int blk_file_open(struct blk_file *file, const char *path, bool read_only, struct err *e)
{
    struct stat st;
    int rc;

    *file = (struct blk_file){.fd = -1};
    if (stat(path, &st) < 0)
        return explain(e, -errno, path);
    rc = check_type(path, &st, e);
    if (rc)
        return rc;
    file->fd = open_file(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (file->fd < 0)
        return explain(e, -errno, path);
    rc = measure(file, path, &st, e);
    if (rc) {
        blk_file_close(file);
        return rc;
    }
    make_id(file->id, &st);
    file->block_size = (uint32_t)st.st_blksize;
    return 0;
}

void blk_file_close(struct blk_file *file)
{
    if (file->map)
        munmap((void *)(uintptr_t)file->map, file->map_size);
    file->map = NULL;
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

/* This file (on tmpfs, say) does not know RWF_NOWAIT: from now on we ask before each read. */
static void refuse_nowait(struct blk_file *file)
{
    void *map;

    file->nowait_refused = true;
    if (file->size == 0)
        return;
    map = mmap(NULL, file->size, PROT_READ, MAP_SHARED | MAP_NORESERVE, file->fd, 0);
    if (map == MAP_FAILED)
        return;
    file->map = map;
    file->map_size = file->size;
}

/*
 * Whether every page of the range is in the page cache. Then a plain read copies and returns; only
 * a reclaim in the microsecond between makes it wait, as it may make any access to memory. A hole
 * or a page swapped out is not in memory, nor is anything past the end of a file that has shrunk.
 * The mapping is never touched, so it costs an entry in the kernel's list and no page.
 */
static bool is_resident(const struct blk_file *file, uint64_t offset, size_t len)
{
    uint64_t start = align_down(offset, PAGE_SIZE), end = align_up(offset + len, PAGE_SIZE);
    uint64_t pages = (end - start) / PAGE_SIZE;
    unsigned char in_memory[RESIDENT_PAGES_MAX];

    if (!file->map || offset + len > file->map_size || pages > RESIDENT_PAGES_MAX)
        return false;
    if (mincore((void *)(uintptr_t)(file->map + start), end - start, in_memory) < 0)
        return false;
    for (uint64_t i = 0; i < pages; i++)
        if (!(in_memory[i] & 1))
            return false;
    return true;
}

size_t blk_file_read_cached(struct blk_file *file, const struct iovec *iov, unsigned count,
                            uint64_t offset, size_t len)
{
    ssize_t n;

    if (!file->nowait_refused) {
        n = preadv2(file->fd, iov, (int)count, (off_t)offset, RWF_NOWAIT);
        if (n < 0 && errno == EOPNOTSUPP)
            refuse_nowait(file);
        else
            return n > 0 ? (size_t)n : 0;
    }
    if (!is_resident(file, offset, len))
        return 0;
    n = preadv(file->fd, iov, (int)count, (off_t)offset);
    return n > 0 ? (size_t)n : 0;
}
