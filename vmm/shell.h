/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shell.h owns the prepared shell: what of a machine can be made before anyone has said which one,
 * in the moments in which the loop would only wait for the first request. A start or a load finds
 * it in its place; what is not there, or does not fit, is made then.
 *
 * First the VM and what KVM says of the processor. Some milliseconds later, for a process that is
 * kept in stock, the interrupt controllers and the first vCPU with the processor of a default
 * machine. Not at once, since memory slots must come before interrupt controllers, or ticks after
 * them (kvm.h): a shell whose controllers are too young is left, and another VM made.
 *
 * Nothing here fails: what cannot be made is left to the start, which says why.
 *
 * Loop thread (or the main thread before loop_run), machine lock held.
 */
#ifndef MAYFLY_VMM_SHELL_H
#define MAYFLY_VMM_SHELL_H

#include "vmm/cpuid_x86_64.h"
#include "vmm/vcpu.h"

struct shell {
    struct loop *loop;
    struct kvm *kvm;     /* the machine's */
    struct vcpus *vcpus; /* the machine's */
    struct idle_work work;
    struct loop_timer pause;
    unsigned next;             /* step */
    bool open;                 /* steps may follow */
    struct cpuid_table *offer; /* what KVM offers a guest; NULL = not asked yet */
    struct cpuid_table *given; /* what the first vCPU says it has been given; NULL = nothing */
};

/* `kvm` (with nothing open) and `vcpus` (with none) are the machine's, to be filled. */
void shell_init(struct shell *shell, struct loop *loop, struct kvm *kvm, struct vcpus *vcpus);

/* Begins: makes one thing after another while the loop has nothing else to do. Once. */
void shell_prepare(struct shell *shell);

/*
 * Ends that, at the start or load: what `kvm` and `vcpus` hold from now on is good for any machine.
 * Notes in the timeline what that is.
 */
void shell_close(struct shell *shell);

/* What KVM offers a guest, asked for once in the life of the process. */
int shell_offer(struct shell *shell, const struct cpuid_table **offer, struct err *e) __must_check;

/* What the first vCPU says it has, once it was given the processor of a default machine: now, if it
 * has not been. */
int shell_given(struct shell *shell, const struct cpuid_table **given, struct err *e) __must_check;

/* In a forked child: knows of the host what the parent's shell knew. */
void shell_inherit(struct shell *shell, const struct shell *parent);

/* The VM has gone, and with it what its vCPU was given. */
void shell_forget_vm(struct shell *shell);

void shell_destroy(struct shell *shell);

#endif
