/* SPDX-License-Identifier: Apache-2.0 */
/* soak_ends.c: see soak_ends.h. */
#include "tests/e2e/soak_ends.h"

#include "guest/init/stream.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/guest_socket.h"
#include "tests/support/clock.h"
#include "tests/support/text.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

struct ends *ends;

static void end_failed(int which)
{
    ends->failed = errno ? errno : EIO;
    ends->which = which;
    _exit(1);
}

static int listen_tcp(const char *address, int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    inet_pton(AF_INET, address, &in.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&in, sizeof(in)) || listen(fd, 16))
        FAIL("cannot listen at port %d: %s", port, strerror(errno));
    return fd;
}

static int listen_vsock(int port)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un un = guest_socket(text_format("vsock_%d", port));

    if (bind(fd, (struct sockaddr *)&un, sizeof(un)) || listen(fd, 16))
        FAIL("cannot listen at %s: %s", un.sun_path, strerror(errno));
    return fd;
}

/* Whether errno is that of a vsock connection whose monitor has ended. */
static bool is_broken(int which)
{
    return which >= VSOCK_SINK && (errno == EPIPE || errno == ECONNRESET);
}

/* Serves one listener in a process of its own. */
static void serve(int listener, int which, int port, int (*serve_one)(int fd, uint64_t seed))
{
    if (fork())
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            end_failed(which);
        if (serve_one(fd, (uint64_t)port) == 0)
            ends->rounds[which]++;
        else if (is_broken(which))
            ends->broken[which]++;
        else
            end_failed(which);
        close(fd);
    }
}

/* CONNECT, and a few bytes there and back. 0; -1 with errno; or 1 where the guest took too long. */
static int echo(int fd, uint64_t *state)
{
    int64_t begin = clock_ms();
    uint64_t sent[32], came[32];
    char answer[64] = "";
    size_t n = 0;

    if (dprintf(fd, "CONNECT %d\n", SOAK_PORT_ECHO) < 0)
        return -1;
    do {
        if (stream_read(fd, answer + n, 1))
            return n == 0 && clock_ms() - begin >= ANSWER_MS ? 1 : -1;
    } while (answer[n++] != '\n' && n < sizeof(answer) - 1);
    errno = EPROTO;
    if (strncmp(answer, "OK ", 3) != 0)
        return -1;
    for (size_t i = 0; i < 32; i++)
        sent[i] = e2e_random(state);
    if (stream_write(fd, sent, sizeof(sent)) || stream_read(fd, came, sizeof(came)))
        return -1;
    errno = EBADMSG;
    return memcmp(sent, came, sizeof(sent)) ? -1 : 0;
}

static int echo_once(uint64_t *state)
{
    struct sockaddr_un un = guest_socket(ends_socket());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

    rc = connect(fd, (struct sockaddr *)&un, sizeof(un)) ? -1 : echo(fd, state);
    int code = errno;
    close(fd);
    errno = code;
    return rc;
}

void ends_connect(void)
{
    uint64_t state = 11;

    if (fork())
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        unsigned moves = ends->moves;

        if (moves % 2 == 0) {
            int rc = echo_once(&state);

            if (rc >= 0)
                ends->rounds[VSOCK_ECHO] += rc == 0;
            else if (moves != ends->moves && errno != EBADMSG)
                ends->broken[VSOCK_ECHO]++;
            else
                end_failed(VSOCK_ECHO);
        }
        usleep(5000);
    }
}

/* ---- what the test says ---------------------------------------------------------------------- */

void ends_listen(const char *address)
{
    ends = mmap(NULL, sizeof(*ends), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(ends != MAP_FAILED);
    serve(listen_tcp(address, SOAK_PORT_SINK), TCP_SINK, SOAK_PORT_SINK, stream_receive);
    serve(listen_tcp(address, SOAK_PORT_SOURCE), TCP_SOURCE, SOAK_PORT_SOURCE, stream_send);
    serve(listen_vsock(SOAK_PORT_SINK), VSOCK_SINK, SOAK_PORT_SINK, stream_receive);
    serve(listen_vsock(SOAK_PORT_SOURCE), VSOCK_SOURCE, SOAK_PORT_SOURCE, stream_send);
    ends_serve_too(ends_socket());
}

const char *ends_socket(void)
{
    static char name[32];

    snprintf(name, sizeof(name), "v%u", ends->moves / 2);
    return name;
}

void ends_serve_too(const char *name)
{
    static const int ports[] = {SOAK_PORT_SINK, SOAK_PORT_SOURCE};

    for (unsigned i = 0; i < 2; i++) {
        char *link = text_format("%s_%d", name, ports[i]);
        char *listener = text_format("vsock_%d", ports[i]);

        CHECK_INT(symlink(listener, e2e_path(link)), 0);
        free(link);
        free(listener);
    }
}

void ends_move(void)
{
    ends->moves++;
}

void ends_check(unsigned ended)
{
    static const char *const names[] = {"TCP sink", "TCP source", "vsock sink", "vsock source",
                                        "vsock client"};

    if (ends->failed)
        FAIL("the host's %s failed: %s", names[ends->which], strerror(ends->failed));
    /* One that was, and one that was being made. */
    for (unsigned i = 0; i < ENDS; i++)
        CHECK(ends->broken[i] <= 2UL * ended);
}
