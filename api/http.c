/* SPDX-License-Identifier: Apache-2.0 */
/* http.c: the reader's states, its use of llhttp, and the text of answers. */
#include "api/http.h"

#include <errno.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line must fit; the rest lets a head and a small body come in one receive. */
#define INPUT_MAX (2 * HTTP_LINE_MAX)

enum reader_state {
    READ_REQUEST_LINE,
    READ_HEADERS,
    READ_BODY,
    SKIP_BODY, /* refused, but announced: the client sends it all the same */
};

struct http_reader {
    enum reader_state state;
    size_t max_payload;
    size_t start, end; /* what is unread in input */
    uint32_t to_skip;  /* SKIP_BODY: bytes left */
    struct http_head head;

    /* The request in the making, and what llhttp has said about it. */
    llhttp_t parser;
    struct http_request *request;
    size_t received; /* bytes of request->body that are there; body_len counts what llhttp took */
    bool complete;

    char input[INPUT_MAX];
};

void http_request_free(struct http_request *request)
{
    if (!request)
        return;
    free(request->body);
    free(request);
}

/* ---- llhttp ---- */

static struct http_reader *reader_of(llhttp_t *parser)
{
    return container_of(parser, struct http_reader, parser);
}

/* May be called with a part of the target; path has room for the whole. */
static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    char *path = reader_of(parser)->request->path;

    memcpy(path + strlen(path), at, len); /* zeroed memory: terminated */
    return 0;
}

static int on_url_complete(llhttp_t *parser)
{
    struct http_request *request = reader_of(parser)->request;

    request->path[http_head_decode(request->path, strlen(request->path))] = '\0';
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    reader_of(parser)->request->method = llhttp_method_name((llhttp_method_t)parser->method);
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    (void)at; /* inside request->body already */
    reader_of(parser)->request->body_len += len;
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    reader_of(parser)->complete = true;
    return 0;
}

/* llhttp's interface takes no const; it only reads. */
static llhttp_settings_t settings = {
    .on_url = on_url,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
    .on_url_complete = on_url_complete,
    .on_headers_complete = on_headers_complete,
};

/* Hands bytes to llhttp. What we let through it takes; should it not, the request is refused. */
static int parse(struct http_reader *r, const char *at, size_t len, struct http_error *error)
{
    if (llhttp_execute(&r->parser, at, len) == HPE_OK)
        return 0;
    return http_head_refuse(error, "Invalid request.");
}

/* ---- reading ---- */

struct http_reader *http_reader_create(size_t max_payload)
{
    struct http_reader *r = malloc(sizeof(*r));

    if (!r)
        return NULL;
    /* Not the input: its pages are to stay untouched until something arrives. */
    memset(r, 0, offsetof(struct http_reader, input));
    r->max_payload = max_payload;
    return r;
}

void http_reader_destroy(struct http_reader *r)
{
    if (!r)
        return;
    http_request_free(r->request);
    free(r);
}

void http_reader_space(struct http_reader *r, char **at, size_t *len)
{
    if (r->state == READ_BODY) {
        *at = r->request->body + r->received;
        *len = r->head.content_length - r->received;
        return;
    }
    memmove(r->input, r->input + r->start, r->end - r->start);
    r->end -= r->start;
    r->start = 0;
    *at = r->input + r->end;
    *len = sizeof(r->input) - r->end;
}

void http_reader_received(struct http_reader *r, size_t n)
{
    if (r->state == READ_BODY)
        r->received += n;
    else
        r->end += n;
}

/* A line without its CRLF: 1, having read it; 0: not whole yet; -EPROTO: longer than allowed. */
static int take_line(struct http_reader *r, const char **line, size_t *len)
{
    size_t available = MIN(r->end - r->start, HTTP_LINE_MAX);
    const char *start = r->input + r->start, *end = memmem(start, available, "\r\n", 2);

    if (!end)
        return available == HTTP_LINE_MAX ? -EPROTO : 0;
    *line = start;
    *len = (size_t)(end - start);
    r->start += *len + 2;
    return 1;
}

static int read_request_line(struct http_reader *r, struct http_error *error)
{
    const char *line;
    size_t len;
    int rc = take_line(r, &line, &len);

    if (rc < 0)
        return http_head_request_line_too_long(error);
    if (rc == 0)
        return HTTP_FOUND_NOTHING;
    r->state = READ_HEADERS;
    return http_head_request_line(&r->head, line, len, error);
}

/* Makes the request that the head describes; without a body it is complete. */
static int begin_request(struct http_reader *r, struct http_error *error)
{
    char normal[HTTP_NORMAL_MAX];
    size_t len = http_head_normalise(&r->head, normal), body = r->head.content_length;

    r->complete = false;
    r->received = 0;
    r->request = calloc(1, sizeof(*r->request) + len + 1);
    if (r->request && body)
        r->request->body = malloc(body + 1);
    if (!r->request || (body && !r->request->body))
        return http_head_refuse(error, "Not enough memory for the request.");
    r->state = READ_BODY;
    llhttp_init(&r->parser, HTTP_REQUEST, &settings);
    return parse(r, normal, len, error);
}

/* The blank line has been read. */
static int end_head(struct http_reader *r, struct http_found *found)
{
    if (r->head.content_length > r->max_payload) {
        r->to_skip = r->head.expect ? 0 : r->head.content_length;
        return http_head_body_too_large(&r->head, r->max_payload, &found->error);
    }
    if (begin_request(r, &found->error))
        return -EPROTO;
    if (!r->head.expect || !r->head.content_length)
        return 0;
    found->minor = r->head.minor;
    return HTTP_FOUND_EXPECT;
}

