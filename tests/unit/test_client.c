/* SPDX-License-Identifier: Apache-2.0 */
/* test_client.c: the client against a peer that says exactly what a test wants. */
#include "api/client.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

/* One end of a pair that has `text` waiting and then ends; *peer is the other. */
static int peer_that_says(const char *text, int *peer)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(send(fds[1], text, strlen(text), 0), (ssize_t)strlen(text));
    shutdown(fds[1], SHUT_WR);
    *peer = fds[1];
    return fds[0];
}

static void test_client_sends_what_the_api_takes(void **state)
{
    struct client_answer answer;
    char sent[512] = "";
    struct err e;
    int peer, fd = peer_that_says("HTTP/1.1 204 \r\n\r\nHTTP/1.1 204 \r\n\r\n", &peer);

    (void)state;
    assert_int_equal(client_request(fd, "PUT", "/x", "{}", 2, &answer, &e), 0);
    free(answer.body);
    assert_true(recv(peer, sent, sizeof(sent) - 1, MSG_DONTWAIT) > 0);
    assert_string_equal(sent, "PUT /x HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
                              "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    close(fd);
    close(peer);
}

static void test_client_reads_answers_and_passes_over_interim_ones(void **state)
{
    static const struct {
        const char *text, *body;
        int status;
    } cases[] = {
        {"HTTP/1.1 204 \r\nServer: x\r\n\r\n", "", 204},
        {"HTTP/1.1 100 \r\n\r\nHTTP/1.0 200 \r\ncontent-length: 2\r\n\r\n{}", "{}", 200},
        {"HTTP/1.1 503\r\nContent-Length: 3\r\n\r\nabcdef", "abc", 503},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct client_answer answer;
        struct err e;
        int peer, fd = peer_that_says(cases[i].text, &peer);

        assert_int_equal(client_request(fd, "GET", "/", NULL, 0, &answer, &e), 0);
        assert_int_equal(answer.status, cases[i].status);
        assert_string_equal(answer.body, cases[i].body);
        assert_int_equal(answer.body_len, strlen(cases[i].body));
        free(answer.body);
        close(fd);
        close(peer);
    }
}

static void test_client_says_why_there_is_no_answer(void **state)
{
    static const char *const cases[][2] = {
        {"", "The monitor closed the connection before its answer was complete"},
        {"HTTP/1.1 200 \r\n", "The monitor closed the connection before its answer was complete"},
        {"HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\nabc",
         "The monitor closed the connection before its answer was complete"},
        {"hello\r\n\r\n", "The answer is not HTTP: hello\r\n"},
    };
    static const char *const lengths[] = {"-1", "18446744073709551615", "18446744073709551614",
                                          "268435457"};
    char endless[9000];
    struct client_answer answer;
    struct err e;
    int peer, fd;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        fd = peer_that_says(cases[i][0], &peer);
        assert_true(client_request(fd, "GET", "/", NULL, 0, &answer, &e) < 0);
        assert_string_equal(e.text, cases[i][1]);
        close(fd);
        close(peer);
    }
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        snprintf(endless, sizeof(endless), "HTTP/1.1 200 \r\nContent-Length: %s\r\n\r\n%0200d",
                 lengths[i], 0);
        fd = peer_that_says(endless, &peer);
        assert_int_equal(client_request(fd, "GET", "/", NULL, 0, &answer, &e), -EPROTO);
        close(fd);
        close(peer);
    }
    memset(endless, 'a', sizeof(endless));
    endless[sizeof(endless) - 1] = '\0';
    fd = peer_that_says(endless, &peer);
    assert_int_equal(client_request(fd, "GET", "/", NULL, 0, &answer, &e), -EPROTO);
    close(fd);
    close(peer);
}

static void test_client_connect_names_the_socket_it_cannot_reach(void **state)
{
    char dir[] = "/tmp/test_client.XXXXXX", path[64], longer[200];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct err e;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    assert_int_equal(client_connect(path, 0, &e), -ENOENT);
    assert_non_null(strstr(e.text, path));

    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(client_connect(longer, 0, &e), -ENAMETOOLONG);

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(client_connect(path, 5, &e), -ECONNREFUSED);
    assert_non_null(strstr(e.text, "Nobody listens"));
    unlink(path);
    rmdir(dir);
}

static void *listen_late(void *arg)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    usleep(20000);
    strcpy(address.sun_path, arg);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
        abort();
    close(accept(fd, NULL, NULL));
    close(fd);
    return NULL;
}

static void test_client_connect_waits_for_the_socket(void **state)
{
    char dir[] = "/tmp/test_client.XXXXXX", path[64];
    pthread_t thread;
    struct err e;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    pthread_create(&thread, NULL, listen_late, path);
    fd = client_connect(path, 5000, &e);
    assert_true(fd >= 0);
    close(fd);
    pthread_join(thread, NULL);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_sends_what_the_api_takes),
        cmocka_unit_test(test_client_reads_answers_and_passes_over_interim_ones),
        cmocka_unit_test(test_client_says_why_there_is_no_answer),
        cmocka_unit_test(test_client_connect_names_the_socket_it_cannot_reach),
        cmocka_unit_test(test_client_connect_waits_for_the_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
