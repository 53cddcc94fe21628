/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.c: connections as state machines on the loop.
 *
 * A connection receives while nothing of it waits for an answer, so what it can make us store is
 * bounded by one receive. What the HTTP reader finds goes into its queue; requests take their turn
 * in the server's list of ready connections, since only one handler runs at a time; answers that
 * need no handler (errors, interim ones) go out in their place in the queue.
 */
#include "api/server.h"

#include "api/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/un.h>

/* As many clients may wait to be accepted. */
#define BACKLOG 128

/* How long to leave the socket alone when the process is out of descriptors or memory. */
#define ACCEPT_PAUSE_NS (100 * NSEC_PER_MSEC)

#define FLUSH_LIMIT_NS NSEC_PER_SEC

/* Due to a client, in order: a request to be handled, or (request NULL) text to be sent as
 * it is. */
struct pending {
    struct pending *next;
    struct http_request *request;
    char *text;
    size_t len;
};

struct conn {
    struct api_server *server;
    int fd; /* -1: the slot is free */
    struct op recv_op, send_op;
    bool receiving, sending; /* the operation is in flight */
    bool ended;              /* the client sends no more; it may still read */
    bool dead;               /* neither; the slot is freed when no operation is in flight */
    bool ready;              /* in the server's list */
    struct conn *next_ready;
    struct http_reader *reader;
    struct pending *first, **end;
    char *out; /* being sent */
    size_t out_len, out_sent;
};

struct api_server {
    struct loop *loop;
    int fd;
    size_t max_payload;
    api_handler handler;
    void *owner;
    struct op accept_op;
    struct loop_timer pause, flush;
    bool accepting, stopping;
    bool busy; /* a handler is running, perhaps inside loop_wait */
    struct conn *first_ready, **ready_end;
    struct conn conns[API_CONNECTIONS_MAX];
};

static void conn_go(struct conn *conn);

/* ---- the queue of a connection ---- */

static void pending_free(struct pending *p)
{
    http_request_free(p->request);
    free(p->text);
    free(p);
}

static void drop_pending(struct conn *conn)
{
    while (conn->first) {
        struct pending *p = conn->first;

        conn->first = p->next;
        pending_free(p);
    }
    conn->end = &conn->first;
}

/* Queues a request, or text; takes it over. Without memory the client is cut off: it must
 * not wait. */
static void push_pending(struct conn *conn, struct http_request *request, char *text, size_t len)
{
    struct pending *p = malloc(sizeof(*p));

    if (!p || (!request && !text)) {
        http_request_free(request);
        free(text);
        free(p);
        conn->dead = true;
        return;
    }
    *p = (struct pending){.request = request, .text = text, .len = len};
    *conn->end = p;
    conn->end = &p->next;
}

/* ---- connections ---- */

static bool in_flight(const struct conn *conn)
{
    return conn->receiving || conn->sending;
}

static void conn_free(struct conn *conn)
{
    close(conn->fd);
    conn->fd = -1;
    drop_pending(conn);
    free(conn->out);
    http_reader_destroy(conn->reader);
    conn->out = NULL;
    conn->reader = NULL;
}

/* Ends a connection: at once, or when its operations, which shutdown(2) makes fail, are back. */
static void conn_end(struct conn *conn)
{
    conn->dead = true;
    if (in_flight(conn))
        shutdown(conn->fd, SHUT_RDWR);
    else
        conn_free(conn);
}

static void start_receive(struct conn *conn)
{
    char *at;
    size_t len;

    http_reader_space(conn->reader, &at, &len);
    conn->receiving = true;
    loop_recv(conn->server->loop, &conn->recv_op, conn->fd, at, len);
}

/*
 * Sends what the socket has room for at once, which is all of it unless the client does not read:
 * that is a tenth of a round trip sooner than by the ring. The ring takes the rest.
 */
static void start_send(struct conn *conn, char *text, size_t len)
{
    ssize_t n = send(conn->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n == (ssize_t)len) {
        free(text);
        return;
    }
    conn->out = text;
    conn->out_len = len;
    conn->out_sent = (size_t)MAX(n, 0);
    conn->sending = true;
    loop_send(conn->server->loop, &conn->send_op, conn->fd, text + conn->out_sent,
              len - conn->out_sent);
}

/* ---- one request at a time ---- */

static void respond(struct conn *conn, struct api_response *response)
{
    struct http_answer answer = {
        .status = response->status,
        .body = response->body,
        .body_len = response->body ? response->body_len : 0,
        .deprecated = response->deprecated,
    };
    size_t len;
    char *text = http_answer_format(&answer, &len);

    free(response->body);
    if (text)
        start_send(conn, text, len);
    else
        conn->dead = true;
}

