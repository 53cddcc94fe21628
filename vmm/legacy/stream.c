/* SPDX-License-Identifier: Apache-2.0 */
/* stream.c: see stream.h. */
#include "vmm/legacy/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/stat.h>

/* A description of our own of the same pipe or terminal, or -errno. */
static int reopen_nonblocking(int fd, int access)
{
    char path[32];
    int opened;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    opened = open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return opened < 0 ? -errno : opened;
}

void stream_from_fd(struct stream *stream, int fd, bool for_reading)
{
    struct stat st;
    int own;

    *stream = (struct stream){.fd = fd, .kind = STREAM_PLAIN};
    if (fstat(fd, &st) < 0) {
        stream->kind = STREAM_NONE;
        return;
    }
    stream->terminal = S_ISCHR(st.st_mode) && isatty(fd);
    if (S_ISSOCK(st.st_mode)) {
        stream->kind = STREAM_SOCKET;
    } else if (S_ISFIFO(st.st_mode) || stream->terminal) {
        own = reopen_nonblocking(fd, for_reading ? O_RDONLY : O_WRONLY);
        stream->kind =
            own < 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK) ? STREAM_POLLED : STREAM_NONBLOCK;
        stream->fd = own < 0 ? fd : own;
        stream->owned = own >= 0;
    }
}

int stream_open(struct stream *stream, const char *path, struct err *e)
{
    /* Reading too: a FIFO then opens without a reader, and never breaks when one goes away. */
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);

    if (fd < 0) {
        int code = -errno;
        return err_set(e, code, "Cannot open serial output %s: %s", path, err_os(code));
    }
    *stream = (struct stream){.fd = fd, .kind = STREAM_NONBLOCK, .owned = true};
    return 0;
}

void stream_close(struct stream *stream)
{
    if (stream->owned)
        close(stream->fd);
    *stream = (struct stream){.fd = -1, .kind = STREAM_NONE};
}

static bool ready_now(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, 0) == 1;
}

/* The kernel's result in our convention: a call that a signal interrupted is one that may be tried
 * again. */
static int result(ssize_t n)
{
    if (n >= 0)
        return (int)n;
    return errno == EINTR ? -EAGAIN : -errno;
}

int stream_write(const struct stream *stream, const void *data, unsigned len)
{
    switch (stream->kind) {
    case STREAM_NONE:
        return (int)len;
    case STREAM_SOCKET:
        return result(send(stream->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL));
    case STREAM_POLLED:
        /* Room for one page at least, so a short write does not wait. */
        if (!ready_now(stream->fd, POLLOUT))
            return -EAGAIN;
        break;
    case STREAM_PLAIN:
    case STREAM_NONBLOCK:
        break;
    }
    return result(write(stream->fd, data, len));
}

/* Reading our controlling terminal from the background would stop the whole process (SIGTTIN). */
static bool in_background(int fd)
{
    pid_t foreground = tcgetpgrp(fd); /* -1: not our controlling terminal */

    return foreground > 0 && foreground != getpgrp();
}

int stream_read(const struct stream *stream, void *data, unsigned len)
{
    if (stream->kind == STREAM_NONE)
        return 0;
    if (stream->kind == STREAM_SOCKET)
        return result(recv(stream->fd, data, len, MSG_DONTWAIT));
    if (stream->terminal && in_background(stream->fd))
        return -EIO;
    if (stream->kind == STREAM_POLLED && !ready_now(stream->fd, POLLIN))
        return -EAGAIN;
    return result(read(stream->fd, data, len));
}

bool stream_is_interactive(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return false;
    return S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd));
}
