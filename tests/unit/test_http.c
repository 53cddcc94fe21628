/* SPDX-License-Identifier: Apache-2.0 */
/* test_http.c: requests out of a stream however it is cut, and the bytes of answers. */
#include "api/http.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a stream amounted to, as text: one line for each thing found. */
struct trace {
    char text[8192];
    size_t len;
};

static void note(struct trace *t, const char *fmt, ...) __printf(2, 3);
static void note(struct trace *t, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    t->len += (size_t)vsnprintf(t->text + t->len, sizeof(t->text) - t->len, fmt, args);
    va_end(args);
    assert_true(t->len < sizeof(t->text));
}

static void note_request(struct trace *t, struct http_request *request)
{
    note(t, "%s %s", request->method, request->path);
    if (request->body) {
        assert_int_equal(request->body[request->body_len], '\0');
        note(t, " [%zu] %.40s", request->body_len, request->body);
    }
    note(t, "\n");
    http_request_free(request);
}

static void drain(struct http_reader *reader, struct trace *t)
{
    struct http_found found;

    for (;;) {
        switch (http_reader_next(reader, &found)) {
        case HTTP_FOUND_NOTHING:
            return;
        case HTTP_FOUND_REQUEST:
            note_request(t, found.request);
            break;
        case HTTP_FOUND_EXPECT:
            note(t, "continue 1.%u\n", found.minor);
            break;
        case HTTP_FOUND_ERROR:
            note(t, "error %.*s\n", (int)MIN(found.error.len, 100), found.error.text);
            free(found.error.text);
            break;
        }
    }
}

/* Feeds `len` bytes in pieces of at most `piece`. */
static void feed(struct http_reader *reader, const char *bytes, size_t len, size_t piece,
                 struct trace *t)
{
    while (len) {
        char *at;
        size_t space, n;

        http_reader_space(reader, &at, &space);
        assert_true(space > 0);
        n = MIN(MIN(len, piece), space);
        memcpy(at, bytes, n);
        http_reader_received(reader, n);
        bytes += n;
        len -= n;
        drain(reader, t);
    }
}

static void check(const char *bytes, size_t len, size_t piece, const char *expected)
{
    struct http_reader *reader = http_reader_create(100);
    struct trace t = {.len = 0};

    assert_non_null(reader);
    feed(reader, bytes, len, piece, &t);
    if (strcmp(t.text, expected) != 0)
        fail_msg("in pieces of %zu: %s\n-- found --\n%s-- not --\n%s", piece, bytes, t.text,
                 expected);
    http_reader_destroy(reader);
}

