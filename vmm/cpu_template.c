/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_template.c: applying templates, and the contents of the static ones. */
#include "vmm/cpu_template.h"

#include <errno.h>

/* ---- capabilities ---------------------------------------------------------------------------- */

int cpu_template_check_capabilities(const struct cpu_template *cpu_template, const struct kvm *kvm,
                                    struct err *e)
{
    for (size_t i = 0; i < cpu_template->n_capability; i++) {
        const struct kvm_capability_modifier *c = &cpu_template->capability[i];

        if (!c->removed && kvm_capability(kvm, c->number) <= 0)
            return err_set(e, -ENOTSUP, "Kvm error: Missing KVM capabilities: %#x", c->number);
    }
    return 0;
}

bool cpu_template_waives(void *arg, unsigned number)
{
    const struct cpu_template *cpu_template = arg;

    for (size_t i = 0; cpu_template && i < cpu_template->n_capability; i++) {
        if (cpu_template->capability[i].removed && cpu_template->capability[i].number == number)
            return true;
    }
    return false;
}

/* ---- applying -------------------------------------------------------------------------------- */

static int apply_one(const struct cpuid_modifier *m, struct cpuid_table *table, struct err *e)
{
    struct kvm_cpuid_entry2 *entry = cpuid_find(table, m->leaf, m->subleaf);
    uint32_t *reg;

    if (!entry)
        return err_set(e, -EINVAL,
                       "Failed to create guest config: Template changes a CPUID entry not "
                       "supported by KVM: Leaf: %x, Subleaf: %x",
                       m->leaf, m->subleaf);
    entry->flags = m->flags;
    reg = cpuid_register(entry, m->reg);
    *reg = (*reg & m->keep) | m->value;
    return 0;
}

int cpu_template_apply_cpuid(const struct cpu_template *cpu_template, struct cpuid_table *table,
                             struct err *e)
{
    for (size_t i = 0; i < cpu_template->n_cpuid; i++) {
        int ret = apply_one(&cpu_template->cpuid[i], table, e);

        if (ret < 0)
            return ret;
    }
    return 0;
}

/* ---- static templates ------------------------------------------------------------------------ */

/*
 * The T2 family shows the features of an Intel Haswell server: T2 on Intel hosts, T2S with its MSR
 * part for moving snapshots between Skylake and Cascade Lake, T2CL (Cascade Lake and later) and T2A
 * (AMD Milan) with the same instructions on both vendors. C3 shows an Ivy Bridge server. The bits
 * follow the templates that Firecracker documents.
 */
enum {
    T2 = 1 << CPU_TEMPLATE_T2,
    T2S = 1 << CPU_TEMPLATE_T2S,
    T2CL = 1 << CPU_TEMPLATE_T2CL,
    T2A = 1 << CPU_TEMPLATE_T2A,
    C3 = 1 << CPU_TEMPLATE_C3,
    T2_ALL = T2 | T2S | T2CL | T2A,
    ALL = T2_ALL | C3,
};

#define BIT(n) (1u << (n))
#define INDEX  KVM_CPUID_FLAG_SIGNIFCANT_INDEX

/* Family, model, type and stepping in leaf 1; the reserved bits stay. */
#define SIGNATURE      0x0fff3fffu
#define HASWELL_SERVER 0x000306f2u
#define IVY_BRIDGE     0x000306e4u

/* Leaf 1: debug store, MONITOR, VMX, SMX, speed step, thermal, xTPR, PDCM, DCA; MCE and MTRR are
 * on. */
#define LEAF1_ECX_COMMON                                                                           \
    (BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(11) | BIT(14) | BIT(15))
#define LEAF1_EDX_COMMON                                                                           \
    (BIT(7) | BIT(12) | BIT(18) | BIT(21) | BIT(22) | BIT(27) | BIT(29) | BIT(31))
#define LEAF1_EDX_ON (BIT(7) | BIT(12))

