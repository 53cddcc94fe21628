/* SPDX-License-Identifier: Apache-2.0 */
/* inspect_print.c: what inspect_json.c has found, in lines for a person. */
#include "api/inspect_json.h"
#include "vmm/base/util.h"

#include <string.h>

#define MIB_OF(bytes) ((double)(bytes) / (1024 * 1024))

static long long number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value ? value : "-";
}

static bool all_zero(const json_t *array)
{
    size_t i;
    const json_t *value;

    json_array_foreach (array, i, value) {
        if (json_integer_value(value) != 0)
            return false;
    }
    return true;
}

/* Fields that are not 0, which is what most of them are. */
static void print_fields(FILE *out, const json_t *fields)
{
    const char *name;
    const json_t *value, *element;
    size_t i;

    json_object_foreach ((json_t *)(uintptr_t)fields, name, value) {
        if (json_is_integer(value) && json_integer_value(value) != 0)
            fprintf(out, " %s=%lld", name, (long long)json_integer_value(value));
        if (!json_is_array(value) || all_zero(value))
            continue;
        fprintf(out, " %s=", name);
        json_array_foreach (value, i, element)
            fprintf(out, "%s%lld", i ? "," : "", (long long)json_integer_value(element));
    }
}

/* A path may hold what a terminal would obey. */
static void print_text(FILE *out, const char *name, const json_t *string)
{
    const char *value = json_string_value(string);

    if (!value)
        return;
    fprintf(out, " %s=\"", name);
    for (; *value; value++) {
        if ((unsigned char)*value < ' ' || *value == 0x7f)
            fprintf(out, "\\x%02x", (unsigned char)*value);
        else
            fputc(*value, out);
    }
    fputc('"', out);
}

/* Without the kind before each: `drive-path` of a drive is its path. */
static void print_texts(FILE *out, const json_t *texts, const char *kind)
{
    size_t len = strlen(kind), i;
    const char *name;
    const json_t *value, *element;

    json_object_foreach ((json_t *)(uintptr_t)texts, name, value) {
        const char *rest =
            strncmp(name, kind, len) == 0 && name[len] == '-' ? name + len + 1 : name;

        print_text(out, rest, value);
        json_array_foreach (value, i, element)
            print_text(out, rest, element);
    }
}

static void print_devices(FILE *out, const json_t *devices)
{
    const json_t *device;
    size_t i;

    json_array_foreach (devices, i, device) {
        const char *kind = text(device, "kind");

        fprintf(out, "  %-8s %lld ", kind, number(device, "index"));
        print_texts(out, json_object_get(device, "texts"), kind);
        print_fields(out, json_object_get(device, "fields"));
        fputc('\n', out);
    }
}

static void print_memory(FILE *out, const json_t *memory)
{
    const json_t *region;
    size_t i;

    fprintf(out, "Memory     %.0f MiB", MIB_OF(number(memory, "bytes")));
    if (json_object_get(memory, "plugged_bytes"))
        fprintf(out, ", %.0f MiB plugged", MIB_OF(number(memory, "plugged_bytes")));
    if (json_is_true(json_object_get(memory, "sums")))
        fprintf(out, ", with the sums of its pages");
    fputc('\n', out);
    json_array_foreach (json_object_get(memory, "regions"), i, region)
        fprintf(out, "  at 0x%llx %.0f MiB, at byte %lld of the memory file\n",
                (unsigned long long)number(region, "gpa"), MIB_OF(number(region, "size")),
                number(region, "offset"));
}

static void print_sections(FILE *out, const json_t *sections)
{
    const json_t *section;
    size_t i;

    fprintf(out, "Sections\n  %8s %8s %-15s %5s %7s %s\n", "at", "bytes", "name", "index",
            "version", "fingerprint");
    json_array_foreach (sections, i, section)
        fprintf(out, "  %8lld %8lld %-15s %5lld %7lld %s\n", number(section, "at"),
                number(section, "bytes"), text(section, "name"), number(section, "index"),
                number(section, "version"),
                number(section, "version") ? text(section, "fingerprint") : "");
}

static void print_contents(FILE *out, const json_t *snapshot)
{
    fprintf(out, "Saved      %s\n", text(snapshot, "saved_at"));
    fprintf(out, "Machine   ");
    print_fields(out, json_object_get(snapshot, "machine"));
    fprintf(out, "\nKernel    ");
    print_texts(out, json_object_get(snapshot, "texts"), "");
    fputc('\n', out);
    print_memory(out, json_object_get(snapshot, "memory"));
    fprintf(out, "Devices\n");
    print_devices(out, json_object_get(snapshot, "devices"));
    print_sections(out, json_object_get(snapshot, "sections"));
}

void inspect_print(FILE *out, const json_t *snapshot)
{
    const json_t *mem = json_object_get(snapshot, "memory_file"), *fault;
    const json_t *faults = json_object_get(snapshot, "faults");
    size_t i;

    fprintf(out, "State file %s: %lld bytes, format %s, %s\n", text(snapshot, "state_file"),
            number(snapshot, "bytes"), text(snapshot, "format"), text(snapshot, "architecture"));
    if (json_array_size(json_object_get(snapshot, "sections")) > 0)
        print_contents(out, snapshot);
    if (mem)
        fprintf(out, "Memory file %s: %lld bytes, %.1f MiB of them data\n", text(mem, "path"),
                number(mem, "bytes"), MIB_OF(number(mem, "bytes_of_data")));
    json_array_foreach (faults, i, fault)
        fprintf(out, "Wrong: %s\n", json_string_value(fault));
    if (json_array_size(faults) == 0)
        fprintf(out, "Nothing is wrong.\n");
}
