/* SPDX-License-Identifier: Apache-2.0 */
/* test_mmds_store.c: replacing, merging, limits, and that a refusal changes nothing. */
#include "api/mmds_store.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static struct mmds_store *store_with(size_t limit, const char *text)
{
    struct mmds_store *store;
    struct err e;

    assert_int_equal(mmds_store_create(&store, limit, &e), 0);
    if (text)
        assert_int_equal(mmds_store_put(store, text, strlen(text), &e), 0);
    return store;
}

static void assert_holds(const struct mmds_store *store, const char *text)
{
    size_t len;
    char *got = mmds_store_get(store, &len);

    assert_string_equal(got, text);
    assert_int_equal(len, strlen(text));
    free(got);
}

static int patch(struct mmds_store *store, const char *text, struct err *e)
{
    return mmds_store_patch(store, text, strlen(text), e);
}

static void test_mmds_store_is_an_empty_object_until_put(void **state)
{
    struct mmds_store *store = store_with(100, NULL);
    struct err e;

    (void)state;
    assert_holds(store, "{}");
    assert_int_equal(patch(store, "{\"a\":1}", &e), -ENOENT);
    assert_string_equal(e.text, "MMDS error: The MMDS data store is not initialized.");
    assert_holds(store, "{}");
    mmds_store_destroy(store);
    mmds_store_destroy(NULL);
}

