/* SPDX-License-Identifier: Apache-2.0 */
/* Describes answers, files and ended processes as JSON in the form of the recordings. */
#ifndef MAYFLY_TESTS_CONFORMANCE_INSPECT_H
#define MAYFLY_TESTS_CONFORMANCE_INSPECT_H

#include "tests/conformance/places.h"
#include "tests/support/api_client.h"
#include "tests/support/process.h"
#include "tests/support/text.h"

#include <jansson.h>
#include <stdbool.h>

/* All of these return new references; real names are turned back into placeholders. */

/* {"status", "body" or "body_text", "headers"}. Appends nothing to and takes nothing from `a`. */
json_t *inspect_answer(struct api_answer *a, const struct places *places);

/* {"answers": [...]} of everything on a connection; with `first_only` no more than the first. */
json_t *inspect_stream(const struct text *bytes, const struct places *places, bool first_only);

/* {"exit": code} or {"signal": name} of an ended process. */
json_t *inspect_end(const struct process *p);

/* A `check` step: does the file exist, of which type, and what its `report` asks for. */
json_t *inspect_file(const json_t *check, const struct places *places);

/* A `run` step: the program with exactly these arguments, its end and what it said. */
json_t *inspect_run(const json_t *run, const char *program, const struct places *places);

/* UTF-8 text to bytes, one for each character up to U+00FF. */
void inspect_latin1(struct text *out, const struct text *utf8);

#endif
