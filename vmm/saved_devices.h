/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saved_devices.h owns what a snapshot says of the devices that a machine was told to have: their
 * configuration, as the API got it, in sections of the state file. What a driver has made of them
 * is in the devices' own tables (saved_machine.h).
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_SAVED_DEVICES_H
#define MAYFLY_SAVED_DEVICES_H

#include "vmm/saved_layers.h"
#include "vmm/snapshot/state_file.h"

/* Other names on this host than those saved. */
struct net_override {
    char *id, *tap;
};

struct drive_override {
    char *id;
    char *path;       /* NULL = as saved */
    bool has_overlay; /* else the drive's is in memory, if it had one */
    struct blk_overlay_config overlay;
};

struct pmem_override {
    char *id, *path;
};

struct saved_overrides {
    const struct net_override *net;
    const struct drive_override *drive;
    const struct pmem_override *pmem;
    size_t net_count, drive_count, pmem_count;
    const char *uds_path;            /* of the socket device; NULL = as saved */
    const struct mmds_service *mmds; /* who answers for the metadata service */
    const char *state_path; /* beside which the drives' layers are; NULL = they are named whole */
    /* In a forked process: the devices of the one that it was forked from, whose drives' overlays
     * and plugged memory are taken over; NULL = none. */
    struct devices *forked_from;
};

/* Writes all of them; of layers the names that they have in `layers`, or, NULL, where they are. */
void saved_devices_write(const struct devices *devices, const struct saved_layers *layers,
                         struct state_writer *w);

/* Whether what is overridden is in the file, from where the reader stands. -ENOENT. */
int saved_devices_check(struct state_reader r, const struct saved_overrides *overrides,
                        struct err *e) __must_check;

/*
 * Makes them as devices_set_* do, and opens what they stand on. The machine has none yet; after an
 * error it has some.
 */
int saved_devices_read(struct devices *devices, const struct saved_overrides *overrides,
                       struct state_reader *r, struct err *e) __must_check;

/* The tables, for the test that all tables pass. */
extern const struct state_desc saved_counts_desc, saved_balloon_desc, saved_drive_desc,
    saved_overlay_desc, saved_net_desc, saved_pmem_desc, saved_vsock_desc, saved_entropy_desc,
    saved_hotplug_desc, saved_mmds_desc;

#endif
