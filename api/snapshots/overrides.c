/* SPDX-License-Identifier: Apache-2.0 */
/* overrides.c: see overrides.h. */
#include "api/snapshots/overrides.h"

#include <stdlib.h>

static const struct schema_member net_override_members[] = {
    {"iface_id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct net_override, id)},
    {"host_dev_name", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct net_override, tap)},
};
const struct schema net_override_schema =
    SCHEMA("struct NetworkOverride", net_override_members, .lets_unknown = false);

static const struct schema_member vsock_override_members[] = {
    {"uds_path", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct vsock_override_body, uds_path)},
};
const struct schema vsock_override_schema =
    SCHEMA("struct VsockOverride", vsock_override_members, .lets_unknown = false);

static const struct schema_member drive_override_members[] = {
    {"drive_id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct drive_override, id)},
    {"path_on_host", SCHEMA_STRING, SCHEMA_NULLABLE, SCHEMA_AT(struct drive_override, path)},
    {"overlay", SCHEMA_OBJECT, SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct drive_override, overlay, has_overlay), .object = &overlay_schema},
};
const struct schema drive_override_schema =
    SCHEMA("struct DriveOverride", drive_override_members, .lets_unknown = false);

static const struct schema_member pmem_override_members[] = {
    {"id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct pmem_override, id)},
    {"path_on_host", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct pmem_override, path)},
};
const struct schema pmem_override_schema =
    SCHEMA("struct PmemOverride", pmem_override_members, .lets_unknown = false);

int overrides_read_net(struct json_cursor *c, void *member)
{
    static const struct net_override blank;
    struct overrides_body *body = member;
    void *list = body->net;
    int ret =
        schema_read_list(c, &net_override_schema, &blank, sizeof(blank), &list, &body->net_count);

    body->net = list;
    return ret;
}

int overrides_read_drives(struct json_cursor *c, void *member)
{
    static const struct drive_override blank;
    struct overrides_body *body = member;
    void *list = body->drive;
    int ret = schema_read_list(c, &drive_override_schema, &blank, sizeof(blank), &list,
                               &body->drive_count);

    body->drive = list;
    return ret;
}

int overrides_read_pmem(struct json_cursor *c, void *member)
{
    static const struct pmem_override blank;
    struct overrides_body *body = member;
    void *list = body->pmem;
    int ret =
        schema_read_list(c, &pmem_override_schema, &blank, sizeof(blank), &list, &body->pmem_count);

    body->pmem = list;
    return ret;
}

void overrides_release(struct overrides_body *body)
{
    free(body->net);
    free(body->drive);
    free(body->pmem);
}

struct saved_overrides overrides_of(const struct overrides_body *body,
                                    const struct mmds_service *mmds)
{
    return (struct saved_overrides){
        .net = body->net,
        .net_count = body->net_count,
        .drive = body->drive,
        .drive_count = body->drive_count,
        .pmem = body->pmem,
        .pmem_count = body->pmem_count,
        .uds_path = body->has_vsock ? body->vsock.uds_path : NULL,
        .mmds = mmds,
    };
}