static void handle(struct conn *conn)
{
    struct api_server *server = conn->server;
    struct pending *p = conn->first;
    struct api_response response = {.status = 204};
    struct api_request request = {
        .method = p->request->method,
        .path = p->request->path,
        .body = p->request->body ? p->request->body : "",
        .body_len = p->request->body_len,
        .has_body = p->request->body != NULL,
    };

    server->busy = true;
    server->handler(server->owner, &request, &response);
    server->busy = false;
    conn->first = p->next;
    if (!conn->first)
        conn->end = &conn->first;
    pending_free(p);
    respond(conn, &response);
}

/* Handles requests while there are any and nobody further up this stack is doing it already. */
static void serve(struct api_server *server)
{
    while (!server->busy && server->first_ready && !server->stopping) {
        struct conn *conn = server->first_ready;

        server->first_ready = conn->next_ready;
        if (!server->first_ready)
            server->ready_end = &server->first_ready;
        conn->ready = false;
        handle(conn);
        conn_go(conn);
    }
}

static void make_ready(struct conn *conn)
{
    struct api_server *server = conn->server;

    if (conn->ready)
        return;
    conn->ready = true;
    conn->next_ready = NULL;
    *server->ready_end = conn;
    server->ready_end = &conn->next_ready;
}

/* ---- the state machine: what a connection does next ---- */

/* Sends the text at the head of the queue. */
static void send_pending_text(struct conn *conn)
{
    struct pending *p = conn->first;

    conn->first = p->next;
    if (!conn->first)
        conn->end = &conn->first;
    start_send(conn, p->text, p->len);
    p->text = NULL;
    pending_free(p);
}

/* Starts what can be started; the requests made ready here are for serve(). */
static void conn_go(struct conn *conn)
{
    while (!conn->dead && !conn->sending && conn->first && !conn->first->request)
        send_pending_text(conn);
    if (conn->dead) {
        conn_end(conn);
    } else if (conn->first) {
        if (!conn->sending)
            make_ready(conn);
    } else if (conn->ended) {
        if (!conn->sending)
            conn_end(conn);
    } else if (!conn->receiving) {
        start_receive(conn);
    }
}

/* Queues what the bytes received amount to. */
static void take_input(struct conn *conn)
{
    struct http_found found;
    size_t len;
    char *text;

    for (;;) {
        switch (http_reader_next(conn->reader, &found)) {
        case HTTP_FOUND_NOTHING:
            return;
        case HTTP_FOUND_REQUEST:
            push_pending(conn, found.request, NULL, 0);
            break;
        case HTTP_FOUND_EXPECT:
            text = strdup(http_continue(found.minor));
            push_pending(conn, NULL, text, text ? strlen(text) : 0);
            break;
        case HTTP_FOUND_ERROR:
            drop_pending(conn);
            text = http_error_format(&found.error, &len);
            push_pending(conn, NULL, text, len);
            break;
        }
    }
}

static void recv_done(struct op *op, int res, bool more)
{
    struct conn *conn = container_of(op, struct conn, recv_op);
    struct api_server *server = conn->server;

    (void)more;
    conn->receiving = false;
    if (res == -EINTR || res == -EAGAIN)
        res = 0; /* asked again below */
    else if (res < 0)
        conn->dead = true;
    else if (res == 0)
        conn->ended = true;
    if (res > 0 && !conn->dead) {
        http_reader_received(conn->reader, (size_t)res);
        take_input(conn);
    }
    conn_go(conn);
    serve(server);
}

static void send_done(struct op *op, int res, bool more)
{
    struct conn *conn = container_of(op, struct conn, send_op);
    struct api_server *server = conn->server;

    (void)more;
    if (res < 0 && res != -EINTR && res != -EAGAIN)
        conn->dead = true;
    else
        conn->out_sent += (size_t)MAX(res, 0);
    if (!conn->dead && conn->out_sent < conn->out_len) {
        loop_send(server->loop, op, conn->fd, conn->out + conn->out_sent,
                  conn->out_len - conn->out_sent);
        return;
    }
    conn->sending = false;
    free(conn->out);
    conn->out = NULL;
    conn_go(conn);
    serve(server);
}

/* ---- accepting ---- */

static struct conn *free_slot(struct api_server *server)
{
    for (size_t i = 0; i < ARRAY_SIZE(server->conns); i++) {
        if (server->conns[i].fd < 0)
            return &server->conns[i];
    }
    return NULL;
}

/*
 * Tells a client that there are too many. Its socket is new, so the few bytes fit; what it has sent
 * already is read away, or closing would take the answer from it again (ECONNRESET).
 */
