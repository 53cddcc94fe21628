/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of vmm/snapshot/cpu_check_x86_64.c: what of a guest's processor is missing on a host. */
#include "tests/unit/unit.h"
#include "vmm/base/log.h"
#include "vmm/snapshot/vcpu_parts_x86_64.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* AMD, family 25 model 1. */
static const struct kvm_cpuid_entry2 host[] = {
    {.function = 0, .eax = 0x10, .ebx = 0x68747541, .ecx = 0x444d4163, .edx = 0x69746e65},
    {.function = 1, .eax = 0x00a00f11, .ecx = 0x02000001, .edx = 0x078bfbff},
    {.function = 7, .index = 0, .flags = 1, .ebx = 1u << 5},
    {.function = 0xd, .index = 0, .flags = 1, .eax = 7, .ebx = 0x340},
    {.function = 0x80000001, .ecx = 0x1f3, .edx = 0x2fd3fbff},
};

static const struct vcpu_cpuid offer = {host, ARRAY_SIZE(host)};

static struct vcpu_state *state_of(const struct kvm_cpuid_entry2 *entry, uint32_t count)
{
    struct vcpu_state *s = vcpu_state_create();

    assert_non_null(s);
    memcpy(s->cpuid.entry, entry, count * sizeof(*entry));
    s->cpuid.count = count;
    return s;
}

static struct vcpu_state *same_as_host(void)
{
    return state_of(host, ARRAY_SIZE(host));
}

static void expect_missing(const struct vcpu_state *s, const char *what)
{
    struct err e = {0};

    assert_int_equal(vcpu_state_check(s, 0, offer, &e), -ENOTSUP);
    if (!strstr(e.text, what))
        fail_msg("\"%s\" is not in: %s", what, e.text);
}

static void test_cpu_check_of_the_same_processor_finds_nothing(void **state)
{
    struct vcpu_state *s = same_as_host();
    struct err e;

    (void)state;
    assert_int_equal(vcpu_state_check(s, 0, offer, &e), 0);
    s->cpuid.count = 0;
    assert_int_equal(vcpu_state_check(s, 0, offer, &e), 0);
    vcpu_state_destroy(s);
}

static void test_cpu_check_names_a_missing_feature(void **state)
{
    struct vcpu_state *s = same_as_host();

    (void)state;
    s->cpuid.entry[2].ebx |= 1u << 16;
    expect_missing(s, "does not offer on this host: avx512f. Load");
    s->cpuid.entry[1].ecx |= 1u << 12;
    expect_missing(s, ": fma, avx512f. Load");
    vcpu_state_destroy(s);
}

static void test_cpu_check_says_where_a_feature_without_a_name_is(void **state)
{
    struct vcpu_state *s = same_as_host();

    (void)state;
    s->cpuid.entry[2].ecx |= 1u << 15;
    expect_missing(s, ": bit 15 of CPUID leaf 0x7.0 ECX. Load");
    s->cpuid.entry[2].ecx = 0;
    s->cpuid.entry[3].eax |= 1u << 31; /* behind the last name */
    expect_missing(s, ": bit 31 of CPUID leaf 0xd.0 EAX. Load");
    vcpu_state_destroy(s);
}

static void test_cpu_check_of_a_leaf_that_the_host_lacks_finds_all_of_it(void **state)
{
    struct vcpu_state *s = same_as_host();

    (void)state;
    s->cpuid.entry[s->cpuid.count++] =
        (struct kvm_cpuid_entry2){.function = 7, .index = 1, .eax = 1u << 5};
    expect_missing(s, ": avx512_bf16. Load");
    vcpu_state_destroy(s);
}

static void test_cpu_check_counts_what_is_too_much_to_name(void **state)
{
    struct vcpu_state *s = same_as_host();

    (void)state;
    memset(s->cpuid.entry, 0xff, sizeof(s->cpuid.entry));
    s->cpuid.entry[0].function = 7;
    s->cpuid.entry[0].index = 0;
    expect_missing(s, ": fsgsbase, tsc_adjust, sgx, bmi1, hle, smep and ");
    expect_missing(s, " more. Load");
    vcpu_state_destroy(s);
}

