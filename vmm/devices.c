/* SPDX-License-Identifier: Apache-2.0 */
/* devices.c: the devices of a machine by kind, id and place. */
#include "vmm/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void devices_init(struct devices *devices, const struct virtio_env *env)
{
    *devices = (struct devices){.env = env};
}

static struct virtio_dev *drive_dev(const struct drive *drive)
{
    return drive->blk ? blk_dev(drive->blk) : vhost_user_blk_dev(drive->vhost);
}

struct listing {
    struct virtio_dev **list;
    unsigned room, count;
};

static void add(struct listing *listing, struct virtio_dev *dev)
{
    if (listing->count < listing->room)
        listing->list[listing->count] = dev;
    listing->count++;
}

unsigned devices_list(const struct devices *devices, struct virtio_dev **list, unsigned room)
{
    struct listing listing = {.list = list, .room = room};

    if (devices->balloon)
        add(&listing, balloon_dev(devices->balloon));
    for (unsigned i = 0; i < devices->drive_count; i++)
        add(&listing, drive_dev(&devices->drive[i]));
    for (unsigned i = 0; i < devices->net_count; i++)
        add(&listing, net_dev(devices->net[i]));
    for (unsigned i = 0; i < devices->pmem_count; i++)
        add(&listing, pmem_dev(devices->pmem[i]));
    if (devices->vsock)
        add(&listing, vsock_dev(devices->vsock));
    if (devices->rng)
        add(&listing, rng_dev(devices->rng));
    if (devices->hotplug)
        add(&listing, hotplug_dev(devices->hotplug));
    return listing.count;
}

/* Takes the metadata service away from interface `at`. */
static void disconnect_mmds(struct devices *devices, unsigned at)
{
    if (!devices->mmds_endpoint[at])
        return;
    net_set_mmds(devices->net[at], NULL);
    mmds_endpoint_destroy(devices->mmds_endpoint[at]);
    devices->mmds_endpoint[at] = NULL;
}

static void free_mmds(struct devices *devices)
{
    for (unsigned i = 0; i < devices->net_count; i++)
        disconnect_mmds(devices, i);
    free(devices->mmds);
    devices->mmds = NULL;
}

void devices_destroy(struct devices *devices)
{
    struct virtio_dev *list[4 * DEVICES_MAX];
    unsigned count = devices_list(devices, list, ARRAY_SIZE(list));

    free_mmds(devices);
    for (unsigned i = 0; i < count; i++)
        virtio_dev_destroy(list[i]);
    devices_init(devices, devices->env);
}

/* ---- devices by id --------------------------------------------------------------------------- */

typedef const char *id_of(const struct devices *devices, unsigned i);

static const char *drive_id_at(const struct devices *devices, unsigned i)
{
    return drive_id(&devices->drive[i]);
}

static const char *net_id_at(const struct devices *devices, unsigned i)
{
    return net_config(devices->net[i])->id;
}

static const char *pmem_id_at(const struct devices *devices, unsigned i)
{
    return pmem_config(devices->pmem[i])->id;
}

/* Which of `count` devices has the id; -1 = none. */
static int find(const struct devices *devices, unsigned count, id_of *id_at, const char *id)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(id_at(devices, i), id) == 0)
            return (int)i;
    }
    return -1;
}

struct drive *devices_find_drive(struct devices *devices, const char *id)
{
    int at = find(devices, devices->drive_count, drive_id_at, id);

    return at < 0 ? NULL : &devices->drive[at];
}

struct net *devices_find_net(struct devices *devices, const char *id)
{
    int at = find(devices, devices->net_count, net_id_at, id);

    return at < 0 ? NULL : devices->net[at];
}

struct pmem *devices_find_pmem(struct devices *devices, const char *id)
{
    int at = find(devices, devices->pmem_count, pmem_id_at, id);

    return at < 0 ? NULL : devices->pmem[at];
}

/* Whether there is room for a device that replaces the one at `at`, or none (-1). */
static int check_room(unsigned count, int at, const char *what, struct err *e)
{
    if (at < 0 && count == DEVICES_MAX)
        return err_set(e, -ENOSPC, "A machine has room for %u %s at most.", DEVICES_MAX, what);
    return 0;
}

