/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect_json.h owns what vmm/inspect.h says of a snapshot as JSON, and as text.
 *
 * The answer is one JSON object: about the state file "state_file", "bytes", "format",
 * "architecture", "saved_at" (null where the saving host did not know), "machine", "texts",
 * "memory", "devices" (each with its "kind", "index", "texts" and "fields"; the names are those of
 * FORMAT.md), "sections" (each with its "name", "index", "version", "fingerprint", "bytes", "at");
 * about the memory file "memory_file" ("path", "bytes", "bytes_of_data"); and "faults", a sentence
 * each. Of a damaged file there is what can be trusted.
 */
#ifndef MAYFLY_API_INSPECT_JSON_H
#define MAYFLY_API_INSPECT_JSON_H

#include <jansson.h>
#include <stdio.h>

/* Looks at the state file, and at the memory file unless `mem_path` is NULL. The reference is the
 * caller's. */
json_t *inspect_snapshot(const char *state_path, const char *mem_path);

/* The same as text for a person. */
void inspect_print(FILE *out, const json_t *snapshot);

#endif
