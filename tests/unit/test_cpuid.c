/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests of vmm/cpuid_x86_64.c against tables as kvm-intel and kvm-amd offer them, and of cpu_model
 * on the host's own KVM where /dev/kvm opens.
 */
#include "tests/unit/unit.h"
#include "vmm/cpu_model.h"
#include "vmm/cpuid_x86_64.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>

#define INDEX KVM_CPUID_FLAG_SIGNIFCANT_INDEX

/* A Cascade Lake server on Linux 6.1, shortened. */
static const struct kvm_cpuid_entry2 intel[] = {
    {0x0, 0, 0, 0x16, 0x756e6547, 0x6c65746e, 0x49656e69, {0}},
    {0x1, 0, 0, 0x50657, 0x07100800, 0x76ba9603, 0x0fabfbff, {0}},
    {0x2, 0, 0, 0, 0, 0, 0, {0}},
    {0x4, 0, INDEX, 0x7c004121, 0x01c0003f, 0x3f, 0, {0}},
    {0x4, 1, INDEX, 0x7c004122, 0x01c0003f, 0x3f, 0, {0}},
    {0x4, 2, INDEX, 0x7c004143, 0x03c0003f, 0x3ff, 0, {0}},
    {0x4, 3, INDEX, 0x7c0fc163, 0x0280003f, 0xcfff, 4, {0}},
    {0x4, 4, INDEX, 0, 0, 0, 0, {0}},
    {0x6, 0, 0, 0x6, 0, 0x8, 0, {0}},
    {0x7, 0, INDEX, 0, 0xd19f4fbb, 0x82c, 0xac000400, {0}},
    {0xa, 0, 0, 0x07300404, 0, 0, 0x603, {0}},
    {0xb, 0, INDEX, 0, 0, 0, 0, {0}},
    {0xd, 0, INDEX, 0x2ff, 0x240, 0xa88, 0, {0}},
    {0xd, 1, INDEX, 0xf, 0x240, 0, 0, {0}},
    {0x1f, 0, INDEX, 0, 0, 0, 0, {0}},
    {0x80000000, 0, 0, 0x80000008, 0, 0, 0, {0}},
    {0x80000001, 0, 0, 0, 0, 0x121, 0x2c100800, {0}},
    {0x80000002, 0, 0, 0, 0, 0, 0, {0}},
    {0x80000003, 0, 0, 0, 0, 0, 0, {0}},
    {0x80000004, 0, 0, 0, 0, 0, 0, {0}},
    {0x80000005, 0, 0, 0, 0, 0, 0, {0}},
    {0x80000006, 0, 0, 0, 0, 0x01006040, 0, {0}},
    {0x80000008, 0, 0, 0x302e, 0x0100d000, 0, 0, {0}},
    {0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, {0}},
    {0x40000001, 0, 0, 0x01007efb, 0, 0, 0, {0}},
};

/* A Milan server on an old kernel, which passes on neither caches nor the topology leaf. */
static const struct kvm_cpuid_entry2 amd[] = {
    {0x0, 0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65, {0}},
    {0x1, 0, 0, 0xa00f11, 0x05100800, 0xfef83203, 0x178bfbff, {0}},
    {0x7, 0, INDEX, 0, 0x219c97a9, 0x40069c, 0xa0000010, {0}},
    {0xb, 0, INDEX, 0, 0, 0, 0, {0}},
    {0xd, 0, INDEX, 0x7, 0x340, 0x340, 0, {0}},
    {0xd, 1, INDEX, 0xf, 0x340, 0, 0, {0}},
    {0x80000000, 0, 0, 0x8000001a, 0x68747541, 0x444d4163, 0x69746e65, {0}},
    {0x80000001, 0, 0, 0xa00f11, 0x40000000, 0x000001f7, 0x2fd3fbff, {0}},
    {0x80000005, 0, 0, 0, 0, 0, 0, {0}},
    {0x80000006, 0, 0, 0x48002200, 0x68004200, 0x02006140, 0x01039140, {0}},
    {0x80000008, 0, 0, 0x3030, 0x111ed205, 0x7f, 0, {0}},
    {0x80000021, 0, 0, 0x45, 0, 0, 0, {0}},
    {0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, {0}},
    {0x40000001, 0, 0, 0x01007efb, 0, 0, 0, {0}},
};

static const char *host_brand;
static unsigned host_queries;

