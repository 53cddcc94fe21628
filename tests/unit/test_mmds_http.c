/* SPDX-License-Identifier: Apache-2.0 */
/* test_mmds_http.c: what a guest is answered, byte for byte. */
#include "api/mmds_http.h"
#include "tests/unit/unit.h"
#include "vmm/base/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE                                                                                      \
    "{\"latest\":{\"meta-data\":{\"ami-id\":\"ami-1\",\"list\":[\"one\",2],\"none\":\"\","         \
    "\"sub\":{\"k\":\"v\"}},\"cpu\":512}}"

#define PLAIN "text/plain"
#define JSON  "application/json"

#define NO_TOKEN                                                                                   \
    "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to "      \
    "specify the session token."
#define NO_FORM "Cannot retrieve value. The value has an unsupported type."

struct fixture {
    struct mmds_http http;
    char *answer;
    size_t len;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err e;

    assert_non_null(f);
    memset(&metrics, 0, sizeof(metrics));
    assert_int_equal(mmds_store_create(&f->http.store, 10000, &e), 0);
    assert_int_equal(mmds_store_put(f->http.store, STORE, strlen(STORE), &e), 0);
    assert_int_equal(mmds_tokens_create(&f->http.tokens, "vm", &e), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    free(f->answer);
    mmds_store_destroy(f->http.store);
    mmds_tokens_destroy(f->http.tokens);
    free(f);
    return 0;
}

static const char *ask(struct fixture *f, const char *request)
{
    free(f->answer);
    f->answer = mmds_http_answer(&f->http, request, strlen(request), &f->len);
    assert_non_null(f->answer);
    assert_int_equal(f->len, strlen(f->answer));
    return f->answer;
}

/* The last answer, whole; `more` stands between its usual headers. */
static void assert_answer(const struct fixture *f, const char *start, const char *more,
                          const char *type, const char *body)
{
    char want[2000];

    snprintf(want, sizeof(want),
             "%s \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n%s"
             "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
             start, more, type, strlen(body), body);
    assert_string_equal(f->answer, want);
}

static void assert_says(struct fixture *f, const char *request, int status, const char *type,
                        const char *body)
{
    char start[20];

    ask(f, request);
    snprintf(start, sizeof(start), "HTTP/1.1 %d", status);
    assert_answer(f, start, "", type, body);
}

/* A GET of a path with further header lines. */
static const char *get(struct fixture *f, const char *path, const char *headers)
{
    char request[1000];

    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n%s\r\n", path, headers);
    return ask(f, request);
}

static void assert_gets(struct fixture *f, const char *path, const char *headers, int status,
                        const char *type, const char *body)
{
    char request[1000];

    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n%s\r\n", path, headers);
    assert_says(f, request, status, type, body);
}

static const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

static void new_token(struct fixture *f, char token[MMDS_TOKEN_LEN + 1])
{
    const char *body = body_of(ask(f, "PUT /latest/api/token HTTP/1.1\r\n"
                                      "X-metadata-token-ttl-seconds: 60\r\n\r\n"));

    assert_int_equal(strlen(body), MMDS_TOKEN_LEN);
    strcpy(token, body);
}

/* ---- values ---- */

static void test_mmds_http_shows_values_as_ec2_does_unless_json_is_asked_for(void **state)
{
    struct fixture *f = *state;

    assert_gets(f, "/latest/meta-data/ami-id", "", 200, PLAIN, "ami-1");
    assert_gets(f, "/latest/meta-data/", "Accept: text/plain\r\n", 200, PLAIN,
                "ami-id\nlist\nnone\nsub/");
    assert_gets(f, "/latest/meta-data/none", "Accept: */*\r\n", 200, PLAIN, "");
    assert_gets(f, "/latest/meta-data/sub", "Accept: application/json\r\n", 200, JSON,
                "{\"k\":\"v\"}");
    assert_gets(f, "//latest//cpu/", "aCCept :  application/json \r\n", 200, JSON, "512");
    assert_gets(f, "/", "", 200, PLAIN, "latest/");
    assert_gets(f, "http://169.254.169.254/latest/meta-data/list/0", "", 200, PLAIN, "one");
    /* the last known type counts; others say nothing */
    assert_gets(f, "/latest/cpu", "Accept: application/json\r\nAccept: */*\r\n", 200, JSON, "512");
    assert_string_equal(
        body_of(get(f, "/latest", "Accept: application/json\r\nAccept: text/plain\r\n")),
        "cpu\nmeta-data/");
}

static void test_mmds_http_says_501_where_ec2_has_no_form(void **state)
{
    struct fixture *f = *state;

    assert_gets(f, "/latest/cpu", "", 501, PLAIN, NO_FORM);
    assert_gets(f, "/latest/meta-data/list", "", 501, PLAIN, NO_FORM);
}

static void test_mmds_http_imds_compat_ignores_accept_but_for_the_type(void **state)
{
    struct fixture *f = *state;

    f->http.imds_compat = true;
    assert_gets(f, "/latest", "Accept: application/json\r\n", 200, JSON, "cpu\nmeta-data/");
    assert_string_equal(body_of(get(f, "/latest/cpu", "Accept: application/json\r\n")), NO_FORM);
}

static void test_mmds_http_says_404_with_the_path_as_sent(void **state)
{
    struct fixture *f = *state;

    assert_gets(f, "//no//way/", "", 404, PLAIN, "Resource not found: //no//way/.");
    assert_gets(f, "/latest?x", "Accept: application/json\r\n", 404, PLAIN,
                "Resource not found: /latest?x.");
}

static void test_mmds_http_answers_in_the_version_of_the_request(void **state)
{
    struct fixture *f = *state;

    ask(f, "GET /latest/meta-data/ami-id HTTP/1.0\r\n\r\n");
    assert_answer(f, "HTTP/1.0 200", "", PLAIN, "ami-1");
    ask(f, "GET /none HTTP/1.0\r\n\r\n");
    assert_answer(f, "HTTP/1.0 404", "", PLAIN, "Resource not found: /none.");
    ask(f, "GET /none HTTP/1.0\r\nbad\r\n\r\n");
    assert_answer(f, "HTTP/1.1 400", "", JSON, "Header is incorrectly formatted. Key: bad");
}

static void test_mmds_http_takes_a_path_as_long_as_a_request_may_be(void **state)
{
    struct fixture *f = *state;
    char request[2500], path[2301] = "/latest";

    memset(path + 7, '/', sizeof(path) - 8);
    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n\r\n", path);
    assert_string_equal(body_of(ask(f, request)), "cpu\nmeta-data/");
}

/* ---- tokens ---- */

static void test_mmds_http_makes_tokens_and_says_for_how_long(void **state)
{
    static const char *const names[] = {"X-metadata-token-ttl-seconds",
                                        "x-AWS-ec2-metadata-token-ttl-seconds"};
    struct fixture *f = *state;
    char request[300], echo[100], token[MMDS_TOKEN_LEN + 1];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        f->http.version = i ? MMDS_V2 : MMDS_V1; /* in both */
        snprintf(request, sizeof(request),
                 "PUT //latest/api//token HTTP/1.1\r\n%s:  +021600 \r\n\r\n", names[i]);
        assert_int_equal(strlen(body_of(ask(f, request))), MMDS_TOKEN_LEN);
        strcpy(token, body_of(f->answer));
        snprintf(echo, sizeof(echo), "%s: 21600\r\n", names[i]);
        assert_answer(f, "HTTP/1.1 200", echo, PLAIN, token);
        assert_true(mmds_token_is_valid(f->http.tokens, token, strlen(token), now_ns()));
    }
}

