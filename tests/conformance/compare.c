/* SPDX-License-Identifier: Apache-2.0 */
/* Part-by-part comparison of recorded and received answers. */
#include "tests/conformance/compare.h"

#include <stdlib.h>
#include <string.h>

/* Where two values first differ. */
struct difference {
    struct text path;
    const json_t *expected; /* borrowed; NULL: nothing was expected there */
    const json_t *came;     /* borrowed; NULL: nothing came there */
    bool order;             /* the members are the same, in another order */
};

static bool values_agree(const json_t *expected, const json_t *came, struct difference *d);

static bool differ(struct difference *d, const json_t *expected, const json_t *came)
{
    d->expected = expected;
    d->came = came;
    return false;
}

/* Compares a member or an element; on disagreement the path keeps its name. */
static bool child_agrees(const char *name, const json_t *expected, const json_t *came,
                         struct difference *d)
{
    size_t length = d->path.len;
    text_printf(&d->path, "/%s", name);
    if (!values_agree(expected, came, d))
        return false;
    d->path.len = length;
    d->path.data[length] = '\0';
    return true;
}

static bool same_order(const json_t *expected, const json_t *came)
{
    /* jansson's iterators take a non-const object and change nothing. */
    union {
        const json_t *in;
        json_t *out;
    } a = {.in = expected}, b = {.in = came};
    void *i = json_object_iter(a.out);
    void *j = json_object_iter(b.out);
    while (i && j) {
        if (strcmp(json_object_iter_key(i), json_object_iter_key(j)))
            return false;
        i = json_object_iter_next(a.out, i);
        j = json_object_iter_next(b.out, j);
    }
    return true;
}

static bool objects_agree(const json_t *expected, const json_t *came, struct difference *d)
{
    union {
        const json_t *in;
        json_t *out;
    } a = {.in = expected}, b = {.in = came};
    const char *key;
    json_t *value;
    json_object_foreach (a.out, key, value) {
        if (!child_agrees(key, value, json_object_get(came, key), d))
            return false;
    }
    json_object_foreach (b.out, key, value) {
        if (!json_object_get(expected, key))
            return child_agrees(key, NULL, value, d);
    }
    if (!same_order(expected, came)) {
        d->order = true;
        return differ(d, expected, came);
    }
    return true;
}

static bool arrays_agree(const json_t *expected, const json_t *came, struct difference *d)
{
    size_t n = json_array_size(expected), m = json_array_size(came);
    for (size_t i = 0; i < n || i < m; i++) {
        char name[24];
        snprintf(name, sizeof(name), "%zu", i);
        if (!child_agrees(name, json_array_get(expected, i), json_array_get(came, i), d))
            return false;
    }
    return true;
}

static bool values_agree(const json_t *expected, const json_t *came, struct difference *d)
{
    if (!expected || !came)
        return expected == came || differ(d, expected, came);
    if (json_is_string(expected) && !strcmp(json_string_value(expected), "*"))
        return true;
    if (json_is_object(expected) && json_is_object(came))
        return objects_agree(expected, came, d);
    if (json_is_array(expected) && json_is_array(came))
        return arrays_agree(expected, came, d);
    return json_equal(expected, came) || differ(d, expected, came);
}

/* The value at a JSON pointer (without escapes), its parent and its last name. */
static json_t *at_pointer(json_t *root, const char *pointer, json_t **parent, const char **name)
{
    *parent = NULL;
    *name = NULL;
    json_t *here = root;
    while (here && *pointer == '/') {
        size_t length = strcspn(++pointer, "/");
        char *part = strndup(pointer, length);
        *parent = here;
        *name = pointer;
        here = json_is_array(here) ? json_array_get(here, strtoul(part, NULL, 10))
                                   : json_object_get(here, part);
        free(part);
        pointer += length;
    }
    return here;
}

