/* SPDX-License-Identifier: Apache-2.0 */
/* saved_devices.c: each kind of device as a struct of numbers and a few texts, in the order of
 * their places. */
#include "vmm/saved_devices.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---------------------------------------------------------------------------------- */

/* A limiter as the user gave it: what is left of its tokens is in the device's own state. */
struct saved_limiter {
    uint64_t size[2], refill_ms[2], burst[2]; /* bandwidth, operations */
    uint8_t bucket_given[2], burst_given[2], given, pad[3];
};

#define LIMITER(type, at)                                                                          \
    STATE_ARRAY(type, at.size), STATE_ARRAY(type, at.refill_ms), STATE_ARRAY(type, at.burst),      \
        STATE_ARRAY(type, at.bucket_given), STATE_ARRAY(type, at.burst_given),                     \
        STATE_FIELD(type, at.given), STATE_ARRAY(type, at.pad)

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

struct saved_drive {
    uint64_t sectors; /* not configured: what the guest was told; 0 = version 1 did not say */
    struct saved_limiter limiter;
    uint8_t is_root, read_only, discard, writeback, async, pad[3];
};

static const struct state_field drive_fields[] = {
    STATE_FIELD_SINCE(2, struct saved_drive, sectors),
    LIMITER(struct saved_drive, limiter),
    STATE_FIELD(struct saved_drive, is_root),
    STATE_FIELD(struct saved_drive, read_only),
    STATE_FIELD(struct saved_drive, discard),
    STATE_FIELD(struct saved_drive, writeback),
    STATE_FIELD(struct saved_drive, async),
    STATE_ARRAY(struct saved_drive, pad),
};
const struct state_desc saved_drive_desc = STATE_DESC("drive", 2, struct saved_drive, drive_fields);

/* Of a drive that has one; what it was in is not saved. */
struct saved_overlay {
    uint64_t topmost[2]; /* the id of the last of its layers; 0 = it has none */
    uint32_t layers, pad;
};

static const struct state_field overlay_fields[] = {
    STATE_ARRAY(struct saved_overlay, topmost),
    STATE_FIELD(struct saved_overlay, layers),
    STATE_FIELD(struct saved_overlay, pad),
};
const struct state_desc saved_overlay_desc =
    STATE_DESC("overlay", 1, struct saved_overlay, overlay_fields);

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
#define DRIVE_ID       "drive-id"
#define DRIVE_PATH     "drive-path"
#define DRIVE_PARTUUID "drive-partuuid"
#define OVERLAY_LAYER  "overlay-layer" /* BLK_LAYERS_MAX times the index, plus the layer's */
#define NET_ID         "net-id"
#define NET_TAP        "net-tap"
#define PMEM_ID        "pmem-id"
#define PMEM_PATH      "pmem-path"
#define VSOCK_ID       "vsock-id"
#define VSOCK_PATH     "vsock-path"

/* ---- limiters -------------------------------------------------------------------------------- */

static void save_bucket(struct saved_limiter *to, unsigned i, bool given,
                        const struct token_bucket_config *bucket)
{
    to->size[i] = bucket->size;
    to->refill_ms[i] = bucket->refill_ms;
    to->burst[i] = bucket->one_time_burst;
    to->bucket_given[i] = given;
    to->burst_given[i] = bucket->has_burst;
}

static struct saved_limiter save_limiter(bool given, const struct rate_limiter_config *config)
{
    struct saved_limiter to = {.given = given};

    if (!given)
        return to;
    save_bucket(&to, 0, config->has_bandwidth, &config->bandwidth);
    save_bucket(&to, 1, config->has_ops, &config->ops);
    return to;
}

static struct token_bucket_config load_bucket(const struct saved_limiter *from, unsigned i)
{
    return (struct token_bucket_config){
        .size = from->size[i],
        .refill_ms = from->refill_ms[i],
        .one_time_burst = from->burst[i],
        .has_burst = from->burst_given[i],
    };
}

static struct rate_limiter_config load_limiter(const struct saved_limiter *from)
{
    return (struct rate_limiter_config){
        .has_bandwidth = from->bucket_given[0],
        .has_ops = from->bucket_given[1],
        .bandwidth = load_bucket(from, 0),
        .ops = load_bucket(from, 1),
    };
}

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

/* The names that the layers of drive `i` are to have, and the id of the last. */
static unsigned list_stored(const struct saved_layers *layers, unsigned i,
                            const char *names[BLK_LAYERS_MAX], struct layer_id *topmost)
{
    unsigned count = 0;

    for (unsigned at = 0; at < layers->count; at++) {
        const struct saved_layer *layer = &layers->layer[at];

        if (layer->drive != i)
            continue;
        BUG_ON(count == BLK_LAYERS_MAX);
        names[count++] = saved_layer_name(layer);
        *topmost = layer->id;
    }
    return count;
}

