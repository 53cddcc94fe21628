/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hotplug.h owns memory that can be plugged into a running guest (virtio-mem: virtio 1.3, section
 * 5.15): a reserved range of guest physical addresses, of which the guest takes and gives back
 * blocks as the requested size changes.
 */
#ifndef MAYFLY_MEMORY_HOTPLUG_H
#define MAYFLY_MEMORY_HOTPLUG_H

#include "virtio/virtio.h"

/* What a user says of the device (PUT /hotplug/memory). */
struct hotplug_config {
    uint32_t total_size_mib, block_size_mib, slot_size_mib;
};
#define HOTPLUG_BLOCK_MIB_DEFAULT 2
#define HOTPLUG_SLOT_MIB_DEFAULT  128

struct hotplug_status {
    struct hotplug_config config;
    uint64_t plugged_size_mib, requested_size_mib;
};

struct hotplug;

/* The device's saved struct, for the test that walks them all. */
extern const struct state_desc hotplug_state_desc;

/* -EINVAL, in Firecracker's words, for sizes that do not go together; -ENOMEM. */
int hotplug_create(struct hotplug **out, const struct virtio_env *env,
                   const struct hotplug_config *config, struct err *e) __must_check;

/*
 * Reserves addresses for the memory, on the host and as a region of env->mem, before the VM is
 * made; no block is plugged and no memory taken. -ENOSPC for more blocks than the device can have,
 * and the errors of mem_add_region. hotplug_unmap undoes it (a failed start).
 */
int hotplug_map(struct hotplug *hotplug, struct err *e) __must_check;
void hotplug_unmap(struct hotplug *hotplug);

/* In a forked process, before hotplug_map: takes over the memory, at its addresses, of the same
 * device in the process that it was forked from, which is left without any. */
void hotplug_inherit(struct hotplug *hotplug, struct hotplug *from);

/*
 * Between hotplug_map and the restore of any device, once the saved struct has been loaded: the
 * blocks that it says are plugged become copies of the file `fd` (borrowed), in which the region
 * begins at `offset`; fd -1 = no file has it. Memory that was inherited is only checked. -EINVAL
 * when a device cannot have such a struct, or has blocks of which there is no file; -errno of mmap.
 */
int hotplug_restore(struct hotplug *hotplug, int fd, uint64_t offset, struct err *e) __must_check;

struct virtio_dev *hotplug_dev(struct hotplug *hotplug);
const struct hotplug_config *hotplug_config(const struct hotplug *hotplug);
void hotplug_status(const struct hotplug *hotplug, struct hotplug_status *status);

/* Asks the guest for another size; returns before it acts. -EINVAL in Firecracker's words: no
 * multiple of a block, more than the total, a guest that has not activated the device. */
int hotplug_update(struct hotplug *hotplug, uint32_t requested_size_mib,
                   struct err *e) __must_check;

#endif
