/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_lex.h: the tokens under json_text.c, and how their errors get a position. Internal to the
 * JSON files. A lexer returns 0, or -EINVAL with the error recorded in the cursor; it never looks
 * at an earlier error.
 *
 * Two positions, as clients know them: json_error_at counts the bytes read so far; json_error_next
 * one more, for a byte that was looked at and refused without being read.
 */
#ifndef MAYFLY_API_JSON_LEX_H
#define MAYFLY_API_JSON_LEX_H

#include "api/json_text.h"

enum json_number_kind {
    JSON_UNSIGNED,
    JSON_NEGATIVE, /* an integer below 0 that fits int64_t */
    JSON_FLOAT,    /* has a point or an exponent, is -0, or fits no integer of 64 bits */
};

struct json_number {
    enum json_number_kind kind;
    union {
        uint64_t u;
        int64_t i;
        double f;
    };
};

#define JSON_END (-1)

int json_error_at(struct json_cursor *c, const char *what);
int json_error_next(struct json_cursor *c, const char *what);

/* Gives an error that has no position yet the one of the bytes read so far. */
void json_position(struct json_cursor *c);

/* The next byte, or JSON_END; not read. */
static inline int json_look(const struct json_cursor *c)
{
    return c->at < c->len ? (unsigned char)c->text[c->at] : JSON_END;
}

/* Reads white space; then as json_look. */
int json_look_token(struct json_cursor *c);

/* The first byte of the value that comes next, behind the colon of its key; -EINVAL after any
 * error. */
int json_begin_value(struct json_cursor *c);

/* Reads `word`, whose first byte has been looked at: "expected ident". */
int json_lex_word(struct json_cursor *c, const char *word);

/* Reads a number whose first byte ('-' or a digit) has been looked at. */
int json_lex_number(struct json_cursor *c, struct json_number *number);

/* Reads past one, without caring for its size. */
int json_skip_number(struct json_cursor *c);

/* Reads a string whose opening quote has been looked at. */
int json_lex_string(struct json_cursor *c, struct json_string *string);

/* Reads past the value whose first byte is next; any depth. */
int json_lex_skip(struct json_cursor *c);

/* Where decoded strings go: room for as many bytes as the text has left, and one. NULL: error
 * recorded. */
char *json_string_space(struct json_cursor *c);

/* The shortest decimal that reads back as f, with a point or an exponent: "1.0", "1.5e+300". */
void json_format_float(char out[40], double f);

#endif
