/* SPDX-License-Identifier: Apache-2.0 */
/* saved_devices.c: each kind of device as a struct of numbers and a few texts, in the order of
 * their places. */
#include "vmm/saved_devices.h"

#include "vmm/saved_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---------------------------------------------------------------------------------- */

struct saved_counts {
    uint32_t drives, nets, pmems;
    uint8_t balloon, vsock, entropy, hotplug, mmds, pad[3];
};

static const struct state_field counts_fields[] = {
    STATE_FIELD(struct saved_counts, drives),  STATE_FIELD(struct saved_counts, nets),
    STATE_FIELD(struct saved_counts, pmems),   STATE_FIELD(struct saved_counts, balloon),
    STATE_FIELD(struct saved_counts, vsock),   STATE_FIELD(struct saved_counts, entropy),
    STATE_FIELD(struct saved_counts, hotplug), STATE_FIELD(struct saved_counts, mmds),
    STATE_ARRAY(struct saved_counts, pad),
};
const struct state_desc saved_counts_desc =
    STATE_DESC("devices", 1, struct saved_counts, counts_fields);

struct saved_balloon {
    uint32_t amount_mib;
    uint16_t stats_interval_s;
    uint8_t deflate_on_oom, hinting, reporting, pad[3];
};

static const struct state_field balloon_fields[] = {
    STATE_FIELD(struct saved_balloon, amount_mib),
    STATE_FIELD(struct saved_balloon, stats_interval_s),
    STATE_FIELD(struct saved_balloon, deflate_on_oom),
    STATE_FIELD(struct saved_balloon, hinting),
    STATE_FIELD(struct saved_balloon, reporting),
    STATE_ARRAY(struct saved_balloon, pad),
};
const struct state_desc saved_balloon_desc =
    STATE_DESC("balloon", 1, struct saved_balloon, balloon_fields);

struct saved_net {
    struct saved_limiter rx, tx;
    uint8_t mac[NET_MAC_LEN];
    uint16_t mtu;
    uint8_t has_mac, has_mtu, mmds, pad[5];
};

static const struct state_field net_fields[] = {
    LIMITER(struct saved_net, rx),          LIMITER(struct saved_net, tx),
    STATE_ARRAY(struct saved_net, mac),     STATE_FIELD(struct saved_net, mtu),
    STATE_FIELD(struct saved_net, has_mac), STATE_FIELD(struct saved_net, has_mtu),
    STATE_FIELD(struct saved_net, mmds),    STATE_ARRAY(struct saved_net, pad),
};
const struct state_desc saved_net_desc = STATE_DESC("net", 1, struct saved_net, net_fields);

struct saved_pmem {
    struct saved_limiter limiter;
    uint8_t is_root, read_only, pad[6];
};

static const struct state_field pmem_fields[] = {
    LIMITER(struct saved_pmem, limiter),
    STATE_FIELD(struct saved_pmem, is_root),
    STATE_FIELD(struct saved_pmem, read_only),
    STATE_ARRAY(struct saved_pmem, pad),
};
const struct state_desc saved_pmem_desc = STATE_DESC("pmem", 1, struct saved_pmem, pmem_fields);

struct saved_vsock {
    uint32_t guest_cid, pad;
};

static const struct state_field vsock_fields[] = {
    STATE_FIELD(struct saved_vsock, guest_cid),
    STATE_FIELD(struct saved_vsock, pad),
};
const struct state_desc saved_vsock_desc = STATE_DESC("vsock", 1, struct saved_vsock, vsock_fields);

struct saved_entropy {
    struct saved_limiter limiter;
};

static const struct state_field entropy_fields[] = {LIMITER(struct saved_entropy, limiter)};
const struct state_desc saved_entropy_desc =
    STATE_DESC("entropy", 1, struct saved_entropy, entropy_fields);

struct saved_hotplug {
    uint32_t total_size_mib, block_size_mib, slot_size_mib, pad;
};

static const struct state_field hotplug_fields[] = {
    STATE_FIELD(struct saved_hotplug, total_size_mib),
    STATE_FIELD(struct saved_hotplug, block_size_mib),
    STATE_FIELD(struct saved_hotplug, slot_size_mib),
    STATE_FIELD(struct saved_hotplug, pad),
};
const struct state_desc saved_hotplug_desc =
    STATE_DESC("hotplug", 1, struct saved_hotplug, hotplug_fields);

struct saved_mmds {
    uint32_t version, address;
    uint8_t has_address, imds_compat, pad[6];
};

static const struct state_field mmds_fields[] = {
    STATE_FIELD(struct saved_mmds, version),     STATE_FIELD(struct saved_mmds, address),
    STATE_FIELD(struct saved_mmds, has_address), STATE_FIELD(struct saved_mmds, imds_compat),
    STATE_ARRAY(struct saved_mmds, pad),
};
const struct state_desc saved_mmds_desc = STATE_DESC("mmds", 1, struct saved_mmds, mmds_fields);

