/* SPDX-License-Identifier: Apache-2.0 */
/* file_lock.c: see file_lock.h. */
#include "vmm/snapshot/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <sys/random.h>
#include <sys/stat.h>

/* Bytes of shared locks: [BYTES_BEGIN, 2 * BYTES_BEGIN), where no file has data. Two holders with
 * one byte, of 2^61, would be taken for one. */
#define BYTES_BEGIN (UINT64_C(1) << 61)

/* `len` 0 = to the end of what can be locked. */
static int set(int fd, short type, uint64_t start, uint64_t len)
{
    struct flock lock = {
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)start,
        .l_len = (off_t)len,
    };

    return fcntl(fd, F_OFD_SETLK, &lock) ? -errno : 0;
}

static bool is_conflict(int rc)
{
    return rc == -EAGAIN || rc == -EACCES;
}

int file_lock_share(struct file_lock *lock, int fd)
{
    uint64_t byte;
    int rc;

    lock->byte = 0;
    if (getrandom(&byte, sizeof(byte), 0) != sizeof(byte))
        return -EIO;
    byte = BYTES_BEGIN + byte % BYTES_BEGIN;
    rc = set(fd, F_RDLCK, byte, 1);
    if (is_conflict(rc))
        return -EAGAIN;
    if (rc == 0)
        lock->byte = byte;
    return 0;
}

/* The file itself, whatever its name is now; else by its name, if that is still the same one. */
static int open_anew(int fd, const char *path)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    struct stat ours, found;
    char link[32];
    int new;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    new = open(link, flags);
    if (new >= 0)
        return new;
    new = open(path, flags);
    if (new < 0)
        return -errno;
    if (fstat(fd, &ours) == 0 && fstat(new, &found) == 0 && ours.st_dev == found.st_dev &&
        ours.st_ino == found.st_ino)
        return new;
    close(new);
    return -ENOENT;
}

int file_lock_share_anew(struct file_lock *lock, int fd, const char *path)
{
    int rc, new = open_anew(fd, path);

    if (new < 0)
        return new;
    rc = file_lock_share(lock, new);
    if (rc == 0)
        return new;
    close(new);
    return rc;
}

int file_lock_alone(int fd, const struct file_lock *own)
{
    uint64_t byte = own ? own->byte : 0;
    int rc = set(fd, F_WRLCK, 0, byte);

    /* Around the byte that is ours; without one, the first was all of it. */
    if (rc == 0 && byte > 0)
        rc = set(fd, F_WRLCK, byte + 1, 0);
    if (rc == 0)
        return 0;
    set(fd, F_UNLCK, 0, 0);
    return is_conflict(rc) ? -EAGAIN : rc;
}
