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

struct vcpu_state;

/* An empty one, tens of KiB; NULL without memory. */
struct vcpu_state *vcpu_state_create(void);
void vcpu_state_destroy(struct vcpu_state *state);

/* Reads everything of vCPU `index` out of KVM. A sentence names the part that KVM refuses. */
int vcpu_state_save(struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd, unsigned index,
                    struct err *e) __must_check;

/*
 * Gives it to a vCPU that has never run, in a VM whose memory holds what the guest left there. The
 * sentence names the part, and the register, that this host's KVM refuses.
 */
int vcpu_state_restore(const struct vcpu_state *state, const struct kvm *kvm, int vcpu_fd,
                       unsigned index, struct err *e) __must_check;

/* To and from the sections of a state file. */
void vcpu_state_write(const struct vcpu_state *state, unsigned index, struct state_writer *w);
int vcpu_state_read(struct vcpu_state *state, unsigned index, struct state_reader *r,
                    struct err *e) __must_check;

#endif
