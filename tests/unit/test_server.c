/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_server.c: the API server on a real loop and a real socket. The test is the client, with
 * blocking sockets; the loop lives on a thread of its own from creation to end, as a ring must.
 */
#include "api/server.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#define DEADLINE_MS 5000

struct fixture {
    char dir[32], path[64];
    struct loop *loop;
    struct api_server *server;
    pthread_t thread;
    pthread_barrier_t created, stopped;
    bool flush; /* once stopped */
    int failed;
    bool release, waiting; /* of the handler of /wait; under the machine lock */
    unsigned handled;
    char *blob; /* the body of GET /blob */
    size_t blob_len;
};

/* ---- the handler: echoes, waits, answers a lot ---- */

static bool released(void *arg)
{
    return ((struct fixture *)arg)->release;
}

static void echo(const struct api_request *request, struct api_response *response)
{
    response->body = malloc(4096 + request->body_len);
    response->status = 200;
    response->body_len =
        (size_t)snprintf(response->body, 4096 + request->body_len, "%s %s %d %s", request->method,
                         request->path, request->has_body, request->body);
}

static void handler(void *owner, const struct api_request *request, struct api_response *response)
{
    struct fixture *f = owner;

    f->handled++;
    if (strcmp(request->path, "/wait") == 0) {
        f->waiting = true;
        loop_wait(f->loop, released, f);
        f->waiting = false;
    }
    if (strcmp(request->path, "/none") == 0)
        return;
    if (strcmp(request->path, "/old") == 0) {
        response->deprecated = true;
        return;
    }
    if (strcmp(request->path, "/blob") == 0) {
        response->status = 200;
        response->body_len = f->blob_len;
        response->body = malloc(f->blob_len);
        memset(response->body, 'b', f->blob_len);
        return;
    }
    if (strcmp(request->path, "/stop") == 0)
        loop_stop(f->loop);
    echo(request, response);
}

/* The life of the loop's thread. */
static void *live(void *arg)
{
    struct fixture *f = arg;
    struct err e;
    int fd;

    f->failed = loop_create(&f->loop, &e);
    if (!f->failed)
        f->failed = api_server_listen(f->path, &fd, &e);
    if (!f->failed)
        f->failed = api_server_create(&f->server, f->loop, fd, 100, handler, f, &e);
    pthread_barrier_wait(&f->created);
    if (f->failed)
        return NULL;
    loop_run(f->loop);
    loop_lock(f->loop);
    if (f->flush) {
        api_server_flush(f->server);
        pthread_barrier_wait(&f->stopped);
        pthread_barrier_wait(&f->stopped); /* the test has looked */
    }
    api_server_destroy(f->server);
    api_server_destroy(NULL);
    loop_unlock(f->loop);
    loop_destroy(f->loop);
    return NULL;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    strcpy(f->dir, "/tmp/test_server.XXXXXX");
    if (!mkdtemp(f->dir))
        return -1;
    snprintf(f->path, sizeof(f->path), "%s/s", f->dir);
    f->blob_len = 1 << 20;
    pthread_barrier_init(&f->created, NULL, 2);
    pthread_barrier_init(&f->stopped, NULL, 2);
    pthread_create(&f->thread, NULL, live, f);
    pthread_barrier_wait(&f->created);
    *state = f;
    return f->failed;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (f->flush) {
        pthread_barrier_wait(&f->stopped);
    } else {
        loop_lock(f->loop);
        loop_stop(f->loop);
        loop_unlock(f->loop);
    }
    pthread_join(f->thread, NULL);
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

/* ---- the client ---- */

static int dial(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, f->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, ms) == 1;
}

/* Reads until the text ends with `end`, the client is cut off, or time is up; returns what came. */
static const char *get_until(int fd, const char *end)
{
    static char text[8192];
    size_t len = 0;

    text[0] = '\0';
    while (len + 1 < sizeof(text) && readable(fd, DEADLINE_MS)) {
        ssize_t n = recv(fd, text + len, sizeof(text) - 1 - len, 0);

        if (n <= 0)
            break;
        len += (size_t)n;
        text[len] = '\0';
        if (strlen(end) && len >= strlen(end) && strcmp(text + len - strlen(end), end) == 0)
            break;
    }
    return text;
}

