/* SPDX-License-Identifier: Apache-2.0 */
/* pmem.c: requests about persistent memory. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/vm_config.h"

#include <errno.h>

static const struct schema_member pmem_members[] = {
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct pmem_config, id)},
    {"path_on_host", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct pmem_config, path)},
    {"root_device", SCHEMA_BOOL, SCHEMA_TAIL, SCHEMA_AT(struct pmem_config, is_root)},
    {"read_only", SCHEMA_BOOL, SCHEMA_TAIL, SCHEMA_AT(struct pmem_config, read_only)},
    RATE_LIMITER(struct pmem_config),
};
const struct schema pmem_schema = SCHEMA("struct PmemConfig", pmem_members, .lets_unknown = false);

static const struct schema_member pmem_patch_members[] = {
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct pmem_patch_body, id)},
    RATE_LIMITER(struct pmem_patch_body),
};
const struct schema pmem_patch_schema =
    SCHEMA("struct PmemDeviceUpdateConfig", pmem_patch_members, .lets_unknown = false);

int check_pmem(struct call *call, struct err *e)
{
    return call_check_id(call, call->body.pmem.id, e);
}

int check_pmem_patch(struct call *call, struct err *e)
{
    return call_check_id(call, call->body.pmem_patch.id, e);
}

int act_pmem(struct call *call, struct err *e)
{
    return devices_set_pmem(machine_devices(call->api->machine), &call->body.pmem, e);
}

/* Without a limiter there is nothing to do, not even to look for the device: so clients of
 * Firecracker know it. */
int act_pmem_patch(struct call *call, struct err *e)
{
    const struct pmem_patch_body *patch = &call->body.pmem_patch;
    struct pmem *pmem = devices_find_pmem(machine_devices(call->api->machine), patch->id);

    if (!patch->has_limiter)
        return 0;
    if (!pmem)
        return err_set(e, -ENOENT,
                       "Unable to patch the pmem device: Failed perform action on device: Device "
                       "not found Please verify the request arguments.");
    pmem_update(pmem, &patch->limiter);
    return 0;
}

static void write_one(struct json_writer *w, const struct pmem_config *pmem)
{
    json_write_begin(w, '{');
    json_member_string(w, "id", pmem->id);
    json_member_string(w, "path_on_host", pmem->path);
    json_member_bool(w, "root_device", pmem->is_root);
    json_member_bool(w, "read_only", pmem->read_only);
    limiter_write(w, "rate_limiter", pmem->has_limiter, &pmem->limiter);
    json_write_end(w, '}');
}

void pmem_write(struct json_writer *w, const struct devices *devices)
{
    json_write_begin(w, '[');
    for (unsigned i = 0; i < devices->pmem_count; i++)
        write_one(w, pmem_config(devices->pmem[i]));
    json_write_end(w, ']');
}
