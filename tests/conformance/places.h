/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scenario's surroundings: the directory with its files, the guest kernel, the taps, and the
 * placeholders that stand for them in the recordings.
 */
#ifndef MAYFLY_TESTS_CONFORMANCE_PLACES_H
#define MAYFLY_TESTS_CONFORMANCE_PLACES_H

#include "tests/support/text.h"

#include <jansson.h>
#include <stdbool.h>

enum { PLACES_TAPS_MAX = 2 };

struct places {
    char *dir;    /* ${DIR} */
    char *socket; /* ${DIR}/api.sock */
    char *kernel; /* ${KERNEL} */
    char taps[PLACES_TAPS_MAX][16];
    unsigned n_taps;
};

/*
 * Makes `base`/dir and what `setup` (may be NULL) asks for. On failure returns false with a
 * sentence in `why`; places_clear() is due either way. Taps need root and /dev/net/tun.
 */
bool places_make(struct places *p, const char *base, const json_t *setup, struct text *why);

/* Deletes the taps and frees; the files are left to whoever removes `base`. */
void places_clear(struct places *p);

/* Placeholders to real names, and back. */
void places_fill(const struct places *p, struct text *t);
void places_restore(const struct places *p, struct text *t);

/* A string with its placeholders filled in; the caller frees it. */
char *places_expand(const struct places *p, const char *string);

/* A recorded text: a string, or a list of strings and {"repeat", "times"}; {"pause_ms"} is left
 * out. */
void places_join(struct text *out, const json_t *value);

#endif
