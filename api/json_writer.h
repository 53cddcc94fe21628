/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_writer.h owns the writing of JSON: compact, members in the order in which they are written.
 * Commas come by themselves. The text is in memory that grows, or in a buffer of the caller's for
 * code that must not allocate (signal handlers); running out of either is remembered and told at
 * the end.
 */
#ifndef MAYFLY_API_JSON_WRITER_H
#define MAYFLY_API_JSON_WRITER_H

#include "vmm/base/util.h"

struct json_writer {
    char *text;
    size_t len, room;
    bool fixed;  /* text is the caller's */
    bool failed; /* out of room */
    bool comma;  /* a value stands before the next one */
};

/* Begins empty: with memory of its own, or in `room` bytes at `buffer`. */
void json_writer_open(struct json_writer *w);
void json_writer_open_in(struct json_writer *w, char *buffer, size_t room);

/*
 * The text, NUL-terminated, its length in *len (which may be NULL); NULL when there was no room. Of
 * a growing writer the caller owns it and frees it.
 */
char *json_writer_finish(struct json_writer *w, size_t *len);

void json_write_key(struct json_writer *w, const char *name);
void json_write_begin(struct json_writer *w, char bracket); /* '{' or '[' */
void json_write_end(struct json_writer *w, char bracket);   /* '}' or ']' */
void json_write_unsigned(struct json_writer *w, uint64_t value);
void json_write_bool(struct json_writer *w, bool value);
void json_write_null(struct json_writer *w);
/* NULL is written as null. */
void json_write_string(struct json_writer *w, const char *value);
/* JSON text that is there already, as one value. */
void json_write_raw(struct json_writer *w, const char *text, size_t len);

/* A key and its value. */
void json_member_unsigned(struct json_writer *w, const char *name, uint64_t value);
void json_member_bool(struct json_writer *w, const char *name, bool value);
void json_member_string(struct json_writer *w, const char *name, const char *value);
void json_member_null(struct json_writer *w, const char *name);

#endif
