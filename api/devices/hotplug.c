/* SPDX-License-Identifier: Apache-2.0 */
/* hotplug.c: requests about memory that can be plugged. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/vm_config.h"

#include <errno.h>

static const struct schema_member hotplug_members[] = {
    {"total_size_mib", SCHEMA_U32, SCHEMA_REQUIRED,
     SCHEMA_AT(struct hotplug_config, total_size_mib)},
    {"block_size_mib", SCHEMA_U32, SCHEMA_TAIL, SCHEMA_AT(struct hotplug_config, block_size_mib)},
    {"slot_size_mib", SCHEMA_U32, SCHEMA_TAIL, SCHEMA_AT(struct hotplug_config, slot_size_mib)},
};
const struct schema hotplug_schema =
    SCHEMA("struct MemoryHotplugConfig", hotplug_members, .lets_unknown = false);

static const struct schema_member hotplug_patch_members[] = {
    {"requested_size_mib", SCHEMA_U32, SCHEMA_REQUIRED,
     SCHEMA_AT(struct hotplug_patch_body, requested_size_mib)},
};
const struct schema hotplug_patch_schema =
    SCHEMA("struct MemoryHotplugSizeUpdate", hotplug_patch_members, .lets_unknown = false);

const struct hotplug_config hotplug_config_defaults = {
    .block_size_mib = HOTPLUG_BLOCK_MIB_DEFAULT,
    .slot_size_mib = HOTPLUG_SLOT_MIB_DEFAULT,
};

void prepare_hotplug(struct call *call)
{
    call->body.hotplug = hotplug_config_defaults;
}

int act_hotplug(struct call *call, struct err *e)
{
    return devices_set_hotplug(machine_devices(call->api->machine), &call->body.hotplug, e);
}

static int find(struct call *call, struct hotplug **hotplug, struct err *e)
{
    *hotplug = machine_devices(call->api->machine)->hotplug;
    if (!*hotplug)
        return err_set(e, -ENODEV, "Failed perform action on device: Device not found");
    return 0;
}

int act_hotplug_patch(struct call *call, struct err *e)
{
    struct hotplug *hotplug;

    if (find(call, &hotplug, e))
        return e->code;
    return hotplug_update(hotplug, call->body.hotplug_patch.requested_size_mib, e);
}

int act_hotplug_get(struct call *call, struct err *e)
{
    struct hotplug *hotplug;
    struct hotplug_status status;
    struct json_writer w;

    if (find(call, &hotplug, e))
        return e->code;
    hotplug_status(hotplug, &status);
    json_writer_open(&w);
    json_write_begin(&w, '{');
    json_member_unsigned(&w, "block_size_mib", status.config.block_size_mib);
    json_member_unsigned(&w, "total_size_mib", status.config.total_size_mib);
    json_member_unsigned(&w, "slot_size_mib", status.config.slot_size_mib);
    json_member_unsigned(&w, "plugged_size_mib", status.plugged_size_mib);
    json_member_unsigned(&w, "requested_size_mib", status.requested_size_mib);
    json_write_end(&w, '}');
    return call_answer(call, &w, e);
}

void hotplug_write(struct json_writer *w, const struct hotplug *hotplug)
{
    const struct hotplug_config *config;

    if (!hotplug) {
        json_write_null(w);
        return;
    }
    config = hotplug_config(hotplug);
    json_write_begin(w, '{');
    json_member_unsigned(w, "total_size_mib", config->total_size_mib);
    json_member_unsigned(w, "block_size_mib", config->block_size_mib);
    json_member_unsigned(w, "slot_size_mib", config->slot_size_mib);
    json_write_end(w, '}');
}
