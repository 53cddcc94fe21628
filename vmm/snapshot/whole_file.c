/* SPDX-License-Identifier: Apache-2.0 */
/* whole_file.c: see whole_file.h. */
#include "vmm/snapshot/whole_file.h"

#include "vmm/snapshot/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/stat.h>

/* Reads up to `size` bytes: less where the file has become shorter. */
static int read_all(int fd, uint8_t *to, size_t size, size_t *len)
{
    ssize_t n = 1;

    for (*len = 0; *len < size && n > 0; *len += (size_t)n) {
        do {
            n = read(fd, to + *len, size - *len);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
            return -errno;
    }
    return 0;
}

static int read_open(int fd, uint8_t **bytes, size_t *len, struct err *e)
{
    struct stat st;
    size_t size;
    int rc;

    if (fstat(fd, &st))
        return err_set(e, -errno, "Failed to open snapshot file: %s", err_os(-errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, "Failed to read snapshot file: It is not a regular file.");
    size = (size_t)MIN((uint64_t)st.st_size, STATE_FILE_MAX + 1);
    *bytes = malloc(size + 1);
    if (!*bytes)
        return err_set(e, -ENOMEM, "Failed to read snapshot file: %s", err_os(-ENOMEM));
    rc = read_all(fd, *bytes, size, len);
    if (rc == 0)
        return 0;
    free(*bytes);
    *bytes = NULL;
    return err_set(e, rc, "Failed to read snapshot file: %s", err_os(rc));
}

int whole_file_read(const char *path, uint8_t **bytes, size_t *len, struct err *e)
{
    /* Not waiting for whoever might write into a FIFO. */
    int rc, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return err_set(e, -errno, "Failed to open snapshot file: %s", err_os(-errno));
    rc = read_open(fd, bytes, len, e);
    close(fd);
    return rc;
}
