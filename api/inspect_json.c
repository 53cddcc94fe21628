/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_json.c: see inspect_json.h. */
#include "api/inspect_json.h"

#include "vmm/inspect.h"

#include <string.h>
#include <time.h>

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* What a file says, or is called, may be anything. */
static json_t *string_of(const char *text)
{
    json_t *string = json_string(text);

    return string ? string : json_string("(not UTF-8)");
}

/* ---- fields of a section --------------------------------------------------------------------- */

static uint64_t number_at(const uint8_t *at, uint16_t size)
{
    uint64_t value = 0;

    memcpy(&value, at, size);
    return value;
}

static bool is_padding(const struct state_field *field)
{
    const char *dot = strrchr(field->name, '.');

    return strncmp(dot ? dot + 1 : field->name, "pad", 3) == 0;
}

static json_t *value_of(const struct state_field *field, const uint8_t *at)
{
    json_t *array;

    if (field->count == 1)
        return number(number_at(at, field->size));
    array = json_array();
    for (uint32_t i = 0; i < field->count; i++)
        json_array_append_new(array, number(number_at(at + (size_t)i * field->size, field->size)));
    return array;
}

/* One struct, by the names of its table. */
static json_t *fields_of(const struct state_desc *desc, uint32_t version, const uint8_t *at)
{
    json_t *object = json_object();

    for (uint32_t i = 0; i < desc->count; i++) {
        const struct state_field *field = &desc->field[i];

        if (field->since > version)
            continue;
        if (!is_padding(field))
            json_object_set_new(object, field->name, value_of(field, at));
        at += (size_t)field->size * field->count;
    }
    return object;
}

/* Whether a section is exactly one struct, of that name if one is given. */
static bool is_one(const struct inspect_section *section, const char *name)
{
    return section->desc && section->len == state_size(section->desc, section->version) &&
           (!name || strcmp(section->name, name) == 0);
}

/* ---- sections -------------------------------------------------------------------------------- */

static void add_section(json_t *snapshot, const struct inspect_section *section)
{
    json_t *print = json_sprintf("%08x", section->fingerprint);

    json_array_append_new(json_object_get(snapshot, "sections"),
                          json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "name", section->name,
                                    "index", number(section->index), "version",
                                    number(section->version), "fingerprint", print, "bytes",
                                    number(section->len), "at", number(section->at)));
}

/* Texts are the sections without a table that hold one; null = not set. NULL = it is no text. */
static json_t *text_of(const struct inspect_section *section)
{
    const char *text = section->data;

    if (section->version != 0)
        return NULL;
    if (section->len == 0)
        return json_null();
    if (memchr(text, 0, section->len) != text + section->len - 1)
        return NULL;
    return string_of(text);
}

/* Of several texts of one name, as of layers, a list. */
static void add_text(json_t *texts, const char *name, json_t *text)
{
    json_t *before = json_object_get(texts, name);

    if (!before)
        json_object_set(texts, name, text);
    else if (json_is_array(before))
        json_array_append(before, text);
    else
        json_object_set_new(texts, name, json_pack("[O,O]", before, text));
}

/* The sections that say what a device is: one with a table begins a device, texts follow it. */
static void add_to_devices(json_t *snapshot, const struct inspect_section *section)
{
    json_t *devices = json_object_get(snapshot, "devices");
    json_t *last = json_array_get(devices, json_array_size(devices) - 1);
    json_t *text = text_of(section);

    if (is_one(section, NULL))
        json_array_append_new(devices,
                              json_pack("{s:s, s:o, s:{}, s:o}", "kind", section->name, "index",
                                        number(section->index), "texts", "fields",
                                        fields_of(section->desc, section->version, section->data)));
    else if (text && last)
        add_text(json_object_get(last, "texts"), section->name, text);
    json_decref(text);
}

static void add_regions(json_t *snapshot, const struct inspect_section *section)
{
    json_t *regions = json_object_get(json_object_get(snapshot, "memory"), "regions");
    uint32_t size = state_size(section->desc, section->version);
    const uint8_t *at = section->data;

    for (size_t end = 0; end < section->len; end += size, at += size)
        json_array_append_new(regions, fields_of(section->desc, section->version, at));
}

