/* SPDX-License-Identifier: Apache-2.0 */
/* test_json_text.c: errors with the words and columns that clients match on, and values read and
 * printed. */
#include "api/json_text.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- a schema in miniature: what the recorded errors were made with ---- */

struct machine {
    uint64_t vcpu_count, mem_size_mib;
    bool smt, has_vcpu, has_mem, has_smt;
    int pages;
};

static const char *const page_names[] = {"None", "Transparent", "2M"};
static const char *const fields[] = {"vcpu_count", "mem_size_mib", "smt", "huge_pages"};

static bool is(struct json_string s, const char *name)
{
    return s.len == strlen(name) && memcmp(s.at, name, s.len) == 0;
}

static int read_member(struct json_cursor *c, struct json_string key, struct machine *m)
{
    if (is(key, "vcpu_count")) {
        if (m->has_vcpu)
            return json_fail(c, "duplicate field `vcpu_count`");
        m->has_vcpu = true;
        return json_read_unsigned(c, "u8", UINT8_MAX, &m->vcpu_count);
    }
    if (is(key, "mem_size_mib")) {
        m->has_mem = true;
        return json_read_unsigned(c, "usize", UINT64_MAX, &m->mem_size_mib);
    }
    if (is(key, "smt"))
        return json_read_bool(c, &m->smt);
    if (is(key, "huge_pages")) {
        m->pages = json_read_variant(c, page_names, ARRAY_SIZE(page_names));
        return MIN(m->pages, 0);
    }
    return json_fail_unknown(c, "field", key, fields, ARRAY_SIZE(fields));
}

static void read_machine_object(struct json_cursor *c, struct machine *m)
{
    struct json_string key;
    int more;

    while ((more = json_next_key(c, &key)) > 0) {
        if (read_member(c, key, m))
            break;
    }
    if (more == 0 && !m->has_vcpu)
        json_fail(c, "missing field `vcpu_count`");
    else if (more == 0 && !m->has_mem)
        json_fail(c, "missing field `mem_size_mib`");
}

static void read_machine_array(struct json_cursor *c, struct machine *m)
{
    int more = json_next_element(c);

    if (more == 0)
        json_fail(c, "invalid length 0, expected struct MachineConfig with 6 elements");
    if (more > 0)
        json_read_unsigned(c, "u8", UINT8_MAX, &m->vcpu_count);
}

/* The error of a machine configuration, or NULL; the caller frees. */
static char *machine_error(const char *text, struct machine *m)
{
    struct json_cursor c;
    char *error;
    int kind;

    memset(m, 0, sizeof(*m));
    json_open(&c, text, strlen(text));
    kind = json_enter(&c, "struct MachineConfig");
    if (kind == JSON_KIND_OBJECT)
        read_machine_object(&c, m);
    else if (kind == JSON_KIND_ARRAY)
        read_machine_array(&c, m);
    if (kind >= 0)
        json_leave(&c);
    json_finish(&c);
    error = json_error(&c);
    json_close(&c);
    return error;
}

struct error_case {
    const char *text, *error;
};

static void check_machine(const struct error_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct machine m;
        char *error = machine_error(cases[i].text, &m);

        if (!cases[i].error) {
            if (error)
                fail_msg("%s: %s", cases[i].text, error);
            continue;
        }
        assert_non_null(error);
        assert_string_equal(error, cases[i].error);
        free(error);
    }
}

