/* SPDX-License-Identifier: Apache-2.0 */
/* json_text.c: the cursor: structure, typed values and complaints. Tokens are in json_lex.c. */
#include "api/json_text.h"

#include "api/json_lex.h"
#include "vmm/base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out_of_memory[] = "out of memory";

void json_open(struct json_cursor *c, const char *text, size_t len)
{
    *c = (struct json_cursor){.text = text, .len = len};
}

void json_close(struct json_cursor *c)
{
    free(c->strings);
    if (c->message != out_of_memory)
        free(c->message);
    c->strings = c->message = NULL;
}

int json_finish(struct json_cursor *c)
{
    if (!c->message && json_look_token(c) != JSON_END)
        json_error_next(c, "trailing characters");
    return c->message ? -EINVAL : 0;
}

/* ---- complaints ---- */

char *json_error(const struct json_cursor *c)
{
    char *text = NULL;
    int n;

    if (!c->message)
        return NULL;
    if (c->positioned)
        n = asprintf(&text, "%s at line %u column %zu", c->message, c->line, c->column);
    else
        n = asprintf(&text, "%s", c->message);
    return n < 0 ? NULL : text;
}

static void complain(struct json_cursor *c, const char *fmt, va_list args) __printf(2, 0);

/* The first complaint stays. */
static void complain(struct json_cursor *c, const char *fmt, va_list args)
{
    if (!c->message && vasprintf(&c->message, fmt, args) < 0)
        c->message = out_of_memory;
}

int json_fail(struct json_cursor *c, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    complain(c, fmt, args);
    va_end(args);
    return -EINVAL;
}

int json_fail_here(struct json_cursor *c, const char *fmt, ...)
{
    bool first = !c->message;
    va_list args;

    va_start(args, fmt);
    complain(c, fmt, args);
    va_end(args);
    if (first)
        json_position(c);
    return -EINVAL;
}

