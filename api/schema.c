/* SPDX-License-Identifier: Apache-2.0 */
/* schema.c: the reader that walks JSON text by a table of members. */
#include "api/schema.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    uint64_t max;
} numbers[] = {
    [SCHEMA_U8] = {"u8", UINT8_MAX},      [SCHEMA_U16] = {"u16", UINT16_MAX},
    [SCHEMA_U32] = {"u32", UINT32_MAX},   [SCHEMA_U64] = {"u64", UINT64_MAX},
    [SCHEMA_USIZE] = {"usize", SIZE_MAX},
};

/* ---- one value ---- */

static void store(void *at, size_t size, uint64_t value)
{
    switch (size) {
    case sizeof(uint8_t):
        *(uint8_t *)at = (uint8_t)value;
        break;
    case sizeof(uint16_t):
        *(uint16_t *)at = (uint16_t)value;
        break;
    case sizeof(uint32_t):
        *(uint32_t *)at = (uint32_t)value;
        break;
    default:
        BUG_ON(size != sizeof(uint64_t));
        *(uint64_t *)at = value;
    }
}

static int read_number(struct json_cursor *c, const struct schema_member *member, void *at)
{
    uint64_t value;

    if (json_read_unsigned(c, numbers[member->type].name, numbers[member->type].max, &value))
        return -EINVAL;
    store(at, member->size, value);
    return 0;
}

int schema_read_string(struct json_cursor *c, const char *expected, char **at)
{
    struct json_string s;

    if (json_read_string(c, expected, &s))
        return -EINVAL;
    if (memchr(s.at, '\0', s.len))
        return json_fail_here(c, "invalid value: a string with a NUL character, expected %s",
                              expected);
    *at = c->strings + (s.at - c->strings); /* the cursor's own memory: no const cast away */
    return 0;
}

static int read_name(struct json_cursor *c, const struct schema_member *member, void *at)
{
    const struct schema_names *of = member->names;
    int index = json_read_variant(c, of->names, of->count);

    if (index < 0)
        return index;
    store(at, member->size, (uint64_t)(of->values ? of->values[index] : index));
    return 0;
}

static int read_value(struct json_cursor *c, const struct schema_member *member, void *at)
{
    switch (member->type) {
    case SCHEMA_BOOL:
        return json_read_bool(c, at);
    case SCHEMA_U8:
    case SCHEMA_U16:
    case SCHEMA_U32:
    case SCHEMA_U64:
    case SCHEMA_USIZE:
        return read_number(c, member, at);
    case SCHEMA_STRING:
        return schema_read_string(c, "a string", at);
    case SCHEMA_PATH:
        return schema_read_string(c, "path string", at);
    case SCHEMA_NAMES:
        return read_name(c, member, at);
    case SCHEMA_OBJECT:
        return schema_read(c, member->object, at);
    case SCHEMA_CUSTOM:
        return member->read(c, at);
    }
    return -EINVAL;
}

static int read_member(struct json_cursor *c, const struct schema_member *member, char *out)
{
    int null = member->rules & SCHEMA_NULLABLE ? json_take_null(c) : 0;

    if (null)
        return MIN(null, 0);
    if (read_value(c, member, out + member->at))
        return -EINVAL;
    if (member->given_at != SCHEMA_NO_FLAG)
        *(bool *)(out + member->given_at) = true;
    return 0;
}

/* ---- the object ---- */

static int find(const struct schema *schema, struct json_string key)
{
    for (size_t i = 0; i < schema->count; i++) {
        const char *name = schema->members[i].name;

        if (strlen(name) == key.len && memcmp(name, key.at, key.len) == 0)
            return (int)i;
    }
    return -ENOENT;
}

static int refuse_unknown(struct json_cursor *c, const struct schema *schema,
                          struct json_string key)
{
    const char *names[32];
    size_t count = 0;

    for (size_t i = 0; i < schema->count; i++) {
        if (!(schema->members[i].rules & SCHEMA_HIDDEN))
            names[count++] = schema->members[i].name;
    }
    return json_fail_unknown(c, "field", key, names, count);
}

static int read_object(struct json_cursor *c, const struct schema *schema, char *out)
{
    struct json_string key;
    uint32_t seen = 0;
    int more, i;

    while ((more = json_next_key(c, &key)) > 0) {
        i = find(schema, key);
        if (i < 0 && !schema->lets_unknown)
            return refuse_unknown(c, schema, key);
        if (i >= 0 && seen & 1u << i)
            return json_fail(c, "duplicate field `%s`", schema->members[i].name);
        if (i < 0 ? json_skip(c) : read_member(c, &schema->members[i], out))
            return -EINVAL;
        if (i >= 0)
            seen |= 1u << i;
    }
    for (size_t m = 0; more == 0 && m < schema->count; m++) {
        if (schema->members[m].rules & SCHEMA_REQUIRED && !(seen & 1u << m))
            return json_fail(c, "missing field `%s`", schema->members[m].name);
    }
    return more;
}

/* The values of the members, in order. */
static int read_array(struct json_cursor *c, const struct schema *schema, char *out)
{
    size_t visible = 0, i = 0;
    int more = 1;

    for (size_t m = 0; m < schema->count; m++)
        visible += !(schema->members[m].rules & SCHEMA_HIDDEN);
    for (; i < visible && (more = json_next_element(c)) > 0; i++) {
        if (read_member(c, &schema->members[i], out))
            return -EINVAL;
    }
    if (more == 0 && !(schema->members[i].rules & SCHEMA_TAIL))
        return json_fail(c, "invalid length %zu, expected %s with %zu element%s", i, schema->name,
                         visible, visible == 1 ? "" : "s");
    return MIN(more, 0);
}

int schema_read(struct json_cursor *c, const struct schema *schema, void *out)
{
    int kind = json_enter(c, schema->name), ret, left;

    if (kind < 0)
        return kind;
    ret = kind == JSON_KIND_OBJECT ? read_object(c, schema, out) : read_array(c, schema, out);
    left = json_leave(c);
    return ret < 0 ? ret : left;
}

int schema_read_list(struct json_cursor *c, const struct schema *schema, const void *blank,
                     size_t size, void **list, size_t *count)
{
    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0) {
        char *more = reallocarray(*list, *count + 1, size), *last;

        if (!more) {
            json_fail(c, "out of memory");
            break;
        }
        *list = more;
        last = more + (*count)++ * size;
        memcpy(last, blank, size);
        if (schema_read(c, schema, last))
            break;
    }
    return json_leave(c);
}
