/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_head.c: each rule of the head, with the words of its refusal. */
#include "api/http_head.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A line that is refused with these words, or (NULL) taken. */
static void check(int rc, struct http_error *error, const char *line, const char *words)
{
    if (!words) {
        if (rc)
            fail_msg("%s: %s", line, error->text);
        return;
    }
    if (!rc)
        fail_msg("%s: taken", line);
    assert_int_equal(rc, -EPROTO);
    assert_string_equal(error->text, words);
    assert_int_equal(error->len, strlen(words));
    free(error->text);
}

static void test_http_request_line_is_judged_part_by_part(void **state)
{
    static const char *const cases[][2] = {
        {"GET / HTTP/1.1", NULL},
        {"PUT / HTTP/1.0", NULL},
        {"PATCH /a HTTP/1.1", NULL},
        {"DELETE /a HTTP/1.1", NULL},
        {"", "Invalid request."},
        {"GET", "Invalid request."},
        {"GET /", "Invalid request."},
        {"garbage", "Invalid request."},
        {"POST / HTTP/1.1", "Invalid HTTP Method: Unsupported HTTP method."},
        {"HEAD / HTTP/1.1", "Invalid HTTP Method: Unsupported HTTP method."},
        {"get / HTTP/1.1", "Invalid HTTP Method: Unsupported HTTP method."},
        {" GET / HTTP/1.1", "Invalid HTTP Method: Unsupported HTTP method."},
        {"GETS / HTTP/1.1", "Invalid HTTP Method: Unsupported HTTP method."},
        {"GET  / HTTP/1.1", "Invalid URI: Empty URI not allowed."},
        {"GET /\xff HTTP/1.1", "Invalid URI: Cannot parse URI as UTF-8."},
        {"GET / HTTP/1.1 ", "Invalid HTTP Version: Unsupported HTTP version."},
        {"GET / HTTP/2.0", "Invalid HTTP Version: Unsupported HTTP version."},
        {"GET / http/1.1", "Invalid HTTP Version: Unsupported HTTP version."},
        {"GET / HTTP/1.2", "Invalid HTTP Version: Unsupported HTTP version."},
        {"GET / ", "Invalid HTTP Version: Unsupported HTTP version."},
        {"GET /a b HTTP/1.1", "Invalid HTTP Version: Unsupported HTTP version."},
        /* method, then target, then version */
        {"X  Y", "Invalid HTTP Method: Unsupported HTTP method."},
        {"GET  Y", "Invalid URI: Empty URI not allowed."},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct http_head head;
        struct http_error error;
        int rc = http_head_request_line(&head, cases[i][0], strlen(cases[i][0]), &error);

        check(rc, &error, cases[i][0], cases[i][1]);
    }
}

static void test_http_target_is_normalised_without_decoding(void **state)
{
    static const char *const cases[][2] = {
        {"/", "/"},
        {"/version", "/version"},
        {"//version", "//version"},
        {"/a/?x=1#y", "/a/?x=1#y"},
        {"/%2e%2E/", "/%2e%2E/"},
        {"http://localhost/version", "/version"},
        {"http://localhost:80/a/b", "/a/b"},
        {"http:///a", "/a"},
        {"http://", "/"},
        {"http://host", "/"},
        {"https://host/version", "/"},
        {"HTTP://host/version", "/"},
        {"version", "/"},
        {"*", "/"},
        {"/\xc3\xa9", "/\xc3\xa9"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char line[128];
        struct http_head head;
        struct http_error error;
        int n = snprintf(line, sizeof(line), "GET %s HTTP/1.0", cases[i][0]);

        assert_int_equal(http_head_request_line(&head, line, (size_t)n, &error), 0);
        assert_int_equal(head.target_len, strlen(cases[i][1]));
        assert_memory_equal(head.target, cases[i][1], head.target_len);
        assert_int_equal(head.minor, 0);
    }
}

static void test_http_target_with_nul_is_refused(void **state)
{
    struct http_head head;
    struct http_error error;

    (void)state;
    check(http_head_request_line(&head, "GET /a\0b HTTP/1.1", 17, &error), &error, "NUL",
          "Invalid URI: Cannot parse URI as UTF-8.");
}

static struct http_head fresh(void)
{
    struct http_head head;
    struct http_error error;

    assert_int_equal(http_head_request_line(&head, "PUT /x HTTP/1.1", 15, &error), 0);
    return head;
}

static void test_http_header_line_is_judged(void **state)
{
#define KEY   "Invalid header. Reason: Invalid value. Key:"
#define BYTES "Invalid header. Reason: Header contains invalid characters. Key: "
    static const char *const cases[][2] = {
        {"X-Any: thing", NULL},
        {":", NULL},
        {"Host:", NULL},
        {"Content-Type: application/x-www-form-urlencoded", NULL},
        {"Transfer-Encoding: gzip", NULL},
        {"Expect: 200-ok", NULL},
        {"no colon here",
         "Invalid header. Reason: Header is incorrectly formatted. Key: no colon here"},
        {"Content-Length: abc", KEY "Content-Length; Value: abc"},
        {"content-length:-1", KEY "content-length; Value:-1"},
        {"Content-Length: ", KEY "Content-Length; Value: "},
        {"Content-Length: +", KEY "Content-Length; Value: +"},
        {"Content-Length: 1 2", KEY "Content-Length; Value: 1 2"},
        {"Content-Length: 4294967296", KEY "Content-Length; Value: 4294967296"},
        {"Content-Length: 99999999999999999999999",
         KEY "Content-Length; Value: 99999999999999999999999"},
        {"Accept-Encoding: gzip, deflate", NULL},
        {"Accept-Encoding: identity", NULL},
        {"Accept-Encoding: *;q=0, identity", NULL},
        {"Accept-Encoding:", "Invalid request."},
        {"Accept-Encoding: identity;q=0", KEY "Accept-Encoding; Value:identity;q=0"},
        {"accept-encoding: gzip, identity;q=0", KEY "Accept-Encoding; Value: identity;q=0"},
        {"Accept-Encoding: *;q=0", KEY "Accept-Encoding; Value:*;q=0"},
        {"X: \xff", BYTES "invalid utf-8 sequence of 1 bytes from index 3"},
        {"X: \xe2\x82x", BYTES "invalid utf-8 sequence of 2 bytes from index 3"},
        {"X: \xe2\x82", BYTES "incomplete utf-8 byte sequence from index 3"},
    };
#undef KEY
#undef BYTES

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct http_head head = fresh();
        struct http_error error;
        int rc = http_head_header(&head, cases[i][0], strlen(cases[i][0]), &error);

        check(rc, &error, cases[i][0], cases[i][1]);
    }
}

