/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_check_x86_64.c: whether this host has what a saved vCPU's CPUID table promises its guest.
 *
 * KVM takes any table, and a guest that then uses an instruction that is not there dies of it much
 * later. So every bit that says "you may use this" is held against what KVM offers here. Bits that
 * tell the guest of itself (OSXSAVE), that the monitor sets whatever KVM says (hypervisor), or that
 * take something away are left out.
 */
#include "vmm/base/log.h"
#include "vmm/snapshot/vcpu_parts_x86_64.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum reg { EAX, EBX, ECX, EDX };

/* A register of features, and what Linux calls them: a word for each bit from 0 on, - where it has
 * none. */
struct features {
    uint32_t leaf, subleaf;
    enum reg reg;
    uint32_t ignored;
    const char *names;
};

#define BIT(n) (1u << (n))

/* clang-format off */
static const struct features features[] = {
    {0x1, 0, ECX, BIT(3) | BIT(24) | BIT(27) | BIT(31),
     "sse3 pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cnxt_id sdbg fma cx16 xtpr pdcm "
     "- pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline aes xsave osxsave avx f16c rdrand hypervisor"},
    {0x1, 0, EDX, BIT(9) | BIT(28),
     "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov "
     "pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"},
    {0x7, 0, EBX, BIT(6) | BIT(13),
     "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm zero_fcs_fds mpx rdt_a "
     "avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb intel_pt avx512pf avx512er avx512cd "
     "sha_ni avx512bw avx512vl"},
    {0x7, 0, ECX, BIT(4),
     "prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq avx512_vnni "
     "avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid kl bus_lock_detect cldemote - movdiri movdir64b "
     "enqcmd sgx_lc pks"},
    {0x7, 0, EDX, 0,
     "- - avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect srbds_ctrl md_clear rtm_always_abort - "
     "tsx_force_abort serialize hybrid tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile amx_int8 "
     "spec_ctrl intel_stibp flush_l1d arch_capabilities core_capabilities ssbd"},
    {0x7, 1, EAX, 0,
     "sha512 sm3 sm4 rao_int avx_vnni avx512_bf16 lass cmpccxadd arch_perfmon_ext - fzrm fsrs fsrc - - - "
     "- fred lkgs wrmsrns - amx_fp16 hreset avx_ifma - - lam"},
    {0x7, 1, EDX, 0,
     "- - - - avx_vnni_int8 avx_ne_convert - - amx_complex - avx_vnni_int16 - - - prefetchiti - "
     "- - - avx10"},
    {0xd, 0, EAX, 0,
     "x87_state sse_state avx_state bndregs_state bndcsr_state opmask_state zmm_hi256_state hi16_zmm_state "
     "pt_state pkru_state - - - - - - - xtilecfg_state xtiledata_state"},
    {0xd, 1, EAX, 0, "xsaveopt xsavec xgetbv1 xsaves xfd"},
    {0x40000001, 0, EAX, BIT(7),
     "kvmclock nop_io_delay mmu_op kvmclock2 async_pf steal_time pv_eoi pv_unhalt - pv_tlb_flush async_pf_vmexit "
     "pv_send_ipi poll_control pv_sched_yield async_pf_int msi_ext_dest_id hc_map_gpa_range migration_control "
     "- - - - - - clocksource_stable"},
    {0x80000001, 0, ECX, BIT(1) | BIT(22),
     "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp "
     "fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx"},
    {0x80000001, 0, EDX, BIT(9),
     "fpu vme de pse tsc msr pae mce cx8 apic - syscall mtrr pge mca cmov "
     "pat pse36 - mp nx - mmxext mmx fxsr fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow"},
    {0x80000007, 0, EDX, 0, "- - - - - - - - invariant_tsc"},
    {0x80000008, 0, EBX, 0,
     "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - amd_ibpb - amd_ibrs amd_stibp "
     "- amd_stibp_always_on - - - - - amd_ppin amd_ssbd virt_ssbd amd_ssb_no - amd_psfd btc_no"},
    {0x80000021, 0, EAX, 0,
     "no_nested_data_bp - lfence_rdtsc - - - null_sel_clr_base - autoibrs no_smm_ctl_msr"},
};
/* clang-format on */

static const struct kvm_cpuid_entry2 *find(struct vcpu_cpuid table, uint32_t leaf, uint32_t subleaf)
{
    for (uint32_t i = 0; i < table.count; i++) {
        if (table.entry[i].function == leaf && table.entry[i].index == subleaf)
            return &table.entry[i];
    }
    return NULL;
}

static uint32_t value(const struct kvm_cpuid_entry2 *entry, enum reg reg)
{
    if (!entry)
        return 0;
    switch (reg) {
    case EAX:
        return entry->eax;
    case EBX:
        return entry->ebx;
    case ECX:
        return entry->ecx;
    case EDX:
    default:
        return entry->edx;
    }
}

static uint32_t missing_in(const struct features *f, struct vcpu_cpuid saved,
                           struct vcpu_cpuid offer)
{
    return value(find(saved, f->leaf, f->subleaf), f->reg) & ~f->ignored &
           ~value(find(offer, f->leaf, f->subleaf), f->reg);
}