/* The processor under the monitor. */
static void fake_host(uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
    static const uint32_t caches[][4] = {
        {0x4121, 0x1c0003f, 0x3f, 0},
        {0x4122, 0x1c0003f, 0x3f, 0},
        {0x4143, 0x1c0003f, 0x3ff, 2},
        {0x3c163, 0x3c0003f, 0x7fff, 1},
    };
    char brand[48] = {0};

    host_queries++;
    memset(regs, 0, 16);
    if (leaf >= 0x80000002 && leaf <= 0x80000004 && host_brand) {
        memcpy(brand, host_brand, strlen(host_brand));
        memcpy(regs, brand + (leaf - 0x80000002) * 16, 16);
    } else if (leaf == 0x80000005) {
        regs[2] = 0x20080140;
    } else if (leaf == 0x8000001d && subleaf < ARRAY_SIZE(caches)) {
        memcpy(regs, caches[subleaf], 16);
    }
}

#define FILL(table, entries) fill(table, entries, ARRAY_SIZE(entries))
static void fill(struct cpuid_table *table, const struct kvm_cpuid_entry2 *entries, size_t count)
{
    memset(table, 0, sizeof(*table));
    memcpy(table->entry, entries, count * sizeof(*entries));
    table->count = (uint32_t)count;
}

static struct cpuid_machine machine_of(enum cpu_vendor vendor, unsigned vcpus, unsigned threads)
{
    host_brand = "Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz";
    host_queries = 0;
    return (struct cpuid_machine){
        .vendor = vendor, .vcpus = vcpus, .threads_per_core = threads, .host = fake_host};
}

/* What vCPU `index` of such a machine sees. */
static struct cpuid_table *described(enum cpu_vendor vendor, unsigned vcpus, unsigned threads,
                                     unsigned index)
{
    static struct cpuid_table table;
    struct cpuid_machine machine = machine_of(vendor, vcpus, threads);

    if (vendor == CPU_INTEL)
        FILL(&table, intel);
    else
        FILL(&table, amd);
    assert_int_equal(cpuid_describe_machine(&table, &machine, NULL), 0);
    cpuid_describe_vcpu(&table, &machine, index);
    return &table;
}

static void test_cpuid_memory_beyond_the_processors_addresses_is_refused(void **state)
{
    static struct cpu_model model;
    struct err e;

    (void)state;
    FILL(&model.cpuid, intel);
    assert_int_equal(cpuid_address_bits(&model.cpuid), 46);
    cpuid_find(&model.cpuid, 0x80000008, 0)->eax = 0x3027; /* a client's processor: 39 bits */
    assert_int_equal(cpu_model_check_addresses(&model, 512 * GIB, &e), 0);
    assert_int_equal(cpu_model_check_addresses(&model, 512 * GIB + 2 * MIB, &e), -EINVAL);
    assert_string_equal(e.text, "The guest's memory, with what devices add above 512 GiB, ends at "
                                "513 GiB, but this host's processor addresses 512 GiB.");
    cpuid_find(&model.cpuid, 0x80000008, 0)->eax = 0;
    assert_int_equal(cpuid_address_bits(&model.cpuid), 36);
}

struct expected {
    enum cpu_vendor vendor;
    unsigned vcpus, threads, index;
    uint32_t leaf, subleaf;
    enum cpuid_register reg;
    uint32_t mask, value; /* value in place, not shifted down */
};

static void check_rows(const struct expected *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct expected *r = &rows[i];
        struct cpuid_table *table = described(r->vendor, r->vcpus, r->threads, r->index);
        struct kvm_cpuid_entry2 *entry = cpuid_find(table, r->leaf, r->subleaf);

        if (!entry || (*cpuid_register(entry, r->reg) & r->mask) != r->value)
            fail_msg("row %zu: leaf %#x.%u: %#x instead of %#x", i, r->leaf, r->subleaf,
                     entry ? *cpuid_register(entry, r->reg) & r->mask : 0, r->value);
    }
}

#define EAX CPUID_EAX
#define EBX CPUID_EBX
#define ECX CPUID_ECX
#define EDX CPUID_EDX