static void test_json_errors_of_members_are_as_recorded(void **state)
{
    static const struct error_case cases[] = {
        {"{\"vcpu_count\":1,\"mem_size_mib\":128}", NULL},
        {"\r\n\t {\"vcpu_count\":1,\"mem_size_mib\":128}", NULL},
        {"hello", "expected value at line 1 column 1"},
        {"", "EOF while parsing a value at line 1 column 0"},
        {"   ", "EOF while parsing a value at line 1 column 3"},
        {"{", "EOF while parsing an object at line 1 column 1"},
        {"{\"vcpu_count\":1", "EOF while parsing an object at line 1 column 15"},
        {"{\"vcpu_count\"", "EOF while parsing an object at line 1 column 13"},
        {"{\"vcpu_count\":", "EOF while parsing a value at line 1 column 14"},
        {"{\"vcpu_count\":1,", "EOF while parsing a value at line 1 column 16"},
        {"{\"vcpu_count\":1,}", "trailing comma at line 1 column 17"},
        {"{\"vcpu_count\":1 2}", "expected `,` or `}` at line 1 column 17"},
        {"{\"vcpu_count\" 1}", "expected `:` at line 1 column 15"},
        {"{\"vcpu_count\":1,2}", "key must be a string at line 1 column 17"},
        {"{'vcpu_count':1}", "key must be a string at line 1 column 2"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":128}x", "trailing characters at line 1 column 36"},
        {"/* c */{\"vcpu_count\":1}", "expected value at line 1 column 1"},
        {"\"x\"", "invalid type: string \"x\", expected struct MachineConfig at line 1 column 3"},
        {"1", "invalid type: integer `1`, expected struct MachineConfig at line 1 column 1"},
        {"null", "invalid type: null, expected struct MachineConfig at line 1 column 4"},
        {"true", "invalid type: boolean `true`, expected struct MachineConfig at line 1 column 4"},
        {"false",
         "invalid type: boolean `false`, expected struct MachineConfig at line 1 column 5"},
        {"nul", "EOF while parsing a value at line 1 column 3"},
        {"trux", "expected ident at line 1 column 4"},
        {"[]",
         "invalid length 0, expected struct MachineConfig with 6 elements at line 1 column 2"},
        {"[ ] x",
         "invalid length 0, expected struct MachineConfig with 6 elements at line 1 column 3"},
        {"[1]", NULL},
        {"[1,2]", "trailing characters at line 1 column 4"},
        {"[1,]", "trailing comma at line 1 column 4"},
        {"[1", "EOF while parsing a list at line 1 column 2"},
        {"[1 2]", "trailing characters at line 1 column 4"},
        {"{}", "missing field `vcpu_count` at line 1 column 2"},
        {"{ }  ", "missing field `vcpu_count` at line 1 column 3"},
        {"{\"vcpu_count\":1}", "missing field `mem_size_mib` at line 1 column 16"},
        {"{\"vcpu_count\":1,\"vcpu_count\":2,\"mem_size_mib\":128}",
         "duplicate field `vcpu_count` at line 1 column 28"},
        {"{\"extra\" :1}", "unknown field `extra`, expected one of `vcpu_count`, `mem_size_mib`, "
                           "`smt`, `huge_pages` at line 1 column 9"},
        /* The first problem in the text wins over a later one, of whatever sort. */
        {"{\"vcpu_count\":\"1\",", "invalid type: string \"1\", expected u8 at line 1 column 17"},
        {"{\"a\":x", "unknown field `a`, expected one of `vcpu_count`, `mem_size_mib`, `smt`, "
                     "`huge_pages` at line 1 column 4"},
    };

    (void)state;
    check_machine(cases, ARRAY_SIZE(cases));
}