/* "`a`", "`a` or `b`", "one of `a`, `b`, `c`" */
static void print_names(FILE *out, const char *const *names, size_t count)
{
    if (count > 2)
        fputs("one of ", out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s`%s`", i == 0 ? "" : count == 2 ? " or " : ", ", names[i]);
}

int json_fail_unknown(struct json_cursor *c, const char *what, struct json_string name,
                      const char *const *names, size_t count)
{
    char *message = NULL;
    size_t len;
    FILE *out;

    if (c->message)
        return -EINVAL;
    out = open_memstream(&message, &len);
    if (out) {
        fprintf(out, "unknown %s `", what);
        fwrite(name.at, 1, name.len, out);
        if (count) {
            fputs("`, expected ", out);
            print_names(out, names, count);
        } else {
            fprintf(out, "`, there are no %ss", what);
        }
        if (fclose(out) == 0)
            c->message = message;
    }
    if (!c->message) {
        free(message);
        c->message = out_of_memory;
    }
    return -EINVAL;
}

/* Not to be shown as they are: controls, invisible and private characters (the common ones). */
static bool is_unprintable(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0xad ||
           (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2060 && code <= 0x206f) || (code >= 0xe000 && code <= 0xf8ff) ||
           code == 0xfeff || (code >= 0xfff0 && code <= 0xfffb) || (code & 0xfffe) == 0xfffe;
}

/* A string as an error shows it, quotes and escapes in Rust's way: that is what clients compare. */
static void print_debug(FILE *out, struct json_string s)
{
    fputc('"', out);
    for (size_t at = 0; at < s.len;) {
        unsigned len;
        uint32_t code = utf8_decode(s.at + at, &len);
        static const char escaped[] = "\t\r\n\"\\\0", names[] = "trn\"\\0";
        const char *found = code < 0x80 ? memchr(escaped, (int)code, 6) : NULL;

        if (found)
            fprintf(out, "\\%c", names[found - escaped]);
        else if (is_unprintable(code))
            fprintf(out, "\\u{%" PRIx32 "}", code);
        else
            fwrite(s.at + at, 1, len, out);
        at += len;
    }
    fputc('"', out);
}

/* What the error calls a number: "integer `1`", "floating point `1.5`". */
static void describe_number(char out[64], const struct json_number *number)
{
    char text[40];

    if (number->kind == JSON_UNSIGNED) {
        snprintf(out, 64, "integer `%" PRIu64 "`", number->u);
    } else if (number->kind == JSON_NEGATIVE) {
        snprintf(out, 64, "integer `%" PRId64 "`", number->i);
    } else {
        json_format_float(text, number->f);
        snprintf(out, 64, "floating point `%s`", text);
    }
}

static int fail_string_type(struct json_cursor *c, const char *expected)
{
    struct json_string s;
    char *shown = NULL;
    size_t len;
    FILE *out;

    if (json_lex_string(c, &s))
        return -EINVAL;
    out = open_memstream(&shown, &len);
    if (out) {
        print_debug(out, s);
        if (fclose(out) == 0)
            json_fail_here(c, "invalid type: string %s, expected %s", shown, expected);
    }
    free(shown);
    if (!c->message)
        c->message = out_of_memory;
    return -EINVAL;
}

static int fail_number_type(struct json_cursor *c, const char *expected)
{
    struct json_number number;
    char text[64];

    if (json_lex_number(c, &number))
        return -EINVAL;
    describe_number(text, &number);
    return json_fail_here(c, "invalid type: %s, expected %s", text, expected);
}

static int fail_word_type(struct json_cursor *c, const char *word, const char *shown,
                          const char *expected)
{
    if (json_lex_word(c, word))
        return -EINVAL;
    return json_fail_here(c, "invalid type: %s, expected %s", shown, expected);
}

/* The value whose first byte is next has the wrong type; scalars are read first, brackets
 * are not. */
static int fail_type(struct json_cursor *c, const char *expected)
{
    int next = json_look(c);

    switch (next) {
    case 'n':
        return fail_word_type(c, "null", "null", expected);
    case 't':
        return fail_word_type(c, "true", "boolean `true`", expected);
    case 'f':
        return fail_word_type(c, "false", "boolean `false`", expected);
    case '"':
        return fail_string_type(c, expected);
    case '[':
        return json_fail_here(c, "invalid type: sequence, expected %s", expected);
    case '{':
        return json_fail_here(c, "invalid type: map, expected %s", expected);
    default:
        if (next == '-' || (next >= '0' && next <= '9'))
            return fail_number_type(c, expected);
        return json_error_next(c, "expected value");
    }
}

/* ---- where a value begins ---- */

int json_begin_value(struct json_cursor *c)
{
    int next;

    if (c->message)
        return -EINVAL;
    next = json_look_token(c);
    if (c->colon) {
        if (next != ':')
            return json_error_next(c, next == JSON_END ? "EOF while parsing an object"
                                                       : "expected `:`");
        c->colon = false;
        c->at++;
        next = json_look_token(c);
    }
    return next == JSON_END ? json_error_next(c, "EOF while parsing a value") : next;
}

int json_fail_type(struct json_cursor *c, const char *expected)
{
    int next = json_begin_value(c);

    return next < 0 ? next : fail_type(c, expected);
}

enum json_kind json_peek(struct json_cursor *c)
{
    struct json_cursor ahead = {.text = c->text, .len = c->len, .at = c->at};
    int next = c->message ? JSON_END : json_look_token(&ahead);

    if (c->colon && next == ':') {
        ahead.at++;
        next = json_look_token(&ahead);
    } else if (c->colon) {
        return JSON_KIND_NONE;
    }
    switch (next) {
    case 'n':
        return JSON_KIND_NULL;
    case 't':
    case 'f':
        return JSON_KIND_BOOL;
    case '"':
        return JSON_KIND_STRING;
    case '[':
        return JSON_KIND_ARRAY;
    case '{':
        return JSON_KIND_OBJECT;
    default:
        return next == '-' || (next >= '0' && next <= '9') ? JSON_KIND_NUMBER : JSON_KIND_NONE;
    }
}

/* ---- objects and arrays ---- */

static int push_level(struct json_cursor *c, bool array)
{
    if (c->depth == JSON_DEPTH_MAX)
        return json_error_next(c, "recursion limit exceeded");
    c->levels[c->depth].array = array;
    c->levels[c->depth].first = true;
    c->depth++;
    c->at++;
    return array ? JSON_KIND_ARRAY : JSON_KIND_OBJECT;
}

int json_enter(struct json_cursor *c, const char *expected)
{
    int next = json_begin_value(c);

    if (next < 0)
        return next;
    return next == '{' || next == '[' ? push_level(c, next == '[') : fail_type(c, expected);
}

int json_enter_object(struct json_cursor *c, const char *expected)
{
    int next = json_begin_value(c);

    if (next < 0)
        return next;
    return next == '{' ? push_level(c, false) : fail_type(c, expected);
}

int json_enter_array(struct json_cursor *c, const char *expected)
{
    int next = json_begin_value(c);

    if (next < 0)
        return next;
    return next == '[' ? push_level(c, true) : fail_type(c, expected);
}

/* Behind the comma before a member or an element, which must follow. */
static int after_comma(struct json_cursor *c, bool array)
{
    int next;

    c->at++;
    next = json_look_token(c);
    if (next == JSON_END)
        return json_error_next(c, "EOF while parsing a value");
    if (next == (array ? ']' : '}'))
        return json_error_next(c, "trailing comma");
    return 1;
}

/* Whether the innermost level goes on: 1 with the cursor at the next member or element,
 * 0, -EINVAL. */
static int next_item(struct json_cursor *c, bool array)
{
    bool *first;
    int next;

    if (c->message)
        return -EINVAL;
    BUG_ON(c->depth == 0 || c->levels[c->depth - 1].array != array);
    first = &c->levels[c->depth - 1].first;
    next = json_look_token(c);
    if (next == JSON_END)
        return json_error_next(c,
                               array ? "EOF while parsing a list" : "EOF while parsing an object");
    if (next == (array ? ']' : '}'))
        return 0;
    if (*first) {
        *first = false;
        return 1;
    }
    if (next != ',')
        return json_error_next(c, array ? "expected `,` or `]`" : "expected `,` or `}`");
    return after_comma(c, array);
}

int json_next_key(struct json_cursor *c, struct json_string *key)
{
    int more = next_item(c, false);

    if (more <= 0)
        return more;
    if (json_look(c) != '"')
        return json_error_next(c, "key must be a string");
    if (json_lex_string(c, key))
        return -EINVAL;
    c->colon = true;
    return 1;
}

int json_next_element(struct json_cursor *c)
{
    return next_item(c, true);
}

/* The closing bracket of the innermost level, or the error that something else stands there. */
static void leave_level(struct json_cursor *c, bool array)
{
    int next = json_look_token(c);

    if (next == (array ? ']' : '}')) {
        c->at++;
    } else if (next == JSON_END) {
        json_error_next(c, array ? "EOF while parsing a list" : "EOF while parsing an object");
    } else if (next != ',') {
        json_error_next(c, "trailing characters");
    } else if (!array) {
        json_error_next(c, "trailing comma");
    } else {
        c->at++;
        json_error_next(c, json_look_token(c) == ']' ? "trailing comma" : "trailing characters");
    }
}

int json_leave(struct json_cursor *c)
{
    BUG_ON(c->depth == 0);
    c->depth--;
    c->colon = false;
    if (!c->message || !c->positioned)
        leave_level(c, c->levels[c->depth].array);
    json_position(c);
    return c->message ? -EINVAL : 0;
}

/* ---- scalars ---- */

int json_read_unsigned(struct json_cursor *c, const char *expected, uint64_t max, uint64_t *value)
{
    struct json_number number;
    int next = json_begin_value(c);
    char text[64];

    if (next < 0)
        return next;
    if (next != '-' && (next < '0' || next > '9'))
        return fail_type(c, expected);
    if (json_lex_number(c, &number))
        return -EINVAL;
    if (number.kind == JSON_UNSIGNED && number.u <= max) {
        *value = number.u;
        return 0;
    }
    describe_number(text, &number);
    return json_fail_here(c, "invalid %s: %s, expected %s",
                          number.kind == JSON_FLOAT ? "type" : "value", text, expected);
}

int json_read_bool(struct json_cursor *c, bool *value)
{
    int next = json_begin_value(c);

    if (next < 0)
        return next;
    if (next != 't' && next != 'f')
        return fail_type(c, "a boolean");
    *value = next == 't';
    return json_lex_word(c, *value ? "true" : "false");
}

int json_read_string(struct json_cursor *c, const char *expected, struct json_string *value)
{
    int next = json_begin_value(c);

    if (next < 0)
        return next;
    return next == '"' ? json_lex_string(c, value) : fail_type(c, expected);
}

int json_take_null(struct json_cursor *c)
{
    int next = json_begin_value(c);

    if (next != 'n')
        return MIN(next, 0);
    return json_lex_word(c, "null") ? -EINVAL : 1;
}

int json_skip(struct json_cursor *c)
{
    int next = json_begin_value(c);

    return next < 0 ? next : json_lex_skip(c);
}

static int read_variant_name(struct json_cursor *c, const char *const *names, size_t count)
{
    struct json_string name = {.at = ""};

    if (json_read_string(c, "variant identifier", &name))
        return -EINVAL;
    for (size_t i = 0; i < count; i++) {
        if (strlen(names[i]) == name.len && memcmp(names[i], name.at, name.len) == 0)
            return (int)i;
    }
    json_fail_unknown(c, "variant", name, names, count);
    json_position(c);
    return -EINVAL;
}

/* {"A":null}: the long form of a name that stands for itself. */
static int read_variant_object(struct json_cursor *c, const char *const *names, size_t count)
{
    int index, null;

    if (push_level(c, false) < 0)
        return -EINVAL;
    index = read_variant_name(c, names, count);
    c->depth--;
    c->colon = true;
    if (index < 0)
        return index;
    null = json_take_null(c);
    if (null <= 0)
        return null < 0 ? null : fail_type(c, "unit");
    if (json_look_token(c) != '}')
        return json_look(c) == JSON_END ? json_error_at(c, "EOF while parsing an object")
                                        : json_error_at(c, "expected value");
    c->at++;
    return index;
}

int json_read_variant(struct json_cursor *c, const char *const *names, size_t count)
{
    int next = json_begin_value(c);

    if (next == '"')
        return read_variant_name(c, names, count);
    if (next == '{')
        return read_variant_object(c, names, count);
    return next < 0 ? next : json_error_next(c, "expected value");
}
