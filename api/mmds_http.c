/* SPDX-License-Identifier: Apache-2.0 */
/* mmds_http.c: see mmds_http.h. */
#include "api/mmds_http.h"

#include "api/http.h"
#include "api/http_span.h"
#include "vmm/base/metrics.h"
#include "vmm/base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_PATH "/latest/api/token"

/* "GET / HTTP/1.1": a shorter line is refused whatever is in it. */
#define LINE_MIN 14

/* The headers that mean something here besides Accept and those that http_head.h judges. */
enum { TOKEN, AWS_TOKEN, TTL, AWS_TTL, FORWARDED_FOR, HEADER_COUNT };

static const char *const header_names[HEADER_COUNT] = {
    [TOKEN] = "X-metadata-token",           [AWS_TOKEN] = "X-aws-ec2-metadata-token",
    [TTL] = "X-metadata-token-ttl-seconds", [AWS_TTL] = "X-aws-ec2-metadata-token-ttl-seconds",
    [FORWARDED_FOR] = "X-Forwarded-For",
};

struct header {
    struct span name, value; /* as sent, without the blanks around them; at NULL = not there */
};

struct request {
    struct http_request_line line;
    struct http_head head; /* what the headers that it judges have said */
    struct header header[HEADER_COUNT];
    bool wants_json;
};

/* ---- answers ---- */

/* The formatted words as the answer's body. NULL when memory is out, as everywhere here. */
static char *say(const struct http_answer *like, size_t *len, const char *fmt, ...) __printf(3, 4);

static char *say(const struct http_answer *like, size_t *len, const char *fmt, ...)
{
    struct http_answer answer = *like;
    char *body, *text;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&body, fmt, args);
    va_end(args);
    if (n < 0)
        return NULL;
    answer.body = body;
    answer.body_len = (size_t)n;
    text = http_answer_format(&answer, len);
    free(body);
    return text;
}

static struct http_answer plain(const struct request *r, int status)
{
    return (struct http_answer){
        .status = status, .plain_text = true, .http_1_0 = r->line.minor == 0};
}

#define SPAN(s) (int)(s).len, (s).at

/*
 * What is no request is answered in the words of the API's server without their beginnings, and
 * with its type of content: only here is plain text called JSON.
 */
static char *refuse(struct http_error *error, size_t *len)
{
    static const struct {
        const char *beginning;
        int status;
    } kinds[] = {
        {"Invalid HTTP Method: ", 501},
        {"Invalid HTTP Version: ", 501},
        {"Invalid URI: ", 400},
        {"Invalid header. Reason: ", 400},
    };
    struct http_answer answer = {.status = 400, .body = error->text, .body_len = error->len};
    char *text;

    for (size_t i = 0; error->text && i < ARRAY_SIZE(kinds); i++) {
        size_t n = strlen(kinds[i].beginning);

        if (strncmp(error->text, kinds[i].beginning, n) == 0) {
            answer.status = kinds[i].status;
            answer.body += n;
            answer.body_len -= n;
            break;
        }
    }
    text = http_answer_format(&answer, len);
    free(error->text);
    return text;
}

/* ---- reading ---- */

/* Other types than these two say nothing, not even that the one named before does not count. */
static void take_accept(struct request *r, struct span value)
{
    if (span_is(value, "application/json"))
        r->wants_json = true;
    else if (span_is(value, "text/plain"))
        r->wants_json = false;
}

/* A header line that has been found good. Of several of a name the last counts. */
static void note_header(struct request *r, struct span line)
{
    struct span name = {.at = NULL}, value = line;

    if (!span_cut(&value, ':', &name))
        return;
    name = span_trim(name);
    value = span_trim(value);
    if (span_is_name(name, "Accept"))
        take_accept(r, value);
    for (size_t i = 0; i < HEADER_COUNT; i++) {
        if (span_is_name(name, header_names[i]))
            r->header[i] = (struct header){name, value};
    }
}

/* Lines end in CRLF; `text` ends with the last one's. */
static int read_headers(struct request *r, struct span text, struct http_error *error)
{
    if (utf8_valid_prefix(text.at, text.len, NULL) != text.len)
        return http_head_refuse(error, "Invalid request.");
    while (text.len) {
        const char *end = memmem(text.at, text.len, "\r\n", 2);
        struct span line = {text.at, (size_t)(end - text.at)};

        if (http_head_header(&r->head, line.at, line.len, error))
            return -EPROTO;
        note_header(r, line);
        text = (struct span){.at = end + 2, .len = text.len - line.len - 2};
    }
    return 0;
}

static int read_request(struct request *r, struct span text, struct http_error *error)
{
    const char *end = memmem(text.at, text.len, "\r\n", 2);
    size_t line = end ? (size_t)(end - text.at) : 0;

    if (line < LINE_MIN)
        return http_head_refuse(error, "Invalid request.");
    if (http_head_take_apart(&r->line, text.at, line, error))
        return -EPROTO;
    /* It ends at the first blank line: if not by two CRLFs, there are none. */
    if (memcmp(text.at + text.len - 4, "\r\n\r\n", 4) != 0)
        return http_head_refuse(error, "Invalid request.");
    text.at += line + 2;
    text.len -= line + 4;
    if (read_headers(r, text, error))
        return -EPROTO;
    if (r->head.content_length)
        return http_head_refuse(error, "Invalid request.");
    return 0;
}

/* ---- GET ---- */

