/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpu_template_json.c: the text form of custom CPU templates: bitmaps, numbers, refusals. */
#include "api/cpu_template_json.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_text(const char *text, struct cpu_template *t, char **error)
{
    struct json_cursor c;
    int ret;

    *t = (struct cpu_template){0};
    json_open(&c, text, strlen(text));
    ret = schema_read(&c, &cpu_template_schema, t) || json_finish(&c) ? -1 : 0;
    *error = json_error(&c);
    json_close(&c);
    return ret;
}

static void assert_reads(const char *text, struct cpu_template *t)
{
    char *error;

    if (read_text(text, t, &error))
        fail_msg("%s: %s", text, error);
    assert_null(error);
}

static void assert_refused(const char *text, const char *why)
{
    struct cpu_template t;
    char *error;

    assert_int_not_equal(read_text(text, &t, &error), 0);
    assert_string_equal(error, why);
    free(error);
    cpu_template_release(&t);
}

static void test_cpu_template_json_may_be_empty(void **state)
{
    static const char *const empty[] = {
        "{}", "[]", "{\"kvm_capabilities\":[],\"cpuid_modifiers\":[],\"msr_modifiers\":[]}",
        "[[],[],[]]"};
    struct cpu_template t;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(empty); i++) {
        assert_reads(empty[i], &t);
        assert_int_equal(t.n_capability + t.n_cpuid + t.n_msr, 0);
        cpu_template_release(&t);
    }
}

static void test_cpu_template_json_reads_capabilities(void **state)
{
    struct cpu_template t;

    (void)state;
    assert_reads("{\"kvm_capabilities\":[\"121\",\"!56\",\"+7\",\"4294967295\"]}", &t);
    assert_int_equal(t.n_capability, 4);
    assert_int_equal(t.capability[0].number, 121);
    assert_false(t.capability[0].removed);
    assert_int_equal(t.capability[1].number, 56);
    assert_true(t.capability[1].removed);
    assert_int_equal(t.capability[2].number, 7);
    assert_int_equal(t.capability[3].number, UINT32_MAX);
    cpu_template_release(&t);
}

static void test_cpu_template_json_makes_a_row_of_each_register(void **state)
{
    struct cpu_template t;

    (void)state;
    /* Members in any order: the changes come before the leaf that they belong to. */
    assert_reads("{\"cpuid_modifiers\":[{\"modifiers\":[{\"bitmap\":\"0b01x\",\"register\":"
                 "\"ecx\"},{\"register\":\"eax\",\"bitmap\":\"1_x0\",\"note\":\"\"}],\"leaf\":"
                 "\"0x8000000F\",\"subleaf\":\"0b11\",\"flags\":1}]}",
                 &t);
    assert_int_equal(t.n_cpuid, 2);
    assert_int_equal(t.cpuid[0].leaf, 0x8000000f);
    assert_int_equal(t.cpuid[0].subleaf, 3);
    assert_int_equal(t.cpuid[0].flags, 1);
    assert_int_equal(t.cpuid[0].reg, CPUID_ECX);
    assert_int_equal(t.cpuid[0].keep, 0xfffffff9);
    assert_int_equal(t.cpuid[0].value, 2);
    assert_int_equal(t.cpuid[1].reg, CPUID_EAX);
    assert_int_equal(t.cpuid[1].keep, 0xfffffffa);
    assert_int_equal(t.cpuid[1].value, 4);
    cpu_template_release(&t);
}

static void test_cpu_template_json_bitmap_reaches_every_bit(void **state)
{
    char text[160], ones[65] = "";
    struct cpu_template t;

    (void)state;
    memset(ones, '1', 64);
    snprintf(text, sizeof(text), "{\"msr_modifiers\":[{\"addr\":\"0x10a\",\"bitmap\":\"0b%s\"}]}",
             ones);
    assert_reads(text, &t);
    assert_int_equal(t.n_msr, 1);
    assert_int_equal(t.msr[0].index, 0x10a);
    assert_true(t.msr[0].keep == 0 && t.msr[0].value == UINT64_MAX);
    cpu_template_release(&t);
}