static void test_mmds_store_takes_any_value_and_shows_null_as_empty(void **state)
{
    static const char *const values[][2] = {
        {"[1,2]", "[1,2]"}, {"\"text\"", "\"text\""},
        {"5", "5"},         {"null", "{}"},
        {"true", "true"},   {"18446744073709551615", "18446744073709551615"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        struct mmds_store *store = store_with(100, values[i][0]);

        assert_holds(store, values[i][1]);
        mmds_store_destroy(store);
    }
}

static void test_mmds_store_patch_merges_as_rfc_7396(void **state)
{
    static const char *const cases[][3] = {
        /* the RFC's own examples, appendix A */
        {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
        {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
        {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
        {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
        {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
        {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
        {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
        {"[\"a\",\"b\"]", "[\"c\",\"d\"]", "[\"c\",\"d\"]"},
        {"{\"a\":\"b\"}", "[\"c\"]", "[\"c\"]"},
        {"{\"a\":\"foo\"}", "\"bar\"", "\"bar\""},
        {"{\"e\":null}", "{\"a\":1}", "{\"a\":1,\"e\":null}"},
        {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
        {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
        {"{\"a\":1}", "{}", "{\"a\":1}"},
        {"null", "{\"a\":1}", "{\"a\":1}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct mmds_store *store = store_with(100, cases[i][0]);
        struct err e;

        assert_int_equal(patch(store, cases[i][1], &e), 0);
        assert_holds(store, cases[i][2]);
        mmds_store_destroy(store);
    }
}

static void test_mmds_store_counts_compact_text_against_its_limit(void **state)
{
    struct mmds_store *store = store_with(10, NULL);
    struct err e;

    (void)state;
    assert_int_equal(mmds_store_put(store, " { \"a\" : \"xx\" } ", 16, &e), 0);
    assert_int_equal(mmds_store_put(store, "{\"a\":\"xxx\"}", 11, &e), -EFBIG);
    assert_string_equal(e.text, "MMDS limit exceeded error: The MMDS patch request doesn't fit.");
    assert_int_equal(patch(store, "{\"b\":1}", &e), -EFBIG);
    assert_holds(store, "{\"a\":\"xx\"}");
    assert_int_equal(patch(store, "{\"a\":null,\"b\":1}", &e), 0);
    assert_holds(store, "{\"b\":1}");
    mmds_store_destroy(store);
}

static void test_mmds_store_refuses_what_is_not_json_unchanged(void **state)
{
    struct mmds_store *store = store_with(100, "{\"a\":1,\"a\":2}");
    struct err e;

    (void)state;
    assert_int_equal(mmds_store_put(store, "{bad", 4, &e), -EINVAL);
    assert_string_equal(e.text, "key must be a string at line 1 column 2");
    assert_int_equal(patch(store, "{} x", &e), -EINVAL);
    assert_string_equal(e.text, "trailing characters at line 1 column 4");
    assert_holds(store, "{\"a\":2}");
    mmds_store_destroy(store);
}

static unsigned allocations_left;

static void *failing_malloc(size_t size)
{
    return allocations_left && allocations_left-- ? malloc(size) : NULL;
}

static void test_mmds_store_patch_without_memory_changes_nothing(void **state)
{
    struct mmds_store *store = store_with(100, "{\"a\":{\"b\":[1,2]}}");
    struct err e;
    unsigned n = 0;

    (void)state;
    json_set_alloc_funcs(failing_malloc, free);
    for (allocations_left = 0; patch(store, "{\"a\":{\"c\":{\"d\":[3]}}}", &e);
         allocations_left = ++n)
        assert_holds(store, "{\"a\":{\"b\":[1,2]}}");
    json_set_alloc_funcs(malloc, free);
    assert_holds(store, "{\"a\":{\"b\":[1,2],\"c\":{\"d\":[3]}}}");
    assert_true(n > 10);
    mmds_store_destroy(store);
}

/* ---- what a guest sees ---- */

static void assert_finds(const struct mmds_store *store, const char *path, enum mmds_format format,
                         int rc, const char *want)
{
    char *text = NULL;
    size_t len;

    assert_int_equal(mmds_store_find(store, path, strlen(path), format, &text, &len), rc);
    if (rc == 0) {
        assert_int_equal(len, strlen(want));
        assert_string_equal(text, want);
    }
    free(text);
}

static void test_mmds_store_finds_values_by_path(void **state)
{
    static const struct {
        const char *path, *json, *imds; /* NULL: none of that form; "-": nothing there */
    } cases[] = {
        {"/",
         "{\"a\":{\"B\":\"x\",\"b\":{},\"c\":[\"p\",{\"q\":1}]},\"n\":null,\"s/t\":\"u\",\"~\":2}",
         "a/\nn\ns/t\n~"},
        {"/a", "{\"B\":\"x\",\"b\":{},\"c\":[\"p\",{\"q\":1}]}", "B\nb/\nc"},
        {"/a/", "{\"B\":\"x\",\"b\":{},\"c\":[\"p\",{\"q\":1}]}", "B\nb/\nc"},
        {"//a///B//", "\"x\"", "x"},
        {"/a/b", "{}", ""},
        {"/a/c", "[\"p\",{\"q\":1}]", NULL},
        {"/a/c/0", "\"p\"", "p"},
        {"/a/c/1/q", "1", NULL},
        {"/n", "null", NULL},
        {"/s~1t", "\"u\"", "u"},
        {"/~0", "2", NULL},
        {"/~", "2", NULL},
        {"/s/t", "-", NULL},
        {"/a/c/2", "-", NULL},
        {"/a/c/00", "-", NULL},
        {"/a/c/+0", "-", NULL},
        {"/a/c/18446744073709551616", "-", NULL},
        {"/a/c/x", "-", NULL},
        {"/a/B/x", "-", NULL},
        {"/A", "-", NULL},
        {"/a?x=1", "-", NULL},
    };
    struct mmds_store *store = store_with(
        1000,
        "{\"s/t\":\"u\",\"~\":2,\"n\":null,\"a\":{\"c\":[\"p\",{\"q\":1}],\"b\":{},\"B\":\"x\"}}");

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        bool there = strcmp(cases[i].json, "-") != 0;

        assert_finds(store, cases[i].path, MMDS_JSON, there ? 0 : -ENOENT, cases[i].json);
        assert_finds(store, cases[i].path, MMDS_IMDS,
                     !there           ? -ENOENT
                     : !cases[i].imds ? -ENOTSUP
                                      : 0,
                     cases[i].imds);
    }
    mmds_store_destroy(store);
}

static void test_mmds_store_finds_numbers_as_numbers_and_nulls_in_strings(void **state)
{
    struct mmds_store *store = store_with(
        1000, "{\"big\":18446744073709551615,\"f\":12.12,\"b\":false,\"z\":\"a\\u0000b\"}");
    char *text;
    size_t len;

    (void)state;
    assert_finds(store, "/big", MMDS_JSON, 0, "18446744073709551615");
    assert_finds(store, "/big", MMDS_IMDS, -ENOTSUP, NULL);
    assert_finds(store, "/f", MMDS_JSON, 0, "12.12");
    assert_finds(store, "/f", MMDS_IMDS, -ENOTSUP, NULL);
    assert_finds(store, "/b", MMDS_IMDS, -ENOTSUP, NULL);
    assert_int_equal(mmds_store_find(store, "/z", 2, MMDS_IMDS, &text, &len), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(text, "a\0b", 4);
    free(text);
    mmds_store_destroy(store);
}

static void test_mmds_store_is_null_to_a_guest_until_put(void **state)
{
    struct mmds_store *store = store_with(100, NULL);

    (void)state;
    assert_finds(store, "/", MMDS_JSON, 0, "null");
    assert_finds(store, "/", MMDS_IMDS, -ENOTSUP, NULL);
    assert_finds(store, "/a", MMDS_JSON, -ENOENT, NULL);
    mmds_store_destroy(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mmds_store_is_an_empty_object_until_put),
        cmocka_unit_test(test_mmds_store_takes_any_value_and_shows_null_as_empty),
        cmocka_unit_test(test_mmds_store_patch_merges_as_rfc_7396),
        cmocka_unit_test(test_mmds_store_counts_compact_text_against_its_limit),
        cmocka_unit_test(test_mmds_store_refuses_what_is_not_json_unchanged),
        cmocka_unit_test(test_mmds_store_patch_without_memory_changes_nothing),
        cmocka_unit_test(test_mmds_store_finds_values_by_path),
        cmocka_unit_test(test_mmds_store_finds_numbers_as_numbers_and_nulls_in_strings),
        cmocka_unit_test(test_mmds_store_is_null_to_a_guest_until_put),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