static void test_json_errors_of_values_tell_type_and_column(void **state)
{
    static const struct error_case cases[] = {
        {"{\"vcpu_count\":\"1\"}", "invalid type: string \"1\", expected u8 at line 1 column 17"},
        {"{\"vcpu_count\":256}", "invalid value: integer `256`, expected u8 at line 1 column 17"},
        {"{\"vcpu_count\":-1}", "invalid value: integer `-1`, expected u8 at line 1 column 16"},
        {"{\"vcpu_count\":-0}",
         "invalid type: floating point `-0.0`, expected u8 at line 1 column 16"},
        {"{\"vcpu_count\":1.0}",
         "invalid type: floating point `1.0`, expected u8 at line 1 column 17"},
        {"{\"vcpu_count\":1e0}",
         "invalid type: floating point `1.0`, expected u8 at line 1 column 17"},
        {"{\"vcpu_count\":true}", "invalid type: boolean `true`, expected u8 at line 1 column 18"},
        {"{\"vcpu_count\":null}", "invalid type: null, expected u8 at line 1 column 18"},
        {"{\"vcpu_count\":[1]}", "invalid type: sequence, expected u8 at line 1 column 14"},
        {"{\"vcpu_count\":{}}", "invalid type: map, expected u8 at line 1 column 14"},
        {"{\"vcpu_count\":NaN}", "expected value at line 1 column 15"},
        {"{\"vcpu_count\":01}", "invalid number at line 1 column 16"},
        {"{\"vcpu_count\":-}", "invalid number at line 1 column 16"},
        {"{\"vcpu_count\":-", "EOF while parsing a value at line 1 column 15"},
        {"{\"vcpu_count\":1.}", "invalid number at line 1 column 17"},
        {"{\"vcpu_count\":1.", "EOF while parsing a value at line 1 column 16"},
        {"{\"vcpu_count\":1e}", "invalid number at line 1 column 17"},
        {"{\"vcpu_count\":1e+", "EOF while parsing a value at line 1 column 17"},
        {"{\"vcpu_count\":1e999}", "number out of range at line 1 column 19"},
        {"{\"vcpu_count\":1e99999999999}", "number out of range at line 1 column 26"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":18446744073709551616}",
         "invalid type: floating point `1.8446744073709552e+19`, expected usize at line 1 column "
         "51"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":-9223372036854775808}",
         "invalid value: integer `-9223372036854775808`, expected usize at line 1 column 51"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":-9223372036854775809}",
         "invalid type: floating point `-9.223372036854776e+18`, expected usize at line 1 column "
         "51"},
        {"{\"vcpu_count\":1,\n\"mem_size_mib\":\"a\"}",
         "invalid type: string \"a\", expected usize at line 2 column 18"},
        {"{\"smt\":1}", "invalid type: integer `1`, expected a boolean at line 1 column 8"},
        {"{\"smt\":truth}", "expected ident at line 1 column 11"},
        {"{\"huge_pages\":\"2m\"}", "unknown variant `2m`, expected one of `None`, `Transparent`, "
                                    "`2M` at line 1 column 18"},
        {"{\"huge_pages\":null}", "expected value at line 1 column 15"},
        {"{\"huge_pages\":{\"None\":null},\"x", "EOF while parsing a string at line 1 column 30"},
        {"{\"huge_pages\":{\"None\":1}}",
         "invalid type: integer `1`, expected unit at line 1 column 23"},
        {"{\"huge_pages\":{\"None\":null,", "expected value at line 1 column 26"},
        {"{\"huge_pages\":{\"None\":null", "EOF while parsing an object at line 1 column 26"},
        {"{\"huge_pages\":{\"none\":null}}", "unknown variant `none`, expected one of `None`, "
                                             "`Transparent`, `2M` at line 1 column 21"},
        {"{\"huge_pages\":{1:null}}",
         "invalid type: integer `1`, expected variant identifier at line 1 column 16"},
    };

    (void)state;
    check_machine(cases, ARRAY_SIZE(cases));
}

