/* SPDX-License-Identifier: Apache-2.0 */
/* json_tree.c: text to jansson values and back. */
#include "api/json_lex.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * jansson's integers are signed. An unsigned one above INT64_MAX becomes a string of its digits
 * behind this byte, which no string from a client begins with, being no UTF-8.
 */
#define LARGE_MARK '\xff'

static json_t *from_number(const struct json_number *number)
{
    char text[24];
    int len;

    if (number->kind == JSON_FLOAT)
        return json_real(number->f);
    if (number->kind == JSON_NEGATIVE)
        return json_integer(number->i);
    if (number->u <= INT64_MAX)
        return json_integer((json_int_t)number->u);
    len = snprintf(text, sizeof(text), "%c%" PRIu64, LARGE_MARK, number->u);
    return json_stringn_nocheck(text, (size_t)len);
}

static json_t *read_number(struct json_cursor *c)
{
    struct json_number number;

    return json_lex_number(c, &number) ? NULL : from_number(&number);
}

static json_t *read_string(struct json_cursor *c)
{
    struct json_string s;

    return json_read_string(c, "a string", &s) ? NULL : json_stringn_nocheck(s.at, s.len);
}

static json_t *read_bool(struct json_cursor *c)
{
    bool value;

    return json_read_bool(c, &value) ? NULL : json_boolean(value);
}

static json_t *read_array(struct json_cursor *c)
{
    json_t *array = json_array();

    if (!array || json_enter_array(c, "a sequence") < 0)
        return array;
    while (json_next_element(c) > 0) {
        if (json_array_append_new(array, json_read_tree(c)))
            json_fail(c, "out of memory");
    }
    json_leave(c);
    return array;
}

static json_t *read_object(struct json_cursor *c)
{
    json_t *object = json_object();
    struct json_string key;

    if (!object || json_enter_object(c, "a map") < 0)
        return object;
    while (json_next_key(c, &key) > 0) {
        if (json_object_setn_new_nocheck(object, key.at, key.len, json_read_tree(c)))
            json_fail(c, "out of memory");
    }
    json_leave(c);
    return object;
}

static json_t *read_value(struct json_cursor *c)
{
    switch (json_peek(c)) {
    case JSON_KIND_NULL:
        return json_take_null(c) > 0 ? json_null() : NULL;
    case JSON_KIND_BOOL:
        return read_bool(c);
    case JSON_KIND_NUMBER:
        return json_begin_value(c) < 0 ? NULL : read_number(c);
    case JSON_KIND_STRING:
        return read_string(c);
    case JSON_KIND_ARRAY:
        return read_array(c);
    case JSON_KIND_OBJECT:
        return read_object(c);
    case JSON_KIND_NONE:
        break;
    }
    json_fail_type(c, "any valid JSON value"); /* says what is wrong with it */
    return NULL;
}

json_t *json_read_tree(struct json_cursor *c)
{
    json_t *value = read_value(c);

    if (!value && !c->message)
        json_fail(c, "out of memory");
    if (value && c->message) {
        json_decref(value);
        value = NULL;
    }
    return value;
}

json_t *json_parse(const char *text, size_t len, char **error)
{
    struct json_cursor c;
    json_t *value;

    json_open(&c, text, len);
    value = json_read_tree(&c);
    if (json_finish(&c)) {
        json_decref(value);
        value = NULL;
    }
    *error = json_error(&c);
    json_close(&c);
    return value;
}

/* ---- printing ---- */

static void print_string(FILE *out, const char *s, size_t len)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";

    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        const char *found = memchr(escaped, s[i], sizeof(escaped) - 1);

        if (found)
            fprintf(out, "\\%c", names[found - escaped]);
        else if ((unsigned char)s[i] < 0x20)
            fprintf(out, "\\u%04x", (unsigned)s[i]);
        else
            fputc(s[i], out);
    }
    fputc('"', out);
}

struct member {
    const char *key;
    size_t len;
    const json_t *value;
};

static int compare_members(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int order = memcmp(x->key, y->key, MIN(x->len, y->len));

    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* jansson's iterators want a pointer that is not const; they change nothing. */
static json_t *unconst(const json_t *value)
{
    union {
        const json_t *in;
        json_t *out;
    } u = {.in = value};

    return u.out;
}

/* The members in the order of their names, in malloc'ed memory. */
static struct member *sorted_members(const json_t *object, size_t count)
{
    struct member *members = calloc(count + 1, sizeof(*members));
    void *iter = json_object_iter(unconst(object));

    if (!members)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        members[i].key = json_object_iter_key(iter);
        members[i].len = json_object_iter_key_len(iter);
        members[i].value = json_object_iter_value(iter);
        iter = json_object_iter_next(unconst(object), iter);
    }
    qsort(members, count, sizeof(*members), compare_members);
    return members;
}

/* These return false where memory is out; the text is then worth nothing. */
static bool print_value(FILE *out, const json_t *value);

static bool print_object(FILE *out, const json_t *object)
{
    size_t count = json_object_size(object);
    struct member *members = sorted_members(object, count);
    bool ok = members != NULL;

    fputc('{', out);
    for (size_t i = 0; ok && i < count; i++) {
        if (i)
            fputc(',', out);
        print_string(out, members[i].key, members[i].len);
        fputc(':', out);
        ok = print_value(out, members[i].value);
    }
    fputc('}', out);
    free(members);
    return ok;
}

static bool print_array(FILE *out, const json_t *array)
{
    bool ok = true;

    fputc('[', out);
    for (size_t i = 0; ok && i < json_array_size(array); i++) {
        if (i)
            fputc(',', out);
        ok = print_value(out, json_array_get(array, i));
    }
    fputc(']', out);
    return ok;
}

static void print_text(FILE *out, const json_t *string)
{
    const char *s = json_string_value(string);
    size_t len = json_string_length(string);

    if (len && s[0] == LARGE_MARK)
        fwrite(s + 1, 1, len - 1, out);
    else
        print_string(out, s, len);
}

static bool print_value(FILE *out, const json_t *value)
{
    char text[40];

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return print_object(out, value);
    case JSON_ARRAY:
        return print_array(out, value);
    case JSON_STRING:
        print_text(out, value);
        break;
    case JSON_INTEGER:
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        json_format_float(text, json_real_value(value));
        fputs(text, out);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        fputs(json_is_true(value) ? "true" : "false", out);
        break;
    case JSON_NULL:
        fputs("null", out);
        break;
    }
    return true;
}

char *json_print(const json_t *value, size_t *len)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    bool ok;

    if (!out)
        return NULL;
    ok = print_value(out, value);
    if (fclose(out) || !ok) {
        free(text);
        return NULL;
    }
    if (len)
        *len = size;
    return text;
}

const char *json_plain_text(const json_t *value, size_t *len)
{
    const char *text = json_string_value(value);

    *len = json_string_length(value);
    return text && *len && text[0] == LARGE_MARK ? NULL : text;
}

char *json_print_names(const json_t *object, size_t *len)
{
    size_t count = json_object_size(object);
    struct member *members = sorted_members(object, count);
    char *text = NULL;
    FILE *out = members ? open_memstream(&text, len) : NULL;

    for (size_t i = 0; out && i < count; i++) {
        if (i)
            fputc('\n', out);
        fwrite(members[i].key, 1, members[i].len, out);
        if (json_is_object(members[i].value))
            fputc('/', out);
    }
    free(members);
    if (!out || fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}

char *json_quote(const char *s, size_t len)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    print_string(out, s, len);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    return text;
}
