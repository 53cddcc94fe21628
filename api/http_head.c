/* SPDX-License-Identifier: Apache-2.0 */
/* http_head.c: the rules of http_head.h as code. */
#include "api/http_head.h"

#include "api/http_span.h"
#include "vmm/base/utf8.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- refusals ---- */

int http_head_refuse(struct http_error *error, const char *words)
{
    error->text = strdup(words);
    error->len = error->text ? strlen(words) : 0;
    return -EPROTO;
}

/* Appends a span as text: what is no UTF-8 becomes U+FFFD, one for each bad sequence. */
static void print_lossy(FILE *out, struct span s)
{
    while (s.len) {
        unsigned bad;
        size_t good = utf8_valid_prefix(s.at, s.len, &bad);

        fwrite(s.at, 1, good, out);
        s = (struct span){.at = s.at + good, .len = s.len - good};
        if (!s.len)
            break;
        fputs("\xef\xbf\xbd", out);
        bad = bad ? bad : (unsigned)s.len; /* 0: the end cuts a sequence short */
        s = (struct span){.at = s.at + bad, .len = s.len - bad};
    }
}

/* The parts of a refusal: words, a span of what the client sent, and so on; NULL words end it. */
struct part {
    const char *words;
    struct span span;
};

static int refuse_parts(struct http_error *error, const struct part *parts)
{
    FILE *out = open_memstream(&error->text, &error->len);

    if (!out)
        return -EPROTO;
    for (; parts->words; parts++) {
        fputs(parts->words, out);
        print_lossy(out, parts->span);
    }
    if (fclose(out)) {
        free(error->text);
        *error = (struct http_error){.text = NULL};
    }
    return -EPROTO;
}

int http_head_request_line_too_long(struct http_error *error)
{
    return http_head_refuse(error, "Invalid request.");
}

int http_head_header_too_long(const char *start, size_t len, struct http_error *error)
{
    return refuse_parts(error, (struct part[]){{"Invalid header. Reason: Invalid content length. "
                                                "Header: ",
                                                {start, len}},
                                               {0}});
}

int http_head_body_too_large(const struct http_head *head, size_t max, struct http_error *error)
{
    char text[160];

    snprintf(text, sizeof(text),
             "Request payload with size %u is larger than the limit of %zu allowed by server.",
             head->content_length, max);
    return http_head_refuse(error, text);
}

static int refuse_value(struct http_error *error, struct span name, struct span value)
{
    return refuse_parts(error,
                        (struct part[]){{"Invalid header. Reason: Invalid value. Key:", name},
                                        {"; Value:", value},
                                        {0}});
}

/* ---- the request line ---- */

static const char *method_of(struct span s)
{
    static const char *const methods[] = {"GET", "PUT", "PATCH", "DELETE"};

    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (span_is(s, methods[i]))
            return methods[i];
    }
    return NULL;
}

/* The path in a target, see the top of the header; empty where there is none. */
static struct span path_of(struct span target)
{
    static const char scheme[] = "http://";
    static const struct span none = {"", 0};
    const char *slash;

    if (target.len && target.at[0] == '/')
        return target;
    if (target.len < strlen(scheme) || memcmp(target.at, scheme, strlen(scheme)) != 0)
        return none;
    target.at += strlen(scheme);
    target.len -= strlen(scheme);
    slash = memchr(target.at, '/', target.len);
    if (!slash)
        return none;
    return (struct span){.at = slash, .len = target.len - (size_t)(slash - target.at)};
}

int http_head_take_apart(struct http_request_line *out, const char *line, size_t len,
                         struct http_error *error)
{
    struct span rest = {line, len}, method, target, path;

    if (!span_cut(&rest, ' ', &method) || !span_cut(&rest, ' ', &target))
        return http_head_refuse(error, "Invalid request.");
    out->method = method_of(method);
    if (!out->method)
        return http_head_refuse(error, "Invalid HTTP Method: Unsupported HTTP method.");
    if (target.len == 0)
        return http_head_refuse(error, "Invalid URI: Empty URI not allowed.");
    if (utf8_valid_prefix(target.at, target.len, NULL) != target.len ||
        memchr(target.at, '\0', target.len)) /* which no path of ours can hold */
        return http_head_refuse(error, "Invalid URI: Cannot parse URI as UTF-8.");
    if (!span_is(rest, "HTTP/1.0") && !span_is(rest, "HTTP/1.1"))
        return http_head_refuse(error, "Invalid HTTP Version: Unsupported HTTP version.");
    path = path_of(target);
    out->path = path.at;
    out->path_len = path.len;
    out->minor = (unsigned)(rest.at[7] - '0');
    return 0;
}

