/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h owns what a user says of a machine, as plain data: the bodies of the API's PUT requests,
 * the members of the config file and of GET /vm/config. No descriptors, nothing of JSON.
 */
#ifndef MAYFLY_VMM_CONFIG_H
#define MAYFLY_VMM_CONFIG_H

#include "vmm/base/mem.h"
#include "vmm/base/rate_limiter.h"

#define MACHINE_VCPUS_MAX 32

/* The command line when boot_args is absent. */
#define BOOT_ARGS_DEFAULT                                                                          \
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd "             \
    "swiotlb=noforce"

enum cpu_template_name {
    CPU_TEMPLATE_NONE,
    CPU_TEMPLATE_C3,
    CPU_TEMPLATE_T2,
    CPU_TEMPLATE_T2S,
    CPU_TEMPLATE_T2CL,
    CPU_TEMPLATE_T2A,
    CPU_TEMPLATE_V1N1, /* aarch64 only */
};

struct machine_config {
    uint32_t vcpu_count;   /* 1 to MACHINE_VCPUS_MAX */
    uint64_t mem_size_mib; /* > 0 */
    bool smt;
    bool track_dirty_pages;
    enum mem_pages huge_pages;
    enum cpu_template_name cpu_template;
};

/* What a machine is until it is told otherwise. */
#define MACHINE_CONFIG_DEFAULTS                                                                    \
    {                                                                                              \
        .vcpu_count = 1, .mem_size_mib = 128                                                       \
    }

/* A custom CPU template (PUT /cpu-config), parsed: what to add to and take from what KVM offers. */
enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

struct cpuid_modifier {
    uint32_t leaf, subleaf, flags;
    enum cpuid_register reg;
    uint32_t keep, value; /* new = (old & keep) | value */
};

struct msr_modifier {
    uint32_t index;
    uint64_t keep, value;
};

struct kvm_capability_modifier {
    uint32_t number;
    bool removed; /* "!56": not required; otherwise required */
};

struct cpu_template {
    struct kvm_capability_modifier *capability;
    struct cpuid_modifier *cpuid;
    struct msr_modifier *msr;
    size_t n_capability, n_cpuid, n_msr;
};

struct boot_source {
    char *kernel_path; /* NULL = not configured */
    char *initrd_path; /* NULL = none */
    char *boot_args;   /* NULL = BOOT_ARGS_DEFAULT */
};

struct serial_config {
    char *out_path; /* NULL = standard output */
    bool has_limiter;
    struct token_bucket_config limiter; /* bytes */
};

#endif
