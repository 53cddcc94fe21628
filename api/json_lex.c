/* SPDX-License-Identifier: Apache-2.0 */
/* json_lex.c: strings, words, white space and skipping. Numbers are in json_number.c. */
#include "api/json_lex.h"

#include "vmm/base/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Line and column of the byte count `at`: columns begin again at 0 behind each line feed. */
static void position_of(struct json_cursor *c, size_t at)
{
    size_t line_start = 0;

    c->line = 1;
    for (size_t i = 0; i < at; i++) {
        if (c->text[i] == '\n') {
            c->line++;
            line_start = i + 1;
        }
    }
    c->column = at - line_start;
    c->positioned = true;
}

static int record(struct json_cursor *c, const char *what, size_t at)
{
    if (!c->message) {
        json_fail(c, "%s", what);
        position_of(c, at);
    }
    return -EINVAL;
}

int json_error_at(struct json_cursor *c, const char *what)
{
    return record(c, what, c->at);
}

int json_error_next(struct json_cursor *c, const char *what)
{
    return record(c, what, MIN(c->at + 1, c->len));
}

void json_position(struct json_cursor *c)
{
    if (c->message && !c->positioned)
        position_of(c, c->at);
}

int json_look_token(struct json_cursor *c)
{
    while (c->at < c->len && memchr(" \n\t\r", c->text[c->at], 4))
        c->at++;
    return json_look(c);
}

int json_lex_word(struct json_cursor *c, const char *word)
{
    c->at++;
    for (const char *p = word + 1; *p; p++) {
        if (c->at == c->len)
            return json_error_at(c, "EOF while parsing a value");
        if (c->text[c->at++] != *p)
            return json_error_at(c, "expected ident");
    }
    return 0;
}

