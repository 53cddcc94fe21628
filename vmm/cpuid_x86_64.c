/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid_x86_64.c: the rules that turn what KVM offers into what this machine is. */
#include "vmm/cpuid_x86_64.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BRAND_LEN    48 /* three leaves of four registers */
#define BRAND_LEAF   0x80000002u
#define ANY_SUBLEAF  UINT32_MAX
#define PACKAGE_BITS 5 /* of an APIC id: MACHINE_VCPUS_MAX vCPUs in one package */

#define BIT(n)          (1u << (n))
#define BITS(high, low) ((UINT32_MAX >> (31 - (high))) & (UINT32_MAX << (low)))
#define ALL_BITS        UINT32_MAX

void cpuid_host(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
    __cpuid_count(leaf, subleaf, regs[0], regs[1], regs[2], regs[3]);
}

/* ---- the table ------------------------------------------------------------------------------- */

struct kvm_cpuid_entry2 *cpuid_find(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf)
{
    for (uint32_t i = 0; i < table->count; i++) {
        if (table->entry[i].function == leaf && table->entry[i].index == subleaf)
            return &table->entry[i];
    }
    return NULL;
}

uint32_t *cpuid_register(struct kvm_cpuid_entry2 *entry, enum cpuid_register reg)
{
    switch (reg) {
    case CPUID_EAX:
        return &entry->eax;
    case CPUID_EBX:
        return &entry->ebx;
    case CPUID_ECX:
        return &entry->ecx;
    case CPUID_EDX:
        break;
    }
    return &entry->edx;
}

static bool is_zero(const struct kvm_cpuid_entry2 *entry)
{
    return !(entry->eax | entry->ebx | entry->ecx | entry->edx);
}

static void set_registers(struct kvm_cpuid_entry2 *entry, const uint32_t regs[4])
{
    entry->eax = regs[0];
    entry->ebx = regs[1];
    entry->ecx = regs[2];
    entry->edx = regs[3];
}

unsigned cpuid_address_bits(struct cpuid_table *table)
{
    const struct kvm_cpuid_entry2 *sizes = cpuid_find(table, 0x80000008, 0);
    unsigned bits = sizes ? sizes->eax & 0xff : 0;

    return bits > 0 && bits < 64 ? bits : 36;
}

/* The entry, added if it is missing; NULL when the table is full. */
static struct kvm_cpuid_entry2 *find_or_add(struct cpuid_table *table, uint32_t leaf,
                                            uint32_t subleaf, uint32_t flags)
{
    struct kvm_cpuid_entry2 *entry = cpuid_find(table, leaf, subleaf);

    if (entry || table->count == CPUID_ENTRIES_MAX)
        return entry;
    entry = &table->entry[table->count++];
    *entry = (struct kvm_cpuid_entry2){.function = leaf, .index = subleaf, .flags = flags};
    return entry;
}

enum cpu_vendor cpuid_vendor(struct cpuid_table *table)
{
    static const struct {
        char name[13];
        enum cpu_vendor vendor;
    } vendors[] = {
        {"GenuineIntel", CPU_INTEL},
        {"AuthenticAMD", CPU_AMD},
        {"HygonGenuine", CPU_AMD},
    };
    const struct kvm_cpuid_entry2 *leaf0 = cpuid_find(table, 0, 0);

    for (size_t i = 0; leaf0 && i < ARRAY_SIZE(vendors); i++) {
        if (!memcmp(vendors[i].name, &leaf0->ebx, 4) &&
            !memcmp(vendors[i].name + 4, &leaf0->edx, 4) &&
            !memcmp(vendors[i].name + 8, &leaf0->ecx, 4))
            return vendors[i].vendor;
    }
    return CPU_OTHER;
}

/* ---- values that are computed ---------------------------------------------------------------- */

/* `old` is the whole register; the result is the field's value. */
typedef uint32_t rule_value(const struct cpuid_machine *m, const struct kvm_cpuid_entry2 *entry,
                            unsigned index);

