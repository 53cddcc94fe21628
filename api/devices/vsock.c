/* SPDX-License-Identifier: Apache-2.0 */
/* vsock.c: requests about the socket device. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/vm_config.h"

static const struct schema_member vsock_members[] = {
    {"vsock_id", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct vsock_config, id)},
    {"guest_cid", SCHEMA_U32, SCHEMA_REQUIRED, SCHEMA_AT(struct vsock_config, guest_cid)},
    {"uds_path", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct vsock_config, uds_path)},
};
const struct schema vsock_schema =
    SCHEMA("struct VsockDeviceConfig", vsock_members, .lets_unknown = false);

int check_vsock(struct call *call, struct err *e)
{
    (void)e;
    if (call->body.vsock.id)
        call_note_deprecated(call, "PUT /vsock: vsock_id field is deprecated.");
    return 0;
}

int act_vsock(struct call *call, struct err *e)
{
    return devices_set_vsock(machine_devices(call->api->machine), &call->body.vsock, e);
}

void vsock_write(struct json_writer *w, const struct vsock_config *vsock)
{
    if (!vsock) {
        json_write_null(w);
        return;
    }
    json_write_begin(w, '{');
    json_member_unsigned(w, "guest_cid", vsock->guest_cid);
    json_member_string(w, "uds_path", vsock->uds_path);
    json_write_end(w, '}');
}
