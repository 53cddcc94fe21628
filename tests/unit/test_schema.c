/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_schema.c: the reader of bodies on a table of its own: every type, every rule, the words and
 * the columns of its refusals.
 */
#include "api/schema.h"
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

struct inner {
    uint64_t big;
};

struct outer {
    bool flag;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    char *text, *path;
    int colour;
    struct inner inner;
    uint64_t squared;
    bool addition;
    bool has_text, has_inner, has_u16;
};

static int read_square(struct json_cursor *c, void *member)
{
    uint64_t n;

    if (json_read_unsigned(c, "u64", UINT32_MAX, &n))
        return -1;
    if (n == 13)
        return json_fail(c, "13 is unlucky");
    *(uint64_t *)member = n * n;
    return 0;
}

static const char *const colour_names[] = {"Red", "Green", "Blue"};
static const int colour_values[] = {10, 20, 30};
static const struct schema_names colours = {colour_names, colour_values, 3};

static const struct schema_member inner_members[] = {
    {"big", SCHEMA_U64, SCHEMA_REQUIRED, SCHEMA_AT(struct inner, big)},
};
static const struct schema inner_schema = {"struct Inner", inner_members, 1, true};

static const struct schema_member outer_members[] = {
    {"flag", SCHEMA_BOOL, SCHEMA_REQUIRED, SCHEMA_AT(struct outer, flag)},
    {"u8", SCHEMA_U8, SCHEMA_REQUIRED, SCHEMA_AT(struct outer, u8)},
    {"u16", SCHEMA_U16, SCHEMA_NULLABLE, SCHEMA_AT_GIVEN(struct outer, u16, has_u16)},
    {"u32", SCHEMA_U32, SCHEMA_TAIL, SCHEMA_AT(struct outer, u32)},
    {"text", SCHEMA_STRING, SCHEMA_TAIL | SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct outer, text, has_text)},
    {"path", SCHEMA_PATH, SCHEMA_TAIL, SCHEMA_AT(struct outer, path)},
    {"colour", SCHEMA_NAMES, SCHEMA_TAIL, SCHEMA_AT(struct outer, colour), .names = &colours},
    {"inner", SCHEMA_OBJECT, SCHEMA_TAIL | SCHEMA_NULLABLE,
     SCHEMA_AT_GIVEN(struct outer, inner, has_inner), .object = &inner_schema},
    {"square", SCHEMA_CUSTOM, SCHEMA_TAIL, SCHEMA_AT(struct outer, squared), .read = read_square},
    {"addition", SCHEMA_BOOL, SCHEMA_HIDDEN, SCHEMA_AT(struct outer, addition)},
};
static const struct schema outer_schema = {"struct Outer", outer_members, ARRAY_SIZE(outer_members),
                                           false};

/* Reads `text`; the struct and the cursor stay for the caller, who closes the cursor. */
static int read_text(struct json_cursor *c, const char *text, struct outer *out)
{
    *out = (struct outer){0};
    json_open(c, text, strlen(text));
    return schema_read(c, &outer_schema, out) || json_finish(c) ? -1 : 0;
}

static void assert_refused(const char *text, const char *why)
{
    struct json_cursor c;
    struct outer out;
    char *error;

    assert_int_not_equal(read_text(&c, text, &out), 0);
    error = json_error(&c);
    assert_non_null(error);
    assert_string_equal(error, why);
    free(error);
    json_close(&c);
}

static void test_schema_reads_every_type_into_its_member(void **state)
{
    struct json_cursor c;
    struct outer out;

    (void)state;
    assert_int_equal(
        read_text(&c,
                  "{\"square\":7,\"inner\":{\"else\":[{}],\"big\":18446744073709551615},"
                  "\"colour\":\"Blue\",\"path\":\"/p\",\"text\":\"\\u00e9\",\"u32\":4294967295,"
                  "\"u16\":65535,\"u8\":255,\"flag\":true,\"addition\":true}",
                  &out),
        0);
    assert_true(out.flag);
    assert_true(out.addition);
    assert_int_equal(out.u8, 255);
    assert_int_equal(out.u16, 65535);
    assert_int_equal(out.u32, 4294967295);
    assert_string_equal(out.text, "\xc3\xa9");
    assert_string_equal(out.path, "/p");
    assert_int_equal(out.colour, 30);
    assert_true(out.inner.big == UINT64_MAX);
    assert_int_equal(out.squared, 49);
    assert_true(out.has_text && out.has_inner && out.has_u16);
    json_close(&c);
}

static void test_schema_leaves_absent_and_null_members_as_they_were(void **state)
{
    struct json_cursor c;
    struct outer out;

    (void)state;
    assert_int_equal(
        read_text(&c, "{\"flag\":false,\"u8\":1,\"text\":null,\"inner\":null,\"u16\":null}", &out),
        0);
    assert_null(out.text);
    assert_false(out.has_text || out.has_inner || out.has_u16);
    json_close(&c);
}

