/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.h owns the host's end of the serial console: a descriptor that is read and written without
 * ever waiting, whatever it is and whoever shares it.
 *
 * O_NONBLOCK belongs to the open file description, so setting it on standard output would also set
 * it for the shell and every other process that inherited it. Instead:
 *
 *  - a pipe, FIFO or terminal is opened anew through /proc/self/fd with O_NONBLOCK, which gives a
 *    description of our own;
 *  - a socket is used with MSG_DONTWAIT on each call;
 *  - a file, /dev/null and the like are used as they are: they do not wait for a peer, and a file
 *    opened anew would start at offset 0 and overwrite what others wrote;
 *  - what cannot be opened anew (no /proc, as in a jail; a pipe of another user) is asked by
 *    poll(2) before each call: right unless another process takes the room or the bytes in
 *    between. A terminal in a jail has O_NONBLOCK already: the jailer opened it for the monitor
 *    alone.
 *
 * Under the machine lock.
 */
#ifndef MAYFLY_LEGACY_STREAM_H
#define MAYFLY_LEGACY_STREAM_H

#include "vmm/base/err.h"

enum stream_kind {
    STREAM_NONE,
    STREAM_PLAIN,    /* never waits for a peer */
    STREAM_NONBLOCK, /* has O_NONBLOCK */
    STREAM_SOCKET,
    STREAM_POLLED, /* ask poll(2) first */
};

struct stream {
    int fd;
    enum stream_kind kind;
    bool owned;    /* ours to close */
    bool terminal; /* only the foreground process group may read it */
};

/* A stream over `fd`, which stays the caller's and must outlive the stream. */
void stream_from_fd(struct stream *stream, int fd, bool for_reading);

/*
 * Opens `path` for output: a file, created if missing and appended to, or a FIFO, which needs no
 * reader yet and outlives the readers it has. -errno and a sentence on failure.
 */
int stream_open(struct stream *stream, const char *path, struct err *e) __must_check;

/* Accepts a zeroed stream. */
void stream_close(struct stream *stream);

/* Bytes written, maybe fewer than len; -EAGAIN when there is no room now; another -errno when it is
 * broken. */
int stream_write(const struct stream *stream, const void *data, unsigned len);

/* Bytes read; 0 at the end of the input; -EAGAIN when there is nothing now; another -errno when
 * broken. */
int stream_read(const struct stream *stream, void *data, unsigned len);

/*
 * Whether someone types or sends at the other end: a terminal, a pipe or FIFO, a socket. Everything
 * else (a file, /dev/null) is no console input: /dev/null would report its end for ever.
 */
bool stream_is_interactive(int fd);

#endif
