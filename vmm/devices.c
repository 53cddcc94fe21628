/* SPDX-License-Identifier: Apache-2.0 */
/* devices.c: the devices of a machine by kind, id and place. */
#include "vmm/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

static void free_mmds(struct devices *devices)
{
    for (unsigned i = 0; i < devices->net_count; i++)
        net_set_mmds(devices->net[i], NULL);
    for (unsigned i = 0; i < devices->mmds_count; i++)
        mmds_endpoint_destroy(devices->mmds_endpoint[i]);
    devices->mmds_count = 0;
    for (size_t i = 0; devices->mmds && i < devices->mmds->n_interfaces; i++)
        free(devices->mmds->interface[i]);
    if (devices->mmds)
        free(devices->mmds->interface);
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

struct drive *devices_find_drive(struct devices *devices, const char *id)
{
    for (unsigned i = 0; i < devices->drive_count; i++) {
        if (strcmp(drive_id(&devices->drive[i]), id) == 0)
            return &devices->drive[i];
    }
    return NULL;
}

bool devices_share_memory(const struct devices *devices)
{
    for (unsigned i = 0; i < devices->drive_count; i++) {
        if (devices->drive[i].vhost)
            return true;
    }
    return false;
}

/* Whether a drive of this id may be configured; the one it would replace, or NULL, in *old. */
static int check_drive(struct devices *devices, const char *id, bool is_root, struct drive **old,
                       struct err *e)
{
    struct drive *first = devices->drive_count ? &devices->drive[0] : NULL;

    *old = devices_find_drive(devices, id);
    if (is_root && first && drive_is_root(first) && *old != first)
        return err_set(e, -EEXIST, "A root block device already exists!");
    if (!*old && devices->drive_count == DEVICES_MAX)
        return err_set(e, -ENOSPC, "A machine has room for %u drives at most.", DEVICES_MAX);
    return 0;
}

/* The root drive is always the first, so that it is /dev/vda. */
static void put_drive(struct devices *devices, struct drive *old, struct drive new)
{
    if (old)
        virtio_dev_destroy(drive_dev(old));
    else
        old = &devices->drive[devices->drive_count++];
    *old = new;
    if (drive_is_root(&new)) {
        memmove(&devices->drive[1], &devices->drive[0],
                (size_t)(old - devices->drive) * sizeof(*old));
        devices->drive[0] = new;
    }
}

int devices_set_drive(struct devices *devices, const struct blk_config *config, struct err *e)
{
    struct drive *old, new = {0};
    int rc = check_drive(devices, config->id, config->is_root, &old, e);

    if (rc == 0)
        rc = blk_create(&new.blk, devices->env, config, e);
    if (rc == 0)
        put_drive(devices, old, new);
    return rc;
}

int devices_set_vhost_user_drive(struct devices *devices,
                                 const struct vhost_user_blk_config *config, struct err *e)
{
    struct drive *old, new = {0};
    int rc = check_drive(devices, config->id, config->is_root, &old, e);

    if (rc == 0)
        rc = vhost_user_blk_create(&new.vhost, devices->env, config, e);
    if (rc == 0)
        put_drive(devices, old, new);
    return rc;
}

/* ---- interfaces ------------------------------------------------------------------------------ */

static int find_net(const struct devices *devices, const char *id)
{
    for (unsigned i = 0; i < devices->net_count; i++) {
        if (strcmp(net_config(devices->net[i])->id, id) == 0)
            return (int)i;
    }
    return -1;
}

struct net *devices_find_net(struct devices *devices, const char *id)
{
    int at = find_net(devices, id);

    return at < 0 ? NULL : devices->net[at];
}

static int check_mac(const struct devices *devices, const struct net_config *config, int at,
                     struct err *e)
{
    for (unsigned i = 0; i < devices->net_count && config->has_mac; i++) {
        const struct net_config *other = net_config(devices->net[i]);

        if ((int)i != at && other->has_mac && memcmp(other->mac, config->mac, NET_MAC_LEN) == 0)
            return err_set(e, -EEXIST,
                           "The MAC address is already in use: %02x:%02x:%02x:%02x:%02x:%02x",
                           config->mac[0], config->mac[1], config->mac[2], config->mac[3],
                           config->mac[4], config->mac[5]);
    }
    return 0;
}

int devices_set_net(struct devices *devices, const struct net_config *config, struct err *e)
{
    int at = find_net(devices, config->id), rc = check_mac(devices, config, at, e);
    struct net *net;

    if (rc)
        return rc;
    if (at < 0 && devices->net_count == DEVICES_MAX)
        return err_set(e, -ENOSPC, "A machine has room for %u network interfaces at most.",
                       DEVICES_MAX);
    rc = net_create(&net, devices->env, config, e);
    if (rc)
        return rc;
    if (at >= 0)
        virtio_dev_destroy(net_dev(devices->net[at]));
    else
        at = (int)devices->net_count++;
    devices->net[at] = net;
    return 0;
}

/* ---- persistent memory ----------------------------------------------------------------------- */

static int find_pmem(const struct devices *devices, const char *id)
{
    for (unsigned i = 0; i < devices->pmem_count; i++) {
        if (strcmp(pmem_config(devices->pmem[i])->id, id) == 0)
            return (int)i;
    }
    return -1;
}

struct pmem *devices_find_pmem(struct devices *devices, const char *id)
{
    int at = find_pmem(devices, id);

    return at < 0 ? NULL : devices->pmem[at];
}

int devices_set_pmem(struct devices *devices, const struct pmem_config *config, struct err *e)
{
    int at = find_pmem(devices, config->id), rc;
    struct pmem *pmem;

    if (at < 0 && devices->pmem_count == DEVICES_MAX)
        return err_set(e, -ENOSPC, "A machine has room for %u pmem devices at most.", DEVICES_MAX);
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

int devices_set_vsock(struct devices *devices, const struct vsock_config *config, struct err *e)
{
    struct vsock *vsock;
    int rc = vsock_create(&vsock, devices->env, config, e);

    if (rc)
        return rc;
    if (devices->vsock)
        virtio_dev_destroy(vsock_dev(devices->vsock));
    devices->vsock = vsock;
    return 0;
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

/* A copy whose strings are its own; there is no machine without so little memory. */
static struct mmds_config *copy_mmds(const struct mmds_config *config)
{
    struct mmds_config *copy = malloc(sizeof(*copy));

    BUG_ON(!copy);
    *copy = *config;
    copy->interface = calloc(config->n_interfaces, sizeof(*copy->interface));
    BUG_ON(!copy->interface);
    for (size_t i = 0; i < config->n_interfaces; i++) {
        copy->interface[i] = strdup(config->interface[i]);
        BUG_ON(!copy->interface[i]);
    }
    return copy;
}

static int connect_mmds(struct devices *devices, struct net *net,
                        const struct mmds_service *service, struct err *e)
{
    struct mmds_endpoint **endpoint = &devices->mmds_endpoint[devices->mmds_count];
    const struct net_config *config = net_config(net);
    int rc = mmds_endpoint_create(endpoint, devices->env->loop, devices->mmds->address,
                                  config->has_mtu ? config->mtu : NET_MTU_DEFAULT, service, e);

    if (rc)
        return rc;
    devices->mmds_count++;
    net_set_mmds(net, *endpoint);
    return 0;
}

int devices_set_mmds(struct devices *devices, const struct mmds_config *config,
                     const struct mmds_service *service, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < config->n_interfaces; i++) {
        if (!devices_find_net(devices, config->interface[i]))
            return err_set(e, -ENOENT,
                           "The list of network interface IDs provided contains at least one ID "
                           "that does not correspond to any existing network interface.");
    }
    free_mmds(devices);
    devices->mmds = copy_mmds(config);
    for (size_t i = 0; i < config->n_interfaces && rc == 0; i++)
        rc = connect_mmds(devices, devices_find_net(devices, config->interface[i]), service, e);
    if (rc)
        free_mmds(devices);
    return rc;
}
