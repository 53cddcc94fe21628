/* SPDX-License-Identifier: Apache-2.0 */
/* bodies.c: the tables of members. Order, names and rules are Firecracker's. */
#include "api/body_tables.h"
#include "api/json_writer.h"

#include <stdlib.h>
#include <string.h>

/* ---- /machine-config ---- */

const struct machine_config machine_config_defaults = MACHINE_CONFIG_DEFAULTS;

const char *const huge_pages_names[] = {"None", "Transparent", "2M"};
_Static_assert(MEM_PAGES_TRANSPARENT == 1 && MEM_PAGES_HUGETLB_2M == 2, "numbered as named");

static const char *const template_names[] = {"C3", "T2", "T2S", "None", "T2CL", "T2A"};
static const int template_values[] = {
    CPU_TEMPLATE_C3,   CPU_TEMPLATE_T2,   CPU_TEMPLATE_T2S,
    CPU_TEMPLATE_NONE, CPU_TEMPLATE_T2CL, CPU_TEMPLATE_T2A,
};

const char *cpu_template_name(enum cpu_template_name name)
{
    for (size_t i = 0; i < ARRAY_SIZE(template_names); i++) {
        if (template_values[i] == (int)name)
            return template_names[i];
    }
    return "V1N1";
}

/* PUT and PATCH differ in what is required, and in whether null stands for absence. */
#define MACHINE_MEMBERS(required, optional, optional_template)                                     \
    {                                                                                              \
        {"vcpu_count", SCHEMA_U8, required,                                                        \
         SCHEMA_AT_GIVEN(struct machine_body, config.vcpu_count, has_vcpu_count)},                 \
            {"mem_size_mib", SCHEMA_USIZE, required,                                               \
             SCHEMA_AT_GIVEN(struct machine_body, config.mem_size_mib, has_mem_size)},             \
            {"smt", SCHEMA_BOOL, optional,                                                         \
             SCHEMA_AT_GIVEN(struct machine_body, config.smt, has_smt)},                           \
            {"cpu_template", SCHEMA_NAMES, optional_template,                                      \
             SCHEMA_AT_GIVEN(struct machine_body, config.cpu_template, has_template),              \
             .names = NAMES(template_names, template_values)},                                     \
            {"track_dirty_pages", SCHEMA_BOOL, optional,                                           \
             SCHEMA_AT_GIVEN(struct machine_body, config.track_dirty_pages, has_track_dirty)},     \
            {"huge_pages", SCHEMA_NAMES, optional,                                                 \
             SCHEMA_AT_GIVEN(struct machine_body, config.huge_pages, has_huge_pages),              \
             .names = NAMES(huge_pages_names, NULL)},                                              \
    }

static const struct schema_member machine_put_members[] =
    MACHINE_MEMBERS(SCHEMA_REQUIRED, SCHEMA_TAIL, SCHEMA_TAIL | SCHEMA_NULLABLE);
const struct schema machine_put_schema =
    SCHEMA("struct MachineConfig", machine_put_members, .lets_unknown = false);

static const struct schema_member machine_patch_members[] = MACHINE_MEMBERS(
    SCHEMA_TAIL | SCHEMA_NULLABLE, SCHEMA_TAIL | SCHEMA_NULLABLE, SCHEMA_TAIL | SCHEMA_NULLABLE);
const struct schema machine_patch_schema =
    SCHEMA("struct MachineConfigUpdate", machine_patch_members, .lets_unknown = false);

/* ---- /boot-source ---- */

static const struct schema_member boot_source_members[] = {
    {"kernel_image_path", SCHEMA_STRING, SCHEMA_REQUIRED,
     SCHEMA_AT(struct boot_source, kernel_path)},
    {"initrd_path", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct boot_source, initrd_path)},
    {"boot_args", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct boot_source, boot_args)},
};
const struct schema boot_source_schema =
    SCHEMA("struct BootSourceConfig", boot_source_members, .lets_unknown = false);

/* ---- /actions, /vm ---- */

static const char *const action_names[] = {"FlushMetrics", "InstanceStart", "SendCtrlAltDel"};
static const struct schema_member action_members[] = {
    {"action_type", SCHEMA_NAMES, SCHEMA_REQUIRED, SCHEMA_AT(struct action_body, action),
     .names = NAMES(action_names, NULL)},
};
const struct schema action_schema =
    SCHEMA("struct ActionBody", action_members, .lets_unknown = false);

static const char *const wanted_state_names[] = {"Paused", "Resumed"};
static const struct schema_member vm_members[] = {
    {"state", SCHEMA_NAMES, SCHEMA_REQUIRED, SCHEMA_AT(struct vm_body, state),
     .names = NAMES(wanted_state_names, NULL)},
};
const struct schema vm_schema = SCHEMA("struct Vm", vm_members, .lets_unknown = false);

/* ---- /logger, /metrics ---- */

static int read_level(struct json_cursor *c, void *member)
{
    struct json_string name;

    if (json_read_string(c, "a string", &name))
        return -1;
    if (strlen(name.at) != name.len || log_level_parse(name.at, member))
        return json_fail(c, "Invalid LevelFilter");
    return 0;
}

static const struct schema_member logger_members[] = {
    {"log_path", SCHEMA_PATH, SCHEMA_NULLABLE, SCHEMA_AT(struct logger_body, log_path)},
    {"level", SCHEMA_CUSTOM, SCHEMA_NULLABLE, SCHEMA_AT_GIVEN(struct logger_body, level, has_level),
     .read = read_level},
    {"show_level", SCHEMA_BOOL, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct logger_body, show_level, has_show_level)},
    {"show_log_origin", SCHEMA_BOOL, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct logger_body, show_log_origin, has_show_log_origin)},
    {"module", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct logger_body, module)},
};
const struct schema logger_schema =
    SCHEMA("struct LoggerConfig", logger_members, .lets_unknown = false);

/* {"name":"value",...}: printed back at once, since it is only ever shown again. */
static int read_properties(struct json_cursor *c, void *member)
{
    struct json_string key;
    struct json_writer w;
    char *value;
    int ret;

    if (json_enter_object(c, "a map") < 0)
        return -1;
    json_writer_open(&w);
    json_write_begin(&w, '{');
    while (json_next_key(c, &key) > 0) {
        if (strlen(key.at) != key.len)
            json_fail_here(c, "invalid value: a string with a NUL character, expected a name");
        if (schema_read_string(c, "a string", &value))
            break;
        json_write_key(&w, key.at);
        json_write_string(&w, value);
    }
    json_write_end(&w, '}');
    ret = json_leave(c);
    free(*(char **)member);
    *(char **)member = json_writer_finish(&w, NULL);
    return ret;
}

static const struct schema_member metrics_members[] = {
    {"metrics_path", SCHEMA_PATH, SCHEMA_REQUIRED, SCHEMA_AT(struct metrics_body, path)},
    {"emit_id", SCHEMA_BOOL, SCHEMA_TAIL, SCHEMA_AT(struct metrics_body, emit_id)},
    {"properties", SCHEMA_CUSTOM, SCHEMA_TAIL | SCHEMA_NULLABLE,
     SCHEMA_AT(struct metrics_body, properties), .read = read_properties},
};
const struct schema metrics_schema =
    SCHEMA("struct MetricsConfig", metrics_members, .lets_unknown = true);
