/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_state.h owns what is saved of a VM beside its vCPUs and its memory: the interrupt controllers
 * that KVM emulates and the guest's clock.
 *
 * All vCPUs are outside KVM_RUN. Any thread, machine lock held.
 */
#ifndef MAYFLY_SNAPSHOT_VM_STATE_H
#define MAYFLY_SNAPSHOT_VM_STATE_H

#include "vmm/base/kvm.h"
#include "vmm/snapshot/state_file.h"

#include <linux/kvm.h>

/* On x86_64. */
struct vm_state {
    struct kvm_pic_state pic[2];
    struct kvm_ioapic_state ioapic;
    struct kvm_clock_data clock;
};

/* The tables, for the test that all tables pass. */
extern const struct state_desc vm_pic_desc, vm_ioapic_desc, vm_clock_desc;

/* Reads it out of KVM. */
int vm_state_save(struct vm_state *state, const struct kvm *kvm, struct err *e) __must_check;

/*
 * Gives it to a VM, after its vCPUs have got their states: an interrupt that waits in a controller
 * goes to a local APIC at once. The guest's clock goes on where it was; with `wall_clock` it is put
 * forward by the time that has passed, where the kernels of both hosts can (Linux 5.16); a warning
 * in the log says that the first could not.
 */
int vm_state_restore(const struct vm_state *state, const struct kvm *kvm, bool wall_clock,
                     struct err *e) __must_check;

/* To and from the sections of a state file. */
void vm_state_write(const struct vm_state *state, struct state_writer *w);
int vm_state_read(struct vm_state *state, struct state_reader *r, struct err *e) __must_check;

#endif
