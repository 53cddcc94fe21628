/* SPDX-License-Identifier: Apache-2.0 */
/* http_span.h owns parts of a request's text, and the few questions that are asked of them. */
#ifndef MAYFLY_API_HTTP_SPAN_H
#define MAYFLY_API_HTTP_SPAN_H

#include "vmm/base/util.h"

/* Somewhere in a text; not NUL-terminated. */
struct span {
    const char *at;
    size_t len;
};

bool span_is(struct span s, const char *text);
/* The same for letters of either case. */
bool span_is_name(struct span s, const char *name);

/* Without the white space around it. */
struct span span_trim(struct span s);

/* Cuts `rest` at its first `separator`: what is before it, *rest keeping what is behind it. */
bool span_cut(struct span *rest, char separator, struct span *before);

/* An unsigned number of 32 bits in decimal digits; a plus sign may stand before it. */
bool span_read_u32(struct span s, uint32_t *value);

#endif