/* ---- drives ---------------------------------------------------------------------------------- */

const char *drive_id(const struct drive *drive)
{
    return drive->blk ? blk_config(drive->blk)->id : vhost_user_blk_config(drive->vhost)->id;
}

bool drive_is_root(const struct drive *drive)
{
    return drive->blk ? blk_config(drive->blk)->is_root
                      : vhost_user_blk_config(drive->vhost)->is_root;
}

static bool has_root_drive(const struct devices *devices)
{
    return devices->drive_count && drive_is_root(&devices->drive[0]);
}

bool devices_share_memory(const struct devices *devices)
{
    for (unsigned i = 0; i < devices->drive_count; i++) {
        if (devices->drive[i].vhost)
            return true;
    }
    return false;
}

static bool has_root_pmem(const struct devices *devices)
{
    for (unsigned i = 0; i < devices->pmem_count; i++) {
        if (pmem_config(devices->pmem[i])->is_root)
            return true;
    }
    return false;
}

/* Whether a drive of this id may be configured; where the one stands that it replaces, or -1, in
 * *at. */
static int check_drive(const struct devices *devices, const char *id, bool is_root, int *at,
                       struct err *e)
{
    *at = find(devices, devices->drive_count, drive_id_at, id);
    if (is_root && has_root_pmem(devices))
        return err_set(e, -EEXIST,
                       "Attempt to add block as a root device while the root device defined as a "
                       "pmem device");
    if (is_root && has_root_drive(devices) && *at != 0)
        return err_set(e, -EEXIST, "A root block device already exists!");
    return check_room(devices->drive_count, *at, "drives", e);
}

/*
 * The root drive is always the first, so that it is /dev/vda: a new one moves the others up, one
 * that was there before changes places with the first.
 */
static void put_drive(struct devices *devices, int at, struct drive new)
{
    struct drive *first = &devices->drive[0];

    if (at >= 0) {
        if (drive_dev(&devices->drive[at]) != drive_dev(&new))
            virtio_dev_destroy(drive_dev(&devices->drive[at]));
        if (drive_is_root(&new)) {
            devices->drive[at] = *first;
            at = 0;
        }
        devices->drive[at] = new;
        return;
    }
    at = (int)devices->drive_count++;
    if (drive_is_root(&new)) {
        memmove(first + 1, first, (size_t)at * sizeof(*first));
        at = 0;
    }
    devices->drive[at] = new;
}

static void remove_drive(struct devices *devices, int at)
{
    struct drive *drive = &devices->drive[at];

    virtio_dev_destroy(drive_dev(drive));
    devices->drive_count--;
    memmove(drive, drive + 1, (devices->drive_count - (unsigned)at) * sizeof(*drive));
}

int devices_set_drive(struct devices *devices, const struct blk_config *config, struct err *e)
{
    struct drive new = {0};
    struct blk *old = NULL;
    int at, rc = check_drive(devices, config->id, config->is_root, &at, e);

    if (rc)
        return rc;
    if (at >= 0)
        old = devices->drive[at].blk;
    /* The new one may want the overlay that the old one has locked. */
    if (old)
        blk_unlock_overlay(old);
    rc = blk_create(&new.blk, devices->env, config, e);
    if (rc == 0)
        put_drive(devices, at, new);
    else if (old && !blk_lock_overlay(old))
        remove_drive(devices, at); /* another process has been quicker */
    return rc;
}

int devices_set_vhost_user_drive(struct devices *devices,
                                 const struct vhost_user_blk_config *config, struct err *e)
{
    struct drive new = {0};
    int at, rc = check_drive(devices, config->id, config->is_root, &at, e);

    if (rc)
        return rc;
    if (at >= 0)
        new.vhost = devices->drive[at].vhost;
    /* The same drive again if it can be, else another. */
    if (!new.vhost || vhost_user_blk_configure(new.vhost, config) < 0)
        rc = vhost_user_blk_create(&new.vhost, devices->env, config, e);
    if (rc == 0)
        put_drive(devices, at, new);
    return rc;
}