static void refuse_connection(int fd)
{
    char ignored[1024];

    (void)!send(fd, http_too_many_connections, strlen(http_too_many_connections),
                MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    while (recv(fd, ignored, sizeof(ignored), MSG_DONTWAIT) > 0)
        ;
    close(fd);
}

static void add_connection(struct api_server *server, int fd)
{
    struct conn *conn = free_slot(server);
    struct http_reader *reader = conn ? http_reader_create(server->max_payload) : NULL;

    if (!reader) {
        refuse_connection(fd);
        return;
    }
    *conn = (struct conn){.server = server,
                          .fd = fd,
                          .reader = reader,
                          .recv_op = {.done = recv_done},
                          .send_op = {.done = send_done}};
    conn->end = &conn->first;
    start_receive(conn);
}

/*
 * One at a time, after the receive of the connection before: what has been closed meanwhile is seen
 * first, so that clients who come and go quickly do not count as many.
 */
static void start_accept(struct api_server *server)
{
    server->accepting = true;
    loop_accept(server->loop, &server->accept_op, server->fd);
}

static void pause_done(struct op *op, int res, bool more)
{
    struct api_server *server = container_of(op, struct api_server, pause.op);

    (void)res, (void)more;
    server->pause.armed = false;
    if (!server->stopping)
        start_accept(server);
}

static void accept_done(struct op *op, int res, bool more)
{
    struct api_server *server = container_of(op, struct api_server, accept_op);

    server->accepting = more;
    if (res >= 0 && server->stopping)
        close(res);
    else if (res >= 0)
        add_connection(server, res);
    if (more || server->stopping)
        return;
    if (res == -EMFILE || res == -ENFILE || res == -ENOMEM || res == -ENOBUFS)
        loop_timer_start(server->loop, &server->pause, ACCEPT_PAUSE_NS);
    else
        start_accept(server);
}

/* ---- life ---- */

int api_server_listen(const char *path, int *out, struct err *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, rc;

    /* The system would make a socket without a file, which nobody finds and no permission guards.
     */
    if (!*path)
        return err_set(e, -ENOENT, "Cannot make the API socket: its path is empty");
    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(
            e, -ENAMETOOLONG,
            "Cannot make the API socket %s: its path is longer than the %zu bytes that a "
            "socket's address holds",
            path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(e, -errno, "Cannot make the API socket %s: %s", path, err_os(-errno));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, BACKLOG)) {
        rc = -errno;
        close(fd);
        if (rc == -EADDRINUSE)
            return err_set(e, rc,
                           "Cannot make the API socket %s: something of that name exists; if no "
                           "monitor uses it any more, remove it",
                           path);
        return err_set(e, rc, "Cannot make the API socket %s: %s", path, err_os(rc));
    }
    *out = fd;
    return 0;
}

int api_server_create(struct api_server **out, struct loop *loop, int fd, size_t max_payload,
                      api_handler handler, void *owner, struct err *e)
{
    struct api_server *server = calloc(1, sizeof(*server));

    if (!server)
        return err_set(e, -ENOMEM, "Cannot create the API server: %s", err_os(-ENOMEM));
    server->fd = fd;
    server->loop = loop;
    server->max_payload = max_payload;
    server->handler = handler;
    server->owner = owner;
    server->accept_op.done = accept_done;
    server->pause.op.done = pause_done;
    server->ready_end = &server->first_ready;
    for (size_t i = 0; i < ARRAY_SIZE(server->conns); i++)
        server->conns[i].fd = -1;
    start_accept(server);
    *out = server;
    return 0;
}

static void flush_done(struct op *op, int res, bool more)
{
    (void)res, (void)more;
    container_of(op, struct api_server, flush.op)->flush.armed = false;
}

static bool flushed(void *arg)
{
    struct api_server *server = arg;

    for (size_t i = 0; i < ARRAY_SIZE(server->conns) && server->flush.armed; i++) {
        if (server->conns[i].fd >= 0 && server->conns[i].sending)
            return false;
    }
    return true;
}

static bool flush_timer_ended(void *arg)
{
    return !((struct api_server *)arg)->flush.armed;
}

static void stop_accepting(struct api_server *server)
{
    server->stopping = true;
    if (server->accepting)
        loop_cancel(server->loop, &server->accept_op);
    if (server->pause.armed)
        loop_cancel(server->loop, &server->pause.op);
}

void api_server_flush(struct api_server *server)
{
    stop_accepting(server);
    server->flush.op.done = flush_done;
    loop_timer_start(server->loop, &server->flush, FLUSH_LIMIT_NS);
    loop_wait(server->loop, flushed, server);
    if (server->flush.armed)
        loop_cancel(server->loop, &server->flush.op);
    loop_wait(server->loop, flush_timer_ended, server);
}

static bool all_ended(void *arg)
{
    struct api_server *server = arg;

    for (size_t i = 0; i < ARRAY_SIZE(server->conns); i++) {
        if (server->conns[i].fd >= 0)
            return false;
    }
    return !server->accepting && !server->pause.armed;
}

void api_server_destroy(struct api_server *server)
{
    if (!server)
        return;
    BUG_ON(server->busy);
    stop_accepting(server);
    for (size_t i = 0; i < ARRAY_SIZE(server->conns); i++) {
        if (server->conns[i].fd >= 0)
            conn_end(&server->conns[i]);
    }
    loop_wait(server->loop, all_ended, server);
    close(server->fd);
    free(server);
}