static int by_text(const void *a, const void *b)
{
    char *left = json_dumps(*(json_t *const *)a, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    char *right = json_dumps(*(json_t *const *)b, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    int order = strcmp(left, right);
    free(left);
    free(right);
    return order;
}

static void sort_array(json_t *array)
{
    size_t n = json_array_size(array);
    json_t **items = calloc(n + 1, sizeof(*items));
    if (!items)
        abort();
    for (size_t i = 0; i < n; i++)
        items[i] = json_incref(json_array_get(array, i));
    qsort(items, n, sizeof(*items), by_text);
    for (size_t i = 0; i < n; i++)
        json_array_set_new(array, i, items[i]);
    free(items);
}

/* A deep copy in which arrays of free order are sorted. */
static json_t *normalised(const json_t *answer, const json_t *unordered)
{
    json_t *copy = json_deep_copy(answer);
    json_t *pointer, *parent;
    const char *name;
    size_t i;
    json_array_foreach (unordered, i, pointer) {
        json_t *array = at_pointer(copy, json_string_value(pointer), &parent, &name);
        if (json_is_array(array))
            sort_array(array);
    }
    return copy;
}

json_t *compare_patched(const json_t *answer, const json_t *pointers)
{
    json_t *copy = json_deep_copy(answer);
    union {
        const json_t *in;
        json_t *out;
    } list = {.in = pointers};
    const char *pointer, *name;
    json_t *value, *parent;
    json_object_foreach (list.out, pointer, value) {
        at_pointer(copy, pointer, &parent, &name);
        if (json_is_object(parent))
            json_object_set(parent, name, value);
    }
    return copy;
}

/* The headers an answer was recorded with, or the usual ones of its status. */
static void add_usual_headers(json_t *answer, const json_t *usual)
{
    size_t i;
    json_t *inner;
    json_array_foreach (json_object_get(answer, "answers"), i, inner) {
        add_usual_headers(inner, usual);
    }
    json_t *status = json_object_get(answer, "status");
    if (!usual || !status || json_object_get(answer, "headers"))
        return;
    const char *kind = json_integer_value(status) == 204 ? "204" : "other";
    json_object_set(answer, "headers", json_object_get(usual, kind));
}

static void print_value(struct text *report, const char *label, const json_t *value)
{
    char *dump = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    text_printf(report, "        %s %s\n", label, dump ? dump : "(nothing)");
    free(dump);
}

/* Header order is not compared: sort both sides' members first. */
static json_t *sorted_members(const json_t *object)
{
    char *dump = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
    json_t *sorted = dump ? json_loads(dump, 0, NULL) : NULL;
    free(dump);
    return sorted;
}

static bool part_agrees(const char *where, const char *part, const json_t *expected,
                        const json_t *came, struct text *report)
{
    struct difference d = {0};
    bool headers = !strcmp(part, "headers");
    json_t *a = headers ? sorted_members(expected) : NULL;
    json_t *b = headers ? sorted_members(came) : NULL;
    bool agree = values_agree(a ? a : expected, b ? b : came, &d);
    if (!agree) {
        text_printf(report, "      %s%s%s differs%s:\n", where, part, text_str(&d.path),
                    d.order ? " in the order of its members" : "");
        print_value(report, "expected", d.expected);
        print_value(report, "came    ", d.came);
    }
    text_free(&d.path);
    json_decref(a);
    json_decref(b);
    return agree;
}

static bool parts_agree(const char *where, json_t *expected, json_t *came, struct text *report);

/* The answers on one connection, each in its parts. */
static bool lists_agree(const json_t *expected, const json_t *came, struct text *report)
{
    size_t n = json_array_size(expected), m = json_array_size(came);
    bool agree = true;
    for (size_t i = 0; i < n && i < m; i++) {
        char *where = text_format("answer %zu: ", i + 1);
        agree &= parts_agree(where, json_array_get(expected, i), json_array_get(came, i), report);
        free(where);
    }
    if (n != m)
        text_printf(report, "      %zu answers expected, %zu came\n", n, m);
    for (size_t i = n; i < m; i++)
        print_value(report, "came    ", json_array_get(came, i));
    return agree && n == m;
}

static bool parts_agree(const char *where, json_t *expected, json_t *came, struct text *report)
{
    bool agree = true;
    const char *part;
    json_t *value;
    json_object_foreach (expected, part, value) {
        json_t *other = json_object_get(came, part);
        if (!strcmp(part, "answers") && json_is_array(other))
            agree &= lists_agree(value, other, report);
        else
            agree &= part_agrees(where, part, value, other, report);
    }
    json_object_foreach (came, part, value) {
        if (!json_object_get(expected, part))
            agree &= part_agrees(where, part, NULL, value, report);
    }
    return agree;
}

bool compare_answers(const json_t *expected, const json_t *came, const json_t *unordered,
                     const json_t *usual, struct text *report)
{
    json_t *a = normalised(expected, unordered);
    json_t *b = normalised(came, unordered);
    add_usual_headers(a, usual);
    bool agree = parts_agree("", a, b, report);
    json_decref(a);
    json_decref(b);
    return agree;
}