/* Texts: of the device with the same index. */
#define NET_ID     "net-id"
#define NET_TAP    "net-tap"
#define PMEM_ID    "pmem-id"
#define PMEM_PATH  "pmem-path"
#define VSOCK_ID   "vsock-id"
#define VSOCK_PATH "vsock-path"

/* ---- writing --------------------------------------------------------------------------------- */

static void write_balloon(const struct devices *devices, struct state_writer *w)
{
    const struct balloon_config *config = balloon_config(devices->balloon);
    const struct saved_balloon saved = {
        .amount_mib = config->amount_mib,
        .stats_interval_s = config->stats_interval_s,
        .deflate_on_oom = config->deflate_on_oom,
        .hinting = config->free_page_hinting,
        .reporting = config->free_page_reporting,
    };

    state_write(w, &saved_balloon_desc, 0, &saved, 1);
}

static void write_net(const struct devices *devices, unsigned i, struct state_writer *w)
{
    const struct net_config *config = net_config(devices->net[i]);
    struct saved_net saved = {
        .rx = saved_limiter_of(config->has_rx_limiter, &config->rx_limiter),
        .tx = saved_limiter_of(config->has_tx_limiter, &config->tx_limiter),
        .mtu = config->mtu,
        .has_mac = config->has_mac,
        .has_mtu = config->has_mtu,
        .mmds = devices->mmds_endpoint[i] != NULL,
    };

    memcpy(saved.mac, config->mac, sizeof(saved.mac));
    state_write(w, &saved_net_desc, i, &saved, 1);
    state_write_text(w, NET_ID, i, config->id);
    state_write_text(w, NET_TAP, i, config->tap);
}

static void write_pmem(const struct pmem_config *config, unsigned i, struct state_writer *w)
{
    const struct saved_pmem saved = {
        .limiter = saved_limiter_of(config->has_limiter, &config->limiter),
        .is_root = config->is_root,
        .read_only = config->read_only,
    };

    state_write(w, &saved_pmem_desc, i, &saved, 1);
    state_write_text(w, PMEM_ID, i, config->id);
    state_write_text(w, PMEM_PATH, i, config->path);
}

static void write_vsock(const struct vsock_config *config, struct state_writer *w)
{
    const struct saved_vsock saved = {.guest_cid = config->guest_cid};

    state_write(w, &saved_vsock_desc, 0, &saved, 1);
    state_write_text(w, VSOCK_ID, 0, config->id);
    state_write_text(w, VSOCK_PATH, 0, config->uds_path);
}

static void write_entropy(const struct rng_config *config, struct state_writer *w)
{
    const struct saved_entropy saved = {
        .limiter = saved_limiter_of(config->has_limiter, &config->limiter)};

    state_write(w, &saved_entropy_desc, 0, &saved, 1);
}

static void write_hotplug(const struct hotplug_config *config, struct state_writer *w)
{
    const struct saved_hotplug saved = {
        .total_size_mib = config->total_size_mib,
        .block_size_mib = config->block_size_mib,
        .slot_size_mib = config->slot_size_mib,
    };

    state_write(w, &saved_hotplug_desc, 0, &saved, 1);
}

static void write_mmds(const struct mmds_config *config, struct state_writer *w)
{
    const struct saved_mmds saved = {
        .version = config->version,
        .address = config->address,
        .has_address = config->has_address,
        .imds_compat = config->imds_compat,
    };

    state_write(w, &saved_mmds_desc, 0, &saved, 1);
}

void saved_devices_write(const struct devices *devices, const struct saved_layers *layers,
                         struct state_writer *w)
{
    const struct saved_counts counts = {
        .drives = devices->drive_count,
        .nets = devices->net_count,
        .pmems = devices->pmem_count,
        .balloon = devices->balloon != NULL,
        .vsock = devices->vsock != NULL,
        .entropy = devices->rng != NULL,
        .hotplug = devices->hotplug != NULL,
        .mmds = devices->mmds != NULL,
    };

