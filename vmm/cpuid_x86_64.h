/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid_x86_64.h owns what the CPUID instruction tells a guest: the table that KVM offers, made to
 * describe this machine.
 *
 * Two tables of rules do it (cpuid_x86_64.c), one for what all vCPUs share, one for what tells them
 * apart. A rule names a leaf, a register, the bits, and a value or the function that computes it;
 * the vendor is a column, so kvm-intel and kvm-amd take the same path. Facts: Intel SDM vol. 2A,
 * CPUID; AMD APM vol. 3, appendix E.
 *
 * Pure, except for the host's CPUID, which the caller hands in as a function.
 */
#ifndef MAYFLY_VMM_CPUID_X86_64_H
#define MAYFLY_VMM_CPUID_X86_64_H

#include "vmm/base/err.h"
#include "vmm/config.h"

#include <linux/kvm.h>

#define CPUID_ENTRIES_MAX 256 /* KVM takes no more */

/* The memory layout of struct kvm_cpuid2, with room. */
struct cpuid_table {
    uint32_t count;
    uint32_t padding;
    struct kvm_cpuid_entry2 entry[CPUID_ENTRIES_MAX];
};

enum cpu_vendor { CPU_INTEL = 1, CPU_AMD = 2, CPU_OTHER = 4 };
#define CPU_ANY (CPU_INTEL | CPU_AMD | CPU_OTHER)

/* Fills the registers of a leaf as the host's processor has them. */
typedef void cpuid_query(uint32_t leaf, uint32_t subleaf, uint32_t regs[4]);

/* What the table is to describe. */
struct cpuid_machine {
    enum cpu_vendor vendor;
    unsigned vcpus;            /* 1 to MACHINE_VCPUS_MAX, all in one package */
    unsigned threads_per_core; /* 1, or 2 with smt */
    cpuid_query *host;
};

/* The bytes that a table with so many entries has. */
static inline size_t cpuid_table_size(const struct cpuid_table *table)
{
    return offsetof(struct cpuid_table, entry) + table->count * sizeof(table->entry[0]);
}

/* The entry of a leaf and subleaf, or NULL. */
struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf);

/* The vendor that leaf 0 names; Hygon's processors are AMD's design. */
enum cpu_vendor cpuid_vendor(struct cpuid_table *table);

/* How many bits a physical address has: 36 where the table does not say. */
unsigned cpuid_address_bits(struct cpuid_table *table);

/* Where a register is in an entry. */
uint32_t *cpuid_register(struct kvm_cpuid_entry2 *entry, enum cpuid_register reg);

/*
 * Describes the machine: features, topology, caches, brand. Drops entries that are all zero, which
 * a guest cannot tell from absent ones: KVM searches the table in order at every CPUID. -EINVAL and
 * a sentence when KVM's table lacks what every processor has.
 */
int cpuid_describe_machine(struct cpuid_table *table, const struct cpuid_machine *machine,
                           struct err *e) __must_check;

/* Puts the identity of vCPU `index` (its APIC id) into a described table. */
void cpuid_describe_vcpu(struct cpuid_table *table, const struct cpuid_machine *machine,
                         unsigned index);

/* The CPUID instruction. */
void cpuid_host(uint32_t leaf, uint32_t subleaf, uint32_t regs[4]);

#endif