static void test_cpu_check_ignores_what_a_guest_switches_on_itself(void **state)
{
    struct vcpu_state *s = same_as_host();
    struct err e;

    (void)state;
    s->cpuid.entry[1].ecx |= 1u << 27 | 1u << 31 | 1u << 24;
    s->cpuid.entry[2].ecx |= 1u << 4;
    assert_int_equal(vcpu_state_check(s, 0, offer, &e), 0);
    vcpu_state_destroy(s);
}

/* What is in the log after `count` vCPUs with that state have been found fit. */
static const char *log_of(const struct vcpu_state *s, unsigned count)
{
    static char log[512];
    char path[] = "/tmp/mayfly-test-XXXXXX";
    int fd = mkstemp(path);
    struct err e;
    ssize_t n;

    assert_int_equal(log_set_path(path, NULL), 0);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(vcpu_state_check(s, i, offer, &e), 0);
    assert_int_equal(log_set_path(NULL, NULL), 0);
    n = read(fd, log, sizeof(log) - 1);
    log[MAX(n, 0)] = 0;
    close(fd);
    unlink(path);
    return log;
}

static void test_cpu_check_of_another_model_is_only_a_warning(void **state)
{
    struct vcpu_state *s = same_as_host();
    const char *log;

    (void)state;
    s->cpuid.entry[1].eax = 0x00a10f12;
    log = log_of(s, 2);
    assert_non_null(strstr(log, "of a guest on AuthenticAMD family 25 model 17; this host is "
                                "AuthenticAMD family 25 model 1."));
    assert_null(strstr(strstr(log, "model 17") + 1, "model 17")); /* once */
    vcpu_state_destroy(s);
}

static void test_cpu_check_of_a_hostile_vendor_keeps_the_log_readable(void **state)
{
    struct vcpu_state *s = same_as_host();

    (void)state;
    s->cpuid.entry[0].ebx = 0x0a0a0a0a;
    assert_non_null(strstr(log_of(s, 1), "????enticAMD"));
    vcpu_state_destroy(s);
}

static void test_cpuid_with_what_kvm_adjusts_is_the_same(void **state)
{
    struct vcpu_state *s = same_as_host();

    (void)state;
    assert_true(vcpu_state_has_cpuid(s, offer));
    s->cpuid.entry[1].ecx |= 1u << 27;
    s->cpuid.entry[2].ecx |= 1u << 4;
    s->cpuid.entry[3].ebx = 0x240;
    assert_true(vcpu_state_has_cpuid(s, offer));
    vcpu_state_destroy(s);
}

static void test_cpuid_with_another_bit_entry_or_order_is_another(void **state)
{
    struct vcpu_state *s = same_as_host();
    struct kvm_cpuid_entry2 first = s->cpuid.entry[0];

    (void)state;
    s->cpuid.entry[4].ecx ^= 1;
    assert_false(vcpu_state_has_cpuid(s, offer));
    s->cpuid.entry[4].ecx ^= 1;
    s->cpuid.entry[0] = s->cpuid.entry[1];
    s->cpuid.entry[1] = first;
    assert_false(vcpu_state_has_cpuid(s, offer));
    s->cpuid.entry[1] = s->cpuid.entry[0];
    s->cpuid.entry[0] = first;
    assert_true(vcpu_state_has_cpuid(s, offer));
    s->cpuid.count--;
    assert_false(vcpu_state_has_cpuid(s, offer));
    s->cpuid.count = 0;
    assert_false(vcpu_state_has_cpuid(s, (struct vcpu_cpuid){host, 0}));
    vcpu_state_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_check_of_the_same_processor_finds_nothing),
        cmocka_unit_test(test_cpu_check_names_a_missing_feature),
        cmocka_unit_test(test_cpu_check_says_where_a_feature_without_a_name_is),
        cmocka_unit_test(test_cpu_check_of_a_leaf_that_the_host_lacks_finds_all_of_it),
        cmocka_unit_test(test_cpu_check_counts_what_is_too_much_to_name),
        cmocka_unit_test(test_cpu_check_ignores_what_a_guest_switches_on_itself),
        cmocka_unit_test(test_cpu_check_of_another_model_is_only_a_warning),
        cmocka_unit_test(test_cpu_check_of_a_hostile_vendor_keeps_the_log_readable),
        cmocka_unit_test(test_cpuid_with_what_kvm_adjusts_is_the_same),
        cmocka_unit_test(test_cpuid_with_another_bit_entry_or_order_is_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
