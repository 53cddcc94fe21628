/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small HTTP/1.1 client over a Unix socket, for tests: it shows what came, byte for byte, and
 * judges nothing. Blocking sockets with deadlines; one thread.
 */
#ifndef MAYFLY_TESTS_SUPPORT_API_CLIENT_H
#define MAYFLY_TESTS_SUPPORT_API_CLIENT_H

#include "tests/support/text.h"

#include <stdbool.h>
#include <stddef.h>

enum { API_HEADERS_MAX = 16, API_TIMEOUT_MS = 10000 };

struct api_header {
    char name[64];
    char value[192];
};

struct api_answer {
    int status;
    char version[8]; /* "1.1" */
    struct api_header headers[API_HEADERS_MAX];
    unsigned n_headers;
    struct text body;
};

/* What an attempt to get an answer came to. */
enum api_outcome {
    API_ANSWERED,
    API_CLOSED,  /* the connection ended first */
    API_SILENT,  /* nothing, or only a part, until the deadline */
    API_REFUSED, /* no connection */
    API_GARBAGE, /* not HTTP */
};

void api_answer_free(struct api_answer *a);

/* The header's value, or NULL. Names compare without regard to case. */
const char *api_answer_header(const struct api_answer *a, const char *name);

/*
 * Parses the answer at the start of `data`. Returns the bytes it took, 0 when more are needed, or
 * -EPROTO. The caller frees `a` after a positive return.
 */
long api_parse(struct api_answer *a, const char *data, size_t len);

/* A connected stream socket, or -errno. */
int api_connect(const char *socket_path);

/* Sends everything, however long it takes the peer (bounded by API_TIMEOUT_MS). 0 or -errno. */
int api_send(int fd, const void *data, size_t len);

/*
 * The next answer with a status of 200 or more (interim ones are passed over). `pending` holds
 * bytes read beyond an answer and belongs to the connection.
 */
enum api_outcome api_receive(int fd, struct text *pending, struct api_answer *a, int timeout_ms);

/*
 * Appends a request head and body as the recorded exchanges were made: Host, Accept, and with a
 * body (NULL: none; "" is one of length 0) Content-Type and Content-Length.
 */
void api_format(struct text *out, const char *method, const char *path, const char *body,
                size_t body_len);

/* One request on a connection of its own. The caller frees `a`. */
enum api_outcome api_request(const char *socket_path, const char *method, const char *path,
                             const char *body, struct api_answer *a, int timeout_ms);

const char *api_outcome_word(enum api_outcome outcome);

#endif
