/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_bodies.c: the first byte chooses a kind of request body, the rest is its text. Oracles: what
 * a table accepts is JSON; what it refuses has a sentence; what it read lies inside the cursor's
 * memory; reading twice gives the same.
 */
#include "api/api.h"
#include "api/bodies.h"
#include "api/cpu_template_json.h"
#include "vmm/base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* A digit before an e: a number that may be out of range. */
static bool has_exponent(const char *text)
{
    for (const char *at = text; (at = strpbrk(at, "eE")); at++)
        if (at > text && at[-1] >= '0' && at[-1] <= '9')
            return true;
    return false;
}

/*
 * Whether nothing in the text could be wrong inside of strings and numbers alone: a table skips its
 * unknown members without a look at what those stand for, as clients know it.
 */
static bool is_plain(const char *text, size_t len)
{
    return utf8_valid_prefix(text, len, NULL) == len && !strchr(text, '\\') && !has_exponent(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct schema *const schemas[] = {
    &machine_put_schema,  &machine_patch_schema, &boot_source_schema, &drive_schema,
    &drive_patch_schema,  &entropy_schema,       &serial_schema,      &action_schema,
    &vm_schema,           &logger_schema,        &metrics_schema,     &mmds_config_schema,
    &cpu_template_schema, &net_schema,           &net_patch_schema,   &vsock_schema,
    &pmem_schema,         &pmem_patch_schema,    &balloon_schema,     &hinting_schema,
    &hotplug_schema,      &hotplug_patch_schema,
};

static void check_string(const struct json_cursor *c, const char *s)
{
    if (s && (s < c->strings || s + strlen(s) >= c->strings + c->len + 1))
        abort();
}

static void check_strings(const struct json_cursor *c, const struct schema *schema,
                          const union body *body)
{
    if (schema == &boot_source_schema) {
        check_string(c, body->boot_source.kernel_path);
        check_string(c, body->boot_source.initrd_path);
        check_string(c, body->boot_source.boot_args);
    } else if (schema == &drive_schema) {
        check_string(c, body->drive.config.id);
        check_string(c, body->drive.config.path);
        check_string(c, body->drive.config.partuuid);
        check_string(c, body->drive.socket);
    } else if (schema == &net_schema || schema == &net_patch_schema) {
        check_string(c, body->net.id);
        check_string(c, body->net.tap);
    } else if (schema == &vsock_schema) {
        check_string(c, body->vsock.id);
        check_string(c, body->vsock.uds_path);
    } else if (schema == &pmem_schema) {
        check_string(c, body->pmem.id);
        check_string(c, body->pmem.path);
    } else if (schema == &mmds_config_schema) {
        for (size_t i = 0; i < body->mmds_config.n_interfaces; i++)
            check_string(c, body->mmds_config.interface[i]);
    }
}

static void release(const struct schema *schema, union body *body)
{
    if (schema == &cpu_template_schema)
        cpu_template_release(&body->cpu_template);
    if (schema == &metrics_schema)
        free(body->metrics.properties);
    if (schema == &mmds_config_schema)
        free(body->mmds_config.interface);
}

/* Whether the table accepts the text; the error, if not, to be freed. */
static bool accepts(const struct schema *schema, const char *text, size_t len, char **error)
{
    struct json_cursor c;
    union body body;
    bool ok;

    memset(&body, 0, sizeof(body));
    json_open(&c, text, len);
    ok = schema_read(&c, schema, &body) == 0 && json_finish(&c) == 0;
    if (ok)
        check_strings(&c, schema, &body);
    *error = json_error(&c);
    if (ok != !*error)
        abort();
    release(schema, &body);
    json_close(&c);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct schema *schema;
    char *text, *error, *again, *why = NULL;
    json_t *value;
    bool ok;

    if (size == 0)
        return 0;
    schema = schemas[data[0] % ARRAY_SIZE(schemas)];
    text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    ok = accepts(schema, text, size - 1, &error);
    if (accepts(schema, text, size - 1, &again) != ok || (error && strcmp(error, again) != 0))
        abort();
    value = json_parse(text, size - 1, &why);
    if (ok && !value && is_plain(text, size - 1))
        abort();
    json_decref(value);
    free(why);
    free(error);
    free(again);
    free(text);
    return 0;
}