static unsigned thread_bits(const struct cpuid_machine *m)
{
    return m->threads_per_core > 1 ? 1 : 0;
}

static uint32_t value_apic_id(const struct cpuid_machine *m, const struct kvm_cpuid_entry2 *entry,
                              unsigned index)
{
    (void)m;
    (void)entry;
    return index;
}

static uint32_t value_core_id(const struct cpuid_machine *m, const struct kvm_cpuid_entry2 *entry,
                              unsigned index)
{
    (void)entry;
    return index / m->threads_per_core;
}

/* APIC ids that the package reserves: a power of two. */
static uint32_t value_package_ids(const struct cpuid_machine *m,
                                  const struct kvm_cpuid_entry2 *entry, unsigned index)
{
    uint32_t ids = 1;

    (void)entry;
    (void)index;
    while (ids < m->vcpus)
        ids *= 2;
    return ids;
}

static uint32_t value_more_than_one(const struct cpuid_machine *m,
                                    const struct kvm_cpuid_entry2 *entry, unsigned index)
{
    (void)entry;
    (void)index;
    return m->vcpus > 1;
}

static uint32_t value_vcpus(const struct cpuid_machine *m, const struct kvm_cpuid_entry2 *entry,
                            unsigned index)
{
    (void)entry;
    (void)index;
    return m->vcpus;
}

static uint32_t value_vcpus_minus_1(const struct cpuid_machine *m,
                                    const struct kvm_cpuid_entry2 *entry, unsigned index)
{
    (void)entry;
    (void)index;
    return m->vcpus - 1;
}

static uint32_t value_cores_minus_1(const struct cpuid_machine *m,
                                    const struct kvm_cpuid_entry2 *entry, unsigned index)
{
    (void)entry;
    (void)index;
    return (m->vcpus + m->threads_per_core - 1) / m->threads_per_core - 1;
}

static uint32_t value_thread_bits(const struct cpuid_machine *m,
                                  const struct kvm_cpuid_entry2 *entry, unsigned index)
{
    (void)entry;
    (void)index;
    return thread_bits(m);
}

static uint32_t value_threads(const struct cpuid_machine *m, const struct kvm_cpuid_entry2 *entry,
                              unsigned index)
{
    (void)entry;
    (void)index;
    return m->threads_per_core;
}

static uint32_t value_threads_minus_1(const struct cpuid_machine *m,
                                      const struct kvm_cpuid_entry2 *entry, unsigned index)
{
    (void)entry;
    (void)index;
    return m->threads_per_core - 1;
}

/* How many share a cache, less one: level 1 and 2 are a core's, level 3 is the package's. */
static uint32_t value_cache_sharing(const struct cpuid_machine *m,
                                    const struct kvm_cpuid_entry2 *entry, unsigned index)
{
    unsigned level = (entry->eax >> 5) & 7;

    (void)index;
    if (level == 3)
        return m->vcpus - 1;
    return level == 1 || level == 2 ? m->threads_per_core - 1 : (entry->eax >> 14) & 0xfff;
}

/* The topology leaf of AMD must be in range; what KVM offers beyond it stays. */
static uint32_t value_max_extended(const struct cpuid_machine *m,
                                   const struct kvm_cpuid_entry2 *entry, unsigned index)
{
    (void)m;
    (void)index;
    return MAX(entry->eax, 0x8000001eu);
}

/* ---- rules ----------------------------------------------------------------------------------- */

struct rule {
    unsigned vendors;
    uint32_t leaf, subleaf;
    enum cpuid_register reg;
    uint32_t bits;
    uint32_t value;      /* of the field, not shifted; */
    rule_value *compute; /* or how to compute it */
};

#define EAX CPUID_EAX
#define EBX CPUID_EBX
#define ECX CPUID_ECX
#define EDX CPUID_EDX

/* clang-format off */

