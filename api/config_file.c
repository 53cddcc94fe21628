/* SPDX-License-Identifier: Apache-2.0 */
/* config_file.c: see config_file.h. */
#include "api/config_file.h"

#include "api/cpu_template_json.h"
#include "api/logger.h"
#include "api/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The bodies of an array; malloc'ed. */
struct list {
    void *item;
    size_t count;
};

struct config_file {
    struct list drives;     /* struct drive_body */
    struct list interfaces; /* struct net_config */
    struct list pmem;       /* struct pmem_config */
    struct boot_source boot_source;
    struct machine_body machine;
    struct logger_body logger;
    struct metrics_body metrics;
    struct vsock_config vsock;
    struct mmds_config mmds;
    struct balloon_config balloon;
    struct hotplug_config hotplug;
    struct rng_config entropy;
    struct serial_config serial;
    struct cpu_template cpu_template;
    char *cpu_template_path; /* NULL = inline or none */
    bool has_machine, has_logger, has_metrics, has_cpu_template;
    bool has_vsock, has_mmds, has_balloon, has_entropy, has_hotplug, has_serial;
};

/* ---- members ---- */

/* Appends a copy of `defaults` and returns it; NULL = out of memory. */
static void *append(struct list *list, const void *defaults, size_t size)
{
    char *more = reallocarray(list->item, list->count + 1, size);

    if (!more)
        return NULL;
    list->item = more;
    return memcpy(more + size * list->count++, defaults, size);
}

/* An array of what `schema` reads into a struct of `size` bytes that begins as `defaults`. */
static int read_list(struct json_cursor *c, struct list *list, const struct schema *schema,
                     const void *defaults, size_t size)
{
    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0) {
        void *item = append(list, defaults, size);

        if (!item) {
            json_fail(c, "out of memory");
            break;
        }
        if (schema_read(c, schema, item))
            break;
    }
    return json_leave(c);
}

static int read_drives(struct json_cursor *c, void *member)
{
    static const struct drive_body defaults = {.config.engine = BLK_ENGINE_SYNC};

    return read_list(c, member, &drive_schema, &defaults, sizeof(defaults));
}

static int read_interfaces(struct json_cursor *c, void *member)
{
    static const struct net_config defaults;

    return read_list(c, member, &net_schema, &defaults, sizeof(defaults));
}

static int read_pmem(struct json_cursor *c, void *member)
{
    static const struct pmem_config defaults;

    return read_list(c, member, &pmem_schema, &defaults, sizeof(defaults));
}

/* The template itself, or the path of a file that holds it. */
static int read_cpu_config(struct json_cursor *c, void *member)
{
    struct config_file *file = container_of(member, struct config_file, cpu_template);

    if (json_peek(c) != JSON_KIND_STRING)
        return schema_read(c, &cpu_template_schema, member);
    return schema_read_string(c, "path string", &file->cpu_template_path);
}

#define SECTION(name, of_schema, member, flag)                                                     \
    {                                                                                              \
        name, SCHEMA_OBJECT, SCHEMA_NULLABLE, SCHEMA_AT_GIVEN(struct config_file, member, flag),   \
            .object = &(of_schema)                                                                 \
    }

static const struct schema_member config_file_members[] = {
    SECTION("balloon", balloon_schema, balloon, has_balloon),
    {"drives", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct config_file, drives),
     .read = read_drives},
    {"boot-source", SCHEMA_OBJECT, SCHEMA_REQUIRED, SCHEMA_AT(struct config_file, boot_source),
     .object = &boot_source_schema},
    {"cpu-config", SCHEMA_CUSTOM, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct config_file, cpu_template, has_cpu_template), .read = read_cpu_config},
    SECTION("logger", logger_schema, logger, has_logger),
    SECTION("machine-config", machine_put_schema, machine, has_machine),
    SECTION("metrics", metrics_schema, metrics, has_metrics),
    SECTION("mmds-config", mmds_config_schema, mmds, has_mmds),
    {"network-interfaces", SCHEMA_CUSTOM, SCHEMA_TAIL, SCHEMA_AT(struct config_file, interfaces),
     .read = read_interfaces},
    SECTION("vsock", vsock_schema, vsock, has_vsock),
    SECTION("entropy", entropy_schema, entropy, has_entropy),
    {"pmem", SCHEMA_CUSTOM, SCHEMA_TAIL, SCHEMA_AT(struct config_file, pmem), .read = read_pmem},
    SECTION("serial", serial_schema, serial, has_serial),
    SECTION("memory-hotplug", hotplug_schema, hotplug, has_hotplug),
};
static const struct schema config_file_schema = {"struct VmmConfig", config_file_members,
                                                 ARRAY_SIZE(config_file_members), true};

/* ---- files ---- */

/* As much as the file holds, up to a limit: its size is not asked, it may be a pipe. */
static int read_all(int fd, char **text, size_t *len)
{
    size_t room = 0;

    *text = NULL;
    *len = 0;
    for (;;) {
        ssize_t n;

        if (room - *len < 2) {
            char *bigger = realloc(*text, room = MAX(2 * room, (size_t)(16 * KIB)));

            if (!bigger)
                return -ENOMEM;
            *text = bigger;
        }
        n = read(fd, *text + *len, room - *len - 1);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        *len += n < 0 ? 0 : (size_t)n;
        if (*len > CONFIG_FILE_MAX)
            return -EFBIG;
    }
    (*text)[*len] = '\0';
    return 0;
}

