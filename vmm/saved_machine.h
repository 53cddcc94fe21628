/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saved_machine.h owns which states make up a machine, for those that write them (machine_save.c)
 * and those that read them (machine_load.c).
 *
 * The state file has, in this order: what the machine is (`machine`, its kernel's texts, `memory`,
 * devices), then what it has become: legacy devices, each virtio device in its place, vCPUs, the
 * VM.
 *
 * Loop thread, machine lock held.
 */
#ifndef MAYFLY_VMM_SAVED_MACHINE_H
#define MAYFLY_VMM_SAVED_MACHINE_H

#include "vmm/machine_parts.h"

struct saved_machine {
    uint64_t mem_size_mib;
    uint64_t saved_ns; /* on the clock of STATE_TIME rows */
    uint32_t vcpu_count, huge_pages, cpu_template;
    uint8_t smt, track_dirty, pad[2];
};

extern const struct state_desc saved_machine_desc;

/* The kernel's texts. */
#define KERNEL_PATH "kernel-path"
#define INITRD_PATH "initrd-path"
#define BOOT_ARGS   "boot-args"

/* Of a legacy device. */
struct legacy_state {
    const struct state_desc *desc;
    void *state;
};

#define LEGACY_STATES 3

void list_legacy(struct machine *machine, struct legacy_state list[LEGACY_STATES]);

/* What the writer and the reader of a virtio device's sections do with one struct after another. */
typedef int each_state(const struct state_desc *desc, unsigned index, void *state, void *arg,
                       struct err *e);

/* Calls `each` for every struct of the virtio device in place `index`, until one fails. */
int for_each_state(const struct virtio_slot *slot, unsigned index, each_state *each, void *arg,
                   struct err *e);

#endif
