/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What flows through the connections of the soak: 64-bit words that follow from their number and a
 * seed, so that either end can tell a lost, repeated or changed one. Both the guest's program and
 * the test on the host use this.
 */
#ifndef MAYFLY_GUEST_STREAM_H
#define MAYFLY_GUEST_STREAM_H

#include "pattern.h"

#include <errno.h>
#include <unistd.h>

/* Words in one transfer. Odd, so that packets end at ever other places. */
#define STREAM_WORDS 4093

/* Ports: of TCP, and of vsock to the host. To SOAK_PORT_ECHO of vsock the host connects. */
#define SOAK_PORT_SINK   7001 /* the guest sends, the host checks */
#define SOAK_PORT_SOURCE 7002 /* the host sends, the guest checks */
#define SOAK_PORT_ECHO   7003

/* Ports of vsock-serve in the guest (test-vsock.c): it takes a stream, sends one, echoes, or counts
 * what comes until the other end has sent all and then tells it. */
#define VSOCK_PORT_SINK   6001
#define VSOCK_PORT_SOURCE 6002
#define VSOCK_PORT_ECHO   6003
#define VSOCK_PORT_COUNT  6004

/* Each connection carries this many words, then the receiver answers one byte and both close. */
#define SOAK_WORDS (16UL * STREAM_WORDS)

static inline void stream_fill(uint64_t *words, uint64_t first, uint64_t seed)
{
    for (uint64_t i = 0; i < STREAM_WORDS; i++)
        words[i] = pattern_mix(seed + first + i);
}

/* Writes all of it; 0, or -1 with errno. */
static inline int stream_write(int fd, const void *from, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, (const char *)from + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

/* Reads all of it; 0, or -1 with errno (EPIPE for an early end). */
static inline int stream_read(int fd, void *to, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)to + done, len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EPIPE;
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

/* One whole connection's worth of words out, and the receiver's byte; 0, or -1 with errno. */
static inline int stream_send(int fd, uint64_t seed)
{
    static uint64_t words[STREAM_WORDS];
    char answer;

    for (uint64_t at = 0; at < SOAK_WORDS; at += STREAM_WORDS) {
        stream_fill(words, at, seed);
        if (stream_write(fd, words, sizeof(words)))
            return -1;
    }
    return stream_read(fd, &answer, 1);
}

/* The same in; EBADMSG when a word is another than was sent. */
static inline int stream_receive(int fd, uint64_t seed)
{
    static uint64_t words[STREAM_WORDS], expected[STREAM_WORDS];

    for (uint64_t at = 0; at < SOAK_WORDS; at += STREAM_WORDS) {
        if (stream_read(fd, words, sizeof(words)))
            return -1;
        stream_fill(expected, at, seed);
        if (memcmp(words, expected, sizeof(words)) != 0) {
            errno = EBADMSG;
            return -1;
        }
    }
    return stream_write(fd, "k", 1);
}

#endif