static void test_schema_refuses_with_the_words_and_the_column(void **state)
{
    static const char *const cases[][2] = {
        {"{}", "missing field `flag` at line 1 column 2"},
        {"{\"flag\":true}", "missing field `u8` at line 1 column 13"},
        {"{\"u8\":1,\"flag\":true,\"x\":1}",
         "unknown field `x`, expected one of `flag`, `u8`, `u16`, `u32`, `text`, `path`, `colour`, "
         "`inner`, `square` at line 1 column 23"},
        {"{\"flag\":true,\"flag\":true}", "duplicate field `flag` at line 1 column 19"},
        {"{\"flag\":null}", "invalid type: null, expected a boolean at line 1 column 12"},
        {"{\"flag\":1}", "invalid type: integer `1`, expected a boolean at line 1 column 9"},
        {"{\"u8\":256}", "invalid value: integer `256`, expected u8 at line 1 column 9"},
        {"{\"u16\":65536}", "invalid value: integer `65536`, expected u16 at line 1 column 12"},
        {"{\"u32\":4294967296}",
         "invalid value: integer `4294967296`, expected u32 at line 1 column 17"},
        {"{\"u8\":-1}", "invalid value: integer `-1`, expected u8 at line 1 column 8"},
        {"{\"text\":5}", "invalid type: integer `5`, expected a string at line 1 column 9"},
        {"{\"path\":5}", "invalid type: integer `5`, expected path string at line 1 column 9"},
        {"{\"colour\":\"red\"}",
         "unknown variant `red`, expected one of `Red`, `Green`, `Blue` at line 1 column 15"},
        {"{\"colour\":null}", "expected value at line 1 column 11"},
        {"{\"inner\":{}}", "missing field `big` at line 1 column 11"},
        {"{\"inner\":5}", "invalid type: integer `5`, expected struct Inner at line 1 column 10"},
        {"{\"square\":13}", "13 is unlucky at line 1 column 13"},
        {"{\"text\":\"a\\u0000b\"}",
         "invalid value: a string with a NUL character, expected a string at line 1 column 18"},
        {"{\"flag\":true,}", "trailing comma at line 1 column 14"},
        {"{\"flag\":true", "EOF while parsing an object at line 1 column 12"},
        {"{\"flag\":true,\"u8\":1} x", "trailing characters at line 1 column 22"},
        {"null", "invalid type: null, expected struct Outer at line 1 column 4"},
        {"", "EOF while parsing a value at line 1 column 0"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_refused(cases[i][0], cases[i][1]);
}

static void test_schema_reports_the_first_problem_of_the_text(void **state)
{
    (void)state;
    assert_refused("{\"x\":1,\"u8\":256}",
                   "unknown field `x`, expected one of `flag`, `u8`, `u16`, `u32`, `text`, `path`, "
                   "`colour`, `inner`, `square` at line 1 column 4");
    assert_refused("{\"u8\":256,\"x\":1}",
                   "invalid value: integer `256`, expected u8 at line 1 column 9");
}

static void test_schema_array_stands_for_the_members_in_order(void **state)
{
    struct json_cursor c;
    struct outer out;

    (void)state;
    assert_int_equal(read_text(&c, "[true,7,null,9]", &out), 0);
    assert_true(out.flag);
    assert_int_equal(out.u8, 7);
    assert_false(out.has_u16);
    assert_int_equal(out.u32, 9);
    assert_null(out.text);
    json_close(&c);
}

static void test_schema_array_must_reach_the_members_that_cannot_be_left_out(void **state)
{
    (void)state;
    assert_refused("[]", "invalid length 0, expected struct Outer with 9 elements at line 1 "
                         "column 2");
    assert_refused("[true,7]", "invalid length 2, expected struct Outer with 9 elements at line 1 "
                               "column 8");
}

static void test_schema_array_may_not_go_beyond_the_members(void **state)
{
    (void)state;
    /* The addition is no part of it. */
    assert_refused("[true,7,1,1,\"t\",\"p\",\"Red\",[1],2,true]",
                   "trailing characters at line 1 column 33");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema_reads_every_type_into_its_member),
        cmocka_unit_test(test_schema_leaves_absent_and_null_members_as_they_were),
        cmocka_unit_test(test_schema_refuses_with_the_words_and_the_column),
        cmocka_unit_test(test_schema_reports_the_first_problem_of_the_text),
        cmocka_unit_test(test_schema_array_stands_for_the_members_in_order),
        cmocka_unit_test(test_schema_array_must_reach_the_members_that_cannot_be_left_out),
        cmocka_unit_test(test_schema_array_may_not_go_beyond_the_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
