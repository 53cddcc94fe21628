/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmds_store.h owns the metadata that the host keeps for the guest: one JSON value, replaced,
 * merged and read as text, and by the guest in parts. Loop thread, under the machine lock.
 */
#ifndef MAYFLY_API_MMDS_STORE_H
#define MAYFLY_API_MMDS_STORE_H

#include "vmm/base/err.h"

struct mmds_store;

/* limit: bytes that the value may take as compact text. -ENOMEM. */
int mmds_store_create(struct mmds_store **out, size_t limit, struct err *e) __must_check;
void mmds_store_destroy(struct mmds_store *store);

/*
 * PUT: any JSON value takes the place of the old one. PATCH: merged into it by RFC 7396; nothing to
 * merge into before the first PUT. Refusals change nothing, and e->text is the sentence that
 * clients get:
 *  - -EINVAL: not JSON; the sentence is the reader's alone ("key must be a string at line 1 ..."),
 *    to which the caller adds the words that it uses for every request body;
 *  - -EFBIG: over the limit (413);
 *  - -ENOENT: PATCH before PUT ("MMDS error: ...").
 */
int mmds_store_put(struct mmds_store *store, const char *text, size_t len,
                   struct err *e) __must_check;
int mmds_store_patch(struct mmds_store *store, const char *text, size_t len,
                     struct err *e) __must_check;

/* The value as compact text with sorted members, malloc'ed; "{}" when unset. NULL when memory is
 * out. */
char *mmds_store_get(const struct mmds_store *store, size_t *len);

/* How a guest wants to see a value: as JSON; or as EC2's service would show it, which can be said
 * of a string (as it is) and of an object (its members' names) only. */
enum mmds_format { MMDS_JSON, MMDS_IMDS };

/*
 * The value at a path for a guest, malloc'ed: a JSON pointer (RFC 6901, "~0" and "~1" in it stand
 * for "~" and "/"), in which several slashes are one and one at the end is none. An unset store is
 * null. -ENOENT: there is none; -ENOTSUP: it cannot be shown in this format; -ENOMEM.
 */
int mmds_store_find(const struct mmds_store *store, const char *path, size_t path_len,
                    enum mmds_format format, char **text, size_t *len) __must_check;

#endif
