/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu_state.h owns what is saved of a vCPU: everything that KVM holds of it, taken and given back
 * by one table of parts (vcpu_state_x86_64.c), in the order that KVM needs.
 *
 * The vCPU is outside KVM_RUN: parked, or not started yet. Any thread, machine lock held.
 */
#ifndef MAYFLY_SNAPSHOT_VCPU_STATE_H
#define MAYFLY_SNAPSHOT_VCPU_STATE_H

#include "vmm/base/kvm.h"
#include "vmm/snapshot/state_file.h"

struct kvm_cpuid_entry2;
struct vcpu_state;

/* A CPUID table of x86_64, borrowed. */
struct vcpu_cpuid {
    const struct kvm_cpuid_entry2 *entry;
    uint32_t count;
};

/* An empty one, tens of KiB; NULL without memory. */
struct vcpu_state *vcpu_state_create(void);
void vcpu_state_destroy(struct vcpu_state *state);

/* Reads everything of vCPU `index` out of KVM. A sentence names the part that KVM refuses. */
int vcpu_state_save(struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd, unsigned index,
                    struct err *e) __must_check;

/*
 * Whether this host has the processor that the guest was promised, by what its KVM offers. -ENOTSUP
 * and a sentence that names what is missing. One of another vendor, or another model, that lacks
 * nothing is only a warning in the log.
 */
int vcpu_state_check(const struct vcpu_state *state, unsigned index, struct vcpu_cpuid offer,
                     struct err *e) __must_check;

/* Whether the guest's table is this one, but for what KVM adjusts as the guest runs. */
bool vcpu_state_has_cpuid(const struct vcpu_state *state, struct vcpu_cpuid table);

/*
 * Gives it to a vCPU that has never run, in a VM whose memory holds what the guest left there;
 * `has_cpuid`: but for its CPUID table, which it has already. The sentence names the part, and the
 * register, that this host's KVM refuses.
 */
int vcpu_state_restore(const struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd,
                       unsigned index, bool has_cpuid, struct err *e) __must_check;

/* To and from the sections of a state file. */
void vcpu_state_write(const struct vcpu_state *state, unsigned index, struct state_writer *w);
int vcpu_state_read(struct vcpu_state *state, unsigned index, struct state_reader *r,
                    struct err *e) __must_check;

#endif
