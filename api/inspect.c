/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c: from the files of a snapshot to the object that inspect.h describes. */
#include "api/inspect.h"

#include "vmm/saved_machine.h"
#include "vmm/saved_tables.h"
#include "vmm/snapshot/mem_map.h"
#include "vmm/snapshot/merge_mark.h"
#include "vmm/snapshot/state_file.h"
#include "vmm/snapshot/vm_state.h"
#include "vmm/snapshot/whole_file.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <sys/stat.h>

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static void add_fault(json_t *snapshot, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add_fault(json_t *snapshot, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    json_array_append_new(json_object_get(snapshot, "faults"), json_vsprintf(format, args));
    va_end(args);
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

/* Whether a section is exactly one struct. */
static bool is_one(const struct state_section *section, const struct state_desc *desc)
{
    return desc && section->len == state_size(desc, section->version);
}

/* What of a struct is at `name`; 0 if that is not there. */
static uint64_t field_of(const json_t *fields, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(fields, name));
}

/* The table by which a section can be read; NULL = there is none, and a fault if there should be.
 */
static const struct state_desc *table_of(json_t *snapshot, const struct state_section *section)
{
    const struct state_desc *desc = saved_table(section->name);

    if (section->version == 0)
        return NULL;
    if (!desc || section->version > desc->version) {
        add_fault(snapshot, "The section %s %u of version %u is not known to this build.",
                  section->name, section->index, section->version);
        return NULL;
    }
    if (section->fingerprint != state_fingerprint(desc, section->version)) {
        add_fault(snapshot, "The section %s %u has other fields than version %u has here.",
                  section->name, section->index, section->version);
        return NULL;
    }
    if (section->len % state_size(desc, section->version) == 0)
        return desc;
    add_fault(snapshot, "The section %s %u has %u bytes, no multiple of %u.", section->name,
              section->index, section->len, state_size(desc, section->version));
    return NULL;
}

/* ---- sections -------------------------------------------------------------------------------- */

static void add_section(json_t *snapshot, const struct state_section *section, size_t at)
{
    json_t *print = json_sprintf("%08x", section->fingerprint);

    json_array_append_new(json_object_get(snapshot, "sections"),
                          json_pack("{s:s, s:i, s:i, s:o, s:i, s:i}", "name", section->name,
                                    "index", (int)section->index, "version", (int)section->version,
                                    "fingerprint", print, "bytes", (int)section->len, "at",
                                    (int)at));
}

/* Texts are the sections without a table that hold one; null = not set. */
static json_t *text_of(const struct state_section *section)
{
    const char *text = section->data;
    json_t *string;

    if (section->version != 0)
        return NULL;
    if (section->len == 0)
        return json_null();
    if (memchr(text, 0, section->len) != text + section->len - 1)
        return NULL;
    string = json_string(text);
    return string ? string : json_string("(not UTF-8)");
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

/* The sections that say what a device is, from `devices` to `serial`: one with a table begins a
 * device, texts follow it. */
static void add_to_devices(json_t *snapshot, const struct state_section *section,
                           const struct state_desc *desc)
{
    json_t *devices = json_object_get(snapshot, "devices"), *last;
    json_t *text = text_of(section);

    if (is_one(section, desc)) {
        json_array_append_new(devices, json_pack("{s:s, s:i, s:{}, s:o}", "kind", section->name,
                                                 "index", (int)section->index, "texts", "fields",
                                                 fields_of(desc, section->version, section->data)));
        return;
    }
    last = json_array_get(devices, json_array_size(devices) - 1);
    if (text && last)
        add_text(json_object_get(last, "texts"), section->name, text);
    json_decref(text);
}

/* The sum of the bits that say which blocks are plugged is its own field. */
static void add_state(json_t *snapshot, const struct state_section *section,
                      const struct state_desc *desc)
{
    json_t *fields = fields_of(desc, section->version, section->data);
    struct timespec saved;
    struct tm tm;
    char text[40];

    if (strcmp(section->name, "virtio-mem") == 0)
        json_object_set_new(json_object_get(snapshot, "memory"), "plugged_bytes",
                            number(field_of(fields, "plugged_size")));
    if (desc == &vm_clock_desc && field_of(fields, "flags") & KVM_CLOCK_REALTIME) {
        saved.tv_sec = (time_t)(field_of(fields, "realtime") / 1000000000);
        if (gmtime_r(&saved.tv_sec, &tm) && strftime(text, sizeof(text), "%FT%TZ", &tm) > 0)
            json_object_set_new(snapshot, "saved_at", json_string(text));
    }
    json_decref(fields);
}

static void add_memory(json_t *snapshot, const struct state_section *section)
{
    json_t *regions = json_object_get(json_object_get(snapshot, "memory"), "regions");
    uint32_t size = state_size(&mem_map_desc, section->version);

    for (uint32_t at = 0; at < section->len; at += size)
        json_array_append_new(regions, fields_of(&mem_map_desc, section->version,
                                                 (const uint8_t *)section->data + at));
}

/* Where in the file the walk is. */
enum part { MACHINE, DEVICES, STATES };

static enum part look_at(json_t *snapshot, const struct state_section *section, enum part part)
{
    const struct state_desc *desc = table_of(snapshot, section);
    json_t *text = NULL;

    if (desc == &saved_counts_desc)
        return DEVICES;
    if (strcmp(section->name, "serial") == 0)
        part = STATES;
    if (part == DEVICES)
        add_to_devices(snapshot, section, desc);
    else if (desc == &mem_map_desc)
        add_memory(snapshot, section);
    else if (desc == &saved_machine_desc && is_one(section, desc))
        json_object_set_new(snapshot, "machine", fields_of(desc, section->version, section->data));
    else if (part == STATES && is_one(section, desc))
        add_state(snapshot, section, desc);
    else if (part == MACHINE)
        text = text_of(section);
    if (text)
        json_object_set_new(json_object_get(snapshot, "texts"), section->name, text);
    return part;
}

/* ---- the state file -------------------------------------------------------------------------- */

static const char *architecture_name(uint16_t number)
{
    if (number == EM_X86_64)
        return "x86_64";
    return number == EM_AARCH64 ? "aarch64" : "unknown";
}

/* The map as a load reads it, for the size of the memory file; 0 = there is none. */
static uint64_t memory_size(json_t *snapshot, struct state_reader r)
{
    struct state_section section;
    struct mem_map map;
    struct err e;

    while (state_reader_peek(&r, &section) && strcmp(section.name, mem_map_desc.name) != 0)
        state_reader_skip(&r);
    if (mem_map_read(&map, &r, &e)) {
        add_fault(snapshot, "%s", e.text);
        return 0;
    }
    return mem_map_size(&map);
}

static uint64_t look_at_state(json_t *snapshot, const uint8_t *bytes, size_t len)
{
    struct state_identity identity;
    struct state_section section;
    enum part part = MACHINE;
    struct state_reader r;
    uint64_t size;
    struct err e;

    if (state_file_identify(&identity, bytes, len, &e)) {
        add_fault(snapshot, "%s", e.text);
        return 0;
    }
    json_object_set_new(snapshot, "format",
                        json_sprintf("%u.%u.%u", identity.major, identity.minor, identity.patch));
    json_object_set_new(snapshot, "architecture",
                        json_string(architecture_name(identity.architecture)));
    if (state_reader_begin(&r, bytes, len, &e)) {
        add_fault(snapshot, "%s", e.text);
        return 0;
    }
    size = memory_size(snapshot, r);
    json_object_set_new(json_object_get(snapshot, "memory"), "bytes", number(size));
    for (; state_reader_peek(&r, &section); state_reader_skip(&r)) {
        add_section(snapshot, &section, r.at);
        part = look_at(snapshot, &section, part);
    }
    return size;
}

/* ---- the memory file ------------------------------------------------------------------------- */

static void look_at_memory(json_t *snapshot, const char *path, uint64_t wanted)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    struct err e;

    if (fd < 0 || fstat(fd, &st)) {
        add_fault(snapshot, "%s: %s.", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        add_fault(snapshot, "%s: The memory file is not a regular file.", path);
    } else {
        json_object_set_new(snapshot, "memory_file",
                            json_pack("{s:s, s:o, s:o}", "path", path, "bytes",
                                      number((uint64_t)st.st_size), "bytes_of_data",
                                      number((uint64_t)st.st_blocks * 512)));
        if (wanted > 0 && (uint64_t)st.st_size != wanted)
            add_fault(snapshot, "%s: The memory file has %lld bytes; the guest has %llu.", path,
                      (long long)st.st_size, (unsigned long long)wanted);
        if (merge_mark_check(path, fd, &e))
            add_fault(snapshot, "%s", e.text);
    }
    if (fd >= 0)
        close(fd);
}

json_t *inspect_snapshot(const char *state_path, const char *mem_path)
{
    json_t *snapshot =
        json_pack("{s:s, s:n, s:n, s:n, s:n, s:n, s:{}, s:{s:[]}, s:[], s:[], s:[]}", "state_file",
                  state_path, "bytes", "format", "architecture", "saved_at", "machine", "texts",
                  "memory", "regions", "devices", "sections", "faults");
    uint64_t size = 0;
    uint8_t *bytes;
    struct err e;
    size_t len;

    if (whole_file_read(state_path, &bytes, &len, &e)) {
        add_fault(snapshot, "%s: %s", state_path, e.text);
    } else {
        json_object_set_new(snapshot, "bytes", number(len));
        size = look_at_state(snapshot, bytes, len);
        free(bytes);
    }
    if (mem_path)
        look_at_memory(snapshot, mem_path, size);
    return snapshot;
}