#define OK_HEAD                                                                                    \
    "HTTP/1.1 200 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"                       \
    "Content-Type: application/json\r\nContent-Length: "
#define NO_CONTENT "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"

static void assert_gets(int fd, const char *expected)
{
    assert_string_equal(
        get_until(fd, expected + strlen(expected) - 1 - MIN(strlen(expected) - 1, 30)), expected);
}

static void test_server_answers_and_keeps_the_connection(void **state)
{
    int fd = dial(*state);

    for (int i = 0; i < 3; i++) {
        put(fd, "GET /a HTTP/1.0\r\nConnection: close\r\n\r\n");
        assert_gets(fd, OK_HEAD "9\r\n\r\nGET /a 0 ");
        put(fd, "PUT /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz");
        assert_gets(fd, OK_HEAD "12\r\n\r\nPUT /b 1 xyz");
    }
    put(fd, "GET /none HTTP/1.1\r\n\r\n");
    assert_gets(fd, NO_CONTENT);
    put(fd, "GET /old HTTP/1.1\r\n\r\n");
    assert_gets(fd, "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
                    "Deprecation: true\r\n\r\n");
    close(fd);
}

static void test_server_answers_the_same_when_a_request_is_cut_anywhere(void **state)
{
    static const char request[] =
        "PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyzGET /c HTTP/1.1\r\n\r\n";
    int fd = dial(*state);

    for (size_t cut = 1; cut < sizeof(request) - 1; cut++) {
        assert_int_equal(send(fd, request, cut, 0), (ssize_t)cut);
        sched_yield();
        put(fd, request + cut);
        assert_gets(fd, OK_HEAD "12\r\n\r\nPUT /b 1 xyz" OK_HEAD "9\r\n\r\nGET /c 0 ");
    }
    close(fd);
}

static void test_server_answers_pipelined_requests_in_order(void **state)
{
    int fd = dial(*state);

    put(fd, "GET /1 HTTP/1.1\r\n\r\nGET /none HTTP/1.1\r\n\r\nPUT /3 HTTP/1.1\r\nContent-Length: "
            "1\r\n\r\n3GET /4 HTTP/1.1\r\n\r\n");
    assert_gets(fd, OK_HEAD "9\r\n\r\nGET /1 0 " NO_CONTENT OK_HEAD "10\r\n\r\nPUT /3 1 3" OK_HEAD
                            "9\r\n\r\nGET /4 0 ");
    close(fd);
}

static void test_server_error_drops_what_came_with_it_and_keeps_the_connection(void **state)
{
    int fd = dial(*state);

    put(fd, "GET /1 HTTP/1.1\r\n\r\nBAD\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    assert_gets(fd, "HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
                    "Content-Type: application/json\r\nContent-Length: 81\r\n\r\n"
                    "{ \"error\": \"Invalid request.\n"
                    "All previous unanswered requests will be dropped.\" }");
    assert_false(readable(fd, 50));
    put(fd, "GET /3 HTTP/1.1\r\n\r\n");
    assert_gets(fd, OK_HEAD "9\r\n\r\nGET /3 0 ");
    close(fd);
}

static void test_server_asks_for_a_body_in_its_place(void **state)
{
    int fd = dial(*state);

    put(fd, "GET /1 HTTP/1.1\r\n\r\nPUT /2 HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: "
            "1\r\n\r\n");
    assert_gets(fd, OK_HEAD "9\r\n\r\nGET /1 0 HTTP/1.1 100 \r\nServer: Firecracker API\r\n"
                            "Connection: keep-alive\r\n\r\n");
    put(fd, "x");
    assert_gets(fd, OK_HEAD "10\r\n\r\nPUT /2 1 x");
    close(fd);
}

static void test_server_answers_a_client_that_has_closed_its_half(void **state)
{
    int fd = dial(*state);

    put(fd, "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n");
    shutdown(fd, SHUT_WR);
    assert_string_equal(get_until(fd, ""),
                        OK_HEAD "9\r\n\r\nGET /1 0 " OK_HEAD "9\r\n\r\nGET /2 0 ");
    close(fd);
}