static void test_cpuid_vendor_by_leaf_0(void **state)
{
    struct cpuid_table table;

    (void)state;
    FILL(&table, intel);
    assert_int_equal(cpuid_vendor(&table), CPU_INTEL);
    FILL(&table, amd);
    assert_int_equal(cpuid_vendor(&table), CPU_AMD);
    table.entry[0].ebx = 0x6f677948; /* HygonGenuine */
    table.entry[0].edx = 0x6e65476e;
    table.entry[0].ecx = 0x656e6975;
    assert_int_equal(cpuid_vendor(&table), CPU_AMD);
    table.entry[0].ebx = 0;
    assert_int_equal(cpuid_vendor(&table), CPU_OTHER);
    table.count = 0;
    assert_int_equal(cpuid_vendor(&table), CPU_OTHER);
}

static void test_cpuid_leaf_1_features_and_ids(void **state)
{
    static const struct expected rows[] = {
        {CPU_INTEL, 1, 1, 0, 1, 0, EBX, 0xffffff00, 0x00010800},
        {CPU_INTEL, 2, 1, 1, 1, 0, EBX, 0xffffff00, 0x01020800},
        {CPU_INTEL, 5, 1, 4, 1, 0, EBX, 0xffffff00, 0x04080800},
        {CPU_AMD, 32, 1, 31, 1, 0, EBX, 0xffffff00, 0x1f200800},
        {CPU_INTEL, 1, 1, 0, 1, 0, ECX, 1u << 15, 0},
        {CPU_INTEL, 1, 1, 0, 1, 0, ECX, 0x81000000, 0x81000000},
        {CPU_AMD, 1, 1, 0, 1, 0, ECX, 0x81000000, 0x81000000},
        {CPU_INTEL, 1, 1, 0, 1, 0, EDX, 1u << 28, 0},
        {CPU_AMD, 1, 1, 0, 1, 0, EDX, 1u << 28, 0},
        {CPU_INTEL, 2, 1, 0, 1, 0, EDX, 1u << 28, 1u << 28},
        /* what is not ours stays */
        {CPU_INTEL, 1, 1, 0, 1, 0, EAX, UINT32_MAX, 0x50657},
        {CPU_INTEL, 1, 1, 0, 1, 0, EDX, 0xefffffff, 0x0fabfbff},
    };

    (void)state;
    check_rows(rows, ARRAY_SIZE(rows));
}

static void test_cpuid_topology_leaves(void **state)
{
    static const struct expected rows[] = {
        {CPU_INTEL, 4, 1, 3, 0xb, 0, EAX, UINT32_MAX, 0},
        {CPU_INTEL, 4, 1, 3, 0xb, 0, EBX, UINT32_MAX, 1},
        {CPU_INTEL, 4, 1, 3, 0xb, 0, ECX, UINT32_MAX, 0x100},
        {CPU_INTEL, 4, 1, 3, 0xb, 0, EDX, UINT32_MAX, 3},
        {CPU_INTEL, 4, 1, 3, 0xb, 1, EAX, UINT32_MAX, 5},
        {CPU_INTEL, 4, 1, 3, 0xb, 1, EBX, UINT32_MAX, 4},
        {CPU_INTEL, 4, 1, 3, 0xb, 1, ECX, UINT32_MAX, 0x201},
        {CPU_INTEL, 4, 1, 3, 0xb, 1, EDX, UINT32_MAX, 3},
        {CPU_INTEL, 4, 2, 3, 0xb, 0, EAX, UINT32_MAX, 1},
        {CPU_INTEL, 4, 2, 3, 0xb, 0, EBX, UINT32_MAX, 2},
        {CPU_INTEL, 4, 2, 3, 0xb, 1, EBX, UINT32_MAX, 4},
        /* 0x1f is Intel's newer name for the same */
        {CPU_INTEL, 4, 2, 3, 0x1f, 0, EBX, UINT32_MAX, 2},
        {CPU_INTEL, 4, 2, 3, 0x1f, 1, ECX, UINT32_MAX, 0x201},
        {CPU_INTEL, 4, 2, 3, 0x1f, 1, EDX, UINT32_MAX, 3},
        {CPU_AMD, 6, 2, 5, 0xb, 0, EAX, UINT32_MAX, 1},
        {CPU_AMD, 6, 2, 5, 0xb, 1, EBX, UINT32_MAX, 6},
        {CPU_AMD, 6, 2, 5, 0xb, 1, EDX, UINT32_MAX, 5},
    };

    (void)state;
    check_rows(rows, ARRAY_SIZE(rows));
}