static void test_cpu_template_json_refuses_in_the_words_that_clients_know(void **state)
{
    static const char *const cases[][2] = {
        {"{\"kvm_capabilities\":[\"abc\"]}",
         "Failed to parse string [abc] as a kvm capability - can not convert to numeric: invalid "
         "digit found in string at line 1 column 27"},
        {"{\"kvm_capabilities\":[\"!\"]}",
         "Failed to parse string [!] as a kvm capability - can not convert to numeric: cannot "
         "parse integer from empty string at line 1 column 25"},
        {"{\"kvm_capabilities\":[\"4294967296\"]}",
         "Failed to parse string [4294967296] as a kvm capability - can not convert to numeric: "
         "number too large to fit in target type at line 1 column 34"},
        {"{\"kvm_capabilities\":\"1\"}",
         "invalid type: string \"1\", expected a sequence at line 1 column 23"},
        {"{\"cpuid_modifiers\":[{\"leaf\":\"1\",\"subleaf\":\"0x0\"}]}",
         "No supported number system prefix found in value [1]. Make sure to prefix the number "
         "with '0x' for hexadecimal numbers or '0b' for binary numbers. at line 1 column 31"},
        {"{\"cpuid_modifiers\":[{\"leaf\":\"0xg\",\"subleaf\":\"0x0\"}]}",
         "Failed to parse string [0xg] as a number for CPU template - ParseIntError { kind: "
         "InvalidDigit } at line 1 column 33"},
        {"{\"cpuid_modifiers\":[{\"leaf\":\"0x1\",\"subleaf\":\"0x0\",\"flags\":0}]}",
         "missing field `modifiers` at line 1 column 60"},
        {"{\"cpuid_modifiers\":[{\"leaf\":\"0x1\",\"subleaf\":\"0x0\",\"flags\":0,\"modifiers\":["
         "{\"register\":\"rax\",\"bitmap\":\"0b0\"}]}]}",
         "Invalid CPUID register. Must be one of [eax, ebx, ecx, edx] at line 1 column 90"},
        {"{\"msr_modifiers\":[{\"addr\":\"0x1\",\"bitmap\":\"0b2\"}]}",
         "Failed to parse string [0b2] as a bitmap - unknown character: 50 at line 1 column 47"},
        {"{\"kvm_capabilities\":[\"56\\u0000x\"]}",
         "invalid value: a string with a NUL character, expected a string at line 1 column 32"},
        {"{\"cpuid_modifiers\":[{\"leaf\":\"0x7\\u0000\",\"subleaf\":\"0x0\"}]}",
         "invalid value: a string with a NUL character, expected a string at line 1 column 39"},
        {"{\"cpuid_modifiers\":[{\"leaf\":\"0x1\",\"subleaf\":\"0x0\",\"flags\":0,\"modifiers\":[{"
         "\"register\":\"eax\\u0000\"}]}]}",
         "invalid value: a string with a NUL character, expected a string at line 1 column 96"},
        {"{\"msr_modifiers\":[{\"addr\":\"0x1\"}]}", "missing field `bitmap` at line 1 column 32"},
        {"{\"vcpu_features\":[]}",
         "unknown field `vcpu_features`, expected one of `kvm_capabilities`, `cpuid_modifiers`, "
         "`msr_modifiers` at line 1 column 16"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_refused(cases[i][0], cases[i][1]);
}

static void test_cpu_template_json_bitmap_may_not_be_longer_than_the_register(void **state)
{
    (void)state;
    assert_refused("{\"cpuid_modifiers\":[{\"leaf\":\"0x1\",\"subleaf\":\"0x0\",\"flags\":0,"
                   "\"modifiers\":[{\"register\":\"eax\",\"bitmap\":"
                   "\"0b000000000000000000000000000000000\"}]}]}",
                   "Failed to parse string [0b000000000000000000000000000000000] as a bitmap - "
                   "string is too long at line 1 column 138");
}

static void test_cpu_template_json_moves_what_it_read(void **state)
{
    struct cpu_template t, *moved;

    (void)state;
    assert_reads("{\"kvm_capabilities\":[\"1\"]}", &t);
    moved = cpu_template_move(&t);
    assert_int_equal(moved->n_capability, 1);
    assert_null(t.capability);
    cpu_template_release(moved);
    free(moved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_template_json_may_be_empty),
        cmocka_unit_test(test_cpu_template_json_reads_capabilities),
        cmocka_unit_test(test_cpu_template_json_makes_a_row_of_each_register),
        cmocka_unit_test(test_cpu_template_json_bitmap_reaches_every_bit),
        cmocka_unit_test(test_cpu_template_json_refuses_in_the_words_that_clients_know),
        cmocka_unit_test(test_cpu_template_json_bitmap_may_not_be_longer_than_the_register),
        cmocka_unit_test(test_cpu_template_json_moves_what_it_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