static void test_server_refuses_the_eleventh_connection_and_recovers(void **state)
{
    int fds[API_CONNECTIONS_MAX], extra;

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = dial(*state);
    put(fds[9], "GET /1 HTTP/1.1\r\n\r\n");
    assert_gets(fds[9], OK_HEAD "9\r\n\r\nGET /1 0 ");

    for (int i = 0; i < 3; i++) {
        extra = dial(*state);
        assert_string_equal(
            get_until(extra, ""),
            "HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\n"
            "Content-Length: 40\r\n\r\n{ \"error\": \"Too many open connections\" }");
        close(extra);
    }

    close(fds[0]);
    for (int i = 0; i < 1000; i++) { /* until the server has noticed */
        char text[16] = "";

        fds[0] = dial(*state);
        (void)!send(fds[0], "GET /2 HTTP/1.1\r\n\r\n", 19, MSG_NOSIGNAL);
        (void)!recv(fds[0], text, sizeof(text) - 1, 0);
        if (strncmp(text, "HTTP/1.1 200", 12) == 0)
            break;
        close(fds[0]);
        usleep(1000);
        assert_true(i < 999);
    }
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
}

static void wait_for_handler(struct fixture *f)
{
    bool waiting = false;

    for (int i = 0; i < DEADLINE_MS && !waiting; i++) {
        usleep(1000);
        loop_lock(f->loop);
        waiting = f->waiting;
        loop_unlock(f->loop);
    }
    assert_true(waiting);
}

static void release(struct fixture *f)
{
    loop_lock(f->loop);
    f->release = true;
    loop_wake(f->loop);
    loop_unlock(f->loop);
}

static void test_server_runs_no_second_handler_while_one_waits(void **state)
{
    struct fixture *f = *state;
    int first = dial(f), second = dial(f), third = dial(f), bad = dial(f);

    put(first, "GET /wait HTTP/1.1\r\n\r\nGET /after HTTP/1.1\r\n\r\n");
    wait_for_handler(f);
    put(second, "GET /2 HTTP/1.1\r\n\r\n");
    put(bad, "BAD\r\n"); /* needs no handler: answered at once */
    assert_non_null(strstr(get_until(bad, "}"), "Invalid request."));
    put(third, "GET /3 HTTP/1.1\r\n\r\n");
    close(third); /* vanishes; its request is handled all the same, its answer lost */
    assert_false(readable(second, 50));
    loop_lock(f->loop);
    assert_int_equal(f->handled, 1);
    loop_unlock(f->loop);

    release(f);
    assert_gets(first, OK_HEAD "12\r\n\r\nGET /wait 0 " OK_HEAD "13\r\n\r\nGET /after 0 ");
    assert_gets(second, OK_HEAD "9\r\n\r\nGET /2 0 ");
    close(first);
    close(second);
    close(bad);
}

static void test_server_is_not_held_up_by_a_client_that_does_not_read(void **state)
{
    struct fixture *f = *state;
    int slow = dial(f), other = dial(f);
    char buf[65536];
    size_t total = 0;
    ssize_t n;

    put(slow, "GET /blob HTTP/1.1\r\n\r\nGET /blob HTTP/1.1\r\n\r\n");
    for (int i = 0; i < 100; i++) {
        put(other, "GET /a HTTP/1.1\r\n\r\n");
        assert_gets(other, OK_HEAD "9\r\n\r\nGET /a 0 ");
    }
    shutdown(slow, SHUT_WR);
    while (readable(slow, DEADLINE_MS) && (n = recv(slow, buf, sizeof(buf), 0)) > 0)
        total += (size_t)n;
    assert_true(total > 2 * f->blob_len);
    assert_true(total < 2 * f->blob_len + 1000);
    close(slow);
    close(other);
}