static void test_cpuid_intel_caches_power_and_features(void **state)
{
    static const struct expected rows[] = {
        /* cores - 1 in bits 31:26, sharing threads - 1 in bits 25:14 */
        {CPU_INTEL, 1, 1, 0, 4, 0, EAX, UINT32_MAX, 0x00000121},
        {CPU_INTEL, 8, 1, 0, 4, 0, EAX, UINT32_MAX, 0x1c000121},
        {CPU_INTEL, 8, 2, 0, 4, 0, EAX, UINT32_MAX, 0x0c004121},
        {CPU_INTEL, 8, 2, 0, 4, 2, EAX, UINT32_MAX, 0x0c004143},
        {CPU_INTEL, 8, 2, 0, 4, 3, EAX, UINT32_MAX, 0x0c01c163},
        {CPU_INTEL, 1, 1, 0, 6, 0, EAX, UINT32_MAX, 0x4}, /* turbo off, ARAT stays */
        {CPU_INTEL, 1, 1, 0, 6, 0, ECX, UINT32_MAX, 0},
        {CPU_INTEL, 1, 1, 0, 7, 0, EBX, UINT32_MAX, 0xd19f6ffb},
        {CPU_INTEL, 1, 1, 0, 7, 0, ECX, UINT32_MAX, 0x80c},      /* WAITPKG off */
        {CPU_INTEL, 1, 1, 0, 7, 0, EDX, UINT32_MAX, 0xac000400}, /* ARCH_CAPABILITIES stays */
        {CPU_INTEL, 1, 1, 0, 0x80000006, 0, ECX, UINT32_MAX, 0x01006040},
    };

    (void)state;
    check_rows(rows, ARRAY_SIZE(rows));
    assert_null(cpuid_find(described(CPU_INTEL, 1, 1, 0), 0xa, 0)); /* no PMU: zero, so dropped */
    assert_null(cpuid_find(described(CPU_INTEL, 2, 2, 0), 4, 4));
}

static void test_cpuid_amd_caches_topology_and_features(void **state)
{
    static const struct expected rows[] = {
        {CPU_AMD, 1, 1, 0, 7, 0, EDX, UINT32_MAX, 0x80000010}, /* ARCH_CAPABILITIES off */
        {CPU_AMD, 1, 1, 0, 0x80000000, 0, EAX, UINT32_MAX, 0x8000001e},
        {CPU_AMD, 1, 1, 0, 0x80000001, 0, ECX, UINT32_MAX, 0x004001f7}, /* TOPOEXT on */
        {CPU_AMD, 1, 1, 0, 0x80000005, 0, ECX, UINT32_MAX, 0x20080140}, /* from the host */
        {CPU_AMD, 1, 1, 0, 0x80000006, 0, EDX, UINT32_MAX, 0x01009140}, /* reserved bits off */
        {CPU_AMD, 6, 2, 0, 0x80000008, 0, ECX, UINT32_MAX, 0x7005},
        {CPU_AMD, 6, 2, 0, 0x80000008, 0, EBX, UINT32_MAX, 0x111ed205},
        {CPU_AMD, 6, 1, 0, 0x8000001d, 0, EAX, UINT32_MAX, 0x00000121},
        {CPU_AMD, 6, 2, 0, 0x8000001d, 0, EAX, UINT32_MAX, 0x00004121},
        {CPU_AMD, 6, 2, 0, 0x8000001d, 2, ECX, UINT32_MAX, 0x3ff},
        {CPU_AMD, 6, 2, 0, 0x8000001d, 3, EAX, UINT32_MAX, 0x00014163},
        {CPU_AMD, 6, 2, 5, 0x8000001e, 0, EAX, UINT32_MAX, 5},
        {CPU_AMD, 6, 2, 5, 0x8000001e, 0, EBX, UINT32_MAX, 0x102},
        {CPU_AMD, 6, 1, 5, 0x8000001e, 0, EBX, UINT32_MAX, 0x005},
        {CPU_AMD, 6, 1, 5, 0x8000001e, 0, ECX, UINT32_MAX, 0},
        {CPU_AMD, 1, 1, 0, 0x80000021, 0, EAX, UINT32_MAX, 0x45},
    };

    (void)state;
    check_rows(rows, ARRAY_SIZE(rows));
}

static void test_cpuid_hypervisor_leaves_stay(void **state)
{
    static const struct expected rows[] = {
        {CPU_INTEL, 2, 1, 1, 0x40000000, 0, EBX, UINT32_MAX, 0x4b4d564b},
        {CPU_AMD, 2, 1, 1, 0x40000001, 0, EAX, UINT32_MAX, 0x01007efb},
    };

    (void)state;
    check_rows(rows, ARRAY_SIZE(rows));
}