char *json_string_space(struct json_cursor *c)
{
    /* One block serves the whole text: a string without its quotes and escapes, with a NUL, is
     * never longer than its text, so what remains always suffices and earlier strings stay where
     * they are. */
    if (!c->strings) {
        c->strings = malloc(c->len + 1);
        if (!c->strings)
            json_error_at(c, "out of memory");
    }
    return c->strings ? c->strings + c->strings_len : NULL;
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

/* The four digits of \uXXXX, whose 'u' has been read. */
static int lex_hex(struct json_cursor *c, uint32_t *code)
{
    *code = 0;
    if (c->len - c->at < 4) {
        c->at = c->len;
        return json_error_at(c, "EOF while parsing a string");
    }
    for (unsigned i = 0; i < 4; i++) {
        int digit = hex_value(c->text[c->at++]);

        if (digit < 0)
            return json_error_at(c, "invalid escape");
        *code = *code << 4 | (uint32_t)digit;
    }
    return 0;
}

static int expect_in_pair(struct json_cursor *c, char byte)
{
    if (c->at == c->len)
        return json_error_at(c, "EOF while parsing a string");
    if (c->text[c->at++] != byte)
        return json_error_at(c, "unexpected end of hex escape");
    return 0;
}

/* A \u escape, or the two of a surrogate pair, to a code point. */
static int lex_unicode_escape(struct json_cursor *c, uint32_t *code)
{
    uint32_t low;

    if (lex_hex(c, code))
        return -EINVAL;
    if (*code >= 0xdc00 && *code <= 0xdfff)
        return json_error_at(c, "lone leading surrogate in hex escape");
    if (*code < 0xd800 || *code > 0xdbff)
        return 0;
    if (expect_in_pair(c, '\\') || expect_in_pair(c, 'u') || lex_hex(c, &low))
        return -EINVAL;
    if (low < 0xdc00 || low > 0xdfff)
        return json_error_at(c, "lone leading surrogate in hex escape");
    *code = ((*code - 0xd800) << 10 | (low - 0xdc00)) + 0x10000;
    return 0;
}

/* The escape behind a backslash that has been read, appended at *out. */
static int lex_escape(struct json_cursor *c, char **out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *name;
    uint32_t code;
    char byte;

    if (c->at == c->len)
        return json_error_at(c, "EOF while parsing a string");
    byte = c->text[c->at++];
    if (byte == 'u') {
        if (lex_unicode_escape(c, &code))
            return -EINVAL;
        *out += utf8_put(code, *out);
        return 0;
    }
    name = memchr(names, byte, sizeof(names) - 1);
    if (!name)
        return json_error_at(c, "invalid escape");
    *(*out)++ = values[name - names];
    return 0;
}

int json_lex_string(struct json_cursor *c, struct json_string *string)
{
    char *start = json_string_space(c), *out = start;

    if (!start)
        return -EINVAL;
    for (c->at++;;) {
        char byte;

        if (c->at == c->len)
            return json_error_at(c, "EOF while parsing a string");
        byte = c->text[c->at++];
        if (byte == '"')
            break;
        if ((unsigned char)byte < 0x20)
            return json_error_at(
                c, "control character (\\u0000-\\u001F) found while parsing a string");
        if (byte != '\\')
            *out++ = byte;
        else if (lex_escape(c, &out))
            return -EINVAL;
    }
    *string = (struct json_string){.at = start, .len = (size_t)(out - start)};
    *out++ = '\0';
    c->strings_len += (size_t)(out - start);
    if (utf8_valid_prefix(string->at, string->len, NULL) != string->len)
        return json_error_at(c, "invalid unicode code point");
    return 0;
}

/* ---- skipping: syntax only, which takes more strings than reading does ---- */

static int skip_escape(struct json_cursor *c)
{
    uint32_t code;
    char byte;

    if (c->at == c->len)
        return json_error_at(c, "EOF while parsing a string");
    byte = c->text[c->at++];
    if (byte == 'u')
        return lex_hex(c, &code); /* whether surrogates pair up, nobody asks here */
    if (!memchr("\"\\/bfnrt", byte, 8))
        return json_error_at(c, "invalid escape");
    return 0;
}

static int skip_string(struct json_cursor *c)
{
    for (c->at++;;) {
        char byte;

        if (c->at == c->len)
            return json_error_at(c, "EOF while parsing a string");
        byte = c->text[c->at];
        if ((unsigned char)byte < 0x20)
            return json_error_at(
                c, "control character (\\u0000-\\u001F) found while parsing a string");
        c->at++;
        if (byte == '"')
            return 0;
        if (byte == '\\' && skip_escape(c))
            return -EINVAL;
    }
}

/* The key and colon before a value inside an object. */
static int skip_key(struct json_cursor *c)
{
    int next = json_look_token(c);

    if (next != '"')
        return json_error_next(c, next == JSON_END ? "EOF while parsing an object"
                                                   : "key must be a string");
    if (skip_string(c))
        return -EINVAL;
    next = json_look_token(c);
    if (next != ':')
        return json_error_next(c,
                               next == JSON_END ? "EOF while parsing an object" : "expected `:`");
    c->at++;
    return 0;
}

/* One value that holds no others; or the opening bracket of one that does, *open. */
static int skip_scalar(struct json_cursor *c, char *open)
{
    int next = json_look_token(c);

    *open = 0;
    switch (next) {
    case 'n':
        return json_lex_word(c, "null");
    case 't':
        return json_lex_word(c, "true");
    case 'f':
        return json_lex_word(c, "false");
    case '"':
        return skip_string(c);
    case '[':
    case '{':
        *open = (char)next;
        c->at++;
        return 0;
    case JSON_END:
        return json_error_next(c, "EOF while parsing a value");
    default:
        if (next != '-' && (next < '0' || next > '9'))
            return json_error_next(c, "expected value");
        return json_skip_number(c);
    }
}

/*
 * Behind a value (or an opening bracket: first) inside the innermost of `depth` brackets: closes
 * what closes. 1: a value follows; 0: the last bracket has closed.
 */
static int skip_between(struct json_cursor *c, const char *open, size_t *depth, bool first)
{
    while (*depth) {
        char bracket = open[*depth - 1];
        int next = json_look_token(c);

        if (next == JSON_END)
            return json_error_next(c, bracket == '[' ? "EOF while parsing a list"
                                                     : "EOF while parsing an object");
        if (next == (bracket == '[' ? ']' : '}')) {
            c->at++;
            (*depth)--;
            first = false;
            continue;
        }
        if (first)
            return 1;
        if (next != ',')
            return json_error_next(c,
                                   bracket == '[' ? "expected `,` or `]`" : "expected `,` or `}`");
        c->at++;
        return 1;
    }
    return 0;
}

int json_lex_skip(struct json_cursor *c)
{
    /* The brackets open around the current value, in the unused string space: one byte of text
     * each. */
    char *open = json_string_space(c);
    size_t depth = 0;
    int more;

    if (!open)
        return -EINVAL;
    do {
        char bracket;

        if (depth && open[depth - 1] == '{' && skip_key(c))
            return -EINVAL;
        if (skip_scalar(c, &bracket))
            return -EINVAL;
        if (bracket)
            open[depth++] = bracket;
        more = skip_between(c, open, &depth, bracket != 0);
    } while (more > 0);
    return more;
}