static void write_overlay(const struct blk *blk, unsigned i, const struct saved_layers *layers,
                          struct state_writer *w)
{
    const struct blk_overlay_config *config = &blk_config(blk)->overlay;
    struct layer_id topmost = overlay_below(blk_overlay(blk));
    const char *names[BLK_LAYERS_MAX];
    struct saved_overlay saved = {.layers = config->layer_count};

    for (unsigned at = 0; at < config->layer_count; at++)
        names[at] = config->layer[at];
    if (layers)
        saved.layers = list_stored(layers, i, names, &topmost);
    memcpy(saved.topmost, topmost.word, sizeof(saved.topmost));
    state_write(w, &saved_overlay_desc, i, &saved, 1);
    for (unsigned at = 0; at < saved.layers; at++)
        state_write_text(w, OVERLAY_LAYER, i * BLK_LAYERS_MAX + at, names[at]);
}

static void write_drive(const struct blk *blk, unsigned i, const struct saved_layers *layers,
                        struct state_writer *w)
{
    const struct blk_config *config = blk_config(blk);
    const struct saved_drive saved = {
        .sectors = blk_sectors(blk),
        .limiter = save_limiter(config->has_limiter, &config->limiter),
        .is_root = config->is_root,
        .read_only = config->read_only,
        .discard = config->discard,
        .writeback = config->cache == BLK_CACHE_WRITEBACK,
        .async = config->engine == BLK_ENGINE_ASYNC,
    };

    state_write(w, &saved_drive_desc, i, &saved, 1);
    state_write_text(w, DRIVE_ID, i, config->id);
    state_write_text(w, DRIVE_PATH, i, config->path);
    state_write_text(w, DRIVE_PARTUUID, i, config->partuuid);
    if (blk_overlay(blk))
        write_overlay(blk, i, layers, w);
}

