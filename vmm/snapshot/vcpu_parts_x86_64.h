/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu_parts_x86_64.h owns struct vcpu_state itself, for the three files that make it up: the order
 * of the parts (vcpu_state_x86_64.c), the model-specific registers (vcpu_msrs_x86_64.c), and the
 * sections of the file (vcpu_tables_x86_64.c). Nobody else includes it, tests apart.
 *
 * Most of it are the kernel's own structs: they are of fixed width, without padding that is not
 * named, and never change.
 */
#ifndef MAYFLY_SNAPSHOT_VCPU_PARTS_X86_64_H
#define MAYFLY_SNAPSHOT_VCPU_PARTS_X86_64_H

#include "vmm/snapshot/vcpu_state.h"

#include <linux/kvm.h>

#define CPUID_STATE_MAX 256u /* KVM takes no more */
#define MSR_STATE_MAX   1024u
#define XSAVE_MIN       4096u
#define XSAVE_STATE_MAX 16384u

struct vcpu_clock {
    uint32_t tsc_khz, pad;
};

/* The layouts of struct kvm_cpuid2 and struct kvm_msrs, with room. */
struct cpuid_state {
    uint32_t count, pad;
    struct kvm_cpuid_entry2 entry[CPUID_STATE_MAX];
};

struct msr_state {
    uint32_t count, pad;
    struct kvm_msr_entry entry[MSR_STATE_MAX];
};

struct vcpu_state {
    struct vcpu_clock clock;
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debug;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp_state;
    uint32_t xsave_len;
    struct cpuid_state cpuid;
    struct msr_state msrs;
    uint8_t xsave[XSAVE_STATE_MAX] __attribute__((aligned(64)));
};

/* One save or restore under way. */
struct vcpu_call {
    const struct kvm *kvm;
    int vcpu_fd;
    unsigned index;
    bool has_cpuid; /* the vCPU has its table already */
    struct err *err;
    bool explained; /* *err has the sentence already */
};

int msrs_save(struct vcpu_call *call, struct vcpu_state *s) __must_check;
int msrs_restore(struct vcpu_call *call, const struct vcpu_state *s) __must_check;

/*
 * A deadline that has passed, but whose interrupt KVM still holds back, reads as 0 and would be
 * lost. It becomes the present moment: the interrupt then comes at once after the restore.
 */
void msrs_keep_deadline(struct vcpu_state *s);

/* The tables, for the test that all tables pass. */
extern const struct state_desc vcpu_clock_desc, vcpu_sregs_desc, vcpu_regs_desc, vcpu_xcrs_desc,
    vcpu_debug_desc, vcpu_lapic_desc, vcpu_events_desc, vcpu_mp_state_desc, vcpu_cpuid_desc,
    vcpu_msr_desc;

#endif
