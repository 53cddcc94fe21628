/* SPDX-License-Identifier: Apache-2.0 */
/* guest_socket.c: see guest_socket.h. */
#include "tests/e2e/guest_socket.h"

#include "tests/e2e/e2e.h"
#include "tests/support/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

struct sockaddr_un guest_socket(const char *name)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    const char *path = e2e_path(name);

    CHECK(strlen(path) < sizeof(un.sun_path));
    strcpy(un.sun_path, path);
    return un;
}

int guest_try_connect(const char *name, unsigned port)
{
    struct sockaddr_un un = guest_socket(name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char answer[32] = "";

    if (connect(fd, (struct sockaddr *)&un, sizeof(un)))
        FAIL("connect to %s: %s", name, strerror(errno));
    dprintf(fd, "CONNECT %u\n", port);
    for (size_t n = 0; n < sizeof(answer) - 1 && read(fd, answer + n, 1) == 1; n++)
        if (answer[n] == '\n')
            break;
    if (strncmp(answer, "OK ", 3) == 0)
        return fd;
    close(fd);
    return -1;
}

int guest_connect(const char *name, unsigned port)
{
    int fd = guest_try_connect(name, port);

    if (fd < 0)
        FAIL("the guest refused a connection to port %u", port);
    return fd;
}

const char *guest_ask(int fd, const char *line)
{
    struct text answer = {0};
    char byte;

    dprintf(fd, "%s\n", line);
    while (read(fd, &byte, 1) == 1) {
        text_append(&answer, &byte, 1);
        if (byte == '\n' && (text_contains(&answer, "OK\n") || text_contains(&answer, "ERR ")))
            return text_str(&answer);
    }
    FAIL("the agent hung up on \"%s\" after: %s", line, text_str(&answer));
}
