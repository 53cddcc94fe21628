/* SPDX-License-Identifier: Apache-2.0 */
/* mmds_requests.c: requests about the metadata service. */
#include "api/api.h"
#include "api/body_tables.h"

#include <errno.h>

static int skip_interfaces(struct json_cursor *c, void *member)
{
    struct json_string id;

    (void)member;
    if (json_enter_array(c, "a sequence") < 0)
        return -1;
    while (json_next_element(c) > 0 && json_read_string(c, "a string", &id) == 0)
        ;
    return json_leave(c);
}

static int skip_address(struct json_cursor *c, void *member)
{
    struct json_string address;

    (void)member;
    return json_read_string(c, "IPv4 address", &address);
}

static const char *const mmds_version_names[] = {"V1", "V2"};
static const struct schema_member mmds_config_members[] = {
    {"version", SCHEMA_NAMES, SCHEMA_TAIL, SCHEMA_AT(struct mmds_config_body, version),
     .names = NAMES(mmds_version_names, NULL)},
    {"network_interfaces", SCHEMA_CUSTOM, SCHEMA_REQUIRED,
     SCHEMA_AT(struct mmds_config_body, version), .read = skip_interfaces},
    {"ipv4_address", SCHEMA_CUSTOM, SCHEMA_TAIL | SCHEMA_NULLABLE,
     SCHEMA_AT(struct mmds_config_body, version), .read = skip_address},
    {"imds_compat", SCHEMA_BOOL, SCHEMA_TAIL, SCHEMA_AT(struct mmds_config_body, imds_compat)},
};
const struct schema mmds_config_schema =
    SCHEMA("struct MmdsConfig", mmds_config_members, .lets_unknown = false);

int check_mmds_config(struct call *call, struct err *e)
{
    (void)e;
    if (call->body.mmds_config.version == MMDS_V1) {
        call->response->deprecated = true;
        metric_add(&metrics.deprecated_api.deprecated_http_api_calls, 1);
    }
    return 0;
}

/*
 * Until network interfaces exist, MMDS is bound to none, and then only a machine that has not been
 * started has a store.
 */
static int check_store(const struct call *call, struct err *e)
{
    if (machine_state(call->api->machine) != MACHINE_NOT_STARTED)
        return err_set(e, -ENODEV, "MMDS error: The MMDS data store is not initialized.");
    return 0;
}

int act_mmds_get(struct call *call, struct err *e)
{
    struct api_response *response = call->response;

    if (check_store(call, e))
        return e->code;
    response->body = mmds_store_get(call->api->mmds, &response->body_len);
    if (!response->body)
        return err_set(e, -ENOMEM, "Out of memory.");
    response->status = 200;
    return 0;
}

static int change_store(struct call *call, bool patch, struct err *e)
{
    const struct api_request *request = call->request;
    struct err why;
    int ret;

    if (check_store(call, e))
        return e->code;
    if (patch)
        ret = mmds_store_patch(call->api->mmds, request->body, request->body_len, &why);
    else
        ret = mmds_store_put(call->api->mmds, request->body, request->body_len, &why);
    if (ret == -EINVAL)
        return err_set(e, ret,
                       "An error occurred when deserializing the json body of a request: %.4096s.",
                       why.text);
    return ret ? err_set(e, ret, "%s", why.text) : 0;
}

int act_mmds_put(struct call *call, struct err *e)
{
    return change_store(call, false, e);
}

int act_mmds_patch(struct call *call, struct err *e)
{
    return change_store(call, true, e);
}