static void test_mmds_http_refuses_tokens_for_other_times(void **state)
{
    static const struct {
        const char *sent;
        int status;
        const char *type, *body;
    } cases[] = {
        {"X-metadata-token-ttl-seconds: 0", 400, PLAIN,
         "Invalid time to live value provided for token: 0. Please provide a "
         "value between 1 and 21600."},
        {"X-metadata-token-ttl-seconds: 21601", 400, PLAIN,
         "Invalid time to live value provided for token: 21601. Please provide a "
         "value between 1 and 21600."},
        {"x-Metadata-token-ttl-seconds: -1", 400, PLAIN,
         "Invalid header. Reason: Invalid value. "
         "Key:x-Metadata-token-ttl-seconds; Value:-1"},
        {"X-aws-ec2-metadata-token-ttl-seconds: 4294967296", 400, PLAIN,
         "Invalid header. Reason: Invalid value. "
         "Key:X-aws-ec2-metadata-token-ttl-seconds; Value:4294967296"},
        {"X-metadata-token-ttl-seconds:", 400, PLAIN,
         "Invalid header. Reason: Invalid value. "
         "Key:X-metadata-token-ttl-seconds; Value:"},
        {"X-metadata-token: 5", 400, PLAIN,
         "Token time to live value not found. Use "
         "`X-metadata-token-ttl-seconds` or "
         "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's "
         "lifetime."},
    };
    char request[300];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        snprintf(request, sizeof(request), "PUT /latest/api/token HTTP/1.1\r\n%s\r\n\r\n",
                 cases[i].sent);
        assert_says(*state, request, cases[i].status, cases[i].type, cases[i].body);
    }
}

