/* SPDX-License-Identifier: Apache-2.0 */
/* Temporary directories and small file chores of the test programs. */
#include "tests/support/files.h"

#include "tests/support/text.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

char *files_make_temporary(const char *stem)
{
    const char *base = getenv("TMPDIR");
    char *path = text_format("%s/%s-XXXXXX", base && *base ? base : "/tmp", stem);
    if (mkdtemp(path))
        return path;
    free(path);
    return NULL;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    remove(path);
    return 0;
}

void files_remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

char *files_enter_temporary(const char *stem)
{
    char *directory = files_make_temporary(stem);

    if (!directory || chdir(directory) < 0) {
        perror("a temporary directory");
        abort();
    }
    return directory;
}

void files_leave(char *directory)
{
    if (chdir("/") < 0)
        abort();
    files_remove_tree(directory);
    free(directory);
}

int files_write(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    const char *bytes = data;
    int ret = 0;
    while (len && !ret) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0)
            ret = -errno;
        else {
            bytes += n;
            len -= (size_t)n;
        }
    }
    if (close(fd) < 0 && !ret)
        ret = -errno;
    return ret;
}

int files_make_sparse(const char *path, uint64_t size)
{
    int ret = files_write(path, "", 0);
    if (!ret && truncate(path, (off_t)size) < 0)
        ret = -errno;
    return ret;
}

/* Copies the data between two offsets. */
static int copy_span(int from, int to, off_t at, off_t end)
{
    while (at < end) {
        char part[65536];
        size_t want = end - at < (off_t)sizeof(part) ? (size_t)(end - at) : sizeof(part);
        ssize_t n = pread(from, part, want, at);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        if (pwrite(to, part, (size_t)n, at) != n)
            return -EIO;
        at += n;
    }
    return 0;
}

static int copy_data(int from, int to)
{
    off_t size = lseek(from, 0, SEEK_END), at = 0;
    int ret = ftruncate(to, size) < 0 ? -errno : 0;
    while (!ret && (at = lseek(from, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(from, at, SEEK_HOLE);
        ret = end < 0 ? -errno : copy_span(from, to, at, end);
        at = end;
    }
    return ret;
}

int files_copy(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int ret = in < 0 || out < 0 ? -errno : copy_data(in, out);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return ret;
}
