/* SPDX-License-Identifier: Apache-2.0 */
/* client.c: a socket, a request, an answer. */
#include "api/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define ANSWER_TIMEOUT_S 60
#define HEAD_MAX         8192
#define BODY_MAX         (256 * MIB) /* what is larger is a mistake or a lie, and sums must not wrap */
#define RETRY_NS         (NSEC_PER_MSEC / 2)

static int try_connect(const struct sockaddr_un *address)
{
    struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
        return fd;
    }
    rc = -errno;
    close(fd);
    return rc;
}

int client_connect(const char *socket_path, unsigned wait_ms, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t deadline = now_ns() + wait_ms * NSEC_PER_MSEC;
    struct timespec pause = {.tv_nsec = RETRY_NS};
    int fd;

    if (strlen(socket_path) >= sizeof(address.sun_path))
        return err_set(e, -ENAMETOOLONG, "The socket's path is longer than %zu bytes: %s",
                       sizeof(address.sun_path) - 1, socket_path);
    memcpy(address.sun_path, socket_path, strlen(socket_path));
    while ((fd = try_connect(&address)) < 0) {
        bool may_come = fd == -ENOENT || fd == -ECONNREFUSED;

        if (!may_come || now_ns() >= deadline)
            break;
        nanosleep(&pause, NULL);
    }
    if (fd == -ENOENT)
        return err_set(e, fd, "There is no socket %s: is the monitor running with this --api-sock?",
                       socket_path);
    if (fd == -ECONNREFUSED)
        return err_set(e, fd, "Nobody listens on %s: the monitor that made it has ended",
                       socket_path);
    if (fd < 0)
        return err_set(e, fd, "Cannot connect to %s: %s", socket_path, err_os(fd));
    return fd;
}

static int send_all(int fd, const char *at, size_t len)
{
    while (len) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Reads at least one byte; 0 at the end of the stream. */
static ssize_t receive(int fd, char *at, size_t len)
{
    ssize_t n;

    do
        n = recv(fd, at, len, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int no_answer(ssize_t rc, struct err *e)
{
    if (rc == -EAGAIN)
        return err_set(e, -ETIMEDOUT, "No answer within %d seconds", ANSWER_TIMEOUT_S);
    if (rc == 0)
        return err_set(e, -ECONNRESET,
                       "The monitor closed the connection before its answer was "
                       "complete");
    return err_set(e, (int)rc, "Cannot read the answer: %s", err_os((int)rc));
}

/* What has been received and not used yet. */
struct input {
    int fd;
    size_t len;
    char bytes[HEAD_MAX + 1];
};

/* Receives until a whole head is there; *head_len: with its blank line. */
static int read_head(struct input *in, size_t *head_len, struct err *e)
{
    for (;;) {
        char *end = memmem(in->bytes, in->len, "\r\n\r\n", 4);
        ssize_t n;

        if (end) {
            *head_len = (size_t)(end - in->bytes) + 4;
            return 0;
        }
        if (in->len == HEAD_MAX)
            return err_set(e, -EPROTO, "The answer is not HTTP: its head does not end");
        n = receive(in->fd, in->bytes + in->len, HEAD_MAX - in->len);
        if (n <= 0)
            return no_answer(n, e);
        in->len += (size_t)n;
    }
}

static size_t content_length(const char *head)
{
    static const char name[] = "\r\nContent-Length:";
    const char *found = strcasestr(head, name);

    return found ? strtoul(found + strlen(name), NULL, 10) : 0;
}

static int read_body(struct input *in, size_t len, struct client_answer *answer, struct err *e)
{
    size_t have = MIN(in->len, len);

    if (len > BODY_MAX)
        return err_set(e, -EPROTO, "The answer says that it has %zu bytes, which cannot be", len);
    answer->body = malloc(len + 1);
    if (!answer->body)
        return err_set(e, -ENOMEM, "Not enough memory for an answer of %zu bytes", len);
    memcpy(answer->body, in->bytes, have);
    while (have < len) {
        ssize_t n = receive(in->fd, answer->body + have, len - have);

        if (n <= 0) {
            free(answer->body);
            return no_answer(n, e);
        }
        have += (size_t)n;
    }
    answer->body[len] = '\0';
    answer->body_len = len;
    return 0;
}

/* The three digits of "HTTP/1.x nnn", or -1. */
static int status_of(const char *head)
{
    static const char start[] = "HTTP/1.";
    const char *digits = head + strlen(start) + 2;

    if (strncmp(head, start, strlen(start)) != 0 || !memchr("01", digits[-2], 2) ||
        strspn(digits, "0123456789") != 3)
        return -1;
    return (int)strtol(digits, NULL, 10);
}

static int read_answer(struct input *in, struct client_answer *answer, struct err *e)
{
    size_t head_len = 0, length;
    int rc;

    do {
        rc = read_head(in, &head_len, e);
        if (rc)
            return rc;
        in->bytes[head_len - 2] = '\0';
        answer->status = status_of(in->bytes);
        if (answer->status < 0)
            return err_set(e, -EPROTO, "The answer is not HTTP: %.60s", in->bytes);
        length = content_length(in->bytes);
        in->len -= head_len;
        memmove(in->bytes, in->bytes + head_len, in->len);
    } while (answer->status < 200);
    return read_body(in, length, answer, e);
}

int client_request(int fd, const char *method, const char *path, const char *body, size_t body_len,
                   struct client_answer *answer, struct err *e)
{
    struct input in = {.fd = fd};
    char *head;
    int rc, n;

    if (body)
        n = asprintf(&head,
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                     method, path, body_len);
    else
        n = asprintf(&head, "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n",
                     method, path);
    if (n < 0)
        return err_set(e, -ENOMEM, "Not enough memory for the request");
    rc = send_all(fd, head, (size_t)n);
    if (!rc && body)
        rc = send_all(fd, body, body_len);
    free(head);
    /* The eleventh connection is refused and closed at once: its answer is there though sending
     * fails. */
    if (rc && rc != -EPIPE && rc != -ECONNRESET)
        return err_set(e, rc, "Cannot send the request: %s", err_os(rc));
    return read_answer(&in, answer, e);
}
