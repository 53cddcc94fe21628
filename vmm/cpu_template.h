/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_template.h owns CPU templates: changes to the CPUID table and MSRs that hide features from a
 * guest, so that processors of several generations look alike to it. A user gives one of his own
 * (struct cpu_template, PUT /cpu-config), or names a static one (`cpu_template` in
 * /machine-config), whose contents are one table in cpu_template.c.
 */
#ifndef MAYFLY_VMM_CPU_TEMPLATE_H
#define MAYFLY_VMM_CPU_TEMPLATE_H

#include "vmm/base/kvm.h"
#include "vmm/cpuid_x86_64.h"

/* Checks the capabilities that the template adds to the required ones; the sentence names the
 * missing one. */
int cpu_template_check_capabilities(const struct cpu_template *cpu_template, const struct kvm *kvm,
                                    struct err *e) __must_check;

/* Whether the template (arg; may be NULL) drops a required capability:
 * for kvm_check_capabilities. */
bool cpu_template_waives(void *arg, unsigned number);

/* Applies the template's CPUID part. -EINVAL when it changes a leaf that KVM does not offer. */
int cpu_template_apply_cpuid(const struct cpu_template *cpu_template, struct cpuid_table *table,
                             struct err *e) __must_check;

/*
 * The same of a static template. -EINVAL with a sentence when it is not made for this processor (by
 * vendor and, for T2CL, model), and for CPU_TEMPLATE_V1N1, which is not for x86_64 at all.
 */
int cpu_template_apply_static_cpuid(enum cpu_template_name name, struct cpuid_table *table,
                                    struct err *e) __must_check;

/* The MSR changes of a static template, and how many; 0 for most. */
size_t cpu_template_static_msrs(enum cpu_template_name name, const struct msr_modifier **modifier);

#endif
