/* SPDX-License-Identifier: Apache-2.0 */
/* new_file.c: see new_file.h. */
#include "vmm/snapshot/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

/*
 * Before each page that it copies, Linux touches all that is left of a write, up to the largest
 * piece that its page cache could take (2 MiB on tmpfs). A MiB was measured to take 1.62 virtual ms
 * in writes of 2 MiB, 1.13 in writes of this size and 1.36 in single pages.
 */
#define WRITE_MAX (64 * KIB)

/* A link to nothing is followed by hand once, as open(2) with O_CREAT follows it. Directories on
 * the way need no resolving. */
char *new_file_resolve(const char *path)
{
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    const char *slash = strrchr(path, '/');
    char *real, *joined;

    if (n < 0)
        return strdup(path);
    real = realpath(path, NULL);
    if (real || errno != ENOENT)
        return real;
    target[n] = '\0';
    if (target[0] == '/' || !slash)
        return strdup(target);
    if (asprintf(&joined, "%.*s/%s", (int)(slash - path), path, target) < 0)
        return NULL;
    return joined;
}

char *new_file_beside(const char *path)
{
    char *beside;

    return asprintf(&beside, "%s" NEW_FILE_SUFFIX, path) < 0 ? NULL : beside;
}

/* A device or a FIFO must not become a file by a rename over it. *mode: who may do what with the
 * old one; 0 = there is none. */
static int check_old(const char *path, mode_t *mode)
{
    struct stat st;

    *mode = 0;
    if (stat(path, &st))
        return errno == ENOENT ? 0 : -errno;
    *mode = st.st_mode & 07777;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

static bool is_still_at(int fd, const char *path)
{
    struct stat ours, there;

    return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
}

/*
 * Two that replace one file at once would write into each other's: the one beside is its writer's
 * alone, until the last descriptor of it is closed. A lock that comes after the former writer's
 * rename is on a file with another name by then, and the next one is tried. flock(2), since loads
 * take the other kind; a file system without it keeps nobody out.
 */
static int open_alone(const char *beside)
{
    for (int tries = 0; tries < 8; tries++) {
        int fd = open(beside, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666), rc;

        if (fd < 0)
            return -errno;
        rc = flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
        if (rc != -EWOULDBLOCK && is_still_at(fd, beside)) {
            if (ftruncate(fd, 0) == 0)
                return fd;
            rc = -errno;
            unlink(beside);
            close(fd);
            return rc;
        }
        close(fd);
        if (rc == -EWOULDBLOCK)
            break;
    }
    return -EBUSY;
}

static int open_beside(struct new_file *file, const char *path)
{
    mode_t mode;
    int rc;

    if (!*path)
        return -ENOENT; /* the name beside it would be one */
    file->path = new_file_resolve(path);
    if (!file->path)
        return -errno;
    rc = check_old(file->path, &mode);
    if (rc)
        return rc;
    file->beside = new_file_beside(file->path);
    if (!file->beside)
        return -ENOMEM;
    file->fd = open_alone(file->beside);
    if (file->fd >= 0 && mode)
        (void)fchmod(file->fd, mode); /* refused where the leftover is another user's */
    if (file->fd >= 0)
        return 0;
    rc = file->fd;
    free(file->beside); /* not ours to remove */
    file->beside = NULL;
    return rc;
}

static void clear(struct new_file *file)
{
    struct rlimit limit;

    *file = (struct new_file){.fd = -1, .limit = UINT64_MAX};
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0)
        file->limit = limit.rlim_cur;
}

int new_file_open(struct new_file *file, const char *path, struct err *e)
{
    int rc;

    clear(file);
    rc = open_beside(file, path);
    if (rc == 0)
        return 0;
    new_file_close(file);
    if (rc == -EBUSY)
        return err_set(e, rc, "Another process is writing it at this moment.");
    return err_set(e, rc, "%s", err_os(rc));
}

static int open_old(struct new_file *file, const char *path)
{
    struct stat st;

    file->path = new_file_resolve(path);
    if (!file->path)
        return -errno;
    file->fd = open(file->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file->fd < 0 || fstat(file->fd, &st))
        return -errno;
    return S_ISREG(st.st_mode) ? 0 : -EINVAL;
}

int new_file_open_in_place(struct new_file *file, const char *path, struct err *e)
{
    int rc;

    clear(file);
    rc = open_old(file, path);
    if (rc == 0)
        return 0;
    new_file_close(file);
    return err_set(e, rc, "%s", err_os(rc));
}

static int explain(const struct new_file *file, const char *what, int rc, struct err *e)
{
    return err_set(e, rc, "Cannot %s %s: %s", what, file->path, err_os(rc));
}

int new_file_resize(const struct new_file *file, uint64_t size, struct err *e)
{
    if (size > file->limit)
        return explain(file, "write", -EFBIG, e);
    return ftruncate(file->fd, (off_t)size) ? explain(file, "resize", -errno, e) : 0;
}

int new_file_write(const struct new_file *file, const void *bytes, size_t len, uint64_t offset,
                   struct err *e)
{
    const uint8_t *at = bytes;

    if (!range_fits(offset, len, file->limit))
        return explain(file, "write", -EFBIG, e);
    while (len > 0) {
        ssize_t n = pwrite(file->fd, at, MIN(len, WRITE_MAX), (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return explain(file, "write", n < 0 ? -errno : -EIO, e);
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int new_file_sync(const struct new_file *file, struct err *e)
{
    return !file->lazy && fsync(file->fd) ? explain(file, "flush", -errno, e) : 0;
}

/* The name is on the disk when the directory is. */
static int sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int rc = fd < 0 || fsync(fd) ? -errno : 0;

    if (fd >= 0)
        close(fd);
    free(directory);
    return rc;
}

int new_file_move_beside(struct new_file *file, const char *beside, struct err *e)
{
    char *copy = strdup(beside);
    int rc;

    if (!copy || rename(file->beside, copy)) {
        rc = -errno;
        free(copy);
        return explain(file, "replace", rc, e);
    }
    free(file->beside);
    file->beside = copy;
    rc = file->lazy ? 0 : sync_directory(file->path);
    return rc ? explain(file, "flush the directory of", rc, e) : 0;
}

int new_file_commit(struct new_file *file, struct err *e)
{
    int rc;

    if (rename(file->beside, file->path))
        return explain(file, "replace", -errno, e);
    free(file->beside);
    file->beside = NULL;
    rc = file->lazy ? 0 : sync_directory(file->path);
    return rc ? explain(file, "flush the directory of", rc, e) : 0;
}

int new_file_remove(const char *path, bool lazy)
{
    if (unlink(path))
        return errno == ENOENT ? 0 : -errno;
    return lazy ? 0 : sync_directory(path);
}

void new_file_close(struct new_file *file)
{
    if (file->beside) {
        (void)unlink(file->beside);
        close(file->fd);
    } else if (file->path && file->fd >= 0) {
        close(file->fd);
    }
    free(file->beside);
    free(file->path);
    *file = (struct new_file){.fd = -1};
}