static void test_mmds_http_refuses_tokens_elsewhere_and_for_others(void **state)
{
    assert_says(*state, "PUT /latest/api/toke HTTP/1.1\r\n\r\n", 404, PLAIN,
                "Resource not found: /latest/api/toke.");
    assert_says(*state,
                "PUT /latest/api/token/ HTTP/1.1\r\nX-metadata-token-ttl-seconds: 1\r\n\r\n", 404,
                PLAIN, "Resource not found: /latest/api/token/.");
    assert_says(*state, "PUT / HTTP/1.1\r\nx-forwarded-FOR: a\r\n\r\n", 400, PLAIN,
                "Invalid header. Reason: Unsupported header name. Key: "
                "x-forwarded-FOR");
}

static void test_mmds_http_version_2_wants_a_token(void **state)
{
    struct fixture *f = *state;
    char token[MMDS_TOKEN_LEN + 1], header[200];

    f->http.version = MMDS_V2;
    assert_gets(f, "/latest", "", 401, PLAIN, NO_TOKEN);
    assert_gets(f, "/none", "", 401, PLAIN, NO_TOKEN);
    assert_gets(f, "/latest", "X-metadata-token: foo\r\n", 401, PLAIN, "MMDS token not valid.");
    assert_int_equal(metrics.mmds.rx_no_token, 2);
    assert_int_equal(metrics.mmds.rx_invalid_token, 1);
    new_token(f, token);
    snprintf(header, sizeof(header), "X-metadata-token: %s\r\n", token);
    assert_string_equal(body_of(get(f, "/latest", header)), "cpu\nmeta-data/");
    snprintf(header, sizeof(header), "x-aws-ec2-METADATA-token:%s \r\n", token);
    assert_string_equal(body_of(get(f, "/latest/meta-data/ami-id", header)), "ami-1");
    token[20] ^= 1;
    snprintf(header, sizeof(header), "X-metadata-token: %s\r\n", token);
    assert_string_equal(body_of(get(f, "/latest", header)), "MMDS token not valid.");
    assert_int_equal(metrics.mmds.rx_no_token, 2);
    assert_int_equal(metrics.mmds.rx_invalid_token, 2);
}

static void test_mmds_http_version_1_only_counts_tokens(void **state)
{
    struct fixture *f = *state;
    char token[MMDS_TOKEN_LEN + 1], header[200];

    get(f, "/latest", "");
    assert_int_equal(metrics.mmds.rx_no_token, 1);
    assert_string_equal(body_of(get(f, "/latest", "X-metadata-token: foo\r\n")), "cpu\nmeta-data/");
    assert_int_equal(metrics.mmds.rx_invalid_token, 1);
    new_token(f, token);
    snprintf(header, sizeof(header), "X-metadata-token: %s\r\n", token);
    get(f, "/latest", header);
    assert_int_equal(metrics.mmds.rx_no_token, 1);
    assert_int_equal(metrics.mmds.rx_invalid_token, 1);
}

/* ---- what is no request of the service ---- */

