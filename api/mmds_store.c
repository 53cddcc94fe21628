/* SPDX-License-Identifier: Apache-2.0 */
/* mmds_store.c: one jansson value, checked against its limit before it takes the old
 * one's place. */
#include "api/mmds_store.h"

#include "api/json_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mmds_store {
    size_t limit;
    json_t *value; /* NULL until the first PUT */
};

int mmds_store_create(struct mmds_store **out, size_t limit, struct err *e)
{
    struct mmds_store *store = calloc(1, sizeof(*store));

    if (!store)
        return err_set(e, -ENOMEM, "Cannot create the MMDS store: %s", err_os(-ENOMEM));
    store->limit = limit;
    *out = store;
    return 0;
}

void mmds_store_destroy(struct mmds_store *store)
{
    if (!store)
        return;
    json_decref(store->value);
    free(store);
}

static int parse(const char *text, size_t len, json_t **value, struct err *e)
{
    char *error;
    int rc = 0;

    *value = json_parse(text, len, &error);
    if (!*value)
        rc = err_set(e, -EINVAL, "%s", error ? error : "out of memory");
    free(error);
    return rc;
}

/* Takes `value` over as the new content if it fits, or frees it. */
static int replace(struct mmds_store *store, json_t *value, struct err *e)
{
    size_t len = 0;
    char *text = json_print(value, &len);
    int rc = 0;

    if (!text)
        rc = err_set(e, -ENOMEM, "MMDS error: %s", err_os(-ENOMEM));
    else if (len > store->limit)
        rc = err_set(e, -EFBIG, "MMDS limit exceeded error: The MMDS patch request doesn't fit.");
    free(text);
    if (rc) {
        json_decref(value);
        return rc;
    }
    json_decref(store->value);
    store->value = value;
    return 0;
}

int mmds_store_put(struct mmds_store *store, const char *text, size_t len, struct err *e)
{
    json_t *value;
    int rc = parse(text, len, &value, e);

    return rc ? rc : replace(store, value, e);
}

/*
 * RFC 7396: what `target` becomes when `patch` is merged into it; `target` (may be NULL) is taken
 * over. As deep as the patch, which the reader has bounded. NULL when memory is out.
 */
static json_t *merge(json_t *target, json_t *patch)
{
    const char *key;
    size_t key_len;
    json_t *value;

    if (!json_is_object(patch)) {
        json_decref(target);
        return json_deep_copy(patch);
    }
    if (!json_is_object(target)) {
        json_decref(target);
        target = json_object();
    }
    json_object_keylen_foreach(patch, key, key_len, value)
    {
        json_t *old = json_object_getn(target, key, key_len);

        if (json_is_null(value))
            json_object_deln(target, key, key_len);
        else if (json_object_setn_new_nocheck(target, key, key_len,
                                              merge(json_incref(old), value))) {
            json_decref(target);
            return NULL;
        }
    }
    return target;
}

int mmds_store_patch(struct mmds_store *store, const char *text, size_t len, struct err *e)
{
    json_t *patch, *merged;
    int rc = parse(text, len, &patch, e);

    if (rc)
        return rc;
    if (!store->value) {
        json_decref(patch);
        return err_set(e, -ENOENT, "MMDS error: The MMDS data store is not initialized.");
    }
    merged = merge(json_deep_copy(store->value), patch);
    json_decref(patch);
    if (!merged)
        return err_set(e, -ENOMEM, "MMDS error: %s", err_os(-ENOMEM));
    return replace(store, merged, e);
}

char *mmds_store_get(const struct mmds_store *store, size_t *len)
{
    json_t *value;
    char *text;

    if (store->value && !json_is_null(store->value))
        return json_print(store->value, len);
    value = json_object();
    text = value ? json_print(value, len) : NULL;
    json_decref(value);
    return text;
}

/* ---- what a guest sees ---- */

/* Undoes the escapes of a pointer's part in place; the new length. */
static size_t unescape(char *part, size_t len)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++, out++) {
        bool escaped = part[i] == '~' && i + 1 < len && (part[i + 1] == '0' || part[i + 1] == '1');

        part[out] = !escaped ? part[i] : part[++i] == '0' ? '~' : '/';
    }
    return out;
}

/* An array's element: a number without sign or leading zeroes. */
static json_t *element(const json_t *array, const char *part, size_t len)
{
    size_t index = 0;

    if (!len || (part[0] == '0' && len > 1))
        return NULL;
    for (size_t i = 0; i < len; i++) {
        if (part[i] < '0' || part[i] > '9' || index > json_array_size(array))
            return NULL;
        index = index * 10 + (size_t)(part[i] - '0');
    }
    return json_array_get(array, index);
}

static json_t *child(const json_t *value, char *part, size_t len)
{
    len = unescape(part, len);
    if (json_is_object(value))
        return json_object_getn(value, part, len);
    return json_is_array(value) ? element(value, part, len) : NULL;
}

/* Cuts the path up as it goes. */
static json_t *walk(json_t *value, char *path, size_t len)
{
    char *end = path + len;

    while (value) {
        char *part;

        while (path < end && *path == '/')
            path++;
        if (path == end)
            break;
        part = path;
        while (path < end && *path != '/')
            path++;
        value = child(value, part, (size_t)(path - part));
    }
    return value;
}

/* Strings may hold NULs. */
static char *copy_text(const char *text, size_t len)
{
    char *copy = malloc(len + 1);

    if (copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

static int show(const json_t *value, enum mmds_format format, char **text, size_t *len)
{
    const char *plain = json_plain_text(value, len);

    if (format == MMDS_JSON)
        *text = json_print(value, len);
    else if (plain)
        *text = copy_text(plain, *len);
    else if (json_is_object(value))
        *text = json_print_names(value, len);
    else
        return -ENOTSUP;
    return *text ? 0 : -ENOMEM;
}

int mmds_store_find(const struct mmds_store *store, const char *path, size_t path_len,
                    enum mmds_format format, char **text, size_t *len)
{
    char *parts = strndup(path, path_len);
    json_t *unset = json_null(), *value;
    int rc;

    if (!parts)
        return -ENOMEM;
    value = walk(store->value ? store->value : unset, parts, strlen(parts));
    rc = value ? show(value, format, text, len) : -ENOENT;
    free(parts);
    return rc;
}
