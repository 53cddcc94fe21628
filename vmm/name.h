/* SPDX-License-Identifier: Apache-2.0 */
/* name.h owns the rule of names that users give: instance ids, ids of drives. Pure. */
#ifndef MAYFLY_VMM_NAME_H
#define MAYFLY_VMM_NAME_H

#include "vmm/base/err.h"

/*
 * The first character of the UTF-8 string that is neither a letter, nor a digit, nor the ASCII
 * character `also`: its byte offset, or -1 when there is none. *len, which may be NULL, gets its
 * length in bytes. Letters of any script count; outside ASCII the answer goes by whole blocks of
 * Unicode, which is exact for the scripts and approximate among symbols.
 */
ptrdiff_t name_first_odd(const char *name, char also, size_t *len);

#define INSTANCE_ID_MAX 64

/* Whether `id` can be an instance's: 1 to 64 letters, digits and hyphens. -EINVAL with a sentence
 * about `what`. */
int instance_id_check(const char *id, const char *what, struct err *e) __must_check;

#endif
