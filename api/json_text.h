/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_text.h owns the reading of JSON text, once, in its own order: a cursor that checks syntax
 * and values as it goes, so that the first problem in the text is the one that is reported, in the
 * words and with the line and column that clients of Firecracker match on. Two users: the schema
 * layer walks members with the verbs below; json_read_tree builds a jansson value where a tree is
 * wanted.
 *
 * The error is sticky: after the first one every verb returns -EINVAL and the cursor keeps the
 * first message, so callers may check late. Columns count bytes; the column of an error is where
 * reading stood:
 *  - a value of the wrong type: just behind the value (for an array or object: just before it);
 *  - json_fail, the caller's own complaint (missing, unknown or doubled member, a string with a bad
 *    meaning): where json_leave then stands, which is behind a closing bracket if that comes next.
 * So json_leave is called after an error too, as on success; json_fail_here gives the position at
 * once.
 *
 * Pattern for an object:
 *     if (json_enter(c, "struct Vm") == JSON_KIND_OBJECT) {
 *         while ((more = json_next_key(c, &key)) > 0)
 *             ...look `key` up and read its value with one verb...
 *         if (more == 0)
 *             ...complain about what is missing...
 *     }
 *     json_leave(c);
 * and at the end json_finish(c), which refuses whatever follows the value.
 *
 * Not thread-safe; a cursor belongs to one caller. Strings it returns live until json_close.
 */
#ifndef MAYFLY_API_JSON_TEXT_H
#define MAYFLY_API_JSON_TEXT_H

#include "vmm/base/util.h"

#include <jansson.h>

/* Objects and arrays inside each other at most; one more is "recursion limit exceeded". */
#define JSON_DEPTH_MAX 127

enum json_kind {
    JSON_KIND_NONE, /* the text ends, or no value can begin with this byte */
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_NUMBER,
    JSON_KIND_STRING,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT,
};

/* A decoded string: UTF-8, NUL-terminated; len counts NULs inside it. */
struct json_string {
    const char *at;
    size_t len;
};

struct json_cursor {
    const char *text;
    size_t len, at; /* at: bytes read so far */
    char *strings;  /* every decoded string, one behind the other; never longer than the text */
    size_t strings_len;
    char *message;   /* the first error, without its position; NULL = none */
    bool positioned; /* line and column below are set */
    bool colon;      /* a key has been read, its ':' not yet */
    unsigned line, depth;
    size_t column;
    struct {
        bool array, first;
    } levels[JSON_DEPTH_MAX + 1];
};

/* Begins at the start of text, which must outlive the cursor. Cannot fail. */
void json_open(struct json_cursor *c, const char *text, size_t len);
void json_close(struct json_cursor *c);

/* Behind the value only white space may follow: "trailing characters". 0 or -EINVAL. */
int json_finish(struct json_cursor *c);

/*
 * The first error as a person reads it, "missing field `x` at line 1 column 21", in malloc'ed
 * memory that the caller frees; NULL when there is none (or no memory).
 */
char *json_error(const struct json_cursor *c);

/* What kind of value comes next; reads the ':' and white space before it, never an error
 * by itself. */
enum json_kind json_peek(struct json_cursor *c);

/*
 * Steps into an object or an array and says which (JSON_KIND_OBJECT, JSON_KIND_ARRAY); anything
 * else is "invalid type: ..., expected <expected>" and -EINVAL. A caller for whom an array will not
 * do says json_enter_object; one who wants only an array ("a sequence") json_enter_array.
 */
int json_enter(struct json_cursor *c, const char *expected);
int json_enter_object(struct json_cursor *c, const char *expected);
int json_enter_array(struct json_cursor *c, const char *expected);

/* The next member's key, 1; or 0 at the end of the object; or -EINVAL. The value is read by the
 * next verb. */
int json_next_key(struct json_cursor *c, struct json_string *key);

/* 1: an element follows, to be read by the next verb; 0: the end of the array; or -EINVAL. */
int json_next_element(struct json_cursor *c);

/*
 * Steps out of what json_enter* entered, past its closing bracket ("trailing characters", "trailing
 * comma" where something else follows), and gives an error that has none yet its position. Call it
 * once for each json_enter* that returned >= 0, after errors too. 0 or -EINVAL.
 */
int json_leave(struct json_cursor *c);

/* Scalars: 0, or -EINVAL with "invalid type" / "invalid value" in the error. `expected` is the name
 * of the type as clients know it: "u8", "usize", "a string", "path string", "a boolean" is implied.
 */
int json_read_unsigned(struct json_cursor *c, const char *expected, uint64_t max, uint64_t *value);
int json_read_bool(struct json_cursor *c, bool *value);
int json_read_string(struct json_cursor *c, const char *expected, struct json_string *value);

/*
 * One of `count` names, by index (>= 0), or -EINVAL: "unknown variant `x`, expected `A` or `B`";
 * anything but a string (or the form {"A":null}) is "expected value".
 */
int json_read_variant(struct json_cursor *c, const char *const *names, size_t count);

/* 1: the value is null and has been read; 0: it is something else, still to be read; -EINVAL. */
int json_take_null(struct json_cursor *c);

/* Reads past any value, checking syntax only, to any depth. 0 or -EINVAL. */
int json_skip(struct json_cursor *c);

/*
 * Reads any value as a jansson tree that the caller owns; NULL with the cursor's error. The last of
 * doubled keys wins. Integers above INT64_MAX and their printing: see json_print.
 */
json_t *json_read_tree(struct json_cursor *c);

/* Whole text to tree: json_open, json_read_tree, json_finish, json_close. On failure NULL and
 * *error, as json_error gives it. */
json_t *json_parse(const char *text, size_t len, char **error);

/*
 * The value as compact JSON text in malloc'ed memory (NUL-terminated, *len without it, len may be
 * NULL), members sorted by name, numbers in their shortest form; NULL when memory is out. Trees
 * from json_read_tree keep unsigned integers above INT64_MAX as a marked string; json_print knows
 * the mark, so what was read is what is printed.
 */
char *json_print(const json_t *value, size_t *len);

/* The text of a string as it is, or NULL for anything else (unlike jansson's, for any number). */
const char *json_plain_text(const json_t *value, size_t *len);

/* The names of an object's members, sorted, a line each, with a slash behind those that are objects
 * themselves; malloc'ed, NULL when memory is out. */
char *json_print_names(const json_t *object, size_t *len);

/* A string in quotes with everything escaped that must be, in malloc'ed memory. */
char *json_quote(const char *s, size_t len);

/* Complaints of the caller; all return -EINVAL and keep an earlier error. See the top for the
 * position. */
int json_fail(struct json_cursor *c, const char *fmt, ...) __printf(2, 3);
int json_fail_here(struct json_cursor *c, const char *fmt, ...) __printf(2, 3);

/* The value that comes next has the wrong type: "invalid type: string \"x\",
 * expected <expected>". */
int json_fail_type(struct json_cursor *c, const char *expected);

/* "unknown field `x`, expected one of `a`, `b`, `c`" (what: "field" or "variant"), as json_fail. */
int json_fail_unknown(struct json_cursor *c, const char *what, struct json_string name,
                      const char *const *names, size_t count);

#endif
