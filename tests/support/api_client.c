/* SPDX-License-Identifier: Apache-2.0 */
/* The tests' HTTP client over a Unix socket. */
#include "tests/support/api_client.h"

#include "tests/support/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

void api_answer_free(struct api_answer *a)
{
    text_free(&a->body);
    *a = (struct api_answer){0};
}

const char *api_answer_header(const struct api_answer *a, const char *name)
{
    for (unsigned i = 0; i < a->n_headers; i++)
        if (!strcasecmp(a->headers[i].name, name))
            return a->headers[i].value;
    return NULL;
}

/* "HTTP/1.1 200 " up to, but without, the line end at `end`. */
static bool parse_status_line(struct api_answer *a, const char *line, const char *end)
{
    if (end - line < 12 || memcmp(line, "HTTP/", 5) || line[8] != ' ')
        return false;
    snprintf(a->version, sizeof(a->version), "%.3s", line + 5);
    char *after;
    long status = strtol(line + 9, &after, 10);
    if (after != line + 12 || (after != end && *after != ' ') || status < 100 || status > 599)
        return false;
    a->status = (int)status;
    return true;
}

static bool parse_header(struct api_answer *a, const char *line, const char *end)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon || colon == line || a->n_headers == API_HEADERS_MAX)
        return false;
    struct api_header *h = &a->headers[a->n_headers++];
    const char *value = colon + 1;
    while (value < end && *value == ' ')
        value++;
    snprintf(h->name, sizeof(h->name), "%.*s", (int)(colon - line), line);
    snprintf(h->value, sizeof(h->value), "%.*s", (int)(end - value), value);
    return true;
}

/* Parses the head, whose blank line ends at `end`. */
static bool parse_head(struct api_answer *a, const char *data, const char *end)
{
    const char *line = data;
    bool first = true;
    while (line < end) {
        const char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!stop)
            return false;
        if (stop == line)
            return !first;
        if (!(first ? parse_status_line(a, line, stop) : parse_header(a, line, stop)))
            return false;
        first = false;
        line = stop + 2;
    }
    return false;
}

static bool starts_like_http(const char *data, size_t len)
{
    return !memcmp(data, "HTTP/", len < 5 ? len : 5);
}

long api_parse(struct api_answer *a, const char *data, size_t len)
{
    *a = (struct api_answer){0};
    if (!starts_like_http(data, len))
        return -EPROTO;
    const char *blank = len ? memmem(data, len, "\r\n\r\n", 4) : NULL;
    if (!blank)
        return 0;
    size_t head = (size_t)(blank - data) + 4;
    if (!parse_head(a, data, data + head))
        return -EPROTO;
    const char *length = api_answer_header(a, "Content-Length");
    size_t body = length ? strtoul(length, NULL, 10) : 0;
    if (len - head < body)
        return 0;
    text_append(&a->body, data + head, body);
    return (long)(head + body);
}

int api_connect(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct timeval limit = {.tv_sec = API_TIMEOUT_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    return fd;
}

int api_send(int fd, const void *data, size_t len)
{
    const char *bytes = data;
    while (len) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Drops the first `n` bytes. */
static void consume(struct text *t, size_t n)
{
    memmove(t->data, t->data + n, t->len - n + 1);
    t->len -= n;
}

/* Reads more into `pending`. Returns API_ANSWERED when something came. */
static enum api_outcome read_more(int fd, struct text *pending, int64_t deadline)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int ready;
    do
        ready = poll(&wait, 1, clock_left(deadline));
    while (ready < 0 && errno == EINTR);
    if (ready <= 0)
        return API_SILENT;
    char part[16384];
    ssize_t n = recv(fd, part, sizeof(part), 0);
    if (n <= 0)
        return API_CLOSED;
    text_append(pending, part, (size_t)n);
    return API_ANSWERED;
}

enum api_outcome api_receive(int fd, struct text *pending, struct api_answer *a, int timeout_ms)
{
    int64_t deadline = clock_ms() + timeout_ms;
    for (;;) {
        long took = api_parse(a, text_str(pending), pending->len);
        if (took < 0)
            return API_GARBAGE;
        if (took > 0) {
            consume(pending, (size_t)took);
            if (a->status >= 200)
                return API_ANSWERED;
            api_answer_free(a);
            continue;
        }
        enum api_outcome outcome = read_more(fd, pending, deadline);
        if (outcome != API_ANSWERED)
            return outcome;
    }
}

void api_format(struct text *out, const char *method, const char *path, const char *body,
                size_t body_len)
{
    text_printf(out, "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n", method,
                path);
    if (body)
        text_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body_len);
    text_puts(out, "\r\n");
    if (body)
        text_append(out, body, body_len);
}

enum api_outcome api_request(const char *socket_path, const char *method, const char *path,
                             const char *body, struct api_answer *a, int timeout_ms)
{
    *a = (struct api_answer){0};
    int fd = api_connect(socket_path);
    if (fd < 0)
        return API_REFUSED;
    struct text request = {0}, pending = {0};
    api_format(&request, method, path, body, body ? strlen(body) : 0);
    /* A peer that refuses early may close before it read everything; its answer still counts. */
    api_send(fd, request.data, request.len);
    enum api_outcome outcome = api_receive(fd, &pending, a, timeout_ms);
    close(fd);
    text_free(&request);
    text_free(&pending);
    return outcome;
}

const char *api_outcome_word(enum api_outcome outcome)
{
    static const char *const words[] = {
        [API_ANSWERED] = "answered", [API_CLOSED] = "closed without an answer",
        [API_SILENT] = "silent",     [API_REFUSED] = "connection refused",
        [API_GARBAGE] = "not HTTP",
    };
    return words[outcome];
}