/* Leaf 7 EBX: SGX, HLE, RTM, RDT, MPX, RDSEED, ADX, CLFLUSHOPT, CLWB, processor trace, SHA,
 * AVX-512. */
#define LEAF7_EBX_COMMON                                                                           \
    (BIT(2) | BIT(4) | BIT(11) | BIT(12) | BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(18) |       \
     BIT(19) | BIT(21) | BIT(23) | BIT(24) | BIT(25) | BIT(26) | BIT(27) | BIT(28) | BIT(29) |     \
     BIT(30) | BIT(31))
/* Leaf 7 ECX: AVX512_VBMI, UMIP, PKU, OSPKE, AVX512_VNNI, AVX512_VPOPCNTDQ, LA57, RDPID, SGX_LC. */
#define LEAF7_ECX_COMMON                                                                           \
    (BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(11) | BIT(14) | BIT(16) | BIT(22) | BIT(30))

static const struct static_row {
    unsigned templates;
    uint32_t leaf, subleaf, flags;
    enum cpuid_register reg;
    uint32_t changed, value;
} static_rows[] = {
    {T2_ALL, 0x1, 0, 0, CPUID_EAX, SIGNATURE, HASWELL_SERVER},
    {C3, 0x1, 0, 0, CPUID_EAX, SIGNATURE, IVY_BRIDGE},
    {T2_ALL, 0x1, 0, 0, CPUID_ECX, LEAF1_ECX_COMMON | BIT(6) | BIT(7) | BIT(18), 0},
    {C3, 0x1, 0, 0, CPUID_ECX, LEAF1_ECX_COMMON | BIT(12) | BIT(22), 0}, /* FMA, MOVBE too */
    {T2_ALL, 0x1, 0, 0, CPUID_EDX, LEAF1_EDX_COMMON | BIT(30), LEAF1_EDX_ON},
    {C3, 0x1, 0, 0, CPUID_EDX, LEAF1_EDX_COMMON, LEAF1_EDX_ON},

    /* Bit 9, fast REP MOVSB, is on; bit 22 is PCOMMIT. */
    {T2_ALL, 0x7, 0, INDEX, CPUID_EBX, LEAF7_EBX_COMMON | BIT(9) | BIT(22), BIT(9)},
    /* BMI1, AVX2, BMI2, INVPCID too. */
    {C3, 0x7, 0, INDEX, CPUID_EBX, LEAF7_EBX_COMMON | BIT(3) | BIT(5) | BIT(8) | BIT(10), 0},
    /* AVX512_VBMI2, GFNI, VAES, VPCLMULQDQ, AVX512_BITALG too. */
    {T2_ALL, 0x7, 0, INDEX, CPUID_ECX,
     LEAF7_ECX_COMMON | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(12), 0},
    {C3, 0x7, 0, INDEX, CPUID_ECX, LEAF7_ECX_COMMON, 0},
    /* AVX512_4VNNIW and 4FMAPS; fast short REP MOV, AVX512_VP2INTERSECT too. */
    {T2_ALL, 0x7, 0, INDEX, CPUID_EDX, BIT(2) | BIT(3) | BIT(4) | BIT(8), 0},
    {C3, 0x7, 0, INDEX, CPUID_EDX, BIT(2) | BIT(3), 0},

    /* State components: MPX, AVX-512, PKRU; then XSAVEC, XGETBV with ECX = 1, XSAVES. */
    {ALL, 0xd, 0, INDEX, CPUID_EAX, BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(9), 0},
    {ALL, 0xd, 1, INDEX, CPUID_EAX, BIT(1) | BIT(2) | BIT(3), 0},

    /* PREFETCHW, MONITORX; LZCNT; SSE4A and misaligned SSE. */
    {T2 | T2S, 0x80000001, 0, 0, CPUID_ECX, BIT(8) | BIT(29), 0},
    {T2CL | T2A, 0x80000001, 0, 0, CPUID_ECX, BIT(6) | BIT(7) | BIT(8) | BIT(29), 0},
    {C3, 0x80000001, 0, 0, CPUID_ECX, BIT(5) | BIT(8), 0},
    /* 1 GiB pages; AMD's copies of MMX and FXSR bits. */
    {T2 | T2S | C3, 0x80000001, 0, 0, CPUID_EDX, BIT(26), 0},
    {T2CL | T2A, 0x80000001, 0, 0, CPUID_EDX, BIT(22) | BIT(23) | BIT(24) | BIT(25) | BIT(26), 0},

    /* WBNOINVD; on AMD also CLZERO and error pointers off, IBRS preferred and same-mode on. */
    {T2 | T2S | T2CL, 0x80000008, 0, 0, CPUID_EBX, BIT(9), 0},
    {T2A, 0x80000008, 0, 0, CPUID_EBX, BIT(0) | BIT(2) | BIT(9) | BIT(18) | BIT(19),
     BIT(18) | BIT(19)},
};