static void test_json_strings_are_checked_to_the_byte(void **state)
{
    static const struct error_case cases[] = {
        {"\"abc", "EOF while parsing a string at line 1 column 4"},
        {"\"a\\", "EOF while parsing a string at line 1 column 3"},
        {"\"a\nb\"", "control character (\\u0000-\\u001F) found while parsing a string at line 2 "
                     "column 0"},
        {"\"a\\xb\"", "invalid escape at line 1 column 4"},
        {"\"\\u12", "EOF while parsing a string at line 1 column 5"},
        {"\"\\u12g4\"", "invalid escape at line 1 column 6"},
        {"\"\\udc00\"", "lone leading surrogate in hex escape at line 1 column 7"},
        {"\"\\ud800x\"", "unexpected end of hex escape at line 1 column 8"},
        {"\"\\ud800\\n\"", "unexpected end of hex escape at line 1 column 9"},
        {"\"\\ud800", "EOF while parsing a string at line 1 column 7"},
        {"\"\\ud800\\u0041\"", "lone leading surrogate in hex escape at line 1 column 13"},
        {"\"\xff\"", "invalid unicode code point at line 1 column 3"},
        {"\"\xed\xa0\x80\"", "invalid unicode code point at line 1 column 5"},
        {"\"\xc3\"", "invalid unicode code point at line 1 column 3"},
        {"{\"a\":1,,}", "key must be a string at line 1 column 8"},
        {"[1,,2]", "expected value at line 1 column 4"},
        {"[1,]", "trailing comma at line 1 column 4"},
        {"[1 2]", "expected `,` or `]` at line 1 column 4"},
        {"[", "EOF while parsing a list at line 1 column 1"},
        {"[1,", "EOF while parsing a value at line 1 column 3"},
        {"\n\n [}", "expected value at line 3 column 3"},
        {"1 1", "trailing characters at line 1 column 3"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char *error = NULL;

        assert_null(json_parse(cases[i].text, strlen(cases[i].text), &error));
        assert_non_null(error);
        assert_string_equal(error, cases[i].error);
        free(error);
    }
}

static void test_json_depth_of_127_is_read_and_128_refused(void **state)
{
    char text[256], *error;
    json_t *value;

    (void)state;
    memset(text, '[', 127);
    memset(text + 127, ']', 127);
    value = json_parse(text, 254, &error);
    assert_non_null(value);
    json_decref(value);

    memset(text, '[', 128);
    memset(text + 128, ']', 128);
    assert_null(json_parse(text, 256, &error));
    assert_string_equal(error, "recursion limit exceeded at line 1 column 128");
    free(error);
}

/* ---- skipping ---- */

static char *skip_error(const char *text, size_t len)
{
    struct json_cursor c;
    char *error;

    json_open(&c, text, len);
    json_skip(&c);
    json_finish(&c);
    error = json_error(&c);
    json_close(&c);
    return error;
}

static void test_json_skip_checks_form_only(void **state)
{
    static const struct error_case cases[] = {
        {"{\"a\":[1,2.5e3,{\"b\":null}],\"c\":\"\\u00e9\\n\",\"d\":true,\"e\":false,\"f\":[],\"g\":"
         "{}}",
         NULL},
        {"1e999999999999", NULL},
        {"\"\\ud800\"", NULL},
        {"\"\xff\"", NULL},
        {"-", "invalid number at line 1 column 1"},
        {"1.", "invalid number at line 1 column 2"},
        {"1e", "invalid number at line 1 column 2"},
        {"01", "invalid number at line 1 column 2"},
        {"\"\t\"", "control character (\\u0000-\\u001F) found while parsing a string at line 1 "
                   "column 1"},
        {"\"\\q\"", "invalid escape at line 1 column 3"},
        {"\"\\u00x0\"", "invalid escape at line 1 column 6"},
        {"\"", "EOF while parsing a string at line 1 column 1"},
        {"\"\\", "EOF while parsing a string at line 1 column 2"},
        {"{", "EOF while parsing an object at line 1 column 1"},
        {"{\"a\"", "EOF while parsing an object at line 1 column 4"},
        {"{\"a\" 1", "expected `:` at line 1 column 6"},
        {"{\"a\":", "EOF while parsing a value at line 1 column 5"},
        {"{\"a\":1", "EOF while parsing an object at line 1 column 6"},
        {"{\"a\":1,", "EOF while parsing an object at line 1 column 7"},
        {"{\"a\":1,}", "key must be a string at line 1 column 8"},
        {"{\"a\":1]", "expected `,` or `}` at line 1 column 7"},
        {"{1:2}", "key must be a string at line 1 column 2"},
        {"[1}", "expected `,` or `]` at line 1 column 3"},
        {"[1,]", "expected value at line 1 column 4"},
        {"[", "EOF while parsing a list at line 1 column 1"},
        {"[nul]", "expected ident at line 1 column 5"},
        {"?", "expected value at line 1 column 1"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char *error = skip_error(cases[i].text, strlen(cases[i].text));

        if (!cases[i].error) {
            assert_null(error);
            continue;
        }
        assert_non_null(error);
        assert_string_equal(error, cases[i].error);
        free(error);
    }
}

static void test_json_skip_takes_any_depth(void **state)
{
    size_t depth = 100000;
    char *text = malloc(2 * depth);

    (void)state;
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    assert_null(skip_error(text, 2 * depth));
    free(text);
}

/* ---- printing ---- */

static void check_print(const char *text, size_t len, const char *printed)
{
    char *error, *again;
    json_t *value = json_parse(text, len, &error);
    size_t size;

    if (!value)
        fail_msg("%s: %s", text, error);
    again = json_print(value, &size);
    assert_string_equal(again, printed);
    assert_int_equal(size, strlen(printed));
    free(again);
    json_decref(value);
}

static void test_json_print_sorts_members_and_keeps_numbers(void **state)
{
    static const struct {
        const char *text, *printed;
    } cases[] = {
        {" { \"b\" : [ 1 , 2 , { \"k\" : null } ] , \"a\" : \"text\" } ",
         "{\"a\":\"text\",\"b\":[1,2,{\"k\":null}]}"},
        {"{\"ab\":1,\"a\":2,\"B\":3,\"\":4}", "{\"\":4,\"B\":3,\"a\":2,\"ab\":1}"},
        {"{\"a\":1,\"a\":2}", "{\"a\":2}"},
        {"[true,false,null,[],{}]", "[true,false,null,[],{}]"},
        {"18446744073709551615", "18446744073709551615"},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"[9223372036854775808]", "[9223372036854775808]"},
        {"0", "0"},
        {"-0", "-0.0"},
        {"0.0", "0.0"},
        {"0e999999999999", "0.0"},
        {"1e-999999999999", "0.0"},
        {"1.0", "1.0"},
        {"1e0", "1.0"},
        {"0.1", "0.1"},
        {"100.5", "100.5"},
        {"1e15", "1000000000000000.0"},
        {"1e16", "1e+16"},
        {"12345678901234567.0", "1.2345678901234568e+16"},
        {"0.00001", "0.00001"},
        {"0.000012", "0.000012"},
        {"0.000001", "1e-6"},
        {"1.5e300", "1.5e+300"},
        {"-2.5E-7", "-2.5e-7"},
        {"5e-324", "5e-324"},
        {"\"\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\\\/\\u007f\"",
         "\"\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\/\x7f\""},
        {"\"\\u00e9\\u20ac\\ud83d\\ude00\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"{\"a\\u0000b\":1}", "{\"a\\u0000b\":1}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        check_print(cases[i].text, strlen(cases[i].text), cases[i].printed);
}

static void test_json_quote_escapes_what_must_be(void **state)
{
    char *text = json_quote("a\"b\\\n\x01/\xc3\xa9", 9);

    (void)state;
    assert_string_equal(text, "\"a\\\"b\\\\\\n\\u0001/\xc3\xa9\"");
    free(text);
}

/* ---- memory ---- */

static unsigned allocations_left;

static void *failing_malloc(size_t size)
{
    return allocations_left && allocations_left-- ? malloc(size) : NULL;
}

static void test_json_tree_fails_cleanly_at_each_allocation(void **state)
{
    static const char text[] =
        "{\"a\":[1,-1,1.5,\"x\",18446744073709551615,true],\"b\":{\"c\":{}}}";
    json_t *value = NULL;
    unsigned n;

    (void)state;
    json_set_alloc_funcs(failing_malloc, free);
    for (n = 0; !value; n++) {
        char *error;

        allocations_left = n;
        value = json_parse(text, strlen(text), &error);
        assert_true(!value == !!error);
        if (error)
            assert_memory_equal(error, "out of memory", 13);
        free(error);
    }
    json_decref(value);
    json_set_alloc_funcs(malloc, free);
    assert_true(n > 10);
}

/* ---- the verbs by themselves ---- */

static void test_json_error_shows_strings_as_rust_does(void **state)
{
    static const struct error_case cases[] = {
        {"\"a\\\"b\"", "invalid type: string \"a\\\"b\", expected u8 at line 1 column 6"},
        {"\"\\u0000\\t\\n\\u0001'\"",
         "invalid type: string \"\\0\\t\\n\\u{1}'\", expected u8 at line 1 column 19"},
        {"\"\xc3\xa9\xe2\x80\x8b\"",
         "invalid type: string \"\xc3\xa9\\u{200b}\", expected u8 at line 1 column 7"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct json_cursor c;
        uint64_t value;
        char *error;

        json_open(&c, cases[i].text, strlen(cases[i].text));
        assert_int_equal(json_read_unsigned(&c, "u8", 255, &value), -EINVAL);
        error = json_error(&c);
        assert_string_equal(error, cases[i].error);
        free(error);
        json_close(&c);
    }
}

static void test_json_first_error_stays(void **state)
{
    struct json_cursor c;
    struct json_string s;
    char *error;
    bool b;

    (void)state;
    json_open(&c, "1 2", 3);
    assert_int_equal(json_fail_here(&c, "first"), -EINVAL);
    assert_int_equal(json_fail(&c, "second"), -EINVAL);
    assert_int_equal(json_fail_here(&c, "third"), -EINVAL);
    assert_int_equal(json_fail_type(&c, "u8"), -EINVAL);
    assert_int_equal(json_read_bool(&c, &b), -EINVAL);
    assert_int_equal(json_read_string(&c, "a string", &s), -EINVAL);
    assert_int_equal(json_skip(&c), -EINVAL);
    assert_int_equal(json_take_null(&c), -EINVAL);
    assert_int_equal(json_enter(&c, "x"), -EINVAL);
    assert_int_equal(json_enter_object(&c, "x"), -EINVAL);
    assert_int_equal(json_enter_array(&c, "x"), -EINVAL);
    assert_int_equal(json_fail_unknown(&c, "field", s, NULL, 0), -EINVAL);
    assert_int_equal(json_peek(&c), JSON_KIND_NONE);
    assert_null(json_read_tree(&c));
    assert_int_equal(json_finish(&c), -EINVAL);
    error = json_error(&c);
    assert_string_equal(error, "first at line 1 column 0");
    free(error);
    json_close(&c);
}

static void test_json_error_without_enclosing_value_has_no_position(void **state)
{
    struct json_cursor c;
    char *error;

    (void)state;
    json_open(&c, "{}", 2);
    assert_int_equal(json_skip(&c), 0);
    json_fail(&c, "either `a` or `b` is required");
    error = json_error(&c);
    assert_string_equal(error, "either `a` or `b` is required");
    free(error);
    json_close(&c);
}

static void test_json_string_meaning_is_judged_behind_its_bracket(void **state)
{
    /* A complaint about the last member's meaning stands behind the bracket, one about an earlier
     * member behind the white space that follows it. */
    static const struct error_case cases[] = {
        {"{\"level\":\"Verbose\"}", "Invalid LevelFilter at line 1 column 19"},
        {"{\"level\":\"Verbose\" , \"x\":1}", "Invalid LevelFilter at line 1 column 19"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct json_cursor c;
        struct json_string s;
        char *error;

        json_open(&c, cases[i].text, strlen(cases[i].text));
        assert_int_equal(json_enter_object(&c, "struct LoggerConfig"), JSON_KIND_OBJECT);
        assert_int_equal(json_next_key(&c, &s), 1);
        assert_int_equal(json_read_string(&c, "a string", &s), 0);
        json_fail(&c, "Invalid LevelFilter");
        assert_int_equal(json_leave(&c), -EINVAL);
        error = json_error(&c);
        assert_string_equal(error, cases[i].error);
        free(error);
        json_close(&c);
    }
}

static void test_json_peek_and_null(void **state)
{
    static const struct {
        const char *text;
        enum json_kind kind;
    } cases[] = {
        {" null", JSON_KIND_NULL}, {"true", JSON_KIND_BOOL},  {"false", JSON_KIND_BOOL},
        {"-1", JSON_KIND_NUMBER},  {"0", JSON_KIND_NUMBER},   {"\"x\"", JSON_KIND_STRING},
        {"[", JSON_KIND_ARRAY},    {"\n{", JSON_KIND_OBJECT}, {"", JSON_KIND_NONE},
        {"x", JSON_KIND_NONE},
    };
    struct json_cursor c;
    struct json_string key;
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        json_open(&c, cases[i].text, strlen(cases[i].text));
        assert_int_equal(json_peek(&c), cases[i].kind);
        json_close(&c);
    }

    json_open(&c, "{\"a\" : null,\"b\":7,\"c\" 1}", 25);
    assert_int_equal(json_enter(&c, "x"), JSON_KIND_OBJECT);
    assert_int_equal(json_next_key(&c, &key), 1);
    assert_int_equal(json_peek(&c), JSON_KIND_NULL);
    assert_int_equal(json_take_null(&c), 1);
    assert_int_equal(json_next_key(&c, &key), 1);
    assert_int_equal(json_take_null(&c), 0);
    assert_int_equal(json_read_unsigned(&c, "u64", UINT64_MAX, &value), 0);
    assert_int_equal(value, 7);
    assert_int_equal(json_next_key(&c, &key), 1);
    assert_int_equal(json_peek(&c), JSON_KIND_NONE);
    json_close(&c);
}

static void test_json_names_are_listed_by_their_number(void **state)
{
    static const char *const names[] = {"A", "B", "C"};
    static const char *const expected[] = {
        "unknown field `x`, there are no fields at line 1 column 0",
        "unknown field `x`, expected `A` at line 1 column 0",
        "unknown field `x`, expected `A` or `B` at line 1 column 0",
        "unknown field `x`, expected one of `A`, `B`, `C` at line 1 column 0",
    };

    (void)state;
    for (size_t count = 0; count < ARRAY_SIZE(expected); count++) {
        struct json_string x = {"x", 1};
        struct json_cursor c;
        char *error;

        json_open(&c, "{}", 2);
        json_fail_unknown(&c, "field", x, names, count);
        json_fail_here(&c, "later");
        c.positioned = true;
        c.line = 1;
        error = json_error(&c);
        assert_string_equal(error, expected[count]);
        free(error);
        json_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_errors_of_members_are_as_recorded),
        cmocka_unit_test(test_json_errors_of_values_tell_type_and_column),
        cmocka_unit_test(test_json_strings_are_checked_to_the_byte),
        cmocka_unit_test(test_json_depth_of_127_is_read_and_128_refused),
        cmocka_unit_test(test_json_skip_checks_form_only),
        cmocka_unit_test(test_json_skip_takes_any_depth),
        cmocka_unit_test(test_json_print_sorts_members_and_keeps_numbers),
        cmocka_unit_test(test_json_quote_escapes_what_must_be),
        cmocka_unit_test(test_json_tree_fails_cleanly_at_each_allocation),
        cmocka_unit_test(test_json_error_shows_strings_as_rust_does),
        cmocka_unit_test(test_json_first_error_stays),
        cmocka_unit_test(test_json_error_without_enclosing_value_has_no_position),
        cmocka_unit_test(test_json_string_meaning_is_judged_behind_its_bracket),
        cmocka_unit_test(test_json_peek_and_null),
        cmocka_unit_test(test_json_names_are_listed_by_their_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