int config_file_read(const char *path, char **text, size_t *len, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int ret = fd < 0 ? -errno : read_all(fd, text, len);

    if (fd >= 0)
        close(fd);
    if (ret) {
        if (fd >= 0)
            free(*text);
        return err_set(e, ret, "Cannot read %s: %s", path, err_os(ret));
    }
    return 0;
}

/* ---- applying ---- */

/* The words of the cursor's error, behind the name of the file. */
static int json_problem(const struct json_cursor *c, const char *path, struct err *e)
{
    char *why = json_error(c);

    err_set(e, -EINVAL, "%s: %s", path, why ? why : "out of memory");
    free(why);
    return -EINVAL;
}

static int read_cpu_template_file(struct config_file *file, struct err *e)
{
    struct json_cursor c;
    char *text;
    size_t len;
    int ret;

    if (!file->cpu_template_path)
        return 0;
    ret = config_file_read(file->cpu_template_path, &text, &len, e);
    if (ret)
        return ret;
    json_open(&c, text, len);
    if (schema_read(&c, &cpu_template_schema, &file->cpu_template) || json_finish(&c))
        ret = json_problem(&c, file->cpu_template_path, e);
    json_close(&c);
    free(text);
    return ret;
}

static int apply_host(struct api *api, struct config_file *file, struct err *e)
{
    const struct metrics_body *m = &file->metrics;

    if (file->has_logger && logger_update(&file->logger, e))
        return err_prefix(e, "Logger error: ");
    if (file->has_metrics && metrics_open(m->path, m->emit_id ? api->id : NULL, m->properties, e))
        return err_prefix(e, "Metrics error: ");
    return 0;
}

static int apply_machine(struct api *api, struct config_file *file, struct err *e)
{
    if (file->has_machine && machine_set_config(api->machine, &file->machine.config, e))
        return err_prefix(e, "Machine config error: ");
    if (file->has_cpu_template && read_cpu_template_file(file, e))
        return err_prefix(e, "Configure CPU error: ");
    if (file->has_cpu_template && api_set_cpu_template(api, &file->cpu_template, e))
        return err_prefix(e, "Configure CPU error: ");
    if (machine_set_boot_source(api->machine, &file->boot_source, e))
        return err_prefix(e, "Boot source error: ");
    return 0;
}

static int apply_lists(struct api *api, const struct config_file *file, struct err *e)
{
    const struct drive_body *drive = file->drives.item;
    const struct net_config *net = file->interfaces.item;

    for (size_t i = 0; i < file->drives.count; i++) {
        if (api_set_drive(api, &drive[i], e))
            return err_prefix(e, "Drive config error: ");
    }
    for (size_t i = 0; i < file->interfaces.count; i++) {
        if (devices_set_net(machine_devices(api->machine), &net[i], e))
            return err_prefix(e, "Network config error: ");
    }
    return 0;
}

static int apply_memory_devices(struct api *api, const struct config_file *file, struct err *e)
{
    const struct pmem_config *pmem = file->pmem.item;

    for (size_t i = 0; i < file->pmem.count; i++) {
        if (devices_set_pmem(machine_devices(api->machine), &pmem[i], e))
            return err_prefix(e, "Pmem config error: ");
    }
    if (file->has_hotplug && devices_set_hotplug(machine_devices(api->machine), &file->hotplug, e))
        return err_prefix(e, "Memory hotplug config error: ");
    return 0;
}

static int apply_single_devices(struct api *api, const struct config_file *file, struct err *e)
{
    struct devices *devices = machine_devices(api->machine);

    if (file->has_vsock && devices_set_vsock(devices, &file->vsock, e))
        return err_prefix(e, "Vsock config error: ");
    if (file->has_balloon && machine_set_balloon(api->machine, &file->balloon, e))
        return err_prefix(e, "Balloon config error: ");
    if (file->has_mmds && api_set_mmds(api, &file->mmds, e))
        return err_prefix(e, "MMMDS config error: ");
    if (file->has_entropy && devices_set_entropy(devices, &file->entropy, e))
        return err_prefix(e, "Entropy config error: ");
    if (file->has_serial && api_set_serial(api, &file->serial, e))
        return err_prefix(e, "Serial config error: ");
    return 0;
}

static int apply(struct api *api, struct config_file *file, struct err *e)
{
    int ret = apply_host(api, file, e);

    if (ret == 0)
        ret = apply_machine(api, file, e);
    if (ret == 0)
        ret = apply_lists(api, file, e);
    if (ret == 0)
        ret = apply_single_devices(api, file, e);
    if (ret == 0)
        ret = apply_memory_devices(api, file, e);
    if (ret == 0)
        ret = api_start_machine(api, e);
    return ret;
}

static int read_and_apply(struct api *api, const char *path, const char *text, size_t len,
                          struct err *e)
{
    struct config_file file = {.machine.config = machine_config_defaults,
                               .hotplug = hotplug_config_defaults,
                               .logger.level = LOG_INFO};
    struct json_cursor c;
    int ret = 0;

    json_open(&c, text, len);
    if (schema_read(&c, &config_file_schema, &file) || json_finish(&c))
        ret = json_problem(&c, path, e);
    else if (apply(api, &file, e))
        ret = err_prefix(e, "%s: ", path);
    json_close(&c);
    free(file.drives.item);
    free(file.interfaces.item);
    free(file.pmem.item);
    free(file.mmds.interface);
    free(file.metrics.properties);
    cpu_template_release(&file.cpu_template);
    return ret;
}

int config_file_run(struct api *api, const char *path, const char *text, size_t len, struct err *e)
{
    int ret = read_and_apply(api, path, text, len, e);

    if (ret == 0)
        log_info("Successfully started microvm that was configured from one single json");
    return ret;
}
