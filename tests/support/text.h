/* SPDX-License-Identifier: Apache-2.0 */
/* A growable byte string for the test programs: always ends in a NUL that `len` does not count. */
#ifndef MAYFLY_TESTS_SUPPORT_TEXT_H
#define MAYFLY_TESTS_SUPPORT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
    char *data; /* never NULL after the first append; owned */
    size_t len;
    size_t room;
};

/* Appending aborts the test program when memory runs out: a test has nothing better to do. */
void text_append(struct text *t, const void *data, size_t len);
void text_puts(struct text *t, const char *string);
void text_printf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Replaces each `from` by `to`. `from` must not be empty. */
void text_replace(struct text *t, const char *from, const char *to);

/* The contents as a C string; "" for a text that was never written. Valid until the next append. */
const char *text_str(const struct text *t);

bool text_contains(const struct text *t, const char *needle);

/* Forgets the contents and keeps the memory. */
void text_clear(struct text *t);
void text_free(struct text *t);

/* Reads a whole file to the end of `t`. Returns 0 or -errno. */
int text_read_file(struct text *t, const char *path);

/* sprintf into fresh memory, which the caller frees. */
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
