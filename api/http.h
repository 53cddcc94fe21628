/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http.h owns HTTP/1.1 as bytes: requests out of a stream, however it is cut, and answers into one
 * buffer. Our own pass (http_head.h) judges each head, llhttp parses what it lets through. Pure: no
 * sockets.
 *
 * A reader is filled and asked in turn: http_reader_space, receive into it, http_reader_received,
 * then http_reader_next until HTTP_FOUND_NOTHING. What it finds, and in which order, does not
 * depend on how the stream was cut, with one exception on purpose: behind an error everything else
 * received by then is dropped, because clients count on that.
 */
#ifndef MAYFLY_API_HTTP_H
#define MAYFLY_API_HTTP_H

#include "api/http_head.h"

/* A whole request, malloc'ed; the reader's caller owns it. */
struct http_request {
    struct http_request *next; /* for its owner's queue */
    const char *method;        /* static text */
    char *body;                /* malloc'ed, NUL-terminated; NULL = none */
    size_t body_len;
    char path[]; /* the normalised target, NUL-terminated */
};

void http_request_free(struct http_request *request);

enum http_event {
    HTTP_FOUND_NOTHING, /* whole: receive more */
    HTTP_FOUND_REQUEST, /* found->request */
    HTTP_FOUND_EXPECT,  /* the client waits for an interim answer before its body (found->minor) */
    HTTP_FOUND_ERROR,   /* found->error: to be answered; the rest of the input is dropped */
};

struct http_found {
    struct http_request *request;
    struct http_error error;
    unsigned minor;
};

struct http_reader;

/* max_payload: bytes of body that are accepted. NULL when memory is out. */
struct http_reader *http_reader_create(size_t max_payload);
void http_reader_destroy(struct http_reader *reader);

/* Where the next bytes of the stream belong: *len > 0. Valid until http_reader_received
 * or _next. */
void http_reader_space(struct http_reader *reader, char **at, size_t *len);

/* n bytes have been put there. */
void http_reader_received(struct http_reader *reader, size_t n);

/* The next thing found. What it hands out belongs to the caller. */
enum http_event http_reader_next(struct http_reader *reader, struct http_found *found);

/* ---- answers ---- */

struct http_answer {
    int status;
    const char *body; /* NULL = none */
    size_t body_len;
    bool deprecated;
    /* What only the metadata service's answers differ in. */
    bool http_1_0, plain_text;
    const char *more; /* further header lines, each with its CRLF, 200 bytes in all; NULL = none */
};

/* Head and body in one malloc'ed buffer, *len bytes and a NUL; NULL when memory is out. */
char *http_answer_format(const struct http_answer *answer, size_t *len);

/* The answer to HTTP_FOUND_ERROR. Takes error->text over and frees it. */
char *http_error_format(struct http_error *error, size_t *len);

/* The interim answer to HTTP_FOUND_EXPECT; static text. */
const char *http_continue(unsigned minor);

/* What a connection over the limit is told; static text. */
extern const char http_too_many_connections[];

#endif
