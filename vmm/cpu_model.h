/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_model.h owns the processor that a guest sees: made once for the machine, from what KVM
 * offers, the CPU template and the topology, in that order; then given to each vCPU as CPUID table
 * and MSRs.
 *
 * The thread that builds the machine.
 */
#ifndef MAYFLY_VMM_CPU_MODEL_H
#define MAYFLY_VMM_CPU_MODEL_H

#include "vmm/base/kvm.h"
#include "vmm/config.h"
#include "vmm/cpuid_x86_64.h"

struct cpu_model {
    struct cpuid_machine machine;
    const struct msr_modifier *msr; /* of the template, which must outlive the model */
    size_t n_msr;
    struct cpuid_table cpuid; /* with the identity of the vCPU that it was given to last */
};

/*
 * Asks the host for AMX on behalf of the guest; before the VM exists, so that KVM offers it and
 * sizes the saved state for it. Harmless where there is none.
 */
void cpu_model_request_features(void);

/* What KVM offers a guest: a third of a millisecond on hosts that are guests themselves. */
int cpu_model_query(const struct kvm *kvm, struct cpuid_table *offer, struct err *e) __must_check;

/*
 * Makes the model out of KVM's offer: applies `cpu_template` if given, else the
 * static one that `config` names, then describes the machine. Errors are sentences about the host
 * or the template, worded as clients of Firecracker know them.
 */
int cpu_model_create(struct cpu_model *model, const struct cpuid_table *offer,
                     const struct machine_config *config, const struct cpu_template *cpu_template,
                     struct err *e) __must_check;

/* Whether the processor can address guest memory that ends at `end`; -EINVAL and a sentence if not:
 * the guest would fault at its first access. */
int cpu_model_check_addresses(struct cpu_model *model, uint64_t end, struct err *e) __must_check;

/* Gives it to vCPU `index`, with that one's identity: its table alone (KVM_SET_CPUID2), or that,
 * the template's MSRs and the boot MSRs. */
int cpu_model_give_cpuid(struct cpu_model *model, int vcpu_fd, unsigned index,
                         struct err *e) __must_check;
int cpu_model_apply(struct cpu_model *model, int vcpu_fd, unsigned index,
                    struct err *e) __must_check;

/* What a vCPU says that it has been given. */
int cpu_model_read_back(int vcpu_fd, struct cpuid_table *table, struct err *e) __must_check;

/* The rate of the vCPU's time stamp counter in kHz; 0 if KVM does not say. */
uint32_t cpu_model_tsc_khz(int vcpu_fd);

#endif