#define MSR_ARCH_CAPABILITIES 0x10a

/* RSBA, SKIP_L1DFL_VMENTRY, IF_PSCHANGE_MC_NO, MISC_PACKAGE_CTLS, ENERGY_FILTERING_CTL: the weakest
 * host. */
static const struct msr_modifier t2s_msr = {MSR_ARCH_CAPABILITIES, 0, 0xc4c};

/* Keeps the bits for mitigations (0-8, 13-15, 17, 19, 24, 26, 27), hides what is not about them. */
static const struct msr_modifier t2cl_msr = {MSR_ARCH_CAPABILITIES, 0x0d0ae1ff, 0};

size_t cpu_template_static_msrs(enum cpu_template_name name, const struct msr_modifier **modifier)
{
    *modifier = name == CPU_TEMPLATE_T2S ? &t2s_msr : &t2cl_msr;
    return name == CPU_TEMPLATE_T2S || name == CPU_TEMPLATE_T2CL;
}

/* Cascade Lake is family 6, model 0x55, stepping 7; what came later has higher model numbers. */
static bool at_least_cascade_lake(struct cpuid_table *table)
{
    const struct kvm_cpuid_entry2 *leaf1 = cpuid_find(table, 1, 0);
    unsigned family, model, stepping;

    if (!leaf1)
        return false;
    family = ((leaf1->eax >> 8) & 0xf) + ((leaf1->eax >> 20) & 0xff);
    model = ((leaf1->eax >> 4) & 0xf) | ((leaf1->eax >> 12) & 0xf0);
    stepping = leaf1->eax & 0xf;
    if (family != 6)
        return family > 6;
    return model > 0x55 || (model == 0x55 && stepping >= 7);
}

static int check_fits(enum cpu_template_name name, struct cpuid_table *table, struct err *e)
{
    enum cpu_vendor made_for = name == CPU_TEMPLATE_T2A ? CPU_AMD : CPU_INTEL;

    if (name == CPU_TEMPLATE_V1N1 || cpuid_vendor(table) != made_for)
        return err_set(e, -EINVAL,
                       "Failed to get CPU template: CPU vendor mismatched between actual CPU and "
                       "CPU template.");
    if (name == CPU_TEMPLATE_T2CL && !at_least_cascade_lake(table))
        return err_set(e, -EINVAL,
                       "Failed to get CPU template: The current CPU model is not permitted to "
                       "apply the CPU template.");
    return 0;
}

int cpu_template_apply_static_cpuid(enum cpu_template_name name, struct cpuid_table *table,
                                    struct err *e)
{
    int ret = check_fits(name, table, e);

    for (size_t i = 0; !ret && i < ARRAY_SIZE(static_rows); i++) {
        const struct static_row *row = &static_rows[i];
        const struct cpuid_modifier m = {
            .leaf = row->leaf,
            .subleaf = row->subleaf,
            .flags = row->flags,
            .reg = row->reg,
            .keep = ~row->changed,
            .value = row->value,
        };

        if (row->templates & (1u << name))
            ret = apply_one(&m, table, e);
    }
    return ret;
}