/* A topology leaf: the threads of a core, then the vCPUs of the package. */
#define TOPOLOGY_RULES(vendors, leaf)                                                              \
    {vendors, leaf, 0, EAX, ALL_BITS, 0, value_thread_bits},                                       \
    {vendors, leaf, 0, EBX, ALL_BITS, 0, value_threads},                                           \
    {vendors, leaf, 0, ECX, ALL_BITS, 0x100, NULL},                                                \
    {vendors, leaf, 1, EAX, ALL_BITS, PACKAGE_BITS, NULL},                                         \
    {vendors, leaf, 1, EBX, ALL_BITS, 0, value_vcpus},                                             \
    {vendors, leaf, 1, ECX, ALL_BITS, 0x201, NULL}

/* The same for every vCPU. */
static const struct rule machine_rules[] = {
    {CPU_ANY, 0x1, 0, EBX, BITS(15, 8), 8, NULL},                   /* CLFLUSH: 64 bytes */
    {CPU_ANY, 0x1, 0, EBX, BITS(23, 16), 0, value_package_ids},
    {CPU_ANY, 0x1, 0, ECX, BIT(15), 0, NULL},                       /* PDCM: no PMU */
    {CPU_ANY, 0x1, 0, ECX, BIT(24), 1, NULL},                       /* TSC deadline: the in-kernel APIC has it */
    {CPU_ANY, 0x1, 0, ECX, BIT(31), 1, NULL},                       /* hypervisor */
    {CPU_ANY, 0x1, 0, EDX, BIT(28), 0, value_more_than_one},        /* HTT: the id count is valid */
    TOPOLOGY_RULES(CPU_ANY, 0xb),
    TOPOLOGY_RULES(CPU_INTEL, 0x1f),
    {CPU_ANY, 0x80000006, 0, EDX, BITS(17, 16), 0, NULL},           /* reserved */

    {CPU_INTEL, 0x4, ANY_SUBLEAF, EAX, BITS(25, 14), 0, value_cache_sharing},
    {CPU_INTEL, 0x4, ANY_SUBLEAF, EAX, BITS(31, 26), 0, value_cores_minus_1},
    {CPU_INTEL, 0x6, 0, EAX, BIT(1), 0, NULL},                      /* turbo */
    {CPU_INTEL, 0x6, 0, ECX, BIT(3), 0, NULL},                      /* energy and performance bias */
    {CPU_INTEL, 0x7, 0, EBX, BIT(6), 1, NULL},                      /* FDP only on exceptions */
    {CPU_INTEL, 0x7, 0, EBX, BIT(13), 1, NULL},                     /* FCS and FDS deprecated */
    {CPU_INTEL, 0x7, 0, ECX, BIT(5), 0, NULL},                      /* WAITPKG: would idle the host's CPU */
    {CPU_INTEL, 0xa, 0, EAX, ALL_BITS, 0, NULL},                    /* no PMU */
    {CPU_INTEL, 0xa, 0, EBX, ALL_BITS, 0, NULL},
    {CPU_INTEL, 0xa, 0, ECX, ALL_BITS, 0, NULL},
    {CPU_INTEL, 0xa, 0, EDX, ALL_BITS, 0, NULL},

    {CPU_AMD, 0x7, 0, EDX, BIT(29), 0, NULL},                       /* ARCH_CAPABILITIES: Intel's MSR */
    {CPU_AMD, 0x80000000, 0, EAX, ALL_BITS, 0, value_max_extended},
    {CPU_AMD, 0x80000001, 0, ECX, BIT(22), 1, NULL},                /* TOPOEXT: 0x8000001d and 1e are valid */
    {CPU_AMD, 0x80000008, 0, ECX, BITS(7, 0), 0, value_vcpus_minus_1},
    {CPU_AMD, 0x80000008, 0, ECX, BITS(15, 12), 7, NULL},           /* APIC id size */
    {CPU_AMD, 0x8000001d, ANY_SUBLEAF, EAX, BITS(25, 14), 0, value_cache_sharing},
    {CPU_AMD, 0x8000001e, 0, EBX, BITS(15, 8), 0, value_threads_minus_1},
    {CPU_AMD, 0x8000001e, 0, ECX, BITS(10, 0), 0, NULL},            /* one node, number 0 */
};

