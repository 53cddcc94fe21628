/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema.h owns the way from JSON to plain structs: one table of members for each kind of object,
 * and one reader that walks the text by it. What is accepted and how a refusal is worded are those
 * of a strict serde deserialiser, which clients of Firecracker match on: the first problem in the
 * order of the text wins; unknown, doubled and missing members are named; an array of the members'
 * values in order stands for the object.
 *
 * Strings in the struct point into the cursor and live until json_close.
 */
#ifndef MAYFLY_API_SCHEMA_H
#define MAYFLY_API_SCHEMA_H

#include "api/json_text.h"

enum schema_type {
    SCHEMA_BOOL,
    SCHEMA_U8, /* numbers are stored in a member of any unsigned type that is large enough */
    SCHEMA_U16,
    SCHEMA_U32,
    SCHEMA_U64,
    SCHEMA_USIZE,
    SCHEMA_STRING, /* char * */
    SCHEMA_PATH,   /* char *; differs from a string in the wording of errors only */
    SCHEMA_NAMES,  /* an enum: one of some names */
    SCHEMA_OBJECT, /* a struct inside the struct */
    SCHEMA_CUSTOM, /* whatever `read` makes of it */
};

enum {
    SCHEMA_REQUIRED = 1, /* must be there; in the array form too */
    SCHEMA_NULLABLE = 2, /* null is the same as absence */
    SCHEMA_TAIL = 4,     /* may be left out in the array form, if all that follow may */
    SCHEMA_HIDDEN = 8,   /* an addition of ours: never named in an error, not in the array form */
};

struct schema_names {
    const char *const *names;
    const int *values; /* of the enum; NULL = 0, 1, 2 ... */
    size_t count;
};

#define SCHEMA_NO_FLAG UINT16_MAX

struct schema_member {
    const char *name;
    enum schema_type type;
    unsigned rules;
    uint16_t at, size; /* in the struct */
    uint16_t given_at; /* a bool in the struct, set when the member is there; or SCHEMA_NO_FLAG */
    const struct schema *object;
    const struct schema_names *names;
    int (*read)(struct json_cursor *c, void *member);
};

struct schema {
    const char *name; /* as errors call it: "struct Vm" */
    const struct schema_member *members;
    size_t count;      /* at most 32 */
    bool lets_unknown; /* unknown members are skipped instead of refused */
};

/* Places in the struct that a row speaks of. */
#define SCHEMA_AT(type, member)                                                                    \
    .at = offsetof(type, member), .size = sizeof(((type *)0)->member), .given_at = SCHEMA_NO_FLAG
#define SCHEMA_AT_GIVEN(type, member, flag)                                                        \
    .at = offsetof(type, member), .size = sizeof(((type *)0)->member),                             \
    .given_at = offsetof(type, flag)

/*
 * Reads the value at the cursor into *out, a struct that the caller has filled with defaults. 0, or
 * -EINVAL with the error in the cursor and *out half filled.
 */
int schema_read(struct json_cursor *c, const struct schema *schema, void *out) __must_check;

/*
 * Reads an array of such structs, of `size` bytes each, behind the *count that the malloc'ed *list
 * has; each begins as `blank`. After an error the last one is half filled, and counted: what it
 * owns is its owner's to free. The same errors.
 */
int schema_read_list(struct json_cursor *c, const struct schema *schema, const void *blank,
                     size_t size, void **list, size_t *count) __must_check;

/* Reads one string that is to be a C string: with a NUL character in it, it is refused. *at lies in
 * the cursor's memory. The same errors. */
int schema_read_string(struct json_cursor *c, const char *expected, char **at) __must_check;

#endif
