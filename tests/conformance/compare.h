/* SPDX-License-Identifier: Apache-2.0 */
/* Compares a recorded answer with the one that came, part by part. */
#ifndef MAYFLY_TESTS_CONFORMANCE_COMPARE_H
#define MAYFLY_TESTS_CONFORMANCE_COMPARE_H

#include "tests/support/text.h"

#include <jansson.h>
#include <stdbool.h>

/*
 * True when the answers agree. Otherwise appends to `report` one entry for each part that differs
 * (status, version, headers, body, ...), with what was expected and what came.
 *
 * The recorded string "*" agrees with anything that is there. `unordered` (may be NULL) lists JSON
 * pointers to arrays whose order is free. `usual` (may be NULL) holds the headers of answers that
 * were recorded without any.
 */
bool compare_answers(const json_t *expected, const json_t *came, const json_t *unordered,
                     const json_t *usual, struct text *report);

/* A copy of `answer` with the values at the given JSON pointers replaced; the caller owns it. */
json_t *compare_patched(const json_t *answer, const json_t *pointers);

#endif