/* What tells one vCPU from another. */
static const struct rule vcpu_rules[] = {
    {CPU_ANY, 0x1, 0, EBX, BITS(31, 24), 0, value_apic_id},
    {CPU_ANY, 0xb, ANY_SUBLEAF, EDX, ALL_BITS, 0, value_apic_id},
    {CPU_INTEL, 0x1f, ANY_SUBLEAF, EDX, ALL_BITS, 0, value_apic_id},
    {CPU_AMD, 0x8000001e, 0, EAX, ALL_BITS, 0, value_apic_id},
    {CPU_AMD, 0x8000001e, 0, EBX, BITS(7, 0), 0, value_core_id},
};
/* clang-format on */

static void apply_rule(const struct rule *rule, struct cpuid_table *table,
                       const struct cpuid_machine *machine, unsigned index)
{
    for (uint32_t i = 0; i < table->count; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entry[i];
        uint32_t value, *reg;

        if (entry->function != rule->leaf ||
            (rule->subleaf != ANY_SUBLEAF && entry->index != rule->subleaf))
            continue;
        /* The list of caches ends with an empty entry, which stays empty. */
        if (rule->compute == value_cache_sharing || rule->compute == value_cores_minus_1) {
            if (!(entry->eax & 0x1f))
                continue;
        }
        value = rule->compute ? rule->compute(machine, entry, index) : rule->value;
        reg = cpuid_register(entry, rule->reg);
        *reg = (*reg & ~rule->bits) | ((value << __builtin_ctz(rule->bits)) & rule->bits);
    }
}

static void apply_rules(const struct rule *rules, size_t count, struct cpuid_table *table,
                        const struct cpuid_machine *machine, unsigned index)
{
    for (size_t i = 0; i < count; i++) {
        if (rules[i].vendors & machine->vendor)
            apply_rule(&rules[i], table, machine, index);
    }
}

/* Whether a vCPU's identity goes into the entry, so that it may be zero for the first one only. */
static bool has_identity(const struct cpuid_machine *machine, const struct kvm_cpuid_entry2 *entry)
{
    for (size_t i = 0; i < ARRAY_SIZE(vcpu_rules); i++) {
        if (vcpu_rules[i].leaf == entry->function && (vcpu_rules[i].vendors & machine->vendor))
            return true;
    }
    return false;
}

static void drop_zero_entries(struct cpuid_table *table, const struct cpuid_machine *machine)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < table->count; i++) {
        if (!is_zero(&table->entry[i]) || has_identity(machine, &table->entry[i]))
            table->entry[kept++] = table->entry[i];
    }
    table->count = kept;
}

/* ---- entries that KVM leaves out, or empty --------------------------------------------------- */

/* Takes a leaf from the host where KVM says nothing of it. */
static void fill_from_host(struct cpuid_table *table, const struct cpuid_machine *machine,
                           uint32_t leaf)
{
    struct kvm_cpuid_entry2 *entry = find_or_add(table, leaf, 0, 0);
    uint32_t regs[4];

    if (!entry || !is_zero(entry))
        return;
    machine->host(leaf, 0, regs);
    set_registers(entry, regs);
}