static void test_server_survives_clients_that_vanish_at_any_byte(void **state)
{
    static const char request[] = "PUT /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz";
    struct fixture *f = *state;
    int fd;

    for (size_t cut = 0; cut <= sizeof(request) - 1; cut++) {
        fd = dial(f);
        (void)!send(fd, request, cut, MSG_NOSIGNAL);
        close(fd);
    }
    for (int i = 0; i < 10; i++) { /* with an answer under way */
        fd = dial(f);
        (void)!send(fd, "GET /blob HTTP/1.1\r\n\r\n", 22, MSG_NOSIGNAL);
        (void)readable(fd, 10);
        close(fd);
    }
    do { /* the server may not have noticed the last one's end */
        fd = dial(f);
        (void)!send(fd, "GET /a HTTP/1.1\r\n\r\n", 19, MSG_NOSIGNAL);
    } while (strncmp(get_until(fd, "GET /a 0 "), "HTTP/1.1 503", 12) == 0 && !close(fd));
    put(fd, "GET /b HTTP/1.1\r\n\r\n");
    assert_gets(fd, OK_HEAD "9\r\n\r\nGET /b 0 ");
    close(fd);
}

static void test_server_flush_sends_an_answer_that_ended_the_loop(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f), slow = dial(f);

    loop_lock(f->loop);
    f->flush = true;
    loop_unlock(f->loop);
    /* One client reads nothing of a large answer: flushing gives up on it after its second. */
    put(slow, "GET /blob HTTP/1.1\r\n\r\n");
    assert_true(readable(slow, DEADLINE_MS));
    put(fd, "GET /stop HTTP/1.1\r\n\r\n");
    pthread_barrier_wait(&f->stopped);
    assert_gets(fd, OK_HEAD "12\r\n\r\nGET /stop 0 ");
    put(fd, "GET /more HTTP/1.1\r\n\r\n");
    assert_false(readable(fd, 20));
    close(fd);
    close(slow);
}

/* An accept uses the limit that was in force when it was queued, so it is set before the server
 * starts. */
static int set_up_with_few_descriptors(void **state)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &limit);
    return set_up(state);
}

static int tear_down_with_few_descriptors(void **state)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return tear_down(state);
}

static void test_server_waits_out_a_lack_of_descriptors(void **state)
{
    int taken[64], n = 0, fd;

    while ((fd = dup(0)) >= 0)
        taken[n++] = fd;
    close(taken[--n]);
    fd = dial(*state); /* takes the last one */
    put(fd, "GET /a HTTP/1.1\r\n\r\n");
    assert_false(readable(fd, 50));
    while (n)
        close(taken[--n]);
    assert_gets(fd, OK_HEAD "9\r\n\r\nGET /a 0 ");
    close(fd);
}

static void test_server_listen_names_a_path_it_cannot_have(void **state)
{
    struct fixture *f = *state;
    char path[256];
    struct err e;
    int fd;

    assert_int_equal(api_server_listen(f->path, &fd, &e), -EADDRINUSE);
    assert_non_null(strstr(e.text, f->path));
    snprintf(path, sizeof(path), "%s/missing/s", f->dir);
    assert_int_equal(api_server_listen(path, &fd, &e), -ENOENT);
    assert_non_null(strstr(e.text, path));
    memset(path, 'a', 200);
    path[200] = '\0';
    assert_int_equal(api_server_listen(path, &fd, &e), -ENAMETOOLONG);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(api_server_listen("", &fd, &e), -ENOENT);
    assert_non_null(strstr(e.text, "empty"));
}

#define SERVER_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER_TEST(test_server_answers_and_keeps_the_connection),
        SERVER_TEST(test_server_answers_the_same_when_a_request_is_cut_anywhere),
        SERVER_TEST(test_server_answers_pipelined_requests_in_order),
        SERVER_TEST(test_server_error_drops_what_came_with_it_and_keeps_the_connection),
        SERVER_TEST(test_server_asks_for_a_body_in_its_place),
        SERVER_TEST(test_server_answers_a_client_that_has_closed_its_half),
        SERVER_TEST(test_server_refuses_the_eleventh_connection_and_recovers),
        SERVER_TEST(test_server_runs_no_second_handler_while_one_waits),
        SERVER_TEST(test_server_is_not_held_up_by_a_client_that_does_not_read),
        SERVER_TEST(test_server_survives_clients_that_vanish_at_any_byte),
        SERVER_TEST(test_server_flush_sends_an_answer_that_ended_the_loop),
        cmocka_unit_test_setup_teardown(test_server_waits_out_a_lack_of_descriptors,
                                        set_up_with_few_descriptors,
                                        tear_down_with_few_descriptors),
        SERVER_TEST(test_server_listen_names_a_path_it_cannot_have),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