static int read_headers(struct http_reader *r, struct http_found *found)
{
    const char *line;
    size_t len;
    int rc = 1;

    while (r->state == READ_HEADERS && (rc = take_line(r, &line, &len)) > 0) {
        rc = len ? http_head_header(&r->head, line, len, &found->error) : end_head(r, found);
        if (rc)
            return rc;
    }
    if (rc < 0)
        return http_head_header_too_long(r->input + r->start, HTTP_LINE_MAX, &found->error);
    return 0;
}

/* Moves what has come of the body behind its head, and parses what has come by itself, too. */
static int read_body(struct http_reader *r, struct http_found *found)
{
    struct http_request *request = r->request;
    size_t n = MIN(r->end - r->start, r->head.content_length - r->received), fresh;

    if (n)
        memcpy(request->body + r->received, r->input + r->start, n);
    r->received += n;
    r->start += n;
    fresh = r->received - request->body_len;
    if (fresh && parse(r, request->body + request->body_len, fresh, &found->error))
        return -EPROTO;
    if (!r->complete)
        return r->received < r->head.content_length
                   ? HTTP_FOUND_NOTHING
                   : http_head_refuse(&found->error, "Invalid request.");
    if (request->body)
        request->body[request->body_len] = '\0';
    found->request = request;
    r->request = NULL;
    r->state = READ_REQUEST_LINE;
    return HTTP_FOUND_REQUEST;
}

static void skip_body(struct http_reader *r)
{
    size_t n = MIN(r->end - r->start, r->to_skip);

    r->start += n;
    r->to_skip -= (uint32_t)n;
    if (r->to_skip == 0)
        r->state = READ_REQUEST_LINE;
}

/*
 * After an error: forgets the request in the making and all input. A body that was refused for its
 * size comes all the same, unless the client waits to be asked for it: it is skipped, so that the
 * connection stays usable.
 */
static enum http_event refuse(struct http_reader *r)
{
    r->state = SKIP_BODY;
    skip_body(r);
    http_request_free(r->request);
    r->request = NULL;
    r->start = r->end = 0;
    return HTTP_FOUND_ERROR;
}

/* One step; 0 with nothing found means either "go on" (the state has changed) or "receive more". */
static int step(struct http_reader *r, struct http_found *found)
{
    switch (r->state) {
    case READ_REQUEST_LINE:
        return read_request_line(r, &found->error);
    case READ_HEADERS:
        return read_headers(r, found);
    case READ_BODY:
        return read_body(r, found);
    case SKIP_BODY:
        skip_body(r);
        break;
    }
    return 0;
}

enum http_event http_reader_next(struct http_reader *r, struct http_found *found)
{
    enum reader_state before;
    int rc;

    memset(found, 0, sizeof(*found));
    do {
        before = r->state;
        rc = step(r, found);
        if (rc < 0)
            return refuse(r);
    } while (rc == 0 && r->state != before);
    return (enum http_event)rc;
}

/* ---- answers ---- */

const char http_too_many_connections[] = "HTTP/1.1 503\r\n"
                                         "Server: Firecracker API\r\n"
                                         "Connection: close\r\n"
                                         "Content-Length: 40\r\n\r\n"
                                         "{ \"error\": \"Too many open connections\" }";

const char *http_continue(unsigned minor)
{
    static const char *const interim[] = {
        "HTTP/1.0 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n",
        "HTTP/1.1 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n",
    };

    return interim[minor ? 1 : 0];
}

/* The status line has no reason phrase, but the space before it. */
static size_t write_head(char *head, size_t room, const struct http_answer *a)
{
    int n = snprintf(head, room,
                     "HTTP/1.%d %d \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n%s%s",
                     a->http_1_0 ? 0 : 1, a->status, a->more ? a->more : "",
                     a->deprecated ? "Deprecation: true\r\n" : "");

    if (a->status != 204)
        n += snprintf(head + n, room - (size_t)n, "Content-Type: %s\r\nContent-Length: %zu\r\n",
                      a->plain_text ? "text/plain" : "application/json", a->body_len);
    n += snprintf(head + n, room - (size_t)n, "\r\n");
    BUG_ON((size_t)n >= room);
    return (size_t)n;
}

char *http_answer_format(const struct http_answer *a, size_t *len)
{
    char head[512], *text;
    size_t n = write_head(head, sizeof(head), a);

    text = malloc(n + a->body_len + 1);
    if (!text)
        return NULL;
    memcpy(text, head, n);
    if (a->body_len)
        memcpy(text + n, a->body, a->body_len);
    *len = n + a->body_len;
    text[*len] = '\0';
    return text;
}

/* Not quite JSON: a line feed stands inside the string, and what the client sent stands as
 * it was. */
char *http_error_format(struct http_error *error, size_t *len)
{
    static const char before[] = "{ \"error\": \"",
                      after[] = "\nAll previous unanswered requests will be dropped.\" }";
    struct http_answer answer = {.status = 400};
    size_t size = sizeof(before) - 1 + error->len + sizeof(after) - 1;
    char *body = malloc(size), *text;

    if (!body)
        return NULL;
    memcpy(body, before, sizeof(before) - 1);
    if (error->len)
        memcpy(body + sizeof(before) - 1, error->text, error->len);
    memcpy(body + sizeof(before) - 1 + error->len, after, sizeof(after) - 1);
    answer.body = body;
    answer.body_len = size;
    text = http_answer_format(&answer, len);
    free(body);
    free(error->text);
    *error = (struct http_error){.text = NULL};
    return text;
}
