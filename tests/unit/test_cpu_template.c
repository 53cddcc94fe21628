/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/cpu_template.c: applying a user's template, and where the static ones fit. */
#include "tests/unit/unit.h"
#include "vmm/cpu_template.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define INDEX KVM_CPUID_FLAG_SIGNIFCANT_INDEX

/* A table with every leaf that static templates touch, all feature bits set. */
static void fill(struct cpuid_table *table, enum cpu_vendor vendor, uint32_t signature)
{
    static const struct {
        uint32_t leaf, subleaf, flags;
    } leaves[] = {{1, 0, 0},       {7, 0, INDEX},      {0xd, 0, INDEX},
                  {0xd, 1, INDEX}, {0x80000001, 0, 0}, {0x80000008, 0, 0}};

    memset(table, 0, sizeof(*table));
    table->entry[0] = (struct kvm_cpuid_entry2){.function = 0, .eax = 0x16};
    memcpy(&table->entry[0].ebx, vendor == CPU_INTEL ? "Genu" : "Auth", 4);
    memcpy(&table->entry[0].edx, vendor == CPU_INTEL ? "ineI" : "enti", 4);
    memcpy(&table->entry[0].ecx, vendor == CPU_INTEL ? "ntel" : "cAMD", 4);
    for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
        table->entry[1 + i] = (struct kvm_cpuid_entry2){
            .function = leaves[i].leaf,
            .index = leaves[i].subleaf,
            .flags = leaves[i].flags,
            .eax = UINT32_MAX,
            .ebx = UINT32_MAX,
            .ecx = UINT32_MAX,
            .edx = UINT32_MAX,
        };
    table->entry[1].eax = signature;
    table->count = 1 + ARRAY_SIZE(leaves);
}

#define SKYLAKE      0x50654
#define CASCADE_LAKE 0x50657
#define ICE_LAKE     0x606a6
#define MILAN        0xa00f11

/* ---- a user's template ----------------------------------------------------------------------- */

static void test_cpu_template_changes_only_the_bits_it_names(void **state)
{
    struct cpuid_modifier cpuid[] = {
        {.leaf = 7, .flags = INDEX, .reg = CPUID_EBX, .keep = 0xffff0000, .value = 0x00001234},
        {.leaf = 0xd, .subleaf = 1, .flags = INDEX, .reg = CPUID_EAX, .keep = 0xfffffffe},
        {.leaf = 1, .reg = CPUID_ECX, .keep = 0, .value = 1},
        {.leaf = 1, .reg = CPUID_EDX, .keep = 0xf, .value = 0x10},
    };
    struct cpu_template cpu_template = {.cpuid = cpuid, .n_cpuid = ARRAY_SIZE(cpuid)};
    struct cpuid_table table;

    (void)state;
    fill(&table, CPU_INTEL, ICE_LAKE);

    assert_int_equal(cpu_template_apply_cpuid(&cpu_template, &table, NULL), 0);

    assert_int_equal(cpuid_find(&table, 7, 0)->ebx, 0xffff1234);
    assert_int_equal(cpuid_find(&table, 7, 0)->ecx, UINT32_MAX);
    assert_int_equal(cpuid_find(&table, 0xd, 1)->eax, 0xfffffffe);
    assert_int_equal(cpuid_find(&table, 0xd, 0)->eax, UINT32_MAX);
    assert_int_equal(cpuid_find(&table, 1, 0)->ecx, 1);
    assert_int_equal(cpuid_find(&table, 1, 0)->edx, 0x1f);
}

static void test_cpu_template_takes_the_flags_it_gives(void **state)
{
    struct cpuid_modifier cpuid = {.leaf = 1, .flags = INDEX, .reg = CPUID_EAX, .keep = UINT32_MAX};
    struct cpu_template cpu_template = {.cpuid = &cpuid, .n_cpuid = 1};
    struct cpuid_table table;

    (void)state;
    fill(&table, CPU_INTEL, ICE_LAKE);

    assert_int_equal(cpu_template_apply_cpuid(&cpu_template, &table, NULL), 0);

    assert_int_equal(cpuid_find(&table, 1, 0)->flags, INDEX);
}

