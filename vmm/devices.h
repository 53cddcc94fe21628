/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.h owns the virtio devices that a machine was told to have, from the first request on:
 * each is made when it is configured, replaced when it is configured again, and put in its place at
 * the start (machine_build.c). Nothing of KVM here.
 *
 * Every function: loop thread (or the main thread before loop_run), machine lock held.
 * Configuration calls copy what they are given and on error change nothing, unless said otherwise.
 * Sentences in *e are what the API shows after its prefix, word for word what clients of
 * Firecracker know. Which of them may come when is the API's to judge.
 */
#ifndef MAYFLY_DEVICES_H
#define MAYFLY_DEVICES_H

#include "virtio/block/blk.h"
#include "virtio/block/vhost_user_blk.h"
#include "virtio/memory/balloon.h"
#include "virtio/memory/hotplug.h"
#include "virtio/memory/pmem.h"
#include "virtio/mmds/mmds.h"
#include "virtio/net/net.h"
#include "virtio/rng.h"
#include "virtio/vsock/vsock.h"

/* How many of a kind can be configured; a start takes fewer in all, as many as there are interrupt
 * lines (machine_build.c), and refuses more in the words that clients know. */
#define DEVICES_MAX 64

/* A drive: exactly one of the two. */
struct drive {
    struct blk *blk;              /* a file of this host */
    struct vhost_user_blk *vhost; /* another process */
};

struct devices {
    const struct virtio_env *env;
    struct balloon *balloon;
    struct drive drive[DEVICES_MAX]; /* the root drive first */
    unsigned drive_count;
    struct net *net[DEVICES_MAX];
    unsigned net_count;
    struct pmem *pmem[DEVICES_MAX];
    unsigned pmem_count;
    struct vsock *vsock;
    struct rng *rng;
    struct rng_config rng_config;
    struct hotplug *hotplug;

    /* The metadata service as configured, NULL = not; its interfaces are those that have an
     * endpoint, the one of net[i] at i. */
    struct mmds_config *mmds;
    struct mmds_endpoint *mmds_endpoint[DEVICES_MAX];
};

/* env is borrowed. */
void devices_init(struct devices *devices, const struct virtio_env *env);
/* Destroys every device; nothing is in flight. */
void devices_destroy(struct devices *devices);

/* All of them in the order of their places (which fixes names, addresses and interrupts): balloon,
 * drives, interfaces, pmem, vsock, entropy, memory. Returns how many there are, and fills at most
 * `room`. */
unsigned devices_list(const struct devices *devices, struct virtio_dev **list, unsigned room);

/* Whether another process serves one of them, and so must share the guest's memory. */
bool devices_share_memory(const struct devices *devices);

/* Adds a drive, or replaces the one of that id. -EEXIST for a second root (a drive or persistent
 * memory), -ENOSPC, and the errors of blk_create and vhost_user_blk_create. */
int devices_set_drive(struct devices *devices, const struct blk_config *config,
                      struct err *e) __must_check;
int devices_set_vhost_user_drive(struct devices *devices,
                                 const struct vhost_user_blk_config *config,
                                 struct err *e) __must_check;
/* NULL = no such drive. */
struct drive *devices_find_drive(struct devices *devices, const char *id);
const char *drive_id(const struct drive *drive);
bool drive_is_root(const struct drive *drive);

/* Before a fork, of a machine that is paused: each overlay that is a file becomes a layer that both
 * sides read, and this side writes to a new file beside it (blk_split_overlay). After an error some
 * have. */
int devices_split_overlays(struct devices *devices, struct err *e) __must_check;

/* After the fork: the descriptors of drives with an overlay, which the child takes over. Fills at
 * most `room`, returns how many there are. */
unsigned devices_overlay_fds(const struct devices *devices, int *fds, unsigned room);

/* The same for interfaces; -EEXIST for a MAC that another one has, -EINVAL for an MTU out of range.
 * One that is replaced is gone first, since the new one may want its tap: it stays away if the new
 * one then fails, it comes behind all others, and the metadata service forgets it. */
int devices_set_net(struct devices *devices, const struct net_config *config,
                    struct err *e) __must_check;
struct net *devices_find_net(struct devices *devices, const char *id);

/* The same as drives for persistent memory. */
int devices_set_pmem(struct devices *devices, const struct pmem_config *config,
                     struct err *e) __must_check;
struct pmem *devices_find_pmem(struct devices *devices, const char *id);

/* The devices of which there is one; each call replaces the former: the socket device before the
 * new one is made, with its socket file. Whether a balloon fits into the memory is judged by
 * machine_set_balloon. */
int devices_set_balloon(struct devices *devices, const struct balloon_config *config,
                        struct err *e) __must_check;
int devices_set_vsock(struct devices *devices, const struct vsock_config *config,
                      struct err *e) __must_check;
int devices_set_entropy(struct devices *devices, const struct rng_config *config,
                        struct err *e) __must_check;
int devices_set_hotplug(struct devices *devices, const struct hotplug_config *config,
                        struct err *e) __must_check;

/* Lets the guest reach the metadata service over the interfaces named in the config, which must
 * exist, and over no others. */
int devices_set_mmds(struct devices *devices, const struct mmds_config *config,
                     const struct mmds_service *service, struct err *e) __must_check;

#endif
