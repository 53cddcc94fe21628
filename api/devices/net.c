/* SPDX-License-Identifier: Apache-2.0 */
/* net.c: requests about network interfaces. */
#include "api/api.h"
#include "api/body_tables.h"
#include "api/vm_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- tables ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Two characters; like Firecracker's, the first may be a plus sign. */
static int read_octet(const char *at, uint8_t *octet)
{
    int high = at[0] == '+' ? 0 : hex_digit(at[0]), low = hex_digit(at[1]);

    if (high < 0 || low < 0)
        return -EINVAL;
    *octet = (uint8_t)(high << 4 | low);
    return 0;
}

/* Six octets with colons between them. */
static int parse_mac(const char *text, size_t len, uint8_t mac[NET_MAC_LEN])
{
    if (len != 3 * NET_MAC_LEN - 1)
        return -EINVAL;
    for (size_t i = 0; i < NET_MAC_LEN; i++) {
        if (read_octet(text + 3 * i, &mac[i]))
            return -EINVAL;
        if (i + 1 < NET_MAC_LEN && text[3 * i + 2] != ':')
            return -EINVAL;
    }
    return 0;
}

static int read_mac(struct json_cursor *c, void *member)
{
    struct json_string text;

    if (json_read_string(c, "a string", &text))
        return -EINVAL;
    if (parse_mac(text.at, text.len, member))
        return json_fail(c, "The provided MAC address is invalid.");
    return 0;
}

static const struct schema_member net_members[] = {
    {"iface_id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct net_config, id)},
    {"host_dev_name", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct net_config, tap)},
    {"guest_mac", SCHEMA_CUSTOM, SCHEMA_NULLABLE, SCHEMA_AT_GIVEN(struct net_config, mac, has_mac),
     .read = read_mac},
    {"mtu", SCHEMA_U16, SCHEMA_NULLABLE, SCHEMA_AT_GIVEN(struct net_config, mtu, has_mtu)},
    RATE_LIMITER_AT("rx_rate_limiter", struct net_config, rx_limiter, has_rx_limiter),
    RATE_LIMITER_AT("tx_rate_limiter", struct net_config, tx_limiter, has_tx_limiter),
};
const struct schema net_schema =
    SCHEMA("struct NetworkInterfaceConfig", net_members, .lets_unknown = false);

static const struct schema_member net_patch_members[] = {
    {"iface_id", SCHEMA_STRING, SCHEMA_REQUIRED, SCHEMA_AT(struct net_config, id)},
    RATE_LIMITER_AT("rx_rate_limiter", struct net_config, rx_limiter, has_rx_limiter),
    RATE_LIMITER_AT("tx_rate_limiter", struct net_config, tx_limiter, has_tx_limiter),
};
const struct schema net_patch_schema =
    SCHEMA("struct NetworkInterfaceUpdateConfig", net_patch_members, .lets_unknown = false);

/* ---- requests ---- */

int check_net(struct call *call, struct err *e)
{
    const char *id = call->body.net.id;

    if (strcmp(call->id, id) != 0)
        return err_set(e, -EINVAL,
                       "The id from the path [%s] does not match the id from the body [%s]!",
                       call->id, id);
    return 0;
}

int act_net(struct call *call, struct err *e)
{
    return devices_set_net(machine_devices(call->api->machine), &call->body.net, e);
}

int act_net_patch(struct call *call, struct err *e)
{
    const struct net_config *patch = &call->body.net;
    struct net *net = devices_find_net(machine_devices(call->api->machine), patch->id);

    if (!net)
        return err_set(e, -ENOENT,
                       "Unable to update the net device: Failed perform action on device: Device "
                       "not found");
    net_update(net, patch->has_rx_limiter ? &patch->rx_limiter : NULL,
               patch->has_tx_limiter ? &patch->tx_limiter : NULL);
    return 0;
}

/* ---- GET /vm/config ---- */

static void write_net(struct json_writer *w, const struct net_config *net)
{
    const uint8_t *mac = net->mac;
    char text[3 * NET_MAC_LEN];

    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
             mac[4], mac[5]);
    json_write_begin(w, '{');
    json_member_string(w, "iface_id", net->id);
    json_member_string(w, "host_dev_name", net->tap);
    json_member_string(w, "guest_mac", net->has_mac ? text : NULL);
    json_write_key(w, "mtu");
    if (net->has_mtu)
        json_write_unsigned(w, net->mtu);
    else
        json_write_null(w);
    limiter_write(w, "rx_rate_limiter", net->has_rx_limiter, &net->rx_limiter);
    limiter_write(w, "tx_rate_limiter", net->has_tx_limiter, &net->tx_limiter);
    json_write_end(w, '}');
}

void interfaces_write(struct json_writer *w, const struct devices *devices)
{
    json_write_begin(w, '[');
    for (unsigned i = 0; i < devices->net_count; i++)
        write_net(w, net_config(devices->net[i]));
    json_write_end(w, ']');
}