    state_write(w, &saved_counts_desc, 0, &counts, 1);
    if (devices->balloon)
        write_balloon(devices, w);
    for (unsigned i = 0; i < devices->drive_count; i++)
        saved_drive_write(devices->drive[i].blk, i, layers, w);
    for (unsigned i = 0; i < devices->net_count; i++)
        write_net(devices, i, w);
    for (unsigned i = 0; i < devices->pmem_count; i++)
        write_pmem(pmem_config(devices->pmem[i]), i, w);
    if (devices->vsock)
        write_vsock(vsock_config(devices->vsock), w);
    if (devices->rng)
        write_entropy(&devices->rng_config, w);
    if (devices->hotplug)
        write_hotplug(hotplug_config(devices->hotplug), w);
    if (devices->mmds)
        write_mmds(devices->mmds, w);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_balloon(struct devices *devices, struct state_reader *r, struct err *e)
{
    struct saved_balloon saved = {0};
    int rc = state_read(r, &saved_balloon_desc, 0, &saved, e);
    const struct balloon_config config = {
        .amount_mib = saved.amount_mib,
        .deflate_on_oom = saved.deflate_on_oom,
        .stats_interval_s = saved.stats_interval_s,
        .free_page_hinting = saved.hinting,
        .free_page_reporting = saved.reporting,
    };

    return rc ? rc : devices_set_balloon(devices, &config, e);
}

static char *tap_of(const struct saved_overrides *overrides, const struct net_config *config)
{
    for (size_t i = 0; i < overrides->net_count; i++) {
        if (strcmp(overrides->net[i].id, config->id) == 0)
            return overrides->net[i].tap;
    }
    return config->tap;
}

static int read_net(struct devices *devices, const struct saved_overrides *overrides, unsigned i,
                    bool *has_mmds, struct state_reader *r, struct err *e)
{
    struct saved_net saved = {0};
    struct net_config config;
    int rc = state_read(r, &saved_net_desc, i, &saved, e);

    config = (struct net_config){
        .has_mac = saved.has_mac,
        .has_mtu = saved.has_mtu,
        .mtu = saved.mtu,
        .has_rx_limiter = saved.rx.given,
        .has_tx_limiter = saved.tx.given,
        .rx_limiter = saved_limiter_config(&saved.rx),
        .tx_limiter = saved_limiter_config(&saved.tx),
    };
    memcpy(config.mac, saved.mac, sizeof(config.mac));
    *has_mmds = saved.mmds;
    if (rc == 0)
        rc = saved_read_set_text(r, NET_ID, i, &config.id, e);
    if (rc == 0)
        rc = saved_read_set_text(r, NET_TAP, i, &config.tap, e);
    if (rc)
        return rc;
    config.tap = tap_of(overrides, &config);
    return devices_set_net(devices, &config, e);
}

static char *pmem_path(const struct saved_overrides *overrides, const struct pmem_config *config)
{
    for (size_t i = 0; i < overrides->pmem_count; i++) {
        if (strcmp(overrides->pmem[i].id, config->id) == 0)
            return overrides->pmem[i].path;
    }
    return config->path;
}

static int read_pmem(struct devices *devices, const struct saved_overrides *overrides, unsigned i,
                     struct state_reader *r, struct err *e)
{
    struct saved_pmem saved = {0};
    struct pmem_config config;
    int rc = state_read(r, &saved_pmem_desc, i, &saved, e);

    config = (struct pmem_config){
        .is_root = saved.is_root,
        .read_only = saved.read_only,
        .has_limiter = saved.limiter.given,
        .limiter = saved_limiter_config(&saved.limiter),
    };
    if (rc == 0)
        rc = saved_read_set_text(r, PMEM_ID, i, &config.id, e);
    if (rc == 0)
        rc = saved_read_set_text(r, PMEM_PATH, i, &config.path, e);
    if (rc)
        return rc;
    config.path = pmem_path(overrides, &config);
    return devices_set_pmem(devices, &config, e);
}

static int read_vsock(struct devices *devices, const struct saved_overrides *overrides,
                      struct state_reader *r, struct err *e)
{
    struct saved_vsock saved = {0};
    struct vsock_config config = {0};
    int rc = state_read(r, &saved_vsock_desc, 0, &saved, e);

    if (rc == 0)
        rc = saved_read_text(r, VSOCK_ID, 0, &config.id, e);
    if (rc == 0)
        rc = saved_read_set_text(r, VSOCK_PATH, 0, &config.uds_path, e);
    if (rc)
        return rc;
    config.guest_cid = saved.guest_cid;
    if (overrides->uds_path)
        config.uds_path = (char *)(uintptr_t)overrides->uds_path;
    return devices_set_vsock(devices, &config, e);
}

static int read_entropy(struct devices *devices, struct state_reader *r, struct err *e)
{
    struct saved_entropy saved = {0};
    int rc = state_read(r, &saved_entropy_desc, 0, &saved, e);
    const struct rng_config config = {
        .has_limiter = saved.limiter.given,
        .limiter = saved_limiter_config(&saved.limiter),
    };

    return rc ? rc : devices_set_entropy(devices, &config, e);
}

static int read_hotplug(struct devices *devices, const struct saved_overrides *overrides,
                        struct state_reader *r, struct err *e)
{
    const struct devices *parent = overrides->forked_from;
    struct saved_hotplug saved = {0};
    int rc = state_read(r, &saved_hotplug_desc, 0, &saved, e);
    const struct hotplug_config config = {
        .total_size_mib = saved.total_size_mib,
        .block_size_mib = saved.block_size_mib,
        .slot_size_mib = saved.slot_size_mib,
    };