static void test_http_reader_finds_the_same_however_the_stream_is_cut(void **state)
{
    static const char *const cases[][2] = {
        {"GET / HTTP/1.1\r\n\r\n", "GET /\n"},
        {"GET /version HTTP/1.0\r\nHost: x\r\nAccept: */*\r\n\r\n", "GET /version\n"},
        {"PUT /mmds HTTP/1.1\r\nContent-Length: 7\r\n\r\n{\"a\":1}", "PUT /mmds [7] {\"a\":1}\n"},
        {"PUT /mmds HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "PUT /mmds\n"},
        {"PUT /mmds HTTP/1.1\r\n\r\n", "PUT /mmds\n"},
        {"PUT /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 2\r\n\r\n{}GET /b "
         "HTTP/1.1\r\n\r\n",
         "PUT /a [2] {}\nGET /b\n"},
        {"PUT /a HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}", "PUT /a [2] {}\n"},
        {"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
         "continue 1.1\nPUT /a [2] {}\n"},
        {"PUT /a HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
         "continue 1.0\nPUT /a [2] {}\n"},
        {"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", "GET /\n"},
        {"GET /a HTTP/1.1\r\n\r\nDELETE /b HTTP/1.1\r\nConnection: close\r\n\r\nPATCH /c "
         "HTTP/1.1\r\nContent-Length: 1\r\n\r\n1GET /d HTTP/1.0\r\n\r\nGET /e HTTP/1.1\r\n\r\n",
         "GET /a\nDELETE /b\nPATCH /c [1] 1\nGET /d\nGET /e\n"},
        {"GET / HTTP/1.1\n\n", ""},
        {"GET / HTTP/1.1\r\nHost: x\r\n", ""},
        {"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{\"a\":1}", ""},
        {"GET /%41 HTTP/1.1\r\n\r\nGET /?a=%zz#b HTTP/1.1\r\n\r\n", "GET /%41\nGET /?a=%zz#b\n"},
        {"GET http://h/x HTTP/1.1\r\n\r\nGET x HTTP/1.1\r\n\r\n", "GET /x\nGET /\n"},
        {"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\nConnection: "
         "upgrade\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
         "PUT /a\nGET /b\n"},
        /* up to the first error everything is the same; it stands last here */
        {"GET /a HTTP/1.1\r\n\r\nBAD\r\n", "GET /a\nerror Invalid request.\n"},
        {"\r\n", "error Invalid request.\n"},
        {"GET / HTTP/1.1\r\nContent-Length: x\r\n",
         "error Invalid header. Reason: Invalid value. Key:Content-Length; Value: x\n"},
        {"PUT / HTTP/1.1\r\nContent-Length: 101\r\n\r\n",
         "error Request payload with size 101 is larger than the limit of 100 allowed by "
         "server.\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        size_t len = strlen(cases[i][0]);

        for (size_t piece = 1; piece <= len; piece++)
            check(cases[i][0], len, piece, cases[i][1]);
    }
}

static void test_http_reader_drops_what_came_with_an_error(void **state)
{
    static const char stream[] =
        "GET /version HTTP/1.1\r\n\r\nBAD\r\n\r\nGET /version HTTP/1.1\r\n";
    static const char next[] = "GET /next HTTP/1.1\r\n\r\n";
    struct http_reader *reader = http_reader_create(100);
    struct trace t = {.len = 0};

    (void)state;
    feed(reader, stream, strlen(stream), SIZE_MAX, &t);
    feed(reader, next, strlen(next), SIZE_MAX, &t);
    assert_string_equal(t.text, "GET /version\nerror Invalid request.\nGET /next\n");
    http_reader_destroy(reader);
}

static void test_http_reader_skips_a_refused_body_that_comes_all_the_same(void **state)
{
    static const char head[] = "PUT / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n";
    char stream[sizeof(head) - 1 + 5000 + 18];

    (void)state;
    memcpy(stream, head, sizeof(head) - 1);
    memset(stream + sizeof(head) - 1, 'x', 5000);
    memcpy(stream + sizeof(stream) - 18, "GET / HTTP/1.1\r\n\r\n", 18);
    /* The next request in a piece of its own: in the piece of the error it would be dropped. */
    for (size_t piece = 1; piece < 2000; piece += 7) {
        struct http_reader *reader = http_reader_create(100);
        struct trace t = {.len = 0};

        feed(reader, stream, sizeof(stream) - 18, piece, &t);
        feed(reader, stream + sizeof(stream) - 18, 18, piece, &t);
        assert_string_equal(t.text, "error Request payload with size 5000 is larger than the limit "
                                    "of 100 allowed by server.\nGET /\n");
        http_reader_destroy(reader);
    }
}

static void test_http_reader_skips_nothing_of_a_client_that_waits_to_be_asked(void **state)
{
    static const char head[] =
        "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n";
    struct http_reader *reader = http_reader_create(100);
    struct trace t = {.len = 0};

    (void)state;
    feed(reader, head, strlen(head), SIZE_MAX, &t);
    feed(reader, "GET /next HTTP/1.1\r\n\r\n", 22, SIZE_MAX, &t);
    assert_string_equal(t.text, "error Request payload with size 5000 is larger than the limit of "
                                "100 allowed by server.\nGET /next\n");
    http_reader_destroy(reader);
}

/* A request line or header whose whole length, CRLF included, is `len`. */
static void check_line(const char *before, const char *start, size_t len, const char *end,
                       const char *expected)
{
    char stream[4096];
    size_t n = strlen(before), fill = len - strlen(start) - strlen(end);

    memcpy(stream, before, n);
    memcpy(stream + n, start, strlen(start));
    n += strlen(start);
    memset(stream + n, 'a', fill);
    memcpy(stream + n + fill, end, strlen(end));
    n += fill + strlen(end);
    memcpy(stream + n, "\r\n", 2);
    n += 2;
    for (size_t piece = 1; piece < n; piece += 13) {
        struct http_reader *reader = http_reader_create(100);
        struct trace t = {.len = 0};

        feed(reader, stream, n, piece, &t);
        assert_memory_equal(t.text, expected, strlen(expected));
        http_reader_destroy(reader);
    }
}

static void test_http_reader_takes_lines_of_1024_bytes_and_no_more(void **state)
{
    (void)state;
    check_line("", "GET /", 1024, " HTTP/1.1\r\n", "GET /aaaa");
    check_line("", "GET /", 1025, " HTTP/1.1\r\n", "error Invalid request.\n");
    check_line("GET / HTTP/1.1\r\n", "X: ", 1024, "\r\n", "GET /\n");
    check_line("GET / HTTP/1.1\r\n", "X: ", 1025, "\r\n",
               "error Invalid header. Reason: Invalid content length. Header: X: aaa");
    /* the limit is known as soon as that much has come, without an end of line */
    check_line("", "GET /", 1022, "", "");
    check_line("GET / HTTP/1.1\r\n", "X: ", 1030, "",
               "error Invalid header. Reason: Invalid content length. Header: X: aaa");
}

static void test_http_reader_can_be_destroyed_in_the_middle(void **state)
{
    static const char stream[] = "PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{\"a\"";
    struct trace t = {.len = 0};

    (void)state;
    for (size_t len = 0; len < sizeof(stream); len++) {
        struct http_reader *reader = http_reader_create(100);

        feed(reader, stream, len, SIZE_MAX, &t);
        http_reader_destroy(reader);
    }
    http_reader_destroy(NULL);
    http_request_free(NULL);
    assert_string_equal(t.text, "");
}

/* ---- answers ---- */

static void check_answer(const struct http_answer *answer, const char *expected)
{
    size_t len;
    char *text = http_answer_format(answer, &len);

    assert_int_equal(len, strlen(expected));
    assert_memory_equal(text, expected, len);
    free(text);
}

static void test_http_answer_has_its_headers_in_order(void **state)
{
#define START "Server: Firecracker API\r\nConnection: keep-alive\r\n"
#define JSON  "Content-Type: application/json\r\nContent-Length: "
    (void)state;
    check_answer(&(struct http_answer){.status = 204}, "HTTP/1.1 204 \r\n" START "\r\n");
    check_answer(&(struct http_answer){.status = 204, .deprecated = true},
                 "HTTP/1.1 204 \r\n" START "Deprecation: true\r\n\r\n");
    check_answer(&(struct http_answer){.status = 200, .body = "{}", .body_len = 2},
                 "HTTP/1.1 200 \r\n" START JSON "2\r\n\r\n{}");
    check_answer(&(struct http_answer){.status = 400, .deprecated = true},
                 "HTTP/1.1 400 \r\n" START "Deprecation: true\r\n" JSON "0\r\n\r\n");
#undef JSON
#undef START
}

static void test_http_error_answers_are_the_recorded_bytes(void **state)
{
    struct http_head head = {.content_length = 260};
    struct http_error error;
    size_t len;
    char *text;

    (void)state;
    http_head_body_too_large(&head, 250, &error);
    text = http_error_format(&error, &len);
    assert_int_equal(len, strlen(text));
    assert_string_equal(text,
                        "HTTP/1.1 400 \r\n"
                        "Server: Firecracker API\r\n"
                        "Connection: keep-alive\r\n"
                        "Content-Type: application/json\r\n"
                        "Content-Length: 145\r\n\r\n"
                        "{ \"error\": \"Request payload with size 260 is larger than the limit "
                        "of 250 allowed by server.\n"
                        "All previous unanswered requests will be dropped.\" }");
    assert_null(error.text);
    free(text);

    assert_string_equal(http_continue(1), "HTTP/1.1 100 \r\nServer: Firecracker API\r\n"
                                          "Connection: keep-alive\r\n\r\n");
    assert_memory_equal(http_continue(0), "HTTP/1.0 100 \r\n", 15);
    assert_string_equal(http_too_many_connections + strlen(http_too_many_connections) - 40,
                        "{ \"error\": \"Too many open connections\" }");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_reader_finds_the_same_however_the_stream_is_cut),
        cmocka_unit_test(test_http_reader_drops_what_came_with_an_error),
        cmocka_unit_test(test_http_reader_skips_a_refused_body_that_comes_all_the_same),
        cmocka_unit_test(test_http_reader_skips_nothing_of_a_client_that_waits_to_be_asked),
        cmocka_unit_test(test_http_reader_takes_lines_of_1024_bytes_and_no_more),
        cmocka_unit_test(test_http_reader_can_be_destroyed_in_the_middle),
        cmocka_unit_test(test_http_answer_has_its_headers_in_order),
        cmocka_unit_test(test_http_error_answers_are_the_recorded_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