static void test_cpu_template_leaf_that_kvm_lacks_is_named(void **state)
{
    struct cpuid_modifier cpuid = {.leaf = 0x1f, .subleaf = 2, .reg = CPUID_EAX};
    struct cpu_template cpu_template = {.cpuid = &cpuid, .n_cpuid = 1};
    struct cpuid_table table;
    struct err e;

    (void)state;
    fill(&table, CPU_INTEL, ICE_LAKE);

    assert_int_equal(cpu_template_apply_cpuid(&cpu_template, &table, &e), -EINVAL);

    assert_string_equal(e.text, "Failed to create guest config: Template changes a CPUID entry not "
                                "supported by KVM: Leaf: 1f, Subleaf: 2");
}

static void test_cpu_template_waives_what_it_removes(void **state)
{
    struct kvm_capability_modifier capability[] = {{.number = 56, .removed = true},
                                                   {.number = 121, .removed = false}};
    struct cpu_template cpu_template = {.capability = capability, .n_capability = 2};

    (void)state;
    assert_true(cpu_template_waives(&cpu_template, 56));
    assert_false(cpu_template_waives(&cpu_template, 121));
    assert_false(cpu_template_waives(&cpu_template, 1));
    assert_false(cpu_template_waives(NULL, 56));
}

static void test_cpu_template_missing_capability_is_named(void **state)
{
    struct kvm_capability_modifier capability[] = {{.number = 0, .removed = false},
                                                   {.number = 88888, .removed = true},
                                                   {.number = 99999, .removed = false}};
    struct cpu_template cpu_template = {.capability = capability, .n_capability = 3};
    struct kvm kvm = {.fd = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
    struct err e;

    (void)state;
    if (kvm.fd < 0)
        skip();

    assert_int_equal(cpu_template_check_capabilities(&cpu_template, &kvm, &e), -ENOTSUP);
    assert_string_equal(e.text, "Kvm error: Missing KVM capabilities: 0x1869f");

    cpu_template.n_capability = 2;
    assert_int_equal(cpu_template_check_capabilities(&cpu_template, &kvm, &e), 0);
    close(kvm.fd);
}

/* ---- static templates ------------------------------------------------------------------------ */

static void test_cpu_template_static_fits_by_vendor_and_model(void **state)
{
    static const struct {
        enum cpu_template_name name;
        enum cpu_vendor vendor;
        uint32_t signature;
        const char *refusal;
    } rows[] = {
        {CPU_TEMPLATE_T2, CPU_INTEL, SKYLAKE, NULL},
        {CPU_TEMPLATE_T2S, CPU_INTEL, SKYLAKE, NULL},
        {CPU_TEMPLATE_C3, CPU_INTEL, SKYLAKE, NULL},
        {CPU_TEMPLATE_T2CL, CPU_INTEL, SKYLAKE, "model is not permitted"},
        {CPU_TEMPLATE_T2CL, CPU_INTEL, CASCADE_LAKE, NULL},
        {CPU_TEMPLATE_T2CL, CPU_INTEL, ICE_LAKE, NULL},
        {CPU_TEMPLATE_T2A, CPU_INTEL, ICE_LAKE, "vendor mismatched"},
        {CPU_TEMPLATE_T2A, CPU_AMD, MILAN, NULL},
        {CPU_TEMPLATE_T2, CPU_AMD, MILAN, "vendor mismatched"},
        {CPU_TEMPLATE_T2S, CPU_AMD, MILAN, "vendor mismatched"},
        {CPU_TEMPLATE_T2CL, CPU_AMD, MILAN, "vendor mismatched"},
        {CPU_TEMPLATE_C3, CPU_AMD, MILAN, "vendor mismatched"},
        {CPU_TEMPLATE_V1N1, CPU_INTEL, ICE_LAKE, "vendor mismatched"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct cpuid_table table;
        struct err e;
        int ret;

        fill(&table, rows[i].vendor, rows[i].signature);
        ret = cpu_template_apply_static_cpuid(rows[i].name, &table, &e);
        assert_int_equal(ret, rows[i].refusal ? -EINVAL : 0);
        if (rows[i].refusal)
            assert_non_null(strstr(e.text, rows[i].refusal));
    }
}

/* The masks of each template, as single numbers: what is left of a register with all bits set. */
static void test_cpu_template_static_contents(void **state)
{
    static const struct {
        enum cpu_template_name name;
        uint32_t leaf, subleaf;
        enum cpuid_register reg;
        uint32_t left;
    } rows[] = {
        {CPU_TEMPLATE_T2, 1, 0, CPUID_EAX, 0x000306f2},
        {CPU_TEMPLATE_T2, 1, 0, CPUID_ECX, 0xfffb3203},
        {CPU_TEMPLATE_T2, 1, 0, CPUID_EDX, 0x179bffff},
        {CPU_TEMPLATE_T2, 7, 0, CPUID_EBX, 0x001027eb},
        {CPU_TEMPLATE_T2, 7, 0, CPUID_ECX, 0xbfbea0a1},
        {CPU_TEMPLATE_T2, 7, 0, CPUID_EDX, 0xfffffee3},
        {CPU_TEMPLATE_T2, 0xd, 0, CPUID_EAX, 0xfffffd07},
        {CPU_TEMPLATE_T2, 0xd, 1, CPUID_EAX, 0xfffffff1},
        {CPU_TEMPLATE_T2, 0x80000001, 0, CPUID_ECX, 0xdffffeff},
        {CPU_TEMPLATE_T2, 0x80000001, 0, CPUID_EDX, 0xfbffffff},
        {CPU_TEMPLATE_T2, 0x80000008, 0, CPUID_EBX, 0xfffffdff},
        {CPU_TEMPLATE_T2CL, 0x80000001, 0, CPUID_ECX, 0xdffffe3f},
        {CPU_TEMPLATE_T2CL, 0x80000001, 0, CPUID_EDX, 0xf83fffff},
        {CPU_TEMPLATE_T2A, 1, 0, CPUID_ECX, 0xfffb3203},
        {CPU_TEMPLATE_T2A, 7, 0, CPUID_EBX, 0x001027eb},
        {CPU_TEMPLATE_T2A, 0x80000008, 0, CPUID_EBX, 0xfffffdfa},
        {CPU_TEMPLATE_C3, 1, 0, CPUID_EAX, 0x000306e4},
        {CPU_TEMPLATE_C3, 1, 0, CPUID_ECX, 0xffbf22c3},
        {CPU_TEMPLATE_C3, 1, 0, CPUID_EDX, 0x579bffff},
        {CPU_TEMPLATE_C3, 7, 0, CPUID_EBX, 0x005022c3},
        {CPU_TEMPLATE_C3, 7, 0, CPUID_ECX, 0xbfbeb7e1},
        {CPU_TEMPLATE_C3, 7, 0, CPUID_EDX, 0xfffffff3},
        {CPU_TEMPLATE_C3, 0x80000001, 0, CPUID_ECX, 0xfffffedf},
        {CPU_TEMPLATE_C3, 0x80000008, 0, CPUID_EBX, 0xffffffff},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        bool is_amd = rows[i].name == CPU_TEMPLATE_T2A;
        struct cpuid_table table;
        uint32_t left;

        fill(&table, is_amd ? CPU_AMD : CPU_INTEL, is_amd ? MILAN : ICE_LAKE);
        assert_int_equal(cpu_template_apply_static_cpuid(rows[i].name, &table, NULL), 0);
        left = *cpuid_register(cpuid_find(&table, rows[i].leaf, rows[i].subleaf), rows[i].reg);
        if (left != rows[i].left)
            fail_msg("row %zu: %#x instead of %#x", i, left, rows[i].left);
    }
}

static void test_cpu_template_static_msrs(void **state)
{
    const struct msr_modifier *msr;

    (void)state;
    assert_int_equal(cpu_template_static_msrs(CPU_TEMPLATE_T2, &msr), 0);
    assert_int_equal(cpu_template_static_msrs(CPU_TEMPLATE_T2A, &msr), 0);
    assert_int_equal(cpu_template_static_msrs(CPU_TEMPLATE_C3, &msr), 0);

    assert_int_equal(cpu_template_static_msrs(CPU_TEMPLATE_T2S, &msr), 1);
    assert_int_equal(msr->index, 0x10a);
    assert_int_equal(msr->keep, 0);
    assert_int_equal(msr->value, 0xc4c);

    assert_int_equal(cpu_template_static_msrs(CPU_TEMPLATE_T2CL, &msr), 1);
    assert_int_equal(msr->index, 0x10a);
    assert_int_equal(msr->keep, 0x0d0ae1ff);
    assert_int_equal(msr->value, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_template_changes_only_the_bits_it_names),
        cmocka_unit_test(test_cpu_template_takes_the_flags_it_gives),
        cmocka_unit_test(test_cpu_template_leaf_that_kvm_lacks_is_named),
        cmocka_unit_test(test_cpu_template_waives_what_it_removes),
        cmocka_unit_test(test_cpu_template_missing_capability_is_named),
        cmocka_unit_test(test_cpu_template_static_fits_by_vendor_and_model),
        cmocka_unit_test(test_cpu_template_static_contents),
        cmocka_unit_test(test_cpu_template_static_msrs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