static void test_http_content_length_last_wins_and_takes_a_plus(void **state)
{
    static const struct {
        const char *line;
        uint32_t length;
    } cases[] = {
        {"Content-Length: 7", 7},           {"CONTENT-LENGTH:+9", 9},
        {" content-length \t: \t 007 ", 7}, {"Content-Length: 4294967295", UINT32_MAX},
        {"Content-Length: 0", 0},
    };
    struct http_head head = fresh();

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct http_error error;

        assert_int_equal(http_head_header(&head, cases[i].line, strlen(cases[i].line), &error), 0);
        assert_int_equal(head.content_length, cases[i].length);
    }
}

static void test_http_expect_is_known_by_its_one_value(void **state)
{
    struct http_head head = fresh();
    struct http_error error;

    (void)state;
    assert_int_equal(http_head_header(&head, "Expect: 100-Continue", 20, &error), 0);
    assert_false(head.expect);
    assert_int_equal(http_head_header(&head, "expect:  100-continue ", 22, &error), 0);
    assert_true(head.expect);
    assert_int_equal(http_head_header(&head, "Expect: 200-ok", 14, &error), 0);
    assert_true(head.expect);
}

static void test_http_long_lines_are_refused_with_their_start(void **state)
{
    char line[HTTP_LINE_MAX];
    struct http_head head;
    struct http_error error;

    (void)state;
    memset(line, 'a', sizeof(line));
    check(http_head_request_line(&head, line, HTTP_LINE_MAX - 1, &error), &error, "long",
          "Invalid request.");
    memcpy(line, "X: \xff\xe2\x82", 6);
    assert_int_equal(http_head_header_too_long(line, 8, &error), -EPROTO);
    assert_string_equal(error.text, "Invalid header. Reason: Invalid content length. Header: X: "
                                    "\xef\xbf\xbd\xef\xbf\xbd"
                                    "aa");
    free(error.text);
    assert_int_equal(http_head_header_too_long("\xe2\x82", 2, &error), -EPROTO);
    assert_string_equal(error.text,
                        "Invalid header. Reason: Invalid content length. Header: \xef\xbf\xbd");
    free(error.text);
}

static void test_http_normalised_head_decodes_to_the_same_target(void **state)
{
    char line[HTTP_LINE_MAX], normal[HTTP_NORMAL_MAX];
    struct http_head head;
    struct http_error error;
    size_t len, target = 1;

    (void)state;
    memcpy(line, "GET /", 5);
    for (unsigned byte = 1; byte < 0x80; byte++) { /* every byte a line can hold in a target */
        if (byte != ' ' && byte != '\r' && byte != '\n')
            line[4 + target++] = (char)byte;
    }
    memcpy(line + 4 + target, " HTTP/1.0", 9);
    assert_int_equal(http_head_request_line(&head, line, 4 + target + 9, &error), 0);
    head.content_length = 5;
    len = http_head_normalise(&head, normal);
    assert_memory_equal(normal, "GET /%01", 8);
    assert_memory_equal(normal + len - 32, " HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 32);
    assert_int_equal(http_head_decode(normal + 4, len - 36), target);
    assert_memory_equal(normal + 4, head.target, target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_request_line_is_judged_part_by_part),
        cmocka_unit_test(test_http_target_is_normalised_without_decoding),
        cmocka_unit_test(test_http_target_with_nul_is_refused),
        cmocka_unit_test(test_http_header_line_is_judged),
        cmocka_unit_test(test_http_content_length_last_wins_and_takes_a_plus),
        cmocka_unit_test(test_http_expect_is_known_by_its_one_value),
        cmocka_unit_test(test_http_long_lines_are_refused_with_their_start),
        cmocka_unit_test(test_http_normalised_head_decodes_to_the_same_target),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
