/* SPDX-License-Identifier: Apache-2.0 */
/* mmds_requests.c: requests about the metadata service. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/vm_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---- */

static int read_interfaces(struct json_cursor *c, void *member)
{
    struct mmds_config *config = container_of(member, struct mmds_config, interface);
    char *id;

    if (json_enter_array(c, "a sequence") < 0)
        return -EINVAL;
    while (json_next_element(c) > 0 && schema_read_string(c, "a string", &id) == 0) {
        char **more = reallocarray(config->interface, config->n_interfaces + 1, sizeof(*more));

        if (!more) {
            json_fail(c, "out of memory");
            break;
        }
        config->interface = more;
        more[config->n_interfaces++] = id;
    }
    return json_leave(c);
}

static int read_address(struct json_cursor *c, void *member)
{
    struct json_string text;
    struct in_addr address;

    if (json_read_string(c, "IPv4 address", &text))
        return -EINVAL;
    if (strlen(text.at) != text.len || inet_pton(AF_INET, text.at, &address) != 1)
        return json_fail_here(c, "invalid IPv4 address syntax");
    *(uint32_t *)member = ntohl(address.s_addr);
    return 0;
}

static const char *const version_names[] = {"V1", "V2"};
_Static_assert(MMDS_V1 == 0 && MMDS_V2 == 1, "numbered as named");

static const struct schema_member mmds_config_members[] = {
    {"version", SCHEMA_NAMES, SCHEMA_TAIL, SCHEMA_AT(struct mmds_config, version),
     .names = NAMES(version_names, NULL)},
    {"network_interfaces", SCHEMA_CUSTOM, SCHEMA_REQUIRED, SCHEMA_AT(struct mmds_config, interface),
     .read = read_interfaces},
    {"ipv4_address", SCHEMA_CUSTOM, SCHEMA_TAIL | SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct mmds_config, address, has_address), .read = read_address},
    {"imds_compat", SCHEMA_BOOL, SCHEMA_TAIL, SCHEMA_AT(struct mmds_config, imds_compat)},
};
const struct schema mmds_config_schema =
    SCHEMA("struct MmdsConfig", mmds_config_members, .lets_unknown = false);

/* ---- the service's configuration ---- */

int check_mmds_config(struct call *call, struct err *e)
{
    (void)e;
    if (call->body.mmds_config.version == MMDS_V1)
        call_note_deprecated(call, "PUT /mmds/config: V1 is deprecated. Use V2 instead.");
    return 0;
}

void release_mmds_config(struct call *call)
{
    free(call->body.mmds_config.interface);
}

/* 169.254.0.0/16 without its first and last 256 addresses, which are reserved (RFC 3927). */
static bool is_link_local(uint32_t address)
{
    return address >= 0xa9fe0100 && address <= 0xa9fefeff;
}

/* The key of tokens is made with the first configuration and lives as long as the process. */
static int prepare_service(struct api *api, struct err *e)
{
    struct mmds_http *http = &api->mmds_http;

    http->store = api->mmds;
    return http->tokens ? 0 : mmds_tokens_create(&http->tokens, api->id, e);
}

int api_set_mmds(struct api *api, const struct mmds_config *config, struct err *e)
{
    struct mmds_service service = {.answer = mmds_http_answer, .owner = &api->mmds_http};
    struct mmds_config complete = *config;
    int rc;

    if (!config->has_address)
        complete.address = MMDS_ADDRESS_DEFAULT;
    if (!is_link_local(complete.address))
        return err_set(e, -EINVAL, "The MMDS IPv4 address is not link local.");
    if (!config->n_interfaces)
        return err_set(e, -EINVAL,
                       "The list of network interface IDs that allow forwarding MMDS requests is "
                       "empty.");
    rc = prepare_service(api, e);
    if (rc == 0)
        rc = devices_set_mmds(machine_devices(api->machine), &complete, &service, e);
    if (rc)
        return rc;
    api->mmds_http.version = config->version;
    api->mmds_http.imds_compat = config->imds_compat;
    return 0;
}

int api_prepare_mmds(struct api *api, struct mmds_service *service, struct err *e)
{
    *service = (struct mmds_service){.answer = mmds_http_answer, .owner = &api->mmds_http};
    return prepare_service(api, e);
}

void api_adopt_mmds(struct api *api)
{
    const struct mmds_config *config = machine_devices(api->machine)->mmds;

    if (!config)
        return;
    api->mmds_http.version = config->version;
    api->mmds_http.imds_compat = config->imds_compat;
}

int act_mmds_config(struct call *call, struct err *e)
{
    return api_set_mmds(call->api, &call->body.mmds_config, e);
}

static void write_connected(struct json_writer *w, const struct devices *devices)
{
    json_write_begin(w, '[');
    for (unsigned i = 0; i < devices->net_count; i++) {
        if (devices->mmds_endpoint[i])
            json_write_string(w, net_config(devices->net[i])->id);
    }
    json_write_end(w, ']');
}

void mmds_config_write(struct json_writer *w, const struct devices *devices)
{
    const struct mmds_config *config = devices->mmds;
    char text[INET_ADDRSTRLEN];

    if (!config) {
        json_write_null(w);
        return;
    }
    json_write_begin(w, '{');
    json_write_key(w, "version");
    json_write_string(w, version_names[config->version]);
    json_write_key(w, "network_interfaces");
    write_connected(w, devices);
    json_write_key(w, "ipv4_address");
    json_write_string(
        w, inet_ntop(AF_INET, &(struct in_addr){htonl(config->address)}, text, sizeof(text)));
    json_write_key(w, "imds_compat");
    json_write_bool(w, config->imds_compat);
    json_write_end(w, '}');
}

/* ---- the store ---- */

/* A machine that runs has a store only if its guest can see it. */
static int check_store(const struct call *call, struct err *e)
{
    if (machine_state(call->api->machine) != MACHINE_NOT_STARTED &&
        !machine_devices(call->api->machine)->mmds)
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