static void test_mmds_http_allows_two_methods(void **state)
{
    struct fixture *f = *state;

    ask(f, "PATCH /latest HTTP/1.1\r\n\r\n");
    assert_answer(f, "HTTP/1.1 405", "Allow: GET, PUT\r\n", PLAIN, "Not allowed HTTP method.");
    ask(f, "DELETE /latest HTTP/1.1\r\n\r\n");
    assert_answer(f, "HTTP/1.1 405", "Allow: GET, PUT\r\n", PLAIN, "Not allowed HTTP method.");
}

static void test_mmds_http_refuses_what_is_no_request(void **state)
{
    static const struct {
        const char *sent;
        int status;
        const char *type, *body;
    } cases[] = {
        {"POST / HTTP/1.1\r\n\r\n", 501, JSON, "Unsupported HTTP method."},
        {"get / HTTP/1.1\r\n\r\n", 501, JSON, "Unsupported HTTP method."},
        {"GET / HTTP/2.0\r\n\r\n", 501, JSON, "Unsupported HTTP version."},
        {"PATCH  HTTP/1.1\r\n\r\n", 400, JSON, "Empty URI not allowed."},
        {"GET latest HTTP/1.1\r\n\r\n", 400, PLAIN, "Invalid URI."},
        {"GET http://host HTTP/1.1\r\n\r\n", 400, PLAIN, "Invalid URI."},
        {"\r\n\r\n", 400, JSON, "Invalid request."},
        {"\n\n", 400, JSON, "Invalid request."},
        {"GET  HTTP/1.1\r\n\r\n", 400, JSON, "Invalid request."},
        {"GET / HTTP/1.1\n\n", 400, JSON, "Invalid request."},
        {"GET / HTTP/1.1\r\nA: b\n\r\n", 400, JSON, "Invalid request."},
        {"GET / HTTP/1.1\r\nA: b\n\n", 400, JSON, "Invalid request."},
        {"GET / HTTP/1.1\nA: b\r\n\r\n", 501, JSON, "Unsupported HTTP version."},
        {"GET / HTTP/1.1\r\nContent-Length: 100\r\n\r\n", 400, JSON, "Invalid request."},
        {"PUT /latest/api/token HTTP/1.1\r\nX-metadata-token-ttl-seconds: 1\r\n"
         "Content-Length: 1\r\n\r\n",
         400, JSON, "Invalid request."},
        {"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, JSON,
         "Invalid value. Key:Content-Length; Value: x"},
        {"GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400, JSON,
         "Header is incorrectly formatted. Key: nonsense"},
        {"GET / HTTP/1.1\r\nA: \xff\r\n\r\n", 400, JSON, "Invalid request."},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_says(*state, cases[i].sent, cases[i].status, cases[i].type, cases[i].body);
}

static void test_mmds_http_takes_what_only_looks_odd(void **state)
{
    struct fixture *f = *state;

    assert_string_equal(body_of(get(f, "/latest", "Content-Length: 0\r\n")), "cpu\nmeta-data/");
    assert_string_equal(body_of(get(f, "/latest", "Expect: 100-continue\r\n")), "cpu\nmeta-data/");
    assert_string_equal(body_of(get(f, "/latest", "X-Forwarded-For: a\r\n")), "cpu\nmeta-data/");
    assert_string_equal(body_of(get(f, "/latest", ":\r\n: \r\nTransfer-Encoding: chunked\r\n")),
                        "cpu\nmeta-data/");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mmds_http_shows_values_as_ec2_does_unless_json_is_asked_for),
        TEST(test_mmds_http_says_501_where_ec2_has_no_form),
        TEST(test_mmds_http_imds_compat_ignores_accept_but_for_the_type),
        TEST(test_mmds_http_says_404_with_the_path_as_sent),
        TEST(test_mmds_http_answers_in_the_version_of_the_request),
        TEST(test_mmds_http_takes_a_path_as_long_as_a_request_may_be),
        TEST(test_mmds_http_makes_tokens_and_says_for_how_long),
        TEST(test_mmds_http_refuses_tokens_for_other_times),
        TEST(test_mmds_http_refuses_tokens_elsewhere_and_for_others),
        TEST(test_mmds_http_version_2_wants_a_token),
        TEST(test_mmds_http_version_1_only_counts_tokens),
        TEST(test_mmds_http_allows_two_methods),
        TEST(test_mmds_http_refuses_what_is_no_request),
        TEST(test_mmds_http_takes_what_only_looks_odd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
