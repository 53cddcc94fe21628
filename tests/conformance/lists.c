/* SPDX-License-Identifier: Apache-2.0 */
/* The lists of pending exchanges and of deliberate differences. */
#include "tests/conformance/lists.h"

#include <string.h>

static json_t *load(const char *dir, const char *name, struct text *why)
{
    char *path = text_format("%s/%s", dir, name);
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    json_t *entries = json_incref(json_object_get(root, "entries"));
    if (!root)
        text_printf(why, "%s, line %d: %s\n", path, error.line, error.text);
    else if (!json_is_array(entries))
        text_printf(why, "%s: no array `entries`\n", path);
    json_decref(root);
    free(path);
    return entries;
}

bool lists_load(struct lists *lists, const char *dir, struct text *why)
{
    lists->pending = load(dir, "pending.json", why);
    lists->differences = load(dir, "differences.json", why);
    return json_is_array(lists->pending) && json_is_array(lists->differences);
}

void lists_free(struct lists *lists)
{
    json_decref(lists->pending);
    json_decref(lists->differences);
}

static const char *string_of(const json_t *entry, const char *key)
{
    return json_string_value(json_object_get(entry, key));
}

static bool names(const json_t *entry, const char *scenario)
{
    const char *name = string_of(entry, "scenario");
    return name && !strcmp(name, scenario);
}

/* An entry lists its steps as numbers or as pairs [first, last]. */
static bool covers(const json_t *entry, size_t number)
{
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(entry, "steps"), i, item) {
        json_t *first = json_is_array(item) ? json_array_get(item, 0) : item;
        json_t *last = json_is_array(item) ? json_array_get(item, 1) : item;
        if ((json_int_t)number >= json_integer_value(first) &&
            (json_int_t)number <= json_integer_value(last))
            return true;
    }
    return false;
}

static const json_t *find(const json_t *list, const char *scenario, size_t number)
{
    size_t i;
    json_t *entry;
    json_array_foreach (list, i, entry) {
        if (names(entry, scenario) && covers(entry, number))
            return entry;
    }
    return NULL;
}

const char *lists_scenario_pending(const struct lists *lists, const char *scenario)
{
    size_t i;
    json_t *entry;
    json_array_foreach (lists->pending, i, entry) {
        if (names(entry, scenario) && !json_object_get(entry, "steps"))
            return string_of(entry, "reason");
    }
    return NULL;
}

struct verdict lists_step(const struct lists *lists, const char *scenario, size_t number)
{
    const json_t *entry = find(lists->differences, scenario, number);
    if (entry)
        return (struct verdict){FATE_DIFFERENT, string_of(entry, "reason"),
                                json_object_get(entry, "answer")};
    entry = find(lists->pending, scenario, number);
    if (!entry)
        return (struct verdict){.fate = FATE_SAME};
    const json_t *until = json_object_get(entry, "until_then");
    const json_t *instead = json_object_get(entry, "answer");
    if (instead)
        return (struct verdict){FATE_INSTEAD, string_of(entry, "reason"), instead};
    return (struct verdict){until ? FATE_UNTIL : FATE_PENDING, string_of(entry, "reason"), until};
}

static bool check_entry(json_t *entry, const char *scenario, size_t steps, bool needs_answer,
                        struct text *why)
{
    bool good = true;
    size_t i;
    json_t *item;
    if (!string_of(entry, "reason")) {
        text_printf(why, "an entry for %s gives no reason\n", scenario);
        good = false;
    }
    if (needs_answer && !(json_object_get(entry, "answer") && json_object_get(entry, "steps"))) {
        text_printf(why, "a difference in %s names no steps or no answer\n", scenario);
        good = false;
    }
    json_array_foreach (json_object_get(entry, "steps"), i, item) {
        json_t *last = json_is_array(item) ? json_array_get(item, 1) : item;
        if (json_integer_value(last) < 1 || json_integer_value(last) > (json_int_t)steps) {
            text_printf(why, "%s has no step %lld\n", scenario,
                        (long long)json_integer_value(last));
            good = false;
        }
    }
    json_object_set_new(entry, "used", json_true());
    return good;
}

bool lists_check_scenario(const struct lists *lists, const char *scenario, size_t steps,
                          struct text *why)
{
    bool good = true;
    size_t i;
    json_t *entry;
    json_array_foreach (lists->pending, i, entry) {
        if (names(entry, scenario))
            good &= check_entry(entry, scenario, steps, false, why);
    }
    json_array_foreach (lists->differences, i, entry) {
        if (names(entry, scenario))
            good &= check_entry(entry, scenario, steps, true, why);
    }
    return good;
}

static bool all_used(const json_t *list, const char *name, struct text *why)
{
    bool good = true;
    size_t i;
    json_t *entry;
    json_array_foreach (list, i, entry) {
        if (!json_object_get(entry, "used")) {
            const char *scenario = string_of(entry, "scenario");
            text_printf(why, "%s names a scenario that does not exist: %s\n", name,
                        scenario ? scenario : "(none)");
            good = false;
        }
    }
    return good;
}

bool lists_leftovers(const struct lists *lists, struct text *why)
{
    bool good = all_used(lists->pending, "pending.json", why);
    return all_used(lists->differences, "differences.json", why) && good;
}
