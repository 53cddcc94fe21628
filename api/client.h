/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h owns the client's side of the API: one request and its answer over the Unix socket,
 * blocking. For mayflyctl; the monitor does not use it.
 */
#ifndef MAYFLY_API_CLIENT_H
#define MAYFLY_API_CLIENT_H

#include "vmm/base/err.h"

struct client_answer {
    int status;
    char *body; /* malloc'ed, NUL-terminated */
    size_t body_len;
};

/* A connected socket; waits up to wait_ms for it to exist and accept. -errno with a sentence. */
int client_connect(const char *socket_path, unsigned wait_ms, struct err *e) __must_check;

/*
 * Sends a request (body NULL: none) and reads its answer, passing over interim ones. Waits at most
 * a minute for each part of it. The caller frees answer->body after success.
 */
int client_request(int fd, const char *method, const char *path, const char *body, size_t body_len,
                   struct client_answer *answer, struct err *e) __must_check;

#endif