static void assert_brand(struct cpuid_table *table, const char *expected)
{
    char brand[49] = {0};

    for (uint32_t i = 0; i < 3; i++) {
        struct kvm_cpuid_entry2 *entry = cpuid_find(table, 0x80000002 + i, 0);

        if (entry)
            memcpy(brand + i * 16, &entry->eax, 16);
    }
    assert_string_equal(brand, expected);
}

static void test_cpuid_brand_string_by_vendor_and_host_frequency(void **state)
{
    static const struct {
        const char *host, *guest;
    } rows[] = {
        {"Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", "Intel(R) Xeon(R) Processor @ 3.00GHz"},
        {"Intel(R) Atom(TM) CPU @ 900MHz", "Intel(R) Xeon(R) Processor @ 900MHz"},
        {"Intel(R) Xeon(R) Platinum 8375C CPU", "Intel(R) Xeon(R) Processor"},
        {"3.00GHz", "Intel(R) Xeon(R) Processor"},
        {"Intel @ GHz", "Intel(R) Xeon(R) Processor"},
        {"Intel @ 1.1111111111111111111111111111111GHz",
         "Intel(R) Xeon(R) Processor @ 1.1111111111111111"},
        {"Intel(R) Xeon(R) 0123456789012345678901 @ 2.0GHz", "Intel(R) Xeon(R) Processor @ 2.0GHz"},
        {"", "Intel(R) Xeon(R) Processor"},
    };
    struct cpuid_table table;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct cpuid_machine machine = machine_of(CPU_INTEL, 1, 1);

        host_brand = rows[i].host;
        FILL(&table, intel);
        assert_int_equal(cpuid_describe_machine(&table, &machine, NULL), 0);
        assert_brand(&table, rows[i].guest);
    }
    assert_brand(described(CPU_AMD, 1, 1, 0), "AMD EPYC");
}

static void test_cpuid_asks_the_host_for_little(void **state)
{
    (void)state;
    /* Each is an exit where the host itself is a guest. */
    described(CPU_INTEL, 1, 1, 0);
    assert_int_equal(host_queries, 3); /* the brand string */
    described(CPU_AMD, 1, 1, 0);
    assert_int_equal(host_queries, 6); /* 0x80000005, four caches and the end of their list */
}

static void test_cpuid_drops_only_entries_that_are_all_zero(void **state)
{
    struct cpuid_table *table = described(CPU_INTEL, 2, 1, 0);

    (void)state;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct kvm_cpuid_entry2 *e = &table->entry[i];

        assert_int_not_equal(e->eax | e->ebx | e->ecx | e->edx, 0);
    }
    assert_non_null(cpuid_find(table, 0xd, 1));
    assert_null(cpuid_find(table, 0x2, 0));
}

static void test_cpuid_unknown_vendor_gets_the_common_rules(void **state)
{
    struct cpuid_machine machine = machine_of(CPU_OTHER, 2, 1);
    struct cpuid_table table;

    (void)state;
    FILL(&table, intel);
    assert_int_equal(cpuid_describe_machine(&table, &machine, NULL), 0);
    assert_int_equal(cpuid_find(&table, 0xb, 1)->ebx, 2);
    assert_int_equal(cpuid_find(&table, 0xa, 0)->eax, 0x07300404);
}

static void test_cpuid_table_without_leaf_1_is_refused(void **state)
{
    struct cpuid_machine machine = machine_of(CPU_INTEL, 1, 1);
    struct cpuid_table table;
    struct err e;

    (void)state;
    FILL(&table, intel);
    table.count = 1;
    assert_int_equal(cpuid_describe_machine(&table, &machine, &e), -EINVAL);
    assert_non_null(strstr(e.text, "CPUID"));
}

static void test_cpuid_full_table_is_not_overrun(void **state)
{
    struct cpuid_machine machine = machine_of(CPU_AMD, 2, 1);
    struct cpuid_table table;

    (void)state;
    FILL(&table, amd);
    while (table.count < CPUID_ENTRIES_MAX) {
        table.entry[table.count] =
            (struct kvm_cpuid_entry2){.function = 0x50000000, .index = table.count, .eax = 1};
        table.count++;
    }
    assert_int_equal(cpuid_describe_machine(&table, &machine, NULL), 0);
    assert_true(table.count <= CPUID_ENTRIES_MAX);
}

