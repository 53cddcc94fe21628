/* SPDX-License-Identifier: Apache-2.0 */
/* text_file.c: files of /proc and of cgroups, whose sizes are not known before they are read. */
#include "vmm/jailer/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 4096 };

/* Reads to the end of the file; NULL with errno. */
static char *read_all(int fd)
{
    char *text = NULL;
    size_t len = 0;
    ssize_t n;

    do {
        char *more = realloc(text, len + CHUNK + 1);

        if (!more) {
            free(text);
            errno = ENOMEM;
            return NULL;
        }
        text = more;
        n = read(fd, text + len, CHUNK);
        if (n < 0) {
            int code = errno;

            free(text);
            errno = code;
            return NULL;
        }
        len += (size_t)n;
    } while (n > 0);
    text[len] = '\0';
    return text;
}

char *text_file_read(int dir_fd, const char *path)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    char *text;
    int code;

    if (fd < 0)
        return NULL;
    text = read_all(fd);
    code = errno;
    close(fd);
    errno = code;
    return text;
}

int text_file_write(int dir_fd, const char *path, const char *text)
{
    int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC), ret = 0;

    if (fd < 0)
        return -errno;
    if (write(fd, text, strlen(text)) < 0)
        ret = -errno;
    close(fd);
    return ret;
}