    if (rc == 0)
        rc = devices_set_hotplug(devices, &config, e);
    if (rc == 0 && parent && parent->hotplug)
        hotplug_inherit(devices->hotplug, parent->hotplug);
    return rc;
}

/* `on` says which interfaces lead to it. */
static int read_mmds(struct devices *devices, const struct mmds_service *service, const bool *on,
                     struct state_reader *r, struct err *e)
{
    char *interface[DEVICES_MAX];
    struct saved_mmds saved = {0};
    struct mmds_config config;
    int rc = state_read(r, &saved_mmds_desc, 0, &saved, e);

    config = (struct mmds_config){
        .version = saved.version ? MMDS_V2 : MMDS_V1,
        .address = saved.address,
        .has_address = saved.has_address,
        .imds_compat = saved.imds_compat,
        .interface = interface,
    };
    for (unsigned i = 0; i < devices->net_count; i++) {
        if (on[i])
            interface[config.n_interfaces++] = net_config(devices->net[i])->id;
    }
    return rc ? rc : devices_set_mmds(devices, &config, service, e);
}

static int read_many(struct devices *devices, const struct saved_counts *counts,
                     const struct saved_overrides *overrides, bool *on_mmds, struct state_reader *r,
                     struct err *e)
{
    int rc = 0;

    if (counts->drives > DEVICES_MAX || counts->nets > DEVICES_MAX || counts->pmems > DEVICES_MAX)
        return err_set(e, -EINVAL, "The snapshot has more devices than a machine can have.");
    for (unsigned i = 0; i < counts->drives && rc == 0; i++)
        rc = saved_drive_read(devices, overrides, i, r, e);
    for (unsigned i = 0; i < counts->nets && rc == 0; i++)
        rc = read_net(devices, overrides, i, &on_mmds[i], r, e);
    for (unsigned i = 0; i < counts->pmems && rc == 0; i++)
        rc = read_pmem(devices, overrides, i, r, e);
    return rc;
}

int saved_devices_read(struct devices *devices, const struct saved_overrides *overrides,
                       struct state_reader *r, struct err *e)
{
    bool on_mmds[DEVICES_MAX] = {false};
    struct saved_counts counts = {0};
    int rc = state_read(r, &saved_counts_desc, 0, &counts, e);

    if (rc == 0 && counts.balloon)
        rc = read_balloon(devices, r, e);
    if (rc == 0)
        rc = read_many(devices, &counts, overrides, on_mmds, r, e);
    if (rc == 0 && counts.vsock)
        rc = read_vsock(devices, overrides, r, e);
    if (rc == 0 && counts.entropy)
        rc = read_entropy(devices, r, e);
    if (rc == 0 && counts.hotplug)
        rc = read_hotplug(devices, overrides, r, e);
    if (rc == 0 && counts.mmds)
        rc = read_mmds(devices, overrides->mmds, on_mmds, r, e);
    return rc;
}

/* ---- overrides ------------------------------------------------------------------------------- */

/* Whether a text of that name is further on, and is `value` unless that is NULL. */
static bool has_text(struct state_reader r, const char *name, const char *value)
{
    struct state_section section;

    for (; state_reader_peek(&r, &section); state_reader_skip(&r)) {
        if (strcmp(section.name, name) == 0 &&
            (!value ||
             (section.len == strlen(value) + 1 && memcmp(section.data, value, section.len) == 0)))
            return true;
    }
    return false;
}

int saved_devices_check(struct state_reader r, const struct saved_overrides *overrides,
                        struct err *e)
{
    for (size_t i = 0; i < overrides->net_count; i++) {
        if (!has_text(r, NET_ID, overrides->net[i].id))
            return err_set(e, -ENOENT, "Unknown Network Device.");
    }
    for (size_t i = 0; i < overrides->drive_count; i++) {
        if (!has_text(r, SAVED_DRIVE_ID, overrides->drive[i].id))
            return err_set(e, -ENOENT, "The snapshot has no drive %s.", overrides->drive[i].id);
        for (size_t before = 0; before < i; before++) {
            if (strcmp(overrides->drive[before].id, overrides->drive[i].id) == 0)
                return err_set(e, -EINVAL, "drive_overrides has the drive %s twice.",
                               overrides->drive[i].id);
        }
    }
    for (size_t i = 0; i < overrides->pmem_count; i++) {
        if (!has_text(r, PMEM_ID, overrides->pmem[i].id))
            return err_set(e, -ENOENT, "The snapshot has no persistent memory %s.",
                           overrides->pmem[i].id);
    }
    if (overrides->uds_path && !has_text(r, VSOCK_PATH, NULL))
        return err_set(e, -ENOENT, "Unknown Vsock Device.");
    return 0;
}
