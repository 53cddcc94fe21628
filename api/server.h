/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h owns the API socket: it accepts connections on the loop, feeds what they send to the
 * HTTP reader (http.h) and hands each whole request to one handler. It knows nothing of routes or
 * machines.
 *
 * One request at a time, over all connections: a handler may wait inside loop_wait (pausing drains
 * devices), and requests that arrive meanwhile are read and queued, in order of arrival, until it
 * has returned. Answers leave in one send each. All functions: loop thread (or before loop_run),
 * under the machine lock.
 */
#ifndef MAYFLY_API_SERVER_H
#define MAYFLY_API_SERVER_H

#include "vmm/base/err.h"
#include "vmm/base/loop.h"

/* Open connections at most; the next one is told so with a 503 and closed. */
#define API_CONNECTIONS_MAX 10

/* --http-api-max-payload-size when not given. */
#define API_DEFAULT_MAX_PAYLOAD 51200

/* What a handler sees. Everything is valid until the handler returns. */
struct api_request {
    const char *method; /* "GET", "PUT", "PATCH" or "DELETE" */
    const char *path; /* the target, normalised: begins with '/', query and doubled slashes kept */
    const char *body; /* NUL-terminated for comfort; may hold NULs: body_len counts */
    size_t body_len;
    bool has_body; /* a Content-Length above 0 was sent */
};

/* What a handler fills in; it begins as 204 without a body. */
struct api_response {
    int status;
    char *body; /* JSON text from malloc, taken over and freed by the server; NULL = none */
    size_t body_len;
    bool deprecated; /* adds "Deprecation: true" */
};

typedef void (*api_handler)(void *owner, const struct api_request *request,
                            struct api_response *response);

struct api_server;

/*
 * Binds and listens on socket_path at once, nothing in between, so that a client that sees the file
 * can connect; *fd is for api_server_create. -EADDRINUSE where the path exists, -ENAMETOOLONG,
 * -ENOENT ...: the sentence names the path.
 */
int api_server_listen(const char *socket_path, int *fd, struct err *e) __must_check;

/* Takes the listening socket over, on success. Requests are served from the first turn of the loop
 * on. max_payload: bytes of body accepted. -ENOMEM. */
int api_server_create(struct api_server **out, struct loop *loop, int fd, size_t max_payload,
                      api_handler handler, void *owner, struct err *e) __must_check;

/* Runs the loop until every answer already made has been sent or its client is gone, at most a
 * second: for main, before the process ends. Accepts nothing more. The loop must not be inside a
 * handler. */
void api_server_flush(struct api_server *server);

/* Closes every connection; NULL is fine. The socket file stays, as clients expect. Cancels the
 * server's operations and runs the loop until they have ended. */
void api_server_destroy(struct api_server *server);

#endif