/* ---- the sentence ---------------------------------------------------------------------------- */

/* So many are named, then only counted. */
#define NAMED_MAX 6

struct list {
    char text[512];
    unsigned count;
};

static void add(struct list *list, const char *text, size_t len)
{
    size_t at = strlen(list->text);

    if (list->count++ < NAMED_MAX)
        snprintf(list->text + at, sizeof(list->text) - at, "%s%.*s", at > 0 ? ", " : "", (int)len,
                 text);
}

static void add_bit(struct list *list, const struct features *f, unsigned bit)
{
    static const char *const registers[] = {"EAX", "EBX", "ECX", "EDX"};
    const char *word = f->names;
    char place[64];
    size_t len;

    for (unsigned i = 0; i < bit && word; i++) {
        word = strchr(word, ' ');
        word = word ? word + 1 : NULL;
    }
    len = word ? strcspn(word, " ") : 0;
    if (len > 0 && *word != '-') {
        add(list, word, len);
        return;
    }
    snprintf(place, sizeof(place), "bit %u of CPUID leaf %#x.%u %s", bit, f->leaf, f->subleaf,
             registers[f->reg]);
    add(list, place, strlen(place));
}

static int explain(const struct list *list, struct err *e)
{
    char more[32] = "";

    if (list->count > NAMED_MAX)
        snprintf(more, sizeof(more), " and %u more", list->count - NAMED_MAX);
    return err_set(e, -ENOTSUP,
                   "The guest's processor has features that KVM does not offer on this host: "
                   "%s%s. Load the snapshot on a host that has them, or take it of a guest with a "
                   "CPU template that hides them.",
                   list->text, more);
}

/* ---- another processor ----------------------------------------------------------------------- */

/* Family and model as leaf 1 has them, by the rule that Intel and AMD share. */
static unsigned family_of(uint32_t eax)
{
    unsigned family = eax >> 8 & 0xf;

    return family == 0xf ? family + (eax >> 20 & 0xff) : family;
}

static unsigned model_of(uint32_t eax)
{
    return (eax >> 4 & 0xf) | (eax >> 12 & 0xf0);
}

static void name_processor(struct vcpu_cpuid table, char name[64])
{
    const struct kvm_cpuid_entry2 *first = find(table, 0, 0);
    uint32_t eax = value(find(table, 1, 0), EAX);
    uint32_t vendor[3] = {value(first, EBX), value(first, EDX), value(first, ECX)};

    snprintf(name, 64, "%.12s family %u model %u", (const char *)vendor, family_of(eax),
             model_of(eax));
    for (char *c = name; *c; c++) {
        if (*c < ' ' || *c > '~')
            *c = '?';
    }
}

/* It may work, and whoever has hosts of several kinds knows; so a line in the log. */
static void warn_of_another(struct vcpu_cpuid saved, struct vcpu_cpuid offer)
{
    char theirs[64], ours[64];

    name_processor(saved, theirs);
    name_processor(offer, ours);
    if (strcmp(theirs, ours) != 0)
        log_warn("The snapshot is of a guest on %s; this host is %s.", theirs, ours);
}

int vcpu_state_check(const struct vcpu_state *s, unsigned index, struct vcpu_cpuid offer,
                     struct err *e)
{
    const struct vcpu_cpuid saved = {s->cpuid.entry, s->cpuid.count};
    struct list list = {.count = 0};

    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        uint32_t missing = missing_in(&features[i], saved, offer);

        for (; missing; missing &= missing - 1)
            add_bit(&list, &features[i], (unsigned)__builtin_ctz(missing));
    }
    if (list.count > 0)
        return explain(&list, e);
    if (index == 0)
        warn_of_another(saved, offer);
    return 0;
}

/* ---- the same processor ---------------------------------------------------------------------- */

/* What KVM itself changes in a table while its guest runs, by the guest's own registers. */
static void forget_own_state(struct kvm_cpuid_entry2 *entry)
{
    if (entry->function == 0x1) {
        entry->ecx &= ~(BIT(3) | BIT(27)); /* MONITOR, OSXSAVE */
        entry->edx &= ~BIT(9);             /* APIC */
    } else if (entry->function == 0x7 && entry->index == 0) {
        entry->ecx &= ~BIT(4); /* OSPKE */
    } else if (entry->function == 0xd && entry->index <= 1) {
        entry->ebx = 0; /* the size of what XCR0 and XSS have switched on */
    }
}

bool vcpu_state_has_cpuid(const struct vcpu_state *s, struct vcpu_cpuid table)
{
    bool same = s->cpuid.count == table.count && table.count > 0;

    for (uint32_t i = 0; i < table.count && same; i++) {
        struct kvm_cpuid_entry2 saved = s->cpuid.entry[i], given = table.entry[i];

        forget_own_state(&saved);
        forget_own_state(&given);
        same = memcmp(&saved, &given, sizeof(saved)) == 0;
    }
    return same;
}