int devices_split_overlays(struct devices *devices, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; i < devices->drive_count && rc == 0; i++) {
        if (devices->drive[i].blk)
            rc = blk_split_overlay(devices->drive[i].blk, e);
    }
    return rc;
}

unsigned devices_overlay_fds(const struct devices *devices, int *fds, unsigned room)
{
    unsigned count = 0;

    for (unsigned i = 0; i < devices->drive_count; i++) {
        if (devices->drive[i].blk)
            count += blk_overlay_fds(devices->drive[i].blk, fds + MIN(count, room),
                                     room - MIN(count, room));
    }
    return count;
}

/* ---- interfaces ------------------------------------------------------------------------------ */

static int check_mac(const struct devices *devices, const struct net_config *config, int at,
                     struct err *e)
{
    const uint8_t *mac = config->mac;

    for (unsigned i = 0; i < devices->net_count && config->has_mac; i++) {
        const struct net_config *other = net_config(devices->net[i]);

        if ((int)i != at && other->has_mac && memcmp(other->mac, mac, NET_MAC_LEN) == 0)
            return err_set(e, -EEXIST,
                           "The MAC address is already in use: %02x:%02x:%02x:%02x:%02x:%02x",
                           mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    }
    return 0;
}

/* A service that no interface leads to any more is not configured. */
static void forget_unused_mmds(struct devices *devices)
{
    for (unsigned i = 0; i < devices->net_count; i++) {
        if (devices->mmds_endpoint[i])
            return;
    }
    free_mmds(devices);
}

/* The last takes its place. */
static void remove_net(struct devices *devices, unsigned at)
{
    unsigned last = --devices->net_count;

    disconnect_mmds(devices, at);
    virtio_dev_destroy(net_dev(devices->net[at]));
    devices->net[at] = devices->net[last];
    devices->mmds_endpoint[at] = devices->mmds_endpoint[last];
    devices->mmds_endpoint[last] = NULL;
    forget_unused_mmds(devices);
}

int devices_set_net(struct devices *devices, const struct net_config *config, struct err *e)
{
    int at = find(devices, devices->net_count, net_id_at, config->id);
    int rc = check_mac(devices, config, at, e);
    struct net_config tidy;

    if (rc == 0)
        rc = check_room(devices->net_count, at, "network interfaces", e);
    if (rc)
        return rc;
    if (at >= 0)
        remove_net(devices, (unsigned)at);
    tidy = *config;
    rate_limiter_config_tidy(&tidy.rx_limiter, &tidy.has_rx_limiter);
    rate_limiter_config_tidy(&tidy.tx_limiter, &tidy.has_tx_limiter);
    if (config->has_mtu && config->mtu < NET_MTU_MIN)
        return err_set(e, -EINVAL,
                       "Could not create the network device: MTU %u is out of range [%u, %u]",
                       config->mtu, NET_MTU_MIN, UINT16_MAX);
    rc = net_create(&devices->net[devices->net_count], devices->env, &tidy, e);
    if (rc == 0)
        devices->net_count++;
    return rc;
}

/* ---- persistent memory ----------------------------------------------------------------------- */

/* Of the pmem device at `at` (-1 = none yet), which is to be the root. */
static int check_root_pmem(const struct devices *devices, int at, struct err *e)
{
    if (has_root_drive(devices))
        return err_set(e, -EEXIST,
                       "Attempt to add pmem as a root device while the root device defined as a "
                       "block device");
    if (has_root_pmem(devices) && (at < 0 || !pmem_config(devices->pmem[at])->is_root))
        return err_set(e, -EEXIST, "A root pmem device already exist");
    return 0;
}

int devices_set_pmem(struct devices *devices, const struct pmem_config *config, struct err *e)
{
    int at = find(devices, devices->pmem_count, pmem_id_at, config->id);
    int rc = config->is_root ? check_root_pmem(devices, at, e) : 0;
    struct pmem *pmem;

    if (rc == 0)
        rc = check_room(devices->pmem_count, at, "pmem devices", e);
    if (rc == 0)
        rc = pmem_create(&pmem, devices->env, config, e);
    if (rc)
        return rc;
    if (at >= 0)
        virtio_dev_destroy(pmem_dev(devices->pmem[at]));
    else
        at = (int)devices->pmem_count++;
    devices->pmem[at] = pmem;
    return 0;
}

/* ---- the devices of which there is one ------------------------------------------------------- */

int devices_set_balloon(struct devices *devices, const struct balloon_config *config, struct err *e)
{
    struct balloon *balloon;
    int rc = balloon_create(&balloon, devices->env, config, e);

    if (rc)
        return rc;
    if (devices->balloon)
        virtio_dev_destroy(balloon_dev(devices->balloon));
    devices->balloon = balloon;
    return 0;
}

/* The old one goes first, and its socket with it: the new one may want the same path. */
static void remove_vsock(struct devices *devices)
{
    (void)unlink(vsock_config(devices->vsock)->uds_path); /* whoever removed it meant the same */
    virtio_dev_destroy(vsock_dev(devices->vsock));
    devices->vsock = NULL;
}

int devices_set_vsock(struct devices *devices, const struct vsock_config *config, struct err *e)
{
    if (devices->vsock)
        remove_vsock(devices);
    return vsock_create(&devices->vsock, devices->env, config, e);
}

int devices_set_entropy(struct devices *devices, const struct rng_config *config, struct err *e)
{
    struct rng *rng;
    int rc = rng_create(&rng, devices->env, config, e);

    if (rc)
        return rc;
    if (devices->rng)
        virtio_dev_destroy(rng_dev(devices->rng));
    devices->rng = rng;
    devices->rng_config = *config;
    rate_limiter_config_tidy(&devices->rng_config.limiter, &devices->rng_config.has_limiter);
    return 0;
}

int devices_set_hotplug(struct devices *devices, const struct hotplug_config *config, struct err *e)
{
    struct hotplug *hotplug;
    int rc = hotplug_create(&hotplug, devices->env, config, e);

    if (rc)
        return rc;
    if (devices->hotplug)
        virtio_dev_destroy(hotplug_dev(devices->hotplug));
    devices->hotplug = hotplug;
    return 0;
}

/* ---- the metadata service -------------------------------------------------------------------- */

static bool is_named(const struct mmds_config *config, const char *id)
{
    for (size_t i = 0; i < config->n_interfaces; i++) {
        if (strcmp(config->interface[i], id) == 0)
            return true;
    }
    return false;
}

static int connect_mmds(struct devices *devices, unsigned at, const struct mmds_service *service,
                        struct err *e)
{
    struct net *net = devices->net[at];
    const struct net_config *config = net_config(net);
    int rc = mmds_endpoint_create(&devices->mmds_endpoint[at], devices->env->loop,
                                  devices->mmds->address,
                                  config->has_mtu ? config->mtu : NET_MTU_DEFAULT, service, e);

    if (rc == 0)
        net_set_mmds(net, devices->mmds_endpoint[at]);
    return rc;
}

int devices_set_mmds(struct devices *devices, const struct mmds_config *config,
                     const struct mmds_service *service, struct err *e)
{
    struct mmds_config *copy;
    int rc = 0;

    for (size_t i = 0; i < config->n_interfaces; i++) {
        if (!devices_find_net(devices, config->interface[i]))
            return err_set(e, -ENOENT,
                           "The list of network interface IDs provided contains at least one ID "
                           "that does not correspond to any existing network interface.");
    }
    copy = malloc(sizeof(*copy));
    if (!copy)
        return err_set(e, -ENOMEM, "%s", err_os(-ENOMEM));
    *copy = *config;
    copy->interface = NULL; /* the endpoints tell */
    copy->n_interfaces = 0;
    free_mmds(devices);
    devices->mmds = copy;
    for (unsigned i = 0; i < devices->net_count && rc == 0; i++) {
        if (is_named(config, net_id_at(devices, i)))
            rc = connect_mmds(devices, i, service, e);
    }
    if (rc)
        free_mmds(devices);
    return rc;
}