/* ---- on the host's KVM ----------------------------------------------------------------------- */

static void test_cpu_model_is_accepted_by_kvm_for_each_vcpu(void **state)
{
    struct kvm kvm = {.fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    struct machine_config config = {.vcpu_count = 4, .smt = true};
    static struct cpuid_table offer;
    static struct cpu_model model;
    struct err e;
    int vm;

    (void)state;
    if (kvm.fd < 0)
        skip();
    vm = ioctl(kvm.fd, KVM_CREATE_VM, 0ul);
    assert_true(vm >= 0);
    assert_int_equal(ioctl(vm, KVM_CREATE_IRQCHIP, 0ul), 0);

    assert_int_equal(cpu_model_query(&kvm, &offer, &e), 0);
    assert_int_equal(cpu_model_create(&model, &offer, &config, NULL, &e), 0);
    for (unsigned i = 0; i < config.vcpu_count; i++) {
        static struct cpuid_table seen;
        int vcpu = ioctl(vm, KVM_CREATE_VCPU, (unsigned long)i);

        assert_true(vcpu >= 0);
        assert_int_equal(cpu_model_apply(&model, vcpu, i, &e), 0);
        seen.count = CPUID_ENTRIES_MAX;
        assert_int_equal(ioctl(vcpu, KVM_GET_CPUID2, &seen), 0);
        assert_int_equal(cpuid_find(&seen, 1, 0)->ebx >> 24, i);
        assert_int_equal(cpuid_find(&seen, 0xb, 0)->edx, i);
        close(vcpu);
    }
    close(vm);
    close(kvm.fd);
}

static void test_cpu_model_template_msr_that_kvm_lacks_is_named(void **state)
{
    struct kvm kvm = {.fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    struct machine_config config = {.vcpu_count = 1};
    struct msr_modifier msr[2] = {{.index = 0x174, .keep = 0, .value = 0x10}, {.index = 0xdeadbee}};
    struct cpu_template cpu_template = {.msr = msr, .n_msr = 2};
    static struct cpuid_table offer;
    static struct cpu_model model;
    struct err e;
    int vm, vcpu;

    (void)state;
    if (kvm.fd < 0)
        skip();
    vm = ioctl(kvm.fd, KVM_CREATE_VM, 0ul);
    assert_int_equal(ioctl(vm, KVM_CREATE_IRQCHIP, 0ul), 0);
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
    assert_int_equal(cpu_model_query(&kvm, &offer, &e), 0);
    assert_int_equal(cpu_model_create(&model, &offer, &config, &cpu_template, &e), 0);

    if (access("/sys/module/kvm/parameters/ignore_msrs", R_OK) == 0) {
        int fd = open("/sys/module/kvm/parameters/ignore_msrs", O_RDONLY);
        char ignored = 'N';

        assert_int_equal(read(fd, &ignored, 1), 1);
        close(fd);
        if (ignored == 'Y')
            skip();
    }
    assert_int_equal(cpu_model_apply(&model, vcpu, 0, &e), -EINVAL);
    assert_non_null(strstr(e.text, "Register Address: deadbee"));
    close(vcpu);
    close(vm);
    close(kvm.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpuid_vendor_by_leaf_0),
        cmocka_unit_test(test_cpuid_memory_beyond_the_processors_addresses_is_refused),
        cmocka_unit_test(test_cpuid_leaf_1_features_and_ids),
        cmocka_unit_test(test_cpuid_topology_leaves),
        cmocka_unit_test(test_cpuid_intel_caches_power_and_features),
        cmocka_unit_test(test_cpuid_amd_caches_topology_and_features),
        cmocka_unit_test(test_cpuid_hypervisor_leaves_stay),
        cmocka_unit_test(test_cpuid_brand_string_by_vendor_and_host_frequency),
        cmocka_unit_test(test_cpuid_asks_the_host_for_little),
        cmocka_unit_test(test_cpuid_drops_only_entries_that_are_all_zero),
        cmocka_unit_test(test_cpuid_unknown_vendor_gets_the_common_rules),
        cmocka_unit_test(test_cpuid_table_without_leaf_1_is_refused),
        cmocka_unit_test(test_cpuid_full_table_is_not_overrun),
        cmocka_unit_test(test_cpu_model_is_accepted_by_kvm_for_each_vcpu),
        cmocka_unit_test(test_cpu_model_template_msr_that_kvm_lacks_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