static void write_net(const struct devices *devices, unsigned i, struct state_writer *w)
{
    const struct net_config *config = net_config(devices->net[i]);
    struct saved_net saved = {
        .rx = save_limiter(config->has_rx_limiter, &config->rx_limiter),
        .tx = save_limiter(config->has_tx_limiter, &config->tx_limiter),
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
        .limiter = save_limiter(config->has_limiter, &config->limiter),
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
    const struct saved_entropy saved = {.limiter =
                                            save_limiter(config->has_limiter, &config->limiter)};

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
        write_drive(devices->drive[i].blk, i, layers, w);
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

/* What blk.h, net.h and the others want: char *, which they only copy. */
static int read_text(struct state_reader *r, const char *name, unsigned i, char **text,
                     struct err *e)
{
    const char *found = NULL;
    int rc = state_read_text(r, name, i, &found, e);

    *text = (char *)(uintptr_t)found;
    return rc;
}

/* The same for one that must be there. */
static int read_set_text(struct state_reader *r, const char *name, unsigned i, char **text,
                         struct err *e)
{
    int rc = read_text(r, name, i, text, e);

    if (rc == 0 && !*text)
        rc = err_set(e, -EINVAL, "The snapshot's section %s %u is empty.", name, i);
    return rc;
}

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

/* ---- drives ---- */

static const struct drive_override *drive_override(const struct saved_overrides *overrides,
                                                   const char *id)
{
    for (size_t i = 0; i < overrides->drive_count; i++) {
        if (strcmp(overrides->drive[i].id, id) == 0)
            return &overrides->drive[i];
    }
    return NULL;
}

/* Where a layer is: a name without a slash is beside the state file. malloc'ed. */
static char *layer_path(const struct saved_overrides *overrides, const char *name)
{
    const char *slash = overrides->state_path ? strrchr(overrides->state_path, '/') : NULL;
    char *path;

    if (strchr(name, '/') || !slash)
        return strdup(name);
    if (asprintf(&path, "%.*s%s", (int)(slash - overrides->state_path) + 1, overrides->state_path,
                 name) < 0)
        return NULL;
    return path;
}

/* Its strings are malloc'ed. */
static int read_layers(struct blk_overlay_config *config, const struct saved_overrides *overrides,
                       unsigned i, struct state_reader *r, struct err *e)
{
    struct saved_overlay saved = {0};
    int rc = state_read(r, &saved_overlay_desc, i, &saved, e);

    if (rc == 0 && saved.layers > BLK_LAYERS_MAX)
        rc = err_set(e, -EINVAL, "The snapshot has a drive with more layers than there can be.");
    for (unsigned at = 0; at < saved.layers && rc == 0; at++) {
        char *name;

        rc = read_set_text(r, OVERLAY_LAYER, i * BLK_LAYERS_MAX + at, &name, e);
        if (rc)
            break;
        config->layer[at] = layer_path(overrides, name);
        if (!config->layer[at])
            return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
        config->layer_count++;
    }
    config->type = BLK_OVERLAY_MEMORY;
    memcpy(config->topmost, saved.topmost, sizeof(config->topmost));
    return rc;
}

/* What is asked for in place of what is saved: an overlay lies over the layers that the snapshot
 * has, or over those that are named. */
static void override_drive(struct blk_config *config, const struct drive_override *override)
{
    const struct blk_overlay_config saved = config->overlay;

    if (override->path)
        config->path = override->path;
    if (!override->has_overlay)
        return;
    config->overlay = override->overlay;
    if (!override->overlay.has_layers) {
        config->overlay.layer_count = saved.layer_count;
        memcpy(config->overlay.layer, saved.layer, sizeof(saved.layer));
    }
    if (config->overlay.layer_count > 0) /* else the file is believed to hold what they held */
        memcpy(config->overlay.topmost, saved.topmost, sizeof(saved.topmost));
}

/* A guest that is told nothing would go on with the size that it knows. */
static int check_sectors(const struct saved_drive *saved, const struct blk *blk, struct err *e)
{
    const struct blk_config *config = blk_config(blk);

    if (saved->sectors == 0 || saved->sectors == blk_sectors(blk))
        return 0;
    return err_set(e, -EINVAL,
                   "Drive %s: %s has %" PRIu64 " sectors, and %" PRIu64 " when the snapshot was "
                   "made.",
                   config->id, config->path, blk_sectors(blk), saved->sectors);
}

static int check_fork(const struct blk_config *config, const struct drive_override *override,
                      struct err *e)
{
    if (!override || (!override->path && !override->overlay.has_layers))
        return 0;
    return err_set(e, -EINVAL,
                   "Drive %s: a fork lies on the file and the layers of its parent; only an "
                   "overlay of its own can be named.",
                   config->id);
}

/* Makes the drive that is saved, or the one that is asked for in its place. */
static int make_drive(struct devices *devices, const struct saved_overrides *overrides,
                      const struct saved_drive *saved, struct blk_config *config, struct err *e)
{
    const struct drive_override *override = drive_override(overrides, config->id);
    int rc = 0;

    if (overrides->forked_from) {
        struct drive *parent = devices_find_drive(overrides->forked_from, config->id);

        rc = check_fork(config, override, e);
        config->forked_from = parent ? parent->blk : NULL;
    }
    if (override)
        override_drive(config, override);
    if (rc == 0)
        rc = devices_set_drive(devices, config, e);
    return rc ? rc : check_sectors(saved, devices_find_drive(devices, config->id)->blk, e);
}

static bool next_is_overlay(const struct state_reader *r)
{
    struct state_section next;

    return state_reader_peek(r, &next) && strcmp(next.name, saved_overlay_desc.name) == 0;
}

static int read_drive(struct devices *devices, const struct saved_overrides *overrides, unsigned i,
                      struct state_reader *r, struct err *e)
{
    struct saved_drive saved = {0};
    struct blk_overlay_config overlay = {0};
    struct blk_config config;
    int rc = state_read(r, &saved_drive_desc, i, &saved, e);

    config = (struct blk_config){
        .is_root = saved.is_root,
        .read_only = saved.read_only,
        .discard = saved.discard,
        .cache = saved.writeback ? BLK_CACHE_WRITEBACK : BLK_CACHE_UNSAFE,
        .engine = saved.async ? BLK_ENGINE_ASYNC : BLK_ENGINE_SYNC,
        .has_limiter = saved.limiter.given,
        .limiter = load_limiter(&saved.limiter),
    };
    if (rc == 0)
        rc = read_set_text(r, DRIVE_ID, i, &config.id, e);
    if (rc == 0)
        rc = read_set_text(r, DRIVE_PATH, i, &config.path, e);
    if (rc == 0)
        rc = read_text(r, DRIVE_PARTUUID, i, &config.partuuid, e);
    if (rc == 0 && next_is_overlay(r))
        rc = read_layers(&overlay, overrides, i, r, e);
    config.overlay = overlay;
    if (rc == 0)
        rc = make_drive(devices, overrides, &saved, &config, e);
    for (unsigned at = 0; at < overlay.layer_count; at++)
        free(overlay.layer[at]);
    return rc;
}

/* ---- the others ---- */

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
        .rx_limiter = load_limiter(&saved.rx),
        .tx_limiter = load_limiter(&saved.tx),
    };
    memcpy(config.mac, saved.mac, sizeof(config.mac));
    *has_mmds = saved.mmds;
    if (rc == 0)
        rc = read_set_text(r, NET_ID, i, &config.id, e);
    if (rc == 0)
        rc = read_set_text(r, NET_TAP, i, &config.tap, e);
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
        .limiter = load_limiter(&saved.limiter),
    };
    if (rc == 0)
        rc = read_set_text(r, PMEM_ID, i, &config.id, e);
    if (rc == 0)
        rc = read_set_text(r, PMEM_PATH, i, &config.path, e);
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
        rc = read_text(r, VSOCK_ID, 0, &config.id, e);
    if (rc == 0)
        rc = read_set_text(r, VSOCK_PATH, 0, &config.uds_path, e);
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
        .limiter = load_limiter(&saved.limiter),
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
        rc = read_drive(devices, overrides, i, r, e);
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
        if (!has_text(r, DRIVE_ID, overrides->drive[i].id))
            return err_set(e, -ENOENT, "The snapshot has no drive %s.", overrides->drive[i].id);
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