static const struct header *either(const struct request *r, int first, int second)
{
    if (r->header[first].name.at)
        return &r->header[first];
    return r->header[second].name.at ? &r->header[second] : NULL;
}

/* NULL = the token is good, or the version does not mind; else what is wrong with it. */
static const char *judge_token(const struct mmds_http *mmds, const struct request *r)
{
    const struct header *token = either(r, TOKEN, AWS_TOKEN);
    const char *wrong;

    if (!token) {
        metric_add(&metrics.mmds.rx_no_token, 1);
        wrong = "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` "
                "header to specify the session token.";
    } else if (!mmds_token_is_valid(mmds->tokens, token->value.at, token->value.len, now_ns())) {
        metric_add(&metrics.mmds.rx_invalid_token, 1);
        wrong = "MMDS token not valid.";
    } else {
        return NULL;
    }
    return mmds->version == MMDS_V2 ? wrong : NULL;
}

static char *say_not_found(const struct request *r, size_t *len)
{
    struct http_answer like = plain(r, 404);

    return say(&like, len, "Resource not found: %.*s.", (int)r->line.path_len, r->line.path);
}

/* What is there. imds_compat changes the text, not what it is called. */
static char *show(const struct mmds_http *mmds, const struct request *r, size_t *len)
{
    struct http_answer answer = plain(r, 200);
    char *body = NULL, *text;
    enum mmds_format format = r->wants_json && !mmds->imds_compat ? MMDS_JSON : MMDS_IMDS;

    switch (mmds_store_find(mmds->store, r->line.path, r->line.path_len, format, &body,
                            &answer.body_len)) {
    case 0:
        break;
    case -ENOENT:
        return say_not_found(r, len);
    case -ENOTSUP:
        answer.status = 501;
        return say(&answer, len, "Cannot retrieve value. The value has an unsupported type.");
    default:
        return NULL;
    }
    answer.plain_text = !r->wants_json;
    answer.body = body;
    text = http_answer_format(&answer, len);
    free(body);
    return text;
}

static char *answer_get(const struct mmds_http *mmds, const struct request *r, size_t *len)
{
    const char *wrong = judge_token(mmds, r);
    struct http_answer like = plain(r, 401);

    return wrong ? say(&like, len, "%s", wrong) : show(mmds, r, len);
}

/* ---- PUT ---- */

/* Whether a path is that of tokens, several slashes being one. */
static bool is_token_path(const char *path, size_t len)
{
    const char *want = TOKEN_PATH;

    for (size_t i = 0; i < len; i++) {
        if (path[i] == '/' && i && path[i - 1] == '/')
            continue;
        if (path[i] != *want++) /* at its end a NUL, which no path holds */
            return false;
    }
    return *want == '\0';
}

static char *make_token(const struct mmds_http *mmds, const struct request *r,
                        const struct header *ttl, uint32_t seconds, size_t *len)
{
    struct http_answer answer = plain(r, 200);
    char token[MMDS_TOKEN_LEN + 1], echo[128];

    if (mmds_token_make(mmds->tokens, seconds, now_ns(), token))
        return NULL;
    snprintf(echo, sizeof(echo), "%.*s: %u\r\n", SPAN(ttl->name), seconds);
    answer.more = echo;
    return say(&answer, len, "%s", token);
}

static char *answer_put(const struct mmds_http *mmds, const struct request *r, size_t *len)
{
    const struct header *forwarded = &r->header[FORWARDED_FOR], *ttl = either(r, TTL, AWS_TTL);
    struct http_answer like = plain(r, 400);
    uint32_t seconds;

    if (forwarded->name.at)
        return say(&like, len, "Invalid header. Reason: Unsupported header name. Key: %.*s",
                   SPAN(forwarded->name));
    if (!is_token_path(r->line.path, r->line.path_len))
        return say_not_found(r, len);
    if (!ttl)
        return say(&like, len,
                   "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
                   "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's "
                   "lifetime.");
    if (!span_read_u32(ttl->value, &seconds))
        return say(&like, len, "Invalid header. Reason: Invalid value. Key:%.*s; Value:%.*s",
                   SPAN(ttl->name), SPAN(ttl->value));
    if (seconds < MMDS_TOKEN_TTL_MIN || seconds > MMDS_TOKEN_TTL_MAX)
        return say(&like, len,
                   "Invalid time to live value provided for token: %u. Please provide a value "
                   "between %d and %d.",
                   seconds, MMDS_TOKEN_TTL_MIN, MMDS_TOKEN_TTL_MAX);
    return make_token(mmds, r, ttl, seconds, len);
}

/* ---- all of it ---- */

static char *answer_method(const struct mmds_http *mmds, const struct request *r, size_t *len)
{
    struct http_answer like = plain(r, 405);

    if (strcmp(r->line.method, "GET") == 0)
        return answer_get(mmds, r, len);
    if (strcmp(r->line.method, "PUT") == 0)
        return answer_put(mmds, r, len);
    like.more = "Allow: GET, PUT\r\n";
    return say(&like, len, "Not allowed HTTP method.");
}

char *mmds_http_answer(void *owner, const char *request, size_t len, size_t *answer_len)
{
    struct http_error error = {.text = NULL};
    struct request r = {.wants_json = false};
    struct http_answer like;

    if (read_request(&r, (struct span){request, len}, &error))
        return refuse(&error, answer_len);
    if (r.line.path_len)
        return answer_method(owner, &r, answer_len);
    like = plain(&r, 400);
    return say(&like, answer_len, "Invalid URI.");
}
