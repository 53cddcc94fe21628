/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_head.h owns the judgement of a request's head, line by line, before any HTTP library sees
 * it: what is refused, with which words, and what the target means are decided here, the way
 * clients of Firecracker know it, because a library decides these things its own way. Pure: no I/O,
 * no state beyond the struct.
 *
 * The rules, none of them from RFC 9112:
 *  - a line is at most 1024 bytes with its CRLF, and only CRLF ends one;
 *  - GET, PUT, PATCH, DELETE and HTTP/1.0, HTTP/1.1, each to the letter, one space between parts;
 *  - the target is taken as it is, query included; "http://host/path" is "/path", and what has no
 *    path of that kind ("name", "http://host", "https://host/path") is "/";
 *  - Content-Length is an unsigned 32-bit number, '+' allowed; the last one counts;
 *  - Transfer-Encoding is ignored (so chunked means no body), as is every header not named here;
 *  - Accept-Encoding may not be empty or forbid "identity".
 */
#ifndef MAYFLY_API_HTTP_HEAD_H
#define MAYFLY_API_HTTP_HEAD_H

#include "vmm/base/util.h"

/* Bytes of a request line or a header line, with CRLF. */
#define HTTP_LINE_MAX 1024

/* Room for the normalised head of any request: each byte of the target may become three. */
#define HTTP_NORMAL_MAX (3 * HTTP_LINE_MAX + 128)

/* What is wrong with a request, in the words for its client; malloc'ed, may hold any byte that one
 * sent. */
struct http_error {
    char *text; /* NULL: none, or no memory for it */
    size_t len;
};

struct http_head {
    const char *method;         /* "GET", "PUT", "PATCH" or "DELETE" */
    char target[HTTP_LINE_MAX]; /* normalised; begins with '/' */
    size_t target_len;
    unsigned minor; /* of HTTP/1.x */
    uint32_t content_length;
    bool expect; /* Expect: 100-continue */
};

/* A request line taken apart; method is static text, path lies in the line. */
struct http_request_line {
    const char *method, *path;
    size_t path_len; /* 0: the target has no path of the kind above */
    unsigned minor;
};

/* The judgement of a request line of any length, by the rules above but the first. */
int http_head_take_apart(struct http_request_line *out, const char *line, size_t len,
                         struct http_error *error) __must_check;

/*
 * Judge one line, given without its CRLF. 0, or -EPROTO with *error filled. The request line also
 * clears what was in the head before.
 */
int http_head_request_line(struct http_head *head, const char *line, size_t len,
                           struct http_error *error) __must_check;
int http_head_header(struct http_head *head, const char *line, size_t len,
                     struct http_error *error) __must_check;

/* The refusals of a line that is too long, given its first HTTP_LINE_MAX bytes, and of a body.
 * -EPROTO. */
int http_head_request_line_too_long(struct http_error *error);
int http_head_header_too_long(const char *start, size_t len, struct http_error *error);
int http_head_body_too_large(const struct http_head *head, size_t max, struct http_error *error);

/* A refusal in fixed words. -EPROTO. */
int http_head_refuse(struct http_error *error, const char *words);

/*
 * The head as a strict parser takes it, blank line included: HTTP/1.1, the method, the target with
 * every byte percent-encoded that is not a letter, a digit or one of "-._~/" ('%' too, so that
 * decoding gives back exactly the target), and one Content-Length if there is a body. Returns its
 * length; out has HTTP_NORMAL_MAX bytes.
 */
size_t http_head_normalise(const struct http_head *head, char *out);

/* Undoes the encoding of http_head_normalise in place; returns the new length. */
size_t http_head_decode(char *text, size_t len);

#endif