static void add_plugged(json_t *snapshot, const struct inspect_section *section)
{
    json_t *fields = fields_of(section->desc, section->version, section->data);

    json_object_set(json_object_get(snapshot, "memory"), "plugged_bytes",
                    json_object_get(fields, "plugged_size"));
    json_decref(fields);
}

static void add_to_machine(json_t *snapshot, const struct inspect_section *section)
{
    json_t *text = text_of(section);

    if (section->desc && strcmp(section->name, "memory") == 0)
        add_regions(snapshot, section);
    else if (is_one(section, "machine"))
        json_object_set_new(snapshot, "machine",
                            fields_of(section->desc, section->version, section->data));
    if (text)
        json_object_set_new(json_object_get(snapshot, "texts"), section->name, text);
}

/* ---- the whole ------------------------------------------------------------------------------- */

struct inspecting {
    json_t *snapshot;
    /* Where in the file the walk is: what the machine is, what its devices are, what they have
     * become. */
    enum { MACHINE, DEVICES, STATES } part;
};

static void on_section(void *owner, const struct inspect_section *section)
{
    struct inspecting *i = owner;

    add_section(i->snapshot, section);
    if (strcmp(section->name, "devices") == 0) {
        i->part = DEVICES;
        return;
    }
    if (strcmp(section->name, "serial") == 0)
        i->part = STATES;
    if (i->part == MACHINE)
        add_to_machine(i->snapshot, section);
    else if (i->part == DEVICES)
        add_to_devices(i->snapshot, section);
    else if (is_one(section, "virtio-mem"))
        add_plugged(i->snapshot, section);
}

static void on_fault(void *owner, const char *sentence)
{
    struct inspecting *i = owner;

    json_array_append_new(json_object_get(i->snapshot, "faults"), string_of(sentence));
}

static json_t *time_of(uint64_t seconds)
{
    time_t time = (time_t)seconds;
    char text[40];
    struct tm tm;

    if (seconds == 0 || !gmtime_r(&time, &tm) || strftime(text, sizeof(text), "%FT%TZ", &tm) == 0)
        return json_null();
    return json_string(text);
}

static void add_summary(json_t *snapshot, const struct inspect_summary *summary,
                        const char *mem_path)
{
    json_object_set_new(snapshot, "bytes", number(summary->len));
    json_object_set_new(snapshot, "saved_at", time_of(summary->saved_s));
    json_object_set_new(json_object_get(snapshot, "memory"), "bytes", number(summary->mem_size));
    json_object_set_new(json_object_get(snapshot, "memory"), "sums",
                        json_boolean(summary->has_sums));
    if (summary->identified) {
        json_object_set_new(
            snapshot, "format",
            json_sprintf("%u.%u.%u", summary->major, summary->minor, summary->patch));
        json_object_set_new(snapshot, "architecture", json_string(summary->architecture));
    }
    if (summary->mem_is_file)
        json_object_set_new(snapshot, "memory_file",
                            json_pack("{s:o, s:o, s:o}", "path", string_of(mem_path), "bytes",
                                      number(summary->mem_len), "bytes_of_data",
                                      number(summary->mem_data)));
}

json_t *inspect_snapshot(const char *state_path, const char *mem_path)
{
    struct inspecting i = {
        .snapshot = json_pack("{s:o, s:n, s:n, s:n, s:n, s:n, s:{}, s:{s:[]}, s:[], s:[], s:[]}",
                              "state_file", string_of(state_path), "bytes", "format",
                              "architecture", "saved_at", "machine", "texts", "memory", "regions",
                              "devices", "sections", "faults"),
    };
    const struct inspect_visitor visitor = {.section = on_section, .fault = on_fault, .owner = &i};
    struct inspect_summary summary;

    inspect_files(state_path, mem_path, &summary, &visitor);
    add_summary(i.snapshot, &summary, mem_path);
    return i.snapshot;
}
