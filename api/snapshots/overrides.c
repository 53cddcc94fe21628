/* SPDX-License-Identifier: Apache-2.0 */
/* overrides.c: see overrides.h. */
#include "api/snapshots/overrides.h"

#include <errno.h>
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

int overrides_read_net(struct json_cursor *c, void *member)
{
    struct overrides_body *body = member;

    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0) {
        struct net_override *more = reallocarray(body->net, body->net_count + 1, sizeof(*more));

        if (!more) {
            json_fail(c, "out of memory");
            break;
        }
        body->net = more;
        if (schema_read(c, &net_override_schema, &more[body->net_count]))
            break;
        body->net_count++;
    }
    return json_leave(c);
}

void overrides_release(struct overrides_body *body)
{
    free(body->net);
}

struct saved_overrides overrides_of(const struct overrides_body *body,
                                    const struct mmds_service *mmds)
{
    return (struct saved_overrides){
        .net = body->net,
        .net_count = body->net_count,
        .uds_path = body->has_vsock ? body->vsock.uds_path : NULL,
        .mmds = mmds,
    };
}