int http_head_request_line(struct http_head *head, const char *line, size_t len,
                           struct http_error *error)
{
    struct http_request_line parts;

    if (len > HTTP_LINE_MAX - 2)
        return http_head_request_line_too_long(error);
    if (http_head_take_apart(&parts, line, len, error))
        return -EPROTO;
    if (!parts.path_len) {
        parts.path = "/";
        parts.path_len = 1;
    }
    head->method = parts.method;
    memcpy(head->target, parts.path, parts.path_len);
    head->target_len = parts.path_len;
    head->minor = parts.minor;
    head->content_length = 0;
    head->expect = false;
    return 0;
}

/* ---- header lines ---- */

static int content_length(struct http_head *head, struct span name, struct span value,
                          struct http_error *error)
{
    return span_read_u32(span_trim(value), &head->content_length)
               ? 0
               : refuse_value(error, name, value);
}

static int expect(struct http_head *head, struct span name, struct span value,
                  struct http_error *error)
{
    (void)name, (void)error;
    head->expect |= span_is(span_trim(value), "100-continue");
    return 0;
}

static int accept_encoding(struct http_head *head, struct span name, struct span value,
                           struct http_error *error)
{
    struct span rest = span_trim(value), coding;
    bool identity_named = memmem(rest.at, rest.len, "identity", strlen("identity")) != NULL;
    bool more = true;

    (void)head, (void)name;
    if (!rest.len)
        return http_head_refuse(error, "Invalid request.");
    while (more) {
        more = span_cut(&rest, ',', &coding);
        if (!more)
            coding = rest;
        if (span_is(span_trim(coding), "identity;q=0") ||
            (span_is(span_trim(coding), "*;q=0") && !identity_named))
            return refuse_value(error, (struct span){"Accept-Encoding", 15}, coding);
    }
    return 0;
}

static const struct {
    const char *name; /* lower case */
    int (*judge)(struct http_head *head, struct span name, struct span value,
                 struct http_error *error);
} headers[] = {
    {"content-length", content_length},
    {"expect", expect},
    {"accept-encoding", accept_encoding},
};

/* The line is no UTF-8; `good` bytes of it are. */
static int refuse_bytes(struct http_error *error, size_t good, unsigned bad)
{
    char text[160];
    static const char start[] = "Invalid header. Reason: Header contains invalid characters. Key: ";

    if (bad)
        snprintf(text, sizeof(text), "%sinvalid utf-8 sequence of %u bytes from index %zu", start,
                 bad, good);
    else
        snprintf(text, sizeof(text), "%sincomplete utf-8 byte sequence from index %zu", start,
                 good);
    return http_head_refuse(error, text);
}

int http_head_header(struct http_head *head, const char *line, size_t len, struct http_error *error)
{
    struct span rest = {line, len}, name, trimmed;
    unsigned bad;
    size_t good = utf8_valid_prefix(line, len, &bad);

    if (good != len)
        return refuse_bytes(error, good, bad);
    if (!span_cut(&rest, ':', &name))
        return refuse_parts(error, (struct part[]){{"Invalid header. Reason: Header is incorrectly "
                                                    "formatted. Key: ",
                                                    {line, len}},
                                                   {0}});
    trimmed = span_trim(name);
    for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
        if (span_is_name(trimmed, headers[i].name))
            return headers[i].judge(head, name, rest, error);
    }
    return 0;
}

/* ---- for the parser ---- */

static char *put(char *out, const char *text)
{
    return stpcpy(out, text);
}

size_t http_head_normalise(const struct http_head *head, char *out)
{
    static const char hex[] = "0123456789ABCDEF";
    char *p = put(put(out, head->method), " ");

    for (size_t i = 0; i < head->target_len; i++) {
        unsigned char byte = (unsigned char)head->target[i];

        if (byte < 0x80 && (isalnum(byte) || (byte && strchr("-._~/", byte)))) {
            *p++ = (char)byte;
        } else {
            *p++ = '%';
            *p++ = hex[byte >> 4];
            *p++ = hex[byte & 15];
        }
    }
    p = put(p, " HTTP/1.1\r\n");
    if (head->content_length)
        p += sprintf(p, "Content-Length: %u\r\n", head->content_length);
    p = put(p, "\r\n");
    return (size_t)(p - out);
}

static unsigned hex_value(char digit)
{
    return (unsigned)(digit <= '9' ? digit - '0' : digit - 'A' + 10);
}

size_t http_head_decode(char *text, size_t len)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++, out++) {
        if (text[i] == '%' && len - i > 2) {
            text[out] = (char)(hex_value(text[i + 1]) << 4 | hex_value(text[i + 2]));
            i += 2;
        } else {
            text[out] = text[i];
        }
    }
    return out;
}
