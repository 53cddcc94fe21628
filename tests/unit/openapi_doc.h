/* SPDX-License-Identifier: Apache-2.0 */
/*
 * openapi_doc.h owns a walk through an OpenAPI description: members, references, and whether a
 * value fits a schema, as far as our description uses schemas.
 */
#ifndef MAYFLY_TESTS_UNIT_OPENAPI_DOC_H
#define MAYFLY_TESTS_UNIT_OPENAPI_DOC_H

#include <jansson.h>
#include <stdbool.h>

/* The description that references lead into; borrowed. */
extern json_t *openapi_doc;

/* The member of a member of ... `node`; NULL = there is none. Borrowed, as all that follow. */
#define at(node, ...) openapi_at(node, (const char *const[]){__VA_ARGS__, NULL})
json_t *openapi_at(json_t *node, const char *const *names);

/* What the node refers to, "#/components/<kind>/<name>"; the node itself when it refers to nothing;
 * NULL when it is nowhere. */
json_t *openapi_resolve(json_t *node);

/* The schema behind references, and behind the one that a nullable one is made of. */
json_t *openapi_bare(json_t *schema);

/* Whether a member is there and true. */
bool openapi_flag(json_t *node, const char *name);

/* Whether one of the array's items equals the value. */
bool openapi_is_listed(json_t *value, json_t *list);

bool openapi_fits(json_t *value, json_t *schema);

#endif