/* AMD's list of caches; old kernels do not pass it on. */
static void fill_amd_caches(struct cpuid_table *table, const struct cpuid_machine *machine)
{
    const struct kvm_cpuid_entry2 *first = cpuid_find(table, 0x8000001d, 0);
    const uint32_t limit = 16;

    if (first && !is_zero(first))
        return;
    for (uint32_t i = 0; i < limit; i++) {
        struct kvm_cpuid_entry2 *entry;
        uint32_t regs[4];

        machine->host(0x8000001d, i, regs);
        if (!(regs[0] & 0x1f))
            return;
        entry = find_or_add(table, 0x8000001d, i, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
        if (entry)
            set_registers(entry, regs);
    }
}

static void fill_missing(struct cpuid_table *table, const struct cpuid_machine *machine)
{
    const struct kvm_cpuid_entry2 *leaf0 = cpuid_find(table, 0, 0);

    /* Since Linux 6.2 KVM offers no topology: its leaves have one empty subleaf. */
    if (leaf0 && leaf0->eax >= 0xb) {
        find_or_add(table, 0xb, 0, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
        find_or_add(table, 0xb, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    }
    if (cpuid_find(table, 0x1f, 0) && machine->vendor == CPU_INTEL)
        find_or_add(table, 0x1f, 1, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    fill_from_host(table, machine, 0x80000006);
    if (machine->vendor == CPU_AMD) {
        fill_from_host(table, machine, 0x80000005);
        fill_amd_caches(table, machine);
        find_or_add(table, 0x8000001e, 0, 0);
    }
}

/* ---- the brand string ------------------------------------------------------------------------ */

/* Where "3.00GHz" begins in the host's brand string, and its length; 0 = it names no frequency. */
static size_t find_frequency(const char *brand, const char **start)
{
    for (const char *end = brand; *end; end++) {
        const char *from = end;

        if (!strchr("MGT", *end) || strncmp(end + 1, "Hz", 2))
            continue;
        while (from > brand && (from[-1] == '.' || (from[-1] >= '0' && from[-1] <= '9')))
            from--;
        if (from == end || from == brand || from[-1] != ' ')
            return 0;
        *start = from;
        return (size_t)(end + 3 - from);
    }
    return 0;
}

/* A generic name with the host's nominal frequency, so that guests cannot tell models apart
 * by it. */
static void intel_brand(const struct cpuid_machine *machine, char brand[BRAND_LEN + 1])
{
    char host[BRAND_LEN + 1] = {0};
    const char *frequency = NULL;
    size_t len;

    for (uint32_t i = 0; i < 3; i++) {
        uint32_t regs[4];

        machine->host(BRAND_LEAF + i, 0, regs);
        memcpy(host + (size_t)i * sizeof(regs), regs, sizeof(regs));
    }
    len = find_frequency(host, &frequency);
    if (len)
        snprintf(brand, BRAND_LEN + 1, "Intel(R) Xeon(R) Processor @ %.*s", (int)MIN(len, 18u),
                 frequency);
    else
        snprintf(brand, BRAND_LEN + 1, "Intel(R) Xeon(R) Processor");
}

static void set_brand(struct cpuid_table *table, const struct cpuid_machine *machine)
{
    char brand[BRAND_LEN + 1] = {0};

    if (machine->vendor == CPU_INTEL)
        intel_brand(machine, brand);
    else if (machine->vendor == CPU_AMD)
        snprintf(brand, sizeof(brand), "AMD EPYC");
    else
        return;
    for (uint32_t i = 0; i < 3; i++) {
        struct kvm_cpuid_entry2 *entry = find_or_add(table, BRAND_LEAF + i, 0, 0);
        uint32_t regs[4];

        memcpy(regs, brand + (size_t)i * sizeof(regs), sizeof(regs));
        if (entry)
            set_registers(entry, regs);
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

int cpuid_describe_machine(struct cpuid_table *table, const struct cpuid_machine *machine,
                           struct err *e)
{
    if (!cpuid_find(table, 0, 0) || !cpuid_find(table, 1, 0))
        return err_set(e, -EINVAL, "KVM's table of CPUID leaves lacks leaf 0 or 1.");
    fill_missing(table, machine);
    set_brand(table, machine);
    apply_rules(machine_rules, ARRAY_SIZE(machine_rules), table, machine, 0);
    drop_zero_entries(table, machine);
    return 0;
}

void cpuid_describe_vcpu(struct cpuid_table *table, const struct cpuid_machine *machine,
                         unsigned index)
{
    apply_rules(vcpu_rules, ARRAY_SIZE(vcpu_rules), table, machine, index);
}
