/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h owns the checking of UTF-8 that clients send: header lines, request targets,
 * JSON strings. */
#ifndef MAYFLY_BASE_UTF8_H
#define MAYFLY_BASE_UTF8_H

#include "vmm/base/util.h"

/*
 * How many bytes of s are well-formed before the first bad sequence; len when all are. *bad (may be
 * NULL): the length of that sequence, 1 to 3, or 0 where the text ends inside one that is right so
 * far.
 */
size_t utf8_valid_prefix(const char *s, size_t len, unsigned *bad);

/* The code point at s, which must be well-formed, and the length of its encoding. */
uint32_t utf8_decode(const char *s, unsigned *len);

/* Writes the encoding of a code point (not a surrogate) to out and returns its length, 1 to 4. Not
 * called utf8_encode, because the static libjansson has one. */
unsigned utf8_put(uint32_t code_point, char *out);

#endif
