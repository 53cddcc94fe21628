/* SPDX-License-Identifier: Apache-2.0 */
/* openapi_doc.c: see openapi_doc.h. */
#include "tests/unit/openapi_doc.h"

#include <stdlib.h>
#include <string.h>

json_t *openapi_doc;

json_t *openapi_at(json_t *node, const char *const *names)
{
    for (; node && *names; names++)
        node = json_object_get(node, *names);
    return node;
}

json_t *openapi_resolve(json_t *node)
{
    const char *ref = json_string_value(json_object_get(node, "$ref"));
    char *copy, *rest;

    if (!ref)
        return node;
    rest = copy = strdup(ref);
    node = openapi_doc;
    strsep(&rest, "/");
    while (node && rest)
        node = json_object_get(node, strsep(&rest, "/"));
    free(copy);
    return node;
}

json_t *openapi_bare(json_t *schema)
{
    json_t *inner = json_array_get(json_object_get(schema, "allOf"), 0);

    return openapi_resolve(inner ? inner : schema);
}

bool openapi_flag(json_t *node, const char *name)
{
    return json_is_true(json_object_get(node, name));
}

static bool fits_one(json_t *value, json_t *schemas)
{
    unsigned count = 0;
    json_t *schema;
    size_t i;

    json_array_foreach (schemas, i, schema)
        count += openapi_fits(value, schema);
    return count == 1;
}

bool openapi_is_listed(json_t *value, json_t *list)
{
    json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        if (json_equal(one, value))
            return true;
    }
    return false;
}

static bool has_type(json_t *value, const char *type)
{
    return !type || (strcmp(type, "object") == 0 && json_is_object(value)) ||
           (strcmp(type, "array") == 0 && json_is_array(value)) ||
           (strcmp(type, "string") == 0 && json_is_string(value)) ||
           (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
           (strcmp(type, "integer") == 0 && json_is_integer(value));
}

static bool is_in_range(json_t *value, json_t *schema)
{
    json_t *min = json_object_get(schema, "minimum"), *max = json_object_get(schema, "maximum");

    return (!min || json_integer_value(value) >= json_integer_value(min)) &&
           (!max || json_integer_value(value) <= json_integer_value(max));
}

static bool object_fits(json_t *value, json_t *schema)
{
    json_t *properties = json_object_get(schema, "properties"), *member, *property, *name;
    json_t *others = json_object_get(schema, "additionalProperties");
    const char *key;
    size_t i;

    json_array_foreach (json_object_get(schema, "required"), i, name) {
        if (!json_object_get(value, json_string_value(name)))
            return false;
    }
    json_object_foreach (value, key, member) {
        property = json_object_get(properties, key);
        if (!property && json_is_object(others))
            property = others;
        if (property ? !openapi_fits(member, property) : json_is_false(others))
            return false;
    }
    return true;
}

static bool array_fits(json_t *value, json_t *items)
{
    json_t *item;
    size_t i;

    json_array_foreach (value, i, item) {
        if (items && !openapi_fits(item, items))
            return false;
    }
    return true;
}

/* What this file uses of JSON Schema as OpenAPI 3.0 has it. */
bool openapi_fits(json_t *value, json_t *schema)
{
    bool nullable = openapi_flag(schema, "nullable");

    schema = openapi_bare(schema);
    if (json_is_null(value))
        return nullable || openapi_flag(schema, "nullable");
    if (json_object_get(schema, "oneOf"))
        return fits_one(value, json_object_get(schema, "oneOf"));
    if (json_object_get(schema, "enum") &&
        !openapi_is_listed(value, json_object_get(schema, "enum")))
        return false;
    if (!has_type(value, json_string_value(json_object_get(schema, "type"))))
        return false;
    if (json_is_integer(value))
        return is_in_range(value, schema);
    if (json_is_object(value))
        return object_fits(value, schema);
    return !json_is_array(value) || array_fits(value, json_object_get(schema, "items"));
}
